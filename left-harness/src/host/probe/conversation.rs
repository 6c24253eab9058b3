//! One run of the probe: orders in, checked lines out.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ProbeError;
use super::answer::Line;
use crate::check::text::escaped;
use crate::host::remote::{Exit, RemoteError, Running, Said};

/// A path in hexadecimal has 8 KiB; a line of this length is no line of ours.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// The last of its complaints are the interesting ones.
const STDERR_BYTES_MAX: usize = 8 * 1024;
/// Lines of complaints that are shown.
const STDERR_LINES_SHOWN: usize = 5;
/// Instants far away overflow; no conversation lasts a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A probe that runs.
pub(super) struct Conversation {
    host: String,
    doing: String,
    within: Duration,
    deadline: Instant,
    stdin: mpsc::Sender<Vec<u8>>,
    said: mpsc::Receiver<Said>,
    /// What was said and not yet read starts at `start`.
    pending: Vec<u8>,
    start: usize,
    stderr: Vec<u8>,
    exit: Option<Exit>,
}

impl Conversation {
    pub(super) fn new(host: &str, doing: String, running: Running, within: Duration) -> Self {
        Self {
            host: host.to_owned(),
            doing,
            within,
            deadline: Instant::now() + within.min(FOREVER),
            stdin: running.stdin,
            said: running.said,
            pending: Vec::new(),
            start: 0,
            stderr: Vec::new(),
            exit: None,
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// For orders from other tasks.
    pub(super) fn orders(&self) -> mpsc::Sender<Vec<u8>> {
        self.stdin.clone()
    }

    /// Gives up our own end of its input: it closes when the last of [`Self::orders`] goes.
    pub(super) fn only_listen(&mut self) {
        self.stdin = mpsc::channel(1).0;
    }

    pub(super) async fn order(&mut self, bytes: Vec<u8>) -> Result<(), ProbeError> {
        match tokio::time::timeout_at(self.deadline, self.stdin.send(bytes)).await {
            // Why nobody listens any more is told by what it says next.
            Ok(_) => Ok(()),
            Err(_) => Err(self.late()),
        }
    }

    /// The next line; `None` once it has ended well.
    pub(super) async fn line(&mut self) -> Result<Option<Line>, ProbeError> {
        self.line_of().await
    }

    /// The next line of a kind of its own; `None` once it has ended well.
    async fn line_of<L: DeserializeOwned>(&mut self) -> Result<Option<L>, ProbeError> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Some(line));
            }
            let said = tokio::time::timeout_at(self.deadline, self.said.recv())
                .await
                .map_err(|_| self.late())?;
            match said {
                Some(Said::Stdout(bytes)) => self.pending.extend_from_slice(&bytes),
                Some(Said::Stderr(bytes)) => self.complain(&bytes),
                Some(Said::Exit(exit)) => self.exit = Some(exit),
                Some(Said::Lost(error)) => return Err(error.into()),
                None => return self.over(),
            }
        }
    }

    /// The next line, which must come.
    pub(super) async fn needed_line(&mut self) -> Result<Line, ProbeError> {
        self.needed_line_of().await
    }

    /// The next line of a kind of its own, which must come.
    pub(super) async fn needed_line_of<L: DeserializeOwned>(&mut self) -> Result<L, ProbeError> {
        match self.line_of().await? {
            Some(line) => Ok(line),
            None => Err(self.nonsense("it ended in the middle")),
        }
    }

    /// Nothing more may come, and it must end well.
    pub(super) async fn end(&mut self) -> Result<(), ProbeError> {
        match self.line().await? {
            Some(_) => Err(self.nonsense("it goes on after the end")),
            None => Ok(()),
        }
    }

    pub(super) fn nonsense(&self, why: &str) -> ProbeError {
        let mut why = why.to_owned();
        let complaints = self.complaints();
        if !complaints.is_empty() {
            why = format!("{why} ({complaints})");
        }
        ProbeError::Nonsense {
            host: self.host.clone(),
            doing: self.doing.clone(),
            why,
        }
    }

    fn take_line<L: DeserializeOwned>(&mut self) -> Result<Option<L>, ProbeError> {
        let waiting = &self.pending[self.start..];
        let Some(end) = waiting.iter().position(|byte| *byte == b'\n') else {
            if waiting.len() > LINE_BYTES_MAX {
                return Err(self.nonsense(&format!("a line longer than {LINE_BYTES_MAX} bytes")));
            }
            self.pending.drain(..self.start);
            self.start = 0;
            return Ok(None);
        };
        let text = &waiting[..end];
        let parsed = serde_json::from_slice(text);
        let line = parsed.map_err(|error| {
            let shown = &text[..text.len().min(200)];
            self.nonsense(&format!("{error} in `{}`", escaped(shown)))
        })?;
        self.start += end + 1;
        Ok(Some(line))
    }

    fn over<L>(&self) -> Result<Option<L>, ProbeError> {
        let complaints = self.complaints();
        let because = |what: String| {
            if complaints.is_empty() {
                what
            } else {
                complaints.clone()
            }
        };
        let why = match &self.exit {
            Some(Exit::Code(0)) if self.pending.len() > self.start => {
                return Err(self.nonsense("half a line"));
            }
            Some(Exit::Code(0)) => return Ok(None),
            Some(Exit::Code(code)) => because(format!("it exited with code {code}")),
            Some(Exit::Signal(name)) if complaints.is_empty() => {
                format!("it was killed by SIG{name}")
            }
            Some(Exit::Signal(name)) => format!("it was killed by SIG{name}: {complaints}"),
            None => {
                return Err(ProbeError::Remote(RemoteError::Lost {
                    host: self.host.clone(),
                    doing: self.doing.clone(),
                    why: because("the channel closed".into()),
                }));
            }
        };
        Err(ProbeError::Failed {
            host: self.host.clone(),
            doing: self.doing.clone(),
            why,
        })
    }

    fn complain(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
        let excess = self.stderr.len().saturating_sub(STDERR_BYTES_MAX);
        self.stderr.drain(..excess);
    }

    fn complaints(&self) -> String {
        let lines: Vec<_> = self
            .stderr
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(STDERR_LINES_SHOWN)..];
        last.iter()
            .map(|line| escaped(line))
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn late(&self) -> ProbeError {
        ProbeError::Remote(RemoteError::Deadline {
            host: self.host.clone(),
            doing: format!("the probe's {}", self.doing),
            seconds: self.within.as_secs_f64(),
        })
    }
}
