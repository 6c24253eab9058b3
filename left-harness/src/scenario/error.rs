//! What a user is told about a file that cannot be run: every mistake, in the
//! order of the file, each with its line, its column and the names that are known.

use std::fmt;
use std::path::{Path, PathBuf};

/// More than this is not read by anybody; how many were left out is said.
const MISTAKES_MAX: usize = 100;

/// One line of a file is shown up to this many characters around the mistake.
const EXCERPT_CHARS: usize = 100;

/// All mistakes of one file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// In the order of the file.
    pub list: Vec<Mistake>,
    /// How many more were found than are listed.
    pub left_out: usize,
}

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is; `None` when the file could not be read at all.
    pub place: Option<Place>,
    /// ``no host named `bata` ``
    pub message: String,
    /// `known: a, b`
    pub help: Option<String>,
}

/// A place in a file, for people and for editors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// How many characters of this line it covers, at least 1.
    pub width: usize,
    /// The whole line, as it stands in the file.
    pub source: String,
}

/// Whether the terminal takes colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// ANSI escapes.
    Colour,
    /// Text alone.
    Plain,
}

impl Mistakes {
    /// A file that could not be read at all.
    pub(crate) fn unread(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            list: vec![Mistake {
                place: None,
                message: message.into(),
                help: None,
            }],
            left_out: 0,
        }
    }

    /// The same with a word on what would be right.
    pub(crate) fn with_help(mut self, help: String) -> Self {
        if let Some(mistake) = self.list.last_mut() {
            mistake.help = Some(help);
        }
        self
    }

    /// Sorts what was found by its place and turns offsets into lines and columns.
    pub(crate) fn new(file: &Path, text: &str, mut found: Vec<Finding>) -> Self {
        found.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
        // A matrix reads the same step many times.
        found.dedup_by(|a, b| a.span.start == b.span.start && a.message == b.message);
        let left_out = found.len().saturating_sub(MISTAKES_MAX);
        found.truncate(MISTAKES_MAX);
        let lines = Lines::new(text);
        let list = found
            .into_iter()
            .map(|finding| Mistake {
                place: Some(lines.place(finding.span)),
                message: finding.message,
                help: finding.help,
            })
            .collect();
        Self {
            file: file.to_path_buf(),
            list,
            left_out,
        }
    }

    /// The whole report: each mistake with its source line and a caret under it.
    pub fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        for mistake in &self.list {
            text.push_str(&mistake.render(&self.file, paint));
            text.push('\n');
        }
        let count = self.list.len() + self.left_out;
        if self.left_out > 0 {
            text.push_str(&format!("and {} more\n", self.left_out));
        }
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        text.push_str(&format!(
            "{count} {noun} in {}\n",
            tame_all(&self.file.to_string_lossy())
        ));
        text
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(Paint::Plain).trim_end())
    }
}

impl std::error::Error for Mistakes {}

impl Mistake {
    fn render(&self, file: &Path, paint: Paint) -> String {
        let (bold, red, blue, off) = match paint {
            Paint::Colour => ("\x1b[1m", "\x1b[1;31m", "\x1b[1;34m", "\x1b[0m"),
            Paint::Plain => ("", "", "", ""),
        };
        let file = tame_all(&file.to_string_lossy());
        let message = &self.message;
        let Some(place) = &self.place else {
            let help = self
                .help
                .as_ref()
                .map_or(String::new(), |help| format!("{blue}  ={off} {help}\n"));
            return format!("{bold}{file}: {message}{off}\n{help}");
        };
        let (line, column) = (place.line, place.column);
        let gutter = " ".repeat(line.to_string().len());
        let (shown, before, width) = place.excerpt();
        let mut text = format!("{bold}{file}:{line}:{column}: {message}{off}\n");
        text.push_str(&format!("{blue}{gutter} |{off}\n"));
        text.push_str(&format!("{blue}{line} |{off} {shown}\n"));
        let (indent, carets) = (" ".repeat(before), "^".repeat(width));
        text.push_str(&format!(
            "{blue}{gutter} |{off} {indent}{red}{carets}{off}\n"
        ));
        if let Some(help) = &self.help {
            text.push_str(&format!("{blue}{gutter} ={off} {help}\n"));
        }
        text
    }
}

/// Where the lines of a text begin; counting them anew for each of a hundred
/// thousand mistakes would take minutes.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after).collect(),
        }
    }

    /// From 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    fn place(&self, span: Span) -> Place {
        let start = floor(self.text, span.start);
        let line = self.line(start);
        let line_start = self.starts[line - 1];
        let line_end = self
            .starts
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        let source = &self.text[line_start..line_end];
        let source = source.strip_suffix('\r').unwrap_or(source);
        let start = (start - line_start).min(source.len());
        let end = floor(self.text, span.end).saturating_sub(line_start);
        let end = end.clamp(start, source.len());
        Place {
            line,
            column: source[..start].chars().count() + 1,
            width: source[start..end].trim_end().chars().count().max(1),
            source: source.to_owned(),
        }
    }
}

impl Place {
    /// The part of the line to show, how many columns precede the mistake, and its width.
    fn excerpt(&self) -> (String, usize, usize) {
        let chars: Vec<char> = self.source.chars().map(tame_char).collect();
        let at = (self.column - 1).min(chars.len());
        // A third before the mistake, the rest from it on.
        let from = match at.saturating_sub(EXCERPT_CHARS / 3) {
            _ if chars.len() <= EXCERPT_CHARS => 0,
            from => from,
        };
        let to = chars.len().min(from + EXCERPT_CHARS);
        let (head, tail) = (
            if from > 0 { "…" } else { "" },
            if to < chars.len() { "…" } else { "" },
        );
        let shown: String = chars[from..to].iter().collect();
        let before = at - from + head.chars().count();
        let width = self.width.min((to - at).max(1));
        (
            format!("{head}{shown}{tail}").trim_end().to_owned(),
            before,
            width,
        )
    }
}

/// Bytes of the file, from `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A mistake as it is collected, before lines are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) basis: Basis,
}

/// What a finding rests on. After a slip of the syntax parts of the file may not
/// have been seen, and what rests on their absence would only confuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// The file is no TOML here.
    Syntax,
    /// Something that stands in the file.
    Present,
    /// Something that does not.
    Absent,
}

/// Text out of a file, made safe for a terminal and short enough for a line.
pub(crate) fn tame(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut tamed: String = text.chars().take(CHARS_MAX).map(tame_char).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        tamed.push('…');
    }
    tamed
}

fn tame_all(text: &str) -> String {
    text.chars().map(tame_char).collect()
}

/// Neither control characters nor those that turn the direction of writing reach a terminal.
fn tame_char(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// `known: a, b`, with the nearest name first in the sentence where one is near.
pub(crate) fn known<'n>(given: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let nearest = names
        .iter()
        .map(|name| (distance(given, name), *name))
        .min()
        .filter(|(steps, name)| *steps * 3 <= name.chars().count().max(2));
    let list = names
        .iter()
        .map(|name| tame(name))
        .collect::<Vec<_>>()
        .join(", ");
    match nearest {
        Some((_, name)) => format!("did you mean `{}`? known: {list}", tame(name)),
        None => format!("known: {list}"),
    }
}

/// How many letters must be put in, left out, replaced or swapped.
fn distance(a: &str, b: &str) -> usize {
    // Names are short; a longer text is near to none of them.
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(40).collect(), b.chars().take(40).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, start: usize, end: usize) -> String {
        let finding = Finding {
            span: Span { start, end },
            message: "is wrong".into(),
            help: Some("known: b".into()),
            basis: Basis::Present,
        };
        Mistakes::new(Path::new("x.toml"), text, vec![finding]).to_string()
    }

    #[test]
    fn columns_count_characters_from_one() {
        let text = "one\nä = \"ö\" # ü\n";
        let start = text.find("\"ö").expect("the text");
        insta::assert_snapshot!(rendered(text, start, start + 4), @r#"
        x.toml:2:5: is wrong
          |
        2 | ä = "ö" # ü
          |     ^^^
          = known: b

        1 mistake in x.toml
        "#);
    }

    #[test]
    fn of_a_long_line_only_the_part_around_is_shown() {
        let text = format!("{}wrong{}", "x".repeat(500), "y".repeat(500));
        let rendered = rendered(&text, 500, 505);
        let lines: Vec<&str> = rendered.lines().collect();
        assert_eq!(lines[0], "x.toml:1:501: is wrong");
        assert!(lines[2].chars().count() < 110, "{}", lines[2]);
        let caret = lines[3]
            .find('^')
            .map(|at| lines[3][..at].chars().count())
            .expect("a caret");
        let under: String = lines[2].chars().skip(caret).take(5).collect();
        assert_eq!(
            (under.as_str(), lines[3].matches('^').count()),
            ("wrong", 5)
        );
    }

    #[test]
    fn places_are_in_the_file_whatever_the_span() {
        for (start, end) in [(0, 0), (3, 3), (3, 99), (99, 99), (5, 2), (4, 4)] {
            let rendered = rendered("abü\r\nd", start, end);
            assert!(
                rendered.starts_with("x.toml:1:") || rendered.starts_with("x.toml:2:"),
                "{rendered}"
            );
        }
        assert!(rendered("", 0, 0).starts_with("x.toml:1:1: "));
    }

    #[test]
    fn terminals_get_no_control_characters() {
        let text = "a = \"\u{1b}[31m\u{202e}\"";
        assert!(!rendered(text, 0, 1).contains(['\u{1b}', '\u{202e}']));
        assert_eq!(tame("a\tb\u{7}"), "a b\u{fffd}");
        assert_eq!(tame(&"x".repeat(100)).chars().count(), 61);
    }

    #[test]
    fn colours_come_only_where_they_are_wanted() {
        let mistakes = Mistakes::unread(Path::new("x.toml"), "is a directory");
        assert!(mistakes.render(Paint::Colour).contains("\u{1b}[1m"));
        assert!(!mistakes.render(Paint::Plain).contains('\u{1b}'));
    }

    #[test]
    fn near_names_are_proposed_and_far_ones_are_not() {
        assert_eq!(
            known("sttle", ["settle", "start"]),
            "did you mean `settle`? known: settle, start"
        );
        assert_eq!(
            known("strat", ["stop", "start"]),
            "did you mean `start`? known: stop, start"
        );
        for far in ["bata", "x", "B"] {
            assert_eq!(known(far, ["a", "b"]), "known: a, b");
        }
    }
}
