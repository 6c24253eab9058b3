//! Whether partial files are left once everything is done.

use super::finding::Finding;
use super::text::{escaped, size_text};
use crate::event::Outcome;
use crate::host::probe::Part;

/// Lines shown; the rest is counted.
const DETAILS_MAX: usize = 20;

/// Judges what lies under the names of partial files, host by host.
pub fn none_left(hosts: &[(&str, Vec<Part>)]) -> Finding {
    let mut details = Vec::new();
    let mut places = Vec::new();
    let mut problems = 0;
    for (host, parts) in hosts {
        let left = parts.iter().filter(|part| part.problem.is_none()).count();
        problems += parts.len() - left;
        if left > 0 {
            places.push(format!(
                "{left} {} left at {host}",
                if left == 1 { "part is" } else { "parts are" }
            ));
        }
        details.extend(parts.iter().map(|part| line(host, part)));
    }
    if details.len() > DETAILS_MAX {
        let more = details.len() - DETAILS_MAX;
        details.truncate(DETAILS_MAX);
        details.push(format!("… and {more} more"));
    }
    let finding = if !places.is_empty() {
        Finding::new("parts", Outcome::Fail, places.join(", "))
    } else if problems > 0 {
        Finding::new(
            "parts",
            Outcome::Inconclusive,
            format!("{problems} places could not be looked at"),
        )
    } else {
        Finding::new("parts", Outcome::Ok, "none left")
    };
    finding.with_details(details)
}

fn line(host: &str, part: &Part) -> String {
    match &part.problem {
        Some(problem) => format!("? {host}: {}   {}", part.path, escaped(problem.as_bytes())),
        None => {
            let (size, allocated) = (size_text(part.size), size_text(part.allocated));
            format!("- {host}: {}   {size}, {allocated} on the disk", part.path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::manifest::Name;

    fn part(path: &str, problem: Option<&str>) -> Part {
        let path = Name::parse(path).unwrap();
        Part {
            path,
            size: 5 << 20,
            allocated: 1 << 20,
            problem: problem.map(Into::into),
        }
    }

    #[test]
    fn a_part_that_is_left_fails_and_is_shown() {
        let finding = none_left(&[("a", vec![]), ("b", vec![part(".left/parts/x", None)])]);
        assert_eq!(
            (finding.outcome, finding.text.as_str()),
            (Outcome::Fail, "1 part is left at b")
        );
        assert_eq!(
            finding.details,
            ["- b: .left/parts/x   5 MiB, 1 MiB on the disk"]
        );
        assert_eq!(
            none_left(&[("a", vec![]), ("b", vec![])]).outcome,
            Outcome::Ok
        );
    }

    #[test]
    fn a_place_that_cannot_be_looked_at_proves_nothing() {
        let finding = none_left(&[("a", vec![part("p", Some("permission denied"))])]);
        assert_eq!(finding.outcome, Outcome::Inconclusive);
        assert_eq!(finding.details, ["? a: p   permission denied"]);
    }
}
