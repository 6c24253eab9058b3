//! The ways into a host, tried on real servers.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use left_harness::host::config::{Resolved, Target, resolve};
use left_harness::host::remote::{Command, Exit, Remote, RemoteError};
use left_harness::host::ssh::{Door, Ssh};

use super::sshd::{Spec, Sshd, keygen};

/// The hosts' blocks in one configuration file, and what it says of `name`.
async fn resolved(name: &str, blocks: &[String]) -> Resolved {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let config = folder.path().join("config");
    std::fs::write(&config, blocks.join("\n")).expect("a file can be written");
    let target = Target {
        name: name.into(),
        config: Some(config),
        ..Target::default()
    };
    let resolved = resolve(&target).await.expect("the configuration is good");
    Resolved {
        // The agent of whoever runs the tests has nothing to do with them.
        agent: None,
        ..resolved
    }
}

async fn enter(resolved: &Resolved) -> Result<Ssh, RemoteError> {
    let door = Door::from_resolved("b", resolved).expect("known_hosts can be read");
    Ssh::connect(door).await
}

async fn works(resolved: &Resolved) {
    let ssh = enter(resolved)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let out = ssh.exec(Command::new(["echo", "in"])).await;
    let out = out.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((&out.stdout[..], out.exit), (&b"in\n"[..], Exit::Code(0)));
    ssh.close().await;
}

async fn fails(resolved: &Resolved) -> String {
    match enter(resolved).await {
        Ok(_) => panic!("it must not get in"),
        Err(error) => error.to_string(),
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_opens_every_kind_of_host() {
    let kinds: [&[&str]; 3] = [
        &["-t", "ed25519", "-N", ""],
        &["-t", "ecdsa", "-b", "384", "-N", ""],
        &["-t", "rsa", "-b", "2048", "-N", ""],
    ];
    for (host_key, key) in ["rsa", "ed25519", "ecdsa"].iter().zip(kinds) {
        let spec = Spec {
            // All of them, of which one is known: it must be asked for.
            host_keys: &["ed25519", "rsa", "ecdsa"],
            key,
            ..Spec::default()
        };
        let Some(b) = Sshd::openssh_with("b", &spec) else {
            return;
        };
        let known = std::fs::read_to_string(&b.known_hosts).expect("it was written");
        let one = known.lines().find(|line| line.contains(host_key));
        std::fs::write(&b.known_hosts, one.expect("it has this kind")).expect("it can be written");
        works(&resolved("b", &[b.config_block(None)]).await).await;

        // And with its name hashed.
        let file = b.known_hosts.to_str().expect("a plain path");
        let hashing = Process::new("ssh-keygen").args(["-H", "-f", file]).output();
        assert!(hashing.expect("ssh-keygen starts").status.success());
        let text = std::fs::read_to_string(&b.known_hosts).expect("it is there");
        assert!(text.starts_with("|1|"), "{text}");
        works(&resolved("b", &[b.config_block(None)]).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_refused_with_the_command_that_makes_it_known() {
    let Some(b) = Sshd::openssh("b") else { return };
    std::fs::write(&b.known_hosts, "").expect("a file can be written");
    let resolved = resolved("b", &[b.config_block(None)]).await;
    let error = fails(&resolved).await;
    let file = b.known_hosts.display().to_string();
    let start = error.find("`ssh-keyscan").expect("it names the command") + 1;
    let end = error[start..].find('`').expect("it ends") + start;
    let fingerprint = Process::new("ssh-keygen")
        .args(["-l", "-f"])
        .arg(b.dir().join("host_ed25519.pub"))
        .output()
        .expect("ssh-keygen starts");
    let fingerprint = String::from_utf8_lossy(&fingerprint.stdout).into_owned();
    let fingerprint = fingerprint.split(' ').nth(1).expect("it has two words");
    has(&error, &["cannot log in to host b", fingerprint, &file]);
    let added = Process::new("sh").args(["-c", &error[start..end]]).status();
    assert!(added.expect("sh starts").success());
    works(&resolved).await;

    // Whoever made the machine may trust what it shows first, and only that.
    std::fs::write(&b.known_hosts, "").expect("a file can be written");
    works(&resolved.trusting_first_use()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_revoked_key_is_refused_with_its_line() {
    let (Some(b), Some(other)) = (Sshd::openssh("b"), Sshd::openssh("other")) else {
        return;
    };
    let name = format!("[127.0.0.1]:{}", b.port);
    let resolved = resolved("b", &[b.config_block(None)]).await;
    let text = format!("# mine\n{name} {}\n", other.host_keys[0]);
    std::fs::write(&b.known_hosts, text).expect("a file can be written");
    let error = fails(&resolved).await;
    let place = format!("{}:2 says ED25519 SHA256:", b.known_hosts.display());
    has(&error, &[&place, &format!("ssh-keygen -R '{name}'")]);

    let text = format!("{name} {0}\n@revoked * {0}\n", b.host_keys[0]);
    std::fs::write(&b.known_hosts, text).expect("a file can be written");
    let place = format!("{}:2 revokes", b.known_hosts.display());
    has(&fails(&resolved).await, &[&place]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_behind_two_others_is_reached_and_each_may_fail() {
    let all = ["gate", "near", "b"].map(Sshd::openssh);
    let [Some(gate), Some(near), Some(b)] = all else {
        return;
    };
    let blocks = [
        gate.config_block(None),
        near.config_block(Some("gate")),
        b.config_block(Some("near")),
    ];
    let good = resolved("b", &blocks).await;
    assert_eq!(good.jumps.len(), 2);
    works(&good).await;
    let ssh = enter(&good).await.unwrap_or_else(|error| panic!("{error}"));
    let much = vec![7; 8 << 20];
    let there = b.dir().join("much");
    let written = ssh.write(&there, &much, 0o600).await;
    written.unwrap_or_else(|error| panic!("{error}"));
    assert!(std::fs::read(&there).is_ok_and(|read| read == much));
    ssh.close().await;

    // The key of the one in the middle is not known.
    let known = std::fs::read(&near.known_hosts).expect("it was written");
    std::fs::write(&near.known_hosts, "").expect("a file can be written");
    let error = fails(&good).await;
    has(
        &error,
        &[
            "host near (on the way to b)",
            "is not known",
            "echo '[127.0.0.1]:",
        ],
    );
    std::fs::write(&near.known_hosts, known).expect("a file can be written");

    // Nobody listens where the last one should be.
    let mut wrong = good.clone();
    wrong.port = 1;
    let error = fails(&wrong).await;
    has(
        &error,
        &[
            "cannot connect to host b at 127.0.0.1:1",
            "near (on the way to b) cannot reach it",
        ],
    );

    let closed = Spec {
        config: "AllowTcpForwarding no\n",
        ..Spec::default()
    };
    let Some(closed) = Sshd::openssh_with("closed", &closed) else {
        return;
    };
    let blocks = [closed.config_block(None), b.config_block(Some("closed"))];
    let error = fails(&resolved("b", &blocks).await).await;
    has(
        &error,
        &[
            "closed (on the way to b) does not forward connections",
            "AllowTcpForwarding",
        ],
    );
}

/// An agent of the test's own.
struct Agent(std::process::Child, PathBuf);

impl Agent {
    fn up(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let child = Process::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("ssh-agent starts");
        super::bench::wait_until("the agent listens", 30, || socket.exists());
        Self(child, socket)
    }

    fn add(&self, key: &Path) {
        let out = Process::new("ssh-add")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.1)
            .output()
            .expect("ssh-add starts");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_signs_and_only_for_named_keys_if_so_wanted() {
    for kind in [
        &["-t", "ed25519", "-N", ""][..],
        &["-t", "rsa", "-b", "2048", "-N", ""],
    ] {
        let spec = Spec {
            key: kind,
            ..Spec::default()
        };
        let Some(b) = Sshd::openssh_with("b", &spec) else {
            return;
        };
        let agent = Agent::up(b.dir());
        for name in ["x", "y"] {
            keygen(&b.dir().join(name), &["-t", "ed25519", "-N", ""]);
            agent.add(&b.dir().join(name));
        }
        agent.add(&b.identity);
        std::fs::remove_file(&b.identity).expect("the key can be removed");
        let mut own = resolved("b", &[b.config_block(None)]).await;
        own.agent = Some(agent.1.clone());
        own.identities_only = false;
        own.identities.clear();
        works(&own).await;
        own.identities_only = true;
        let error = fails(&own).await;
        has(
            &error,
            &["there is no key to offer", "it accepts: publickey"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_more_keys_are_offered_than_a_host_bears() {
    let Some(b) = Sshd::openssh("b") else { return };
    let mut own = resolved("b", &[b.config_block(None)]).await;
    for number in 0..7 {
        let key = b.dir().join(format!("wrong{number}"));
        keygen(&key, &["-t", "ed25519", "-N", ""]);
        own.identities.insert(number, key);
    }
    let error = fails(&own).await;
    let wrong = b.dir().join("wrong4").display().to_string();
    has(
        &error,
        &[
            "cannot log in to host b",
            "does not let user",
            &wrong,
            "3 more were not offered",
            "it accepts: publickey",
        ],
    );
    assert!(!error.contains("wrong5"), "{error}");
    own.identities.drain(0..4);
    works(&own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_socket_and_a_silent_host_are_told_apart() {
    let Some(b) = Sshd::openssh("b") else { return };
    let own = resolved("b", &[b.config_block(None)]).await;
    b.signal(rustix::process::Signal::STOP);
    let door = Door::from_resolved("b", &own).expect("known_hosts can be read");
    let start = Instant::now();
    let error = Ssh::connect(door.connect_deadline(Duration::from_millis(500))).await;
    let error = error.err().expect("nobody answers").to_string();
    has(
        &error,
        &[
            "cannot connect to host b",
            "connected, but no SSH handshake within 0.5 s",
        ],
    );
    assert!(start.elapsed() < Duration::from_secs(20));
    b.signal(rustix::process::Signal::CONT);
    works(&own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_from_elsewhere_is_as_good() {
    use left_harness::host::keys::{PrivateKey, PublicKey};
    use left_harness::host::ssh::{Credential, HostKey, Way};
    let Some(b) = Sshd::openssh("b") else { return };
    let key = PrivateKey::read_openssh_file(&b.identity).expect("the key can be read");
    let host_key = PublicKey::from_openssh(&b.host_keys[0]).expect("it is a key");
    let door = |port: u16| {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let way = Way::Connected(stream, "the inside of b".into());
        let credential = Credential::Key(std::sync::Arc::new(key.clone()));
        let pinned = HostKey::Pinned(host_key.clone());
        Door::new("b", way, b.user.clone(), credential, pinned)
    };
    let ssh = Ssh::connect(door(b.port)).await;
    let ssh = ssh.unwrap_or_else(|error| panic!("{error}"));
    let out = ssh.exec(Command::new(["true"])).await.expect("it runs");
    assert_eq!(out.exit, Exit::Code(0));
    ssh.close().await;

    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = silent.local_addr().expect("it has an address").port();
    let door = door(port).connect_deadline(Duration::from_millis(300));
    let error = Ssh::connect(door).await.err().expect("nobody answers");
    let said = "cannot connect to host b at the inside of b: connected, but no SSH handshake";
    has(&error.to_string(), &[said]);
}
