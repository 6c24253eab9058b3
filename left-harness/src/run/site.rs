//! A host's own folders in a run, and the program that runs there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use crate::host::probe::{Exited, Held, Probe};
use crate::lab::Host;
use crate::sut::adapter::Places;

/// A host's own folders in this run, and what runs there.
pub struct Site {
    /// `a`
    pub name: String,
    /// The probe on this host.
    pub probe: Probe,
    /// Where the program lies; `None` for one that the adapter finds by itself.
    pub program: Option<PathBuf>,
    /// The run's folder on this host; all others are in it.
    pub root: PathBuf,
    /// Where the share lies, and beside it what is renamed into it.
    pub ground: PathBuf,
    /// Where the program listens.
    pub listen: SocketAddr,
    /// Where it finds its peer.
    pub peer: SocketAddr,
    process: Mutex<Process>,
}

#[derive(Default)]
struct Process {
    starts: u32,
    held: Option<Held>,
    /// It was told to end, so that its end is no surprise.
    ending: bool,
    exits: Vec<Exited>,
}

impl Site {
    /// A host on which nothing runs yet.
    pub fn new(
        host: &Host,
        probe: Probe,
        program: Option<PathBuf>,
        root: PathBuf,
        ground: PathBuf,
    ) -> Self {
        Self {
            name: host.name.clone(),
            probe,
            program,
            root,
            ground,
            listen: host.listen,
            peer: host.peer,
            process: Mutex::default(),
        }
    }

    /// The directory that is kept the same.
    pub fn share(&self) -> PathBuf {
        self.ground.join("share")
    }

    /// Where the program may put what is not shared.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where content is made before it is renamed into the share.
    pub fn temp(&self) -> PathBuf {
        self.ground.join("temp")
    }

    /// Where the `n`th start of the program keeps its log, from 1.
    pub fn hold_dir(&self, start: u32) -> PathBuf {
        self.root.join(format!("hold-{start}"))
    }

    /// Where things are on this host, for the adapter.
    pub fn places(&self) -> Places {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Places {
            bin: self.program.clone().map(text).unwrap_or_default(),
            share: text(self.share()),
            state: text(self.state()),
            listen: self.listen,
            peer: self.peer,
        }
    }

    /// How often the program was started.
    pub fn starts(&self) -> u32 {
        self.process().starts
    }

    /// The number of the next start, from 1.
    pub fn next_start(&self) -> u32 {
        let mut process = self.process();
        process.starts += 1;
        process.starts
    }

    /// The program is meant to run from now on.
    pub fn runs(&self, held: Held) {
        let mut process = self.process();
        process.held = Some(held);
        process.ending = false;
    }

    /// The program, if it is meant to run.
    pub fn held(&self) -> Option<Held> {
        self.process().held.clone()
    }

    /// The program is about to be told to end.
    pub fn is_to_end(&self) {
        self.process().ending = true;
    }

    /// Whether it was told to end.
    pub fn is_ending(&self) -> bool {
        self.process().ending
    }

    /// The program is not meant to run any more.
    pub fn ended(&self, exited: &Exited) {
        let mut process = self.process();
        // Two may have waited for the same end.
        if process.held.take().is_some() {
            process.exits.push(exited.clone());
        }
    }

    /// How each of its processes ended.
    pub fn exits(&self) -> Vec<Exited> {
        self.process().exits.clone()
    }

    /// The end of the current process's log.
    pub async fn log_tail(&self) -> Vec<String> {
        const TAIL_BYTES: usize = 64 * 1024;
        const LINES: usize = 12;
        let log = self.hold_dir(self.starts()).join("log");
        let remote = &self.probe.remote;
        let size = remote
            .stat(&log)
            .await
            .ok()
            .flatten()
            .map_or(0, |stat| stat.size);
        let offset = size.saturating_sub(TAIL_BYTES as u64);
        let bytes = remote
            .read(&log, offset, TAIL_BYTES)
            .await
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(LINES)..].to_vec()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
