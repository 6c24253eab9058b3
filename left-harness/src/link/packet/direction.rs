//! One direction: its packets in the order in which they are due, and its count.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::conditions::{Faults, Shape};
use super::flows::Flows;
use super::piece;
use super::point::{AtPoint, Point, State};
use crate::link::shape::Bucket;

/// As for the stream link: how long a direction waits at a point until whoever
/// waits for it has been told.
const NOTICE_MAX: Duration = Duration::from_millis(5);
/// What a packet costs beside its bytes, so that many small ones are bounded too.
const PACKET_OVERHEAD_BYTES: u64 = 128;

/// Whether packets get through at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    /// Lost.
    Cut,
    /// TCP is answered with a reset.
    Refused,
}

/// A packet with the moment at which it may go.
#[derive(Debug)]
pub(super) struct Queued {
    pub due: Instant,
    /// Among those due at once: the smaller one goes first.
    order: i64,
    pub frame: Vec<u8>,
    /// No receiver takes it: it does not count.
    pub is_damaged: bool,
}

/// What the points that have just fired do to the wire.
#[derive(Debug, Default)]
pub(super) struct Fired {
    pub holds: usize,
    pub cuts: usize,
}

#[derive(Debug)]
pub(super) struct Direction {
    shape: Shape,
    faults: Faults,
    dice: StdRng,
    bucket: Option<Bucket>,
    pub passage: Passage,
    queue: BinaryHeap<Reverse<Queued>>,
    queued_bytes: u64,
    /// Of the next one at the end, and of the last one put first.
    order: i64,
    order_first: i64,
    /// No packet is due before the one that came before it.
    last_due: Option<Instant>,
    pub flows: Flows,
    /// New bytes of TCP that went, ever.
    pub counted: u64,
    /// Other payload that went, ever.
    pub other: u64,
    points: Vec<Arc<Point>>,
    /// Has fired without a hold and is not noticed yet; no longer than until then.
    noticing: Option<(Arc<Point>, Instant)>,
    /// The rate is used up until then.
    later: Option<Instant>,
    /// The way out takes nothing now.
    pub is_full: bool,
}

impl Direction {
    pub fn new(shape: Shape, faults: Faults, now: Instant) -> Self {
        Self {
            dice: StdRng::seed_from_u64(faults.seed),
            bucket: shape.rate.map(|rate| Bucket::new(rate, now)),
            shape,
            faults,
            passage: Passage::Open,
            queue: BinaryHeap::new(),
            queued_bytes: 0,
            order: 0,
            order_first: 0,
            last_due: None,
            flows: Flows::default(),
            counted: 0,
            other: 0,
            points: Vec::new(),
            noticing: None,
            later: None,
            is_full: false,
        }
    }

    pub fn set_shape(&mut self, shape: Shape, now: Instant) {
        self.bucket = shape.rate.map(|rate| Bucket::new(rate, now));
        self.later = None;
        self.shape = shape;
    }

    pub fn set_faults(&mut self, faults: Faults) {
        self.dice = StdRng::seed_from_u64(faults.seed);
        self.faults = faults;
    }

    /// A packet that comes now may go now, as it is.
    pub fn is_straight(&self) -> bool {
        self.queue.is_empty()
            && self.shape.delay.is_zero()
            && !self.shape.needs_segments()
            && self.faults.is_none()
    }

    /// Takes a packet in, or loses it.
    pub fn enqueue(&mut self, frame: &[u8], now: Instant) {
        if self.faults.is_none() && !self.shape.needs_segments() {
            return self.push_last(frame.to_vec(), Duration::ZERO, false, now);
        }
        for mut frame in piece::segments(frame) {
            if self.happens(self.faults.loss) {
                continue;
            }
            let is_damaged = self.happens(self.faults.flip);
            if is_damaged {
                let choice = self.dice.random::<u64>();
                piece::flip(&mut frame, choice);
            }
            if self.happens(self.faults.duplicate) {
                self.push_last(frame.clone(), Duration::ZERO, is_damaged, now);
            }
            let mut behind = Duration::ZERO;
            if self.happens(self.faults.reorder) {
                behind = self.faults.reorder_by;
            }
            self.push_last(frame, behind, is_damaged, now);
        }
    }

    fn happens(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.dice.random::<f64>() < chance
    }

    fn push_last(&mut self, frame: Vec<u8>, behind: Duration, is_damaged: bool, now: Instant) {
        if self.queued_bytes + cost(&frame) > self.shape.queue_bytes() {
            return;
        }
        let mut due = now + self.shape.delay;
        if !self.shape.jitter.is_zero() {
            due += self.shape.jitter.mul_f64(self.dice.random::<f64>());
        }
        if let Some(last) = self.last_due {
            due = due.max(last);
        }
        if behind.is_zero() {
            self.last_due = Some(due);
        }
        self.order += 1;
        self.push(Queued {
            due: due + behind,
            order: self.order,
            frame,
            is_damaged,
        });
    }

    /// A packet of the link's own, before everything that waits; lost where the
    /// queue is full, like any other.
    pub fn inject(&mut self, frame: Vec<u8>, now: Instant) {
        if self.queued_bytes + cost(&frame) <= self.shape.queue_bytes() {
            self.push_first(frame, false, now);
        }
    }

    /// Back to where it came from: before everything that waits.
    pub fn push_first(&mut self, frame: Vec<u8>, is_damaged: bool, now: Instant) {
        self.order_first -= 1;
        let first = self.queue.peek();
        let due = first.map_or(now, |Reverse(queued)| queued.due.min(now));
        let order = self.order_first;
        self.push(Queued {
            due,
            order,
            frame,
            is_damaged,
        });
    }

    fn push(&mut self, queued: Queued) {
        self.queued_bytes += cost(&queued.frame);
        self.queue.push(Reverse(queued));
    }

    /// The first packet, if it may go now.
    pub fn pop(&mut self, now: Instant) -> Option<Queued> {
        if !self.may_go(now) {
            return None;
        }
        let Reverse(first) = self.queue.peek()?;
        if first.due > now || !self.has_rate(now) {
            return None;
        }
        let Reverse(queued) = self.queue.pop()?;
        self.queued_bytes -= cost(&queued.frame);
        Some(queued)
    }

    /// Neither a full way out nor a point that is not noticed yet is in the way.
    pub fn may_go(&mut self, now: Instant) -> bool {
        if let Some((point, until)) = &self.noticing {
            if !point.is_noticed() && now < *until {
                return false;
            }
            self.noticing = None;
        }
        !self.is_full
    }

    /// The rate lets a packet go now.
    pub fn has_rate(&mut self, now: Instant) -> bool {
        self.later = match &mut self.bucket {
            Some(bucket) => bucket.allow(1, now).err(),
            None => None,
        };
        self.later.is_none()
    }

    /// A packet of this length went.
    pub fn spend(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(bytes);
        }
    }

    /// When it is worth trying again, if time alone can help.
    pub fn wake(&self) -> Option<Instant> {
        if self.is_full {
            return None;
        }
        let Reverse(first) = self.queue.peek()?;
        let noticing = match &self.noticing {
            Some((point, until)) if !point.is_noticed() => Some(*until),
            _ => None,
        };
        let reasons = [Some(first.due), noticing, self.later];
        reasons.into_iter().flatten().max()
    }

    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Bytes until the next point.
    pub fn left(&self) -> Option<u64> {
        self.points
            .iter()
            .map(|point| point.left(self.counted))
            .min()
    }

    pub fn arm(&mut self, point: Arc<Point>) {
        self.points.push(point);
    }

    pub fn disarm(&mut self, point: &Arc<Point>) {
        self.points.retain(|other| !Arc::ptr_eq(other, point));
        point.notice();
    }

    /// Fires and forgets every point that is reached.
    pub fn fire(&mut self, now: Instant) -> Fired {
        let counted = self.counted;
        let mut sum = Fired::default();
        let is_reached = |point: &mut Arc<Point>| point.left(counted) == 0;
        let reached: Vec<_> = self.points.extract_if(.., is_reached).collect();
        for point in reached {
            point.set(State::Fired(counted - point.from));
            match point.action {
                AtPoint::FlowOn => self.noticing = Some((point, now + NOTICE_MAX)),
                AtPoint::Hold => sum.holds += 1,
                AtPoint::Cut => sum.cuts += 1,
            }
        }
        sum
    }

    /// Nothing fires any more.
    pub fn end(&mut self) {
        for point in self.points.drain(..) {
            point.set(State::Down);
        }
    }
}

fn cost(frame: &[u8]) -> u64 {
    frame.len() as u64 + PACKET_OVERHEAD_BYTES
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}
