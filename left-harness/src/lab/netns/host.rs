//! `left-harness netns-host`: the first process of a host. It makes the host's view of
//! the file system, its network and its SSH server, and lives until its input ends.
//! With it ends everything on the host: it is the first of its process namespace.

use std::fs;
use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use super::USER;
use super::init::ip;
use super::message::HostOrder;

/// The host's own folder, as the host sees it.
pub const HOME: &str = "/run/left-harness/home";

/// Where the share lies when it has a disk of its own.
pub const DISK: &str = "/run/left-harness/disk";

/// The host's end of the wire.
pub(super) const INTERFACE: &str = "eth0";

/// Where the SSH server listens, on the host's own loopback.
pub(super) const SSH_PORT: u16 = 2222;

/// The keys and settings of the server, and the host's accounts.
const PLACE: &str = "/run/left-harness/ssh";

/// A server starts in milliseconds.
const SERVER_DEADLINE: Duration = Duration::from_secs(10);

/// Is the host's first process until its input ends. What goes wrong is told on
/// standard output, where the init listens.
pub fn run() -> Result<()> {
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let spec: HostOrder = serde_json::from_str(&line).context("no order for this host")?;
    say("here")?;
    line.clear();
    input.read_line(&mut line)?;
    if line.trim_end() != "go" {
        return Ok(());
    }
    if let Err(error) = come_up(&spec) {
        // In one line, whatever it holds.
        return say(&format!("{error:#}").replace('\n', " "));
    }
    say("up")?;
    std::thread::spawn(reap);
    // Nothing more is said: this ends when the init is gone or wants the end.
    line.clear();
    while input.read_line(&mut line)? > 0 {
        line.clear();
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn come_up(spec: &HostOrder) -> Result<()> {
    rustix::system::sethostname(spec.name.as_bytes()).context("cannot name the host")?;
    file_systems(spec)?;
    ip(&format!(
        "link set lo up\naddr add {}/24 dev {INTERFACE}\nlink set {INTERFACE} up\n",
        spec.address
    ))?;
    serve(spec)
}

/// The host's view: a `/run` and a `/tmp` of its own, its home, its disk, its accounts.
fn file_systems(spec: &HostOrder) -> Result<()> {
    // Opened before anything covers it.
    let home = fs::File::open(&spec.home)
        .with_context(|| format!("cannot open {}", spec.home.display()))?;
    tmpfs("/run", "mode=0755")?;
    tmpfs("/tmp", "mode=1777")?;
    for folder in [HOME, DISK, PLACE] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&home);
    mount_bind_recursive(format!("/proc/self/fd/{descriptor}"), HOME)
        .with_context(|| format!("cannot show {} to the host", spec.home.display()))?;
    if let Some(bytes) = spec.disk_bytes {
        tmpfs(DISK, &format!("mode=0700,size={bytes}"))?;
        give(spec, Path::new(DISK))?;
    }
    let (uid, gid) = (spec.account.uid, spec.account.gid);
    let accounts = format!(
        "root:x:0:0:root:/root:/bin/sh\n{USER}:x:{uid}:{gid}:a host of a lab:{HOME}:/bin/sh\n"
    );
    let groups = format!("root:x:0:\n{USER}:x:{gid}:\n");
    for (name, text) in [("passwd", accounts), ("group", groups)] {
        let (own, real) = (format!("{PLACE}/{name}"), format!("/etc/{name}"));
        fs::write(&own, text).with_context(|| format!("cannot write {own}"))?;
        mount_bind_recursive(&own, &real).with_context(|| format!("cannot cover {real}"))?;
    }
    Ok(())
}

fn tmpfs(at: &str, options: &str) -> Result<()> {
    let options = std::ffi::CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", at, "tmpfs", flags, Some(options.as_c_str()))
        .with_context(|| format!("cannot mount a file system of its own on {at}"))
}

/// Starts the server and waits until it listens.
fn serve(spec: &HostOrder) -> Result<()> {
    for (name, text) in [
        ("host_key", spec.host_key.clone()),
        ("authorized_keys", format!("{}\n", spec.authorized)),
        ("sshd_config", settings()),
    ] {
        let path = format!("{PLACE}/{name}");
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {path}"))?;
        give(spec, Path::new(&path))?;
    }
    let mut command = match spec.account.nested {
        // Root of a user namespace is the user: below it, only the user.
        true => {
            let mut command = Command::new("unshare");
            command
                .arg("--user")
                .arg(format!("--map-user={}", spec.account.uid))
                .arg(format!("--map-group={}", spec.account.gid))
                .arg("--")
                .arg(&spec.sshd);
            command
        }
        false => {
            let mut command = Command::new(&spec.sshd);
            command.uid(spec.account.uid).gid(spec.account.gid);
            command
        }
    };
    let log = fs::File::create(format!("{PLACE}/log")).context("cannot make a log")?;
    command
        .args(["-D", "-e", "-f"])
        .arg(format!("{PLACE}/sshd_config"))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .current_dir(HOME)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let mut server = command.spawn().with_context(|| {
        format!(
            "cannot run {} (apt-get install openssh-server), or `unshare`",
            spec.sshd.display()
        )
    })?;
    let address = SocketAddr::from(([127, 0, 0, 1], SSH_PORT));
    let deadline = Instant::now() + SERVER_DEADLINE;
    while TcpStream::connect(address).is_err() {
        let ended = server.try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            let log = fs::read(format!("{PLACE}/log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let last = log.lines().next_back().unwrap_or("it says nothing");
            bail!("its SSH server does not listen: {last}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn settings() -> String {
    format!(
        "ListenAddress 127.0.0.1:{SSH_PORT}\n\
         HostKey {PLACE}/host_key\n\
         AuthorizedKeysFile {PLACE}/authorized_keys\n\
         AuthenticationMethods publickey\n\
         Subsystem sftp internal-sftp\n\
         StrictModes no\n\
         UsePAM no\n\
         UseDNS no\n\
         PidFile none\n\
         MaxSessions 80\n\
         AllowTcpForwarding no\n\
         X11Forwarding no\n\
         PrintMotd no\n\
         PrintLastLog no\n"
    )
}

/// Where root is root of the machine, files must be given to the account.
fn give(spec: &HostOrder, path: &Path) -> Result<()> {
    if !spec.account.is_roots() {
        return Ok(());
    }
    chown(path, Some(spec.account.uid), Some(spec.account.gid))
        .with_context(|| format!("cannot give {} away", path.display()))
}

/// Takes note of everything that ends on the host: whose parent has ended has us.
fn reap() {
    use rustix::process::{WaitOptions, wait};
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Not even the server is left.
            Err(_) => std::process::exit(1),
        }
    }
}
