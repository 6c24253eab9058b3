//! Bytes and sizes as people read them.

pub use crate::scenario::units::grouped;

use std::fmt::Write as _;

/// Text with everything escaped that could move a cursor or mislead a reader.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                odd if odd.is_control() || is_invisible(odd) => {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\\u{{{:x}}}", u32::from(odd));
                }
                plain => text.push(plain),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Turns the direction of writing, joins, or shows nothing at all.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `12 B`, `1.5 KiB`, `256 MiB`, `2.25 GiB`: at most three figures that mean something.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value >= 100.0 { 0 } else { 2 };
    let number = format!("{value:.digits$}");
    let number = if digits > 0 {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(
            escaped(b"a\x1b[2J\n\\\xff\xc3\xa9"),
            "a\\u{1b}[2J\\n\\\\\\xff\u{e9}"
        );
        assert_eq!(escaped("x\u{202e}y".as_bytes()), "x\\u{202e}y");
    }

    #[test]
    fn sizes_have_few_figures() {
        let texts = [0, 1023, 1024, 1536, 268_435_456, 1_073_741_824, 3_355_443].map(size_text);
        assert_eq!(
            texts,
            [
                "0 B", "1023 B", "1 KiB", "1.5 KiB", "256 MiB", "1 GiB", "3.2 MiB"
            ]
        );
        assert_eq!(grouped(107_890_221), "107,890,221");
        assert_eq!(grouped(12), "12");
    }
}
