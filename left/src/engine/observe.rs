//! What an observation of the scanner means beside what is known.

use super::listing::doom_if_theirs;
use super::{Engine, News};
use crate::entry::{Body, Entry};
use crate::index::{Change, IndexError, Store};
use crate::merge::{changed_here, taken, with_news_of};
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
                    let entry = changed_here(known.as_ref(), body, mode, here, number);
                    let offered = [index.want(&path)?, index.begun(&path)?];
                    removals |= offered[0].as_ref().is_some_and(Entry::is_deleted);
                    // What the job began with is closer to what it may have done.
                    let theirs = offered.iter().rev().flatten();
                    let news = theirs.filter(|theirs| is_news(known.as_ref(), theirs));
                    let entry = news
                        .clone()
                        .find(|theirs| is_the_same(&entry, theirs))
                        .map(|theirs| taken(known.as_ref(), theirs, here, number))
                        .or_else(|| {
                            news.clone().find_map(|theirs| {
                                with_news_of(&entry, known.as_ref(), theirs, here, number)
                            })
                        })
                        .unwrap_or(entry);
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

/// Whether the peer offered something that is not known here already.
fn is_news(known: Option<&Entry>, theirs: &Entry) -> bool {
    known.is_none_or(|known| {
        let relation = known.version.relation(&theirs.version);
        matches!(relation, Relation::Older | Relation::Concurrent)
    })
}

/// What is exactly what the peer offered is no change of this side: it was put
/// in place by a process that was killed before it could say so, or both sides
/// made the same change. With a version of its own, the peer's next edit would
/// be a conflict.
fn is_the_same(seen: &Entry, theirs: &Entry) -> bool {
    seen.same_content(theirs) && (seen.is_deleted() || seen.same_metadata(theirs))
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
