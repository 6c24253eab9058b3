//! The user's own hosts: two real SSH servers, named in a file.

mod crashed;
mod refused;
mod seen;
mod standing;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{Bench, Ran, processes_of_run, scenarios};
use crate::sshd::Sshd;

/// With a space, which shells and files of options stumble over.
const FOLDER: &str = "left-harness folder";

/// Two hosts with a file that names them.
struct Inventory {
    bench: Bench,
    a: Sshd,
    b: Sshd,
}

/// How a table of the file begins: everything that `ssh` must know.
fn table(name: &str, sshd: &Sshd, more: &str) -> String {
    format!(
        "[host.{name}]\nssh = \"{}@127.0.0.1\"\nport = {}\nidentity = {:?}\nknown_hosts = {:?}\n\
         config = \"none\"\nfolder = {:?}\nroot = true\n{more}\n",
        sshd.user,
        sshd.port,
        sshd.identity,
        sshd.known_hosts,
        sshd.home.join(FOLDER),
    )
}

impl Inventory {
    fn new() -> Option<Self> {
        Some(Self::of(Sshd::openssh("one")?, Sshd::openssh("two")?))
    }

    fn of(a: Sshd, b: Sshd) -> Self {
        let bench = Bench::new();
        let text = table("a", &a, "") + &table("b", &b, "");
        bench.write("hosts.toml", &text);
        bench.write("none", "");
        Self { bench, a, b }
    }

    /// `left-harness ARGS --hosts hosts.toml`, not started yet.
    fn command(&self, args: &[&str]) -> Command {
        let mut all = args.to_vec();
        all.extend(["--hosts", "hosts.toml"]);
        let mut command = self.bench.command(&all);
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    fn says(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output();
        self.bench.ran(output.expect("the harness starts"))
    }

    /// The harness's folder on a host, as this machine sees it.
    fn folder(host: &Sshd) -> PathBuf {
        host.seen_here(&host.home.join(FOLDER))
    }

    fn adopt(&self) {
        let ran = self.says(&["lab", "adopt"]);
        assert_eq!(ran.code, 0, "{}", ran.all());
    }

    fn run(&self, scenario: &str) -> Ran {
        self.run_file(&scenarios().join(scenario))
    }

    fn run_file(&self, scenario: &Path) -> Ran {
        self.says(&["run", &scenario.display().to_string(), "--out", "out"])
    }

    /// What lies in the harness's folders beside programs and the marker.
    fn left_on_hosts(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for host in [&self.a, &self.b] {
            let entries = std::fs::read_dir(Self::folder(host))
                .into_iter()
                .flatten()
                .flatten();
            let paths = entries.map(|entry| entry.path());
            let ours = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default();
                name != "bin" && name != ".left-harness-folder"
            };
            left.extend(paths.filter(ours));
        }
        left
    }
}

#[test]
fn scenarios_run_on_hosts_that_were_adopted_and_leave_nothing() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    inventory.adopt();
    for scenario in ["smoke.toml", "resume.toml", "resume-exact.toml"] {
        let ran = inventory.run(scenario);
        assert_eq!(ran.code, 0, "{scenario}: {}", ran.all());
        let result = ran.result.as_ref().expect("a run was made");
        assert_eq!(result["lab"], "inventory");
        assert_eq!(
            inventory.left_on_hosts(),
            Vec::<PathBuf>::new(),
            "{scenario}"
        );
        let run = result["run"].as_str().expect("a run has a name");
        assert_eq!(processes_of_run(run), Vec::<u32>::new(), "{scenario}");
    }
}
