//! A bar on one line of a terminal, with the places on it that matter.

use super::text::{self, Charset};
use crate::event::Unit;

/// The label keeps this much at most where the line is narrow.
const LABEL_COLUMNS_MAX: usize = 28;
/// A shorter bar shows nothing.
const BAR_COLUMNS_MIN: usize = 8;
/// A shorter one is not worth what stands behind it.
const BAR_COLUMNS_GOOD: usize = 20;
/// What stands behind is cut to this at least, or left away.
const BEHIND_COLUMNS_MIN: usize = 12;
/// A longer one shows no more.
const BAR_COLUMNS_MAX: usize = 48;

/// What a bar shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// In front; escaped already.
    pub label: String,
    /// How far.
    pub done: u64,
    /// Of so much; 0 where nobody knows.
    pub total: u64,
    /// Of what.
    pub unit: Unit,
    /// Behind; escaped already, may be empty.
    pub note: String,
    /// Places on it, with their labels; escaped already.
    pub marks: Vec<(u64, String)>,
    /// A second, where it is known.
    pub rate: Option<f64>,
    /// Seconds to go, where they are known.
    pub eta: Option<f64>,
}

impl Bar {
    /// Exactly the line, at most so many columns wide.
    pub fn line(&self, columns: usize, charset: Charset) -> String {
        let label = charset.fit(&self.label, LABEL_COLUMNS_MAX.min(columns / 3));
        let mut behind = Vec::new();
        for (_, mark) in &self.marks {
            behind.push(format!("{} {mark}", mark_glyph(charset)));
        }
        if !self.note.is_empty() {
            behind.push(self.note.clone());
        }
        let behind = behind.join("  ");
        // In a narrow terminal the last figures go first: the bar says more.
        let mut figures = self.figures();
        let mut room = 0;
        while !figures.is_empty() {
            let taken = text::width(&label) + 3 + text::width(&figures.join("  "));
            room = columns.saturating_sub(taken);
            if room >= BAR_COLUMNS_GOOD || figures.len() == 1 {
                break;
            }
            figures.pop();
        }
        let figures = figures.join("  ");
        // Room for everything if the bar is short, else a bar worth looking at.
        let room = room
            .saturating_sub(text::width(&behind) + 2)
            .max(room.min(BAR_COLUMNS_GOOD))
            .min(BAR_COLUMNS_MAX);
        let mut line = label;
        if self.total > 0 && room >= BAR_COLUMNS_MIN {
            line.push(' ');
            line.push_str(&self.cells(room, charset));
        }
        line.push_str("  ");
        line.push_str(&figures);
        // A few letters of it are worth nothing.
        let left = columns.saturating_sub(text::width(&line) + 2);
        if !behind.is_empty() && left >= text::width(&behind).min(BEHIND_COLUMNS_MIN) {
            line.push_str("  ");
            line.push_str(&behind);
        }
        charset.fit(&line, columns)
    }

    /// The bar itself. A mark is drawn over whatever is there.
    pub fn cells(&self, columns: usize, charset: Charset) -> String {
        let (full, empty) = match charset {
            Charset::Unicode => ("█", "░"),
            Charset::Ascii => ("#", "."),
        };
        let filled = self.column(self.done, columns);
        let mut cells = vec![empty; columns];
        cells[..filled].fill(full);
        for (at, _) in &self.marks {
            let column = self.column(*at, columns).min(columns.saturating_sub(1));
            if let Some(cell) = cells.get_mut(column) {
                *cell = mark_glyph(charset);
            }
        }
        cells.concat()
    }

    fn column(&self, at: u64, columns: usize) -> usize {
        let at = u128::from(at.min(self.total));
        let column = at * columns as u128 / u128::from(self.total.max(1));
        usize::try_from(column).unwrap_or(columns).min(columns)
    }

    /// The most important first; at least one.
    fn figures(&self) -> Vec<String> {
        let mut figures = Vec::new();
        if self.total > 0 {
            let percent = self.done as f64 * 100.0 / self.total as f64;
            figures.push(format!("{percent:3.0} %"));
        }
        figures.push(match (self.unit, self.total) {
            (Unit::Bytes, 0) => text::bytes(self.done),
            (Unit::Bytes, total) => format!("{} of {}", text::bytes(self.done), text::bytes(total)),
            (Unit::Items, 0) => self.done.to_string(),
            (Unit::Items, total) => format!("{}/{total}", self.done),
        });
        if let (Unit::Bytes, Some(rate)) = (self.unit, self.rate) {
            figures.push(format!("{}/s", text::bytes(rate.max(0.0) as u64)));
        }
        if let Some(eta) = self.eta
            && self.done < self.total
        {
            figures.push(format!("{} to go", text::seconds(eta)));
        }
        figures
    }
}

fn mark_glyph(charset: Charset) -> &'static str {
    match charset {
        Charset::Unicode => "✖",
        Charset::Ascii => "X",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn transfer(done: u64, marks: &[u64]) -> Bar {
        Bar {
            label: "a → b".into(),
            done,
            total: 256 * MIB,
            unit: Unit::Bytes,
            note: String::new(),
            marks: marks.iter().map(|at| (*at, "killed b".into())).collect(),
            rate: Some(812.0 * MIB as f64),
            eta: Some(0.4),
        }
    }

    #[test]
    fn kill_is_marked_at_its_share() {
        let cells = |done, mark| transfer(done, &[mark]).cells(10, Charset::Unicode);
        assert_eq!(cells(128 * MIB, 103 * MIB), "████✖░░░░░");
        assert_eq!(cells(256 * MIB, 103 * MIB), "████✖█████");
        assert_eq!(cells(0, 0), "✖░░░░░░░░░");
        // At the very end, and beyond it after a resend: still on the bar.
        assert_eq!(cells(256 * MIB, 256 * MIB), "█████████✖");
        assert_eq!(cells(u64::MAX, u64::MAX), "█████████✖");
        let ascii = transfer(128 * MIB, &[103 * MIB]).cells(10, Charset::Ascii);
        assert_eq!(ascii, "####X.....");
    }

    #[test]
    fn line_says_all_where_there_is_room() {
        assert_eq!(
            transfer(128 * MIB, &[103 * MIB]).line(100, Charset::Unicode),
            "a → b ████████████✖██░░░░░░░░░░░░░░░   50 %  128 MiB of 256 MiB  812 MiB/s  \
             0.40 s to go  ✖ killed b"
        );
    }

    #[test]
    fn line_is_never_wider_than_asked() {
        for columns in 0..140 {
            for charset in [Charset::Unicode, Charset::Ascii] {
                let line = transfer(200 * MIB, &[MIB, 90 * MIB]).line(columns, charset);
                assert!(text::width(&line) <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn narrow_line_keeps_its_bar() {
        let line = transfer(128 * MIB, &[103 * MIB]).line(40, Charset::Ascii);
        assert_eq!(line, "a → b ########X#..........   50 %");
    }

    #[test]
    fn unknown_total_shows_what_is_done() {
        let bar = Bar {
            total: 0,
            ..transfer(5 * MIB, &[MIB])
        };
        let line = bar.line(80, Charset::Ascii);
        assert_eq!(line, "a → b  5 MiB  812 MiB/s  X killed b");
    }
}
