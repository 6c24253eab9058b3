//! An SSH server inside this process: the hosts of a lab without machines.
//!
//! It listens on loopback only, knows one key, and offers what a plain sshd
//! does: programs run as real processes in the host's folder, files over SFTP
//! with their real absolute paths, a terminal for people. No passwords, no forwarding.
//! [`serve`] starts it; [`Server::stop`] ends it with everything it started but
//! what has made a session (`setsid`) of its own, as with any sshd.

mod exec;
mod files;
mod starting;
mod terminal;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, Shutdown};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session};
use russh::server::{VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Preferred, cipher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::keys::{PublicKey, generate};
use terminal::Terminal;

/// Messages of one channel that wait for its task: 256 MiB at most, and only where
/// a client asks for much more than it reads. A short queue would let such a
/// client block its own connection.
const CHANNEL_MESSAGES_MAX: usize = 8192;

/// Programs and file channels of all connections at once.
const SESSIONS_MAX: usize = 256;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;

/// A peer that has not logged in by then is not ours.
const LOGIN_DEADLINE: Duration = Duration::from_secs(30);

/// How long a client may take to hang up when the server stops.
const FAREWELL_DEADLINE: Duration = Duration::from_millis(500);

/// What the server is to be.
pub struct ServerSpec {
    /// Working folder and `HOME` of everything that runs; relative SFTP paths
    /// begin there.
    pub home: PathBuf,
    /// The one key that may log in, as any user.
    pub authorized: PublicKey,
    /// Environment of every program besides `PATH`, `HOME` and `LANG`.
    pub env: Vec<(String, String)>,
}

/// A running server. Dropping it ends it too, without waiting.
pub struct Server {
    /// On 127.0.0.1.
    pub port: u16,
    /// What clients must see.
    pub host_key: PublicKey,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// What all connections share.
struct Shared {
    spec: ServerSpec,
    config: Arc<Config>,
    /// Programs and file channels, so that the end waits for them.
    tasks: Mutex<JoinSet<()>>,
    stopping: watch::Receiver<bool>,
}

impl Shared {
    /// What every program finds in its environment.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let path = std::env::var_os("PATH");
        let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into());
        let mut all = vec![
            ("PATH".into(), path),
            ("HOME".into(), self.spec.home.clone().into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        let own = self.spec.env.iter();
        all.extend(own.map(|(name, value)| (name.into(), value.into())));
        all
    }

    /// Tasks that still run.
    fn busy(&self) -> usize {
        let Ok(mut tasks) = self.tasks.lock() else {
            return SESSIONS_MAX;
        };
        while tasks.try_join_next().is_some() {}
        tasks.len()
    }
}

/// Starts a server with a new host key on a free port of loopback.
pub async fn serve(spec: ServerSpec) -> anyhow::Result<Server> {
    let home = spec.home.canonicalize();
    let home = home.with_context(|| format!("cannot serve {} as a host", spec.home.display()))?;
    let key = generate()?;
    let host_key = key.public_key().clone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.context("cannot listen on loopback")?;
    let port = listener.local_addr().context("cannot see the port")?.port();
    let config = Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        keys: vec![key],
        // Nobody guesses keys on loopback; a wrong one is told at once.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        channel_buffer_size: CHANNEL_MESSAGES_MAX,
        inactivity_timeout: None,
        nodelay: true,
        preferred: Preferred {
            cipher: vec![
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
            ]
            .into(),
            ..Preferred::DEFAULT
        },
        ..Config::default()
    };
    let (stop, stopping) = watch::channel(false);
    let shared = Arc::new(Shared {
        spec: ServerSpec { home, ..spec },
        config: Arc::new(config),
        tasks: Mutex::new(JoinSet::new()),
        stopping,
    });
    let accepting = tokio::spawn(accept(listener, shared));
    Ok(Server {
        port,
        host_key,
        stop,
        accepting,
    })
}

impl Server {
    /// Closes all connections, kills what still runs, and waits for all of it.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // It never panics on purpose; if it did, there is nothing to wait for.
        let _ = self.accepting.await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut stopping = shared.stopping.clone();
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(attend(stream, shared.clone()));
                }
                // Out of descriptors, most likely: others give theirs back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            _ = connections.join_next(), if !connections.is_empty() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    let mut tasks = match shared.tasks.lock() {
        Ok(mut tasks) => std::mem::take(&mut *tasks),
        Err(_) => return,
    };
    while tasks.join_next().await.is_some() {}
}

/// Serves one connection to its end.
async fn attend(stream: TcpStream, shared: Arc<Shared>) {
    let mut stopping = shared.stopping.clone();
    // A second handle of the socket, to end a session that does not end itself.
    let Ok((stream, socket)) = twice(stream) else {
        return;
    };
    let known = Arc::new(AtomicBool::new(false));
    let visitor = Visitor {
        shared: shared.clone(),
        known: known.clone(),
        idle: HashMap::new(),
        terminals: HashMap::new(),
    };
    let login_end = tokio::time::Instant::now() + LOGIN_DEADLINE;
    let session = tokio::select! {
        session = run_stream(shared.config.clone(), stream, visitor) => session,
        _ = tokio::time::sleep_until(login_end) => return,
        () = stopped(&mut stopping) => return,
    };
    let Ok(mut session) = session else { return };
    let handle = session.handle();
    tokio::select! {
        _ = &mut session => return,
        _ = async {
            tokio::time::sleep_until(login_end).await;
            if known.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        } => {}
        () = stopped(&mut stopping) => {
            let farewell = async {
                let by_us = russh::Disconnect::ByApplication;
                let _ = handle.disconnect(by_us, "the server stops".into(), "".into()).await;
                let _ = (&mut session).await;
            };
            if tokio::time::timeout(FAREWELL_DEADLINE, farewell).await.is_ok() {
                return;
            }
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
    let _ = tokio::time::timeout(FAREWELL_DEADLINE, session).await;
}

/// Returns when the server is to end, or when its owner has dropped it.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn twice(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let second = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, second))
}

/// The other side of one connection.
struct Visitor {
    shared: Arc<Shared>,
    known: Arc<AtomicBool>,
    /// Channels that are open and have not been asked for anything.
    idle: HashMap<ChannelId, Channel<Msg>>,
    /// Of channels that are open and have asked for one.
    terminals: HashMap<ChannelId, Terminal>,
}

impl Visitor {
    fn is_authorized(&self, key: &PublicKey) -> Auth {
        if key.key_data() == self.shared.spec.authorized.key_data() {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    /// Answers a request: with `work`, if the channel has none yet.
    fn serve<F>(
        &mut self,
        id: ChannelId,
        session: &mut Session,
        work: impl FnOnce(Arc<Shared>, Channel<Msg>) -> F,
    ) -> Result<(), russh::Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (Some(channel), Ok(mut tasks)) = (self.idle.remove(&id), self.shared.tasks.lock())
        else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        tasks.spawn(work(self.shared.clone(), channel));
        Ok(())
    }
}

impl Visitor {
    /// Runs a program on the terminal of its channel, if it has one.
    fn run(
        &mut self,
        id: ChannelId,
        session: &mut Session,
        program: exec::Program,
    ) -> Result<(), russh::Error> {
        let handle = session.handle();
        match self.terminals.get_mut(&id).and_then(Terminal::take) {
            Some(terminal) => self.serve(id, session, |shared, channel| async move {
                terminal::run(&shared, handle, channel, program, terminal).await;
            }),
            None => self.serve(id, session, |shared, channel| async move {
                exec::run(&shared, handle, channel, program).await;
            }),
        }
    }
}

impl Handler for Visitor {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.is_authorized(offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.is_authorized(key.public_key))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Self::Error> {
        self.known.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.idle.len() + self.shared.busy() >= SESSIONS_MAX {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.idle.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.idle.remove(&channel);
        self.terminals.remove(&channel);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.run(channel, session, exec::Program::Line(line.to_vec()))
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.run(channel, session, exec::Program::Shell)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name != "sftp" {
            return session.channel_failure(channel);
        }
        self.serve(channel, session, |shared, channel| async move {
            files::serve(&shared, channel).await;
        })
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let opened = match self.idle.contains_key(&channel) {
            true => Terminal::open(term).ok(),
            false => None,
        };
        // Without one OpenSSH says so and goes on.
        let Some(terminal) = opened else {
            return session.channel_failure(channel);
        };
        terminal.resize(columns, rows);
        self.terminals.insert(channel, terminal);
        session.channel_success(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(terminal) = self.terminals.get(&channel) {
            terminal.resize(columns, rows);
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // What runs on a host must not depend on who asks for it.
        session.channel_failure(channel)
    }
}
