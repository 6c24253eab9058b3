//! A file as spanned values: every value knows its place, every table knows which
//! keys were asked of it, and whatever does not fit is noted and passed over.
//!
//! The values are walked by hand instead of through serde's derive, because serde
//! ends at the first mistake of a table, while a user wants all of them; and a value
//! of `[matrix]` must be put in where `"$name"` stands, with its own place.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Basis, Finding, Lines, Mistakes, Span, known, tame};
use super::{Amount, Bound, mend, units};

/// A scenario is some pages of text; this is a book.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text of a file, if it is one that could be a scenario at all.
pub(crate) fn read_text(file: &Path) -> Result<String, Mistakes> {
    let refuse = |message: String| Mistakes::unread(file, message);
    let unreadable = |error: std::io::Error| refuse(format!("cannot read it: {}", reason(&error)));
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let kind = std::fs::metadata(file).map_err(unreadable)?;
    if kind.is_dir() {
        return Err(refuse("is a directory, not a file".into()));
    }
    if !kind.is_file() {
        return Err(refuse("is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let good = error.utf8_error().valid_up_to();
        let line = bytes[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        refuse(format!(
            "is not text: line {line} holds bytes that are not UTF-8"
        ))
    })?;
    Ok(text)
}

/// What the system says, without the number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// Parses `text` as far as it goes, lets `interpret` read it, and answers with what
/// it made or with every mistake that either of them found.
pub(crate) fn read<T>(
    file: &Path,
    text: &str,
    interpret: impl for<'r, 'd> FnOnce(&'r Reader<'d>, Node<'r, 'd>) -> Option<T>,
) -> Result<T, Mistakes> {
    if text.len() as u64 > FILE_BYTES_MAX {
        let most = units::show_size(FILE_BYTES_MAX);
        return Err(Mistakes::unread(file, format!("is larger than {most}")));
    }
    let prepared = mend::prepare(text);
    let (root, slips) = prepared.parse();
    let reader = Reader::default();
    let node = Node {
        reader: &reader,
        value: &root,
        span: Span { start: 0, end: 0 },
    };
    let made = interpret(&reader, node);
    let mut findings = reader.findings.take();
    findings.retain(|finding| !prepared.took_out(finding.span));
    for finding in &mut findings {
        finding.span = prepared.shift.back(finding.span);
    }
    if !slips.is_empty() {
        let lines = Lines::new(text);
        let line = |finding: &Finding| lines.line(finding.span.start);
        let slip_lines: BTreeSet<usize> = slips.iter().map(line).collect();
        findings.retain(|finding| {
            finding.basis == Basis::Present && !slip_lines.contains(&line(finding))
        });
        findings.extend(slips);
    }
    match made {
        Some(made) if findings.is_empty() => Ok(made),
        // Whoever makes nothing has said why; should that ever fail, this is still no panic.
        None if findings.is_empty() => Err(Mistakes::unread(file, "cannot be understood")),
        _ => Err(Mistakes::new(file, text, findings)),
    }
}

/// What each name of the matrix stands for; `None` for a list that has no values,
/// which is a mistake of the list and of nobody who uses it.
pub(crate) type Cell<'d> = BTreeMap<&'d str, Option<&'d Spanned<DeValue<'d>>>>;

/// Collects mistakes and knows what `"$name"` stands for at the moment.
#[derive(Default)]
pub(crate) struct Reader<'d> {
    findings: RefCell<Vec<Finding>>,
    /// The values of one cell; `None` where `"$name"` has no meaning.
    cell: RefCell<Option<Cell<'d>>>,
    used: RefCell<BTreeSet<&'d str>>,
}

impl<'d> Reader<'d> {
    /// Something in the file is wrong.
    pub(crate) fn wrong(&self, span: Span, message: impl Into<String>) {
        self.note(span, message.into(), None, Basis::Present);
    }

    /// Something in the file is wrong, with a word on what would be right.
    pub(crate) fn wrong_with(&self, span: Span, message: String, help: String) {
        self.note(span, message, Some(help), Basis::Present);
    }

    /// A name in the file is not one of `names`.
    pub(crate) fn unknown<'n>(
        &self,
        span: Span,
        message: String,
        given: &str,
        names: impl IntoIterator<Item = &'n str>,
    ) {
        self.note(span, message, Some(known(given, names)), Basis::Present);
    }

    /// Something is missing in the file.
    pub(crate) fn missing(&self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.note(span, message.into(), help, Basis::Absent);
    }

    fn note(&self, span: Span, message: String, help: Option<String>, basis: Basis) {
        self.findings.borrow_mut().push(Finding {
            span,
            message,
            help,
            basis,
        });
    }

    /// From here on `"$name"` stands for a value of this cell.
    pub(crate) fn enter_cell(&self, cell: Cell<'d>) {
        self.cell.replace(Some(cell));
    }

    /// Which names of the cell were used since the beginning.
    pub(crate) fn used(&self) -> BTreeSet<&'d str> {
        self.used.borrow().clone()
    }

    fn node<'r>(&'r self, value: &'d Spanned<DeValue<'d>>) -> Option<Node<'r, 'd>> {
        let span = span_of(value.span());
        if let (DeValue::String(text), Some(cell)) = (value.get_ref(), &*self.cell.borrow())
            && let Some(name) = text.strip_prefix('$')
        {
            let Some((name, value)) = cell.get_key_value(name) else {
                let message = format!("no list named `{}` in [matrix]", tame(name));
                self.unknown(span, message, name, cell.keys().copied());
                return None;
            };
            self.used.borrow_mut().insert(name);
            let value = (*value)?;
            return Some(Node {
                reader: self,
                value: value.get_ref(),
                span: span_of(value.span()),
            });
        }
        Some(Node {
            reader: self,
            value: value.get_ref(),
            span,
        })
    }
}

/// A value with its place.
#[derive(Clone, Copy)]
pub(crate) struct Node<'r, 'd> {
    reader: &'r Reader<'d>,
    value: &'d DeValue<'d>,
    pub(crate) span: Span,
}

impl<'r, 'd> Node<'r, 'd> {
    /// Text.
    pub(crate) fn text(self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.not("text in quotes"),
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.not("true or false"),
        }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn count(self, least: u64, most: u64) -> Option<u64> {
        let DeValue::Integer(_) = self.value else {
            return self.not("a whole number");
        };
        match self.integer() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                self.reader.wrong(
                    self.span,
                    format!("must be a number from {least} to {most}"),
                );
                None
            }
        }
    }

    /// One of a closed set of words.
    pub(crate) fn word<T: Copy>(self, words: &[(&str, T)]) -> Option<T> {
        let given = self.text()?;
        let found = words.iter().find(|(word, _)| *word == given);
        if found.is_none() {
            let message = format!("unknown word `{}`", tame(given));
            self.reader.unknown(
                self.span,
                message,
                given,
                words.iter().map(|(word, _)| *word),
            );
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// `10MiB` or a number of bytes.
    pub(crate) fn size(self) -> Option<u64> {
        match self.value {
            DeValue::String(text) => self.checked("size", text, units::size(text)),
            DeValue::Integer(_) => match self.integer().map(units::size_in_bounds) {
                Some(checked) => self.checked("size", "", checked),
                None => self.checked("size", "", Err("is no possible number of bytes".into())),
            },
            _ => self.not("a size such as \"10MiB\""),
        }
    }

    /// `40%`, `100MiB` or a number of bytes.
    pub(crate) fn amount(self) -> Option<Amount> {
        match self.value {
            DeValue::String(text) => self.checked("amount", text, units::amount(text)),
            DeValue::Integer(_) => self.size().map(Amount::Bytes),
            _ => self.not("a percentage such as \"40%\" or a size such as \"100MiB\""),
        }
    }

    /// `60s`
    pub(crate) fn duration(self) -> Option<Duration> {
        match self.value {
            DeValue::String(text) => self.checked("duration", text, units::duration(text)),
            _ => self.not("a duration such as \"60s\""),
        }
    }

    /// `10MiB/s`
    pub(crate) fn rate(self) -> Option<u64> {
        match self.value {
            DeValue::String(text) => self.checked("rate", text, units::rate(text)),
            _ => self.not("a rate such as \"10MiB/s\""),
        }
    }

    /// `1%`
    pub(crate) fn percent(self) -> Option<f64> {
        match self.value {
            DeValue::String(text) => self.checked("percentage", text, units::percent(text)),
            _ => self.not("a percentage such as \"1%\""),
        }
    }

    /// `<= 1% + 1MiB`
    pub(crate) fn bound(self) -> Option<Bound> {
        match self.value {
            DeValue::String(text) => self.checked("bound", text, units::bound(text)),
            _ => self.not("a bound such as \"<= 1% + 1MiB\""),
        }
    }

    /// The elements of an array; those that cannot be had are left out and noted.
    pub(crate) fn list(self, wanted: &str) -> Option<Vec<Node<'r, 'd>>> {
        match self.value {
            DeValue::Array(list) => Some(
                list.iter()
                    .filter_map(|value| self.reader.node(value))
                    .collect(),
            ),
            _ => self.not(wanted),
        }
    }

    /// One element that is not in an array, or those of the array.
    pub(crate) fn one_or_list(self) -> Option<Vec<Node<'r, 'd>>> {
        match self.value {
            DeValue::Array(_) => self.list("a list"),
            _ => Some(vec![self]),
        }
    }

    /// A list of texts.
    pub(crate) fn texts(self) -> Option<Vec<&'d str>> {
        let list = self.list("a list of texts")?;
        let texts: Vec<&str> = list.iter().filter_map(|node| node.text()).collect();
        (texts.len() == list.len()).then_some(texts)
    }

    /// A table whose keys are asked for one by one; `name` is how messages call it.
    pub(crate) fn fields(self, name: impl Into<String>, at: Span) -> Option<Fields<'r, 'd>> {
        match self.value {
            DeValue::Table(table) => Some(Fields {
                reader: self.reader,
                name: name.into(),
                at,
                table: Some(table),
                alone: None,
                asked: Vec::new(),
            }),
            _ => self.not("a table such as { on = \"a\", … }"),
        }
    }

    /// The same for a table with one chief key, whose value may stand there alone:
    /// `kill = "b"` for `kill = { on = "b" }`.
    pub(crate) fn fields_or(
        self,
        key: &'static str,
        name: impl Into<String>,
        at: Span,
    ) -> Option<Fields<'r, 'd>> {
        if let DeValue::Table(_) = self.value {
            return self.fields(name, at);
        }
        Some(Fields {
            reader: self.reader,
            name: name.into(),
            at,
            table: None,
            alone: Some((key, self)),
            asked: Vec::new(),
        })
    }

    /// The keys of a table with their places and values, in the order of the file.
    pub(crate) fn entries(self, wanted: &str) -> Option<Vec<Entry<'r, 'd>>> {
        match self.value {
            DeValue::Table(table) => Some(entries(self.reader, table)),
            _ => self.not(wanted),
        }
    }

    /// A raw list, as `[matrix]` keeps it.
    pub(crate) fn values(self) -> Option<&'d [Spanned<DeValue<'d>>]> {
        match self.value {
            DeValue::Array(list) => Some(list),
            _ => self.not("a list of values"),
        }
    }

    fn integer(self) -> Option<u64> {
        match self.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    fn checked<T>(self, noun: &str, text: &str, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) if text.is_empty() => self.refused(format!("the {noun} {why}")),
            Err(why) => self.refused(format!("the {noun} `{}` {why}", tame(text))),
        }
    }

    fn refused<T>(self, message: String) -> Option<T> {
        self.reader.wrong(self.span, message);
        None
    }

    fn not<T>(self, wanted: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.refused(format!("must be {wanted}, not {found}"))
    }
}

/// A value in one line, for the label of a cell.
pub(crate) fn label_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(tame(text)),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// One key of a table.
pub(crate) struct Entry<'r, 'd> {
    pub(crate) key: &'d str,
    pub(crate) at: Span,
    pub(crate) value: Option<Node<'r, 'd>>,
}

fn entries<'r, 'd>(reader: &'r Reader<'d>, table: &'d DeTable<'d>) -> Vec<Entry<'r, 'd>> {
    let mut list: Vec<(&str, Span, &Spanned<DeValue>)> = table
        .iter()
        .map(|(key, value)| (key.get_ref().as_ref(), span_of(key.span()), value))
        .collect();
    list.sort_by_key(|(_, at, _)| *at);
    list.into_iter()
        .map(|(key, at, value)| Entry {
            key,
            at,
            value: reader.node(value),
        })
        .collect()
}

/// A table that is read key by key.
pub(crate) struct Fields<'r, 'd> {
    reader: &'r Reader<'d>,
    name: String,
    /// Where a missing key is reported.
    pub(crate) at: Span,
    table: Option<&'d DeTable<'d>>,
    /// The only key and its value, where there is no table.
    alone: Option<(&'static str, Node<'r, 'd>)>,
    asked: Vec<&'static str>,
}

impl<'r, 'd> Fields<'r, 'd> {
    /// The value of a key that may be absent.
    pub(crate) fn may(&mut self, key: &'static str) -> Option<Node<'r, 'd>> {
        self.asked.push(key);
        if let Some((alone, node)) = self.alone
            && alone == key
        {
            return Some(node);
        }
        let value = self.table?.get(key)?;
        self.reader.node(value)
    }

    /// The value of a key that must be there.
    pub(crate) fn must(&mut self, key: &'static str) -> Option<Node<'r, 'd>> {
        if !self.has(key) {
            let message = format!("{} needs `{key}`", self.name);
            self.reader.missing(self.at, message, None);
        }
        self.may(key)
    }

    /// Whether the key stands in the table, whatever its value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.alone.is_some_and(|(alone, _)| alone == key)
            || self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Where the key stands.
    pub(crate) fn place(&self, key: &str) -> Span {
        if let Some((alone, node)) = self.alone
            && alone == key
        {
            return node.span;
        }
        self.table
            .and_then(|table| table.get_key_value(key))
            .map_or(self.at, |(key, _)| span_of(key.span()))
    }

    /// No key stands in the table.
    pub(crate) fn is_empty(&self) -> bool {
        self.alone.is_none() && self.table.is_none_or(|table| table.is_empty())
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(self) {
        let mut unknown: Vec<(Span, &str)> = self
            .table
            .into_iter()
            .flat_map(|table| table.keys())
            .map(|key| (span_of(key.span()), key.get_ref().as_ref()))
            .filter(|(_, key)| !self.asked.contains(key))
            .collect();
        unknown.sort();
        for (span, key) in unknown {
            let message = format!("unknown key `{}` in {}", tame(key), self.name);
            self.reader
                .unknown(span, message, key, self.asked.iter().copied());
        }
    }
}

pub(crate) fn span_of(range: std::ops::Range<usize>) -> Span {
    Span {
        start: range.start,
        end: range.end,
    }
}
