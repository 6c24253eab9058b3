//! How fast a direction may be: a token bucket.

use std::time::{Duration, Instant};

/// Tokens for this long may be saved up. The runtime's timer ticks once a
/// millisecond, so that much less would make a fast link slower than asked.
const BURST: Duration = Duration::from_millis(10);
/// A burst is never smaller, or a slow link would write crumbs.
const BURST_BYTES_MIN: f64 = 4096.0;

/// Lets so many bytes through a second, evenly.
#[derive(Debug)]
pub struct Bucket {
    bytes_per_second: f64,
    burst_bytes: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one. A rate of 0 is taken for 1 byte a second.
    pub fn new(bytes_per_second: u64, now: Instant) -> Self {
        let bytes_per_second = bytes_per_second.max(1) as f64;
        let burst_bytes = (bytes_per_second * BURST.as_secs_f64())
            .max(BURST_BYTES_MIN)
            .floor();
        Self {
            bytes_per_second,
            burst_bytes,
            tokens: burst_bytes,
            filled: now,
        }
    }

    /// How many of `wanted` bytes may go now, or when it is worth asking again.
    pub fn allow(&mut self, wanted: usize, now: Instant) -> Result<usize, Instant> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now.max(self.filled);
        self.tokens = (self.tokens + passed * self.bytes_per_second).min(self.burst_bytes);
        // Half a burst at least, unless less is wanted: no crumbs.
        let worth_it = (wanted as f64).min(self.burst_bytes / 2.0);
        if self.tokens >= worth_it {
            return Ok(wanted.min(self.tokens as usize));
        }
        let missing = worth_it - self.tokens;
        // Rounded up: a moment that is already here would be asked for again.
        let wait = Duration::from_secs_f64(missing / self.bytes_per_second);
        Err(now + wait + Duration::from_nanos(1))
    }

    /// These went.
    pub fn take(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that get through in a simulated time.
    fn through(rate: u64, seconds: u64, wanted: usize) -> u64 {
        let start = Instant::now();
        let mut now = start;
        let mut bucket = Bucket::new(rate, start);
        let mut sum = 0;
        while now < start + Duration::from_secs(seconds) {
            match bucket.allow(wanted, now) {
                Ok(bytes) => {
                    assert!(bytes > 0, "allowed nothing instead of saying when");
                    bucket.take(bytes);
                    sum += bytes as u64;
                }
                Err(later) => now = later,
            }
        }
        sum
    }

    #[test]
    fn lets_its_rate_through_and_one_burst() {
        for rate in [1, 1000, 1 << 20, 10_000_000_000] {
            let burst = (rate / 100).max(4096) as f64;
            let expected = rate as f64 * 20.0;
            let got = through(rate, 20, 64 << 10) as f64;
            assert!(got >= expected * 0.99 - 1.0, "rate {rate}: {got}");
            assert!(got <= expected * 1.01 + burst, "rate {rate}: {got}");
        }
    }

    #[test]
    fn single_bytes_are_let_through_as_well() {
        let got = through(1000, 20, 1);
        assert!((20_000..=20_000 + 4200).contains(&got), "{got}");
    }
}
