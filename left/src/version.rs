//! Version vectors: who knew of how many changes when a version was made.

use std::collections::BTreeMap;
use std::fmt;

/// More replicas than this in one vector is a broken or hostile peer: a share
/// has two, and a new id only after a restored backup or a lost index.
pub const REPLICAS_MAX: usize = 64;

/// One side's state has this id; random, made with the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

impl ReplicaId {
    /// Six hex digits for names of conflict copies.
    pub fn short(self) -> String {
        format!("{:06x}", self.0 >> 40)
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 16 {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One change: the one that a replica counted so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who made it.
    pub replica: ReplicaId,
    /// Its number, never zero.
    pub count: u64,
}

/// How one version stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same changes are known.
    Equal,
    /// This one knows all the other knows, and more.
    Newer,
    /// The other knows all this one knows, and more.
    Older,
    /// Each knows a change that the other does not.
    Concurrent,
}

/// A counter of changes for each replica; absent means zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionVector(BTreeMap<ReplicaId, u64>);

impl VersionVector {
    /// From pairs; zero counters are left out, so that equal vectors are equal.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (ReplicaId, u64)>) -> Self {
        Self(pairs.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    /// The counters that are not zero, by replica.
    pub fn pairs(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.0.iter().map(|(replica, count)| (*replica, *count))
    }

    /// How many replicas it names.
    pub fn replicas(&self) -> usize {
        self.0.len()
    }

    /// How `self` stands to `other`.
    pub fn relation(&self, other: &Self) -> Relation {
        match (self.covers(other), other.covers(self)) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Newer,
            (false, true) => Relation::Older,
            (false, false) => Relation::Concurrent,
        }
    }

    /// Everything that either of the two knows.
    pub fn merged(&self, other: &Self) -> Self {
        let mut merged = self.0.clone();
        for (replica, count) in &other.0 {
            let mine = merged.entry(*replica).or_insert(0);
            *mine = (*mine).max(*count);
        }
        Self(merged)
    }

    /// The version after one more change by `replica`, counted as `number` or higher.
    ///
    /// A replica gives the sequence number of its index that the change gets: it
    /// is larger than any number it gave before, for whatever path. So a path
    /// whose tombstone is forgotten begins above all that was ever known of it.
    pub fn raised(&self, replica: ReplicaId, number: u64) -> Self {
        let mut raised = self.0.clone();
        let count = raised.entry(replica).or_insert(0);
        *count = count.saturating_add(1).max(number);
        Self(raised)
    }

    /// What `replica` counted last.
    pub fn counter(&self, replica: ReplicaId) -> u64 {
        self.0.get(&replica).copied().unwrap_or(0)
    }

    /// Whether it was made with this change known.
    pub fn knows(&self, dot: Dot) -> bool {
        dot.count > 0 && self.counter(dot.replica) >= dot.count
    }

    /// The last change of a replica that it knows.
    pub fn last_of(&self, replica: ReplicaId) -> Option<Dot> {
        let count = self.0.get(&replica).copied()?;
        Some(Dot { replica, count })
    }

    fn covers(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(replica, count)| self.0.get(replica).is_some_and(|mine| mine >= count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ReplicaId = ReplicaId(1);
    const B: ReplicaId = ReplicaId(2);

    fn vector(pairs: &[(ReplicaId, u64)]) -> VersionVector {
        VersionVector::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn dominance_decides() {
        let check = |left: &[(ReplicaId, u64)], right: &[(ReplicaId, u64)], expected| {
            assert_eq!(vector(left).relation(&vector(right)), expected);
        };
        check(&[], &[], Relation::Equal);
        check(&[(A, 1)], &[], Relation::Newer);
        check(&[(A, 1)], &[(A, 2)], Relation::Older);
        check(&[(A, 1)], &[(A, 1), (B, 1)], Relation::Older);
        check(&[(A, 2)], &[(A, 1), (B, 1)], Relation::Concurrent);
        check(&[(A, 0)], &[], Relation::Equal);
    }

    #[test]
    fn a_merge_covers_both_and_a_change_is_newer() {
        let left = vector(&[(A, 2)]);
        let right = vector(&[(A, 1), (B, 1)]);
        let merged = left.merged(&right);
        assert_eq!(merged.relation(&left), Relation::Newer);
        assert_eq!(merged.relation(&right), Relation::Newer);
        assert_eq!(merged.raised(A, 0).relation(&merged), Relation::Newer);
        assert_eq!(merged.raised(A, 9).counter(A), 9);
        assert_eq!(merged.raised(A, 1).counter(A), 3);
    }

    #[test]
    fn ids_survive_text() {
        let id = ReplicaId(0x00ab_cdef_0123_4567);
        assert_eq!(ReplicaId::parse(&id.to_string()), Some(id));
        assert_eq!(id.short(), "00abcd");
        assert_eq!(ReplicaId::parse("12"), None);
    }
}
