//! A server that breaks down over two programs of one connection, as dropbear once did.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, SshId};
use tokio::net::TcpListener;

use super::*;

/// Takes a while, so that others begin meanwhile.
const PROGRAM: Duration = Duration::from_millis(50);

#[derive(Clone, Default)]
struct Seen {
    connections: Arc<AtomicUsize>,
    /// Channels that are to be closed before anything is asked for.
    close_first: Arc<AtomicUsize>,
    /// The most programs that ran at once, on one connection and on all.
    most_of_one: Arc<AtomicUsize>,
    most_of_all: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
}

/// One connection to it.
struct Fragile {
    seen: Seen,
    running: Arc<AtomicUsize>,
    closing: HashSet<ChannelId>,
    kept: Vec<Channel<Msg>>,
}

impl Handler for Fragile {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        let one_less = |left: usize| left.checked_sub(1);
        let first = &self.seen.close_first;
        let closes = first.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if closes.is_ok() {
            self.closing.insert(channel.id());
            let (handle, id) = (session.handle(), channel.id());
            tokio::spawn(async move { handle.close(id).await });
        }
        self.kept.push(channel);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _line: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.closing.contains(&channel) {
            return Ok(());
        }
        session.channel_success(channel)?;
        let begin = |running: &AtomicUsize, most: &AtomicUsize| {
            let now = running.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
        };
        begin(&self.running, &self.seen.most_of_one);
        begin(&self.seen.running, &self.seen.most_of_all);
        let (here, all, handle) = (
            self.running.clone(),
            self.seen.running.clone(),
            session.handle(),
        );
        tokio::spawn(async move {
            tokio::time::sleep(PROGRAM).await;
            here.fetch_sub(1, Ordering::Relaxed);
            all.fetch_sub(1, Ordering::Relaxed);
            let _ = handle.exit_status_request(channel, 7).await;
            let _ = handle.close(channel).await;
        });
        Ok(())
    }
}

/// A door to such a server, which calls itself that.
async fn fragile(name: &str, seen: &Seen) -> Door {
    let host_key = keys::generate().unwrap();
    let pinned = host_key.public_key().clone();
    let config = Arc::new(Config {
        keys: vec![host_key],
        server_id: SshId::Standard(format!("SSH-2.0-{name}").into()),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        ..Config::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.connections.fetch_add(1, Ordering::Relaxed);
            let handler = Fragile {
                seen: seen.clone(),
                running: Arc::default(),
                closing: HashSet::new(),
                kept: Vec::new(),
            };
            let config = config.clone();
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, stream, handler).await {
                    let _ = session.await;
                }
            });
        }
    });
    let way = Way::Tcp {
        address: "127.0.0.1".into(),
        port,
    };
    let credential = Credential::Key(Arc::new(keys::generate().unwrap()));
    Door::new("a", way, "tester", credential, HostKey::Pinned(pinned))
}

async fn run_many(ssh: &Ssh, count: usize) {
    let runs = (0..count).map(|_| ssh.exec(sh("exit 7")));
    for ran in crate::at_once::all(runs).await {
        assert_eq!(ran.unwrap().exit, Exit::Code(7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_program_has_a_connection_to_itself_which_is_used_again() {
    let seen = Seen::default();
    let door = fragile("dropbear_2022.83", &seen).await;
    let ssh = Ssh::connect(door.sessions_max(4)).await.unwrap();
    let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    run_many(&ssh, 12).await;
    assert_eq!(count(&seen.most_of_one), 1);
    assert!((2..=4).contains(&count(&seen.most_of_all)));
    // One for each that ran at a time, and the first.
    let connections = count(&seen.connections);
    assert!((3..=5).contains(&connections), "{connections}");
    run_many(&ssh, 2).await;
    assert_eq!(count(&seen.connections), connections);
    ssh.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_share_a_connection_wherever_they_can() {
    let seen = Seen::default();
    let door = fragile("dropbear_2025.87", &seen).await;
    let ssh = Ssh::connect(door).await.unwrap();
    run_many(&ssh, 8).await;
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    assert!(seen.most_of_one.load(Ordering::Relaxed) > 1);
    ssh.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_closed_before_it_is_asked_for_anything_is_opened_again() {
    let seen = Seen::default();
    let ssh = Ssh::connect(fragile("odd_1.0", &seen).await).await.unwrap();
    seen.close_first.store(3, Ordering::Relaxed);
    run_many(&ssh, 1).await;
    assert_eq!(seen.close_first.load(Ordering::Relaxed), 0);
    // But not for ever.
    seen.close_first.store(100, Ordering::Relaxed);
    let error = ssh.exec(sh("exit 7")).await.unwrap_err().to_string();
    assert!(error.contains("the channel broke"), "{error}");
    ssh.close().await;
}
