//! Real SSH servers for a test, on loopback, for the user who runs it: OpenSSH's
//! sshd, and dropbear with busybox as the only userland. Each has a folder of its
//! own with keys made for it, and takes everything away when it is dropped.
//!
//! `None` from a constructor: it cannot be had here, and why was said.

mod dropbear;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// For what takes milliseconds, on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

/// A port may be taken between the moment it was free and the server's start.
const STARTS_MAX: usize = 5;

/// A server that listens.
pub struct Sshd {
    /// What `ssh_config` and `known_hosts` call it.
    pub name: String,
    /// On 127.0.0.1.
    pub port: u16,
    /// Who may log in.
    pub user: String,
    /// The private key that opens it.
    pub identity: PathBuf,
    /// A `known_hosts` file with its keys.
    pub known_hosts: PathBuf,
    /// Its public keys, as they stand in a `.pub` file.
    pub host_keys: Vec<String>,
    /// Where the host's `/` lies on this machine: `/` unless it has its own.
    pub root: PathBuf,
    /// The user's home there.
    pub home: PathBuf,
    dir: TempDir,
    child: Child,
}

/// What an OpenSSH server is to be.
pub struct Spec<'a> {
    /// Types of its keys, as `ssh-keygen -t` names them.
    pub host_keys: &'a [&'a str],
    /// The type of the key that opens it, with the arguments of `ssh-keygen`.
    pub key: &'a [&'a str],
    /// More lines of its configuration.
    pub config: &'a str,
    /// Whether it has an SFTP subsystem.
    pub sftp: bool,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Self {
            host_keys: &["ed25519"],
            key: &["-t", "ed25519", "-N", ""],
            config: "",
            sftp: true,
        }
    }
}

impl Sshd {
    /// OpenSSH's, as a plain host or as one to jump from.
    pub fn openssh(name: &str) -> Option<Self> {
        Self::openssh_with(name, &Spec::default())
    }

    /// OpenSSH's, not quite as usual.
    pub fn openssh_with(name: &str, spec: &Spec<'_>) -> Option<Self> {
        const PROGRAM: &str = "/usr/sbin/sshd";
        if !has(PROGRAM) || !has("ssh-keygen") {
            return None;
        }
        if rustix::process::geteuid().is_root() {
            // It refuses to start without; the package makes it at boot.
            std::fs::create_dir_all("/run/sshd").expect("root can make /run/sshd");
        }
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let at = |name: &str| dir.path().join(name);
        keygen(&at("id"), spec.key);
        std::fs::copy(at("id.pub"), at("authorized_keys")).expect("a file can be copied");
        let mut host_keys = Vec::new();
        // A home of its own: bash reads ~/.bashrc when sshd starts it, and what this
        // account's says and how long it takes is none of the test's business.
        let mut config = format!(
            "AuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nMaxStartups 100\n\
             SetEnv HOME={}\n",
            at("authorized_keys").display(),
            dir.path().display()
        );
        for kind in spec.host_keys {
            let path = at(&format!("host_{kind}"));
            keygen(&path, &["-t", kind, "-N", ""]);
            let _ = writeln!(config, "HostKey {}", path.display());
            host_keys.push(read(&path.with_extension("pub")).trim().to_owned());
        }
        if spec.sftp {
            config += "Subsystem sftp internal-sftp\n";
        }
        config += spec.config;
        let user = said("id", &["-un"]);
        let (port, child) = start(&at("log"), |port| {
            let config = format!("ListenAddress 127.0.0.1:{port}\n{config}");
            std::fs::write(at("sshd_config"), config).expect("a file can be written");
            let mut command = Command::new(PROGRAM);
            command.args(["-D", "-e", "-f"]).arg(at("sshd_config"));
            command
        });
        let home = dir.path().to_owned();
        let mut sshd = Self {
            name: name.into(),
            port,
            user,
            identity: at("id"),
            known_hosts: at("known_hosts"),
            host_keys,
            root: "/".into(),
            home,
            dir,
            child,
        };
        sshd.know();
        sshd.lets_in().then_some(sshd)
    }

    /// Writes `known_hosts`, under the address that it has.
    fn know(&mut self) {
        let lines: String = self
            .host_keys
            .iter()
            .map(|key| format!("[127.0.0.1]:{} {key}\n", self.port))
            .collect();
        std::fs::write(&self.known_hosts, lines).expect("a file can be written");
    }

    /// Its block of an `ssh_config`, with the hosts to jump from, if any.
    pub fn config_block(&self, jump: Option<&str>) -> String {
        let mut block = format!(
            "Host {}\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n  \
             IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n",
            self.name,
            self.port,
            self.user,
            self.identity.display(),
            self.known_hosts.display()
        );
        if let Some(jump) = jump {
            let _ = writeln!(block, "  ProxyJump {jump}");
        }
        block
    }

    /// Its own folder on this machine.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path of the host, as this machine sees it.
    pub fn seen_here(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What it has said.
    pub fn log(&self) -> String {
        read(&self.dir.path().join("log"))
    }

    /// Stops or goes on with the server and all its connections: `STOP`, `CONT`.
    pub fn signal(&self, signal: Signal) {
        let mut told = Vec::new();
        // It may be starting a session right now. Whoever is stopped starts nothing
        // more, so the second look finds what the first one missed.
        for _ in 0..3 {
            for pid in family(self.child.id()) {
                if !told.contains(&pid) {
                    let _ = kill_process(pid, signal);
                    told.push(pid);
                }
            }
        }
    }

    /// An administrator may have locked the user's account.
    fn lets_in(&self) -> bool {
        let port = self.port.to_string();
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", &known])
            .args(["-o", "IdentitiesOnly=yes", "-p", &port, "-i"])
            .arg(&self.identity)
            .args(["-l", &self.user, "127.0.0.1", "true"])
            .env_remove("SSH_AUTH_SOCK");
        let out = command.output().expect("ssh starts");
        let log = self.log();
        // It may fail otherwise, where a server is not as usual: the test will see.
        let locked = !out.status.success() && log.contains("not allowed because");
        if locked {
            eprintln!("skipped: sshd does not let this user in: {log}");
        }
        !locked
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Stopped first, so that it starts nothing while its family is counted.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::STOP);
        }
        let family = family(self.child.id());
        for pid in family.iter().rev() {
            let _ = kill_process(*pid, Signal::KILL);
        }
        let _ = self.child.wait();
        // The others are waited for by whoever inherits them, a little later.
        let end = Instant::now() + SOON;
        while family.iter().any(|pid| runs(*pid)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether a process is there and not only waits to be reaped.
fn runs(pid: Pid) -> bool {
    let stat = read(&PathBuf::from(format!(
        "/proc/{}/stat",
        pid.as_raw_nonzero()
    )));
    !stat.is_empty() && !stat.contains(") Z ")
}

/// A process and what it and its children have started, itself first.
///
/// sshd makes a session for each connection, so its own process group does not
/// cover them.
fn family(pid: u32) -> Vec<Pid> {
    let mut all = vec![pid];
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `PID (name) state parent …`; the name may hold anything.
        let after = stat.rsplit(") ").next().unwrap_or_default();
        if let Some(parent) = after.split(' ').nth(1).and_then(|text| text.parse().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut index = 0;
    while let Some(&parent) = all.get(index) {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        all.extend(children.map(|(child, _): &(u32, u32)| *child));
        index += 1;
    }
    all.into_iter()
        .filter_map(|pid| Pid::from_raw(pid as i32))
        .collect()
}

/// Starts a server on a free port and waits until it greets.
fn start(log: &Path, command: impl Fn(u16) -> Command) -> (u16, Child) {
    for _ in 0..STARTS_MAX {
        // Free a moment ago; a server cannot choose a port itself.
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let port = free.local_addr().expect("it has an address").port();
        drop(free);
        let file = std::fs::File::create(log).expect("a file can be made");
        let mut child = command(port)
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.try_clone().expect("a file can be shared")))
            .stderr(file)
            .process_group(0)
            .spawn()
            .expect("the server starts");
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            if child
                .try_wait()
                .expect("a child can be looked at")
                .is_some()
            {
                break;
            }
            if greets(port) && child.try_wait().is_ok_and(|ended| ended.is_none()) {
                return (port, child);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
        let text = read(log);
        assert!(
            text.contains("in use"),
            "the server does not listen: {text}"
        );
    }
    panic!("no port stayed free in {STARTS_MAX} tries");
}

fn greets(port: u16) -> bool {
    use std::io::Read;
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut greeting = [0; 4];
    let _ = stream.set_read_timeout(Some(SOON));
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-"
}

/// Whether a program is installed; says so if it is not.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = Path::new(program).exists()
        || std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}

/// `ssh-keygen` with these arguments.
pub fn keygen(path: &Path, arguments: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-C", "test"]).args(arguments);
    let out = command.arg("-f").arg(path).output();
    let out = out.expect("ssh-keygen starts");
    let complaint = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ssh-keygen: {complaint}");
}

fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output();
    let out = out.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file can be written");
    let private = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).expect("a mode can be set");
}

#[test]
fn a_server_is_up_and_gone_again() {
    for sshd in [Sshd::openssh("one"), Sshd::dropbear("two")] {
        let Some(sshd) = sshd else { continue };
        let config = sshd.dir().join("ssh_config");
        std::fs::write(&config, sshd.config_block(None)).expect("a file can be written");
        let out = Command::new("ssh")
            .args(["-o", "BatchMode=yes", "-F"])
            .arg(&config)
            .args([&sshd.name, "echo here; echo $PATH; pwd"])
            .env_remove("SSH_AUTH_SOCK")
            .output()
            .expect("ssh starts");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.starts_with("here\n"), "{complaint}\n{}", sshd.log());
        let family = family(sshd.child.id());
        let dir = sshd.dir().to_owned();
        drop(sshd);
        for pid in family {
            assert!(!runs(pid), "{pid:?} is still there");
        }
        assert!(!dir.exists(), "{} is still there", dir.display());
    }
}
