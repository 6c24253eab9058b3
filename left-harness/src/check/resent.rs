//! Whether a resumed transfer started over: bytes delivered beyond the content's size.

use super::finding::Finding;
use super::text::{grouped, size_text};
use crate::event::{Figure, Outcome};
use crate::scenario::Bound;

/// Judges the bytes that the link delivered towards the receiver against the
/// size of what was to be sent.
pub fn resent(delivered: u64, size: u64, bound: Bound) -> Finding {
    let cannot_tell = |why: String| Finding::new("resent", Outcome::Inconclusive, why);
    if size == 0 {
        return cannot_tell("nothing was to be sent".into());
    }
    let Some(resent) = delivered.checked_sub(size) else {
        return cannot_tell(format!(
            "only {} of {} bytes passed the link: the traffic went another way or was compressed",
            grouped(delivered),
            grouped(size)
        ));
    };
    let allowed = (bound.share * size as f64).floor() as u64 + bound.bytes;
    let outcome = if resent <= allowed {
        Outcome::Ok
    } else {
        Outcome::Fail
    };
    Finding::new(
        "resent",
        outcome,
        format!("{}, allowed {}", amount(resent, size), bound_text(bound)),
    )
}

/// The same number for people and for comparing runs; `None` where it means nothing.
pub fn figure(delivered: u64, size: u64) -> Option<Figure> {
    let resent = delivered.checked_sub(size).filter(|_| size > 0)?;
    Some(Figure {
        name: "resent".into(),
        value: resent as f64,
        unit: "bytes".into(),
        text: amount(resent, size),
    })
}

/// `3.2 MiB (1.25 %)`
fn amount(resent: u64, size: u64) -> String {
    format!(
        "{} ({:.2} %)",
        size_text(resent),
        resent as f64 * 100.0 / size as f64
    )
}

/// `1 % + 1 MiB`
fn bound_text(bound: Bound) -> String {
    let share = format!("{} %", (bound.share * 10_000.0).round() / 100.0);
    match (bound.share > 0.0, bound.bytes) {
        (true, 0) => share,
        (true, bytes) => format!("{share} + {}", size_text(bytes)),
        (false, bytes) => size_text(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BOUND: Bound = Bound {
        share: 0.01,
        bytes: MIB,
    };

    #[test]
    fn the_bound_itself_is_allowed_and_one_byte_more_is_not() {
        let size = 100 * MIB;
        let at_bound = resent(size + 2 * MIB, size, BOUND);
        assert_eq!(
            (at_bound.outcome, at_bound.text.as_str()),
            (Outcome::Ok, "2 MiB (2.00 %), allowed 1 % + 1 MiB")
        );
        assert_eq!(
            resent(size + 2 * MIB + 1, size, BOUND).outcome,
            Outcome::Fail
        );
        assert_eq!(
            resent(
                size,
                size,
                Bound {
                    share: 0.0,
                    bytes: 0
                }
            )
            .outcome,
            Outcome::Ok
        );
    }

    #[test]
    fn a_transfer_that_started_over_fails() {
        let finding = resent(360 * MIB, 256 * MIB, BOUND);
        assert_eq!(
            (finding.outcome, finding.text.as_str()),
            (Outcome::Fail, "104 MiB (40.62 %), allowed 1 % + 1 MiB")
        );
        assert_eq!(
            figure(360 * MIB, 256 * MIB).unwrap().text,
            "104 MiB (40.62 %)"
        );
    }

    #[test]
    fn traffic_that_did_not_pass_the_link_proves_nothing() {
        let finding = resent(999, 1000, BOUND);
        assert_eq!(finding.outcome, Outcome::Inconclusive);
        assert!(
            finding
                .text
                .starts_with("only 999 of 1,000 bytes passed the link"),
            "{}",
            finding.text
        );
        assert_eq!(resent(10, 0, BOUND).outcome, Outcome::Inconclusive);
        assert_eq!(figure(999, 1000), None);
    }
}
