//! A host reached over SSH: the [`Remote`] that every lab uses.
//!
//! One connection carries everything: each program has a channel of its own
//! (`program`), all files share one SFTP channel (`sftp`). A host that answers
//! nothing for 75 s, not even keep-alives, is lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, client};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::door::{Client, Entered};
use super::remote::{Command, OnBytes, Output, Remote, RemoteError, Running, Said, Stat};
use super::sftp::Sftp;
use super::spares::{Lease, Spares};
use super::wire::Cut;
use super::{program, shell};

pub use super::credential::{Credential, Own};
pub use super::door::{Door, Way};
pub use super::host_key::{HostKey, Known, Pin};

/// What a program may say to [`Remote::exec`], which keeps all of it in memory.
const OUTPUT_BYTES_MAX: usize = 256 << 20;

/// How long a host may refuse a session that it should have room for.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);

/// How often a host may close a channel before it has said what comes of it.
const OPENINGS_MAX: usize = 10;

/// How long a polite end may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A live connection; cheap to share behind an [`Arc`].
pub struct Ssh {
    link: Arc<Link>,
    sftp: Sftp,
    /// Where programs do not share a connection.
    spares: Option<Arc<Spares>>,
}

/// What the tasks of one connection share. The last one that drops it cuts the
/// socket, so nothing of a connection outlives its users.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) handle: client::Handle<Client>,
    pub(super) sessions: Arc<Semaphore>,
    lost: watch::Receiver<Option<String>>,
    leaving: Arc<AtomicBool>,
    pub(super) answer_deadline: Duration,
    _cut: Cut,
    /// What carries this connection, after it in this list and in the order of the end.
    pub(super) through: Option<Box<Entered>>,
}

/// What a channel is opened for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// To run this line.
    Program(&'a str),
    /// To move files.
    Files,
}

impl Link {
    pub(super) fn new(entered: Entered) -> Self {
        Self {
            name: entered.name,
            handle: entered.handle,
            sessions: Arc::new(Semaphore::new(entered.sessions_max)),
            lost: entered.lost,
            leaving: entered.leaving,
            answer_deadline: entered.answer_deadline,
            _cut: entered.cut,
            through: entered.through,
        }
    }

    /// The connection is gone: says why, as soon as that is known.
    pub(super) async fn lost(&self, doing: impl Into<String>) -> RemoteError {
        const REASON_DEADLINE: Duration = Duration::from_secs(1);
        let mut lost = self.lost.clone();
        let why = tokio::time::timeout(REASON_DEADLINE, lost.wait_for(Option::is_some)).await;
        let why = match why {
            Ok(Ok(why)) => why.clone(),
            _ => None,
        };
        RemoteError::Lost {
            host: self.name.clone(),
            doing: doing.into(),
            why: why.unwrap_or_else(|| "the channel broke".into()),
        }
    }

    /// It took too long.
    pub(super) fn late(&self, doing: impl Into<String>) -> RemoteError {
        RemoteError::Deadline {
            host: self.name.clone(),
            doing: doing.into(),
            seconds: self.answer_deadline.as_secs_f64(),
        }
    }

    /// Opens a channel for something; `None` if the host does not have it. The caller
    /// holds a permit of `sessions`.
    pub(super) async fn open(
        &self,
        purpose: Purpose<'_>,
        doing: &str,
    ) -> Result<Option<Channel<client::Msg>>, RemoteError> {
        for _ in 0..OPENINGS_MAX {
            let mut channel = self.open_session(doing).await?;
            let asked = match purpose {
                Purpose::Program(line) => channel.exec(true, line).await,
                Purpose::Files => channel.request_subsystem(true, "sftp").await,
            };
            if asked.is_err() {
                break;
            }
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => return Ok(Some(channel)),
                    Some(ChannelMsg::Failure) => {
                        let _ = channel.close().await;
                        return Ok(None);
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            // Closed before it was asked for anything, so that nothing was begun.
            if self.handle.is_closed() {
                break;
            }
        }
        Err(self.lost(doing).await)
    }

    async fn open_session(&self, doing: &str) -> Result<Channel<client::Msg>, RemoteError> {
        let end = Instant::now() + ROOM_DEADLINE;
        let mut pause = Duration::from_millis(2);
        loop {
            let reason = match self.handle.channel_open_session().await {
                Ok(channel) => return Ok(channel),
                Err(russh::Error::ChannelOpenFailure(reason)) => reason,
                Err(_) => return Err(self.lost(doing).await),
            };
            // sshd counts a session a little longer than its channel lives, and
            // as long as its program where we gave that up.
            let may_pass = reason != ChannelOpenFailure::AdministrativelyProhibited;
            if !may_pass || Instant::now() + pause > end {
                return Err(RemoteError::Failed {
                    host: self.name.clone(),
                    doing: doing.into(),
                    why: format!("the host opens no further session ({reason:?})"),
                });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

impl Ssh {
    /// Connects, checks the host's key and logs in.
    pub async fn connect(door: Door) -> Result<Self, RemoteError> {
        let again = door.again();
        let entered = door.enter().await?;
        let programs_max = entered.sessions_max;
        let again = again.filter(|_| entered.greeting.is_of_one_program());
        let link = Arc::new(Link::new(entered));
        let sftp = Sftp::new(link.clone());
        let spares = again.map(|door| Spares::new(door, link.clone(), programs_max));
        Ok(Self { link, sftp, spares })
    }

    async fn start(&self, command: &Command, doing: &str) -> Result<Running, RemoteError> {
        let lease = match &self.spares {
            Some(spares) => spares.lease(doing).await?,
            None => Lease::shared(&self.link),
        };
        program::start(lease, command, doing).await
    }

    async fn run(&self, mut command: Command, doing: &str) -> Result<Output, RemoteError> {
        let host = || self.link.name.clone();
        let stdin = std::mem::take(&mut command.stdin);
        let Running {
            stdin: input,
            mut said,
        } = self.start(&command, doing).await?;
        let feed = async move {
            for chunk in stdin.chunks(32 << 10) {
                // A program may end without reading its input.
                if input.send(chunk.to_vec()).await.is_err() {
                    break;
                }
            }
            drop(input);
            std::future::pending::<std::convert::Infallible>().await
        };
        let collect = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            loop {
                match said.recv().await {
                    Some(Said::Stdout(bytes)) => stdout.extend_from_slice(&bytes),
                    Some(Said::Stderr(bytes)) => stderr.extend_from_slice(&bytes),
                    Some(Said::Exit(exit)) => {
                        return Ok(Output {
                            exit,
                            stdout,
                            stderr,
                        });
                    }
                    Some(Said::Lost(error)) => return Err(error),
                    None => return Err(self.link.lost(doing).await),
                }
                if stdout.len() + stderr.len() > OUTPUT_BYTES_MAX {
                    return Err(RemoteError::Failed {
                        host: host(),
                        doing: doing.into(),
                        why: format!("it said more than {} MiB", OUTPUT_BYTES_MAX >> 20),
                    });
                }
            }
        };
        tokio::select! {
            output = collect => output,
            never = feed => match never {},
        }
    }
}

/// An error of the operating system without its number.
pub(super) fn readable(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return "the host closed it".into();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().collect::<String>() + chars.as_str(),
        None => String::new(),
    }
}

#[async_trait]
impl Remote for Ssh {
    fn name(&self) -> &str {
        &self.link.name
    }

    async fn exec(&self, command: Command) -> Result<Output, RemoteError> {
        let doing = format!("running `{}`", shell::readable(&command.argv));
        let deadline = command.deadline;
        // Dropping the unfinished future closes the channel.
        match tokio::time::timeout(deadline, self.run(command, &doing)).await {
            Ok(output) => output,
            Err(_) => Err(RemoteError::Deadline {
                host: self.link.name.clone(),
                doing,
                seconds: deadline.as_secs_f64(),
            }),
        }
    }

    async fn spawn(&self, command: Command) -> Result<Running, RemoteError> {
        let doing = format!("starting `{}`", shell::readable(&command.argv));
        let starting = self.start(&command, &doing);
        // Waiting for a free session included.
        match tokio::time::timeout(self.link.answer_deadline, starting).await {
            Ok(running) => running,
            Err(_) => Err(self.link.late(doing)),
        }
    }

    async fn upload(
        &self,
        from: &Path,
        to: &Path,
        mode: u32,
        on_bytes: OnBytes<'_>,
    ) -> Result<(), RemoteError> {
        self.sftp.upload(from, to, mode, on_bytes).await
    }

    async fn write(&self, to: &Path, bytes: &[u8], mode: u32) -> Result<(), RemoteError> {
        self.sftp.write(to, bytes, mode).await
    }

    async fn download(&self, from: &Path, to: &Path) -> Result<(), RemoteError> {
        self.sftp.download(from, to).await
    }

    async fn read(&self, from: &Path, offset: u64, length: usize) -> Result<Vec<u8>, RemoteError> {
        self.sftp.read(from, offset, length).await
    }

    async fn stat(&self, path: &Path) -> Result<Option<Stat>, RemoteError> {
        self.sftp.stat(path).await
    }

    async fn list(&self, path: &Path) -> Result<Vec<String>, RemoteError> {
        self.sftp.list(path).await
    }

    async fn make_dir(&self, path: &Path) -> Result<(), RemoteError> {
        self.sftp.make_dir(path).await
    }

    async fn close(&self) {
        if let Some(spares) = &self.spares {
            spares.close();
        }
        let farewell = async {
            self.link.leaving.store(true, Ordering::Relaxed);
            let by_us = russh::Disconnect::ByApplication;
            if self.link.handle.disconnect(by_us, "", "").await.is_ok() {
                let mut lost = self.link.lost.clone();
                let _ = lost.wait_for(Option::is_some).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_DEADLINE, farewell).await;
        // Then the hosts on the way, the farthest first.
        let mut hop = self.link.through.as_deref();
        while let Some(entered) = hop {
            entered.leaving.store(true, Ordering::Relaxed);
            let by_us = russh::Disconnect::ByApplication;
            let farewell = entered.handle.disconnect(by_us, "", "");
            let _ = tokio::time::timeout(CLOSE_DEADLINE, farewell).await;
            hop = entered.through.as_deref();
        }
    }
}
