//! Sums over the tables, kept with every change: nobody has to walk a million
//! entries to tell how many there are.

use redb::{ReadableTable, Table, WriteTransaction};

use super::error::{During, IndexError, sound};
use super::{ENTRIES, WANTS};
use crate::entry::{Body, Entry};
use crate::path::RelPath;
use crate::plan::copied_name;
use crate::record;

type Meta<'a> = Table<'a, &'static str, u64>;

/// The sums, as they are in the table of figures. Lengths come from the peer,
/// which may list what nobody can add up: sums of them wrap around, and come out
/// right again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Figures {
    /// The last sequence number.
    pub(super) seq: u64,
    /// Paths that are not deleted.
    pub(super) live: u64,
    /// The lengths of all files among them.
    pub(super) live_bytes: u64,
    /// Those of them that are conflict copies.
    pub(super) copies: u64,
    /// The lengths of all files that are wanted.
    pub(super) wanted_bytes: u64,
}

impl Figures {
    pub(super) fn read(meta: &impl ReadableTable<&'static str, u64>) -> Result<Self, IndexError> {
        let figure = |key| -> Result<u64, IndexError> {
            let value = meta.get(key).during("read")?;
            Ok(value.map_or(0, |guard| guard.value()))
        };
        Ok(Self {
            seq: figure("seq")?,
            live: figure("live")?,
            live_bytes: figure("live-bytes")?,
            copies: figure("copies")?,
            wanted_bytes: figure("wanted-bytes")?,
        })
    }

    pub(super) fn write(&self, meta: &mut Meta<'_>) -> Result<(), IndexError> {
        for (key, value) in [
            ("seq", self.seq),
            ("live", self.live),
            ("live-bytes", self.live_bytes),
            ("copies", self.copies),
            ("wanted-bytes", self.wanted_bytes),
        ] {
            meta.insert(key, value).during("write")?;
        }
        Ok(())
    }

    /// An entry is in the table now.
    pub(super) fn come(&mut self, path: &RelPath, entry: &Entry) {
        if !entry.is_deleted() {
            self.live += 1;
            self.live_bytes = self.live_bytes.wrapping_add(size(entry));
            self.copies += u64::from(is_copy(path));
        }
    }

    /// It is there no more.
    pub(super) fn gone(&mut self, path: &RelPath, entry: &Entry) {
        if !entry.is_deleted() {
            self.live -= 1;
            self.live_bytes = self.live_bytes.wrapping_sub(size(entry));
            self.copies = self.copies.saturating_sub(u64::from(is_copy(path)));
        }
    }

    /// The peer's entry is wanted now.
    pub(super) fn want(&mut self, entry: &Entry) {
        self.wanted_bytes = self.wanted_bytes.wrapping_add(size(entry));
    }

    /// It is wanted no more.
    pub(super) fn unwant(&mut self, entry: &Entry) {
        self.wanted_bytes = self.wanted_bytes.wrapping_sub(size(entry));
    }
}

/// Adds up once what an index that was made without these figures lacks.
pub(super) fn complete(txn: &WriteTransaction, meta: &mut Meta<'_>) -> Result<(), IndexError> {
    let is_complete = meta.get("wanted-bytes").during("read")?.is_some();
    if is_complete {
        return Ok(());
    }
    let mut sums = Figures::default();
    for item in txn
        .open_table(ENTRIES)
        .during("add up")?
        .iter()
        .during("add up")?
    {
        let (key, value) = item.during("add up")?;
        let path = sound(RelPath::from_key(key.value()).ok())?;
        sums.come(&path, &sound(record::decode(value.value()))?.entry);
    }
    for item in txn
        .open_table(WANTS)
        .during("add up")?
        .iter()
        .during("add up")?
    {
        let (_, value) = item.during("add up")?;
        sums.want(&sound(record::decode_entry(value.value()))?);
    }
    let known = Figures::read(meta)?;
    let complete = Figures {
        seq: known.seq,
        live: known.live,
        ..sums
    };
    complete.write(meta)
}

fn is_copy(path: &RelPath) -> bool {
    copied_name(path.name()).is_some()
}

fn size(entry: &Entry) -> u64 {
    match entry.body {
        Body::File { size, .. } => size,
        _ => 0,
    }
}
