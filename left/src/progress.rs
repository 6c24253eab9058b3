//! How fast content moves, how long the rest will take, and the line that says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::status::{Moving, Status};

/// Rates are of so many seconds.
const WINDOW: Duration = Duration::from_secs(5);

/// Between two samples at least, so that there are few.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// Bytes received and sent, now and a moment ago.
#[derive(Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Instant, [u64; 2])>,
}

impl Meter {
    /// So much was received and sent in all by `now`.
    pub fn take(&mut self, now: Instant, moved: [u64; 2]) {
        let last = self.samples.back().copied();
        if let Some((at, before)) = last.filter(|(at, _)| now - *at > WINDOW) {
            // Nothing moved in between, or somebody would have looked. It began just
            // now, and not when somebody looked last.
            self.samples.clear();
            let began = now.checked_sub(SAMPLE_EVERY).unwrap_or(at);
            self.samples.push_back((began, before));
        } else if last.is_some_and(|(at, _)| now - at < SAMPLE_EVERY) && self.samples.len() > 1 {
            self.samples.pop_back();
        }
        self.samples.push_back((now, moved));
        // One that is older says how it was at the window's beginning.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now - *at >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Nothing moves any more.
    pub fn rest(&mut self) {
        let keep = self.samples.len().saturating_sub(1);
        self.samples.drain(..keep);
    }

    /// Bytes received and sent a second.
    pub fn rates(&self) -> [u64; 2] {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return [0, 0];
        };
        let secs = (last.0 - first.0).as_secs_f64();
        [0, 1].map(|n: usize| match secs > 0.0 {
            true => (last.1[n].saturating_sub(first.1[n]) as f64 / secs) as u64,
            false => 0,
        })
    }
}

/// How long `bytes` take at a rate; `None` when nobody can say.
pub fn seconds_left(bytes: u64, bytes_per_second: u64) -> Option<u64> {
    match (bytes, bytes_per_second) {
        (0, _) => Some(0),
        (_, 0) => None,
        _ => Some(bytes.div_ceil(bytes_per_second)),
    }
}

/// The line below the log.
pub fn line(status: &Status) -> String {
    let mut line = format!("{}: ", status.state);
    let [receiving, sending] = [&status.receiving, &status.sending];
    if receiving.paths + receiving.bytes + sending.paths + sending.bytes == 0 {
        line.push_str(&format!(
            "{}, {}",
            counted(status.paths, "path"),
            size(status.bytes)
        ));
    } else {
        let ways = [("in", receiving), ("out", sending)];
        let busy = ways
            .into_iter()
            .filter(|(_, way)| way.paths + way.bytes > 0);
        let ways: Vec<String> = busy
            .map(|(name, way)| format!("{name} {}", moving(way)))
            .collect();
        line.push_str(&ways.join("; "));
    }
    for (count, name) in [
        (status.conflicts, "conflict"),
        (status.problem_count, "problem"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {}", counted(count, name)));
        }
    }
    line
}

/// What is on its way, how fast, and for how long.
pub fn moving(way: &Moving) -> String {
    let mut text = format!("{} left, {}", counted(way.paths, "path"), size(way.bytes));
    if way.bytes_per_second > 0 {
        text.push_str(&format!(", {}/s", size(way.bytes_per_second)));
    }
    match way.seconds_left {
        Some(secs) if way.bytes > 0 => text.push_str(&format!(", {}", duration(secs))),
        _ => {}
    }
    text
}

/// `1 path`, `1,234 paths`.
pub fn counted(count: u64, what: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{} {what}{many}", grouped(count))
}

/// A number as people read it.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length as people read it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // The unit in which it still is less than 1024, in tenths.
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10 / 1024;
    while tenths >= 10_240 {
        tenths /= 1024;
        unit += 1;
    }
    match tenths {
        0..100 => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        _ => format!("{} {}", tenths / 10, UNITS[unit]),
    }
}

/// A time as people read it.
pub fn duration(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {:02} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_rate_is_of_the_last_seconds() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.rates(), [0, 0]);
        for n in 0..=40 {
            meter.take(at(start, n * 250), [n * 250, n * 25]);
        }
        assert_eq!(meter.rates(), [1000, 100]);
        // It stalls.
        for n in 41..=60 {
            meter.take(at(start, n * 250), [10_000, 1000]);
        }
        assert_eq!(meter.rates(), [0, 0]);
    }

    #[test]
    fn what_begins_after_a_rest_is_fast_at_once() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.take(start, [0, 0]);
        meter.take(at(start, 3_600_000), [2000, 0]);
        assert_eq!(meter.rates(), [10_000, 0]);
        meter.rest();
        assert_eq!(meter.rates(), [0, 0]);
    }

    #[test]
    fn many_looks_in_one_instant_are_few_samples() {
        let start = Instant::now();
        let mut meter = Meter::default();
        for n in 0..100_000u64 {
            meter.take(start + Duration::from_micros(n * 100), [n, n]);
        }
        assert!(meter.samples.len() <= 30, "{}", meter.samples.len());
        assert!(
            (9_000..=11_000).contains(&meter.rates()[0]),
            "{:?}",
            meter.rates()
        );
    }

    #[test]
    fn the_time_that_is_left_is_only_told_when_something_moves() {
        assert_eq!(seconds_left(0, 0), Some(0));
        assert_eq!(seconds_left(1, 0), None);
        assert_eq!(seconds_left(1001, 100), Some(11));
        assert_eq!(seconds_left(u64::MAX, 1), Some(u64::MAX));
    }

    #[test]
    fn figures_are_written_for_people() {
        let sizes = [0, 1023, 1024, 1536, 10 * 1024 * 1024, u64::MAX].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 MiB", "15 EiB"]
        );
        let numbers = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        let times = [0, 59, 61, 3_660, 200_000].map(duration);
        assert_eq!(times, ["0 s", "59 s", "1 min 01 s", "1 h 01 min", "2 days"]);
    }

    #[test]
    fn the_line_says_what_goes_on() {
        let mut status = Status {
            state: "synchronization".to_owned(),
            paths: 10_234,
            bytes: 3 << 30,
            ..Status::default()
        };
        assert_eq!(line(&status), "synchronization: 10,234 paths, 3.0 GiB");
        status.state = "transfer".to_owned();
        status.receiving = Moving {
            paths: 2,
            bytes: 100 << 20,
            bytes_per_second: 10 << 20,
            seconds_left: Some(10),
        };
        status.sending = Moving {
            paths: 1,
            bytes: 5,
            ..Moving::default()
        };
        status.problem_count = 1;
        status.conflicts = 2;
        assert_eq!(
            line(&status),
            "transfer: in 2 paths left, 100 MiB, 10 MiB/s, 10 s; out 1 path left, 5 B, 2 conflicts, 1 problem"
        );
    }
}
