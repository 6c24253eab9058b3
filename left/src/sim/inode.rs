//! A file, folder or link, as the process sees it and as it is on the disk.

use std::collections::{BTreeMap, BTreeSet};

use super::data::{Data, SECTOR, Sector, spans};
use super::rng::Rng;
use crate::disk::{KIND_DIR, KIND_FILE, KIND_LINK};
use crate::entry::Mtime;

/// Identifies an inode for ever; its number can be used again.
pub(super) type Id = u64;

pub(super) type Name = Box<[u8]>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Link(Box<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// Permission bits only.
    pub(super) mode: u32,
    pub(super) mtime: Mtime,
    pub(super) ctime: Mtime,
}

/// A change that is not durable, with the metadata after it.
#[derive(Debug, Clone)]
struct Change {
    data: Option<DataChange>,
    meta: Meta,
}

#[derive(Debug, Clone)]
pub(super) enum DataChange {
    Write(u64, Box<[u8]>),
    SetLen(u64),
}

impl DataChange {
    fn apply(&self, data: &mut Data) {
        match self {
            DataChange::Write(offset, bytes) => data.write(bytes, *offset),
            DataChange::SetLen(len) => data.set_len(*len),
        }
    }
}

/// How much of what is not durable a power cut tears apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLoss {
    /// Each sector, the length, the mode and the times by themselves.
    Torn,
    /// A file is as it was after one of its changes.
    Whole,
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    /// Its number, of which there is one at any time.
    pub(super) ino: u64,
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    pub(super) data: Data,
    pub(super) names: BTreeMap<Name, Id>,
    /// How many names it has.
    pub(super) links: u64,
    /// Of a folder: where its name is.
    pub(super) parent: Id,
    /// How often it is open.
    pub(super) open: u64,
    disk_meta: Meta,
    disk_data: Data,
    pub(super) disk_names: BTreeMap<Name, Id>,
    changes: Vec<Change>,
}

impl Inode {
    pub(super) fn new(ino: u64, kind: Kind, meta: Meta, parent: Id) -> Self {
        Self {
            ino,
            kind,
            meta,
            data: Data::default(),
            names: BTreeMap::new(),
            links: 0,
            parent,
            open: 0,
            disk_meta: meta,
            disk_data: Data::default(),
            disk_names: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    pub(super) fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Link(_))
    }

    pub(super) fn full_mode(&self) -> u32 {
        let kind = match self.kind {
            Kind::File => KIND_FILE,
            Kind::Dir => KIND_DIR,
            Kind::Link(_) => KIND_LINK,
        };
        kind | self.meta.mode
    }

    pub(super) fn size(&self) -> u64 {
        match &self.kind {
            Kind::File => self.data.len,
            Kind::Dir => 4096,
            Kind::Link(target) => target.len() as u64,
        }
    }

    pub(super) fn change_data(&mut self, change: DataChange, now: Mtime) {
        change.apply(&mut self.data);
        self.meta.mtime = now;
        self.meta.ctime = now;
        self.remember(Some(change));
    }

    pub(super) fn change_meta(&mut self, meta: Meta) {
        self.meta = meta;
        self.remember(None);
    }

    fn remember(&mut self, data: Option<DataChange>) {
        let meta = self.meta;
        match self.changes.last_mut() {
            // Only the last of several times matters between two writes.
            Some(last) if data.is_none() && last.data.is_none() && last.meta.mode == meta.mode => {
                last.meta = meta;
            }
            _ => self.changes.push(Change { data, meta }),
        }
    }

    /// Everything but the names is on the disk now.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            if let Some(data) = &change.data {
                data.apply(&mut self.disk_data);
            }
        }
        self.disk_meta = self.meta;
    }

    /// Some of it is on the disk now, and nobody remembers that the rest is not.
    pub(super) fn fail_to_sync(&mut self, rng: &mut Rng) {
        (self.disk_data, self.disk_meta) = self.after_power_cut(rng, DataLoss::Torn);
        self.changes.clear();
    }

    /// What is left on the disk when the power goes now, and after the reboot.
    pub(super) fn cut_power(&mut self, rng: &mut Rng, loss: DataLoss) {
        let (data, meta) = self.after_power_cut(rng, loss);
        (self.data, self.meta) = (data.clone(), meta);
        (self.disk_data, self.disk_meta) = (data, meta);
        self.names = self.disk_names.clone();
        self.changes.clear();
        self.open = 0;
    }

    fn after_power_cut(&self, rng: &mut Rng, loss: DataLoss) -> (Data, Meta) {
        let count = self.changes.len() as u64;
        let upto = |n: u64| &self.changes[..n as usize];
        let meta_after = |n: u64| upto(n).last().map_or(self.disk_meta, |last| last.meta);
        // Often all is lost or all is kept; both are worth to be seen.
        let all = match rng.below(4) {
            _ if loss == DataLoss::Whole => Some(rng.below(count + 1)),
            0 => Some(0),
            1 => Some(count),
            _ => None,
        };
        let choose = |rng: &mut Rng| all.unwrap_or_else(|| rng.below(count + 1));
        let times = meta_after(choose(rng));
        let mode = meta_after(choose(rng)).mode;
        let meta = Meta { mode, ..times };
        let mut data = Data {
            len: upto(choose(rng)).iter().fold(self.disk_data.len, len_after),
            ..Data::default()
        };
        let mut touched: BTreeSet<u64> = self.disk_data.sectors.keys().copied().collect();
        for change in &self.changes {
            if let Some(DataChange::Write(offset, bytes)) = &change.data {
                touched.extend(spans(*offset, bytes.len()).map(|(sector, ..)| sector));
            }
        }
        for sector in touched {
            let kept = choose(rng);
            let was_there = self.disk_data.sectors.get(&sector);
            let mut bytes = was_there.map_or([0; SECTOR], |bytes| **bytes);
            let mut written = was_there.is_some();
            for change in upto(kept) {
                written |= change
                    .data
                    .as_ref()
                    .is_some_and(|change| replay(change, sector, &mut bytes));
            }
            // What another file had left there.
            if !written && all.is_none() && rng.chance(1, 8) {
                bytes.fill(0xDB);
                written = true;
            }
            if written && sector * (SECTOR as u64) < data.len {
                data.sectors.insert(sector, Box::new(bytes));
            }
        }
        let len = data.len;
        // Past the end there is nothing.
        data.len = u64::MAX;
        data.set_len(len);
        (data, meta)
    }
}

fn len_after(len: u64, change: &Change) -> u64 {
    match &change.data {
        Some(DataChange::Write(offset, bytes)) => len.max(offset + bytes.len() as u64),
        Some(DataChange::SetLen(len)) => *len,
        None => len,
    }
}

/// What a change does to one sector; whether it writes to it.
fn replay(change: &DataChange, sector: u64, bytes: &mut Sector) -> bool {
    match change {
        DataChange::Write(offset, written) => {
            let start = sector * SECTOR as u64;
            let from = start.max(*offset);
            let to = (start + SECTOR as u64).min(offset + written.len() as u64);
            if from >= to {
                return false;
            }
            let source = &written[(from - offset) as usize..(to - offset) as usize];
            bytes[(from - start) as usize..(to - start) as usize].copy_from_slice(source);
            true
        }
        DataChange::SetLen(len) => {
            let start = sector * SECTOR as u64;
            let kept = len.saturating_sub(start).min(SECTOR as u64) as usize;
            bytes[kept..].fill(0);
            false
        }
    }
}
