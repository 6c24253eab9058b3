//! The content of a file, in sectors, with holes.

use std::collections::BTreeMap;

/// What a disk writes as a whole or not at all.
pub(super) const SECTOR: usize = 512;

pub(super) type Sector = [u8; SECTOR];

/// A length and the sectors that are not all hole. Bytes past the length are
/// zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    pub(super) len: u64,
    pub(super) sectors: BTreeMap<u64, Box<Sector>>,
}

impl Data {
    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> usize {
        let len = self.len.saturating_sub(offset).min(bytes.len() as u64) as usize;
        for (sector, within, range) in spans(offset, len) {
            match self.sectors.get(&sector) {
                Some(data) => {
                    bytes[range.clone()].copy_from_slice(&data[within..within + range.len()]);
                }
                None => bytes[range].fill(0),
            }
        }
        len
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for (sector, within, range) in spans(offset, bytes.len()) {
            let data = self
                .sectors
                .entry(sector)
                .or_insert_with(|| Box::new([0; SECTOR]));
            data[within..within + range.len()].copy_from_slice(&bytes[range]);
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.sectors.split_off(&len.div_ceil(SECTOR as u64));
            let last = self.sectors.get_mut(&(len / SECTOR as u64));
            if let Some(last) = last {
                last[(len % SECTOR as u64) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn all(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        (self.sectors.len() * SECTOR) as u64
    }

    /// How many bytes a write would allocate.
    pub(super) fn would_allocate(&self, offset: u64, len: usize) -> u64 {
        let new = spans(offset, len).filter(|(sector, ..)| !self.sectors.contains_key(sector));
        (new.count() * SECTOR) as u64
    }
}

/// The sectors of a range: which, from where in it, and which of the bytes.
pub(super) fn spans(
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % SECTOR as u64) as usize;
        let count = (SECTOR - within).min(len - done);
        let range = done..done + count;
        done += count;
        Some((at / SECTOR as u64, within, range))
    })
}
