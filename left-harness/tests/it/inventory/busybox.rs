//! A machine with nothing but busybox, dropbear and an SFTP server, which is reached
//! only through another one: whole runs on it, beside a host with OpenSSH.

use std::path::{Path, PathBuf};

use super::{FOLDER, Inventory};
use crate::bench::{Bench, processes_of_run, scenarios};
use crate::sshd::Sshd;

/// OpenSSH is a, dropbear is b, behind a host that only forwards.
struct Behind {
    inventory: Inventory,
    gate: Sshd,
}

impl Behind {
    /// `None` where one of them cannot be had.
    fn new() -> Option<Self> {
        let gate = Sshd::openssh("gate")?;
        let inventory = Inventory {
            bench: Bench::new(),
            a: Sshd::openssh("one")?,
            b: Sshd::dropbear("two")?,
        };
        name_them(&inventory.bench, &gate, &inventory.a, &inventory.b);
        Some(Self { inventory, gate })
    }

    fn passes(&self, scenario: &Path) {
        let ran = self.inventory.run_file(scenario);
        assert_eq!(ran.code, 0, "{}: {}", scenario.display(), ran.all());
        assert_eq!(self.inventory.left_on_hosts(), Vec::<PathBuf>::new());
        let result = ran.result.as_ref().expect("a run was made");
        let run = result["run"].as_str().expect("a run has a name");
        assert_eq!(processes_of_run(run), Vec::<u32>::new());
    }
}

/// Names a, and b behind the gate, in `hosts.toml`.
pub(super) fn name_them(bench: &Bench, gate: &Sshd, a: &Sshd, b: &Sshd) {
    let config = [
        a.config_block(None),
        gate.config_block(None),
        b.config_block(Some("gate")),
    ];
    bench.write("ssh_config", &config.concat());
    let hosts = [("a", a), ("b", b)].map(|(name, sshd)| {
        format!(
            "[host.{name}]\nssh = {:?}\nconfig = \"ssh_config\"\nfolder = {:?}\nroot = true\n",
            sshd.name,
            sshd.home.join(FOLDER)
        )
    });
    bench.write("hosts.toml", &hosts.concat());
}

#[test]
fn the_main_job_is_done_on_a_host_with_nothing_but_busybox_behind_another_one() {
    let Some(behind) = Behind::new() else { return };
    behind.inventory.adopt();
    behind.passes(&scenarios().join("../left-harness/tests/scenarios/quick.toml"));
    let way = behind.gate.log();
    assert!(way.contains("Accepted publickey"), "{way}");
    let deployed = Inventory::folder(&behind.inventory.b).join("bin");
    assert!(deployed.is_dir(), "{} is there", deployed.display());
}

#[test]
fn doctor_and_the_lab_commands_need_nothing_but_busybox() {
    let Some(behind) = Behind::new() else { return };
    let inventory = &behind.inventory;
    inventory.adopt();
    let smoke = scenarios().join("smoke.toml").display().to_string();
    for (args, shown) in [
        (&["doctor"][..], "inventory lab, host b"),
        (&["list", &smoke], "runs"),
        (&["lab", "deploy"], "host b: 2 programs"),
        (&["lab", "status"], "nothing of any run"),
        (&["lab", "down"], "host b: nothing was left"),
    ] {
        let ran = inventory.says(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.all());
        assert!(ran.stdout.contains(shown), "{args:?}: {}", ran.all());
    }
}

#[test]
#[ignore = "takes minutes: the scenarios of the library as they are"]
fn the_library_passes_on_a_host_with_nothing_but_busybox_behind_another_one() {
    let Some(behind) = Behind::new() else { return };
    behind.inventory.adopt();
    for scenario in [
        "smoke.toml",
        "resume.toml",
        "resume-exact.toml",
        "resume-sender.toml",
        "classic.toml",
    ] {
        behind.passes(&scenarios().join(scenario));
    }
}
