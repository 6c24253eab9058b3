//! Puts in the quotes and brackets that a text lacks.

use std::borrow::Cow;

use super::error::{Finding, Span};
use super::mend::{Prepared, Shift, slip};

/// Mending more than this is guessing.
const INSERTED_MAX: usize = 200;

/// Copies a text byte by byte and closes what is not closed.
pub(super) struct Balancer<'t> {
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
    pub(super) fn new(text: &'t str) -> Self {
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
    pub(super) fn run(mut self) -> Option<Prepared<'t>> {
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
            taken_out: Vec::new(),
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
        if byte == b'{'
            && self.open.last().is_some_and(|(open, _)| *open == b'[')
            && let Some((b'}', here, there)) = self.last
        {
            let span = Span {
                start: here,
                end: here + 1,
            };
            self.slips
                .push(slip(span, "a comma is missing behind this".into()));
            self.out.insert(there + 1, b',');
            self.inserted.push(here + 1);
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
        let expected = self.open.iter().rposition(|(open, _)| *open == opener);
        // Either what is open inside lacks its end, or this closes nothing; what comes
        // next tells which of the two would be the only slip.
        let next = self.next_after().filter(|byte| matches!(byte, b']' | b'}'));
        let around = |at: usize| self.open[..at].last().map(|(open, _)| partner(*open));
        let stray = next.is_some()
            && next == top.map(partner)
            && expected.is_none_or(|at| next != around(at));
        if expected.is_none() || stray {
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
        let start = self.at;
        let quoted = Quoted::at(self.text, start);
        let mut end = quoted.end;
        if !quoted.closed && !quoted.long() && !self.open.is_empty() {
            // In a list or table the text ends most likely where the next sign is.
            let rest = &self.text[start..end];
            end = start
                + rest
                    .iter()
                    .position(|byte| b",]}".contains(byte))
                    .unwrap_or(rest.len());
        }
        self.out.extend_from_slice(&self.text[start..end]);
        self.at = end;
        if !quoted.closed {
            let culprit = self.swallowed(start);
            let span = Span {
                start: culprit,
                end: culprit + quoted.width,
            };
            self.slips.push(slip(
                span,
                "the text that begins here is never closed".into(),
            ));
            for _ in 0..quoted.width {
                self.out.push(quote);
                self.inserted.push(end);
            }
        }
        self.last = Some((quote, end - 1, self.out.len() - 1));
    }

    /// `"x, size = "`: where a text of the same line has swallowed a key, the quote that
    /// is missing is its own, and all behind it are inside out.
    fn swallowed(&self, until: usize) -> usize {
        let mut at = self.text[..until]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        while at < until {
            if !matches!(self.text[at], b'"' | b'\'') {
                at += 1;
                continue;
            }
            let quoted = Quoted::at(self.text, at);
            let inside = &self.text[at..quoted.end.min(until)];
            if inside.contains(&b',') && inside.contains(&b'=') {
                return at;
            }
            at = quoted.end;
        }
        until
    }
}

/// The extent of a text in quotes.
pub(super) struct Quoted {
    width: usize,
    /// Behind the closing quote, or at the end of what there is.
    pub(super) end: usize,
    closed: bool,
}

impl Quoted {
    /// `start` is at a quote.
    pub(super) fn at(text: &[u8], start: usize) -> Self {
        let quote = text[start];
        let quotes = [quote; 3];
        let width = if text[start..].starts_with(&quotes) {
            3
        } else {
            1
        };
        let mut end = start + width;
        loop {
            match text.get(end) {
                None => break,
                Some(b'\n') if width == 1 => break,
                Some(b'\\')
                    if quote == b'"' && text.get(end + 1).is_some_and(|next| *next != b'\n') =>
                {
                    end += 2
                }
                Some(_) if text[end..].starts_with(&quotes[..width]) => {
                    end += width;
                    // Up to two quotes may stand before the closing three.
                    while width == 3 && text.get(end) == Some(&quote) {
                        end += 1;
                    }
                    return Self {
                        width,
                        end,
                        closed: true,
                    };
                }
                Some(_) => end += 1,
            }
        }
        // Not the blanks at the end of the line.
        let blank = text[start..end]
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        Self {
            width,
            end: end - blank,
            closed: false,
        }
    }

    fn long(&self) -> bool {
        self.width == 3
    }
}

fn partner(open: u8) -> u8 {
    if open == b'[' { b']' } else { b'}' }
}
