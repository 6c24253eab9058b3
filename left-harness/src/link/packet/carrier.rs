//! The thread that carries: it waits for frames, for time and for orders.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::engine::{End, Engine, Sent, Ways};
use super::piece;
use super::vnet;

/// The largest frame that is read; the kernel's are up to 64 KiB and headers.
const FRAME_BYTES_MAX: usize = 128 << 10;
/// Frames read at one end, or sent from a queue, before somebody else has a turn:
/// it bounds how long the lock is held. Sending one of 64 KiB can take the time
/// that the receiving kernel needs for it.
const FRAMES_AT_ONCE: usize = 16;

/// How long the thread gives way to who asks; beyond that whoever asks may have
/// got no processor.
const GIVE_WAY_MAX: Duration = Duration::from_millis(1);

/// The wire's end of a host.
#[derive(Debug)]
pub struct PacketEnd {
    /// `a`
    pub host: String,
    /// Reads and writes whole Ethernet frames without blocking: a packet socket
    /// (see [`super::socket::open`]), a TAP device, a datagram socket.
    pub fd: OwnedFd,
    /// Each frame comes and goes behind a `struct virtio_net_hdr`, and may be
    /// several segments in one.
    pub vnet: bool,
}

/// What the carrying thread and the handles of the link share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// How many want the lock beside the thread that carries.
    asking: AtomicUsize,
    /// Readable when there are orders.
    orders: OwnedFd,
}

/// What is under the lock.
#[derive(Debug)]
pub(super) struct State {
    pub engine: Engine,
    /// The link is to end, or has ended.
    stop: bool,
    /// Why it has ended by itself.
    pub failed: Option<String>,
}

impl Shared {
    /// For everybody but the thread that carries, which gives way.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.asking.fetch_add(1, Ordering::AcqRel);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.asking.fetch_sub(1, Ordering::AcqRel);
        state
    }

    /// For the thread that carries: on a busy link it would else have the lock
    /// again before anybody whom it has woken gets to it.
    fn lock_last(&self) -> MutexGuard<'_, State> {
        let end = Instant::now() + GIVE_WAY_MAX;
        while self.asking.load(Ordering::Acquire) > 0 && Instant::now() < end {
            std::thread::yield_now();
        }
        // Nothing that happens under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look at the state again.
    pub fn wake(&self) {
        // Full is as good: then it is readable already.
        let _ = rustix::io::write(&self.orders, &1_u64.to_ne_bytes());
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.wake();
    }
}

/// Starts the thread that carries frames between the ends.
pub(super) fn start(
    engine: Engine,
    ends: [PacketEnd; 2],
) -> io::Result<(Arc<Shared>, JoinHandle<()>)> {
    let orders = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    for end in &ends {
        // A full way out must not stop the thread.
        let flags = rustix::fs::fcntl_getfl(&end.fd)?;
        rustix::fs::fcntl_setfl(&end.fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    }
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            engine,
            stop: false,
            failed: None,
        }),
        asking: AtomicUsize::new(0),
        orders,
    });
    let carrier = Carrier {
        shared: shared.clone(),
        ports: Ports { ends },
        buffer: vec![0; vnet::BYTES + FRAME_BYTES_MAX],
    };
    let thread = std::thread::Builder::new()
        .name("packet-link".to_string())
        .spawn(move || carrier.run())?;
    Ok((shared, thread))
}

struct Carrier {
    shared: Arc<Shared>,
    ports: Ports,
    buffer: Vec<u8>,
}

impl Carrier {
    fn run(mut self) {
        // A bug here must not look like a link on which nothing happens.
        let carried = panic::catch_unwind(AssertUnwindSafe(|| self.carry()));
        let mut state = self.shared.lock();
        state.stop = true;
        state.failed = match carried {
            Ok(Ok(())) => None,
            Ok(Err((what, why))) => Some(format!("{what}: {why}")),
            Err(_) => Some("its thread panicked, which is a bug".to_string()),
        };
        state.engine.end();
    }

    /// Until it is told to stop, or an end is broken.
    fn carry(&mut self) -> Result<(), (String, io::Error)> {
        // The first look at the state is without waiting.
        let mut ready = Ready::default();
        loop {
            let shared = self.shared.clone();
            let mut state = shared.lock_last();
            if state.stop {
                return Ok(());
            }
            for end in End::BOTH {
                if ready.room[end as usize] {
                    state.engine.has_room(end);
                }
            }
            let frames_max = match state.engine.is_draining() {
                true => 1,
                false => FRAMES_AT_ONCE,
            };
            // What waits goes before what comes.
            let now = Instant::now();
            state.engine.pump(now, frames_max, &mut self.ports);
            for end in End::BOTH {
                if ready.frames[end as usize] {
                    self.receive(end, &mut state.engine).map_err(|why| {
                        let host = &self.ports.ends[end as usize].host;
                        (format!("reading frames of host {host}"), why)
                    })?;
                }
            }
            let wake = state.engine.wake();
            let wants_room = End::BOTH.map(|end| state.engine.wants_room(end));
            drop(state);
            ready = self
                .wait(wake, wants_room)
                .map_err(|why| ("waiting for frames".to_string(), why))?;
        }
    }

    fn wait(&self, wake: Option<Instant>, wants_room: [bool; 2]) -> io::Result<Ready> {
        let flags = wants_room.map(|wants_room| match wants_room {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        });
        let [one, other] = &self.ports.ends;
        let mut fds = [
            PollFd::new(&one.fd, flags[0]),
            PollFd::new(&other.fd, flags[1]),
            PollFd::new(&self.shared.orders, PollFlags::IN),
        ];
        let timeout = wake.map(|wake| {
            let wait = wake.saturating_duration_since(Instant::now());
            // Longer than a century is for ever.
            Timespec::try_from(wait).unwrap_or(Timespec {
                tv_sec: i64::from(u32::MAX),
                tv_nsec: 0,
            })
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let events = fds.map(|fd| fd.revents());
        if events[2].contains(PollFlags::IN) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.shared.orders, &mut count);
        }
        // An error of an end shows when it is read, or when it is written to.
        let is_ready = |events: PollFlags, what| {
            events.intersects(what | PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
        };
        Ok(Ready {
            frames: [0, 1].map(|end| is_ready(events[end], PollFlags::IN)),
            room: [0, 1].map(|end| is_ready(events[end], PollFlags::OUT)),
        })
    }

    fn receive(&mut self, end: End, engine: &mut Engine) -> io::Result<()> {
        let start = match self.ports.ends[end as usize].vnet {
            true => 0,
            false => vnet::BYTES,
        };
        for _ in 0..FRAMES_AT_ONCE {
            self.buffer[..start].fill(0);
            let fd = &self.ports.ends[end as usize].fd;
            let read = match rustix::io::read(fd, &mut self.buffer[start..]) {
                // A datagram without anything in it, or the end of a device.
                Ok(0) => return Ok(()),
                Ok(read) => read,
                // The interface is down; what it gets when it is up again comes here.
                Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => return Ok(()),
                // Of a datagram socket whose other end is not there yet.
                Err(Errno::CONNREFUSED) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let length = start + read;
            // Cut off by the buffer, or not even an Ethernet header.
            if length < self.buffer.len() && length >= vnet::BYTES + 14 {
                let now = Instant::now();
                engine.receive(end, &self.buffer[..length], now, &mut self.ports);
            }
        }
        Ok(())
    }
}

/// What has happened while waiting.
#[derive(Debug, Default)]
struct Ready {
    frames: [bool; 2],
    room: [bool; 2],
}

struct Ports {
    ends: [PacketEnd; 2],
}

impl Ways for Ports {
    fn send(&mut self, to: End, frame: &[u8]) -> Sent {
        let end = &self.ends[to as usize];
        if end.vnet {
            return write(end, frame);
        }
        if !vnet::is_super(frame) && !vnet::needs_checksum(frame) {
            return write(end, &frame[vnet::BYTES..]);
        }
        // Who has no header cannot be left anything to do.
        let mut sent = Sent::Lost;
        for mut segment in piece::segments(frame) {
            piece::complete(&mut segment);
            sent = write(end, &segment[vnet::BYTES..]);
            if sent != Sent::Done {
                break;
            }
        }
        sent
    }
}

fn write(end: &PacketEnd, bytes: &[u8]) -> Sent {
    loop {
        return match rustix::io::write(&end.fd, bytes) {
            Ok(_) => Sent::Done,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Sent::Full,
            // Down, no memory, too long: the sender will notice as on any network.
            Err(_) => Sent::Lost,
        };
    }
}
