//! The probe on a host, as the rest of the harness talks to it.
//!
//! One method a verb. What the probe says is checked line by line: nonsense, a
//! line without end or an early death is an error that shows the probe's own
//! complaint, never a verdict about the program under test.

mod answer;
mod capable;
mod conversation;
mod guarded;
mod held;
mod relayed;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::answer::{
    Arrival, Blocks, Digest, Part, RunProcess, SelfDigest, Written, WrittenTree,
};
pub use self::capable::{Capabilities, Cgroup};
pub use self::guarded::{GuardSpec, Guarded, UndoSpec};
pub use self::held::{ArmedKill, Exited, Held, HoldSpec, Readiness};
pub use self::relayed::{Point, Relay, RelayPlaces, RelaySpec, Relayed};

use self::answer::hash_of;
use self::conversation::Conversation;
use super::remote::{Command, OnBytes, Remote, RemoteError};
use crate::check::manifest::{Manifest, Name};
use crate::scenario::{Content, How};

/// Hashing a tree: hundreds of gigabytes at a gigabyte a second.
const LOOK_DEADLINE: Duration = Duration::from_secs(600);
/// A few files of /proc are read, and a list of modules.
const CAPS_DEADLINE: Duration = Duration::from_secs(30);
/// All of /proc is read, on a slow host with thousands of processes.
const PROCESSES_DEADLINE: Duration = Duration::from_secs(30);
/// A generated file of many gigabytes on a slow disk.
const WRITE_DEADLINE: Duration = Duration::from_secs(1800);
/// A folder of many files on a slow disk.
const REMOVE_DEADLINE: Duration = Duration::from_secs(60);
/// What an answer may take on top of the time it was asked to wait.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);

/// How much of a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What `stat` says, with inode and ctime: enough to see that nothing moved.
    Quick,
    /// Also the content.
    Hashed,
}

/// What must lie under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Relative to the root.
    pub path: Name,
    /// Content and size of the file; `None` wants a folder.
    pub file: Option<(blake3::Hash, u64)>,
}

/// A file to be generated on the host.
#[derive(Debug, Clone)]
pub struct WriteSpec {
    /// Where it belongs.
    pub dest: PathBuf,
    /// What its content follows from.
    pub seed: String,
    /// In bytes.
    pub size: u64,
    /// A name on the same file system, outside the share.
    pub temp: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// What it is filled with.
    pub content: Content,
    /// How it appears.
    pub how: How,
}

/// A folder of files to be generated on the host.
#[derive(Debug, Clone)]
pub struct TreeSpec {
    /// Where it belongs.
    pub dest: PathBuf,
    /// With the relative path, the seed of each file.
    pub seed: String,
    /// How many.
    pub files: u64,
    /// Of each, in bytes.
    pub size: u64,
    /// A name on the same file system, outside the share.
    pub temp: PathBuf,
}

/// Why the probe gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The connection, not the probe.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It ran and could not: disk full, no such folder.
    #[error("the probe on host {host} failed at {doing}: {why}")]
    Failed {
        /// The host.
        host: String,
        /// The verb.
        doing: String,
        /// Its own words.
        why: String,
    },
    /// It said something it never says.
    #[error("the probe on host {host} talks nonsense at {doing}: {why}")]
    Nonsense {
        /// The host.
        host: String,
        /// The verb.
        doing: String,
        /// What, with its complaints.
        why: String,
    },
    /// The program to be held could not be executed.
    #[error("cannot start {program} on host {host}: {why}")]
    NotStarted {
        /// The host.
        host: String,
        /// Its path.
        program: String,
        /// The operating system's reason.
        why: String,
    },
}

/// The probe of one host.
#[derive(Clone)]
pub struct Probe {
    /// The way to the host.
    pub remote: Arc<dyn Remote>,
    /// The probe's place there.
    pub path: PathBuf,
}

impl Probe {
    /// The probe that was deployed to `path`.
    pub fn new(remote: Arc<dyn Remote>, path: impl Into<PathBuf>) -> Self {
        Self {
            remote,
            path: path.into(),
        }
    }

    /// Size and hash of files; a file that cannot be read has its reason instead.
    pub async fn digest(&self, files: &[PathBuf]) -> Result<Vec<Digest>, ProbeError> {
        let mut argv = vec!["digest".to_string()];
        for file in files {
            argv.push(self.text(file)?);
        }
        let mut talk = self.talk(argv, LOOK_DEADLINE).await?;
        let mut digests = Vec::new();
        while let Some(line) = talk.line().await? {
            digests.push(Digest::of(line).map_err(|why| talk.nonsense(&why))?);
        }
        if digests.len() != files.len() {
            return Err(talk.nonsense(&format!(
                "{} answers for {} files",
                digests.len(),
                files.len()
            )));
        }
        Ok(digests)
    }

    /// The probe's own version and hash.
    pub async fn self_digest(&self) -> Result<SelfDigest, ProbeError> {
        let mut talk = self.talk(vec!["self".into()], LOOK_DEADLINE).await?;
        let line = talk.needed_line().await?;
        let own = SelfDigest::of(line).map_err(|why| talk.nonsense(&why))?;
        talk.end().await?;
        Ok(own)
    }

    /// What the host can do; the space is that of `folder`, which need not be there yet.
    pub async fn capabilities(&self, folder: &Path) -> Result<Capabilities, ProbeError> {
        let argv = vec!["caps".into(), self.text(folder)?];
        let asked = SystemTime::now();
        let mut talk = self.talk(argv, CAPS_DEADLINE).await?;
        let told = talk.needed_line_of().await?;
        let answered = SystemTime::now();
        let capabilities = Capabilities::of(told, asked, answered);
        let capabilities = capabilities.map_err(|why| talk.nonsense(&why))?;
        talk.end().await?;
        Ok(capabilities)
    }

    /// Everything below `root`; names of `skip` directly below it are left out.
    pub async fn tree(
        &self,
        root: &Path,
        skip: &[&str],
        depth: Depth,
    ) -> Result<Manifest, ProbeError> {
        let mut argv = vec!["look".to_string(), "tree".into(), self.text(root)?];
        if depth == Depth::Quick {
            argv.push("--quick".into());
        }
        argv.extend(
            skip.iter()
                .flat_map(|name| ["--skip".to_string(), (*name).to_string()]),
        );
        let mut talk = self.talk(argv, LOOK_DEADLINE).await?;
        let mut manifest = Manifest::default();
        loop {
            let line = talk.needed_line().await?;
            if line.end {
                break;
            }
            line.into_manifest(&mut manifest)
                .map_err(|why| talk.nonsense(&why))?;
        }
        talk.end().await?;
        Ok(manifest)
    }

    /// The hash of each block of a file.
    pub async fn blocks(&self, file: &Path, block_bytes: u64) -> Result<Blocks, ProbeError> {
        let argv = vec![
            "look".into(),
            "blocks".into(),
            self.text(file)?,
            "--block".into(),
            block_bytes.to_string(),
        ];
        let mut talk = self.talk(argv, LOOK_DEADLINE).await?;
        let first = talk.needed_line().await?;
        let size = first.size.ok_or_else(|| talk.nonsense("no size"))?;
        let mut hashes = Vec::new();
        loop {
            let line = talk.needed_line().await?;
            if line.end {
                break;
            }
            if line.block != Some(hashes.len() as u64) {
                return Err(talk.nonsense("blocks out of order"));
            }
            hashes.push(hash_of(&line).map_err(|why| talk.nonsense(&why))?);
        }
        talk.end().await?;
        Ok(Blocks {
            size,
            block_bytes,
            hashes,
        })
    }

    /// What lies under names that match; a star stays within one component.
    pub async fn parts(&self, root: &Path, globs: &[String]) -> Result<Vec<Part>, ProbeError> {
        let mut argv = vec!["look".into(), "parts".into(), self.text(root)?];
        argv.extend(globs.iter().cloned());
        let mut talk = self.talk(argv, LOOK_DEADLINE).await?;
        let mut parts = Vec::new();
        loop {
            let line = talk.needed_line().await?;
            if line.end {
                break;
            }
            parts.push(Part::of(line).map_err(|why| talk.nonsense(&why))?);
        }
        talk.end().await?;
        Ok(parts)
    }

    /// Waits until everything wanted is there at once, or for `within`. The time
    /// counts from when the probe begins to look.
    pub async fn arrives(
        &self,
        root: &Path,
        wanted: &[Wanted],
        within: Duration,
    ) -> Result<Arrival, ProbeError> {
        let within_ms = within.as_millis().to_string();
        let argv = vec![
            "look".into(),
            "arrives".into(),
            self.text(root)?,
            "--within".into(),
            within_ms,
        ];
        let mut talk = self.talk(argv, within + ANSWER_MARGIN).await?;
        for question in answer::questions(wanted) {
            talk.order(question).await?;
        }
        let line = talk.needed_line().await?;
        let arrival = Arrival::of(line).map_err(|why| talk.nonsense(&why))?;
        talk.end().await?;
        Ok(arrival)
    }

    /// The processes that are attributable to a run, the probe's own among them.
    pub async fn run_processes(&self, run: &str) -> Result<Vec<RunProcess>, ProbeError> {
        let argv = vec!["look".into(), "run".into(), run.to_owned()];
        let mut talk = self.talk(argv, PROCESSES_DEADLINE).await?;
        Ok(answer::run_processes(&mut talk).await?.0)
    }

    /// Kills those of them that are not the probe's own, exactly; tells which there
    /// were.
    pub async fn end_run(&self, run: &str) -> Result<Vec<RunProcess>, ProbeError> {
        let argv = vec!["end".into(), run.to_owned()];
        let mut talk = self.talk(argv, PROCESSES_DEADLINE).await?;
        let (ended, stuck) = answer::run_processes(&mut talk).await?;
        if stuck == 0 {
            return Ok(ended);
        }
        let host = self.remote.name().to_owned();
        let ended: Vec<_> = ended.iter().map(ToString::to_string).collect();
        Err(ProbeError::Failed {
            host,
            doing: "end".into(),
            why: format!(
                "{stuck} processes of the run cannot be killed, of {}",
                ended.join("; ")
            ),
        })
    }

    /// Generates a file. `on_bytes` hears of the bytes written so far.
    pub async fn write(
        &self,
        spec: &WriteSpec,
        on_bytes: OnBytes<'_>,
    ) -> Result<Written, ProbeError> {
        let mut argv = vec![
            "write".into(),
            self.text(&spec.dest)?,
            "--seed".into(),
            spec.seed.clone(),
        ];
        argv.extend([
            "--size".into(),
            spec.size.to_string(),
            "--temp".into(),
            self.text(&spec.temp)?,
        ]);
        argv.extend([
            "--mode".into(),
            format!("{:o}", spec.mode),
            "--content".into(),
        ]);
        argv.push(
            match spec.content {
                Content::Random => "random",
                Content::Text => "text",
                Content::Zeros => "zeros",
            }
            .into(),
        );
        if spec.how == How::InPlace {
            argv.push("--in-place".into());
        }
        let mut talk = self.talk(argv, WRITE_DEADLINE).await?;
        loop {
            let line = talk.needed_line().await?;
            if let Some(done) = line.done {
                on_bytes(done);
            } else {
                let written = Written::of(&line).map_err(|why| talk.nonsense(&why))?;
                talk.end().await?;
                return Ok(written);
            }
        }
    }

    /// Generates a folder of files. `on_files` hears of the files written so far.
    pub async fn tree_write(
        &self,
        spec: &TreeSpec,
        on_files: OnBytes<'_>,
    ) -> Result<WrittenTree, ProbeError> {
        let mut argv = vec![
            "tree".into(),
            self.text(&spec.dest)?,
            "--seed".into(),
            spec.seed.clone(),
        ];
        argv.extend([
            "--files".into(),
            spec.files.to_string(),
            "--size".into(),
            spec.size.to_string(),
        ]);
        argv.extend(["--temp".into(), self.text(&spec.temp)?]);
        let mut talk = self.talk(argv, WRITE_DEADLINE).await?;
        let mut tree = WrittenTree {
            files: Vec::new(),
            bytes: 0,
        };
        loop {
            let line = talk.needed_line().await?;
            if line.written {
                break;
            }
            tree.add(line).map_err(|why| talk.nonsense(&why))?;
            on_files(tree.files.len() as u64);
        }
        talk.end().await?;
        Ok(tree)
    }

    /// Puts new bytes over a part of a file, in place.
    pub async fn overwrite(
        &self,
        file: &Path,
        seed: &str,
        at: u64,
        size: u64,
    ) -> Result<Written, ProbeError> {
        let mut argv = vec![
            "overwrite".into(),
            self.text(file)?,
            "--seed".into(),
            seed.to_string(),
        ];
        argv.extend([
            "--at".into(),
            at.to_string(),
            "--size".into(),
            size.to_string(),
        ]);
        let mut talk = self.talk(argv, WRITE_DEADLINE).await?;
        let line = talk.needed_line().await?;
        let written = Written::of(&line).map_err(|why| talk.nonsense(&why))?;
        talk.end().await?;
        Ok(written)
    }

    /// Starts a program under a holder; returns once it runs.
    pub async fn hold(&self, spec: &HoldSpec) -> Result<Held, ProbeError> {
        let talk = self.talk(self.hold_argv(spec)?, Duration::MAX).await?;
        Held::open(talk, spec.argv.first().map_or("", String::as_str)).await
    }

    /// Talks to a holder again whose channel was lost; also tells how it ended, if it has.
    pub async fn reconnect(&self, dir: &Path) -> Result<Held, ProbeError> {
        let talk = self
            .talk(
                vec!["ctl".into(), "--dir".into(), self.text(dir)?],
                Duration::MAX,
            )
            .await?;
        Held::open(talk, &dir.display().to_string()).await
    }

    /// Puts a folder under guard: it is removed when the lease lapses.
    pub async fn guard(&self, spec: &GuardSpec) -> Result<Guarded, ProbeError> {
        self.open_guard(spec, Vec::new()).await
    }

    /// Makes a folder that bears the id and is under guard from the first moment on;
    /// its parent must be there.
    pub async fn guard_new(&self, spec: &GuardSpec) -> Result<Guarded, ProbeError> {
        self.open_guard(spec, vec!["--make".into()]).await
    }

    async fn open_guard(
        &self,
        spec: &GuardSpec,
        options: Vec<String>,
    ) -> Result<Guarded, ProbeError> {
        let mut argv = vec!["guard".into(), "--dir".into(), self.text(&spec.dir)?];
        argv.extend(["--id".into(), spec.id.clone()]);
        argv.extend(["--lease-ms".into(), spec.lease.as_millis().to_string()]);
        argv.extend(options);
        Guarded::open(self.talk(argv, Duration::MAX).await?, REMOVE_DEADLINE).await
    }

    /// Keeps the undo of a fault: it is performed when it is healed or when the lease
    /// lapses. To be called before the fault is injected.
    pub async fn guard_undo(&self, spec: &UndoSpec) -> Result<Guarded, ProbeError> {
        let mut argv = vec!["guard".into(), "--undo".into()];
        argv.extend(["--dir".into(), self.text(&spec.dir)?]);
        argv.extend(["--lease-ms".into(), spec.lease.as_millis().to_string()]);
        argv.extend(["--within-ms".into(), spec.within.as_millis().to_string()]);
        argv.push("--".into());
        argv.extend(spec.argv.iter().cloned());
        Guarded::open(self.talk(argv, Duration::MAX).await?, spec.within).await
    }

    /// Starts one end of a wire between two hosts.
    pub async fn relay(&self, spec: &RelaySpec) -> Result<Relay, ProbeError> {
        let mut argv = vec!["relay".into(), "--data".into(), spec.data.to_string()];
        argv.extend(["--lease-ms".into(), spec.lease.as_millis().to_string()]);
        if let Some(rate) = spec.rate {
            argv.extend(["--rate".into(), rate.to_string()]);
        }
        argv.extend(["--delay-us".into(), spec.delay.as_micros().to_string()]);
        Relay::open(self.talk(argv, Duration::MAX).await?, spec.lease).await
    }

    fn hold_argv(&self, spec: &HoldSpec) -> Result<Vec<String>, ProbeError> {
        let mut argv = vec!["hold".into(), "--dir".into(), self.text(&spec.dir)?];
        argv.extend(["--lease-ms".into(), spec.lease.as_millis().to_string()]);
        if let Some(cwd) = &spec.cwd {
            argv.extend(["--cwd".into(), self.text(cwd)?]);
        }
        for (key, value) in &spec.env {
            argv.extend(["--env".into(), format!("{key}={value}")]);
        }
        if let Some(port) = spec.listen {
            argv.extend(["--listen".into(), port.to_string()]);
        }
        if let Some(files) = spec.open_files {
            argv.extend(["--nofile".into(), files.to_string()]);
        }
        argv.push("--".into());
        argv.extend(spec.argv.iter().cloned());
        Ok(argv)
    }

    async fn talk(
        &self,
        arguments: Vec<String>,
        within: Duration,
    ) -> Result<Conversation, ProbeError> {
        let looks = arguments.first().is_some_and(|verb| verb == "look");
        let doing = arguments
            .iter()
            .take(if looks { 2 } else { 1 })
            .cloned()
            .collect::<Vec<_>>()
            .join(" ");
        let program = self.text(&self.path)?;
        let running = self
            .remote
            .spawn(Command::new(std::iter::once(program).chain(arguments)))
            .await?;
        Ok(Conversation::new(
            self.remote.name(),
            doing,
            running,
            within,
        ))
    }

    fn text(&self, path: &Path) -> Result<String, ProbeError> {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| ProbeError::Failed {
                host: self.remote.name().to_owned(),
                doing: "its command line".into(),
                why: format!("{} is not UTF-8", path.display()),
            })
    }
}
