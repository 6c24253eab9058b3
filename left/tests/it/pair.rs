//! Two daemons with a folder each, and what a user would see of them.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The status file is written so much later than what it tells of, at most.
const STATUS_LAG: Duration = Duration::from_millis(300);

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One side; its daemon is killed, by its own process id, when this goes.
pub struct Side {
    pub share: PathBuf,
    pub events: PathBuf,
    pub log: PathBuf,
    pub address: SocketAddr,
    pub peer: SocketAddr,
    child: Option<Child>,
}

/// Two sides that are each other's peers.
pub struct Pair {
    pub a: Side,
    pub b: Side,
    pub dir: tempfile::TempDir,
}

/// A path as an outsider sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    pub path: Vec<u8>,
    /// Type and permission bits.
    pub mode: u32,
    /// Of regular files only.
    pub mtime: (i64, i64),
    /// Content or link target.
    pub content: Vec<u8>,
}

/// Addresses of their own for each test, so that none meets another's daemon.
fn addresses() -> (SocketAddr, SocketAddr) {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let test = NEXT.fetch_add(1, Ordering::Relaxed);
    let run = (std::process::id() % 250 + 1) as u8;
    let free = |last| {
        let ip = IpAddr::V4(Ipv4Addr::new(127, run, test, last));
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        listener.local_addr().expect("its address")
    };
    (free(1), free(2))
}

impl Pair {
    /// Two empty shares, nothing started.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = addresses();
        let side = |name: &str, address, peer| {
            let share = dir.path().join(name);
            std::fs::create_dir(&share).unwrap();
            Side {
                share,
                events: dir.path().join(format!("{name}.events")),
                log: dir.path().join(format!("{name}.log")),
                address,
                peer,
                child: None,
            }
        };
        Self {
            a: side("a", a, b),
            b: side("b", b, a),
            dir,
        }
    }

    /// Both running and in sync.
    pub fn started() -> Self {
        let mut pair = Self::new();
        pair.a.start();
        pair.b.start();
        pair.settle();
        pair
    }

    /// Waits until both say that they are in sync and both trees are equal.
    pub fn settle(&self) -> Vec<Item> {
        self.settle_but(&[])
    }

    /// As [`Pair::settle`], but for these, which are on one side only.
    pub fn settle_but(&self, left_out: &[&str]) -> Vec<Item> {
        let manifest = |share: &Path| {
            let mut all = manifest(share);
            all.retain(|item| !left_out.iter().any(|name| item.path == name.as_bytes()));
            all
        };
        let mut seen = (Vec::new(), Vec::new());
        let mut since = None;
        self.wait("both trees are equal and both sides idle", || {
            let idle = [&self.a, &self.b]
                .iter()
                .all(|side| side.status()["state"] == "synchronization");
            seen = (manifest(&self.a.share), manifest(&self.b.share));
            if !idle || seen.0 != seen.1 {
                since = None;
                return false;
            }
            since.get_or_insert_with(Instant::now).elapsed() > STATUS_LAG
        });
        seen.0
    }

    /// Polls until something is so; at the deadline shows what was last seen.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            if Instant::now() > deadline {
                panic!(
                    "waited in vain until {what}\n--- a: {:?}\n{}\n--- b: {:?}\n{}",
                    names(&self.a.share),
                    std::fs::read_to_string(&self.a.log).unwrap_or_default(),
                    names(&self.b.share),
                    std::fs::read_to_string(&self.b.log).unwrap_or_default(),
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Side {
    /// The command that starts this side.
    pub fn command(&self) -> Command {
        let mut command = left();
        command
            .arg("--insecure")
            .arg("--ip")
            .arg(self.peer.to_string())
            .arg("--listen")
            .arg(self.address.to_string())
            .arg("--share")
            .arg(&self.share)
            .arg("--events")
            .arg(&self.events);
        command
    }

    pub fn start(&mut self) {
        let command = self.command();
        self.start_by(command);
    }

    /// As [`Side::start`], by a command that in the end is that one.
    pub fn start_by(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let child = command.stderr(log).stdin(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; how it ended and how long that took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.child.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&child);
        let began = Instant::now();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        (status, began.elapsed())
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    panic!("it did not end");
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was started");
        matches!(child.try_wait(), Ok(None))
    }

    /// The status file; null while there is none.
    pub fn status(&self) -> Value {
        let pid = self.child.as_ref().map(Child::id);
        let text = std::fs::read(self.share.join(".left/status.json")).unwrap_or_default();
        let status: Value = serde_json::from_slice(&text).unwrap_or_default();
        // One that an earlier process left says nothing.
        if status["pid"].as_u64() == pid.map(u64::from) {
            status
        } else {
            Value::Null
        }
    }

    /// All events so far, of all starts.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    pub fn write(&self, name: impl AsRef<OsStr>, content: &[u8]) -> PathBuf {
        let path = self.share.join(Path::new(name.as_ref()));
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.share.join(name)).ok()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program under test; `LEFT_BIN` is another one to measure beside it.
pub fn left() -> Command {
    let built = OsStr::new(env!("CARGO_BIN_EXE_left"));
    Command::new(std::env::var_os("LEFT_BIN").as_deref().unwrap_or(built))
}

/// The same bytes for the same seed, different ones for another.
pub fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Everything in a share but the daemon's own folder.
pub fn manifest(root: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    walk(root, root, &mut items);
    items.sort();
    items
}

fn walk(root: &Path, folder: &Path, items: &mut Vec<Item>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == root.join(".left") {
            continue;
        }
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        let relative = path
            .strip_prefix(root)
            .unwrap()
            .as_os_str()
            .as_bytes()
            .to_vec();
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            std::fs::read_link(&path)
                .unwrap_or_default()
                .as_os_str()
                .as_bytes()
                .to_vec()
        } else if kind.is_file() {
            blake3::hash(&std::fs::read(&path).unwrap_or_default())
                .as_bytes()
                .to_vec()
        } else {
            Vec::new()
        };
        let mtime = if kind.is_file() {
            (metadata.mtime(), metadata.mtime_nsec())
        } else {
            (0, 0)
        };
        items.push(Item {
            path: relative,
            mode: metadata.mode(),
            mtime,
            content,
        });
        if kind.is_dir() {
            walk(root, &path, items);
        }
    }
}

/// The names in a share, for messages.
pub fn names(root: &Path) -> Vec<String> {
    manifest(root)
        .iter()
        .map(|item| String::from_utf8_lossy(&item.path).into_owned())
        .collect()
}
