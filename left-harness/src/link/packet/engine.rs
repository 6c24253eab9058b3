//! What happens to each packet, without sockets and without a clock of its own.
//!
//! Everything that is exact about the link is exact because of
//! [`Engine::hand_over`]: it is the only door through which packets leave, it
//! counts what it has just sent, and it never sends past an armed point.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::conditions::{Faults, Shape};
use super::direction::{Direction, Fired, Passage};
use super::frame::{self, Content, Tcp, flag};
use super::piece;
use super::point::{AtPoint, Point};
use super::reset;

/// The most that a sender is ahead of what its receiver has got: all that a
/// direction keeps, and a large window.
const AHEAD_MAX: u32 = 128 << 20;

/// Which of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    One,
    Other,
}

impl End {
    pub const BOTH: [Self; 2] = [Self::One, Self::Other];

    pub fn opposite(self) -> Self {
        match self {
            Self::One => Self::Other,
            Self::Other => Self::One,
        }
    }
}

/// What came of sending a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Done,
    /// Nothing goes out at this end now; [`Engine::has_room`] says when again.
    Full,
    /// It is gone, as on any network.
    Lost,
}

/// The way out at both ends.
pub(super) trait Ways {
    /// Sends one frame, headers as in [`frame`], without waiting.
    fn send(&mut self, to: End, frame: &[u8]) -> Sent;
}

/// Two directions and what they share.
#[derive(Debug)]
pub(super) struct Engine {
    /// By the end it comes from.
    directions: [Direction; 2],
    /// Points that were reached with a hold and are not released yet.
    holds: usize,
    /// Points that were reached with a cut and are not released yet.
    cuts: usize,
    /// A hold was released, and what waited behind it has not all gone yet.
    is_draining: bool,
}

impl Engine {
    /// Both directions of the same quality.
    pub fn new(shape: &Shape, faults: &Faults, now: Instant) -> Self {
        let direction = |salt: u64| {
            // Two directions that lose the same packets would not be chance.
            let mut faults = faults.clone();
            faults.seed = faults.seed.wrapping_mul(2).wrapping_add(salt);
            Direction::new(shape.clone(), faults, now)
        };
        Self {
            directions: [direction(0), direction(1)],
            holds: 0,
            cuts: 0,
            is_draining: false,
        }
    }

    pub fn direction(&self, from: End) -> &Direction {
        &self.directions[from as usize]
    }

    pub fn direction_mut(&mut self, from: End) -> &mut Direction {
        &mut self.directions[from as usize]
    }

    /// A frame came in at this end.
    pub fn receive(&mut self, from: End, frame: &[u8], now: Instant, ways: &mut dyn Ways) {
        match self.direction(from).passage {
            Passage::Cut => return,
            _ if self.cuts > 0 => return,
            Passage::Refused => {
                if let Content::Tcp(tcp) = frame::read(frame)
                    && !tcp.has(flag::RST)
                {
                    return self.refuse(from, frame, &tcp, now);
                }
            }
            Passage::Open => {}
        }
        self.heed_reset(from, frame);
        let is_still = self.holds > 0;
        let direction = self.direction_mut(from);
        let is_straight = direction.is_straight() && direction.may_go(now);
        if is_still || !is_straight || !direction.has_rate(now) {
            return direction.enqueue(frame, now);
        }
        // The common case copies nothing.
        self.hand_over(from, Cow::Borrowed(frame), false, now, ways);
    }

    /// Heeds a connection that this end has reset, before the reset has reached the
    /// other end: what is still on the way to the dead is lost, not delivered. A
    /// receiver that is killed while the wire stands still would else be handed
    /// all that waits.
    fn heed_reset(&mut self, from: End, frame: &[u8]) {
        let Content::Tcp(tcp) = frame::read(frame) else {
            return;
        };
        if !tcp.has(flag::RST) {
            return;
        }
        // One that is behind what went already, or far ahead of all that can wait
        // here, is from an earlier connection.
        let is_old = match self.direction(from).flows.expected(&tcp.key) {
            Some(expected) => tcp.sequence.wrapping_sub(expected) > AHEAD_MAX,
            None => false,
        };
        if !is_old {
            let towards = self.direction_mut(from.opposite());
            towards.flows.refuse(&tcp.key.reverse());
        }
    }

    /// What waited behind a hold is on its way: slowly is wise, as whoever it is
    /// for may be gone, and must be heard before the next packet is sent.
    pub fn is_draining(&mut self) -> bool {
        self.is_draining &= self.directions.iter().any(Direction::has_queued);
        self.is_draining
    }

    /// Sends what is due, at most so many packets.
    pub fn pump(&mut self, now: Instant, packets_max: usize, ways: &mut dyn Ways) {
        for from in End::BOTH {
            for _ in 0..packets_max {
                if self.holds > 0 {
                    return;
                }
                let Some(queued) = self.direction_mut(from).pop(now) else {
                    break;
                };
                if self.cuts == 0 && self.direction(from).passage != Passage::Cut {
                    let frame = Cow::Owned(queued.frame);
                    self.hand_over(from, frame, queued.is_damaged, now, ways);
                }
            }
        }
    }

    /// When [`Engine::pump`] has something to do next, if time alone can help.
    pub fn wake(&self) -> Option<Instant> {
        if self.holds > 0 {
            return None;
        }
        let wakes = self.directions.iter().filter_map(Direction::wake);
        wakes.min()
    }

    /// Something waits for [`Engine::has_room`] at this end.
    pub fn wants_room(&self, to: End) -> bool {
        let direction = self.direction(to.opposite());
        self.holds == 0 && direction.is_full && direction.has_queued()
    }

    /// Frames go out again at this end.
    pub fn has_room(&mut self, to: End) {
        self.direction_mut(to.opposite()).is_full = false;
    }

    /// Sends a packet up to the next point, counts it, and keeps the rest.
    fn hand_over(
        &mut self,
        from: End,
        frame: Cow<'_, [u8]>,
        is_damaged: bool,
        now: Instant,
        ways: &mut dyn Ways,
    ) {
        let to = from.opposite();
        let direction = &mut self.directions[from as usize];
        let content = if is_damaged {
            Content::Chatter
        } else {
            frame::read(&frame)
        };
        if let Content::Tcp(tcp) = &content
            && direction.flows.is_refused(tcp)
        {
            return;
        }
        if let Content::Tcp(tcp) = &content
            && let Some(left) = direction.left()
            && direction.flows.fresh(tcp) > left
        {
            let at = direction.flows.cut(tcp, left);
            let first = piece::piece(&frame, tcp, 0..at);
            return match ways.send(to, &first) {
                Sent::Done => {
                    let rest = piece::piece(&frame, tcp, at..tcp.payload_bytes());
                    direction.push_first(rest, false, now);
                    // The end comes with the rest.
                    let part = Tcp {
                        end: tcp.payload_at + at,
                        flags: tcp.flags & !(flag::FIN | flag::PSH),
                        ..*tcp
                    };
                    self.count(from, &first, &Content::Tcp(part), now);
                }
                Sent::Full => {
                    direction.is_full = true;
                    direction.push_first(frame.into_owned(), false, now);
                }
                Sent::Lost => {}
            };
        }
        match ways.send(to, &frame) {
            Sent::Done => self.count(from, &frame, &content, now),
            Sent::Full => {
                direction.is_full = true;
                direction.push_first(frame.into_owned(), is_damaged, now);
            }
            Sent::Lost => {}
        }
    }

    /// This went.
    fn count(&mut self, from: End, frame: &[u8], content: &Content, now: Instant) {
        let direction = self.direction_mut(from);
        direction.spend(frame.len());
        match content {
            Content::Tcp(tcp) => direction.counted += direction.flows.take(frame, tcp),
            Content::Other(bytes) => direction.other += *bytes as u64,
            Content::Chatter => return,
        }
        self.fire(from, now);
    }

    fn fire(&mut self, from: End, now: Instant) {
        let Fired { holds, cuts } = self.direction_mut(from).fire(now);
        self.holds += holds;
        self.cuts += cuts;
    }

    /// Waits for `bytes` more from now on.
    pub fn arm(&mut self, from: End, bytes: u64, action: AtPoint, now: Instant) -> Arc<Point> {
        let direction = self.direction_mut(from);
        let point = Arc::new(Point::new(direction.counted, bytes, action));
        direction.arm(point.clone());
        // Nothing more to wait for is reached already.
        self.fire(from, now);
        point
    }

    /// Forgets the point, and takes back what it did. Only once for each.
    pub fn disarm(&mut self, from: End, point: &Arc<Point>) {
        self.direction_mut(from).disarm(point);
        if point.has_fired() {
            match point.action {
                AtPoint::FlowOn => {}
                AtPoint::Hold => {
                    self.holds = self.holds.saturating_sub(1);
                    self.is_draining = true;
                }
                AtPoint::Cut => self.cuts = self.cuts.saturating_sub(1),
            }
        }
    }

    /// Ends all connections of which something is known, at both ends.
    pub fn reset(&mut self, now: Instant) {
        for direction in &mut self.directions {
            let resets: Vec<_> = direction
                .flows
                .living()
                .filter_map(|flow| reset::along(&flow.sample, flow.expected()))
                .collect();
            for frame in resets {
                direction.inject(frame, now);
            }
        }
    }

    /// Answers a packet with a reset, and tells its receiver as well.
    fn refuse(&mut self, from: End, frame: &[u8], tcp: &Tcp, now: Instant) {
        if let Some(answer) = reset::answer(frame, tcp) {
            let back = self.direction_mut(from.opposite());
            back.inject(answer, now);
        }
        let direction = self.direction_mut(from);
        if let Some(expected) = direction.flows.expected(&tcp.key)
            && let Some(along) = reset::along(&reset::sample(frame, tcp), expected)
        {
            direction.inject(along, now);
        }
    }

    /// Nothing fires any more.
    pub fn end(&mut self) {
        for direction in &mut self.directions {
            direction.end();
        }
    }
}
