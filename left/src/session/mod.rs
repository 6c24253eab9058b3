//! Connections with the peer: who may connect, which of two sessions stays,
//! and what belongs to a session.

mod handshake;
mod hub;

use std::io::{self};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

pub use hub::Hub;

use crate::daemon::Input;
use crate::engine::Event;
use crate::events::{REFUSED, Reporter};
use crate::index::Index;
use crate::pairing::{ShareId, Strangers};
use crate::share::Share;
use crate::transfer::receive::{notes, receive};
use crate::transfer::send::{SendContext, serve};
use crate::wire::message::{Hello, MESSAGE_BYTES_MAX, Message, Role, read_message, write_message};
use crate::wire::socket::{dial, prepare};
use handshake::{hear_hello, hello, say_hello};
use hub::Current;

/// Handshakes at once; the peer needs three.
const HANDSHAKES_MAX: u32 = 16;

/// A silent info connection says that it is alive this often.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A peer without a sign for this long is gone.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// Messages waiting to be written. Listings are limited by acknowledgements,
/// so a longer queue means that the connection stands still.
const OUT_MAX: usize = 64;

/// The first pause before dialling again, so that a restart resumes at once.
const REDIAL_FIRST: Duration = Duration::from_millis(50);

/// The longest pause before dialling again.
const REDIAL_MAX: Duration = Duration::from_secs(1);

/// The longest pause after a peer was refused: only a person can mend that, and then the
/// side where it was mended begins again and dials at once.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// What all connections share.
pub struct SessionContext {
    /// The share.
    pub share: Arc<Share>,
    /// The index.
    pub index: Arc<Index>,
    /// Where news goes.
    pub reporter: Arc<Reporter>,
    /// For sending content.
    pub send: SendContext,
    /// Where what arrives goes.
    pub engine: SyncSender<Input>,
    /// Where the peer is dialled, and whose address is let in.
    pub peer: SocketAddr,
    /// Where this side listens; dialled from here.
    pub listen: IpAddr,
    /// Random for each start.
    pub instance: u64,
    /// Set at the end.
    pub stop: Arc<AtomicBool>,
    /// The session there is.
    pub hub: Hub,
}

impl SessionContext {
    /// Tells the engine; `false` at the end of the daemon.
    fn tell(&self, event: Event) -> bool {
        self.engine.send(Input::Event(event)).is_ok()
    }
}

/// Takes connections until the end.
pub fn accept_all(context: &Arc<SessionContext>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if context.stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok((stream, from)) = accepted else {
            // Out of descriptors, most likely; asking at once would only spin.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        // Cheap and before anything else: others are not even told why.
        if from.ip().to_canonical() != context.peer.ip().to_canonical() {
            continue;
        }
        if context.hub.handshakes.fetch_add(1, Ordering::Relaxed) >= HANDSHAKES_MAX {
            context.hub.handshakes.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let context = context.clone();
        let spawned = std::thread::Builder::new()
            .name("accepted".into())
            .spawn(move || {
                let shaken = prepare(&stream).and_then(|()| hear_hello(&stream));
                context.hub.handshakes.fetch_sub(1, Ordering::Relaxed);
                match shaken {
                    Ok(hello) => answer(&context, stream, &hello),
                    // Garbage; the real peer tries again by itself.
                    Err(error) => context.hub.complain(
                        &context.reporter,
                        &format!("dropped a connection from {}: {error}", from.ip()),
                    ),
                }
            });
        if spawned.is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Dials until the end, while there is no session.
pub fn dial_always(context: &Arc<SessionContext>) {
    let mut pause = REDIAL_FIRST;
    let mut told = String::new();
    while !context.stop.load(Ordering::Relaxed) {
        if context.hub.is_up() {
            pause = REDIAL_FIRST;
            context.hub.wait_while_up(PING_EVERY);
            continue;
        }
        let mut pause_max = REDIAL_MAX;
        match dial_session(context) {
            Ok(()) => {
                pause = REDIAL_FIRST;
                told.clear();
            }
            // Superfluous, because the peer came first.
            Err(_) if context.hub.is_up() => {}
            Err(error) if is_told(&error) => pause_max = REFUSED_MAX,
            Err(error) => {
                let text = format!(
                    "cannot reach peer {}: {error}; it is tried again until it answers",
                    context.peer
                );
                if text != told {
                    context.reporter.log(&text);
                    told = text;
                }
            }
        }
        // Jitter, so that two sides that always meet half-way come apart.
        std::thread::sleep(pause + pause.mul_f64(f64::from(random() as u16) / 131_072.0));
        pause = (pause * 2).min(pause_max);
    }
}

fn dial_session(context: &Arc<SessionContext>) -> io::Result<()> {
    let stream = dial(context.peer, context.listen)?;
    let ours = hello(context, Role::Info, 0)?;
    let told_upto = ours.have.upto;
    say_hello(&stream, ours)?;
    let theirs = hear_hello(&stream)?;
    refuse(context, &theirs)?;
    let token = theirs.token;
    run_session(context, stream, &theirs, Dialled::Here { token, told_upto })
}

fn answer(context: &Arc<SessionContext>, stream: TcpStream, theirs: &Hello) {
    let refused = refuse(context, theirs);
    if refused.is_err() && theirs.role == Role::Info {
        // It finds the same reason in this, and tells it on its side.
        let _ = hello(context, Role::Info, 0).and_then(|hello| say_hello(&stream, hello));
    }
    let result = refused.and_then(|()| match theirs.role {
        Role::Info => run_session(context, stream, theirs, Dialled::There),
        Role::Pull | Role::Serve => {
            let Some((session, member)) = context.hub.attach(theirs, &stream)? else {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "it knows no session of this side",
                ));
            };
            say_hello(&stream, hello(context, theirs.role, theirs.token)?)?;
            stream.set_read_timeout(None)?;
            run_file(context, session, &stream, theirs.role == Role::Serve);
            context.hub.end(session);
            drop(member);
            Ok(())
        }
    });
    if let Err(error) = result
        && !is_told(&error)
    {
        context.hub.complain(
            &context.reporter,
            &format!("refused a connection of the peer: {error}"),
        );
    }
}

/// Refuses this side itself, and whoever belongs to somebody else. Nothing of the
/// share was said by then but its name.
fn refuse(context: &SessionContext, theirs: &Hello) -> io::Result<()> {
    let ours = context.index.share_id().map_err(io::Error::other)?;
    let text = if theirs.replica == context.index.replica().0 {
        format!(
            "the peer at {} has this side's own id: --ip leads back here, or .left was copied; remove .left on one side if it was",
            context.peer
        )
    } else if let (Some(ours), Some(theirs)) = (ours, ShareId::from_number(theirs.share))
        && ours != theirs
    {
        let strangers = Strangers { ours, theirs };
        format!("the peer at {} is refused: {strangers}", context.peer)
    } else {
        return Ok(());
    };
    context.reporter.problem(REFUSED, &text);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, Told(text)))
}

/// What is told as a problem already need not be told with every attempt.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

fn is_told(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Told>())
}

enum Dialled {
    /// By us.
    Here {
        /// The peer gave it.
        token: u64,
        /// In our hello.
        told_upto: u64,
    },
    /// By the peer, which waits for our hello.
    There,
}

/// Runs an info connection to its end.
fn run_session(
    context: &Arc<SessionContext>,
    stream: TcpStream,
    theirs: &Hello,
    dialled: Dialled,
) -> io::Result<()> {
    let id = context.hub.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    let (members, all_ended) = sync_channel(0);
    let token = match dialled {
        Dialled::Here { token, .. } => token,
        Dialled::There => random(),
    };
    let current = Current {
        id,
        peer_replica: theirs.replica,
        peer_instance: theirs.instance,
        token,
        dialled_here: matches!(dialled, Dialled::Here { .. }),
        since: Instant::now(),
        streams: vec![stream.try_clone()?],
        members: members.clone(),
    };
    if context
        .hub
        .register(context.index.replica(), current)
        .is_err()
    {
        // Both dialled at once, and the other connection stays; the peer
        // comes to the same end by itself.
        return Ok(());
    }
    context.reporter.solved(REFUSED);
    let ran = drive_session(context, &stream, theirs, dialled, id, token, members);
    context.hub.end(id);
    // The next session must not find this one's threads writing a part.
    let _ = all_ended.recv();
    context.tell(Event::SessionDown { session: id });
    ran
}

fn drive_session(
    context: &Arc<SessionContext>,
    stream: &TcpStream,
    theirs: &Hello,
    dialled: Dialled,
    id: u64,
    token: u64,
    members: SyncSender<()>,
) -> io::Result<()> {
    let (out, queue) = sync_channel(OUT_MAX);
    // What is told is read before the engine knows the session, so that it sees if
    // that is not so any more.
    let (told_upto, greeting) = match dialled {
        Dialled::Here { told_upto, .. } => (told_upto, None),
        Dialled::There => {
            let ours = hello(context, Role::Info, token)?;
            (ours.have.upto, Some(ours))
        }
    };
    let event = Event::SessionUp {
        session: id,
        peer_replica: theirs.replica,
        peer_epoch: theirs.epoch,
        peer_run: theirs.run,
        peer_share: ShareId::from_number(theirs.share),
        have: theirs.have,
        told_upto,
    };
    let session = id;
    let up = Input::SessionUp {
        session,
        event,
        out,
    };
    // The engine knows the session before the peer does, because the peer's
    // file connections can be here at once.
    if context.engine.send(up).is_err() {
        return Ok(());
    }
    let greeted = greeting.map_or(Ok(()), |hello| say_hello(stream, hello));
    let timed = greeted
        .and_then(|()| stream.set_read_timeout(Some(DEAD_AFTER)))
        .and_then(|()| stream.set_write_timeout(Some(DEAD_AFTER)));
    if timed.is_err() {
        context.tell(Event::SessionEnding { session: id });
        return timed;
    }
    std::thread::scope(|scope| {
        // The engine holds the queue's other end; when it lets go the writer ends.
        scope.spawn(move || {
            let _ = write_all_messages(stream, &queue);
            let _ = stream.shutdown(Shutdown::Both);
        });
        if matches!(dialled, Dialled::Here { .. }) {
            for role in [Role::Pull, Role::Serve] {
                let (context, members) = (context.clone(), members.clone());
                let spawned = std::thread::Builder::new()
                    .name("file".into())
                    .spawn(move || {
                        if let Err(error) = dial_file(&context, id, token, role)
                            && context.hub.is_current(id)
                        {
                            context
                                .reporter
                                .log(&format!("cannot open a file connection: {error}"));
                        }
                        context.hub.end(id);
                        drop(members);
                    });
                if spawned.is_err() {
                    // Without it the session is of no use; it is dialled again.
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        }
        drop(members);
        let mut input = io::BufReader::new(stream);
        let read = loop {
            match read_message(&mut input, MESSAGE_BYTES_MAX) {
                Ok(Message::Ping) => {}
                Ok(Message::Error { text }) => {
                    break Err(io::Error::other(crate::path::shown(text.as_bytes())));
                }
                Ok(message) => {
                    let session = id;
                    if !context.tell(Event::Message { session, message }) {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let _ = stream.shutdown(Shutdown::Both);
        context.hub.end(id);
        context.tell(Event::SessionEnding { session: id });
        read
    })
}

fn write_all_messages(mut stream: &TcpStream, queue: &Receiver<Message>) -> io::Result<()> {
    loop {
        match queue.recv_timeout(PING_EVERY) {
            Ok(message) => write_message(&mut stream, &message)?,
            Err(RecvTimeoutError::Timeout) => write_message(&mut stream, &Message::Ping)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn dial_file(context: &SessionContext, session: u64, token: u64, role: Role) -> io::Result<()> {
    let stream = dial(context.peer, context.listen)?;
    {
        let mut guard = context.hub.lock();
        let Some(current) = guard.as_mut().filter(|current| current.id == session) else {
            return Ok(());
        };
        current.streams.push(stream.try_clone()?);
    }
    say_hello(&stream, hello(context, role, token)?)?;
    hear_hello(&stream)?;
    stream.set_read_timeout(None)?;
    run_file(context, session, &stream, role == Role::Pull);
    Ok(())
}

/// Runs a file connection to its end, on the side it has.
fn run_file(context: &SessionContext, session: u64, stream: &TcpStream, receives: bool) {
    if !receives {
        let _ = serve(&context.send, stream);
        let _ = stream.shutdown(Shutdown::Both);
        return;
    }
    let (to_notes, notes) = notes();
    let up = Input::ReceiverUp {
        session,
        notes: to_notes.clone(),
    };
    if context.engine.send(up).is_err() {
        return;
    }
    let deliver = |job, result| {
        context.tell(Event::Fetched {
            session,
            job: Box::new(job),
            result,
        });
    };
    receive(
        &context.share,
        &context.reporter,
        stream,
        (to_notes, notes),
        &deliver,
    );
}

/// Random bits from the kernel.
pub fn random() -> u64 {
    let mut bytes = [0u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => {
                // Kernels without it predate everything else used here; a
                // clock still tells two starts apart.
                let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
                return since.as_nanos() as u64;
            }
        }
    }
    u64::from_ne_bytes(bytes)
}
