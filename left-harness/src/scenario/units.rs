//! Quantities as people write them: sizes, durations, percentages, bounds.
//!
//! Each parser takes the whole text of a value and answers with the quantity or
//! with what is wrong, as the end of a sentence. Digits are read by hand, so that
//! `1e3`, `inf` or `+5` are refused instead of meaning something surprising.

use std::time::Duration;

use super::{Amount, Bound};

/// Nobody tests with more today; a larger number is a slip of a unit.
pub(crate) const SIZE_BYTES_MAX: u64 = 1 << 40;

/// A step that waits longer than a day waits for ever.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const RATE_UNITS: [(&str, u64); 7] = [
    ("KiB/s", 1 << 10),
    ("MiB/s", 1 << 20),
    ("GiB/s", 1 << 30),
    ("MB/s", 1_000_000),
    ("kbit/s", 125),
    ("Mbit/s", 125_000),
    ("Gbit/s", 125_000_000),
];

/// `10MiB`, `1 KiB`, `5GB`, `1.5MiB`, `4096`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let scale = if unit.is_empty() {
        1
    } else {
        scale_of(unit, &SIZE_UNITS)?
    };
    let bytes = number.times(scale).ok_or("is too large")?;
    let bytes = bytes.ok_or("is not a whole number of bytes")?;
    size_in_bounds(bytes)
}

/// A size that is a number already.
pub(crate) fn size_in_bounds(bytes: u64) -> Result<u64, String> {
    if bytes > SIZE_BYTES_MAX {
        return Err(format!("is more than {}", show_size(SIZE_BYTES_MAX)));
    }
    Ok(bytes)
}

/// `60s`, `500ms`, `2m`, `1.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Err("has no unit (ms, s, m, h)".into());
    }
    let scale = scale_of(unit, &DURATION_UNITS)?;
    let millis = number.times(scale).ok_or("is too long")?;
    let millis = millis.ok_or("is finer than a millisecond")?;
    let duration = Duration::from_millis(millis);
    if duration > DURATION_MAX {
        return Err(format!("is more than {}", show_duration(DURATION_MAX)));
    }
    Ok(duration)
}

/// `10MiB/s`, `100Mbit/s`: bytes a second.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Err("has no unit (`10MiB/s`, `100Mbit/s`)".into());
    }
    let scale = scale_of(unit, &RATE_UNITS)?;
    let bytes = number.times(scale).ok_or("is too large")?;
    match bytes.ok_or("is not a whole number of bytes a second")? {
        0 => Err("is no rate: nothing would ever pass".into()),
        bytes => Ok(bytes),
    }
}

/// `40%`, `0.1%`: 0 to 1.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    if unit != "%" {
        return Err("is no percentage (`40%`)".into());
    }
    let percent = number.value();
    if percent > 100.0 {
        return Err("is more than 100%".into());
    }
    Ok(percent / 100.0)
}

/// `40%` or `100MiB`.
pub(crate) fn amount(text: &str) -> Result<Amount, String> {
    if text.trim_end().ends_with('%') {
        percent(text).map(Amount::Share)
    } else {
        size(text).map(Amount::Bytes)
    }
}

/// `<= 1% + 1MiB`, `<= 1%`, `<= 64KiB`.
pub(crate) fn bound(text: &str) -> Result<Bound, String> {
    let sum = text
        .trim()
        .strip_prefix("<=")
        .ok_or("does not begin with `<=`")?;
    let (mut share, mut bytes) = (None, None);
    for term in sum.split('+') {
        let term = term.trim();
        let taken = match amount(term).map_err(|why| format!("has a part `{term}` that {why}"))? {
            Amount::Share(value) => share.replace(value).is_some(),
            Amount::Bytes(value) => bytes.replace(value).is_some(),
        };
        if taken {
            return Err("is at most one percentage plus one size".into());
        }
    }
    Ok(Bound {
        share: share.unwrap_or(0.0),
        bytes: bytes.unwrap_or(0),
    })
}

/// As it would be written: `256 MiB` where that is exact, else `107,890,221 bytes`.
pub fn show_size(bytes: u64) -> String {
    for (unit, scale) in [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{} {unit}", bytes / scale);
        }
    }
    match bytes {
        1 => "1 byte".into(),
        _ => format!("{} bytes", grouped(bytes)),
    }
}

/// As it would be written: `60s`, `500ms`, `2m`.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        _ if millis >= 3_600_000 && millis.is_multiple_of(3_600_000) => {
            format!("{}h", millis / 3_600_000)
        }
        _ if millis > 60_000 && millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// As it would be written: `0.1%`.
pub fn show_percent(share: f64) -> String {
    // Nine digits hold everything that can be written and hide what binary
    // fractions make of it: 0.07 * 100 is 7.000000000000001.
    let text = format!("{:.9}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `107,890,221`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn scale_of(unit: &str, known: &[(&str, u64)]) -> Result<u64, String> {
    if let Some((_, scale)) = known.iter().find(|(name, _)| *name == unit) {
        return Ok(*scale);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    Err(format!(
        "has the unknown unit `{}` (known: {})",
        super::error::tame(unit),
        names.join(", ")
    ))
}

/// A decimal number without sign and exponent: `whole + fraction / 10^places`.
struct Number {
    whole: u64,
    fraction: u64,
    places: u32,
}

impl Number {
    /// `None`: too large; `Some(None)`: not whole.
    fn times(&self, scale: u64) -> Option<Option<u64>> {
        let ten = 10u64.pow(self.places);
        let whole = self.whole.checked_mul(scale)?;
        let part = self.fraction.checked_mul(scale)?;
        if !part.is_multiple_of(ten) {
            return Some(None);
        }
        Some(Some(whole.checked_add(part / ten)?))
    }

    fn value(&self) -> f64 {
        self.whole as f64 + self.fraction as f64 / 10f64.powi(self.places as i32)
    }
}

/// Six digits after the point are enough for 0.000001 of a TiB.
const PLACES_MAX: usize = 6;

fn split(text: &str) -> Result<(Number, &str), String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return Err("has no digit after the point".into()),
        Some((whole, fraction)) => (whole, fraction),
        None => (digits, ""),
    };
    if whole.is_empty() {
        return Err("does not begin with a number".into());
    }
    if fraction.contains('.') {
        return Err("has two decimal points".into());
    }
    if fraction.len() > PLACES_MAX {
        return Err(format!("has more than {PLACES_MAX} digits after the point"));
    }
    let number = Number {
        whole: whole.parse().map_err(|_| "is too large")?,
        fraction: if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| "is too large")?
        },
        places: fraction.len() as u32,
    };
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("10MiB", 10 << 20),
            ("1 KiB", 1024),
            ("5GB", 5_000_000_000),
            ("1.5MiB", 3 << 19),
            ("1TiB", 1 << 40),
            ("7 B", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_mean_nothing_are_refused_with_a_reason() {
        let cases = [
            ("", "does not begin with a number"),
            ("-1", "does not begin with a number"),
            ("MiB", "does not begin with a number"),
            ("1e3", "has the unknown unit `e3`"),
            ("10mib", "has the unknown unit `mib`"),
            ("0.3B", "is not a whole number of bytes"),
            ("1.", "has no digit after the point"),
            ("1.2.3", "has two decimal points"),
            ("99999999999999999999", "is too large"),
            ("18446744073709551615TiB", "is too large"),
            ("2TiB", "is more than 1 TiB"),
            ("1.1234567MiB", "has more than 6 digits after the point"),
        ];
        for (text, reason) in cases {
            let refused = size(text).expect_err(text);
            assert!(refused.starts_with(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_an_end() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert!(duration("60").expect_err("no unit").contains("has no unit"));
        assert!(
            duration("25h")
                .expect_err("too long")
                .contains("is more than 24h")
        );
        assert!(duration("5 weeks").expect_err("unit").contains("`weeks`"));
    }

    #[test]
    fn percentages_end_at_a_hundred() {
        assert_eq!(percent("40%"), Ok(0.4));
        assert_eq!(percent("100 %"), Ok(1.0));
        assert!(percent("100.1%").is_err());
        assert!(percent("40").is_err());
        assert!(percent("inf%").is_err());
    }

    #[test]
    fn bounds_add_a_share_and_a_size() {
        let both = Bound {
            share: 0.01,
            bytes: 1 << 20,
        };
        assert_eq!(bound("<= 1% + 1MiB"), Ok(both));
        assert_eq!(bound("<=1MiB+1%"), Ok(both));
        assert_eq!(
            bound("<= 64KiB"),
            Ok(Bound {
                share: 0.0,
                bytes: 65536
            })
        );
        for text in [
            "1%",
            "< 1%",
            "<= 1% + 2%",
            "<= 1MiB + 1MiB",
            "<=",
            "<= 1% +",
            "<= lots",
        ] {
            assert!(bound(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_say_per_what() {
        assert_eq!(rate("10MiB/s"), Ok(10 << 20));
        assert_eq!(rate("100 Mbit/s"), Ok(12_500_000));
        assert!(rate("10MiB").is_err());
        assert!(rate("0MiB/s").is_err());
    }

    #[test]
    fn what_is_shown_can_be_written() {
        for bytes in [0, 1, 1023, 1024, 107_890_221, 256 << 20, 1 << 40] {
            let shown = show_size(bytes)
                .replace([',', ' '], "")
                .replace("bytes", "")
                .replace("byte", "");
            assert_eq!(size(&shown), Ok(bytes));
        }
        assert_eq!(show_size(107_890_221), "107,890,221 bytes");
        for text in ["60s", "500ms", "2m", "1h", "90s"] {
            assert_eq!(show_duration(duration(text).expect(text)), text);
        }
        for text in ["40%", "0.1%", "100%", "7%", "33.333333%"] {
            assert_eq!(show_percent(percent(text).expect(text)), text);
        }
    }
}
