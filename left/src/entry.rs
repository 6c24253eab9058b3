//! What is known of a path: kind, content, metadata and version.

use std::fmt;

use crate::version::{Dot, ReplicaId, VersionVector};

/// The permission bits that are synchronised. Set-user-id and set-group-id
/// never travel: a peer must not be able to plant a privileged program. The
/// sticky bit of folders does.
pub const MODE_MASK: u32 = 0o1777;

/// What Linux accepts as the target of a symbolic link.
pub const TARGET_BYTES_MAX: usize = 4095;

/// The hash of a file's whole content: BLAKE3, but with leaves of 128 KiB that do
/// not depend on their place; see [`crate::transfer::blocks`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 32]);

impl ContentId {
    /// The id of the empty file.
    pub fn empty() -> Self {
        Self(*blake3::hash(b"").as_bytes())
    }

    /// Reads 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text)
            .ok()
            .map(|hash| Self(*hash.as_bytes()))
    }

    /// Eight hex digits for names of conflict copies.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

/// A modification time; two integers, because a JSON number cannot hold
/// nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mtime {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// The kind of a path and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A regular file.
    File {
        /// Hash of the content.
        id: ContentId,
        /// Length in bytes.
        size: u64,
        /// When the content was last modified.
        mtime: Mtime,
    },
    /// A folder.
    Dir,
    /// A symbolic link, never followed.
    Link {
        /// What it points to, as it is.
        target: Box<[u8]>,
    },
    /// A tombstone: somebody deleted what was here.
    Deleted,
}

/// Which change set each field of an entry last. All are known to its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dots {
    /// Kind and content.
    pub content: Dot,
    /// The permission bits.
    pub mode: Dot,
    /// The mtime; of what has none the same as the content's.
    pub mtime: Dot,
}

impl Dots {
    /// One change set everything.
    pub fn all(dot: Dot) -> Self {
        Self {
            content: dot,
            mode: dot,
            mtime: dot,
        }
    }

    /// Of an entry that does not tell: as if everything had been set by the last
    /// change of the side that has it, which is the one that the other side may
    /// not know. `None` for a version without any change.
    pub fn unknown(version: &VersionVector, owner: ReplicaId) -> Option<Self> {
        let any = || {
            let last = version.pairs().max_by_key(|(_, count)| *count);
            last.map(|(replica, count)| Dot { replica, count })
        };
        version.last_of(owner).or_else(any).map(Self::all)
    }

    /// What of them has to be told to somebody who has the version: nothing when all is
    /// as its only replica left it last, one when one change set everything, else all.
    pub fn told_beside(&self, version: &VersionVector) -> Vec<Dot> {
        let all = self.content;
        if *self != Self::all(all) {
            return vec![self.content, self.mode, self.mtime];
        }
        match version.replicas() == 1 && version.last_of(all.replica) == Some(all) {
            true => Vec::new(),
            false => vec![all],
        }
    }

    /// The way back from [`Dots::told_beside`]; `None` for a change that the version
    /// does not know, and for what was never told so.
    pub fn of_told(told: &[Dot], version: &VersionVector) -> Option<Self> {
        let dots = match *told {
            [] => {
                let mut all = version.pairs();
                let (replica, count) = all.next().filter(|_| version.replicas() == 1)?;
                Self::all(Dot { replica, count })
            }
            [all] => Self::all(all),
            [content, mode, mtime] => Self {
                content,
                mode,
                mtime,
            },
            _ => return None,
        };
        let each = [dots.content, dots.mode, dots.mtime];
        each.iter().all(|dot| version.knows(*dot)).then_some(dots)
    }
}

/// What one side knows of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Kind and content.
    pub body: Body,
    /// Permission bits within [`MODE_MASK`]; zero for links and tombstones.
    pub mode: u32,
    /// Which changes led here.
    pub version: VersionVector,
    /// Which of them set what.
    pub dots: Dots,
}

impl Entry {
    /// Whether the path is gone.
    pub fn is_deleted(&self) -> bool {
        self.body == Body::Deleted
    }

    /// Same kind and same content, whatever mode, mtime and version say.
    pub fn same_content(&self, other: &Entry) -> bool {
        match (&self.body, &other.body) {
            (Body::File { id, .. }, Body::File { id: other, .. }) => id == other,
            (mine, theirs) => mine == theirs,
        }
    }

    /// Same mode and, of files, same mtime.
    pub fn same_metadata(&self, other: &Entry) -> bool {
        self.mode == other.mode && self.mtime() == other.mtime()
    }

    /// The mtime of a file.
    pub fn mtime(&self) -> Option<Mtime> {
        match &self.body {
            Body::File { mtime, .. } => Some(*mtime),
            _ => None,
        }
    }

    /// An entry of which everything was set by the change with the highest number.
    #[cfg(test)]
    pub(crate) fn of(body: Body, mode: u32, version: VersionVector) -> Entry {
        let dots = Dots::unknown(&version, ReplicaId(0)).expect("a change");
        Entry {
            body,
            mode,
            version,
            dots,
        }
    }
}
