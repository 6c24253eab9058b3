//! How records look in the index: a compact binary form, read with every
//! length checked, because a disk can return anything.

use crate::entry::{Body, ContentId, Dots, Entry, MODE_MASK, Mtime, TARGET_BYTES_MAX};
use crate::transfer::blocks::BLOCK_BYTES_MIN;
use crate::version::{Dot, REPLICAS_MAX, ReplicaId, VersionVector};

/// What the disk looked like when the entry was recorded. A path whose stat
/// still equals a trusted stamp is not read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time as the file system keeps it, which can be coarser
    /// than what was asked for.
    pub mtime: Mtime,
    /// Change time.
    pub ctime: Mtime,
    /// Type and permission bits as the file system keeps them.
    pub mode: u32,
    /// Whether the change time was old enough, when reading began, that a
    /// later write could not hide behind the same stamp.
    pub trusted: bool,
}

impl Stamp {
    /// Whether both describe the same state of the same file.
    pub fn same_file(&self, other: &Stamp) -> bool {
        Stamp {
            trusted: true,
            ..*self
        } == Stamp {
            trusted: true,
            ..*other
        }
    }

    /// Whether a write after this stamp was taken must show in it, though the
    /// file was put in place only just now: its mtime was set to another time
    /// than the present, and any write sets it to the present.
    pub fn would_show_a_write(&self) -> bool {
        let step_nanos: i128 = if self.ctime.nanos == 0 {
            2_000_000_000
        } else {
            20_000_000
        };
        let nanos = |time: Mtime| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
        (nanos(self.ctime) - nanos(self.mtime)).abs() > step_nanos
    }

    /// As [`Stamp::same_file`], but for a file that was renamed or linked
    /// meanwhile, which moves its change time.
    pub fn same_but_moved(&self, other: &Stamp) -> bool {
        self.same_file(&Stamp {
            ctime: self.ctime,
            ..*other
        })
    }
}

/// An entry with its place in the listing and what the disk looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The sequence number of the last change.
    pub seq: u64,
    /// What the disk looked like, if it holds the entry.
    pub stamp: Option<Stamp>,
    /// What is known.
    pub entry: Entry,
}

const UNTRUSTED: u8 = 1;
/// What was hashed when the ids of large files were others; those are read again.
const TRUSTED_BEFORE: u8 = 2;
const TRUSTED: u8 = 3;

/// A record as bytes.
pub fn encode(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(&record.seq.to_le_bytes());
    match &record.stamp {
        None => out.push(0),
        Some(stamp) => {
            out.push(if stamp.trusted { TRUSTED } else { UNTRUSTED });
            out.extend_from_slice(&stamp.ino.to_le_bytes());
            out.extend_from_slice(&stamp.size.to_le_bytes());
            put_time(&mut out, stamp.mtime);
            put_time(&mut out, stamp.ctime);
            out.extend_from_slice(&stamp.mode.to_le_bytes());
        }
    }
    put_entry(&mut out, &record.entry);
    out
}

/// The way back from [`encode`]; `None` for anything else.
pub fn decode(bytes: &[u8]) -> Option<Record> {
    decode_as(bytes, None)
}

/// As [`decode`], of a record from before entries told what set their fields; here it
/// belongs to `owner`.
pub fn decode_without_dots(bytes: &[u8], owner: ReplicaId) -> Option<Record> {
    decode_as(bytes, Some(owner))
}

fn decode_as(bytes: &[u8], without_dots: Option<ReplicaId>) -> Option<Record> {
    let mut input = Input(bytes);
    let seq = input.u64()?;
    let stamp = match input.u8()? {
        0 => None,
        kind @ (UNTRUSTED | TRUSTED_BEFORE | TRUSTED) => {
            let mut stamp = Stamp {
                ino: input.u64()?,
                size: input.u64()?,
                mtime: input.time()?,
                ctime: input.time()?,
                mode: input.u32()?,
                trusted: kind == TRUSTED,
            };
            stamp.trusted |= kind == TRUSTED_BEFORE && stamp.size <= BLOCK_BYTES_MIN;
            Some(stamp)
        }
        _ => return None,
    };
    let entry = input.entry(without_dots)?;
    input.0.is_empty().then_some(Record { seq, stamp, entry })
}

/// An entry alone as bytes.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    put_entry(&mut out, entry);
    out
}

/// The way back from [`encode_entry`].
pub fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    decode_entry_as(bytes, None)
}

/// As [`decode_without_dots`], of an entry alone.
pub fn decode_entry_without_dots(bytes: &[u8], owner: ReplicaId) -> Option<Entry> {
    decode_entry_as(bytes, Some(owner))
}

fn decode_entry_as(bytes: &[u8], without_dots: Option<ReplicaId>) -> Option<Entry> {
    let mut input = Input(bytes);
    let entry = input.entry(without_dots)?;
    input.0.is_empty().then_some(entry)
}

fn put_time(out: &mut Vec<u8>, time: Mtime) {
    out.extend_from_slice(&time.secs.to_le_bytes());
    out.extend_from_slice(&time.nanos.to_le_bytes());
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    match &entry.body {
        Body::File { id, size, mtime } => {
            out.push(0);
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&size.to_le_bytes());
            put_time(out, *mtime);
        }
        Body::Dir => out.push(1),
        Body::Link { target } => {
            out.push(2);
            out.extend_from_slice(&(target.len() as u32).to_le_bytes());
            out.extend_from_slice(target);
        }
        Body::Deleted => out.push(3),
    }
    out.extend_from_slice(&entry.mode.to_le_bytes());
    out.push(entry.version.replicas().min(REPLICAS_MAX) as u8);
    for (replica, count) in entry.version.pairs().take(REPLICAS_MAX) {
        out.extend_from_slice(&replica.0.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }
    put_dots(out, &entry.dots, &entry.version);
}

/// How many are told, then each as the place of its replica in the version, with
/// [`IS_LAST`] if it is the last change of that one that the version knows, else
/// followed by its number.
fn put_dots(out: &mut Vec<u8>, dots: &Dots, version: &VersionVector) {
    let dots = dots.told_beside(version);
    out.push(dots.len() as u8);
    for dot in dots {
        let mut kept = version.pairs().take(REPLICAS_MAX);
        match kept.position(|(id, _)| id == dot.replica) {
            Some(place) if version.counter(dot.replica) != dot.count => {
                out.push(place as u8);
                out.extend_from_slice(&dot.count.to_le_bytes());
            }
            // A version that had to be cut knows at least its first replica.
            place => out.push(place.unwrap_or(0) as u8 | IS_LAST),
        }
    }
}

const IS_LAST: u8 = 0x80;
const _: () = assert!(REPLICAS_MAX < IS_LAST as usize);

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<Mtime> {
        let secs = self.take().map(i64::from_le_bytes)?;
        let nanos = self.u32().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Mtime { secs, nanos })
    }

    fn dots(&mut self, version: &VersionVector) -> Option<Dots> {
        let count = self.u8()?;
        let mut dots = Vec::new();
        for _ in 0..count.min(4) {
            let place = self.u8()?;
            let (replica, last) = version.pairs().nth(usize::from(place & !IS_LAST))?;
            let count = match place & IS_LAST {
                0 => self.u64()?,
                _ => last,
            };
            dots.push(Dot { replica, count });
        }
        Dots::of_told(&dots, version)
    }

    /// Of an owner whose entries do not tell what set their fields, or with that.
    fn entry(&mut self, without_dots: Option<ReplicaId>) -> Option<Entry> {
        let body = match self.u8()? {
            0 => Body::File {
                id: ContentId(self.take()?),
                size: self.u64()?,
                mtime: self.time()?,
            },
            1 => Body::Dir,
            2 => {
                let len = self.u32()? as usize;
                if len > TARGET_BYTES_MAX {
                    return None;
                }
                let (target, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Body::Link {
                    target: target.into(),
                }
            }
            3 => Body::Deleted,
            _ => return None,
        };
        let mode = self.u32()? & MODE_MASK;
        let count = self.u8()?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((ReplicaId(self.u64()?), self.u64()?));
        }
        let version = VersionVector::from_pairs(pairs);
        let dots = match without_dots {
            None => self.dots(&version)?,
            Some(owner) => Dots::unknown(&version, owner)?,
        };
        Some(Entry {
            body,
            mode,
            version,
            dots,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let time = Mtime {
            secs: -5,
            nanos: 999_999_999,
        };
        let version = VersionVector::from_pairs([(ReplicaId(1), 2), (ReplicaId(u64::MAX), 3)]);
        let stamp = Stamp {
            ino: 1,
            size: 2,
            mtime: time,
            ctime: time,
            mode: 0o100_644,
            trusted: true,
        };
        let bodies = [
            Body::File {
                id: ContentId::empty(),
                size: 3,
                mtime: time,
            },
            Body::Dir,
            Body::Link {
                target: b"\xff/..".as_slice().into(),
            },
            Body::Deleted,
        ];
        bodies
            .into_iter()
            .enumerate()
            .map(|(n, body)| Record {
                seq: n as u64,
                stamp: (n % 2 == 0).then_some(stamp),
                entry: Entry::of(body, 0o640, version.clone()),
            })
            .collect()
    }

    #[test]
    fn what_was_hashed_with_the_ids_of_before_is_read_again_if_it_is_large() {
        let record = &records()[0];
        for (size, is_trusted) in [(BLOCK_BYTES_MIN, true), (BLOCK_BYTES_MIN + 1, false)] {
            let stamp = Stamp {
                size,
                ..record.stamp.unwrap()
            };
            let mut bytes = encode(&Record {
                stamp: Some(stamp),
                ..record.clone()
            });
            bytes[8] = TRUSTED_BEFORE;
            let trusted = decode(&bytes).unwrap().stamp.unwrap().trusted;
            assert_eq!(trusted, is_trusted, "{size}");
        }
    }

    #[test]
    fn records_come_back() {
        for record in records() {
            assert_eq!(decode(&encode(&record)), Some(record));
        }
    }

    #[test]
    fn what_set_each_field_comes_back_and_usually_costs_two_bytes() {
        let dot = |replica, count| Dot {
            replica: ReplicaId(replica),
            count,
        };
        let mut record = records().remove(0);
        let plain = encode(&record).len();
        let without = plain - 2;
        for (content, mode, mtime, bytes) in [
            (dot(1, 2), dot(1, 2), dot(1, 2), 2),
            (dot(1, 1), dot(1, 1), dot(1, 1), 10),
            (dot(1, 2), dot(u64::MAX, 3), dot(1, 2), 4),
            (dot(1, 1), dot(u64::MAX, 2), dot(1, 2), 20),
        ] {
            record.entry.dots = Dots {
                content,
                mode,
                mtime,
            };
            let encoded = encode(&record);
            assert_eq!(encoded.len(), without + bytes);
            assert_eq!(decode(&encoded), Some(record.clone()));
        }
        record.entry.version = VersionVector::from_pairs([(ReplicaId(1), 2)]);
        record.entry.dots = Dots::all(dot(1, 2));
        assert_eq!(encode(&record).len(), without + 1 - 16);
    }

    #[test]
    fn a_record_of_more_replicas_than_there_can_be_is_still_readable() {
        let mut record = records().remove(0);
        let all = (1..=REPLICAS_MAX as u64 + 9).map(|id| (ReplicaId(id), id));
        record.entry.version = VersionVector::from_pairs(all);
        let last = Dots::unknown(&record.entry.version, ReplicaId(0));
        record.entry.dots = last.unwrap();
        assert!(decode(&encode(&record)).is_some());
    }

    #[test]
    fn what_the_version_does_not_know_has_set_nothing() {
        let mut record = records().remove(0);
        for (replica, count) in [(1, 3), (u64::MAX, 4)] {
            let dot = Dot {
                replica: ReplicaId(replica),
                count,
            };
            record.entry.dots = Dots::all(dot);
            assert_eq!(decode(&encode(&record)), None);
            record.entry.dots.content.count = 1;
            assert_eq!(decode(&encode(&record)), None);
        }
    }

    #[test]
    fn damaged_records_are_refused_without_a_panic() {
        for record in records() {
            let bytes = encode(&record);
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None);
            }
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0xff;
                let _ = decode(&damaged);
            }
        }
    }
}
