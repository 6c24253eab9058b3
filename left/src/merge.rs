//! What comes of two entries of a path of which each was made without knowing of the
//! other. Content, mode and mtime are three fields: of each the later change stays.
//! Pure, and the same on both sides.

use std::cmp::Reverse;

use crate::entry::{Body, Dots, Entry};
use crate::planted::{Bug, makes};
use crate::version::{Dot, ReplicaId, VersionVector};

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
/// open. If this is not theirs as it is, it knows of both.
pub fn winner_over_ours(mine: &Entry, theirs: &Entry) -> Entry {
    let later = later(mine, theirs, |dots| dots.mode);
    if !is_one_kind(mine, theirs) || later != Some(Of::Mine) || mine.mode == theirs.mode {
        return theirs.clone();
    }
    Entry {
        mode: mine.mode,
        version: mine.version.merged(&theirs.version),
        dots: Dots {
            mode: mine.dots.mode,
            ..theirs.dots
        },
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

/// Of two modes that were set at the same time the one that lets others do less: a
/// mistake of this rule must not show a file to anybody.
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
