//! One line of JSON, written by hand: objects of plain values are all we say.

use std::fmt::Write as _;

/// An object that grows key by key and ends as a line.
pub struct Line(String);

impl Line {
    /// An object without keys.
    pub fn new() -> Self {
        Self(String::from("{"))
    }

    /// A string.
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        self.0.push('"');
        escape(&mut self.0, value);
        self.0.push('"');
        self
    }

    /// A name or a link's target: as it is when it is UTF-8, else as `key_hex`.
    pub fn name(self, key: &str, value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) => self.text(key, text),
            Err(_) => self.text(&format!("{key}_hex"), &hex(value)),
        }
    }

    /// A number.
    pub fn number(mut self, key: &str, value: impl Into<i128>) -> Self {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{}", value.into());
        self
    }

    /// A number, or null where it is not known.
    pub fn maybe(mut self, key: &str, value: Option<impl Into<i128>>) -> Self {
        match value {
            Some(value) => self.number(key, value),
            None => {
                self.key(key);
                self.0.push_str("null");
                self
            }
        }
    }

    /// A string, or null where there is none.
    pub fn maybe_text(mut self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => {
                self.key(key);
                self.0.push_str("null");
                self
            }
        }
    }

    /// `"key":true`, the mark of what kind of line it is.
    pub fn yes(mut self, key: &str) -> Self {
        self.key(key);
        self.0.push_str("true");
        self
    }

    /// `"key":false`
    pub fn no(mut self, key: &str) -> Self {
        self.key(key);
        self.0.push_str("false");
        self
    }

    /// `"key":true` or `"key":false`
    pub fn truth(self, key: &str, value: bool) -> Self {
        match value {
            true => self.yes(key),
            false => self.no(key),
        }
    }

    /// The finished line with its end.
    pub fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
    }
}

fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' || control == '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes of hexadecimal digits; `None` when they are not.
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_awkward_character_is_escaped() {
        let line = Line::new().text("a", "q\"b\\n\nt\tr\r\u{1b}\u{7f}é").end();
        assert_eq!(line, "{\"a\":\"q\\\"b\\\\n\\nt\\tr\\r\\u001b\\u007fé\"}\n");
    }

    #[test]
    fn a_name_that_is_not_utf8_is_hexadecimal() {
        assert_eq!(
            Line::new().name("path", b"a\xff").end(),
            "{\"path_hex\":\"61ff\"}\n"
        );
        assert_eq!(unhex(b"61ff").unwrap(), b"a\xff");
        assert_eq!(unhex(b"6"), None);
        assert_eq!(unhex(b"zz"), None);
    }

    #[test]
    fn numbers_keep_their_sign_and_size() {
        let line = Line::new()
            .number("n", u64::MAX)
            .number("m", -1i64)
            .maybe("k", None::<u64>)
            .end();
        assert_eq!(line, "{\"n\":18446744073709551615,\"m\":-1,\"k\":null}\n");
    }
}
