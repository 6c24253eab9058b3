//! Connections with the peer: who may connect, which of two sessions stays,
//! and what belongs to a session.

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::Event;
use crate::events::Reporter;
use crate::index::Index;
use crate::share::Share;
use crate::transfer::receive::{notes, receive};
use crate::transfer::send::{SendContext, serve};
use crate::version::ReplicaId;
use crate::wire::message::{
    HELLO_BYTES_MAX, Have, Hello, MESSAGE_BYTES_MAX, Message, PREFACE, Role, read_message,
    write_message,
};
use crate::wire::socket::{dial, prepare};

/// A handshake that takes longer is dropped.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Handshakes at once; the peer needs three.
const HANDSHAKES_MAX: u32 = 16;

/// Dropped connections are logged at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

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
    pub engine: SyncSender<Event>,
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

/// The session there is, if there is one.
#[derive(Default)]
pub struct Hub {
    current: Mutex<Option<Current>>,
    last_id: AtomicU64,
    handshakes: AtomicU32,
    complained: Mutex<Option<Instant>>,
}

struct Current {
    id: u64,
    peer_replica: u64,
    peer_instance: u64,
    token: u64,
    dialled_here: bool,
    since: Instant,
    streams: Vec<TcpStream>,
    /// Held by each thread of the session, so that its end can be awaited.
    members: SyncSender<()>,
}

impl Hub {
    /// Logs what a stranger can cause, but not as often as a stranger can.
    fn complain(&self, reporter: &Reporter, text: &str) {
        let mut last = self
            .complained
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            *last = Some(Instant::now());
            reporter.log(text);
        }
    }

    fn is_current(&self, id: u64) -> bool {
        self.lock().as_ref().is_some_and(|current| current.id == id)
    }

    fn is_up(&self) -> bool {
        self.lock().is_some()
    }

    /// Ends the session, whoever's it is.
    pub fn end_all(&self) {
        if let Some(current) = self.lock().take() {
            current.hang_up();
        }
    }

    fn end(&self, id: u64) {
        let mut guard = self.lock();
        if let Some(current) = guard.take_if(|current| current.id == id) {
            current.hang_up();
        }
    }

    /// Makes this the session, unless the one there is should stay.
    fn register(&self, mine: ReplicaId, new: Current) -> Result<(), Superfluous> {
        let mut guard = self.lock();
        if let Some(old) = guard.as_ref() {
            let same =
                (old.peer_replica, old.peer_instance) == (new.peer_replica, new.peer_instance);
            // Only when both dialled at the same moment there is a choice, and
            // both sides make the same one. Otherwise whoever dials again has
            // lost the old session, even if we have not noticed.
            let both_dialled =
                old.dialled_here != new.dialled_here && old.since.elapsed() < HANDSHAKE;
            let lower_dialled_new = new.dialled_here == (mine.0 < new.peer_replica);
            if same && both_dialled && !lower_dialled_new {
                return Err(Superfluous);
            }
        }
        if let Some(old) = guard.replace(new) {
            old.hang_up();
        }
        Ok(())
    }

    /// Adds a file connection to the session of this token.
    fn attach(
        &self,
        hello: &Hello,
        stream: &TcpStream,
    ) -> io::Result<Option<(u64, SyncSender<()>)>> {
        let mut guard = self.lock();
        let ours = |current: &&mut Current| {
            current.token == hello.token
                && current.peer_replica == hello.replica
                && current.peer_instance == hello.instance
                && current.streams.len() < 3
        };
        let Some(current) = guard.as_mut().filter(ours) else {
            return Ok(None);
        };
        current.streams.push(stream.try_clone()?);
        Ok(Some((current.id, current.members.clone())))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        self.current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// There is a session already, and it stays.
struct Superfluous;

impl Current {
    fn hang_up(&self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
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
            std::thread::sleep(REDIAL_FIRST);
            continue;
        }
        match dial_session(context) {
            Ok(()) => {
                pause = REDIAL_FIRST;
                told.clear();
            }
            // Superfluous, because the peer came first.
            Err(_) if context.hub.is_up() => {}
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
        pause = (pause * 2).min(REDIAL_MAX);
    }
}

fn dial_session(context: &Arc<SessionContext>) -> io::Result<()> {
    let stream = dial(context.peer, context.listen)?;
    say_hello(&stream, hello(context, Role::Info, 0)?)?;
    let theirs = hear_hello(&stream)?;
    refuse_self(context, &theirs)?;
    run_session(context, stream, &theirs, Dialled::Here(theirs.token))
}

fn answer(context: &Arc<SessionContext>, stream: TcpStream, theirs: &Hello) {
    let result = refuse_self(context, theirs).and_then(|()| match theirs.role {
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
    if let Err(error) = result {
        context.hub.complain(
            &context.reporter,
            &format!("refused a connection of the peer: {error}"),
        );
    }
}

fn refuse_self(context: &SessionContext, theirs: &Hello) -> io::Result<()> {
    if theirs.replica != context.index.replica().0 {
        return Ok(());
    }
    let text = format!(
        "the peer at {} has this side's own id: --ip leads back here, or .left was copied; remove .left on one side if it was",
        context.peer
    );
    context.reporter.problem(b"", &text);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

enum Dialled {
    /// By us; the peer gave this token.
    Here(u64),
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
        Dialled::Here(token) => token,
        Dialled::There => random(),
    };
    let current = Current {
        id,
        peer_replica: theirs.replica,
        peer_instance: theirs.instance,
        token,
        dialled_here: matches!(dialled, Dialled::Here(_)),
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
    let ran = drive_session(context, &stream, theirs, dialled, id, token, members);
    context.hub.end(id);
    // The next session must not find this one's threads writing a part.
    let _ = all_ended.recv();
    let _ = context.engine.send(Event::SessionDown { session: id });
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
    let up = Event::SessionUp {
        session: id,
        peer_replica: theirs.replica,
        peer_epoch: theirs.epoch,
        have: theirs.have,
        out,
    };
    // The engine knows the session before the peer does, because the peer's
    // file connections can be here at once.
    if context.engine.send(up).is_err() {
        return Ok(());
    }
    let greeted = match dialled {
        Dialled::Here(_) => Ok(()),
        Dialled::There => {
            hello(context, Role::Info, token).and_then(|hello| say_hello(stream, hello))
        }
    };
    let timed = greeted
        .and_then(|()| stream.set_read_timeout(Some(DEAD_AFTER)))
        .and_then(|()| stream.set_write_timeout(Some(DEAD_AFTER)));
    if timed.is_err() {
        let _ = context.engine.send(Event::SessionEnding { session: id });
        return timed;
    }
    std::thread::scope(|scope| {
        // The engine holds the queue's other end; when it lets go the writer ends.
        scope.spawn(move || {
            let _ = write_all_messages(stream, &queue);
            let _ = stream.shutdown(Shutdown::Both);
        });
        if matches!(dialled, Dialled::Here(_)) {
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
                    if context
                        .engine
                        .send(Event::Message {
                            session: id,
                            message,
                        })
                        .is_err()
                    {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let _ = stream.shutdown(Shutdown::Both);
        context.hub.end(id);
        let _ = context.engine.send(Event::SessionEnding { session: id });
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
    let up = Event::ReceiverUp {
        session,
        notes: to_notes.clone(),
    };
    if context.engine.send(up).is_err() {
        return;
    }
    let deliver = |job, result| {
        let _ = context.engine.send(Event::Fetched {
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

fn hello(context: &SessionContext, role: Role, token: u64) -> io::Result<Hello> {
    let heard = context.index.heard().map_err(io::Error::other)?;
    Ok(Hello {
        role,
        replica: context.index.replica().0,
        instance: context.instance,
        epoch: context.index.epoch(),
        token,
        have: Have {
            replica: heard.replica,
            epoch: heard.epoch,
            upto: heard.upto,
        },
    })
}

fn say_hello(mut stream: &TcpStream, hello: Hello) -> io::Result<()> {
    stream.set_write_timeout(Some(HANDSHAKE))?;
    let mut bytes = PREFACE.to_vec();
    write_message(&mut bytes, &Message::Hello(hello))?;
    io::Write::write_all(&mut stream, &bytes)?;
    stream.set_write_timeout(None)
}

fn hear_hello(stream: &TcpStream) -> io::Result<Hello> {
    let mut input = BeforeDeadline {
        stream,
        deadline: Instant::now() + HANDSHAKE,
    };
    let mut preface = [0; PREFACE.len()];
    input.read_exact(&mut preface)?;
    let (magic, version) = (&preface[..7], preface[7]);
    if magic != &PREFACE[..7] {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not speak left's protocol",
        ));
    }
    if version != PREFACE[7] {
        let text = format!(
            "it speaks protocol version {version}, this side {}; install the same version on both",
            PREFACE[7]
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    match read_message(&mut input, HELLO_BYTES_MAX)? {
        Message::Hello(hello) => Ok(hello),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it did not say hello",
        )),
    }
}

/// Reading that ends at a deadline, however slowly bytes drip in.
struct BeforeDeadline<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Read for BeforeDeadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
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
