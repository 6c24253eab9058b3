//! Who this side is, and whether it still may say so.
//!
//! A counter in a version stands for one change for ever. An index that is
//! older than what was last told in its name (a restored backup, a disk that
//! was rolled back, a copied state folder, a cloned machine) would count the
//! same numbers once more, for other changes. It takes a new id then, under
//! which all its numbers are new; the old id's counters stay in the versions, as
//! those of just another replica.
//!
//! A copy is noticed by where it lies: the inode of the state folder and the
//! machine. Not by the device, whose number many file systems get anew with every
//! boot. What was rolled back in its place is noticed by the peer's memory:
//! every start of the program is a *run* with a random name, the peer remembers
//! in which run it heard of a number, and a run that is not known here, or did not
//! get as far here, happened in a past that this disk has lost.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::error::{During, IndexError, sound};
use super::{
    BEGUN, BY_SEQ, DOOMED, ENTRIES, Index, META, REMOVALS, WANTED, WANTS, commit::set_heard,
};
use crate::entry::{Dots, Entry};
use crate::index::Heard;
use crate::planted::{Bug, makes};
use crate::record::{self, Record};
use crate::version::{Dot, ReplicaId, VersionVector};

/// The runs of the program on this index: the name of each, and the last sequence
/// number before it.
pub(super) const RUNS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("runs");

/// Ids that this index had before, and up to which number they were counted here.
pub(super) const FORMER: TableDefinition<u64, u64> = TableDefinition::new("former-ids");

/// Older runs are forgotten. A peer that knows one of those is taken for one that
/// knows more than this side, which costs a new id.
const RUNS_MAX: u64 = 1000;

/// Entries that are gone through at a time.
const PAGE: usize = 256;

/// More than a machine id or a host name.
const MACHINE_BYTES_MAX: u64 = 4096;

/// Why an index has a new id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// It lies in another folder or on another machine than before.
    Copied,
    /// The peer knows of a past of it that is not in it.
    RolledBack,
    /// A person had it forget whom it was paired with.
    Forgot,
}

impl std::fmt::Display for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Copied => {
                "the state folder was copied, restored or moved, or the machine is another one"
            }
            Self::RolledBack => "the state folder is older than what the peer heard of it",
            Self::Forgot => "the peer was forgotten",
        })
    }
}

/// Names the state folder of the index at `path` on this machine; `None` if it
/// cannot be looked at.
pub(super) fn place_of(path: &Path) -> Option<u64> {
    let folder = std::fs::metadata(path.parent()?).ok()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"left: the place of a state folder");
    hasher.update(&folder.ino().to_le_bytes());
    hasher.update(&machine());
    let hash = hasher.finalize();
    hash.as_bytes()
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}

fn machine() -> Vec<u8> {
    use std::io::Read;
    let mut id = Vec::new();
    let read = std::fs::File::open("/etc/machine-id")
        .and_then(|file| file.take(MACHINE_BYTES_MAX).read_to_end(&mut id));
    if read.is_err() || id.trim_ascii().is_empty() {
        id = rustix::system::uname().nodename().to_bytes().to_vec();
    }
    id
}

/// What an index that is opened becomes: the same as before, or a new replica
/// with the knowledge of the old one. Then this run begins.
pub(super) fn on_open(
    txn: &WriteTransaction,
    fresh: (ReplicaId, u64),
    place: Option<u64>,
) -> Result<Option<Renewed>, IndexError> {
    let mut meta = txn.open_table(META).during("open")?;
    let figure = |meta: &redb::Table<&str, u64>, key| -> Result<Option<u64>, IndexError> {
        let value = meta.get(key).during("read")?;
        Ok(value.map(|guard| guard.value()))
    };
    let known_place = figure(&meta, "place")?;
    let renewed = if figure(&meta, "forgotten")?.is_some() {
        Some(Renewed::Forgot)
    } else if figure(&meta, "doubted")?.is_some() {
        Some(Renewed::RolledBack)
    } else {
        let moved = known_place
            .zip(place)
            .is_some_and(|(known, is)| known != is);
        moved.then_some(Renewed::Copied)
    };
    if let Some(place) = place.filter(|place| known_place != Some(*place)) {
        meta.insert("place", place).during("write")?;
    }
    let mut runs = txn.open_table(RUNS).during("open")?;
    let mut seq = figure(&meta, "seq")?.unwrap_or(0);
    if let Some(why) = renewed {
        let old = ReplicaId(figure(&meta, "replica")?.unwrap_or(0));
        // What was counted since the peer last agreed may have been counted
        // twice.
        let agreed_upto = match figure(&meta, "agreed")? {
            None => 0,
            Some(agreed) => {
                let next = runs.range(agreed + 1..).during("read")?.next();
                match next {
                    None => seq,
                    Some(next) => next.during("read")?.1.value().1,
                }
            }
        };
        let mut former = txn.open_table(FORMER).during("open")?;
        seq = match why {
            // Nobody else has the id of what was rolled back; a copied one may live on.
            Renewed::RolledBack | Renewed::Copied => {
                let counted = match why {
                    Renewed::Copied => seq,
                    _ => u64::MAX,
                };
                former.insert(old.0, counted).during("write")?;
                count_anew(txn, seq, agreed_upto, |entry, number| {
                    since_agreed(entry, (old, fresh.0), agreed_upto, number)
                })?
            }
            // As if the share had never been anybody's: no tombstone of before is
            // to delete anything, neither of this side elsewhere nor the other way.
            Renewed::Forgot => {
                former.retain(|_, _| false).during("write")?;
                meta.remove("share").during("write")?;
                meta.remove("forgotten").during("write")?;
                count_anew(txn, seq, 0, |entry, number| {
                    as_first(entry, fresh.0, number)
                })?
            }
        };
        forget_peer(txn)?;
        meta.insert("wanted-bytes", 0).during("write")?;
        set_heard(&mut meta, Heard::default())?;
        meta.insert("replica", fresh.0.0).during("write")?;
        meta.insert("epoch", fresh.1).during("write")?;
        meta.insert("seq", seq).during("write")?;
        meta.remove("doubted").during("write")?;
        meta.remove("agreed").during("write")?;
        runs.retain(|_, _| false).during("write")?;
    }
    let last = runs.last().during("read")?;
    let last = last.map(|(number, run)| (number.value(), run.value().0));
    let number = last.map_or(0, |(number, _)| number + 1);
    if last.is_none_or(|(_, run)| run != fresh.1) {
        runs.insert(number, (fresh.1, seq)).during("write")?;
    }
    if let Some(old) = number.checked_sub(RUNS_MAX) {
        runs.remove(old).during("write")?;
    }
    Ok(renewed)
}

/// What becomes of an entry when the index becomes another replica.
enum Anew {
    /// It stays as it is.
    Stays,
    /// It is counted by the new id.
    Counted(Entry),
    /// It is forgotten.
    Goes,
}

/// A version that may have been counted twice gets a number of the new id instead.
fn since_agreed(
    entry: &Entry,
    (old, new): (ReplicaId, ReplicaId),
    agreed_upto: u64,
    number: u64,
) -> Anew {
    if entry.version.counter(old) <= agreed_upto {
        return Anew::Stays;
    }
    // What was agreed on is still known.
    let pairs = entry.version.pairs().map(|(replica, count)| {
        let known = match replica == old {
            true => agreed_upto,
            false => count,
        };
        (replica, known)
    });
    let version = VersionVector::from_pairs(pairs).raised(new, number);
    let anew = |dot: Dot| match dot.replica == old && dot.count > agreed_upto {
        true => Dot {
            replica: new,
            count: version.counter(new),
        },
        false => dot,
    };
    let dots = Dots {
        content: anew(entry.dots.content),
        mode: anew(entry.dots.mode),
        mtime: anew(entry.dots.mtime),
    };
    Anew::Counted(Entry {
        version,
        dots,
        ..entry.clone()
    })
}

/// What is there was made by the new id, and what is not there never was.
fn as_first(entry: &Entry, new: ReplicaId, number: u64) -> Anew {
    if makes(Bug::RemembersTheForgotten) {
        return Anew::Stays;
    }
    if entry.is_deleted() {
        return Anew::Goes;
    }
    let version = VersionVector::default().raised(new, number);
    let dots = Dots::all(Dot {
        replica: new,
        count: version.counter(new),
    });
    Anew::Counted(Entry {
        version,
        dots,
        ..entry.clone()
    })
}

/// Goes through the entries that got their numbers after `after`. Answers with the last
/// sequence number.
fn count_anew(
    txn: &WriteTransaction,
    last: u64,
    mut after: u64,
    anew: impl Fn(&Entry, u64) -> Anew,
) -> Result<u64, IndexError> {
    let mut entries = txn.open_table(ENTRIES).during("open")?;
    let mut by_seq = txn.open_table(BY_SEQ).during("open")?;
    let mut seq = last;
    loop {
        let mut page = Vec::new();
        for item in by_seq.range(after + 1..).during("read")?.take(PAGE) {
            let (number, key) = item.during("read")?;
            if number.value() > last {
                break;
            }
            page.push((number.value(), key.value().to_vec()));
        }
        let Some((end, _)) = page.last() else {
            return Ok(seq);
        };
        after = *end;
        for (number, key) in page {
            let record = match entries.get(key.as_slice()).during("read")? {
                Some(guard) => record::decode(guard.value()),
                None => None,
            };
            let record = sound(record)?;
            let entry = match anew(&record.entry, seq + 1) {
                Anew::Stays => continue,
                Anew::Goes => {
                    by_seq.remove(number).during("write")?;
                    entries.remove(key.as_slice()).during("write")?;
                    continue;
                }
                Anew::Counted(entry) => entry,
            };
            by_seq.remove(number).during("write")?;
            seq += 1;
            let record = Record {
                seq,
                stamp: record.stamp,
                entry,
            };
            let value = record::encode(&record);
            entries
                .insert(key.as_slice(), value.as_slice())
                .during("write")?;
            by_seq.insert(seq, key.as_slice()).during("write")?;
        }
    }
}

/// Nothing is known any more of what the peer has.
fn forget_peer(txn: &WriteTransaction) -> Result<(), IndexError> {
    for table in [WANTS, BEGUN, REMOVALS] {
        let mut table = txn.open_table(table).during("open")?;
        table.retain(|_, _| false).during("write")?;
    }
    let mut wanted = txn.open_table(WANTED).during("open")?;
    wanted.retain(|_, _| false).during("write")?;
    let mut doomed = txn.open_table(DOOMED).during("open")?;
    doomed.retain(|_, _| false).during("write")
}

/// The ids that the index had before.
pub(super) fn former(txn: &WriteTransaction) -> Result<Vec<(ReplicaId, u64)>, IndexError> {
    let table = txn.open_table(FORMER).during("open")?;
    let mut former = Vec::new();
    for item in table.iter().during("read")? {
        let (id, counted) = item.during("read")?;
        former.push((ReplicaId(id.value()), counted.value()));
    }
    Ok(former)
}

impl Index {
    /// Why this side has a new id since it was opened, if it has.
    pub fn renewed(&self) -> Option<Renewed> {
        self.renewed
    }

    /// Names this run of the program: random, new with every opening.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// The last sequence number that was given in a run; `None` if that run
    /// never was, as far as is known here.
    pub fn run_end(&self, run: u64) -> Result<Option<u64>, IndexError> {
        if run == self.run {
            return self.seq().map(Some);
        }
        let txn = redb::ReadableDatabase::begin_read(&self.db).during("read")?;
        let runs = txn.open_table(RUNS).during("read")?;
        let mut end = None;
        for item in runs.iter().during("read")?.rev() {
            let (_, known) = item.during("read")?;
            let (name, before) = known.value();
            if name == run {
                return Ok(end);
            }
            end = Some(before);
        }
        Ok(None)
    }

    /// Whether a version was made with one that this side had.
    pub fn was_here(&self, version: &VersionVector) -> bool {
        let former = self.former.iter();
        version.counter(self.replica) > 0
            || former
                .map(|(id, counted)| (version.counter(*id), *counted))
                .any(|(count, counted)| count > 0 && count <= counted)
    }
}
