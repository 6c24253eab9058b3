//! What the index knows of something in the trash.

use crate::entry::{Body, ContentId};
use crate::path::RelPath;
use crate::record::Record;

/// A version that was removed, or replaced, and is kept for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Where it was.
    pub path: RelPath,
    /// Its content, of a file.
    pub id: Option<ContentId>,
    /// In bytes.
    pub size: u64,
    /// When it was removed, in seconds since 1970.
    pub since: u64,
}

impl Trashed {
    /// What is kept of a version that is removed now, in seconds since 1970.
    pub fn of(known: &Record, path: &RelPath, now: u64) -> Self {
        let (id, size) = match &known.entry.body {
            Body::File { id, size, .. } => (Some(*id).filter(|_| *size > 0), *size),
            _ => (None, 0),
        };
        Self {
            path: path.clone(),
            id,
            size,
            since: now,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.since.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        match self.id {
            Some(id) => {
                out.push(1);
                out.extend_from_slice(&id.0);
            }
            None => out.push(0),
        }
        out.extend_from_slice(&self.path.key());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (since, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (id, key) = match rest.split_first()? {
            (0, key) => (None, key),
            (1, rest) => {
                let (id, key) = rest.split_first_chunk()?;
                (Some(ContentId(*id)), key)
            }
            _ => return None,
        };
        Some(Self {
            path: RelPath::from_key(key).ok()?,
            id,
            size: u64::from_le_bytes(*size),
            since: u64::from_le_bytes(*since),
        })
    }
}
