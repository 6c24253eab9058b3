//! Entries to and from the peer, by sequence number.

use super::{Action, Engine, LISTINGS_MAX, News};
use crate::entry::Entry;
use crate::index::{Change, IndexError, Store};
use crate::path::RelPath;
use crate::plan::{Decision, plan};
use crate::planted::{Bug, makes};
use crate::record::Record;
use crate::wire::message::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Message, WireEntry};

/// If what the peer lists is a tombstone, and ours, as it will be in the store
/// by then, is the same, it goes when the peer has heard of ours as well. Not
/// before: with the one here forgotten, an older version that the peer still
/// had would come back to life.
pub(super) fn doom_if_theirs(changes: &mut Vec<Change>, path: &RelPath, theirs: &Entry) {
    if theirs.is_deleted() {
        changes.push(Change::Doom {
            path: path.clone(),
            version: theirs.version.clone(),
        });
    }
}

impl<S: Store> Engine<S> {
    /// The peer has heard of all here up to this number.
    pub(super) fn drop_tombstones(&mut self, upto: u64) -> Result<(), IndexError> {
        let upto = match makes(Bug::DropsTombstonesEarly) {
            true => u64::MAX,
            false => upto,
        };
        // What comes early must not meet a path that is forgotten.
        if self.scanned && self.store.is_any_doomed(upto)? {
            self.store.commit(&[Change::Acked { upto }])?;
            self.tell(News::Changed);
        }
        Ok(())
    }

    /// The peer took our listing so far.
    pub(super) fn take_ack(
        &mut self,
        id: u64,
        upto: u64,
        forgotten: &[WireEntry],
    ) -> Result<(), IndexError> {
        let Some(session) = self.session.as_mut().filter(|session| session.id == id) else {
            return Ok(());
        };
        session.unacknowledged.retain(|listed| *listed > upto);
        let upto = upto.min(session.listed_upto).max(session.acknowledged_upto);
        session.acknowledged_upto = upto;
        let mut changes = Vec::new();
        for (path, theirs) in forgotten.iter().flat_map(WireEntry::open) {
            doom_if_theirs(&mut changes, &path, &theirs);
        }
        self.store.commit(&changes)?;
        self.drop_tombstones(upto)
    }

    pub(super) fn take_listing(
        &mut self,
        id: u64,
        upto: u64,
        complete: bool,
        entries: Vec<WireEntry>,
    ) -> Result<(), IndexError> {
        let index = self.store.clone();
        let mut changes = Vec::new();
        let counted = index.seq()?;
        let removals_before = index.removals()?;
        let mut removals = false;
        let mut forgotten = Vec::new();
        let mut sessions = self.session.iter().chain(&self.next_session);
        let session = sessions.find(|session| session.id == id);
        let heard = session.map(|session| session.heard);
        let is_partial = heard.is_some_and(|heard| heard.partial);
        // Until two shares are joined, all that is said is only written down.
        let is_joined = heard.is_some_and(|heard| heard.joined);
        for wire in entries {
            let (path, theirs) = match wire.open() {
                Ok(sound) => sound,
                Err(why) => {
                    let text = format!("the peer listed something that cannot be: {why}");
                    self.tell_problem(b"", text);
                    continue;
                }
            };
            if theirs.version.counter(index.replica()) > counted && !makes(Bug::ReusesCounters) {
                return self.doubt(id);
            }
            self.undelay(&path);
            self.not_here.remove(&path);
            let known = index.get(&path)?;
            let busy = self.in_flight.contains_key(&path);
            // A tombstone is of what was here, which may be of a kind that is not ignored.
            let is_of_ours = theirs.is_deleted()
                && (busy
                    || known.as_ref().is_some_and(|known| {
                        known.entry.is_deleted() || !self.ignores(&path, &known.entry)
                    }));
            if self.ignores(&path, &theirs) && !is_of_ours {
                if theirs.is_deleted() {
                    forgotten.push(wire);
                }
                changes.push(Change::Unwant { path });
                continue;
            }
            removals |= theirs.is_deleted();
            let was_known = index.was_here(&theirs.version);
            if known.is_none() && theirs.is_deleted() && was_known && !busy && !is_partial {
                // The tombstone that was forgotten here, on its way since then. Taken
                // for news it would go to and fro for ever. Only one that the peer
                // finds in a state that is older than that has to be told that it
                // may go there as well: the path may have lived and died there once
                // more before that was heard of here.
                forgotten.push(wire);
                changes.push(Change::Unwant { path });
                continue;
            }
            match plan(known.as_ref().map(|record| &record.entry), &theirs) {
                Decision::Nothing if !busy && is_joined => {
                    // Ours is at least as new; is it known there as well?
                    doom_if_theirs(&mut changes, &path, &theirs);
                    changes.push(Change::Unwant { path });
                }
                Decision::Record(entry) if !busy && is_joined => {
                    self.record(&mut changes, &path, known, entry);
                    doom_if_theirs(&mut changes, &path, &theirs);
                    changes.push(Change::Unwant { path });
                }
                _ => {
                    if busy && index.begun(&path)?.is_none() && !makes(Bug::ForgetsBegun) {
                        // If the process dies now, what its job has put in place must
                        // not be taken for something that a user made.
                        let began = index.want(&path)?;
                        changes.extend(began.map(|entry| Change::Begun {
                            path: path.clone(),
                            entry,
                        }));
                    }
                    changes.push(Change::Want {
                        path,
                        entry: theirs,
                    });
                }
            }
        }
        let session = self.session.as_mut().filter(|session| session.id == id);
        let Some(session) = session.or(self.next_session.as_mut()) else {
            return Ok(());
        };
        session.heard.upto = session.heard.upto.max(upto);
        session.heard.run = session.peer_run;
        session.heard.partial &= !complete;
        // Those that waited for the rest of the listing can be judged now.
        removals |= complete && !session.heard_all;
        session.heard_all = complete;
        session.heard_once |= complete;
        changes.push(Change::Heard(session.heard));
        let acknowledged_upto = session.acknowledged_upto;
        let session = session.id;
        index.commit(&changes)?;
        self.drop_tombstones(acknowledged_upto)?;
        let message = Message::Ack { upto, forgotten };
        self.acks.push((session, message));
        self.unlisted = true;
        self.look_at_all_wants();
        // Some may be gone, because the peer has put something back.
        if removals || index.removals()? != removals_before {
            self.look_at_all_removals();
        }
        Ok(())
    }

    /// The disk is as it should be; only the record changes.
    pub(super) fn record(
        &self,
        changes: &mut Vec<Change>,
        path: &RelPath,
        known: Option<Record>,
        entry: Entry,
    ) {
        let same = known.as_ref().is_some_and(|known| known.entry == entry);
        if !same {
            let stamp = known.and_then(|known| known.stamp);
            changes.push(Change::Put {
                path: path.clone(),
                entry,
                stamp,
            });
        }
    }

    /// Tells the peer what changed here, a few messages ahead of its
    /// acknowledgements.
    pub(super) fn list(&mut self) -> Result<(), IndexError> {
        if !self.scanned || !self.unlisted {
            return Ok(());
        }
        let Some(session) = self.session.as_mut() else {
            return Ok(());
        };
        while session.unacknowledged.len() < LISTINGS_MAX {
            let listed = self
                .store
                .listed_after(session.listed_upto, BATCH_ENTRIES_MAX)?;
            let more = listed.len() == BATCH_ENTRIES_MAX;
            let mut entries = Vec::new();
            let mut weight = 0;
            let mut upto = session.listed_upto;
            let mut cut = false;
            for (seq, path, entry) in listed {
                let wire = WireEntry::seal(&path, &entry);
                weight += wire.weight();
                entries.push(wire);
                upto = seq;
                if weight > BATCH_BYTES_MAX {
                    cut = true;
                    break;
                }
            }
            let complete = !more && !cut && !self.mid_look;
            if entries.is_empty() && (session.told_all || !complete) {
                self.unlisted = false;
                break;
            }
            session.listed_upto = upto;
            session.told_all = complete;
            session.unacknowledged.push_back(upto);
            self.actions.push(Action::Say {
                session: session.id,
                message: Message::Listing {
                    upto,
                    complete,
                    entries,
                },
            });
        }
        Ok(())
    }
}
