//! What to do about a path when both sides' entries are known. Pure: no disk,
//! no network, no clock, and both sides come to matching decisions.
//!
//! Dominance of versions decides. What is concurrent is merged field by field, see
//! [`crate::merge`], and is a conflict only where both sides changed the content.
//! The absence of an entry never means a deletion: only a tombstone does.

use crate::entry::{Body, ContentId, Entry, Mtime};
use crate::merge::{merged, winner_over_ours};
use crate::path::NAME_BYTES_MAX;
use crate::planted::{Bug, makes};
use crate::version::{Relation, ReplicaId};

/// What this side does about the peer's entry. What is to be done to the disk, and has
/// another version than theirs, has to be counted as a change of this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Ours is the same or newer; the peer acts, if anybody.
    Nothing,
    /// Both changed it and the peer has to act: ours keeps the name, or theirs the
    /// content. Theirs is not forgotten until it has, because another change of ours
    /// could lose the name.
    Wait,
    /// The disk already is as it should be; only the record changes.
    Record(Entry),
    /// Same content, other mode or mtime: no content travels.
    SetMetadata(Entry),
    /// Each changed something else, and ours has the content that stays: it gets the
    /// mode or mtime of theirs. That is a change of this side, which knows of both and
    /// has to be counted as one.
    Blend(Entry),
    /// Put this on the disk, in place of what our record says is there.
    Install(Entry),
    /// Both changed it and the peer's version keeps the name: ours is kept
    /// under the name of a conflict copy, then this is installed.
    InstallKeepingOurs(Entry),
    /// The peer deleted it: ours goes to the trash, a folder when nothing is in it.
    Remove(Entry),
}

/// Decides for one path; `mine` is `None` when nothing was ever known here.
pub fn plan(mine: Option<&Entry>, theirs: &Entry) -> Decision {
    let Some(mine) = mine else {
        return match theirs.body {
            Body::Deleted => Decision::Record(theirs.clone()),
            _ => Decision::Install(theirs.clone()),
        };
    };
    match mine.version.relation(&theirs.version) {
        Relation::Equal | Relation::Newer => Decision::Nothing,
        Relation::Older => follow(mine, theirs),
        Relation::Concurrent => reconcile(mine, theirs),
    }
}

/// The peer's version was made with ours known.
fn follow(mine: &Entry, theirs: &Entry) -> Decision {
    if mine.same_content(theirs) {
        return adopt_metadata(mine, theirs.clone());
    }
    match (&mine.body, &theirs.body) {
        (_, Body::Deleted) => Decision::Remove(theirs.clone()),
        _ => Decision::Install(theirs.clone()),
    }
}

/// Each side changed it without knowing of the other's change.
///
/// Who keeps what it has knows of both changes from then on. Who takes what the other
/// has knows of both as well, under a number that it counts for it: without the number
/// the version would stand for two things, if its maker went on meanwhile, and taken
/// as it is it would forget what was here, so that both could go on taking what the
/// other has just left. What neither side has is made by exactly one of them.
fn reconcile(mine: &Entry, theirs: &Entry) -> Decision {
    let Some(merged) = merged(mine, theirs) else {
        // Ours must not claim to know theirs before the peer has saved it, or
        // the peer would take ours for a successor and save nothing.
        return match keeps_the_name(mine, theirs) {
            true if makes(Bug::ForgetsLosers) => Decision::Nothing,
            true => Decision::Wait,
            false => Decision::InstallKeepingOurs(winner_over_ours(mine, theirs)),
        };
    };
    let is = |entry: &Entry| (&entry.body, entry.mode) == (&merged.body, merged.mode);
    if is(mine) {
        return Decision::Record(merged);
    }
    if is(theirs) {
        // What of it was set here, though to the same, they have to know first: taken
        // as it is, it would be forgotten.
        return match merged.dots == theirs.dots {
            true => follow(mine, &merged),
            false => Decision::Wait,
        };
    }
    // Who makes it need not receive anything for it.
    let is_ours_to_make = match mine.same_content(theirs) {
        true => mine.mtime() == merged.mtime(),
        false => mine.same_content(&merged),
    };
    match is_ours_to_make {
        true => Decision::Blend(merged),
        false => Decision::Wait,
    }
}

fn adopt_metadata(mine: &Entry, target: Entry) -> Decision {
    if mine.same_metadata(&target) || target.is_deleted() {
        Decision::Record(target)
    } else {
        Decision::SetMetadata(target)
    }
}

/// Of two different contents exactly one keeps the name, the same on both
/// sides: a folder before a file before a link; of files the later mtime, ties
/// by content id. A wrong clock costs only the name, never the content.
fn keeps_the_name(mine: &Entry, theirs: &Entry) -> bool {
    fn rank(entry: &Entry) -> (u8, Option<Mtime>, Option<ContentId>, &[u8]) {
        match &entry.body {
            Body::Dir => (3, None, None, &[]),
            Body::File { id, mtime, .. } => (2, Some(*mtime), Some(*id), &[]),
            Body::Link { target } => (1, None, None, target),
            Body::Deleted => (0, None, None, &[]),
        }
    }
    rank(mine) > rank(theirs)
}

/// The name of the copy that keeps `loser` when it lost `name`:
/// `stem.conflict-<replica6>-<hash8>.ext`, at most 255 bytes. `attempt` above
/// zero gives further names when that one is taken.
pub fn conflict_name(name: &[u8], loser: &Body, replica: ReplicaId, attempt: u32) -> Vec<u8> {
    let hash = match loser {
        Body::File { id, .. } => id.short(),
        Body::Link { target } => ContentId(*blake3::hash(target).as_bytes()).short(),
        Body::Dir | Body::Deleted => ContentId::empty().short(),
    };
    let mut mark = format!(".conflict-{}-{hash}", replica.short());
    if attempt > 0 {
        mark.push_str(&format!("-{attempt}"));
    }
    // A leading dot hides a file and begins no extension.
    let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    // An endless extension is cut, so that the stem and the mark have room.
    let extension = cut_at_char(extension, 64);
    let stem = cut_at_char(stem, NAME_BYTES_MAX - mark.len() - extension.len());
    [stem, mark.as_bytes(), extension].concat()
}

/// The name of which this is the name of a conflict copy, as far as
/// [`conflict_name`] left it whole.
pub fn copied_name(name: &[u8]) -> Option<Vec<u8>> {
    const MARK: &[u8] = b".conflict-";
    let at = name
        .windows(MARK.len())
        .rposition(|window| window == MARK)?;
    let rest = &name[at + MARK.len()..];
    let (replica, rest) = rest.split_at_checked(6)?;
    let rest = rest.strip_prefix(b"-")?;
    let (hash, rest) = rest.split_at_checked(8)?;
    if ![replica, hash].concat().iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    // A further name of the same.
    let extension = match rest.strip_prefix(b"-") {
        Some(numbered) => {
            let digits = numbered
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            Some(&numbered[digits..]).filter(|_| digits > 0)?
        }
        None => rest,
    };
    let is_extension = extension.is_empty() || extension.starts_with(b".");
    is_extension.then(|| [&name[..at], extension].concat())
}

/// The first bytes of a name, not cut inside a UTF-8 character.
fn cut_at_char(bytes: &[u8], bytes_max: usize) -> &[u8] {
    if bytes.len() <= bytes_max {
        return bytes;
    }
    let mut end = bytes_max;
    while end > bytes_max.saturating_sub(3) && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Dots;
    use crate::version::{Dot, VersionVector};

    const A: ReplicaId = ReplicaId(0xaaaa_aa00_0000_0001);
    const B: ReplicaId = ReplicaId(0xbbbb_bb00_0000_0002);

    fn version(a: u64, b: u64) -> VersionVector {
        VersionVector::from_pairs([(A, a), (B, b)])
    }

    fn id(content: &str) -> ContentId {
        ContentId(*blake3::hash(content.as_bytes()).as_bytes())
    }

    fn file(content: &str, secs: i64, a: u64, b: u64) -> Entry {
        let body = Body::File {
            id: id(content),
            size: content.len() as u64,
            mtime: Mtime { secs, nanos: 0 },
        };
        Entry::of(body, 0o644, version(a, b))
    }

    fn other(body: Body, a: u64, b: u64) -> Entry {
        Entry::of(body, 0o755, version(a, b))
    }

    fn link(target: &str) -> Body {
        Body::Link {
            target: target.as_bytes().into(),
        }
    }

    #[test]
    fn table() {
        use Decision::*;
        let at = |entry: &Entry, a, b| {
            let body = entry.body.clone();
            Entry::of(body, entry.mode, version(a, b))
        };
        let knows = |entry: &Entry, a, b| Entry {
            version: version(a, b),
            ..entry.clone()
        };
        let one = file("one", 10, 1, 0);
        let two = file("two", 20, 1, 0);
        let dir = other(Body::Dir, 1, 0);
        let gone = other(Body::Deleted, 1, 0);
        let mut touched = one.clone();
        touched.mode = 0o600;

        // Nothing is known here.
        assert_eq!(plan(None, &one), Install(one.clone()));
        assert_eq!(plan(None, &dir), Install(dir.clone()));
        assert_eq!(plan(None, &gone), Record(gone.clone()));
        // Ours is the same or newer.
        assert_eq!(plan(Some(&one), &one), Nothing);
        assert_eq!(plan(Some(&at(&two, 2, 0)), &one), Nothing);
        assert_eq!(plan(Some(&at(&gone, 2, 0)), &one), Nothing);
        // Theirs is newer.
        assert_eq!(plan(Some(&one), &at(&two, 1, 1)), Install(at(&two, 1, 1)));
        assert_eq!(plan(Some(&one), &at(&one, 1, 1)), Record(at(&one, 1, 1)));
        assert_eq!(
            plan(Some(&one), &at(&touched, 1, 1)),
            SetMetadata(at(&touched, 1, 1))
        );
        assert_eq!(plan(Some(&one), &at(&gone, 1, 1)), Remove(at(&gone, 1, 1)));
        assert_eq!(plan(Some(&dir), &at(&one, 1, 1)), Install(at(&one, 1, 1)));
        assert_eq!(plan(Some(&one), &at(&dir, 1, 1)), Install(at(&dir, 1, 1)));
        assert_eq!(plan(Some(&gone), &at(&one, 1, 1)), Install(at(&one, 1, 1)));
        // Concurrent.
        assert_eq!(plan(Some(&one), &at(&one, 0, 1)), Record(at(&one, 1, 1)));
        assert_eq!(
            plan(Some(&one), &at(&two, 0, 1)),
            InstallKeepingOurs(knows(&at(&two, 0, 1), 1, 1))
        );
        assert_eq!(plan(Some(&at(&two, 0, 1)), &one), Wait);
        let kept = Record(knows(&one, 1, 1));
        assert_eq!(plan(Some(&one), &at(&gone, 0, 1)), kept);
        let taken = Install(knows(&at(&one, 0, 1), 1, 1));
        assert_eq!(plan(Some(&gone), &at(&one, 0, 1)), taken);
        assert_eq!(plan(Some(&gone), &at(&gone, 0, 1)), Record(at(&gone, 1, 1)));
        assert_eq!(
            plan(Some(&one), &at(&dir, 0, 1)),
            InstallKeepingOurs(knows(&at(&dir, 0, 1), 1, 1))
        );
        assert_eq!(plan(Some(&dir), &at(&one, 0, 1)), Wait);
        let linked = other(link("x"), 0, 1);
        assert_eq!(plan(Some(&one), &linked), Wait);
        // First meeting of equal contents: the later mtime, no transfer, no copy.
        let later = file("one", 30, 0, 1);
        let taken = SetMetadata(knows(&later, 1, 1));
        assert_eq!(plan(Some(&one), &later), taken);
        assert_eq!(plan(Some(&later), &one), Record(at(&later, 1, 1)));
    }

    const BASE: Dot = Dot {
        replica: A,
        count: 1,
    };
    const BY_A: Dot = Dot {
        replica: A,
        count: 2,
    };
    const BY_B: Dot = Dot {
        replica: B,
        count: 1,
    };

    /// An entry that both sides had as `file("base", 10, 1, 0)`, after a change of one.
    fn after(by: Dot, change: impl FnOnce(&mut Entry, Dot)) -> Entry {
        let mut entry = file("base", 10, 1, 0);
        entry.version = entry
            .version
            .merged(&VersionVector::from_pairs([(by.replica, by.count)]));
        change(&mut entry, by);
        entry
    }

    fn edit(entry: &mut Entry, by: Dot, content: &str, secs: i64) {
        entry.body = file(content, secs, 0, 1).body;
        entry.dots.content = by;
        entry.dots.mtime = by;
    }

    fn chmod(entry: &mut Entry, by: Dot, mode: u32) {
        entry.mode = mode;
        entry.dots.mode = by;
    }

    #[test]
    fn both_chmod_vs_edit_is_made_by_who_has_the_content() {
        let edited = after(BY_A, |entry, by| edit(entry, by, "edited", 5));
        let closed = after(BY_B, |entry, by| chmod(entry, by, 0o600));
        let both = Entry {
            mode: 0o600,
            version: version(2, 1),
            dots: Dots {
                mode: BY_B,
                ..Dots::all(BY_A)
            },
            ..edited.clone()
        };
        let blend = Decision::Blend(both.clone());
        assert_eq!(plan(Some(&edited), &closed), blend);
        assert_eq!(plan(Some(&closed), &edited), Decision::Wait);
        // Made here, it is a change that the other side follows.
        let made = Entry {
            version: both.version.raised(A, 3),
            ..both
        };
        assert_eq!(plan(Some(&closed), &made), Decision::Install(made.clone()));
    }

    #[test]
    fn a_mode_and_an_mtime_of_two_sides_make_one_entry_without_content() {
        let touched = after(BY_A, |entry, by| {
            edit(entry, by, "base", 5);
            entry.dots.content = BASE;
        });
        let closed = after(BY_B, |entry, by| chmod(entry, by, 0o600));
        let Decision::Blend(both) = plan(Some(&touched), &closed) else {
            panic!("who has the mtime makes it");
        };
        assert_eq!((both.mode, both.mtime()), (0o600, touched.mtime()));
        assert_eq!(both.dots.content, BASE);
        assert_eq!(plan(Some(&closed), &touched), Decision::Wait);
    }

    #[test]
    fn meta_both_chmod_has_one_rule() {
        for (a, b, stays) in [
            (0o600, 0o644, 0o600),
            (0o755, 0o700, 0o700),
            (0o640, 0o604, 0o640),
            (0o755, 0o755, 0o755),
        ] {
            let ours = after(BY_A, |entry, by| chmod(entry, by, a));
            let theirs = after(BY_B, |entry, by| chmod(entry, by, b));
            let modes = [(&ours, &theirs), (&theirs, &ours)].map(|(mine, theirs)| {
                match plan(Some(mine), theirs) {
                    Decision::Record(entry) | Decision::SetMetadata(entry) => entry.mode,
                    other => panic!("{other:?}"),
                }
            });
            assert_eq!(modes, [stays; 2]);
        }
    }

    #[test]
    fn a_deletion_beats_a_change_of_metadata_and_no_edit() {
        let gone = after(BY_A, |entry, by| {
            *entry = other(Body::Deleted, 2, 0);
            entry.dots = Dots::all(by);
        });
        let closed = after(BY_B, |entry, by| chmod(entry, by, 0o600));
        let edited = after(BY_B, |entry, by| edit(entry, by, "edited", 5));
        let knowing = |entry: &Entry| Entry {
            version: version(2, 1),
            ..entry.clone()
        };
        let removed = Decision::Remove(knowing(&gone));
        assert_eq!(plan(Some(&gone), &closed), Decision::Record(knowing(&gone)));
        assert_eq!(plan(Some(&closed), &gone), removed);
        assert_eq!(
            plan(Some(&gone), &edited),
            Decision::Install(knowing(&edited))
        );
        let kept = plan(Some(&edited), &gone);
        assert!(matches!(kept, Decision::Record(entry) if entry.body == edited.body));
        // A folder as well.
        let mut folder = after(BY_B, |entry, by| chmod(entry, by, 0o700));
        folder.body = Body::Dir;
        assert_eq!(plan(Some(&folder), &gone), removed);
    }

    #[test]
    fn what_was_closed_to_others_is_not_open_after_a_lost_conflict() {
        let winner = after(BY_A, |entry, by| edit(entry, by, "later", 30));
        let loser = after(BY_B, |entry, by| {
            edit(entry, by, "earlier", 20);
            chmod(entry, by, 0o600);
        });
        assert_eq!(plan(Some(&winner), &loser), Decision::Wait);
        let Decision::InstallKeepingOurs(installed) = plan(Some(&loser), &winner) else {
            panic!("it lost");
        };
        assert_eq!((&installed.body, installed.mode), (&winner.body, 0o600));
        assert_eq!(installed.version, version(2, 1));
        // With a mode of its own the winner keeps it.
        let mut open = winner;
        chmod(&mut open, BY_A, 0o640);
        let taken = Decision::InstallKeepingOurs(Entry {
            version: version(2, 1),
            ..open.clone()
        });
        assert_eq!(plan(Some(&loser), &open), taken);
    }

    #[test]
    fn exactly_one_side_keeps_the_name() {
        let bodies = [
            file("one", 10, 1, 0).body,
            file("two", 10, 1, 0).body,
            file("two!", 9, 1, 0).body,
            Body::Dir,
            link("x"),
            link("y"),
        ];
        for (i, mine) in bodies.iter().enumerate() {
            for (j, theirs) in bodies.iter().enumerate() {
                if i == j {
                    continue;
                }
                let (mine, theirs) = (other(mine.clone(), 1, 0), other(theirs.clone(), 0, 1));
                let kept = plan(Some(&mine), &theirs) == Decision::Wait;
                let lost = matches!(plan(Some(&theirs), &mine), Decision::InstallKeepingOurs(_));
                assert_eq!(kept, lost, "{mine:?} {theirs:?}");
            }
        }
    }

    #[test]
    fn conflict_names_are_legal_and_keep_the_extension() {
        let body = file("one", 1, 1, 0).body;
        let hash = id("one").short();
        let name = |text: &[u8]| String::from_utf8(conflict_name(text, &body, A, 0)).unwrap();
        assert_eq!(name(b"a.txt"), format!("a.conflict-aaaaaa-{hash}.txt"));
        assert_eq!(name(b".hidden"), format!(".hidden.conflict-aaaaaa-{hash}"));
        assert_eq!(name(b"plain"), format!("plain.conflict-aaaaaa-{hash}"));
        let long = "\u{e9}".repeat(127);
        assert!(name(long.as_bytes()).len() <= NAME_BYTES_MAX);
        let endless = [b"x.".as_slice(), &[b'e'; 253]].concat();
        assert!(conflict_name(&endless, &body, A, 7).len() <= NAME_BYTES_MAX);
        for whole in [&b"a.txt"[..], b".hidden", b"plain", b"a.b.c"] {
            for attempt in [0, 12] {
                let copy = conflict_name(whole, &body, A, attempt);
                assert_eq!(copied_name(&copy).as_deref(), Some(whole));
            }
        }
        for other in [
            &b"a.conflict-"[..],
            b"a.conflict-aaaaaa-zzzzzzzz",
            b"a.txt",
            b"",
        ] {
            assert_eq!(copied_name(other), None);
        }
        assert_ne!(
            conflict_name(b"a", &body, A, 0),
            conflict_name(b"a", &body, A, 1)
        );
    }
}

#[cfg(test)]
mod convergence;
