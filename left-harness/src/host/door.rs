//! The way into a host: dialling, who we are, who the host must be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, DisconnectReason};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Preferred, cipher};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::keys::{PrivateKey, PublicKey, fingerprint};
use super::remote::RemoteError;
use super::ssh::readable;
use super::wire::{Cut, wire};

/// Programs and the file channel at once: `MaxSessions` of OpenSSH's sshd.
const SESSIONS_MAX: usize = 10;

/// From dialling to being logged in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// Four unanswered keep-alives end the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_MAX: usize = 4;

/// Messages of one channel that wait for its task, which never lets them wait.
const CHANNEL_MESSAGES_MAX: usize = 256;

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

/// A host that has let us in.
pub(super) struct Entered {
    pub(super) name: String,
    pub(super) handle: client::Handle<Client>,
    pub(super) sessions_max: usize,
    /// Why the connection ended, once it has.
    pub(super) lost: watch::Receiver<Option<String>>,
    /// To be set before the connection is ended from here.
    pub(super) leaving: Arc<AtomicBool>,
    pub(super) cut: Cut,
}

impl Door {
    /// Connects, checks the host's key and logs in.
    pub(super) async fn enter(self) -> Result<Entered, RemoteError> {
        let stage = Mutex::new("no connection");
        let deadline = self.connect_deadline;
        let entering = async {
            let stream = self.dial().await?;
            set(&stage, "connected, but no SSH handshake");
            let mut entered = self.shake_hands(stream).await?;
            set(&stage, "no answer to the login");
            self.log_in(&mut entered.handle).await?;
            Ok(entered)
        };
        match tokio::time::timeout(deadline, entering).await {
            Ok(entered) => entered,
            Err(_) => {
                let stage = stage.lock().map_or("nothing", |stage| *stage);
                Err(self.no_way(format!("{stage} within {} s", deadline.as_secs_f64())))
            }
        }
    }

    async fn dial(&self) -> Result<TcpStream, RemoteError> {
        let Way::Tcp { address, port } = &self.way;
        let dialled = TcpStream::connect((address.as_str(), *port)).await;
        let stream = dialled.map_err(|error| self.no_way(readable(&error)))?;
        // Without it a small request waits 40 ms for the answer to the one before.
        let set = stream.set_nodelay(true);
        set.map_err(|error| self.no_way(readable(&error)))?;
        Ok(stream)
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<Entered, RemoteError> {
        let HostKey::Pinned(pinned) = &self.host_key;
        let (lost_sender, lost) = watch::channel(None);
        let shown = Arc::new(Mutex::new(None));
        let leaving = Arc::new(AtomicBool::new(false));
        let client = Client {
            pinned: pinned.clone(),
            shown: shown.clone(),
            lost: lost_sender,
            leaving: leaving.clone(),
        };
        let config = Arc::new(config(pinned.algorithm()));
        let (stream, cut) = wire(stream);
        let error = match client::connect_stream(config, stream, client).await {
            Ok(handle) => {
                return Ok(Entered {
                    name: self.name.clone(),
                    handle,
                    sessions_max: self.sessions_max,
                    lost,
                    leaving,
                    cut,
                });
            }
            Err(error) => error,
        };
        let shown = shown.lock().ok().and_then(|mut shown| shown.take());
        Err(match (shown, error) {
            (Some(shown), _) => self.refused(format!(
                "it shows the key {shown}, but {} is expected: it is another machine, \
                 or somebody stands in between",
                fingerprint(pinned)
            )),
            (None, russh::Error::Disconnect | russh::Error::IO(_)) => {
                self.no_way("it closed the connection before the SSH handshake was done".into())
            }
            (None, russh::Error::NoCommonAlgo { kind, theirs, .. }) => self.no_way(format!(
                "nothing in common with what it offers as {kind:?}: {}",
                theirs.join(", ")
            )),
            (None, other) => self.no_way(other.to_string()),
        })
    }

    async fn log_in(&self, handle: &mut client::Handle<Client>) -> Result<(), RemoteError> {
        let Credential::Key(key) = &self.credential;
        let hash = match key.algorithm().is_rsa() {
            true => handle
                .best_supported_rsa_hash()
                .await
                .ok()
                .flatten()
                .flatten(),
            false => None,
        };
        let ours = fingerprint(key.public_key());
        let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
        match handle.authenticate_publickey(&self.user, key).await {
            Ok(answer) if answer.success() => Ok(()),
            Ok(_) if handle.is_closed() => {
                Err(self.refused("it closed the connection during the login".into()))
            }
            Ok(_) => Err(self.refused(format!(
                "it does not accept the key {ours} for user {}",
                self.user
            ))),
            Err(error) => Err(self.refused(error.to_string())),
        }
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

fn config(host_key: Algorithm) -> client::Config {
    let mut keys = vec![host_key.clone()];
    if host_key.is_rsa() {
        // One key, three ways to sign with it; never the one with SHA-1.
        keys = [HashAlg::Sha512, HashAlg::Sha256]
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
