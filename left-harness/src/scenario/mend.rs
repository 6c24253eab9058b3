//! Reads TOML past its slips. The parser recovers within a line, but a bracket or a
//! quote that is never closed swallows the rest of the file, and with it every other
//! mistake. So a file that does not parse is read a second time with the missing
//! quotes and brackets put in, each of them reported where it is missed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::balance::Balancer;
use super::error::{Basis, Finding, Lines, Span, tame};

/// The text to read: the file's own, or the mended one.
pub(super) struct Prepared<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) slips: Vec<Finding>,
    /// From places in what is read to places in the original text.
    pub(super) shift: Shift,
}

/// Where characters were put in, as offsets of the original text, ascending.
#[derive(Default)]
pub(super) struct Shift(pub(super) Vec<usize>);

impl Shift {
    /// The place in the original text.
    pub(super) fn back(&self, span: Span) -> Span {
        let start = self.back_one(span.start);
        Span {
            start,
            end: self.back_one(span.end).max(start),
        }
    }

    fn back_one(&self, at: usize) -> usize {
        // The n-th character put in stands at its original offset plus n.
        let (mut low, mut high) = (0, self.0.len());
        while low < high {
            let n = (low + high) / 2;
            if self.0[n] + n < at {
                low = n + 1;
            } else {
                high = n;
            }
        }
        at - low
    }
}

/// Mends `text` where it needs it.
pub(super) fn prepare(text: &str) -> Prepared<'_> {
    if let Some(slip) = too_deep(text) {
        return Prepared {
            text: Cow::Borrowed(""),
            slips: vec![slip],
            shift: Shift::default(),
        };
    }
    let (_, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty()
        && let Some(balanced) = Balancer::new(text).run()
    {
        return balanced;
    }
    Prepared {
        text: Cow::Borrowed(text),
        slips: Vec::new(),
        shift: Shift::default(),
    }
}

impl Prepared<'_> {
    /// The root table, and every slip at its place in `original`.
    pub(super) fn parse(&self, original: &str) -> (DeValue<'_>, Vec<Finding>) {
        let (root, errors) = DeTable::parse_recoverable(&self.text);
        let slips = sift(original, errors, &self.shift, self.slips.clone());
        (DeValue::Table(root.into_inner()), slips)
    }
}

/// Dots join keys into nested tables, and a line of a hundred thousand of them into
/// tables so deep that dropping them needs more stack than there is.
const DOTS_ON_A_LINE_MAX: usize = 100;

fn too_deep(text: &str) -> Option<Finding> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.bytes().filter(|byte| *byte == b'.').count() > DOTS_ON_A_LINE_MAX {
            let span = Span {
                start,
                end: start + line.trim_end().len(),
            };
            return Some(slip(
                span,
                format!("more than {DOTS_ON_A_LINE_MAX} dots on one line"),
            ));
        }
        start += line.len();
    }
    None
}

pub(super) fn slip(span: Span, message: String) -> Finding {
    Finding {
        span,
        message,
        help: None,
        basis: Basis::Syntax,
    }
}

/// Keeps of the parser's errors what tells the user something: none on a line whose
/// slip is known already, and of those about the structure only the first of a line,
/// because it causes the others.
fn sift(
    text: &str,
    errors: Vec<toml::de::Error>,
    shift: &Shift,
    known: Vec<Finding>,
) -> Vec<Finding> {
    let lines = Lines::new(text);
    let known_lines: BTreeSet<usize> = known
        .iter()
        .map(|slip| lines.line(slip.span.start))
        .collect();
    let mut errors: Vec<(Span, String)> = errors
        .into_iter()
        .map(|error| {
            let span = error.span().unwrap_or(text.len()..text.len());
            (
                shift.back(Span {
                    start: span.start,
                    end: span.end,
                }),
                error.message().to_owned(),
            )
        })
        .collect();
    errors.sort();
    let (mut slips, mut broken_lines) = (known, known_lines);
    for (span, message) in errors {
        let line = lines.line(span.start);
        if broken_lines.contains(&line) {
            continue;
        }
        match explain(text.get(span.start..span.end).unwrap_or_default(), &message) {
            Explained::Value(message) => slips.push(slip(span, message)),
            Explained::Structure(message) => {
                broken_lines.insert(line);
                slips.push(slip(span, message));
            }
        }
    }
    slips
}

enum Explained {
    /// One value is wrong, what is around it is understood.
    Value(String),
    /// The order of brackets, commas and keys is wrong.
    Structure(String),
}

/// The parser's words for the few slips that everybody makes, said so that it is
/// clear what to do; its own words for the rest.
fn explain(at: &str, message: &str) -> Explained {
    if message.starts_with("invalid literal string") && at.is_empty() {
        return Explained::Structure("a value is missing".into());
    }
    let unquoted = [
        "string values must be quoted",
        "invalid float",
        "invalid boolean",
        "invalid integer",
    ];
    if unquoted.iter().any(|begin| message.starts_with(begin))
        && at.contains(|c: char| c.is_ascii_alphabetic())
    {
        let at = tame(at);
        return Explained::Value(format!("text needs quotes: \"{at}\""));
    }
    if message == "duplicate key" {
        return Explained::Value(format!("`{}` stands here for the second time", tame(at)));
    }
    let value = [
        "invalid integer",
        "invalid float",
        "invalid date",
        "invalid escape",
    ];
    if value.iter().any(|begin| message.starts_with(begin)) {
        return Explained::Value(message.into());
    }
    Explained::Structure(message.into())
}
