//! OpenSSH's own programs against the embedded server, and our connection against
//! its server, where they are installed.

use std::process::Stdio;

use super::*;
use crate::host::client_config::{ClientHost, write_client_config};

/// The options with which OpenSSH's programs reach `host` as `a`; `None` without them.
fn options(host: &Host, folder: &Path) -> Option<Vec<String>> {
    let asked = std::process::Command::new("ssh").arg("-V").output();
    if asked.is_err() {
        eprintln!("skipped: OpenSSH's client is not installed");
        return None;
    }
    // Blanks and percent signs in its path are good, too.
    let dir = folder.join("ssh 100%");
    let config = write_client_config(
        &dir,
        &[ClientHost {
            name: "a",
            address: "127.0.0.1",
            port: host.server.port,
            user: "anybody",
            key: &host.key,
            host_key: &host.server.host_key,
        }],
    );
    let config = config.unwrap();
    for (path, mode) in [(&dir, 0o700), (&config, 0o600), (&dir.join("key-a"), 0o600)] {
        use std::os::unix::fs::PermissionsExt;
        let found = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
    let config = config.to_str().unwrap().to_owned();
    Some(vec![
        "-o".into(),
        "BatchMode=yes".into(),
        "-F".into(),
        config,
    ])
}

async fn run(program: &str, options: &[String], words: &[&str], input: &[u8]) -> Output {
    use tokio::io::AsyncWriteExt;
    let mut child = tokio::process::Command::new(program)
        .args(options)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let both = async { tokio::join!(child.wait_with_output(), feed) };
    let (out, ()) = tokio::time::timeout(Duration::from_secs(120), both)
        .await
        .unwrap_or_else(|_| panic!("{program} {words:?} does not end"));
    let out = out.unwrap();
    Output {
        exit: Exit::Code(out.status.code().unwrap() as u32),
        stdout: out.stdout,
        stderr: out.stderr,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_runs_programs() {
    let host = Host::up().await;
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = options(&host, folder.path()) else {
        return;
    };
    let out = run("ssh", &options, &["a", "echo $HOME; exit 3"], b"").await;
    let home = host.home().canonicalize().unwrap();
    let complaints = String::from_utf8_lossy(&out.stderr);
    let expected = format!("{}\n", home.display());
    assert_eq!(out.stdout, expected.as_bytes(), "{complaints}");
    assert_eq!(out.exit, Exit::Code(3));

    let much = content("through ssh", 32 << 20);
    let out = run("ssh", &options, &["a", "cat"], &much).await;
    assert!(out.stdout == much, "what came back differs");

    // A shell, with a terminal for whoever insists on one.
    let shell = b"echo shell; test -t 0 || exit 4\n";
    let out = run("ssh", &options, &["a"], shell).await;
    assert_eq!(
        (&out.stdout[..], out.exit),
        (&b"shell\n"[..], Exit::Code(4))
    );
    let shell =
        b"test -t 0 && test -t 2 && tty && echo /dev/tty >/dev/tty && sleep 1000 &\nexit 5\n";
    let out = run("ssh", &options, &["-tt", "a"], shell).await;
    let (said, complaints) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert_eq!(out.exit, Exit::Code(5), "{said} {complaints}");
    let words = ["-tt", "a", "tty; cat; kill -9 $$"];
    let out = run("ssh", &options, &words, b"typed\n").await;
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("/dev/pts/"), "{said}");
    assert!(said.contains("typed\r\n"), "{said}");

    let forward = ["-W", "127.0.0.1:1", "a"];
    let out = run("ssh", &options, &forward, b"").await;
    assert_eq!(out.exit, Exit::Code(255), "forwarding must be refused");
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_moves_files() {
    let host = Host::up().await;
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = options(&host, folder.path()) else {
        return;
    };
    let bytes = content("through sftp", (32 << 20) + 1);
    let from = folder.path().join("from");
    std::fs::write(&from, &bytes).unwrap();
    let from = from.to_str().unwrap();
    let home = host.home().to_str().unwrap().to_string();
    let there = format!("a:{home}/scp");
    let here = folder.path().join("here");
    let here = here.to_str().unwrap();

    for way in ["-s", "-O"] {
        if way == "-O"
            && run("scp", &[], &["-O"], b"")
                .await
                .stderr
                .starts_with(b"unknown")
        {
            continue;
        }
        for words in [[way, "-p", from, &there], [way, "-p", &there, here]] {
            let out = run("scp", &options, &words, b"").await;
            let complaints = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.exit, Exit::Code(0), "scp {words:?}: {complaints}");
        }
        assert!(
            std::fs::read(here).unwrap() == bytes,
            "scp {way} changed it"
        );
        std::fs::remove_file(host.home().join("scp")).unwrap();
        std::fs::remove_file(here).unwrap();
    }

    let batch = format!(
        "put {from} up\nmkdir d\nrename up d/f\nln -s d/f link\nchmod 640 d/f\n\
         get d/f {here}\nls -l d\nrm link\nreget d/f {here}\ncd d\npwd\nrm f\ncd ..\nrmdir d\n"
    );
    let words = ["-b", "-", "a"];
    let out = run("sftp", &options, &words, batch.as_bytes()).await;
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.exit, Exit::Code(0), "{complaints}");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("-rw-r-----"), "{said}");
    assert!(std::fs::read(here).unwrap() == bytes, "sftp changed it");
    assert_eq!(std::fs::read_dir(host.home()).unwrap().count(), 0);
    host.server.stop().await;
}

/// OpenSSH's server for the user who runs this test.
struct Sshd {
    folder: tempfile::TempDir,
    child: std::process::Child,
    door: Option<Door>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    fn up() -> Option<Self> {
        const PROGRAM: &str = "/usr/sbin/sshd";
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: {PROGRAM} is not installed");
            return None;
        }
        let root = rustix::process::geteuid().is_root();
        if root {
            // It refuses to start without; the package makes it at boot.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (host_key, key) = (keys::generate().unwrap(), keys::generate().unwrap());
        let ending = russh::keys::ssh_key::LineEnding::LF;
        std::fs::write(at("host"), host_key.to_openssh(ending).unwrap().as_bytes()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(at("host"), private).unwrap();
        std::fs::write(at("keys"), key.public_key().to_openssh().unwrap()).unwrap();
        // Free a moment ago; sshd cannot choose a port itself.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\n\
             StrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n",
            at("host").display(),
            at("keys").display()
        );
        std::fs::write(at("config"), config).unwrap();
        let child = std::process::Command::new(PROGRAM)
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stderr(std::fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let id = std::process::Command::new("id")
            .arg("-un")
            .output()
            .unwrap();
        let door = Door::new(
            "real",
            Way::Tcp {
                address: "127.0.0.1".into(),
                port,
            },
            String::from_utf8(id.stdout).unwrap().trim(),
            Credential::Key(Arc::new(key)),
            HostKey::Pinned(host_key.public_key().clone()),
        );
        Some(Self {
            folder,
            child,
            door: Some(door),
        })
    }

    /// `None` where the administrator lets this user in by no key.
    async fn connect(&mut self) -> Option<Ssh> {
        let door = self.door.take().unwrap();
        let Way::Tcp { address, port } = door.way() else {
            unreachable!("it listens on TCP");
        };
        let end = std::time::Instant::now() + SOON;
        while std::net::TcpStream::connect((address.as_str(), *port)).is_err() {
            assert!(std::time::Instant::now() < end, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match Ssh::connect(door).await {
            Ok(ssh) => Some(ssh),
            Err(error) => {
                let log = self.log();
                assert!(log.contains("not allowed because"), "{error}; sshd: {log}");
                eprintln!("skipped: sshd does not let this user in: {log}");
                None
            }
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_sshd_is_a_host_like_any_other() {
    let Some(mut sshd) = Sshd::up() else { return };
    let Some(ssh) = sshd.connect().await else {
        return;
    };
    if ssh.exec(Command::new(["true"])).await.unwrap().exit != Exit::Code(0) {
        eprintln!("skipped: the login shell of this user runs nothing");
        return;
    }
    let ssh = Arc::new(ssh);
    let home = sshd.folder.path();

    let out = ssh.exec(sh("echo out; exit 7")).await.unwrap();
    assert_eq!((&out.stdout[..], out.exit), (&b"out\n"[..], Exit::Code(7)));
    let out = ssh.exec(sh("kill -KILL $$")).await.unwrap();
    assert_eq!(out.exit, Exit::Signal("KILL".into()));

    let mut echo = Command::new(["cat"]).deadline(Duration::from_secs(120));
    echo.stdin = content("sshd", 32 << 20);
    let much = echo.stdin.clone();
    assert!(ssh.exec(echo).await.unwrap().stdout == much);

    // More than `MaxSessions` of them: they take turns.
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let ssh = ssh.clone();
        all.spawn(async move { drop(ok(&ssh, sh("sleep 0.05")).await) });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }

    let there = home.join("deep/folder/f");
    ssh.make_dir(there.parent().unwrap()).await.unwrap();
    ssh.write(&there, b"old", 0o600).await.unwrap();
    ssh.write(&there, &much, 0o640).await.unwrap();
    let stat = ssh.stat(&there).await.unwrap().unwrap();
    assert_eq!((stat.size, stat.mode), (much.len() as u64, 0o640));
    assert!(ssh.read(&there, 0, usize::MAX).await.unwrap() == much);
    assert_eq!(ssh.list(there.parent().unwrap()).await.unwrap(), ["f"]);
    assert_eq!(ssh.stat(&home.join("none")).await.unwrap(), None);
    let error = ssh.read(&home.join("none"), 0, 1).await.unwrap_err();
    assert!(error.to_string().ends_with("no such file"), "{error}");
    ssh.close().await;
}
