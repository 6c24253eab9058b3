//! Hosts that are slow, hang, are full, or lack something: what is said, and when.

use std::path::Path;
use std::time::{Duration, Instant};

use left_harness::host::config::{Resolved, Target, resolve};
use left_harness::host::remote::{Command, Exit, Remote, RemoteError};
use left_harness::host::ssh::{Door, Ssh};
use rustix::process::Signal;

use super::sshd::{Spec, Sshd};

async fn resolved(sshd: &Sshd) -> Resolved {
    let config = sshd.dir().join("ssh_config");
    std::fs::write(&config, sshd.config_block(None)).expect("a file can be written");
    let target = Target {
        name: sshd.name.clone(),
        config: Some(config),
        ..Target::default()
    };
    resolve(&target).await.expect("the configuration is good")
}

async fn connect(resolved: &Resolved, answer: Duration) -> Ssh {
    let door = Door::from_resolved("a", resolved).expect("known_hosts can be read");
    let connected = Ssh::connect(door.answer_deadline(answer)).await;
    connected.unwrap_or_else(|error| panic!("{error}"))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn dropbear_with_busybox_is_a_host_like_any_other() {
    let Some(sshd) = Sshd::dropbear("a") else {
        return;
    };
    let ssh = connect(&resolved(&sshd).await, LONG).await;
    let out = ssh
        .exec(Command::new(["sh", "-c", "readlink /bin/ls; exit 3"]))
        .await;
    let out = out.expect("it runs");
    assert_eq!(
        (&out.stdout[..], out.exit),
        (&b"busybox\n"[..], Exit::Code(3))
    );
    let there = sshd.home.join("deep/folder/file");
    let folder = there.parent().expect("it has one");
    ssh.make_dir(folder).await.expect("folders are made");
    let much = vec![9; 4 << 20];
    ssh.write(&there, b"old", 0o600)
        .await
        .expect("a file is written");
    ssh.write(&there, &much, 0o640)
        .await
        .expect("it is replaced");
    assert!(std::fs::read(sshd.seen_here(&there)).is_ok_and(|read| read == much));
    assert!(
        ssh.read(&there, 0, usize::MAX)
            .await
            .is_ok_and(|read| read == much)
    );
    assert_eq!(ssh.list(folder).await.expect("it is listed"), ["file"]);
    let stat = ssh
        .stat(&there)
        .await
        .expect("it is seen")
        .expect("it is there");
    assert_eq!((stat.size, stat.mode), (4 << 20, 0o640));
    ssh.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_called_that_with_the_path() {
    let Some(sshd) = Sshd::dropbear("a") else {
        return;
    };
    let ssh = connect(&resolved(&sshd).await, LONG).await;
    let there = Path::new("/small/file");
    let error = ssh.write(there, &vec![1; 4 << 20], 0o600).await;
    let error = error.expect_err("it does not fit").to_string();
    assert_eq!(
        error,
        "cannot write /small/file on host a: no space left on device"
    );
    // Nothing of it stays, and what fits still goes there.
    ssh.write(there, b"fits", 0o600).await.expect("it fits");
    assert_eq!(
        ssh.list(Path::new("/small")).await.expect("it is listed"),
        ["file"]
    );
    ssh.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_sftp_says_how_to_mend_it() {
    let none = Spec {
        sftp: false,
        ..Spec::default()
    };
    let broken = Spec {
        config: "Subsystem sftp /nonexistent/sftp-server\n",
        ..none
    };
    for (spec, what) in [
        (none, "has no sftp subsystem"),
        (broken, "sftp server does not start"),
    ] {
        let Some(sshd) = Sshd::openssh_with("a", &spec) else {
            return;
        };
        let ssh = connect(&resolved(&sshd).await, LONG).await;
        let start = Instant::now();
        let error = ssh
            .stat(Path::new("/"))
            .await
            .expect_err("there is no sftp");
        assert!(start.elapsed() < LONG);
        let error = error.to_string();
        for part in [what, "Subsystem sftp internal-sftp", "host a"] {
            assert!(error.contains(part), "{error}");
        }
        // Programs run all the same.
        let out = ssh.exec(Command::new(["true"])).await.expect("it runs");
        assert_eq!(out.exit, Exit::Code(0));
        ssh.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_after_login_is_given_up_in_time() {
    const ANSWER: Duration = Duration::from_secs(1);
    let Some(sshd) = Sshd::openssh("a") else {
        return;
    };
    let resolved = resolved(&sshd).await;
    for opened in [false, true] {
        let ssh = connect(&resolved, ANSWER).await;
        if opened {
            ssh.stat(Path::new("/")).await.expect("it answers");
        }
        sshd.signal(Signal::STOP);
        let start = Instant::now();
        let path = Path::new("/tmp");
        let deadline = Command::new(["true"]).deadline(ANSWER);
        let (stat, list, read, write, made, ran, spawned) = tokio::join!(
            ssh.stat(path),
            ssh.list(path),
            ssh.read(path, 0, 1),
            ssh.write(Path::new("/tmp/left-harness-never"), b"x", 0o600),
            ssh.make_dir(path),
            ssh.exec(deadline),
            ssh.spawn(Command::new(["true"])),
        );
        let errors = [
            stat.err(),
            list.err(),
            read.err(),
            write.err(),
            made.err(),
            ran.err(),
            spawned.err(),
        ];
        let took = start.elapsed();
        sshd.signal(Signal::CONT);
        for error in errors {
            let error = error.expect("nobody answered");
            assert!(matches!(error, RemoteError::Deadline { .. }), "{error}");
            let text = error.to_string();
            assert!(
                text.ends_with("within 1 s") && text.contains("host a"),
                "{text}"
            );
        }
        // Together, not one after the other for the one file channel.
        assert!(took < 4 * ANSWER, "{took:?}");
        ssh.close().await;
    }
    let _ = std::fs::remove_file("/tmp/left-harness-never");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_two_seconds_away_works_within_the_usual_deadlines() {
    let Some(sshd) = Sshd::openssh("a") else {
        return;
    };
    let mut far = resolved(&sshd).await;
    // Known under its own port; that it is reached by another one is the test's doing.
    far.key_alias = Some(format!("[127.0.0.1]:{}", sshd.port));
    far.port = super::far::far(sshd.port, Duration::from_secs(1)).await;
    let door = Door::from_resolved("a", &far).expect("known_hosts can be read");
    let ssh = Ssh::connect(door)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let there = sshd.dir().join("file");
    let much = vec![3; 2 << 20];
    let (ran, written) = tokio::join!(
        ssh.exec(Command::new(["echo", "far"])),
        ssh.write(&there, &much, 0o600)
    );
    assert_eq!(ran.expect("it runs").stdout, b"far\n");
    written.expect("it is written");
    assert!(
        ssh.read(&there, 0, usize::MAX)
            .await
            .is_ok_and(|read| read == much)
    );
    ssh.close().await;
}

/// dropbear before 2025 closes a channel that is only just open when a program of another
/// one ends in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn programs_that_end_while_others_begin_do_not_disturb_one_another() {
    let Some(sshd) = Sshd::dropbear("a") else {
        return;
    };
    let ssh = connect(&resolved(&sshd).await, LONG).await;
    for round in 0..50 {
        let one = || ssh.exec(Command::new(["true"]));
        let (a, b, c, d, seen) =
            tokio::join!(one(), one(), one(), one(), ssh.stat(Path::new("/tmp")));
        for ran in [a, b, c, d] {
            let ran = ran.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", sshd.log()));
            assert_eq!(ran.exit, Exit::Code(0));
        }
        seen.expect("it is seen");
    }
    ssh.close().await;
}
