//! What can go wrong, as a sentence: what was tried, on what, and why not.

use std::fmt;
use std::io;

/// Nobody branches on these, people read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail(pub String);

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, Fail>;

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a sentence of an error of the operating system.
pub trait Doing<T> {
    /// `doing` completes "cannot …".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Fail(format!("cannot {}: {}", doing(), reason(&error.into()))))
    }
}

/// The operating system's reason in its own words, without the error's number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let short = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = short.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_no_numbers() {
        assert_eq!(
            reason(&io::Error::from_raw_os_error(2)),
            "no such file or directory"
        );
    }
}
