//! What is known of a path: kind, content, metadata and version.

use std::fmt;

use crate::version::VersionVector;

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

/// What one side knows of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Kind and content.
    pub body: Body,
    /// Permission bits within [`MODE_MASK`]; zero for links and tombstones.
    pub mode: u32,
    /// Which changes led here.
    pub version: VersionVector,
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

    /// The same entry with another version.
    pub fn with_version(&self, version: VersionVector) -> Entry {
        Entry {
            version,
            ..self.clone()
        }
    }
}
