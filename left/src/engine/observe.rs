//! What an observation of the scanner means beside what is known.

use super::listing::doom_if_theirs;
use super::{Engine, News};
use crate::entry::{Body, Entry};
use crate::index::{Change, IndexError, Store};
use crate::plan::changed_here;
use crate::planted::{Bug, makes};
use crate::record::{Record, Stamp};
use crate::scanner::{Observation, Seen};
use crate::version::Relation;

impl<S: Store> Engine<S> {
    pub(super) fn take_observations(
        &mut self,
        observations: Vec<Observation>,
    ) -> Result<(), IndexError> {
        let index = self.store.clone();
        let here = index.replica();
        let mut changes = Vec::new();
        // The sequence number that the next change gets.
        let mut number = index.seq()? + 1;
        let mut changed = false;
        let mut removals = false;
        for Observation {
            path,
            compared_with,
            seen,
        } in observations
        {
            // What we are changing ourselves is looked at afterwards.
            if self.in_flight.contains_key(&path) {
                continue;
            }
            let known = index.get(&path)?;
            if known.as_ref().map(|record| record.seq) != compared_with {
                continue;
            }
            match observed(known.as_ref(), seen) {
                Found::Same(stamp) => changes.push(Change::Touch { path, stamp }),
                Found::Changed(body, mode, stamp) => {
                    let known = known.map(|record| record.entry);
                    let version = changed_here(known.as_ref(), here, number);
                    let mut entry = Entry {
                        body,
                        mode,
                        version,
                    };
                    let offered = [index.want(&path)?, index.begun(&path)?];
                    removals |= offered[0].as_ref().is_some_and(Entry::is_deleted);
                    for offered in offered.iter().flatten() {
                        entry = if_it_is_the_peers(entry, known.as_ref(), offered);
                    }
                    changes.push(Change::Ended { path: path.clone() });
                    let doomed =
                        (makes(Bug::DropsTombstonesEarly) && entry.is_deleted()).then(|| {
                            Change::Doom {
                                path: path.clone(),
                                version: entry.version.clone(),
                            }
                        });
                    // What was deleted here as well is a tombstone that both have.
                    let theirs = offered[0].as_ref().filter(|want| **want == entry);
                    let shared = theirs.cloned().map(|want| (path.clone(), want));
                    changes.push(Change::Put { path, entry, stamp });
                    changes.extend(doomed);
                    if let Some((path, theirs)) = shared {
                        doom_if_theirs(&mut changes, &path, &theirs);
                    }
                    number += 1;
                    changed = true;
                }
                Found::Nothing => {}
            }
        }
        index.commit(&changes)?;
        if changed {
            self.unlisted = true;
            self.tell(News::Changed);
            // A want may mean something else now.
            self.look_at_all_wants();
            if removals {
                self.look_at_all_removals();
            }
        }
        Ok(())
    }
}

/// What is exactly what the peer offered is no change of this side: it was put
/// in place by a process that was killed before it could say so, or both sides
/// made the same change. With a version of its own, the peer's next edit would
/// be a conflict.
fn if_it_is_the_peers(seen: Entry, known: Option<&Entry>, want: &Entry) -> Entry {
    let is_news = known.is_none_or(|known| {
        let relation = known.version.relation(&want.version);
        matches!(relation, Relation::Older | Relation::Concurrent)
    });
    let same = seen.same_content(want) && (seen.is_deleted() || seen.same_metadata(want));
    if !is_news || !same {
        return seen;
    }
    want.clone()
}

enum Found {
    /// Only the stat cache is out of date.
    Same(Stamp),
    Changed(Body, u32, Option<Stamp>),
    Nothing,
}

/// What an observation means beside what is known.
fn observed(known: Option<&Record>, seen: Seen) -> Found {
    let (mut body, mut mode, stamp) = match seen {
        Seen::Absent => {
            return match known {
                Some(known) if !known.entry.is_deleted() => Found::Changed(Body::Deleted, 0, None),
                _ => Found::Nothing,
            };
        }
        Seen::Present { body, mode, stamp } => (body, mode, stamp),
        // See `take_seen`.
        Seen::Ignored | Seen::Rules(_) => return Found::Nothing,
    };
    let Some(known) = known else {
        return Found::Changed(body, mode, Some(stamp));
    };
    // What the file system made of a mode or an mtime that was asked for is no
    // change; otherwise a coarse file system would echo it to the peer.
    if let Some(before) = known.stamp {
        let is_one_kind =
            std::mem::discriminant(&body) == std::mem::discriminant(&known.entry.body);
        if is_one_kind && before.mode == stamp.mode {
            mode = known.entry.mode;
        }
        // Of the same content only: another one has its own mtime.
        if let (
            Body::File { id, mtime, .. },
            Body::File {
                id: had,
                mtime: asked,
                ..
            },
        ) = (&mut body, &known.entry.body)
            && id == had
            && before.mtime == stamp.mtime
        {
            *mtime = *asked;
        }
    }
    if known.entry.body == body && known.entry.mode == mode {
        Found::Same(stamp)
    } else {
        Found::Changed(body, mode, Some(stamp))
    }
}
