//! Hosts that cannot be used: a clear message and exit code 3, in time, and nothing
//! changed there.

use std::time::{Duration, Instant};

use super::{Inventory, table};
use crate::bench::{Bench, Ran};
use crate::sshd::{Spec, Sshd, keygen};

/// An hour would be patience; a doctor's and a run's deadlines are below a minute.
const IN_TIME: Duration = Duration::from_secs(75);

/// Infrastructure, said with these words.
fn is_refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, 3, "{}", ran.all());
    for word in words {
        assert!(ran.all().contains(word), "{word}: {}", ran.all());
    }
}

#[test]
fn a_folder_that_was_not_given_is_left_alone_and_the_command_is_named() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    let command = "left-harness lab adopt --hosts hosts.toml";
    is_refused(&inventory.run("smoke.toml"), &["is not there", command]);
    assert!(
        !Inventory::folder(&inventory.a).exists(),
        "nothing was made"
    );

    let somebodys = Inventory::folder(&inventory.a);
    std::fs::create_dir(&somebodys).expect("a folder can be made");
    std::fs::write(somebodys.join("thesis.txt"), "mine").expect("written");
    let ran = inventory.says(&["lab", "adopt"]);
    is_refused(&ran, &["is not empty", "thesis.txt", "left alone"]);
    assert!(
        ran.stdout.contains("host b"),
        "the other one is adopted: {}",
        ran.all()
    );
    let ran = inventory.run("smoke.toml");
    is_refused(&ran, &["does not have the harness's marker", command]);
    assert!(!ran.all().contains("on host b"), "{}", ran.all());
    let there = std::fs::read_dir(&somebodys).expect("it is there").count();
    assert_eq!(there, 1, "nothing was added");
}

#[test]
fn a_root_login_is_refused_unless_it_was_allowed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: whoever runs the tests is not root, and so are not the hosts' logins");
        return;
    }
    let Some(inventory) = Inventory::new() else {
        return;
    };
    inventory.adopt();
    let text = std::fs::read_to_string(inventory.bench.path("hosts.toml")).expect("it is there");
    inventory
        .bench
        .write("hosts.toml", &text.replace("root = true", "root = false"));
    is_refused(
        &inventory.run("smoke.toml"),
        &["the login is root", "say `root = true` for this host"],
    );
}

/// Two hosts, one of which is not as it must be; what `doctor` and `run` say of them.
fn with_odd(a: Sshd, spoil: impl FnOnce(&Bench, &Sshd)) -> Option<[Ran; 2]> {
    let inventory = Inventory::of(a, Sshd::openssh("two")?);
    spoil(&inventory.bench, &inventory.a);
    let begun = Instant::now();
    let both = std::thread::scope(|scope| {
        let doctor = scope.spawn(|| inventory.says(&["doctor"]));
        let run = inventory.run("smoke.toml");
        [doctor.join().expect("it ends"), run]
    });
    let took = begun.elapsed();
    assert!(took < IN_TIME, "{took:?}: {}", both[1].all());
    Some(both)
}

#[test]
fn a_key_that_does_not_open_the_door_is_said() {
    let Some(sshd) = Sshd::openssh("one") else {
        return;
    };
    let ran = with_odd(sshd, |_, sshd| {
        std::fs::remove_file(&sshd.identity).expect("it was there");
        keygen(&sshd.identity, &["-t", "ed25519", "-N", ""]);
    });
    for ran in ran.into_iter().flatten() {
        is_refused(&ran, &["cannot log in to host a", "key"]);
    }
}

#[test]
fn a_changed_host_key_is_refused() {
    let Some(sshd) = Sshd::openssh("one") else {
        return;
    };
    let ran = with_odd(sshd, |bench, sshd| {
        keygen(&bench.path("other"), &["-t", "ed25519", "-N", ""]);
        let other = std::fs::read_to_string(bench.path("other.pub")).expect("it is there");
        let line = format!("[127.0.0.1]:{} {other}", sshd.port);
        std::fs::write(&sshd.known_hosts, line).expect("written");
    });
    for ran in ran.into_iter().flatten() {
        is_refused(&ran, &["cannot log in to host a", "key", "SHA256:"]);
    }
}

#[test]
fn a_host_without_sftp_is_told_what_it_lacks() {
    let spec = Spec {
        sftp: false,
        ..Spec::default()
    };
    let Some(sshd) = Sshd::openssh_with("one", &spec) else {
        return;
    };
    let Some([doctor, run]) = with_odd(sshd, |_, _| {}) else {
        return;
    };
    is_refused(&doctor, &["MISSING  SFTP", "Subsystem sftp internal-sftp"]);
    is_refused(&run, &["host a", "SFTP"]);
}

#[test]
fn a_host_that_hangs_after_the_login_does_not_keep_anybody_waiting() {
    let spec = Spec {
        // It lets in whoever only knocks, which the fixture does.
        config: "ForceCommand test \"$SSH_ORIGINAL_COMMAND\" = true || exec sleep 600\n",
        ..Spec::default()
    };
    let Some(sshd) = Sshd::openssh_with("one", &spec) else {
        return;
    };
    for ran in with_odd(sshd, |_, _| {}).into_iter().flatten() {
        is_refused(&ran, &["host a", "within"]);
    }
}

#[test]
fn mistakes_in_what_was_asked_are_not_the_infrastructures() {
    let bench = Bench::new();
    bench.write(
        "hosts.toml",
        "[host.a]\nsssh = \"vm1\"\n[host.b]\nssh = \"vm2\"\ndata = \"x\"\n",
    );
    let smoke = "about = \"x\"\nseed = 1\nstep = [{ start = [\"left\", \"right\"] }]\n\
                 [host.left]\n[host.right]\n[expect]\ntrees = \"identical\"\n";
    bench.write("other.toml", smoke);
    let ran = |args: &[&str]| {
        let output = bench.command(args).output();
        bench.ran(output.expect("the harness starts"))
    };
    let wrong = ran(&["run", "other.toml", "--hosts", "hosts.toml"]);
    assert_eq!(wrong.code, 2, "{}", wrong.all());
    for shown in [
        "hosts.toml:2:1: unknown key `sssh`",
        "`x` is no address",
        "2 mistakes",
    ] {
        assert!(
            wrong.stderr.contains(shown) || shown == "2 mistakes",
            "{shown}: {}",
            wrong.all()
        );
    }
    bench.write(
        "hosts.toml",
        "[host.a]\nssh = \"vm1\"\n[host.b]\nssh = \"vm2\"\n",
    );
    for (args, shown) in [
        (
            &["run", "other.toml", "--hosts", "hosts.toml"][..],
            "the scenario's hosts are left and right",
        ),
        (
            &["run", "other.toml", "--lab", "inventory"],
            "--hosts hosts.toml",
        ),
        (
            &[
                "run",
                "other.toml",
                "--lab",
                "local",
                "--hosts",
                "hosts.toml",
            ],
            "leave one of them out",
        ),
        (
            &["run", "other.toml", "--ssh-hosts", "vm1"],
            "wants two hosts",
        ),
        (&["lab", "adopt"], "name them with --hosts"),
        (
            &["lab", "shell", "c", "--hosts", "hosts.toml"],
            "known: a, b",
        ),
    ] {
        let wrong = ran(args);
        assert_eq!(wrong.code, 2, "{args:?}: {}", wrong.all());
        assert!(wrong.stderr.contains(shown), "{args:?}: {}", wrong.all());
    }
    assert!(!bench.path("runs").exists(), "nothing was begun");
}

#[test]
fn what_may_not_be_done_to_a_host_is_skipped_with_the_reason() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    let text = table("a", &inventory.a, "") + &table("b", &inventory.b, "may = []");
    inventory.bench.write("hosts.toml", &text);
    let ran = inventory.run("resume.toml");
    assert_eq!(ran.code, 4, "{}", ran.all());
    assert!(
        ran.all()
            .contains("hosts.toml does not allow `kill` on host b"),
        "{}",
        ran.all()
    );
}
