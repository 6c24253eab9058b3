//! How good a direction is: what it does to packets without being told to by any one.

use std::time::Duration;

/// What waits in a direction without a rate. More than a link of 5 Gbit/s and
/// 100 ms holds, and little enough to have.
const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// A few of the largest frames: with less TCP does not get going.
const QUEUE_BYTES_MIN: u64 = 256 << 10;
/// What waits for the rate at most: a router of the patient kind.
const QUEUE_TIME: Duration = Duration::from_millis(100);
/// A frame of many segments takes a slow link longer than this; then its
/// segments go one by one, as they would from a card.
const SUPER_TIME: Duration = Duration::from_millis(10);
/// The largest frame of several segments.
const SUPER_BYTES: f64 = 65536.0;

/// How wide and how long a direction is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// Bytes of frames a second; as fast as it goes where nothing is said.
    pub rate: Option<u64>,
    /// Every packet takes so long.
    pub delay: Duration,
    /// And up to so much longer, each for itself; their order stays.
    pub jitter: Duration,
    /// What may be on the way or wait; beyond that packets are dropped. As much
    /// as suits the rate and the delay where nothing is said.
    pub queue_bytes: Option<u64>,
}

/// What happens to packets by chance, each probability from 0 to 1 and per
/// packet as it is on a wire: where there are faults, frames of several segments
/// are taken apart first.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// The same seed and the same packets: the same faults.
    pub seed: u64,
    /// Dropped.
    pub loss: f64,
    /// Sent twice.
    pub duplicate: f64,
    /// Held back for [`Faults::reorder_by`], so that later ones overtake it.
    pub reorder: f64,
    /// For so long.
    pub reorder_by: Duration,
    /// One bit turned over, which the receiver's checksum finds. Such a packet is
    /// not delivered, whatever is in it.
    pub flip: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 1,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(2),
            flip: 0.0,
        }
    }
}

impl Shape {
    /// Packets must be of the size they have on a wire.
    pub(super) fn needs_segments(&self) -> bool {
        let is_slow = |rate| SUPER_BYTES / rate as f64 > SUPER_TIME.as_secs_f64();
        self.rate.is_some_and(is_slow) || !self.jitter.is_zero()
    }

    /// Where the queue ends.
    pub(super) fn queue_bytes(&self) -> u64 {
        let Some(rate) = self.rate else {
            return self.queue_bytes.unwrap_or(QUEUE_BYTES_MAX);
        };
        self.queue_bytes.unwrap_or_else(|| {
            let time = self.delay.saturating_add(self.jitter);
            let time = time.saturating_add(QUEUE_TIME);
            // A float too large for an integer becomes the largest one.
            let bytes = (rate as f64 * time.as_secs_f64()) as u64;
            bytes.clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX)
        })
    }
}

impl Faults {
    /// Nothing happens by chance.
    pub(super) fn is_none(&self) -> bool {
        [self.loss, self.duplicate, self.reorder, self.flip]
            .iter()
            .all(|chance| *chance <= 0.0)
    }
}
