//! Strings as they may be shown, and numbers as people read them.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Which characters the reader's terminal or file can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// All of them.
    Unicode,
    /// Only ASCII, because the locale is not UTF-8.
    Ascii,
}

impl Charset {
    /// The same text, on one line and without anything that would move the
    /// cursor, turn the writing direction or hide. Names of files and words of
    /// a host come through here, always.
    pub fn show(self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\n' => shown.push_str("\\n"),
                '\r' => shown.push_str("\\r"),
                '\t' => shown.push_str("\\t"),
                c if c.is_control() && (c as u32) < 0x80 => {
                    let _ = write!(shown, "\\x{:02x}", c as u32);
                }
                c if c.is_ascii() => shown.push(c),
                c if is_invisible(c) => escape(&mut shown, c),
                c if self == Self::Unicode => shown.push(c),
                '→' => shown.push_str("->"),
                '–' | '—' => shown.push('-'),
                '…' => shown.push_str("..."),
                '×' => shown.push('x'),
                c => escape(&mut shown, c),
            }
        }
        shown
    }

    /// What stands for text that was cut off.
    pub fn ellipsis(self) -> &'static str {
        match self {
            Self::Unicode => "…",
            Self::Ascii => "...",
        }
    }

    /// Cuts shown text to so many columns.
    pub fn fit(self, text: &str, columns: usize) -> String {
        if width(text) <= columns {
            return text.to_string();
        }
        let mut left = columns.saturating_sub(width(self.ellipsis()));
        let mut cut = String::new();
        for c in text.chars() {
            let width = c.width().unwrap_or(0);
            if width > left {
                break;
            }
            left -= width;
            cut.push(c);
        }
        if width(self.ellipsis()) <= columns {
            cut.push_str(self.ellipsis());
        }
        cut
    }
}

fn escape(shown: &mut String, c: char) {
    let _ = write!(shown, "\\u{{{:x}}}", c as u32);
}

/// Controls of the second half, and characters that turn, join or hide others.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The same JSON, with everything as an escape that a terminal would not just
/// show. Such characters stand only inside of its strings.
pub fn json_for_terminals(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\u{7f}' || (!c.is_ascii() && is_invisible(c)) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Columns that shown text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `107.9 MiB`, `512 B`
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded up to 1024 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!(
        "{} {}",
        text.strip_suffix(".0").unwrap_or(&text),
        UNITS[unit]
    )
}

/// `0.84 s`, `12.3 s`, `3 min 07 s`
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "? s".to_string();
    }
    if seconds < 9.995 {
        format!("{seconds:.2} s")
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_shown_harmlessly() {
        let name = "a\u{1b}[2Jb\nc\u{202e}d\u{9b}e\u{200b}\t\u{2028}ü→";
        assert_eq!(
            Charset::Unicode.show(name),
            "a\\x1b[2Jb\\nc\\u{202e}d\\u{9b}e\\u{200b}\\t\\u{2028}ü→"
        );
        let ascii = Charset::Ascii.show(name);
        assert!(ascii.is_ascii(), "{ascii}");
        assert!(ascii.ends_with("\\u{fc}->"), "{ascii}");
    }

    #[test]
    fn json_is_escaped_and_says_the_same() {
        let name = "a\u{1b}b\u{7f}c\u{202e}d\u{9b}e\u{e0041}ü";
        let raw = serde_json::to_string(name).unwrap();
        let shown = json_for_terminals(&raw);
        let expected = r#""a\u001bb\u007fc\u202ed\u009be\udb40\udc41ü""#;
        assert_eq!(shown, expected);
        let back: String = serde_json::from_str(&shown).unwrap();
        assert_eq!(back, name);
    }

    #[test]
    fn text_is_cut_to_its_columns() {
        assert_eq!(Charset::Unicode.fit("abcdef", 6), "abcdef");
        assert_eq!(Charset::Unicode.fit("abcdef", 5), "abcd…");
        assert_eq!(Charset::Ascii.fit("abcdef", 5), "ab...");
        assert_eq!(Charset::Ascii.fit("abcdef", 2), "");
        // Two columns each: three do not fit into five with the dots.
        assert_eq!(Charset::Unicode.fit("日本語日", 5), "日本…");
    }

    #[test]
    fn sizes_read_well() {
        let shown: Vec<_> = [0, 1023, 1024, 1536, 1 << 20, (1 << 20) - 1, 107_890_221]
            .map(bytes)
            .into();
        let wanted = [
            "0 B",
            "1023 B",
            "1 KiB",
            "1.5 KiB",
            "1 MiB",
            "1 MiB",
            "102.9 MiB",
        ];
        assert_eq!(shown, wanted);
        assert_eq!(bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn durations_read_well() {
        let shown: Vec<_> = [0.0, 0.841, 9.999, 12.34, 99.99, 187.4, f64::NAN]
            .map(seconds)
            .into();
        let wanted = [
            "0.00 s",
            "0.84 s",
            "10.0 s",
            "12.3 s",
            "1 min 40 s",
            "3 min 07 s",
            "? s",
        ];
        assert_eq!(shown, wanted);
    }
}
