//! What lies in a tree, as the probe saw it.

use std::collections::BTreeMap;
use std::fmt;

use crate::check::text::{escaped, size_text};

/// A path relative to the root of its tree. Names are bytes and never normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The only way in: `None` for what could lead out of a tree.
    pub fn parse(path: impl Into<Vec<u8>>) -> Option<Self> {
        let path = path.into();
        let safe = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        path.split(|byte| *byte == b'/')
            .all(safe)
            .then_some(Self(path))
    }

    /// As it is on the disk.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as text, where it is text.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The name itself and every folder it lies in, from the outside.
    pub fn with_folders(&self) -> impl Iterator<Item = Name> + '_ {
        let ends = self
            .0
            .iter()
            .zip(0..)
            .filter(|(byte, _)| **byte == b'/')
            .map(|(_, at)| at);
        ends.chain([self.0.len()])
            .map(|end| Self(self.0[..end].to_vec()))
    }

    /// It lies somewhere below the other one.
    pub fn is_below(&self, folder: &Name) -> bool {
        self.0
            .strip_prefix(folder.0.as_slice())
            .is_some_and(|rest| rest.first() == Some(&b'/'))
    }
}

/// Component by component: a folder is followed by what is in it.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0
            .split(|byte| *byte == b'/')
            .cmp(other.0.split(|byte| *byte == b'/'))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// For people: what a terminal must not see is escaped.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(&self.0))
    }
}

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

impl Kind {
    /// The probe's word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "file" => Self::File,
            "dir" => Self::Dir,
            "link" => Self::Link,
            "fifo" => Self::Fifo,
            "socket" => Self::Socket,
            "char" => Self::Char,
            "block" => Self::Block,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Dir => "folder",
            Self::Link => "link",
            Self::Fifo => "pipe",
            Self::Socket => "socket",
            Self::Char => "character device",
            Self::Block => "block device",
        })
    }
}

/// A time as the file system keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Since the epoch; before it they are negative.
    pub seconds: i64,
    /// On top of the seconds.
    pub nanos: u32,
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

/// What a quick look compares to tell whether a file was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The file's number in its file system.
    pub inode: u64,
    /// When anything of it changed last.
    pub changed: Time,
}

/// One thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// When its content changed last.
    pub mtime: Time,
    /// In bytes.
    pub size: u64,
    /// Of files, unless the look was a quick one.
    pub content: Option<blake3::Hash>,
    /// Of links.
    pub target: Option<Vec<u8>>,
    /// Of everything, in a quick look only.
    pub stamp: Option<Stamp>,
}

/// Everything below a root. Two manifests of one tree are equal when nothing
/// was touched in between; two trees are compared by [`super::difference`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// In order.
    pub entries: BTreeMap<Name, Entry>,
    /// What could not be looked at, and why.
    pub problems: BTreeMap<Name, String>,
}

impl Manifest {
    /// Bytes of all regular files.
    pub fn bytes(&self) -> u64 {
        self.files()
            .map(|(_, entry)| entry.size)
            .fold(0, u64::saturating_add)
    }

    /// The regular files.
    pub fn files(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.kind == Kind::File)
    }

    /// `51 entries, 500 MiB`
    pub fn summary(&self) -> String {
        let count = self.entries.len();
        let entries = if count == 1 { "entry" } else { "entries" };
        format!("{count} {entries}, {}", size_text(self.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_followed_by_what_is_in_it() {
        let mut names = ["a.b", "a/z", "a", "a b"].map(|name| Name::parse(name).unwrap());
        names.sort();
        assert_eq!(
            names.map(|name| name.to_string()),
            ["a", "a/z", "a b", "a.b"]
        );
    }

    #[test]
    fn no_name_leads_out() {
        for bad in ["", "/a", "a//b", "..", "a/../b", "a/", "./a", "a\0"] {
            assert_eq!(Name::parse(bad), None, "{bad:?}");
        }
        assert!(
            !Name::parse(b"a\xff".as_slice())
                .unwrap()
                .is_below(&Name::parse("a").unwrap())
        );
        assert!(
            Name::parse("a/b")
                .unwrap()
                .is_below(&Name::parse("a").unwrap())
        );
    }
}
