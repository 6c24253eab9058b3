//! Reads TOML past its slips. The parser recovers within a line, but a bracket or a
//! quote that is never closed swallows the rest of the file, and with it every other
//! mistake. So a file that does not parse is read again with the missing quotes and
//! brackets put in, each of them reported where it is missed; and where the parser is
//! lost all the same, the step it is lost in is taken out, until it finds its way.

use std::borrow::Cow;
use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::balance::{Balancer, Quoted};
use super::error::{Basis, Finding, Lines, Span, tame};
use super::raw::span_of;

/// The text to read: the file's own, or the mended one.
pub(super) struct Prepared<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) slips: Vec<Finding>,
    /// From places in what is read to places in the original text.
    pub(super) shift: Shift,
    /// What was blanked, as places in what is read.
    pub(super) taken_out: Vec<Span>,
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

/// A file with more steps to take out than this is not nearly a scenario.
const TAKEN_OUT_MAX: usize = 50;

/// After each of them the text is read again; this much reading takes a moment.
const BYTES_READ_MAX: usize = 4 << 20;

/// Mends `text` where it needs it.
pub(super) fn prepare(text: &str) -> Prepared<'_> {
    let whole = |slips| Prepared {
        text: Cow::Borrowed(text),
        slips,
        shift: Shift::default(),
        taken_out: Vec::new(),
    };
    let nested = |span| vec![slip(span, "too many dots on one line".into())];
    if let Some(span) = too_deep(text) {
        return Prepared {
            text: Cow::Borrowed(""),
            ..whole(nested(span))
        };
    }
    let (_, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return whole(Vec::new());
    }
    let mut prepared = Balancer::new(text)
        .run()
        .unwrap_or_else(|| whole(Vec::new()));
    // Quotes that were put in may have turned texts into keys.
    if let Some(span) = too_deep(&prepared.text) {
        let slips = nested(prepared.shift.back(span));
        return Prepared {
            text: Cow::Borrowed(""),
            ..whole(slips)
        };
    }
    let mut slips = Slips::new(text, prepared.slips);
    let rounds = (BYTES_READ_MAX / text.len().max(1)).clamp(1, TAKEN_OUT_MAX);
    for _ in 0..rounds {
        let (_, errors) = DeTable::parse_recoverable(&prepared.text);
        let Some(lost) = slips.take(errors, &prepared.text, &prepared.shift) else {
            break;
        };
        let Some(span) = around(prepared.text.as_bytes(), lost, &prepared.taken_out) else {
            break;
        };
        prepared.text = Cow::Owned(without(&prepared.text, span));
        prepared.taken_out.push(span);
    }
    prepared.slips = slips.list;
    prepared
}

impl Prepared<'_> {
    /// The root table, and every slip at its place in the original text.
    pub(super) fn parse(&self) -> (DeValue<'_>, Vec<Finding>) {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        (DeValue::Table(root.into_inner()), self.slips.clone())
    }

    /// Whether something at this place was taken out, so that nothing can be said of it.
    pub(super) fn took_out(&self, span: Span) -> bool {
        self.taken_out
            .iter()
            .any(|out| (out.start..out.end).contains(&span.start))
    }
}

/// The smallest step around a place, or the whole of what begins at the left; never
/// something that is out already.
fn around(text: &[u8], at: usize, out: &[Span]) -> Option<Span> {
    let mut open: Vec<(u8, usize)> = Vec::new();
    let mut best: Option<Span> = None;
    let mut statement = 0;
    let mut i = 0;
    while i < text.len() {
        let at_left = i == 0 || text[i - 1] == b'\n';
        if at_left && open.is_empty() {
            if i > at {
                break;
            }
            statement = i;
        }
        match text[i] {
            b'"' | b'\'' => {
                i = Quoted::at(text, i).end.max(i + 1);
                continue;
            }
            b'#' => {
                i += text[i..]
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(text.len() - i);
                continue;
            }
            byte @ (b'[' | b'{') => open.push((byte, i)),
            b']' | b'}' => {
                let span = open
                    .pop()
                    .map(|(byte, start)| (byte, Span { start, end: i + 1 }));
                if let Some((b'{', span)) = span
                    && open.last().is_some_and(|(byte, _)| *byte == b'[')
                    && span.start <= at
                    && at < span.end
                    && !out.contains(&span)
                    && best.is_none_or(|best| best.start < span.start)
                {
                    best = Some(span);
                }
            }
            _ => {}
        }
        i += 1;
    }
    let end = i.min(text.len());
    let statement = Span {
        start: statement,
        end,
    };
    best.or_else(|| (statement.start < end && !out.contains(&statement)).then_some(statement))
}

/// The same text with blanks and an empty table instead of a step, or blanks alone
/// instead of a statement. Every other place stays what it is.
fn without(text: &str, span: Span) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let is_step = bytes[span.start] == b'{';
    for byte in &mut bytes[span.start..span.end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    if is_step {
        bytes[span.start] = b'{';
        bytes[span.end - 1] = b'}';
    }
    // A step begins and ends at a bracket and a statement at a line, so that no letter
    // is cut; if one were, nothing of the text could be trusted.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Dots join keys into nested tables, in each bracket anew; thousands of levels need
/// more stack than there is when they are dropped. No scenario needs more than three.
const DOTS_ON_A_LINE_MAX: usize = 8;

/// The same for dots in texts, should the parser see the texts differently.
const QUOTED_DOTS_ON_A_LINE_MAX: usize = 200;

/// The first line that nests too deep.
fn too_deep(text: &str) -> Option<Span> {
    let bytes = text.as_bytes();
    let (mut at, mut start, mut dots, mut quoted_dots) = (0, 0, 0, 0);
    while at < bytes.len() {
        let from = at;
        match bytes[at] {
            b'"' | b'\'' => {
                at = Quoted::at(bytes, at).end;
                quoted_dots += bytes[from..at].iter().filter(|byte| **byte == b'.').count();
            }
            b'#' => {
                at += bytes[at..]
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(bytes.len() - at)
            }
            byte => {
                dots += usize::from(byte == b'.');
                at += 1;
            }
        }
        if dots > DOTS_ON_A_LINE_MAX || quoted_dots > QUOTED_DOTS_ON_A_LINE_MAX {
            return Some(Span { start, end: at });
        }
        if let Some(newline) = bytes[from..at].iter().rposition(|byte| *byte == b'\n') {
            (start, dots, quoted_dots) = (from + newline + 1, 0, 0);
        }
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

/// What is known of the syntax: at most one slip of structure a line, because each of
/// them causes others.
struct Slips<'t> {
    lines: Lines<'t>,
    end: usize,
    list: Vec<Finding>,
    broken_lines: BTreeSet<usize>,
    /// Places of values, which are read again in each round.
    seen: BTreeSet<Span>,
}

impl<'t> Slips<'t> {
    fn new(text: &'t str, list: Vec<Finding>) -> Self {
        let lines = Lines::new(text);
        let broken_lines = list
            .iter()
            .map(|slip| lines.line(slip.span.start))
            .collect();
        Self {
            lines,
            end: text.len(),
            list,
            broken_lines,
            seen: BTreeSet::new(),
        }
    }

    /// Notes what the parser says of `text`, up to where it loses its way; that place.
    fn take(&mut self, errors: Vec<toml::de::Error>, text: &str, shift: &Shift) -> Option<usize> {
        let mut errors: Vec<(Span, String)> = errors
            .into_iter()
            .map(|error| {
                (
                    span_of(error.span().unwrap_or(self.end..self.end)),
                    error.message().to_owned(),
                )
            })
            .collect();
        errors.sort();
        for (span, message) in errors {
            let place = shift.back(span);
            let line = self.lines.line(place.start);
            match explain(text.get(span.start..span.end).unwrap_or_default(), &message) {
                Explained::Value(message) => {
                    if !self.broken_lines.contains(&line) && self.seen.insert(place) {
                        self.list.push(slip(place, message));
                    }
                }
                Explained::Structure(message) => {
                    if self.broken_lines.insert(line) {
                        self.list.push(slip(place, message));
                    }
                    return Some(span.start);
                }
            }
        }
        None
    }
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
    let nothing = message.starts_with("invalid literal string") && at.is_empty();
    if nothing || message.ends_with("expected value") {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is read in the end, and the slips as `line: message`.
    fn mended(text: &str) -> (String, Vec<String>) {
        let prepared = prepare(text);
        let lines = Lines::new(text);
        let mut slips: Vec<(usize, String)> = prepared
            .slips
            .iter()
            .map(|slip| (lines.line(slip.span.start), slip.message.clone()))
            .collect();
        slips.sort();
        let slips = slips
            .into_iter()
            .map(|(line, message)| format!("{line}: {message}"))
            .collect();
        (prepared.text.into_owned(), slips)
    }

    fn check(text: &str, read: &str, slips: &[&str]) {
        let (text, found) = mended(text);
        assert_eq!(text, read);
        assert_eq!(found, slips);
    }

    #[test]
    fn good_text_stays_as_it_is() {
        let text = "a = [\n  { b = \"]\", c = '}' }, # ]\n]\nd = \"\"\"\n[\n\"\"\"\n";
        check(text, text, &[]);
    }

    #[test]
    fn brackets_are_closed_where_the_next_thing_begins() {
        check(
            "a = [{ b = [1 }]\n",
            "a = [{ b = [1] }]\n",
            &["1: `[` is never closed"],
        );
        check(
            "a = [\n{ b = { c = 1 },\n{ d = 2 },\n]\n",
            "a = [\n{ b = { c = 1 }},\n{ d = 2 },\n]\n",
            &["2: `{` is never closed"],
        );
        check(
            "a = [\n1, # x\n[b]\nc = 1\n",
            "a = [\n1,] # x\n[b]\nc = 1\n",
            &["1: `[` is never closed"],
        );
        check(
            "a = [1\nb = 2\n",
            "a = [1]\nb = 2\n",
            &["1: `[` is never closed"],
        );
        check(
            "a = [{ b = 1] },\n{ c = 2 }]\n",
            "a = [{ b = 1  },\n{ c = 2 }]\n",
            &["1: `]` closes nothing"],
        );
        check(
            "a = [{ b = 1 }\n{ c = 2 }]\n",
            "a = [{ b = 1 },\n{ c = 2 }]\n",
            &["1: a comma is missing behind this"],
        );
    }

    #[test]
    fn quotes_are_closed_in_their_line() {
        let slip = "1: the text that begins here is never closed";
        check("a = \"x\nb = 1\n", "a = \"x\"\nb = 1\n", &[slip]);
        check("a = [\"x]\nb = 1\n", "a = [\"x\"]\nb = 1\n", &[slip]);
        check("a = '''x\n", "a = '''x'''\n", &[slip]);
    }

    #[test]
    fn what_cannot_be_mended_is_taken_out_alone() {
        let (text, slips) = mended("a = = 1\nb = 2\n");
        assert_eq!(text, "       \nb = 2\n");
        assert_eq!(slips.len(), 1, "{slips:?}");
        let (text, slips) = mended("a = [\n{ b = , c },\n{ d = 1 },\n]\n");
        assert_eq!(text, "a = [\n{         },\n{ d = 1 },\n]\n");
        assert_eq!(slips, ["2: a value is missing"]);
    }

    #[test]
    fn places_behind_what_was_put_in_are_those_of_the_file() {
        let shift = Shift(vec![2, 2, 5]);
        let back: Vec<usize> = (0..=9).map(|at| shift.back_one(at)).collect();
        assert_eq!(back, [0, 1, 2, 2, 2, 3, 4, 5, 5, 6]);
    }
}
