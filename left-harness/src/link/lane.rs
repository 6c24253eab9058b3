//! One direction between two hosts: what went, and the points at which
//! something is to happen.
//!
//! Everything that is exact about the link is exact because of [`Lane::write`]:
//! it is the only door through which payload leaves, it counts under the same
//! lock under which it writes, and it never writes past an armed point.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;

use super::Armed;
use super::shape::Bucket;
use super::wire::Wire;

/// The most that one write hands over. It bounds how long the lock is held.
pub(super) const WRITE_BYTES_MAX: usize = 64 << 10;

/// How long a lane waits at a point without a hold until whoever waits for the
/// point has been told. On a busy machine the scheduler lets a woken thread
/// wait for milliseconds, in which a fast link moves megabytes: that would be
/// our slowness in the race, not that of what is tested.
const NOTICE_MAX: Duration = Duration::from_millis(5);

/// What happens to the bytes when an armed point is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The wire stands still at exactly that byte, both ways, until released.
    UntilReleased,
    /// They flow on as soon as [`Armed::fired`] has been told (or a few
    /// milliseconds later); what strikes there races with them.
    No,
}

/// One direction of a wire; the same for all connections and all time.
#[derive(Debug)]
pub struct Lane {
    wire: Arc<Wire>,
    accepted: AtomicU64,
    gate: Mutex<Gate>,
}

/// What [`Lane::write`] asks before each write.
#[derive(Debug)]
struct Gate {
    /// Counted, ever.
    written: u64,
    points: Vec<Arc<Point>>,
    /// Has fired without a hold and is not noticed yet; no longer than until then.
    noticing: Option<(Arc<Point>, Instant)>,
    bucket: Option<Bucket>,
}

/// A place in the stream of a lane where somebody waits.
#[derive(Debug)]
pub(super) struct Point {
    /// Counted bytes when it was armed.
    from: u64,
    /// As many bytes later it fires.
    bytes: u64,
    hold: Hold,
    fired: watch::Sender<Option<u64>>,
    /// Whoever waited knows, or does not want to know any more.
    noticed: watch::Sender<bool>,
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// So much is written and counted.
    Bytes(usize),
    /// The socket takes nothing now.
    Full,
    /// The wire stands still.
    Still,
    /// A point has just fired: see [`Point::is_noticed`], until then at most.
    Noticing(Arc<Point>, Instant),
    /// The rate is used up until then.
    Later(Instant),
}

impl Lane {
    /// A direction of `wire` at `rate` bytes a second, or as fast as it goes.
    pub(super) fn new(wire: Arc<Wire>, rate: Option<u64>) -> Self {
        let bucket = rate.map(|rate| Bucket::new(rate, Instant::now()));
        Self {
            wire,
            accepted: AtomicU64::new(0),
            gate: Mutex::new(Gate {
                written: 0,
                points: Vec::new(),
                noticing: None,
                bucket,
            }),
        }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Payload bytes written out in this direction, ever.
    pub(super) fn delivered(&self) -> u64 {
        // Under the lock, so that what its receiver has got is always counted.
        self.gate().written
    }

    /// Connections dialled in this direction, ever.
    pub(super) fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    pub(super) fn count_connection(&self) {
        self.accepted.fetch_add(1, Ordering::AcqRel);
    }

    /// Writes of `bytes` what may go now. `write` must not block.
    pub(super) fn write(
        &self,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Written> {
        let mut gate = self.gate();
        if self.wire.is_still() {
            return Ok(Written::Still);
        }
        if let Some((point, until)) = &gate.noticing {
            if !*point.noticed.borrow() && Instant::now() < *until {
                return Ok(Written::Noticing(point.clone(), *until));
            }
            gate.noticing = None;
        }
        let before = gate.written;
        let mut limit = bytes.len().min(WRITE_BYTES_MAX);
        for point in &gate.points {
            limit = limit.min(usize::try_from(point.left(before)).unwrap_or(usize::MAX));
        }
        if let Some(bucket) = &mut gate.bucket {
            match bucket.allow(limit, Instant::now()) {
                Ok(allowed) => limit = allowed,
                Err(when) => return Ok(Written::Later(when)),
            }
        }
        let done = match write(&bytes[..limit]) {
            Ok(done) => done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Written::Full),
            Err(error) => return Err(error),
        };
        let after = before + done as u64;
        gate.written = after;
        if let Some(bucket) = &mut gate.bucket {
            bucket.take(done);
        }
        gate.fire(&self.wire);
        Ok(Written::Bytes(done))
    }

    /// Waits for `bytes` more from now on.
    pub(super) fn arm(self: &Arc<Self>, bytes: u64, hold: Hold) -> ArmedLane {
        let mut gate = self.gate();
        let from = gate.written;
        let point = Arc::new(Point {
            from,
            bytes,
            hold,
            fired: watch::Sender::new(None),
            noticed: watch::Sender::new(false),
        });
        gate.points.push(point.clone());
        // Nothing more to wait for is reached already.
        gate.fire(&self.wire);
        drop(gate);
        ArmedLane {
            lane: self.clone(),
            point,
        }
    }

    fn disarm(&self, point: &Arc<Point>) {
        let mut gate = self.gate();
        gate.points.retain(|other| !Arc::ptr_eq(other, point));
        point.noticed.send_replace(true);
        let has_fired = point.fired.borrow().is_some();
        drop(gate);
        if has_fired && point.hold == Hold::UntilReleased {
            self.wire.release();
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing that happens under the lock leaves the gate half changed.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Point {
    /// Bytes until it fires, when so many were written ever.
    fn left(&self, written: u64) -> u64 {
        self.bytes.saturating_sub(written - self.from)
    }

    /// Ends when whoever waits for the point has been told.
    pub(super) async fn is_noticed(&self) {
        // It only fails when the sender is gone, and that is `self`.
        let _ = self.noticed.subscribe().wait_for(|noticed| *noticed).await;
    }
}

impl Gate {
    /// Fires and forgets every point that is reached.
    fn fire(&mut self, wire: &Wire) {
        let written = self.written;
        let (fired, waiting) = std::mem::take(&mut self.points)
            .into_iter()
            .partition::<Vec<_>, _>(|point| point.left(written) == 0);
        self.points = waiting;
        for point in fired {
            // First the wire, under the lane's lock: whoever writes next sees it.
            if point.hold == Hold::UntilReleased {
                wire.hold();
            }
            point.fired.send_replace(Some(written - point.from));
            if point.hold == Hold::No {
                self.noticing = Some((point, Instant::now() + NOTICE_MAX));
            }
        }
    }
}

/// A point of a lane that is armed. Dropping it disarms it, and releases the wire.
#[derive(Debug)]
#[must_use = "dropping it disarms the point"]
pub struct ArmedLane {
    lane: Arc<Lane>,
    point: Arc<Point>,
}

impl ArmedLane {
    /// See [`Armed::fired`].
    pub async fn fired(&mut self) -> u64 {
        let mut fired = self.point.fired.subscribe();
        // Copied out at once: the guard may not be held over an await.
        let reached = fired.wait_for(Option::is_some).await.map(|bytes| *bytes);
        match reached {
            Ok(bytes) => {
                self.point.noticed.send_replace(true);
                bytes.unwrap_or(self.point.bytes)
            }
            // The sender is ours and lives.
            Err(_) => std::future::pending().await,
        }
    }

    /// See [`Armed::delivered`].
    pub fn delivered(&self) -> u64 {
        self.lane.delivered() - self.point.from
    }

    /// Disarms it; a wire that it holds moves again.
    pub fn release(self) {}
}

#[async_trait]
impl Armed for ArmedLane {
    async fn fired(&mut self) -> anyhow::Result<u64> {
        Ok(ArmedLane::fired(self).await)
    }

    async fn delivered(&self) -> anyhow::Result<u64> {
        Ok(ArmedLane::delivered(self))
    }
}

impl Drop for ArmedLane {
    fn drop(&mut self) {
        self.lane.disarm(&self.point);
    }
}
