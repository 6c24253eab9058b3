//! Reads TOML past its slips. The parser recovers within a line, but a bracket or a
//! quote that is never closed swallows the rest of the file, and with it every other
//! mistake. So a file that does not parse is read a second time with the missing
//! quotes and brackets put in, each of them reported where it is missed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::error::{Basis, Finding, Lines, Span, tame};

/// The text to read: the file's own, or the mended one.
pub(super) struct Prepared<'t> {
    text: Cow<'t, str>,
    slips: Vec<Finding>,
    /// From places in what is read to places in the original text.
    pub(super) shift: Shift,
}

/// Where characters were put in, as offsets of the original text, ascending.
#[derive(Default)]
pub(super) struct Shift(Vec<usize>);

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

fn slip(span: Span, message: String) -> Finding {
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

/// Mending more than this is guessing.
const INSERTED_MAX: usize = 200;

/// Copies a text byte by byte and closes what is not closed.
struct Balancer<'t> {
    text: &'t [u8],
    /// The next byte of `text`.
    at: usize,
    out: Vec<u8>,
    inserted: Vec<usize>,
    slips: Vec<Finding>,
    /// Brackets that are open, with their places.
    open: Vec<(u8, usize)>,
    /// The last byte that is neither blank nor comment: itself, its place here and in `out`.
    last: Option<(u8, usize, usize)>,
}

impl<'t> Balancer<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            out: Vec::with_capacity(text.len() + 16),
            inserted: Vec::new(),
            slips: Vec::new(),
            open: Vec::new(),
            last: None,
        }
    }

    /// `None` when nothing was to be mended, or too much.
    fn run(mut self) -> Option<Prepared<'t>> {
        while let Some(byte) = self.text.get(self.at).copied() {
            if self.inserted.len() > INSERTED_MAX {
                return None;
            }
            if self.begins_anew() {
                self.close_all();
            }
            match byte {
                b'#' => self.copy_while(|byte| byte != b'\n'),
                b'"' | b'\'' => self.quoted(byte),
                b'[' | b'{' => self.opens(byte),
                b']' | b'}' => self.closes(byte),
                byte if byte.is_ascii_whitespace() => self.copy(),
                _ => self.copy_significant(),
            }
        }
        self.close_all();
        if self.slips.is_empty() {
            return None;
        }
        let text = String::from_utf8(self.out).ok()?;
        Some(Prepared {
            text: Cow::Owned(text),
            slips: self.slips,
            shift: Shift(self.inserted),
        })
    }

    fn copy(&mut self) {
        self.out.push(self.text[self.at]);
        self.at += 1;
    }

    fn copy_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| wanted(*byte)) {
            self.copy();
        }
    }

    fn copy_significant(&mut self) {
        self.last = Some((self.text[self.at], self.at, self.out.len()));
        self.copy();
    }

    /// A `[table]` or `key =` at the very left, while brackets are open.
    fn begins_anew(&self) -> bool {
        let at_left = self.at == 0 || self.text[self.at - 1] == b'\n';
        if self.open.is_empty() || !at_left {
            return false;
        }
        let rest = &self.text[self.at..];
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let line = line.split('#').next().unwrap_or_default().trim_end();
        let is_name = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        };
        if let Some(header) = line.strip_prefix('[') {
            return header.strip_suffix(']').is_some_and(|name| {
                is_name(name)
                    || name
                        .strip_prefix('[')
                        .and_then(|name| name.strip_suffix(']'))
                        .is_some_and(is_name)
            });
        }
        line.split_once('=')
            .is_some_and(|(key, _)| is_name(key.trim_end()))
    }

    fn opens(&mut self, byte: u8) {
        // `{ kill = { on = "b" },` and then `{`: a table in a table has a key before it,
        // so that the comma ended the step, not a key of it.
        while byte == b'{'
            && self.open.last().is_some_and(|(open, _)| *open == b'{')
            && let Some((b',', here, there)) = self.last
        {
            self.close_one(here, there);
            self.last = Some((b',', here, there + 1));
        }
        self.open.push((byte, self.at));
        self.copy_significant();
    }

    fn closes(&mut self, byte: u8) {
        let opener = if byte == b']' { b'[' } else { b'{' };
        let top = self.open.last().map(|(open, _)| *open);
        if top == Some(opener) {
            self.open.pop();
            return self.copy_significant();
        }
        let expected = self.open.iter().any(|(open, _)| *open == opener);
        if !expected || (top.is_some() && self.next_after() == top.map(partner)) {
            let span = Span {
                start: self.at,
                end: self.at + 1,
            };
            self.slips
                .push(slip(span, format!("`{}` closes nothing", byte as char)));
            self.out.push(b' ');
            self.at += 1;
            return;
        }
        while self.open.last().is_some_and(|(open, _)| *open != opener) {
            let (here, there) = self.end_of_last();
            self.close_one(here, there);
        }
        self.open.pop();
        self.copy_significant();
    }

    /// The next byte that is not blank.
    fn next_after(&self) -> Option<u8> {
        self.text[self.at + 1..]
            .iter()
            .copied()
            .find(|byte| !byte.is_ascii_whitespace())
    }

    fn close_all(&mut self) {
        while !self.open.is_empty() {
            let (here, there) = self.end_of_last();
            self.close_one(here, there);
        }
    }

    fn end_of_last(&self) -> (usize, usize) {
        self.last
            .map_or((0, 0), |(_, here, there)| (here + 1, there + 1))
    }

    /// Puts in what the innermost open bracket misses.
    fn close_one(&mut self, here: usize, there: usize) {
        let Some((byte, place)) = self.open.pop() else {
            return;
        };
        let span = Span {
            start: place,
            end: place + 1,
        };
        self.slips
            .push(slip(span, format!("`{}` is never closed", byte as char)));
        self.out.insert(there, partner(byte));
        self.inserted.push(here);
        // The place of the last byte is where the next one would be put in after it.
        if let Some((_, last_here, last_there)) = &mut self.last
            && *last_here + 1 == here
        {
            *last_there += 1;
        }
    }

    fn quoted(&mut self, quote: u8) {
        let (start, start_out) = (self.at, self.out.len());
        let long = self.text[start..].starts_with(&[quote; 3]);
        let width = if long { 3 } else { 1 };
        let mut end = start + width;
        let closed = loop {
            match self.text.get(end) {
                None => break false,
                Some(b'\n') if !long => break false,
                Some(b'\\') if quote == b'"' => end += 2,
                Some(_) if self.text[end..].starts_with(&[quote; 3][..width]) => break true,
                Some(_) => end += 1,
            }
        };
        if closed {
            end += width;
            // Up to two quotes may stand before the closing three.
            while long && self.text.get(end) == Some(&quote) {
                end += 1;
            }
        } else {
            let rest = &self.text[start..end.min(self.text.len())];
            // In a list or table the text ends most likely where the next sign is.
            let stop = match self.open.is_empty() || long {
                true => None,
                false => rest.iter().position(|byte| b",]}".contains(byte)),
            };
            let blank = rest
                .iter()
                .rev()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            end = start + stop.unwrap_or(rest.len() - blank);
        }
        let end = end.min(self.text.len());
        self.out.extend_from_slice(&self.text[start..end]);
        self.at = end;
        self.last = Some((quote, end.saturating_sub(1), self.out.len() - 1));
        if !closed {
            let span = Span {
                start,
                end: start + width,
            };
            self.slips.push(slip(
                span,
                "the text that begins here is never closed".into(),
            ));
            for _ in 0..width {
                self.out.push(quote);
                self.inserted.push(end);
            }
            self.last = Some((quote, end.max(1) - 1, self.out.len() - 1));
        }
        debug_assert!(self.out.len() > start_out);
    }
}

fn partner(open: u8) -> u8 {
    if open == b'[' { b']' } else { b'}' }
}
