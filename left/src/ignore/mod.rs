//! What is not synchronised: the rules of `.leftignore` at the top of the share,
//! written as in git's `.gitignore`. Later rules win over earlier ones; what is in
//! an ignored folder is ignored, and no rule brings it back. Without I/O.
//!
//! Whatever is written there, a path is compared in time proportional to its
//! length and that of the rules.

mod pattern;

use pattern::Pattern;

use crate::path::RelPath;

/// The file of rules, at the top of the share. It is synchronised itself, whatever it
/// says.
pub const RULES_FILE: &str = ".leftignore";

/// A longer file is nothing that people write, and would slow every look.
pub const RULES_BYTES_MAX: u64 = 256 * 1024;

/// More rules slow every look.
pub const RULES_MAX: usize = 4096;

/// Rules that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(Vec<Pattern>);

/// A line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from one.
    pub number: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// More rules than [`RULES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has more than {RULES_MAX} rules")]
pub struct TooMany;

impl Rules {
    /// Reads a file of rules. Lines that cannot be understood are left out.
    pub fn read(text: &[u8]) -> Result<(Self, Vec<BadLine>), TooMany> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let (mut rules, mut bad) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            match Pattern::read(line) {
                Ok(None) => {}
                Ok(Some(_)) if rules.len() == RULES_MAX => return Err(TooMany),
                Ok(Some(rule)) => rules.push(rule),
                Err(why) => bad.push(BadLine { number, why }),
            }
        }
        Ok((Self(rules), bad))
    }

    /// The rules as a file of them, for [`Rules::read`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines: Vec<&[u8]> = self.0.iter().map(|rule| &*rule.line).collect();
        lines.join(&b'\n')
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it ever matters if something is a folder.
    pub fn tell_folders(&self) -> bool {
        self.0.iter().any(|rule| rule.only_folders)
    }

    /// Whether what is at a path, a folder or not, is ignored.
    pub fn ignores(&self, path: &RelPath, is_dir: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let bytes = path.as_bytes();
        let mut slashes = (0..bytes.len()).filter(|at| bytes[*at] == b'/');
        slashes.any(|at| self.ignores_itself(&bytes[..at], true))
            || self.ignores_itself(bytes, is_dir)
    }

    /// As [`Rules::ignores`] of what is in a folder that is not ignored.
    pub fn ignores_in_folder(&self, path: &RelPath, is_dir: bool) -> bool {
        !self.is_empty() && self.ignores_itself(path.as_bytes(), is_dir)
    }

    fn ignores_itself(&self, path: &[u8], is_dir: bool) -> bool {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let name = &path[slash.map_or(0, |at| at + 1)..];
        let mut latest_first = self.0.iter().rev();
        let deciding = latest_first.find(|rule| rule.matches(path, name, is_dir));
        deciding.is_some_and(|rule| !rule.is_negative) && path != RULES_FILE.as_bytes()
    }

    /// Whether all that the other rules ignore certainly is ignored by these too: they
    /// are the same but for rules that were put in, and exceptions that were
    /// taken out.
    pub fn ignore_all_of(&self, other: &Rules) -> bool {
        if other.0.iter().all(|rule| rule.is_negative) {
            return true;
        }
        let mut others = other.0.iter().peekable();
        for rule in &self.0 {
            if others.next_if_eq(&rule).is_some() || !rule.is_negative {
                continue;
            }
            while others
                .next_if(|other| other.is_negative && *other != rule)
                .is_some()
            {}
            if others.next_if_eq(&rule).is_none() {
                return false;
            }
        }
        others.all(|rule| rule.is_negative)
    }
}

#[cfg(test)]
mod tests;
