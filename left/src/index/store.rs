//! What the engine and those who change the share need of an index, so that
//! a simulated one can stand in for the database.

use std::sync::Arc;

use super::{Change, Heard, Index, IndexError, Removal, Trashed};
use crate::entry::{ContentId, Entry};
use crate::ignore::Rules;
use crate::pairing::ShareId;
use crate::part::PartId;
use crate::path::RelPath;
use crate::record::Record;
use crate::version::{ReplicaId, VersionVector};

/// Durable knowledge: of each path, of what is wanted, of how far the peer was
/// heard. [`Index`] is the real one.
pub trait Store {
    /// This side's id.
    fn replica(&self) -> ReplicaId;
    /// See [`Index::epoch`].
    fn epoch(&self) -> u64;
    /// See [`Index::run_end`].
    fn run_end(&self, run: u64) -> Result<Option<u64>, IndexError>;
    /// See [`Index::was_here`].
    fn was_here(&self, version: &VersionVector) -> bool;
    /// The record of a path.
    fn get(&self, path: &RelPath) -> Result<Option<Record>, IndexError>;
    /// Up to `count` records after `after`, in the order of paths.
    fn records_after(
        &self,
        after: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Record)>, IndexError>;
    /// The peer's entry that this side wants for a path.
    fn want(&self, path: &RelPath) -> Result<Option<Entry>, IndexError>;
    /// Up to `count` wants after `after`, in the order of paths.
    fn wants_after(
        &self,
        after: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Entry)>, IndexError>;
    /// See [`Index::begun`].
    fn begun(&self, path: &RelPath) -> Result<Option<Entry>, IndexError>;
    /// See [`Index::removals_before`].
    fn removals_before(
        &self,
        before: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Removal)>, IndexError>;
    /// See [`Index::removals`].
    fn removals(&self) -> Result<u64, IndexError>;
    /// See [`Index::paths_of`].
    fn paths_of(&self, id: ContentId, count: usize) -> Result<Vec<RelPath>, IndexError>;
    /// See [`Index::is_wanted`].
    fn is_wanted(&self, id: ContentId) -> Result<bool, IndexError>;
    /// See [`Index::trashed_as`].
    fn trashed_as(&self, id: ContentId) -> Result<Option<(Vec<u8>, Trashed)>, IndexError>;
    /// See [`Index::trash_after`].
    fn trash_after(
        &self,
        after: &[u8],
        count: usize,
    ) -> Result<Vec<(Vec<u8>, Trashed)>, IndexError>;
    /// See [`Index::removing`].
    fn removing(&self) -> Result<Vec<(Vec<u8>, RelPath)>, IndexError>;
    /// See [`Index::seq`].
    fn seq(&self) -> Result<u64, IndexError>;
    /// See [`Index::live`].
    fn live(&self) -> Result<u64, IndexError>;
    /// See [`Index::is_any_doomed`].
    fn is_any_doomed(&self, upto: u64) -> Result<bool, IndexError>;
    /// How many entries and how many wants there are.
    fn counts(&self) -> Result<(u64, u64), IndexError>;
    /// Up to `count` entries listed after sequence number `after`, oldest first.
    fn listed_after(
        &self,
        after: u64,
        count: usize,
    ) -> Result<Vec<(u64, RelPath, Entry)>, IndexError>;
    /// See [`Index::share_id`].
    fn share_id(&self) -> Result<Option<ShareId>, IndexError>;
    /// How far the peer's listing was taken.
    fn heard(&self) -> Result<Heard, IndexError>;
    /// See [`Index::rules`].
    fn rules(&self) -> Option<Arc<Rules>>;
    /// See [`Index::is_clean`].
    fn is_clean(&self) -> Result<bool, IndexError>;
    /// Exchanges that were under way when the process ended.
    fn intents(&self) -> Result<Vec<(PartId, RelPath)>, IndexError>;
    /// Makes all changes durable at once, or none.
    fn commit(&self, changes: &[Change]) -> Result<(), IndexError>;
}

impl Store for Index {
    fn replica(&self) -> ReplicaId {
        Index::replica(self)
    }

    fn epoch(&self) -> u64 {
        Index::epoch(self)
    }

    fn run_end(&self, run: u64) -> Result<Option<u64>, IndexError> {
        Index::run_end(self, run)
    }

    fn was_here(&self, version: &VersionVector) -> bool {
        Index::was_here(self, version)
    }

    fn get(&self, path: &RelPath) -> Result<Option<Record>, IndexError> {
        Index::get(self, path)
    }

    fn records_after(
        &self,
        after: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Record)>, IndexError> {
        Index::records_after(self, after, count)
    }

    fn want(&self, path: &RelPath) -> Result<Option<Entry>, IndexError> {
        Index::want(self, path)
    }

    fn wants_after(
        &self,
        after: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Entry)>, IndexError> {
        Index::wants_after(self, after, count)
    }

    fn begun(&self, path: &RelPath) -> Result<Option<Entry>, IndexError> {
        Index::begun(self, path)
    }

    fn removals_before(
        &self,
        before: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Removal)>, IndexError> {
        Index::removals_before(self, before, count)
    }

    fn removals(&self) -> Result<u64, IndexError> {
        Index::removals(self)
    }

    fn paths_of(&self, id: ContentId, count: usize) -> Result<Vec<RelPath>, IndexError> {
        Index::paths_of(self, id, count)
    }

    fn is_wanted(&self, id: ContentId) -> Result<bool, IndexError> {
        Index::is_wanted(self, id)
    }

    fn trashed_as(&self, id: ContentId) -> Result<Option<(Vec<u8>, Trashed)>, IndexError> {
        Index::trashed_as(self, id)
    }

    fn trash_after(
        &self,
        after: &[u8],
        count: usize,
    ) -> Result<Vec<(Vec<u8>, Trashed)>, IndexError> {
        Index::trash_after(self, after, count)
    }

    fn removing(&self) -> Result<Vec<(Vec<u8>, RelPath)>, IndexError> {
        Index::removing(self)
    }

    fn seq(&self) -> Result<u64, IndexError> {
        Index::seq(self)
    }

    fn live(&self) -> Result<u64, IndexError> {
        Index::live(self)
    }

    fn is_any_doomed(&self, upto: u64) -> Result<bool, IndexError> {
        Index::is_any_doomed(self, upto)
    }

    fn counts(&self) -> Result<(u64, u64), IndexError> {
        Index::counts(self)
    }

    fn listed_after(
        &self,
        after: u64,
        count: usize,
    ) -> Result<Vec<(u64, RelPath, Entry)>, IndexError> {
        Index::listed_after(self, after, count)
    }

    fn share_id(&self) -> Result<Option<ShareId>, IndexError> {
        Index::share_id(self)
    }

    fn heard(&self) -> Result<Heard, IndexError> {
        Index::heard(self)
    }

    fn rules(&self) -> Option<Arc<Rules>> {
        Index::rules(self)
    }

    fn is_clean(&self) -> Result<bool, IndexError> {
        Index::is_clean(self)
    }

    fn intents(&self) -> Result<Vec<(PartId, RelPath)>, IndexError> {
        Index::intents(self)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), IndexError> {
        Index::commit(self, changes)
    }
}
