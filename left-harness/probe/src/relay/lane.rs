//! Towards the program of this host: what went, and the points at which something is
//! to happen. [`Lane::write`] is the only door to the program, and it never writes
//! past an armed point.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use super::way::PIECE_BYTES;

/// How long the lane waits at a point without a hold until the harness has been told.
/// A busy machine lets a woken process wait for milliseconds, in which a fast link
/// moves megabytes: that would be our slowness in the race, not that of what is tested.
const NOTICE_MAX: Duration = Duration::from_millis(5);
/// A step arms one or two.
const POINTS_MAX: usize = 64;
/// Tokens for this long may be saved up: timers are no finer on a busy machine.
const BURST: Duration = Duration::from_millis(10);
/// A burst is never smaller, or a slow link would write crumbs.
const BURST_BYTES_MIN: f64 = 4096.0;

/// What happens to the bytes when a point is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// They stop at exactly that byte until released.
    UntilReleased,
    /// They flow on as soon as the harness has been told.
    No,
}

/// The direction towards this host.
pub struct Lane {
    written: u64,
    points: Vec<Point>,
    /// Has fired without a hold and is not noticed yet; no longer than until then.
    noticing: Option<(u64, Instant)>,
    /// Why the wire stands still, by the names of points.
    holds: BTreeSet<u64>,
    is_cut: bool,
    fired: Vec<(u64, u64)>,
    bucket: Option<Bucket>,
}

struct Point {
    name: u64,
    from: u64,
    bytes: u64,
    hold: Hold,
}

/// What came of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// So much is written and counted.
    Bytes(usize),
    /// The socket takes nothing now.
    Full,
    /// The wire stands still.
    Still,
    /// Nothing before that.
    Later(Instant),
}

impl Lane {
    /// At so many bytes a second, or as fast as it goes.
    pub fn new(rate: Option<u64>, now: Instant) -> Self {
        Self {
            written: 0,
            points: Vec::new(),
            noticing: None,
            holds: BTreeSet::new(),
            is_cut: false,
            fired: Vec::new(),
            bucket: rate.map(|rate| Bucket::new(rate, now)),
        }
    }

    /// Payload bytes written out to the program, ever.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// No byte may move now.
    pub fn is_still(&self) -> bool {
        self.is_cut || !self.holds.is_empty()
    }

    /// Writes of `bytes` what may go now. `write` must not block; it says 0 when full.
    pub fn write(
        &mut self,
        bytes: &[u8],
        now: Instant,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Written> {
        if self.is_still() {
            return Ok(Written::Still);
        }
        if let Some((_, until)) = self.noticing {
            if now < until {
                return Ok(Written::Later(until));
            }
            self.noticing = None;
        }
        let mut limit = bytes.len().min(PIECE_BYTES);
        for point in &self.points {
            limit = limit.min(usize::try_from(point.left(self.written)).unwrap_or(usize::MAX));
        }
        if let Some(bucket) = &mut self.bucket {
            match bucket.allow(limit, now) {
                Ok(allowed) => limit = allowed,
                Err(when) => return Ok(Written::Later(when)),
            }
        }
        let done = match write(&bytes[..limit])? {
            0 => return Ok(Written::Full),
            done => done,
        };
        self.written += done as u64;
        if let Some(bucket) = &mut self.bucket {
            bucket.tokens -= done as f64;
        }
        self.fire(now);
        Ok(Written::Bytes(done))
    }

    /// Waits for so many bytes more from now on.
    pub fn arm(&mut self, name: u64, bytes: u64, hold: Hold) -> Result<(), &'static str> {
        if self.points.len() >= POINTS_MAX {
            return Err("too many points are armed");
        }
        self.points.push(Point {
            name,
            from: self.written,
            bytes,
            hold,
        });
        // Nothing more to wait for is reached already.
        self.fire(Instant::now());
        Ok(())
    }

    /// The harness knows that a point has fired.
    pub fn notice(&mut self, name: u64) {
        self.noticing = self.noticing.filter(|(noticing, _)| *noticing != name);
    }

    /// Stands still for a point of the other direction.
    pub fn stand(&mut self, name: u64) {
        self.holds.insert(name);
    }

    /// Disarms a point; a wire that it holds moves again.
    pub fn release(&mut self, name: u64) {
        self.points.retain(|point| point.name != name);
        self.holds.remove(&name);
        self.notice(name);
    }

    /// Stands still until healed.
    pub fn cut(&mut self) {
        self.is_cut = true;
    }

    /// The opposite of [`Lane::cut`].
    pub fn heal(&mut self) {
        self.is_cut = false;
    }

    /// The points that fired since this was asked last, with what was written since
    /// they were armed.
    pub fn fired(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.fired)
    }

    fn fire(&mut self, now: Instant) {
        let written = self.written;
        let (fired, waiting) = std::mem::take(&mut self.points)
            .into_iter()
            .partition::<Vec<_>, _>(|point| point.left(written) == 0);
        self.points = waiting;
        for point in fired {
            match point.hold {
                Hold::UntilReleased => drop(self.holds.insert(point.name)),
                Hold::No => self.noticing = Some((point.name, now + NOTICE_MAX)),
            }
            self.fired.push((point.name, written - point.from));
        }
    }
}

impl Point {
    fn left(&self, written: u64) -> u64 {
        self.bytes.saturating_sub(written - self.from)
    }
}

/// Lets so many bytes through a second, evenly.
struct Bucket {
    bytes_per_second: f64,
    burst_bytes: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(bytes_per_second: u64, now: Instant) -> Self {
        let bytes_per_second = bytes_per_second.max(1) as f64;
        let burst = bytes_per_second * BURST.as_secs_f64();
        let burst_bytes = burst.max(BURST_BYTES_MIN).floor();
        Self {
            bytes_per_second,
            burst_bytes,
            tokens: burst_bytes,
            filled: now,
        }
    }

    /// How many of `wanted` may go now, or when it is worth asking again.
    fn allow(&mut self, wanted: usize, now: Instant) -> Result<usize, Instant> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now.max(self.filled);
        self.tokens = (self.tokens + passed * self.bytes_per_second).min(self.burst_bytes);
        // Half a burst at least, unless less is wanted: no crumbs.
        let worth_it = (wanted as f64).min(self.burst_bytes / 2.0);
        if self.tokens >= worth_it {
            return Ok(wanted.min(self.tokens as usize));
        }
        let wait = Duration::from_secs_f64((worth_it - self.tokens) / self.bytes_per_second);
        // Rounded up: a moment that is already here would be asked for again.
        Err(now + wait + Duration::from_nanos(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(lane: &mut Lane, size: usize, now: Instant) -> Written {
        lane.write(&vec![0; size], now, |bytes| Ok(bytes.len()))
            .unwrap()
    }

    #[test]
    fn held_point_stops_at_its_byte_until_every_hold_is_released() {
        let now = Instant::now();
        let mut lane = Lane::new(None, now);
        lane.arm(1, 100, Hold::UntilReleased).unwrap();
        lane.arm(2, 100, Hold::UntilReleased).unwrap();
        assert_eq!(write(&mut lane, 70, now), Written::Bytes(70));
        assert_eq!(write(&mut lane, 70, now), Written::Bytes(30));
        assert_eq!(lane.fired(), [(1, 100), (2, 100)]);
        assert_eq!(write(&mut lane, 70, now), Written::Still);
        lane.release(1);
        assert_eq!(write(&mut lane, 70, now), Written::Still);
        lane.release(2);
        assert_eq!(write(&mut lane, 70, now), Written::Bytes(70));
        assert_eq!(lane.written(), 170);
    }

    #[test]
    fn point_without_a_hold_waits_for_its_notice_and_no_longer_than_that() {
        let now = Instant::now();
        let mut lane = Lane::new(None, now);
        lane.arm(7, 10, Hold::No).unwrap();
        assert_eq!(write(&mut lane, 50, now), Written::Bytes(10));
        assert_eq!(write(&mut lane, 50, now), Written::Later(now + NOTICE_MAX));
        lane.notice(8);
        assert_eq!(write(&mut lane, 50, now), Written::Later(now + NOTICE_MAX));
        lane.notice(7);
        assert_eq!(write(&mut lane, 50, now), Written::Bytes(50));
        lane.arm(9, 1, Hold::No).unwrap();
        assert_eq!(write(&mut lane, 50, now), Written::Bytes(1));
        assert_eq!(write(&mut lane, 50, now + NOTICE_MAX), Written::Bytes(50));
    }

    #[test]
    fn rate_is_kept_over_time() {
        let begun = Instant::now();
        let mut now = begun;
        let mut lane = Lane::new(Some(1 << 20), begun);
        while now < begun + Duration::from_secs(10) {
            match write(&mut lane, 64 << 10, now) {
                Written::Later(when) => now = when,
                other => assert!(matches!(other, Written::Bytes(1..)), "{other:?}"),
            }
        }
        let wanted = 10 << 20;
        assert!((wanted - (100 << 10)..=wanted + (100 << 10)).contains(&lane.written()));
    }

    #[test]
    fn nothing_to_wait_for_is_reached_at_once() {
        let mut lane = Lane::new(None, Instant::now());
        lane.arm(3, 0, Hold::UntilReleased).unwrap();
        assert_eq!(lane.fired(), [(3, 0)]);
        assert!(lane.is_still());
    }
}
