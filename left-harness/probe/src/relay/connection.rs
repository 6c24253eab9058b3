//! One connection through the wire: dialled on, carried to its end, or reset.

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::lane::{Lane, Written};
use super::socket::{self, Other};
use super::way::{self, Ending, Next, Way};

/// As long as it takes a host that drops packets to be given up.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces carried before others have their turn.
const ROUNDS_MAX: usize = 16;

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The program of this host.
    Program,
    /// That of the other host, through its relay.
    Tunnel,
}

/// How a call goes on.
pub struct Route {
    /// From here,
    pub source: IpAddr,
    /// to there,
    pub dial: SocketAddr,
    /// beginning with this.
    pub first: Vec<u8>,
}

/// When a connection is worth looking at again.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    near: PollFlags,
    far: PollFlags,
    /// At the latest.
    pub until: Option<Instant>,
}

impl Needs {
    const NOTHING: Self = Self {
        near: PollFlags::empty(),
        far: PollFlags::empty(),
        until: None,
    };
}

/// A connection from the moment it was accepted.
pub struct Connection {
    origin: Origin,
    /// Who called.
    near: TcpStream,
    /// Whom we have called.
    far: Option<TcpStream>,
    phase: Phase,
    /// To the tunnel.
    outward: Way,
    /// To the program: counted, held, slowed.
    inward: Way,
    /// The wire has stood still since the last byte.
    was_still: bool,
    /// See [`Needs`].
    pub needs: Needs,
}

enum Phase {
    /// Not dialled on before that.
    Called(Instant, Route),
    /// No longer than until then.
    Dialling(Instant),
    Carrying,
    /// Both sockets go with it; what they end with was decided before.
    Over,
}

impl Connection {
    /// Somebody called. Both sockets come with a linger of zero, so that dropping
    /// them, for whatever reason, resets both sides.
    pub fn begin(
        near: TcpStream,
        origin: Origin,
        mut route: Route,
        dial_after: Duration,
        delay: Duration,
        lane: &Lane,
        now: Instant,
    ) -> Self {
        let first = std::mem::take(&mut route.first);
        Self {
            origin,
            near,
            far: None,
            phase: Phase::Called(now + dial_after, route),
            outward: Way::new(Duration::ZERO, first, now),
            inward: Way::new(delay, Vec::new(), now),
            was_still: lane.is_still(),
            needs: Needs::NOTHING,
        }
    }

    /// It goes on.
    pub fn lives(&self) -> bool {
        !matches!(self.phase, Phase::Over)
    }

    /// The sockets it waits for. One that it does not wait for is left out: its
    /// trouble would wake us again and again.
    pub fn waits_for(&self) -> impl Iterator<Item = (&TcpStream, PollFlags)> {
        let near = Some((&self.near, self.needs.near));
        let far = self.far.as_ref().map(|far| (far, self.needs.far));
        let both = near.into_iter().chain(far);
        both.filter(|(_, flags)| !flags.is_empty())
    }

    /// Does all that can be done now.
    pub fn advance(&mut self, lane: &mut Lane, scratch: &mut [u8], now: Instant) {
        self.needs = Needs::NOTHING;
        if lane.is_still() {
            // Neither a byte nor an end nor a reset crosses it.
            self.was_still = true;
            return;
        }
        if let Phase::Called(..) = self.phase {
            self.dial(now);
        }
        if let Phase::Dialling(_) = self.phase {
            self.hear(now);
        }
        if let Phase::Carrying = self.phase {
            self.carry(lane, scratch, now);
        }
    }

    fn dial(&mut self, now: Instant) {
        let Phase::Called(after, route) = &self.phase else {
            return;
        };
        if now < *after {
            self.needs.until = Some(*after);
            return;
        }
        // Who has given up meanwhile would never have been heard on the far side.
        let was_still = std::mem::take(&mut self.was_still);
        if was_still && socket::other(&self.near) != Other::There {
            self.phase = Phase::Over;
            return;
        }
        let buffer_bytes = match self.origin {
            Origin::Program => socket::TUNNEL_BUFFER_BYTES,
            Origin::Tunnel => socket::PROGRAM_BUFFER_BYTES,
        };
        match socket::dial(route.source, route.dial, buffer_bytes) {
            Ok(far) => {
                self.far = Some(far);
                self.needs.far = PollFlags::OUT;
                self.phase = Phase::Dialling(now + DIAL_TIMEOUT);
            }
            Err(_) => self.phase = Phase::Over,
        }
    }

    fn hear(&mut self, now: Instant) {
        let (Phase::Dialling(until), Some(far)) = (&self.phase, &self.far) else {
            return;
        };
        match is_connected(far) {
            Ok(true) => self.phase = Phase::Carrying,
            Ok(false) if now < *until => {
                self.needs.far = PollFlags::OUT;
                self.needs.until = Some(*until);
            }
            // Nobody listens there: dropping the near socket resets it, and the
            // dialler sees that rather than a polite end.
            Ok(false) | Err(_) => self.phase = Phase::Over,
        }
    }

    fn carry(&mut self, lane: &mut Lane, scratch: &mut [u8], now: Instant) {
        let Some(far) = &mut self.far else {
            return;
        };
        let (program, tunnel) = match self.origin {
            Origin::Program => (&mut self.near, far),
            Origin::Tunnel => (far, &mut self.near),
        };
        let mut carrier = Carrier {
            program,
            tunnel,
            to_program: PollFlags::empty(),
            to_tunnel: PollFlags::empty(),
            until: None,
            // Whoever was killed while the wire stood still looks like one that has
            // only closed its sending half, and the kernel takes what is written to
            // it. The answer to a single byte tells, so that a bufferful is not
            // counted as delivered to the dead.
            careful: false,
        };
        if std::mem::take(&mut self.was_still) {
            match socket::other(carrier.program) {
                Other::There => {}
                Other::Closed => carrier.careful = true,
                Other::Gone => {
                    self.phase = Phase::Over;
                    return;
                }
            }
        }
        let mut rounds = 0;
        let went = loop {
            if lane.is_still() {
                break Ok(());
            }
            let step = carrier
                .out(&mut self.outward, scratch, now)
                .and_then(|out| Ok(out | carrier.inward(&mut self.inward, lane, scratch, now)?));
            rounds += 1;
            match step {
                Ok(true) if rounds < ROUNDS_MAX => {}
                Ok(true) => {
                    carrier.until = Some(now);
                    break Ok(());
                }
                Ok(false) => break Ok(()),
                Err(Gone) => break Err(Gone),
            }
        };
        if lane.is_still() {
            // Also what went wrong since then waits.
            self.was_still = true;
            return;
        }
        if went.is_err() {
            self.phase = Phase::Over;
            return;
        }
        if self.outward.ended && self.inward.ended {
            socket::close_in_order(carrier.program);
            socket::close_in_order(carrier.tunnel);
            self.phase = Phase::Over;
            return;
        }
        if self.outward.wants_to_read() {
            carrier.to_program |= PollFlags::IN;
        }
        if self.inward.wants_to_read() {
            carrier.to_tunnel |= PollFlags::IN;
        }
        let (near, far) = match self.origin {
            Origin::Program => (carrier.to_program, carrier.to_tunnel),
            Origin::Tunnel => (carrier.to_tunnel, carrier.to_program),
        };
        self.needs = Needs {
            near,
            far,
            until: carrier.until,
        };
    }
}

/// One of the sides is gone: so is the connection, on both.
struct Gone;

/// Carries pieces both ways, as far as they go now.
struct Carrier<'a> {
    program: &'a mut TcpStream,
    tunnel: &'a mut TcpStream,
    to_program: PollFlags,
    to_tunnel: PollFlags,
    until: Option<Instant>,
    careful: bool,
}

impl Carrier<'_> {
    /// One piece from the program to the tunnel; whether it got on.
    fn out(&mut self, way: &mut Way, scratch: &mut [u8], now: Instant) -> Result<bool, Gone> {
        let read = way.read(self.program, scratch, now);
        let written = match way.next(now) {
            Next::Bytes(bytes) => match way::write(self.tunnel, bytes).map_err(|_| Gone)? {
                0 => {
                    self.to_tunnel |= PollFlags::OUT;
                    false
                }
                done => {
                    way.advance(done);
                    true
                }
            },
            Next::End(Ending::Reset) => return Err(Gone),
            Next::End(Ending::InOrder) => {
                self.tunnel.shutdown(Shutdown::Write).map_err(|_| Gone)?;
                way.ended = true;
                true
            }
            Next::Later(_) | Next::Nothing => false,
        };
        Ok(read | written)
    }

    /// One piece from the tunnel to the program; whether it got on.
    fn inward(
        &mut self,
        way: &mut Way,
        lane: &mut Lane,
        scratch: &mut [u8],
        now: Instant,
    ) -> Result<bool, Gone> {
        let read = way.read(self.tunnel, scratch, now);
        let written = match way.next(now) {
            Next::Bytes(bytes) => {
                let bytes = if self.careful { &bytes[..1] } else { bytes };
                let write = |bytes: &[u8]| way::write(self.program, bytes);
                match lane.write(bytes, now, write).map_err(|_| Gone)? {
                    Written::Bytes(done) => {
                        way.advance(done);
                        self.careful = false;
                        true
                    }
                    Written::Full => {
                        self.to_program |= PollFlags::OUT;
                        false
                    }
                    Written::Still => false,
                    Written::Later(when) => {
                        self.until = Some(when);
                        false
                    }
                }
            }
            Next::End(Ending::Reset) => return Err(Gone),
            Next::End(Ending::InOrder) => {
                self.program.shutdown(Shutdown::Write).map_err(|_| Gone)?;
                way.ended = true;
                true
            }
            Next::Later(when) => {
                self.until = Some(when);
                false
            }
            Next::Nothing => false,
        };
        Ok(read | written)
    }
}

/// Whether a call has been answered; an error when nobody does.
fn is_connected(stream: &TcpStream) -> std::io::Result<bool> {
    socket::connected(stream)?;
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
