//! What comes of two entries of a path of which each was made without knowing of the
//! other. Content, mode and mtime are three fields: of each the later change stays.
//! Pure, and the same on both sides.

use std::cmp::Reverse;

use crate::entry::{Body, Dots, Entry};
use crate::planted::{Bug, makes};
use crate::version::{Dot, Relation, ReplicaId, VersionVector};

/// One of two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Mine,
    Theirs,
}

impl Of {
    fn mine_if(is_mine: bool) -> Self {
        match is_mine {
            true => Of::Mine,
            false => Of::Theirs,
        }
    }

    fn pick<T>(self, mine: T, theirs: T) -> T {
        match self {
            Of::Mine => mine,
            Of::Theirs => theirs,
        }
    }
}

/// What both come to, with a version that knows of both. `None` when the contents are
/// different and neither side knew of the other's: then both have to be kept.
pub fn merged(mine: &Entry, theirs: &Entry) -> Option<Entry> {
    let content = content_of(mine, theirs)?;
    // The mode of a file says nothing about a folder.
    let (mode, mtime) = match is_one_kind(mine, theirs) && !makes(Bug::ModeGoesWithContent) {
        true => (mode_of(mine, theirs), mtime_of(mine, theirs)),
        false => (content, content),
    };
    let mut body = content.pick(mine, theirs).body.clone();
    if let (Body::File { mtime: is, .. }, Some(stays)) =
        (&mut body, mtime.pick(mine, theirs).mtime())
    {
        *is = stays;
    }
    Some(Entry {
        body,
        mode: mode.pick(mine, theirs).mode,
        version: mine.version.merged(&theirs.version),
        dots: Dots {
            content: content.pick(mine, theirs).dots.content,
            mode: mode.pick(mine, theirs).dots.mode,
            mtime: mtime.pick(mine, theirs).dots.mtime,
        },
    })
}

/// What has the name when both contents are kept and theirs has it. A mode that only
/// our side changed stays: somebody who closed a file to others must not find it
/// open.
pub fn winner_over_ours(mine: &Entry, theirs: &Entry) -> Entry {
    let mut winner = Entry {
        version: mine.version.merged(&theirs.version),
        ..theirs.clone()
    };
    if is_one_kind(mine, theirs) && later(mine, theirs, |dots| dots.mode) == Some(Of::Mine) {
        winner.mode = mine.mode;
        winner.dots.mode = mine.dots.mode;
    }
    winner
}

/// What the peer offered and was found here already: if it was made without ours known,
/// taking it is a change of this side, see [`crate::plan::plan`].
pub fn taken(known: Option<&Entry>, theirs: &Entry, here: ReplicaId, number: u64) -> Entry {
    let concurrent =
        known.filter(|known| known.version.relation(&theirs.version) == Relation::Concurrent);
    let version = match concurrent {
        Some(known) => known.version.merged(&theirs.version).raised(here, number),
        None => theirs.version.clone(),
    };
    Entry {
        version,
        ..theirs.clone()
    }
}

fn content_of(mine: &Entry, theirs: &Entry) -> Option<Of> {
    let later = later(mine, theirs, |dots| dots.content);
    if mine.same_content(theirs) {
        let of_any = Of::mine_if(mine.dots.content >= theirs.dots.content);
        return Some(later.unwrap_or(of_any));
    }
    let deleted = [mine, theirs].map(Entry::is_deleted);
    match deleted {
        _ if makes(Bug::MetadataBeatsDeletion) && deleted != [false; 2] => {
            Some(Of::mine_if(deleted[1]))
        }
        // An edit that the deletion did not know of beats it.
        [false, true] | [true, false] => Some(later.unwrap_or(Of::mine_if(deleted[1]))),
        _ => later,
    }
}

/// Of two modes that were set at the same time the one that lets others do less: no
/// rule of ours may open what somebody has closed.
fn mode_of(mine: &Entry, theirs: &Entry) -> Of {
    let allowed = |entry: &Entry| {
        let (others, group) = (entry.mode & 0o7, entry.mode >> 3 & 0o7);
        (others, group, entry.mode, Reverse(entry.dots.mode))
    };
    later(mine, theirs, |dots| dots.mode).unwrap_or(Of::mine_if(allowed(mine) <= allowed(theirs)))
}

/// Of two mtimes that were set at the same time the later one.
fn mtime_of(mine: &Entry, theirs: &Entry) -> Of {
    let rank = |entry: &Entry| (entry.mtime(), entry.dots.mtime);
    later(mine, theirs, |dots| dots.mtime).unwrap_or(Of::mine_if(rank(mine) >= rank(theirs)))
}

/// Whose change of a field was made with the other's known; `None` when neither was, or
/// they went two ways round each other.
fn later(mine: &Entry, theirs: &Entry, field: impl Fn(&Dots) -> Dot) -> Option<Of> {
    let ours_is_known = theirs.version.knows(field(&mine.dots));
    let theirs_is_known = mine.version.knows(field(&theirs.dots));
    (ours_is_known != theirs_is_known).then_some(Of::mine_if(theirs_is_known))
}

fn is_one_kind(mine: &Entry, theirs: &Entry) -> bool {
    std::mem::discriminant(&mine.body) == std::mem::discriminant(&theirs.body)
}

/// The entry after a change found on this side, which gets this sequence number. What
/// did not change is still of who set it.
pub fn changed_here(
    known: Option<&Entry>,
    body: Body,
    mode: u32,
    here: ReplicaId,
    number: u64,
) -> Entry {
    let (version, dot) = raised(known.map(|known| &known.version), here, number);
    let mut entry = Entry {
        body,
        mode,
        version,
        dots: Dots::all(dot),
    };
    if let Some(known) = known.filter(|known| is_one_kind(known, &entry)) {
        if known.mode == mode {
            entry.dots.mode = known.dots.mode;
        }
        // A content has its own mtime, also when that is the same as before.
        if known.same_content(&entry) {
            entry.dots.content = known.dots.content;
            if known.mtime() == entry.mtime() {
                entry.dots.mtime = known.dots.mtime;
            }
        }
    }
    entry
}

/// The entry of a folder that stays though the peer removed it: as if somebody had
/// made it once more.
pub fn made_again(known: &Entry, here: ReplicaId, number: u64) -> Entry {
    let (version, dot) = raised(Some(&known.version), here, number);
    Entry {
        version,
        dots: Dots {
            mode: known.dots.mode,
            ..Dots::all(dot)
        },
        ..known.clone()
    }
}

/// What was found on this side when everything is in it that an entry of the peer's
/// brings: it was put there by a process that was killed, or hindered by a user, before
/// it could say so, or both sides made the same change. So only the rest is of this
/// side. `None` when something of it is not there.
pub fn with_news_of(
    seen: &Entry,
    known: Option<&Entry>,
    theirs: &Entry,
    here: ReplicaId,
    number: u64,
) -> Option<Entry> {
    if seen.is_deleted() || !is_one_kind(seen, theirs) {
        return None;
    }
    let of_both = known.map(|known| known.version.merged(&theirs.version));
    let (version, dot) = raised(of_both.as_ref().or(Some(&theirs.version)), here, number);
    let is_news = |dot: Dot| known.is_none_or(|known| !known.version.knows(dot));
    let had = known.filter(|known| is_one_kind(known, seen));
    let had_content = had.filter(|had| had.same_content(seen));
    let mut has_news = false;
    // A field that is as somebody of the two has it is of whoever changed it last.
    let mut set_by = |of_theirs: Dot, as_theirs: bool, as_had: Option<Dot>| {
        let is_news = is_news(of_theirs);
        has_news |= is_news && as_theirs;
        match as_had {
            _ if is_news && as_theirs => Some(of_theirs),
            Some(of_had) => (!is_news).then_some(of_had),
            None => Some(dot),
        }
    };
    let same_content = seen.same_content(theirs);
    if is_news(theirs.dots.content) && !same_content {
        return None;
    }
    Some(Entry {
        dots: Dots {
            content: set_by(
                theirs.dots.content,
                same_content,
                had_content.map(|had| had.dots.content),
            )?,
            mode: set_by(
                theirs.dots.mode,
                seen.mode == theirs.mode,
                had.filter(|had| had.mode == seen.mode)
                    .map(|had| had.dots.mode),
            )?,
            mtime: set_by(
                theirs.dots.mtime,
                seen.mtime() == theirs.mtime() && (same_content || had_content.is_some()),
                had_content
                    .filter(|had| had.mtime() == seen.mtime())
                    .map(|had| had.dots.mtime),
            )?,
        },
        version,
        ..seen.clone()
    })
    .filter(|_| has_news)
}

fn raised(version: Option<&VersionVector>, here: ReplicaId, number: u64) -> (VersionVector, Dot) {
    let none = VersionVector::default();
    let version = version.unwrap_or(&none).raised(here, number);
    let count = version.counter(here);
    let replica = here;
    (version, Dot { replica, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{ContentId, Mtime};

    const A: ReplicaId = ReplicaId(1);
    const B: ReplicaId = ReplicaId(2);

    fn dot(replica: ReplicaId, count: u64) -> Dot {
        Dot { replica, count }
    }

    fn file(content: u8, secs: i64, mode: u32, a: u64, b: u64) -> Entry {
        let body = Body::File {
            id: ContentId([content; 32]),
            size: 1,
            mtime: Mtime { secs, nanos: 0 },
        };
        Entry::of(body, mode, VersionVector::from_pairs([(A, a), (B, b)]))
    }

    #[test]
    fn only_what_changed_here_is_of_this_side() {
        let known = file(1, 1, 0o644, 0, 3);
        let changed = |content, secs, mode| {
            let seen = file(content, secs, mode, 1, 0);
            changed_here(Some(&known), seen.body, seen.mode, A, 7).dots
        };
        let (old, new) = (dot(B, 3), dot(A, 7));
        for ((content, secs, mode), expected) in [
            ((1, 1, 0o600), [old, new, old]),
            ((1, 2, 0o644), [old, old, new]),
            ((2, 2, 0o644), [new, old, new]),
            // An editor that keeps the mtime writes a content all the same.
            ((2, 1, 0o644), [new, old, new]),
            ((2, 2, 0o600), [new, new, new]),
        ] {
            let dots = changed(content, secs, mode);
            assert_eq!([dots.content, dots.mode, dots.mtime], expected);
        }
        let other_kind = changed_here(Some(&known), Body::Dir, 0o644, A, 7);
        assert_eq!(other_kind.dots, Dots::all(new));
        let gone = changed_here(Some(&known), Body::Deleted, 0, A, 7);
        assert_eq!(gone.dots, Dots::all(new));
        assert_eq!(changed_here(None, Body::Dir, 0, A, 7).dots, Dots::all(new));
        let again = made_again(&other_kind, A, 9);
        assert_eq!((again.dots.content, again.dots.mode), (dot(A, 9), new));
    }

    #[test]
    fn what_the_peer_sent_is_the_peers_though_a_user_went_on_with_it() {
        let known = file(1, 1, 0o644, 1, 0);
        let theirs = file(2, 2, 0o644, 1, 5);
        let found = |content, secs, mode| {
            let seen = file(content, secs, mode, 1, 0);
            let seen = changed_here(Some(&known), seen.body, seen.mode, A, 7);
            with_news_of(&seen, Some(&known), &theirs, A, 7)
        };
        let closed = found(2, 2, 0o600).expect("it is the peer's content");
        assert_eq!(closed.version, VersionVector::from_pairs([(A, 7), (B, 5)]));
        assert_eq!(closed.dots.content, dot(B, 5));
        assert_eq!(closed.dots.mode, dot(A, 7));
        assert_eq!(closed.dots.mtime, dot(B, 5));
        // Without all that the peer sent it must not seem to be known.
        assert_eq!(found(3, 2, 0o644), None);
        assert_eq!(found(1, 2, 0o600), None);
        assert_eq!(found(1, 1, 0o600), None);
    }

    #[test]
    fn a_mode_that_was_set_before_the_process_was_killed_is_the_peers() {
        let known = file(1, 1, 0o644, 1, 0);
        let theirs = Entry {
            dots: Dots {
                mode: dot(B, 5),
                ..known.dots
            },
            ..file(1, 1, 0o600, 1, 5)
        };
        let seen = file(2, 9, 0o600, 1, 0);
        let seen = changed_here(Some(&known), seen.body, seen.mode, A, 7);
        let found = with_news_of(&seen, Some(&known), &theirs, A, 7).expect("the peer's mode");
        assert_eq!(
            (found.dots.content, found.dots.mode),
            (dot(A, 7), dot(B, 5))
        );
        // Its mtime, which is not there, may not be passed over.
        let mut more = theirs;
        more.dots.mtime = dot(B, 4);
        more.body = file(1, 4, 0, 1, 0).body;
        let seen = file(1, 1, 0o600, 1, 0);
        let seen = changed_here(Some(&known), seen.body, seen.mode, A, 7);
        assert_eq!(with_news_of(&seen, Some(&known), &more, A, 7), None);
    }
}
