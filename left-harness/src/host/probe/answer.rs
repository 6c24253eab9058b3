//! What the probe says, line by line, and what is made of it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Deserialize;

use super::conversation::Conversation;
use super::{Exited, ProbeError, Wanted};
use crate::check::manifest::{Entry, Kind, Manifest, Name, Stamp, Time};
use crate::check::text::escaped;

/// The probe tells a thousand at most.
const PROCESSES_MAX: usize = 1000;

/// Every key of every line. One type for all of them: the verb decides which must be there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    path: Option<String>,
    path_hex: Option<String>,
    kind: Option<String>,
    mode: Option<u32>,
    mtime_s: Option<i64>,
    mtime_ns: Option<u32>,
    pub(super) size: Option<u64>,
    allocated: Option<u64>,
    blake3: Option<String>,
    target: Option<String>,
    target_hex: Option<String>,
    ino: Option<u64>,
    ctime_s: Option<i64>,
    ctime_ns: Option<u32>,
    problem: Option<String>,
    version: Option<String>,
    pub(super) end: bool,
    pub(super) block: Option<u64>,
    pub(super) done: Option<u64>,
    pub(super) written: bool,
    arrived: Option<bool>,
    missing: Option<u64>,
    first: Option<String>,
    first_hex: Option<String>,
    pub(super) why: Option<String>,
    pub(super) started: bool,
    pub(super) pid: Option<u32>,
    pub(super) start_time: Option<u64>,
    pub(super) failed: Option<String>,
    pub(super) refused: Option<String>,
    pub(super) ready: bool,
    pub(super) after_ms: Option<u64>,
    pub(super) exited: bool,
    code: Option<i32>,
    signal: Option<String>,
    max_rss_kib: Option<u64>,
    user_ms: Option<u64>,
    system_ms: Option<u64>,
    left_behind: Option<u64>,
    stuck: Option<u64>,
    command: Option<String>,
    ours: Option<bool>,
    ports: Option<String>,
    died_within_us: Option<u64>,
    lease_lapsed: bool,
    pub(super) guarding: bool,
    pub(super) healed: Option<bool>,
    pub(super) dismissed: bool,
    pub(super) data: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) answer: Option<u64>,
    pub(super) delivered: Option<u64>,
    pub(super) connections: Option<u64>,
    pub(super) fired: Option<u64>,
    pub(super) bytes: Option<u64>,
}

/// Size and hash of a file on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// In bytes, with the hash; or why not.
    pub content: Result<(u64, blake3::Hash), String>,
}

/// What runs as the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfDigest {
    /// Of the crate.
    pub version: String,
    /// Of its executable.
    pub hash: blake3::Hash,
}

/// The blocks of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Of the whole file.
    pub size: u64,
    /// Of each block but the last.
    pub block_bytes: u64,
    /// In order.
    pub hashes: Vec<blake3::Hash>,
}

/// Something under a name that a program gives its partial files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Relative to the root that was looked at.
    pub path: Name,
    /// In bytes.
    pub size: u64,
    /// In bytes on the disk; less than `size` where there are holes.
    pub allocated: u64,
    /// Why it could not be looked at.
    pub problem: Option<String>,
}

/// Whether everything came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// All of it, at the same look.
    Arrived,
    /// Not by then.
    Missing {
        /// How many paths.
        count: u64,
        /// One of them.
        first: Name,
        /// `absent`, `differs`, `size 7 instead of 9`
        why: String,
    },
}

/// A process that is attributable to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunProcess {
    /// Together with the start time this names it for good.
    pub pid: u32,
    /// In the kernel's ticks since the host was started.
    pub start_time: u64,
    /// Program and arguments, escaped and cut.
    pub command: String,
    /// It is a probe of this harness.
    pub is_ours: bool,
    /// TCP ports that it listens on.
    pub ports: Vec<u16>,
}

/// Processes until the end, and how many could not be killed.
pub(super) async fn run_processes(
    talk: &mut Conversation,
) -> Result<(Vec<RunProcess>, u64), ProbeError> {
    let mut processes = Vec::new();
    loop {
        let line = talk.needed_line().await?;
        if line.end {
            talk.end().await?;
            return Ok((processes, line.stuck.unwrap_or(0)));
        }
        if processes.len() >= PROCESSES_MAX {
            return Err(talk.nonsense("more processes than it ever tells"));
        }
        processes.push(RunProcess::of(line).map_err(|why| talk.nonsense(&why))?);
    }
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Of the whole file.
    pub size: u64,
    /// Of the whole file.
    pub hash: blake3::Hash,
}

/// A folder of files that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTree {
    /// Relative to the folder.
    pub files: Vec<(Name, Written)>,
    /// Of all of them.
    pub bytes: u64,
}

impl Digest {
    pub(super) fn of(line: Line) -> Result<Self, String> {
        let content = match line.problem {
            Some(problem) => Err(problem),
            None => Ok((line.size.ok_or("no size")?, hash_of(&line)?)),
        };
        Ok(Self { content })
    }
}

impl SelfDigest {
    pub(super) fn of(line: Line) -> Result<Self, String> {
        let hash = hash_of(&line)?;
        Ok(Self {
            version: line.version.ok_or("no version")?,
            hash,
        })
    }
}

impl Part {
    pub(super) fn of(line: Line) -> Result<Self, String> {
        let path = name(line.path, line.path_hex)?;
        if line.problem.is_none() && (line.size.is_none() || line.allocated.is_none()) {
            return Err(format!("no size of {path}"));
        }
        let (size, allocated) = (line.size.unwrap_or(0), line.allocated.unwrap_or(0));
        Ok(Self {
            path,
            size,
            allocated,
            problem: line.problem,
        })
    }
}

impl RunProcess {
    fn of(line: Line) -> Result<Self, String> {
        let ports = line.ports.ok_or("no ports")?;
        let ports = ports.split(',').filter(|port| !port.is_empty());
        let ports: Result<_, _> = ports.map(str::parse).collect();
        Ok(Self {
            pid: line.pid.ok_or("no pid")?,
            start_time: line.start_time.ok_or("no start time")?,
            command: escaped(line.command.ok_or("no command")?.as_bytes()),
            is_ours: line.ours.ok_or("neither ours nor theirs")?,
            ports: ports.map_err(|_| "a port that is none")?,
        })
    }
}

impl fmt::Display for RunProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = match self.command.as_str() {
            "" => "without a command line",
            command => command,
        };
        write!(f, "{command} (pid {})", self.pid)?;
        for port in &self.ports {
            write!(f, ", listens on port {port}")?;
        }
        Ok(())
    }
}

impl Arrival {
    pub(super) fn of(line: Line) -> Result<Self, String> {
        match line.arrived {
            None => Err("neither arrived nor missing".into()),
            Some(true) => Ok(Self::Arrived),
            Some(false) => Ok(Self::Missing {
                count: line.missing.ok_or("no number of missing paths")?,
                first: name(line.first, line.first_hex)?,
                why: line.why.ok_or("no reason")?,
            }),
        }
    }
}

impl Written {
    pub(super) fn of(line: &Line) -> Result<Self, String> {
        if !line.written && line.path.is_none() {
            return Err("neither progress nor an end".into());
        }
        Ok(Self {
            size: line.size.ok_or("no size")?,
            hash: hash_of(line)?,
        })
    }
}

impl WrittenTree {
    pub(super) fn add(&mut self, line: Line) -> Result<(), String> {
        let written = Written::of(&line)?;
        self.bytes = self.bytes.saturating_add(written.size);
        self.files.push((name(line.path, line.path_hex)?, written));
        Ok(())
    }
}

impl Exited {
    pub(super) fn of(line: &Line) -> Self {
        let time = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or(0));
        Self {
            code: line.code,
            signal: line.signal.clone(),
            max_rss_kib: line.max_rss_kib,
            user: time(line.user_ms),
            system: time(line.system_ms),
            left_behind: line.left_behind.unwrap_or(0),
            stuck: line.stuck.unwrap_or(0),
            died_within: line.died_within_us.map(Duration::from_micros),
            lease_lapsed: line.lease_lapsed,
        }
    }
}

impl Line {
    pub(super) fn into_manifest(self, manifest: &mut Manifest) -> Result<(), String> {
        let path = name(self.path, self.path_hex)?;
        if let Some(problem) = self.problem {
            manifest.problems.insert(path, problem);
            return Ok(());
        }
        let word = self.kind.ok_or_else(|| format!("no kind of {path}"))?;
        let kind = Kind::parse(&word).ok_or_else(|| format!("{path} is of unknown kind {word}"))?;
        let time = |seconds: Option<i64>, nanos: Option<u32>| {
            Some(Time {
                seconds: seconds?,
                nanos: nanos?,
            })
        };
        let target = match (self.target, self.target_hex) {
            (None, None) if kind == Kind::Link => return Err(format!("no target of {path}")),
            (None, None) => None,
            (Some(text), _) => Some(text.into_bytes()),
            (None, Some(digits)) => Some(unhex(&digits)?),
        };
        let stamp = match (self.ino, time(self.ctime_s, self.ctime_ns)) {
            (Some(inode), Some(changed)) => Some(Stamp { inode, changed }),
            _ => None,
        };
        let content = self.blake3.map(|digits| parse_hash(&digits)).transpose()?;
        if kind == Kind::File && content.is_none() && stamp.is_none() {
            return Err(format!("no hash of {path}"));
        }
        let entry = Entry {
            kind,
            mode: self.mode.ok_or_else(|| format!("no mode of {path}"))?,
            mtime: time(self.mtime_s, self.mtime_ns)
                .ok_or_else(|| format!("no mtime of {path}"))?,
            size: self.size.ok_or_else(|| format!("no size of {path}"))?,
            content,
            target,
            stamp,
        };
        if manifest.entries.contains_key(&path) {
            return Err(format!("{path} comes twice"));
        }
        manifest.entries.insert(path, entry);
        Ok(())
    }
}

pub(super) fn hash_of(line: &Line) -> Result<blake3::Hash, String> {
    parse_hash(line.blake3.as_deref().ok_or("no hash")?)
}

/// The lines that ask for paths, in pieces of a size that channels like.
pub(super) fn questions(wanted: &[Wanted]) -> Vec<Vec<u8>> {
    const PIECE_BYTES: usize = 16 * 1024;
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for one in wanted {
        // Writing to a String cannot fail.
        let _ = match &one.file {
            Some((hash, size)) => writeln!(
                piece,
                "{} {} {size}",
                hash.to_hex(),
                hex(one.path.as_bytes())
            ),
            None => writeln!(piece, "- {}", hex(one.path.as_bytes())),
        };
        if piece.len() >= PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece).into_bytes());
        }
    }
    piece.push_str("end\n");
    pieces.push(piece.into_bytes());
    pieces
}

fn name(text: Option<String>, digits: Option<String>) -> Result<Name, String> {
    let bytes = match (text, digits) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(digits)) => unhex(&digits)?,
        (None, None) => return Err("no path".into()),
    };
    let shown = crate::check::text::escaped(&bytes);
    Name::parse(bytes).ok_or_else(|| format!("`{shown}` is no path below a root"))
}

fn parse_hash(digits: &str) -> Result<blake3::Hash, String> {
    blake3::Hash::from_hex(digits).map_err(|error| format!("no hash: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(digits: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    };
    let bytes: Option<_> = digits.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| "no hexadecimal digits".into())
}
