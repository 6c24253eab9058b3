//! Which two sides belong together, and what two shares have that meet for the
//! first time.
//!
//! Sides that joined have one share id from then on. Who was joined with somebody
//! else has another one and is refused, whatever the addresses say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names what two sides keep the same; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareId(u64);

/// Both sides were joined with somebody else before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the share of this side is {}, that of the peer {}: they were paired with others, so nothing is \
     exchanged. If these two are to be joined, say `left forget-peer` on one side: it forgets whom it \
     was paired with, and then both keep all they have, what differs twice",
    .ours.short(),
    .theirs.short()
)]
pub struct Strangers {
    /// This side's.
    pub ours: ShareId,
    /// The peer's.
    pub theirs: ShareId,
}

impl ShareId {
    /// What an index or a hello says; zero stands for none.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(Self(number)).filter(|id| id.0 != 0)
    }

    /// For an index or a hello.
    pub fn number(id: Option<Self>) -> u64 {
        id.map_or(0, |id| id.0)
    }

    /// Enough for a person to tell two apart.
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 32)
    }

    /// The one that both sides have from now on. Each side knows the replica and the
    /// epoch of both, and finds the same: so it does not matter which of the two
    /// makes it durable, and whether the other was killed before it could.
    pub fn of_both(
        (ours, here): (Option<Self>, (u64, u64)),
        (theirs, there): (Option<Self>, (u64, u64)),
    ) -> Result<Self, Strangers> {
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => Err(Strangers { ours, theirs }),
            (Some(id), _) | (None, Some(id)) => Ok(id),
            (None, None) => {
                let (low, high) = (here.min(there), here.max(there));
                let mut hasher = blake3::Hasher::new();
                hasher.update(b"left: a new share");
                for number in [low.0, low.1, high.0, high.1] {
                    hasher.update(&number.to_le_bytes());
                }
                let hash = hasher.finalize();
                let first = hash.as_bytes().first_chunk().copied();
                Ok(Self(u64::from_le_bytes(first.unwrap_or_default()).max(1)))
            }
        }
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What two shares that meet have, seen from one of them, in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Only on this side.
    pub only_here: u64,
    /// Only on the peer's.
    pub only_there: u64,
    /// On both, with different contents that have nothing to do with each other.
    pub differ: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "paths only here: {}, only at the peer: {}, on both sides but different: {}",
            self.only_here, self.only_there, self.differ
        )
    }
}

/// Where a side stands when two shares meet that were never joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stand {
    /// Little differs: they can be joined, as far as this side is asked.
    Agrees,
    /// Much differs, and a person has to say that they are to be joined.
    Asks,
    /// They are joined: a person said so, or both sides agreed before.
    Joins,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_find_the_same_id() {
        let (a, b) = ((7, 1), (3, 2));
        let id = |number| ShareId::from_number(number);
        let agreed = |ours, theirs| {
            let one = ShareId::of_both((ours, a), (theirs, b));
            let other = ShareId::of_both((theirs, b), (ours, a));
            assert_eq!(one.ok(), other.ok());
            one
        };
        let new = agreed(None, None).unwrap();
        assert_eq!(agreed(Some(new), None), Ok(new));
        assert_eq!(agreed(None, id(5)), Ok(ShareId(5)));
        assert_eq!(agreed(id(5), id(5)), Ok(ShareId(5)));
        let others = ShareId::of_both((None, a), (None, (3, 9))).unwrap();
        assert_ne!(others, new);
        let strangers = agreed(id(5 << 32), id(6 << 32)).unwrap_err().to_string();
        for word in ["00000005", "00000006", "left forget-peer"] {
            assert!(strangers.contains(word), "{strangers}");
        }
        assert_eq!(id(0), None);
    }
}
