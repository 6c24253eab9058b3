//! The way into a host: dialling, who we are, who the host must be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, DisconnectReason};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{ChannelOpenFailure, Preferred, cipher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ask::Asker;
use super::config::Resolved;
use super::credential::{Credential, Own};
use super::greeting::{Greeting, overhear};
use super::host_key::{HostKey, Known, Pin};
use super::known_hosts::KnownHosts;
use super::remote::RemoteError;
use super::ssh::readable;
use super::wire::{Cut, wire};

/// Programs and the file channel at once: `MaxSessions` of OpenSSH's sshd.
const SESSIONS_MAX: usize = 10;

/// From dialling to being logged in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// For one answer about files, behind what is queued before it on a slow link.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// Four unanswered keep-alives end the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_MAX: usize = 4;

/// Messages of one channel that wait for its task, which never lets them wait.
const CHANNEL_MESSAGES_MAX: usize = 256;

/// How a host is reached and how both sides know each other.
pub struct Door {
    name: String,
    way: Way,
    /// The host to jump from, and its door.
    through: Option<Box<Door>>,
    user: String,
    credential: Credential,
    host_key: HostKey,
    sessions_max: usize,
    connect_deadline: Duration,
    answer_deadline: Duration,
}

/// Where a host listens.
#[non_exhaustive]
pub enum Way {
    /// Straight over TCP, or from the host to jump from.
    Tcp {
        /// Name or address.
        address: String,
        /// Port of the SSH server.
        port: u16,
    },
    /// Over a socket that somebody has connected already, perhaps in another network
    /// namespace, and what to call its other end. It makes one connection.
    Connected(std::net::TcpStream, String),
}

impl Door {
    /// The way into host `name`, with 10 sessions at once, 20 s to connect and 60 s for
    /// an answer.
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
            through: None,
            user: user.into(),
            credential,
            host_key,
            sessions_max: SESSIONS_MAX,
            connect_deadline: CONNECT_DEADLINE,
            answer_deadline: ANSWER_DEADLINE,
        }
    }

    /// The way into a host of the user's, as the SSH configuration has it, called `name`
    /// in what is reported.
    ///
    /// # Errors
    /// If what is known of hosts' keys cannot be read.
    pub fn from_resolved(name: impl Into<String>, resolved: &Resolved) -> anyhow::Result<Self> {
        let name = name.into();
        let mut through = None;
        for jump in &resolved.jumps {
            let hop = format!("{} (on the way to {name})", jump.name);
            let mut door = Self::straight(hop, jump, through.is_some())?;
            door.through = through.map(Box::new);
            through = Some(door);
        }
        let mut door = Self::straight(name, resolved, through.is_some())?;
        door.through = through.map(Box::new);
        Ok(door)
    }

    fn straight(name: String, resolved: &Resolved, behind: bool) -> anyhow::Result<Self> {
        let host_key = match resolved.first_use {
            true => HostKey::FirstUse(Pin::default()),
            false => HostKey::Known(Known {
                files: Arc::new(KnownHosts::load(&resolved.known_hosts)?),
                host: (resolved.key_alias.clone()).unwrap_or_else(|| resolved.address.clone()),
                // An alias stands for the port too.
                port: match resolved.key_alias {
                    Some(_) => 22,
                    None => resolved.port,
                },
                scannable: !behind && resolved.key_alias.is_none(),
            }),
        };
        let way = Way::Tcp {
            address: resolved.address.clone(),
            port: resolved.port,
        };
        let credential = Credential::Own(Own {
            files: resolved.identities.clone(),
            files_only: resolved.identities_only,
            agent: resolved.agent.clone(),
            password: resolved.password,
        });
        let user = resolved.user.clone();
        Ok(Self::new(name, way, user, credential, host_key))
    }

    /// Through another host, which must let connections be forwarded.
    pub fn through(mut self, jump: Door) -> Self {
        self.through = Some(Box::new(jump));
        self
    }

    /// As many programs at once instead; one session more carries the files.
    pub fn sessions_max(mut self, sessions_max: usize) -> Self {
        self.sessions_max = sessions_max.max(2);
        self
    }

    /// As long to connect and log in instead, for each host on the way.
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        if let Some(jump) = self.through.take() {
            self.through = Some(Box::new(jump.connect_deadline(deadline)));
        }
        self
    }

    /// As long for each answer about files, and for a program to start, instead.
    pub fn answer_deadline(mut self, deadline: Duration) -> Self {
        self.answer_deadline = deadline;
        self
    }

    /// A door for one more connection from the same host to jump from, if there can be
    /// one: a socket of somebody else's makes only one, and nobody wants to give the same
    /// password over and over.
    pub(super) fn again(&self) -> Option<Self> {
        let Way::Tcp { address, port } = &self.way else {
            return None;
        };
        let way = Way::Tcp {
            address: address.clone(),
            port: *port,
        };
        self.credential.can_be_presented_again().then(|| Self {
            name: self.name.clone(),
            way,
            through: None,
            user: self.user.clone(),
            credential: self.credential.clone(),
            host_key: self.host_key.clone(),
            ..*self
        })
    }

    #[cfg(test)]
    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    fn at(&self) -> String {
        match &self.way {
            Way::Tcp { address, port } if address.contains(':') => format!("[{address}]:{port}"),
            Way::Tcp { address, port } => format!("{address}:{port}"),
            Way::Connected(_, at) => at.clone(),
        }
    }
}

/// A host that has let us in.
pub(super) struct Entered {
    pub(super) name: String,
    pub(super) handle: client::Handle<Client>,
    pub(super) sessions_max: usize,
    pub(super) answer_deadline: Duration,
    /// Why the connection ended, once it has.
    pub(super) lost: watch::Receiver<Option<String>>,
    /// To be set before the connection is ended from here.
    pub(super) leaving: Arc<AtomicBool>,
    /// What the server called itself.
    pub(super) greeting: Greeting,
    pub(super) cut: Cut,
    /// The connection that carries this one; it ends when this is dropped.
    pub(super) through: Option<Box<Entered>>,
}

/// What carries a connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Door {
    /// Connects, checks the host's key and logs in; first on the way, then here.
    pub(super) async fn enter(mut self) -> Result<Entered, RemoteError> {
        let through = match self.through.take() {
            Some(jump) => Some(Box::new(Box::pin(jump.enter()).await?)),
            None => None,
        };
        let entered = self.enter_from(through.as_deref()).await?;
        Ok(Entered { through, ..entered })
    }

    /// The same from a host that has let us in, which must outlive what comes of it.
    pub(super) async fn enter_from(
        mut self,
        through: Option<&Entered>,
    ) -> Result<Entered, RemoteError> {
        let stage = Mutex::new("no connection");
        let asker = Asker::default();
        let deadline = self.connect_deadline;
        let name = self.name.clone();
        let at = self.at();
        let entering = async {
            let stream = self.dial(through).await?;
            set(&stage, "connected, but no SSH handshake");
            let mut entered = self.shake_hands(stream).await?;
            set(&stage, "no answer to the login");
            let (user, handle) = (&self.user, &mut entered.handle);
            let let_in = self.credential.present(user, &at, handle, &asker).await;
            let_in.map_err(|why| self.refused(why))?;
            Ok::<_, RemoteError>(entered)
        };
        let start = Instant::now();
        // What people take to answer questions is not the host's time.
        let late = async {
            loop {
                let end = start + deadline + asker.waited();
                if Instant::now() >= end {
                    return;
                }
                tokio::time::sleep_until(end).await;
            }
        };
        tokio::select! {
            entered = entering => entered,
            () = late => {
                let stage = stage.lock().map_or("nothing", |stage| *stage);
                let why = format!("{stage} within {} s", deadline.as_secs_f64());
                Err(RemoteError::Connect { host: name, at: at.clone(), why })
            }
        }
    }

    async fn dial(&mut self, through: Option<&Entered>) -> Result<Box<dyn Stream>, RemoteError> {
        let ours = |error: std::io::Error| readable(&error);
        let placeholder = Way::Tcp {
            address: String::new(),
            port: 0,
        };
        let (address, port) = match &self.way {
            Way::Tcp { address, port } => (address.clone(), *port),
            Way::Connected(..) => {
                let at = self.at();
                let Way::Connected(stream, _) = std::mem::replace(&mut self.way, placeholder)
                else {
                    return Err(self.no_way("the socket was used already".into()));
                };
                // Whoever reports on it later still knows what it was.
                let kept = stream
                    .try_clone()
                    .map_err(|error| self.no_way(ours(error)))?;
                self.way = Way::Connected(kept, at);
                let ready = stream.set_nonblocking(true).and_then(|()| {
                    stream.set_nodelay(true)?;
                    TcpStream::from_std(stream)
                });
                let stream = ready.map_err(|error| self.no_way(ours(error)))?;
                return Ok(Box::new(stream));
            }
        };
        if let Some(jump) = through {
            return self.dial_from(jump, address, port).await;
        }
        let dialled = TcpStream::connect((address.as_str(), port)).await;
        let stream = dialled.map_err(|error| self.no_way(ours(error)))?;
        // Without it a small request waits 40 ms for the answer to the one before.
        let set = stream.set_nodelay(true);
        set.map_err(|error| self.no_way(ours(error)))?;
        Ok(Box::new(stream))
    }

    async fn dial_from(
        &self,
        jump: &Entered,
        address: String,
        port: u16,
    ) -> Result<Box<dyn Stream>, RemoteError> {
        let opened = jump
            .handle
            .channel_open_direct_tcpip(address, port.into(), "127.0.0.1", 0)
            .await;
        let from = &jump.name;
        match opened {
            Ok(channel) => Ok(Box::new(channel.into_stream())),
            Err(russh::Error::ChannelOpenFailure(reason)) => Err(self.no_way(match reason {
                ChannelOpenFailure::AdministrativelyProhibited => format!(
                    "{from} does not forward connections: its sshd needs AllowTcpForwarding"
                ),
                ChannelOpenFailure::ConnectFailed => format!("{from} cannot reach it"),
                other => format!("{from} does not forward to it ({other:?})"),
            })),
            Err(_) => {
                let why = jump.lost.borrow().clone();
                let why = why.unwrap_or_else(|| "the channel broke".into());
                Err(self.no_way(format!("lost the connection to {from}: {why}")))
            }
        }
    }

    async fn shake_hands(&self, stream: Box<dyn Stream>) -> Result<Entered, RemoteError> {
        let (lost_sender, lost) = watch::channel(None);
        let refusal = Arc::new(Mutex::new(None));
        let leaving = Arc::new(AtomicBool::new(false));
        let client = Client {
            host_key: self.host_key.clone(),
            refusal: refusal.clone(),
            lost: lost_sender,
            leaving: leaving.clone(),
        };
        let config = Arc::new(config(self.host_key.algorithms()));
        let (stream, greeting) = overhear(stream);
        let (stream, cut) = wire(stream);
        let error = match client::connect_stream(config, stream, client).await {
            Ok(handle) => {
                return Ok(Entered {
                    name: self.name.clone(),
                    handle,
                    sessions_max: self.sessions_max,
                    answer_deadline: self.answer_deadline,
                    lost,
                    leaving,
                    greeting,
                    cut,
                    through: None,
                });
            }
            Err(error) => error,
        };
        let refusal = refusal.lock().ok().and_then(|mut refusal| refusal.take());
        Err(match (refusal, error) {
            (Some(why), _) => self.refused(why),
            (None, russh::Error::Disconnect | russh::Error::IO(_)) => {
                self.no_way("it closed the connection before the SSH handshake was done".into())
            }
            (None, russh::Error::NoCommonAlgo { kind, theirs, .. }) => self.no_way(format!(
                "nothing in common with what it offers as {kind:?}: {}",
                theirs.join(", ").escape_debug()
            )),
            (None, other) => self.no_way(other.to_string()),
        })
    }

    fn no_way(&self, why: String) -> RemoteError {
        RemoteError::Connect {
            host: self.name.clone(),
            at: self.at(),
            why,
        }
    }

    fn refused(&self, why: String) -> RemoteError {
        RemoteError::Login {
            host: self.name.clone(),
            at: self.at(),
            why,
        }
    }
}

fn set(stage: &Mutex<&'static str>, next: &'static str) {
    if let Ok(mut stage) = stage.lock() {
        *stage = next;
    }
}

fn config(host_keys: Vec<Algorithm>) -> client::Config {
    client::Config {
        nodelay: true,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVE_MAX,
        channel_buffer_size: CHANNEL_MESSAGES_MAX,
        preferred: Preferred {
            key: host_keys.into(),
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
    host_key: HostKey,
    /// Why the host's key was refused.
    refusal: Arc<Mutex<Option<String>>>,
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
        let judged = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.host_key.judge(key),
            PublicKeyOrCertificate::Certificate(_) => {
                Err("it shows a certificate, which is not supported here".into())
            }
        };
        let Err(why) = judged else { return Ok(true) };
        if let Ok(mut refusal) = self.refusal.lock() {
            *refusal = Some(why);
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
                format!("the host ended it: {}", info.message.escape_debug())
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
