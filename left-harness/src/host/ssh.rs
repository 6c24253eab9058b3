//! A host reached over SSH: the [`Remote`] that every lab uses.
//!
//! One connection carries everything: each program has a channel of its own
//! (`program`), all files share one SFTP channel (`sftp`). A host
//! that answers nothing for 75 s, not even keep-alives, is lost.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use russh::client::{self, DisconnectReason};

use russh::keys::{Algorithm, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure, Preferred, cipher};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::keys::{PrivateKey, PublicKey, fingerprint};
use super::remote::{Command, OnBytes, Output, Remote, RemoteError, Running, Said, Stat};
use super::sftp::Sftp;
use super::wire::{Cut, wire};
use super::{program, shell};

/// What a program may say to [`Remote::exec`], which keeps all of it in memory.
const OUTPUT_BYTES_MAX: usize = 256 << 20;

/// Programs and the file channel at once: `MaxSessions` of OpenSSH's sshd.
const SESSIONS_MAX: usize = 10;

/// From dialling to being logged in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// Four unanswered keep-alives end the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_MAX: usize = 4;

/// Messages of one channel that wait for its task, which never lets them wait.
const CHANNEL_MESSAGES_MAX: usize = 256;

/// How long a host may refuse a session that it should have room for.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);

/// How long a polite end may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How a host is reached and how both sides know each other.
pub struct Door {
    name: String,
    way: Way,
    user: String,
    credential: Credential,
    host_key: HostKey,
    sessions_max: usize,
    connect_deadline: Duration,
}

/// Where a host listens.
#[non_exhaustive]
pub enum Way {
    /// Straight over TCP.
    Tcp {
        /// Name or address.
        address: String,
        /// Port of the SSH server.
        port: u16,
    },
}

/// What we prove who we are with.
#[non_exhaustive]
pub enum Credential {
    /// A private key in memory.
    Key(Arc<PrivateKey>),
}

/// What the host must prove.
#[non_exhaustive]
pub enum HostKey {
    /// It must have exactly this key.
    Pinned(PublicKey),
}

impl Door {
    /// The way into host `name`, with 10 sessions at once and 20 s to connect.
    pub fn new(
        name: impl Into<String>,
        way: Way,
        user: impl Into<String>,
        credential: Credential,
        host_key: HostKey,
    ) -> Self {
        Self {
            name: name.into(),
            way,
            user: user.into(),
            credential,
            host_key,
            sessions_max: SESSIONS_MAX,
            connect_deadline: CONNECT_DEADLINE,
        }
    }

    /// As many programs at once instead; one session more carries the files.
    pub fn sessions_max(mut self, sessions_max: usize) -> Self {
        self.sessions_max = sessions_max.max(2);
        self
    }

    /// As long to connect and log in instead.
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    #[cfg(test)]
    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    fn at(&self) -> String {
        match &self.way {
            Way::Tcp { address, port } if address.contains(':') => format!("[{address}]:{port}"),
            Way::Tcp { address, port } => format!("{address}:{port}"),
        }
    }
}

/// A live connection; cheap to share behind an [`Arc`].
pub struct Ssh {
    link: Arc<Link>,
    sftp: Sftp,
}

/// What the tasks of one connection share. The last one that drops it cuts the
/// socket, so nothing of a connection outlives its users.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) handle: client::Handle<Client>,
    pub(super) sessions: Arc<Semaphore>,
    lost: watch::Receiver<Option<String>>,
    leaving: Arc<AtomicBool>,
    _cut: Cut,
}

impl Link {
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

    /// Opens a channel; the caller holds a permit of `sessions`.
    pub(super) async fn open_session(
        &self,
        doing: &str,
    ) -> Result<Channel<client::Msg>, RemoteError> {
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
        let at = door.at();
        let deadline = door.connect_deadline;
        let stage = Mutex::new("no connection");
        match tokio::time::timeout(deadline, connect(&door, &at, &stage)).await {
            Ok(connected) => connected,
            Err(_) => {
                let stage = stage.lock().map_or("", |stage| *stage);
                Err(RemoteError::Connect {
                    host: door.name,
                    at,
                    why: format!("{stage} within {} s", deadline.as_secs_f64()),
                })
            }
        }
    }

    async fn run(&self, mut command: Command, doing: &str) -> Result<Output, RemoteError> {
        let host = || self.link.name.clone();
        let stdin = std::mem::take(&mut command.stdin);
        let Running {
            stdin: input,
            mut said,
        } = program::start(&self.link, &command, doing).await?;
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

async fn connect(door: &Door, at: &str, stage: &Mutex<&str>) -> Result<Ssh, RemoteError> {
    let connect_error = |why: String| RemoteError::Connect {
        host: door.name.clone(),
        at: at.into(),
        why,
    };
    let login_error = |why: String| RemoteError::Login {
        host: door.name.clone(),
        at: at.into(),
        why,
    };
    let reached = |next: &'static str| {
        if let Ok(mut stage) = stage.lock() {
            *stage = next;
        }
    };

    let Way::Tcp { address, port } = &door.way;
    let stream = TcpStream::connect((address.as_str(), *port))
        .await
        .map_err(|error| connect_error(readable(&error)))?;
    // Without it a small request waits 40 ms for the answer to the one before.
    stream
        .set_nodelay(true)
        .map_err(|error| connect_error(readable(&error)))?;
    reached("connected, but no SSH handshake");

    let HostKey::Pinned(pinned) = &door.host_key;
    let (lost_sender, lost) = watch::channel(None);
    let shown = Arc::new(Mutex::new(None));
    let leaving = Arc::new(AtomicBool::new(false));
    let client = Client {
        pinned: pinned.clone(),
        shown: shown.clone(),
        lost: lost_sender,
        leaving: leaving.clone(),
    };
    let (stream, cut) = wire(stream);
    let connected =
        client::connect_stream(Arc::new(config(pinned.algorithm())), stream, client).await;
    let mut handle = match connected {
        Ok(handle) => handle,
        Err(error) => {
            let shown = shown.lock().ok().and_then(|mut shown| shown.take());
            return Err(match shown {
                Some(shown) => login_error(format!(
                    "it shows the key {shown}, but {} is expected: it is another machine, \
                     or somebody stands in between",
                    fingerprint(pinned)
                )),
                None => connect_error(match error {
                    russh::Error::Disconnect | russh::Error::IO(_) => {
                        "it closed the connection before the SSH handshake was done".into()
                    }
                    other => other.to_string(),
                }),
            });
        }
    };
    reached("no answer to the login");

    let Credential::Key(key) = &door.credential;
    let hash = if key.algorithm().is_rsa() {
        handle
            .best_supported_rsa_hash()
            .await
            .ok()
            .flatten()
            .flatten()
    } else {
        None
    };
    let ours = fingerprint(key.public_key());
    let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
    match handle.authenticate_publickey(&door.user, key).await {
        Ok(answer) if answer.success() => {}
        Ok(_) if handle.is_closed() => {
            return Err(login_error(
                "it closed the connection during the login".into(),
            ));
        }
        Ok(_) => {
            return Err(login_error(format!(
                "it does not accept the key {ours} for user {}",
                door.user
            )));
        }
        Err(error) => return Err(login_error(error.to_string())),
    }

    let link = Arc::new(Link {
        name: door.name.clone(),
        handle,
        sessions: Arc::new(Semaphore::new(door.sessions_max)),
        lost,
        leaving,
        _cut: cut,
    });
    let sftp = Sftp::new(link.clone());
    Ok(Ssh { link, sftp })
}

fn config(host_key: Algorithm) -> client::Config {
    let mut keys = vec![host_key.clone()];
    if host_key.is_rsa() {
        // One key, three ways to sign with it; never the one with SHA-1.
        keys = [russh::keys::HashAlg::Sha512, russh::keys::HashAlg::Sha256]
            .map(|hash| Algorithm::Rsa { hash: Some(hash) })
            .to_vec();
    }
    client::Config {
        nodelay: true,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVE_MAX,
        channel_buffer_size: CHANNEL_MESSAGES_MAX,
        preferred: Preferred {
            // Only the kind that is pinned: of a host with several keys it must
            // show this one, or a good host would look changed.
            key: keys.into(),
            // Measured: AES-GCM is a third faster than ChaCha20 with AES
            // instructions, AES-CTR half as fast.
            cipher: vec![
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
            ]
            .into(),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

/// Our side of the protocol's questions.
pub(super) struct Client {
    pinned: PublicKey,
    /// Fingerprint of a key that was refused.
    shown: Arc<Mutex<Option<String>>>,
    lost: watch::Sender<Option<String>>,
    /// The end was our wish.
    leaving: Arc<AtomicBool>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let shown = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                if key.key_data() == self.pinned.key_data() {
                    return Ok(true);
                }
                fingerprint(key)
            }
            PublicKeyOrCertificate::Certificate(_) => "of a certificate".into(),
        };
        if let Ok(mut refused) = self.shown.lock() {
            *refused = Some(shown);
        }
        Ok(false)
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        let why = match &reason {
            _ if self.leaving.load(Ordering::Relaxed) => "it was closed from here".into(),
            DisconnectReason::ReceivedDisconnect(info) if info.message.is_empty() => {
                "the host ended it".into()
            }
            DisconnectReason::ReceivedDisconnect(info) => {
                format!("the host ended it: {}", info.message)
            }
            DisconnectReason::Error(russh::Error::KeepaliveTimeout) => format!(
                "no answer for {} s",
                KEEPALIVE_INTERVAL.as_secs() * (KEEPALIVE_MAX as u64 + 1)
            ),
            DisconnectReason::Error(russh::Error::Disconnect) => "the host closed it".into(),
            DisconnectReason::Error(russh::Error::IO(error)) => readable(error),
            DisconnectReason::Error(error) => error.to_string(),
        };
        self.lost.send_replace(Some(why));
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
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
        /// Waiting for a free session included.
        const START_DEADLINE: Duration = Duration::from_secs(30);
        let doing = format!("starting `{}`", shell::readable(&command.argv));
        let starting = program::start(&self.link, &command, &doing);
        match tokio::time::timeout(START_DEADLINE, starting).await {
            Ok(running) => running,
            Err(_) => Err(RemoteError::Deadline {
                host: self.link.name.clone(),
                doing,
                seconds: START_DEADLINE.as_secs_f64(),
            }),
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
        let farewell = async {
            self.link.leaving.store(true, Ordering::Relaxed);
            let by_us = russh::Disconnect::ByApplication;
            if self.link.handle.disconnect(by_us, "", "").await.is_ok() {
                let mut lost = self.link.lost.clone();
                let _ = lost.wait_for(Option::is_some).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_DEADLINE, farewell).await;
    }
}
