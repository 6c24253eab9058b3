//! Paths relative to the share: bytes, checked once, ordered component by component.
//!
//! [`RelPath::parse`] and [`RelPath::from_wire`] are the only doors in. After
//! them nobody has to look for `..`, a leading slash or a NUL again.

use std::cmp::Ordering;
use std::fmt;

/// The daemon's own folder at the top of the share, which is never synchronised.
pub const STATE_DIR: &str = ".left";

/// What Linux accepts as one name.
pub const NAME_BYTES_MAX: usize = 255;

/// Linux refuses longer paths in one system call (`PATH_MAX` with its NUL).
pub const PATH_BYTES_MAX: usize = 4095;

/// Why some bytes are no path inside a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No bytes at all.
    #[error("the path is empty")]
    Empty,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A component longer than [`NAME_BYTES_MAX`].
    #[error("a name in the path is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// An absolute path, `//`, a trailing slash, `.` or `..`.
    #[error("the path has an empty, `.` or `..` component")]
    Component,
    /// A NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// The path leads into the daemon's own folder.
    #[error("the path leads into {STATE_DIR}")]
    Reserved,
    /// The escape used on the wire is broken.
    #[error("the path has a broken escape")]
    Escape,
}

/// A path below the share's root.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// Checks raw bytes, separated by `/`.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        for (position, name) in bytes.split(|b| *b == b'/').enumerate() {
            if name.is_empty() || name == b"." || name == b".." {
                return Err(PathError::Component);
            }
            if name.len() > NAME_BYTES_MAX {
                return Err(PathError::NameTooLong);
            }
            if position == 0 && name == STATE_DIR.as_bytes() {
                return Err(PathError::Reserved);
            }
        }
        Ok(Self(bytes.into()))
    }

    /// The path of `name` inside `folder`, or at the top of the share.
    pub fn below(folder: Option<&RelPath>, name: &[u8]) -> Result<Self, PathError> {
        match folder {
            None => Self::parse(name),
            Some(folder) => {
                let mut bytes = Vec::with_capacity(folder.0.len() + 1 + name.len());
                bytes.extend_from_slice(&folder.0);
                bytes.push(b'/');
                bytes.extend_from_slice(name);
                Self::parse(&bytes)
            }
        }
    }

    /// The bytes as the file system knows them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components from the top down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }

    /// The folder that holds this path; `None` at the top of the share.
    pub fn parent(&self) -> Option<RelPath> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// Whether this path lies below `folder`.
    pub fn is_below(&self, folder: &RelPath) -> bool {
        self.0.len() > folder.0.len()
            && self.0.starts_with(&folder.0)
            && self.0[folder.0.len()] == b'/'
    }

    /// The key in the index: with NUL for `/`, plain byte order is the order
    /// of the paths component by component, so a folder's content follows it
    /// before any sibling such as `folder.txt`.
    pub fn key(&self) -> Vec<u8> {
        self.0
            .iter()
            .map(|b| if *b == b'/' { 0 } else { *b })
            .collect()
    }

    /// The way back from [`RelPath::key`].
    pub fn from_key(key: &[u8]) -> Result<Self, PathError> {
        if key.contains(&b'/') {
            return Err(PathError::Component);
        }
        let bytes: Vec<u8> = key
            .iter()
            .map(|b| if *b == 0 { b'/' } else { *b })
            .collect();
        Self::parse(&bytes)
    }

    /// The path as a JSON string can carry it: UTF-8 stays, `%` and every
    /// byte that is not UTF-8 become `%XX`.
    pub fn to_wire(&self) -> String {
        escape_bytes(&self.0)
    }

    /// The way back from [`RelPath::to_wire`], with all checks.
    pub fn from_wire(text: &str) -> Result<Self, PathError> {
        Self::parse(&unescape_bytes(text).ok_or(PathError::Escape)?)
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |b: &u8| if *b == b'/' { 0 } else { *b };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// For logs and terminals: nothing in a name can move the cursor or pose as
/// another line.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

/// Bytes for a log line: control characters and what turns the reading
/// direction are escaped, bytes that are not UTF-8 shown as `\xNN`.
pub fn shown(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let turns_direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
            if c.is_control() || turns_direction {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The reversible escape for names and link targets inside JSON strings.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' {
                out.push_str("%25");
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The way back from [`escape_bytes`]; `None` when an escape is broken.
pub fn unescape_bytes(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = (bytes.next()? as char).to_digit(16)?;
            let low = (bytes.next()? as char).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn refuses_what_could_leave_the_share() {
        for bad in [
            "",
            "/",
            "/etc",
            "a//b",
            "a/",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "a\0b",
            ".left",
            ".left/index",
        ] {
            assert!(RelPath::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(RelPath::parse(&[b'x'; 256]).is_err());
        assert!(RelPath::parse(&b"x/".repeat(3000)).is_err());
        for good in [".leftish", "a/.left", "-", " ", "...", "a\\b", "~"] {
            assert!(RelPath::parse(good.as_bytes()).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_folders_content_follows_it_directly() {
        let mut paths = vec![
            path("a.txt"),
            path("a/z"),
            path("b"),
            path("a"),
            path("a/b/c"),
        ];
        let mut keys: Vec<_> = paths.iter().map(RelPath::key).collect();
        paths.sort();
        keys.sort();
        let sorted: Vec<_> = paths.iter().map(|p| p.to_string()).collect();
        assert_eq!(sorted, ["a", "a/b/c", "a/z", "a.txt", "b"]);
        let from_keys: Vec<_> = keys.iter().map(|k| RelPath::from_key(k).unwrap()).collect();
        assert_eq!(paths, from_keys);
    }

    #[test]
    fn any_name_comes_back_from_the_wire() {
        for name in [
            &b"plain"[..],
            b"100%",
            b"\xff\xfe/\n\"",
            "h\u{e9}\u{202e}".as_bytes(),
            b"%41",
        ] {
            let path = RelPath::parse(name).unwrap();
            assert_eq!(RelPath::from_wire(&path.to_wire()).unwrap(), path);
        }
        for broken in ["%", "%4", "%zz", "a%2F..%2Fb", "%00"] {
            assert!(RelPath::from_wire(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_name_cannot_paint_on_the_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\n\xff"), "a\\u{1b}[2Jb\\n\\xff");
        assert_eq!(shown("\u{202e}x".as_bytes()), "\\u{202e}x");
    }
}
