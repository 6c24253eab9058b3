//! Server and connection against each other, over real sockets and processes.

mod bystanders;
mod files;
mod programs;
mod spares;
mod trouble;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::keys::{self, PrivateKey};
use super::remote::{Command, Exit, Output, Remote};
use super::server::{Server, ServerSpec, serve};
use super::ssh::{Credential, Door, HostKey, Ssh, Way};

/// For what takes milliseconds, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(30);

/// A server on a temporary folder and the key that opens it.
struct Host {
    home: tempfile::TempDir,
    key: Arc<PrivateKey>,
    server: Server,
}

impl Host {
    async fn up() -> Self {
        let home = tempfile::tempdir().unwrap();
        let key = keys::generate().unwrap();
        let server = serve(ServerSpec {
            home: home.path().into(),
            authorized: key.public_key().clone(),
            env: vec![("LEFT_TEST".into(), "given".into())],
        });
        let server = server.await.unwrap();
        Self {
            home,
            key: Arc::new(key),
            server,
        }
    }

    fn door(&self) -> Door {
        Door::new(
            "a",
            Way::Tcp {
                address: "127.0.0.1".into(),
                port: self.server.port,
            },
            "tester",
            Credential::Key(self.key.clone()),
            HostKey::Pinned(self.server.host_key.clone()),
        )
        .sessions_max(64)
    }

    async fn connect(&self) -> Ssh {
        Ssh::connect(self.door()).await.unwrap()
    }

    fn home(&self) -> &Path {
        self.home.path()
    }
}

/// A command for `sh`.
fn sh(script: &str) -> Command {
    Command::new(["sh", "-c", script]).deadline(SOON)
}

async fn ok(ssh: &Ssh, command: Command) -> Output {
    let output = ssh.exec(command).await.unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.exit, Exit::Code(0), "{complaints}");
    output
}

/// Waits until `what` holds, and says what was seen last if it never does.
async fn wait_until<T: std::fmt::Debug>(mut look: impl FnMut() -> T, what: impl Fn(&T) -> bool) {
    let end = std::time::Instant::now() + SOON;
    loop {
        let seen = look();
        if what(&seen) {
            return;
        }
        assert!(std::time::Instant::now() < end, "last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Is there a process with this number that is not just waited for?
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

/// Bytes that look random and differ from place to place.
fn content(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
