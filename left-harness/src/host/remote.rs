//! The connection to a host, as the rest of the harness sees it.
//!
//! Everything goes over one connection, many things at once. A command is an
//! argv, never a shell string; only the implementation quotes. Each call has a
//! deadline. A connection that is lost or silent is [`RemoteError`]: trouble of
//! the infrastructure, never a verdict about the program under test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

/// A program to run on a host.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program and arguments, as they are.
    pub argv: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Given to the program, then closed. Only for [`Remote::exec`].
    pub stdin: Vec<u8>,
    /// How long it may take. Only for [`Remote::exec`].
    pub deadline: Duration,
}

impl Command {
    /// A program with its arguments, no input, 30 s.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            deadline: Duration::from_secs(30),
        }
    }

    /// As many seconds instead.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// A path for a command line on a host.
///
/// # Errors
/// If it cannot be written as text.
pub fn path_text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("the path {} is not UTF-8", path.display()))
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(u32),
    /// By a signal: `KILL`.
    Signal(String),
}

/// What a program left when it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// All it wrote.
    pub stdout: Vec<u8>,
    /// All it complained about.
    pub stderr: Vec<u8>,
}

/// Something from a running program.
#[derive(Debug)]
pub enum Said {
    /// Bytes of its standard output.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// It ended; nothing follows but the end of the channel.
    Exit(Exit),
    /// How it ends will not be known, and why; nothing follows.
    Lost(RemoteError),
}

/// A program that runs with its input open. Dropping it, or `said` alone, closes
/// the channel: the program sees the end of its input, and a server may kill it.
///
/// What nobody takes from `said` waits: 64 MiB do not disturb other programs of
/// the connection, then it slows the whole connection down, and after 30 s
/// without anything taken the program is given up with [`Said::Lost`].
pub struct Running {
    /// Bytes for its standard input; drop it for end of file.
    pub stdin: mpsc::Sender<Vec<u8>>,
    /// What it says, until it ends.
    pub said: mpsc::Receiver<Said>,
}

/// What is known of a file on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// In bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// It is a folder.
    pub is_dir: bool,
}

/// Called with the bytes done so far.
pub type OnBytes<'a> = &'a (dyn Fn(u64) + Sync);

/// One connection to one host.
#[async_trait::async_trait]
pub trait Remote: Send + Sync {
    /// The host's name in the scenario: `a`.
    fn name(&self) -> &str;
    /// Runs a program to its end.
    async fn exec(&self, command: Command) -> Result<Output, RemoteError>;
    /// Starts a program and talks to it.
    async fn spawn(&self, command: Command) -> Result<Running, RemoteError>;
    /// Sends a file: to a temporary name beside it, synced, then renamed over `to`.
    async fn upload(
        &self,
        from: &Path,
        to: &Path,
        mode: u32,
        on_bytes: OnBytes<'_>,
    ) -> Result<(), RemoteError>;
    /// The same for bytes in memory.
    async fn write(&self, to: &Path, bytes: &[u8], mode: u32) -> Result<(), RemoteError>;
    /// Fetches a file.
    async fn download(&self, from: &Path, to: &Path) -> Result<(), RemoteError>;
    /// Up to `length` bytes from `offset`; fewer at the end of the file.
    async fn read(&self, from: &Path, offset: u64, length: usize) -> Result<Vec<u8>, RemoteError>;
    /// `None` where there is nothing. Symbolic links are not followed.
    async fn stat(&self, path: &Path) -> Result<Option<Stat>, RemoteError>;
    /// Names in a folder, without `.` and `..`, sorted.
    async fn list(&self, path: &Path) -> Result<Vec<String>, RemoteError>;
    /// Makes a folder and its parents, 0700.
    async fn make_dir(&self, path: &Path) -> Result<(), RemoteError>;
    /// Ends the connection.
    async fn close(&self);
}

/// Why a host could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers, or not as SSH.
    #[error("cannot connect to host {host} at {at}: {why}")]
    Connect {
        /// The host's name.
        host: String,
        /// `127.0.0.1:2222`
        at: String,
        /// What is in the way.
        why: String,
    },
    /// The host refused us, or we refused the host.
    #[error("cannot log in to host {host} at {at}: {why}")]
    Login {
        /// The host's name.
        host: String,
        /// `127.0.0.1:2222`
        at: String,
        /// Who refused whom.
        why: String,
    },
    /// The connection is gone.
    #[error("lost the connection to host {host} while {doing}: {why}")]
    Lost {
        /// The host's name.
        host: String,
        /// ``running `left` ``
        doing: String,
        /// What ended it, as far as it is known.
        why: String,
    },
    /// It took too long.
    #[error("host {host} did not finish {doing} within {seconds} s")]
    Deadline {
        /// The host's name.
        host: String,
        /// ``running `left` ``
        doing: String,
        /// The deadline.
        seconds: f64,
    },
    /// A file operation failed there.
    #[error("cannot {doing} {path} on host {host}: {why}")]
    File {
        /// The host's name.
        host: String,
        /// A verb: `write`.
        doing: &'static str,
        /// The file on the host.
        path: PathBuf,
        /// `no such file`, `permission denied`, `no space left on device`.
        why: String,
    },
    /// It cannot be done, though the connection is good.
    #[error("{doing} on host {host} failed: {why}")]
    Failed {
        /// The host's name.
        host: String,
        /// ``running `left` ``
        doing: String,
        /// What is in the way.
        why: String,
    },
}
