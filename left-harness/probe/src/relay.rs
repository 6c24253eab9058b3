//! `relay`: one end of the wire between two hosts, for as long as its channel lives.
//!
//! The program on this host finds its peer at a *stand-in* address of loopback. What
//! it dials there is carried in a *tunnel*, one TCP connection each, to the relay of
//! the other host, and that one dials on from its own stand-in: both programs see the
//! addresses they were given. Each relay counts what it writes out to the program of
//! its own host, and at that door it holds and slows.
//!
//! One thread and one `poll`: what is exact about the wire is exact because nothing
//! else happens while a byte is written.

mod connection;
mod door;
mod lane;
mod orders;
mod socket;
mod way;

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::connection::{Connection, Origin};
use self::door::Door;
use self::lane::Lane;
use self::orders::{Join, Order, Talk};
use crate::fail::{Doing, Fail, Result};
use crate::json::Line;
use crate::lease::Lease;

/// Connections carried at once; more wait where they are accepted.
const CONNECTIONS_MAX: usize = 256;
/// Descriptors beside those of the connections, of which each has two.
const OTHER_FILES: u64 = 40;
/// A free place on loopback is found at the first try, or there is none.
const TRIES_MAX: u32 = 20;

/// What is to be relayed.
pub struct Spec {
    /// Where the other host's relay finds this one; port 0 is any that is free.
    pub data: SocketAddr,
    /// How long it lives without a word.
    pub lease: Duration,
    /// Towards this host, in bytes a second.
    pub rate: Option<u64>,
    /// Towards this host.
    pub delay: Duration,
}

/// Where things are on this host.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// The program listens here.
    listen: SocketAddr,
    /// And finds its peer here.
    peer: SocketAddr,
}

/// Relays until told to end, until the channel ends, or until the lease lapses.
pub fn relay(spec: &Spec) -> Result<()> {
    let (places, calls) = stand_in()?;
    let tunnels = socket::listen(spec.data, socket::TUNNEL_BUFFER_BYTES)
        .doing(|| format!("listen on data address {}", spec.data))?;
    let data = tunnels.local_addr().doing(|| "find the data port".into())?;
    let mut talk = Talk::default();
    talk.say(
        &Line::new()
            .yes("relaying")
            .text("data", &data.to_string())
            .text("listen", &places.listen.to_string())
            .text("peer", &places.peer.to_string())
            .end(),
    );
    let mut relay = Relay {
        places,
        data,
        delay: spec.delay,
        lease: Lease::new(spec.lease),
        lane: Lane::new(spec.rate, Instant::now()),
        join: None,
        calls: Door::open(calls),
        tunnels: Door::open(tunnels),
        connections: Vec::new(),
        connections_max: connections_max(),
        dialled: 0,
        scratch: vec![0; way::PIECE_BYTES],
    };
    relay.live(&mut talk)
}

struct Relay {
    places: Places,
    data: SocketAddr,
    delay: Duration,
    lease: Lease,
    lane: Lane,
    join: Option<Join>,
    /// Calls of this host's program.
    calls: Door,
    /// Calls of the other host's relay.
    tunnels: Door,
    connections: Vec<Connection>,
    connections_max: usize,
    /// By this host's program, ever.
    dialled: u64,
    scratch: Vec<u8>,
}

/// What `poll` has told.
struct Woken {
    stdin: bool,
    stdout: bool,
    calls: bool,
    tunnels: bool,
    strangers: Vec<bool>,
    connections: Vec<bool>,
}

impl Relay {
    fn live(&mut self, talk: &mut Talk) -> Result<()> {
        // Everything is looked at once at first and after every order.
        let mut stirred = true;
        loop {
            let now = Instant::now();
            let Some(left) = self.lease.left() else {
                return Err(Fail("nobody has renewed the lease".into()));
            };
            let woken = self.wait(talk, if stirred { Duration::ZERO } else { left }, now)?;
            if woken.stdout {
                talk.write()?;
            }
            if woken.stdin {
                match talk.read()? {
                    None => return Ok(()),
                    Some(orders) => {
                        for (tag, order) in orders {
                            if matches!(order, Order::End) {
                                return Ok(());
                            }
                            self.obey(tag, order, talk);
                        }
                        stirred = true;
                    }
                }
            }
            let now = Instant::now();
            self.accept(&woken, now);
            for (index, connection) in self.connections.iter_mut().enumerate() {
                // Those that were accepted just now have not been waited for.
                let woken = woken.connections.get(index).copied().unwrap_or(true);
                let due = connection.needs.until.is_some_and(|until| until <= now);
                if woken || due || stirred {
                    connection.advance(&mut self.lane, &mut self.scratch, now);
                }
            }
            self.connections.retain(Connection::lives);
            stirred = false;
            for (point, bytes) in self.lane.fired() {
                talk.say(
                    &Line::new()
                        .number("fired", point)
                        .number("bytes", bytes)
                        .end(),
                );
                // What stands still now must forget what it was waiting for.
                stirred = true;
            }
        }
    }

    fn wait(&self, talk: &Talk, timeout: Duration, now: Instant) -> Result<Woken> {
        let stdin = io::stdin();
        let stdout = io::stdout();
        let mut fds = vec![PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        if talk.has_words() {
            fds.push(PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::OUT));
        }
        let has_room = self.join.is_some() && self.connections.len() < self.connections_max;
        let after_output = fds.len();
        if has_room {
            fds.push(PollFd::new(self.calls.listener(), PollFlags::IN));
            fds.push(PollFd::new(self.tunnels.listener(), PollFlags::IN));
        }
        let after_doors = fds.len();
        let strangers = self.tunnels.strangers();
        fds.extend(strangers.map(|stranger| PollFd::new(stranger, PollFlags::IN)));
        let after_strangers = fds.len();
        // Which descriptors belong to which connection.
        let mut owners = Vec::new();
        let mut timeout = timeout;
        let mut no_later_than = |until: Option<Instant>| {
            if let Some(until) = until {
                timeout = timeout.min(until.saturating_duration_since(now));
            }
        };
        no_later_than(self.tunnels.deadline());
        for (index, connection) in self.connections.iter().enumerate() {
            no_later_than(connection.needs.until);
            for (socket, flags) in connection.waits_for() {
                fds.push(PollFd::new(socket, flags));
                owners.push(index);
            }
        }
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).doing(|| "wait for the wire".into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut connections = vec![false; self.connections.len()];
        for (owner, ready) in owners.iter().zip(&ready[after_strangers..]) {
            connections[*owner] |= ready;
        }
        Ok(Woken {
            stdin: ready[0],
            stdout: after_output == 2 && ready[1],
            calls: has_room && ready[after_output],
            tunnels: has_room && ready[after_output + 1],
            strangers: ready[after_doors..after_strangers].to_vec(),
            connections,
        })
    }

    fn obey(&mut self, tag: u64, order: Order, talk: &mut Talk) {
        match order {
            Order::Renew => return self.lease.renew(),
            Order::Join(join) => self.join = Some(join),
            Order::Arm { point, bytes, hold } => {
                if let Err(why) = self.lane.arm(point, bytes, hold) {
                    let line = Line::new().number("answer", tag).text("refused", why);
                    return talk.say(&line.end());
                }
            }
            Order::Noticed(point) => self.lane.notice(point),
            Order::Stand(point) => self.lane.stand(point),
            Order::Release(point) => self.lane.release(point),
            Order::Cut => self.lane.cut(),
            Order::Heal => self.lane.heal(),
            Order::Count | Order::End => {}
        }
        // The count in every answer is that of this very moment: who arms a point
        // knows from where it counts.
        talk.say(
            &Line::new()
                .number("answer", tag)
                .number("delivered", self.lane.written())
                .number("connections", self.dialled)
                .end(),
        );
    }

    /// Takes in whom there is room for.
    fn accept(&mut self, woken: &Woken, now: Instant) {
        let Some(join) = &self.join else {
            return;
        };
        let room = self.connections_max.saturating_sub(self.connections.len());
        if woken.calls {
            for near in self.calls.accept(room) {
                self.dialled += 1;
                let route = connection::Route {
                    source: self.data.ip(),
                    dial: join.peer,
                    first: join.token.as_bytes().to_vec(),
                };
                self.connections.push(Connection::begin(
                    near,
                    Origin::Program,
                    route,
                    Duration::ZERO,
                    self.delay,
                    &self.lane,
                    now,
                ));
            }
        }
        if woken.tunnels {
            self.tunnels.admit(now);
        }
        for near in self.tunnels.known(&woken.strangers, &join.token, now) {
            let route = connection::Route {
                source: self.places.peer.ip(),
                dial: self.places.listen,
                first: Vec::new(),
            };
            self.connections.push(Connection::begin(
                near,
                Origin::Tunnel,
                route,
                // The wish to connect takes its time as well.
                self.delay,
                self.delay,
                &self.lane,
                now,
            ));
        }
    }
}

/// As many as there are descriptors for: without one nobody could be accepted, and
/// whoever waits there would wake us again and again.
fn connections_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let pairs = files.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES) / 2;
    usize::try_from(pairs).map_or(CONNECTIONS_MAX, |pairs| pairs.clamp(1, CONNECTIONS_MAX))
}

/// A loopback network of our own, away from the low ones that people use: the stand-in,
/// on which we listen, and a place where the program can.
fn stand_in() -> Result<(Places, std::net::TcpListener)> {
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let mut chance = [0; 2];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut chance))
            .doing(|| "read /dev/urandom".into())?;
        let (x, y) = (64 + chance[0] % 191, 1 + chance[1] % 254);
        let at = |last| SocketAddr::from((IpAddr::V4(Ipv4Addr::new(127, x, y, last)), 0));
        let tried = socket::listen(at(101), socket::PROGRAM_BUFFER_BYTES).and_then(|listener| {
            // Closed at once: its port is the program's to take.
            let free = std::net::TcpListener::bind(at(1))?.local_addr()?;
            let peer = listener.local_addr()?;
            Ok((Places { listen: free, peer }, listener))
        });
        match tried {
            Ok(found) => return Ok(found),
            Err(error) => last = Some(error),
        }
    }
    let why = last.map(|error| crate::fail::reason(&error));
    Err(Fail(format!(
        "cannot listen on a loopback address of our own: {}",
        why.unwrap_or_default()
    )))
}
