//! What to do about a path when both sides' entries are known. Pure: no disk,
//! no network, no clock, and both sides come to matching decisions.
//!
//! Dominance of versions decides; concurrency is a conflict. The absence of an
//! entry never means a deletion: only a tombstone does.

use crate::entry::{Body, ContentId, Entry, Mtime};
use crate::path::NAME_BYTES_MAX;
use crate::planted::{Bug, makes};
use crate::version::{Relation, ReplicaId, VersionVector};

/// What this side does about the peer's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Ours is the same or newer; the peer acts, if anybody.
    Nothing,
    /// Both changed it and ours keeps the name: the peer has to act. Theirs is not
    /// forgotten until it has, because another change of ours could lose the name.
    Wait,
    /// The disk already is as it should be; only the record changes.
    Record(Entry),
    /// Same content, other mode or mtime: no content travels.
    SetMetadata(Entry),
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
/// Who keeps what it has may know of both changes from then on. Who takes what the
/// other has takes it as it is, with the other's version and no more: a version
/// that knows more than its maker would stand for two things, if the maker went on
/// meanwhile.
fn reconcile(mine: &Entry, theirs: &Entry) -> Decision {
    let both = || Decision::Record(mine.with_version(mine.version.merged(&theirs.version)));
    match (&mine.body, &theirs.body) {
        _ if mine.same_content(theirs) => match metadata_rank(mine) >= metadata_rank(theirs) {
            true => both(),
            false => Decision::SetMetadata(theirs.clone()),
        },
        // A change beats a deletion.
        (Body::Deleted, _) => Decision::Install(theirs.clone()),
        (_, Body::Deleted) => both(),
        // Ours must not claim to know theirs before the peer has saved it, or
        // the peer would take ours for a successor and save nothing.
        _ if keeps_the_name(mine, theirs) => match makes(Bug::ForgetsLosers) {
            true => Decision::Nothing,
            false => Decision::Wait,
        },
        _ => Decision::InstallKeepingOurs(theirs.clone()),
    }
}

fn adopt_metadata(mine: &Entry, target: Entry) -> Decision {
    if mine.same_metadata(&target) || target.is_deleted() {
        Decision::Record(target)
    } else {
        Decision::SetMetadata(target)
    }
}

/// One rule for two metadata of one content: the later mtime, then the larger mode.
fn metadata_rank(entry: &Entry) -> (Option<Mtime>, u32) {
    (entry.mtime(), entry.mode)
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

/// The version of an entry after a change found on this side, which gets this
/// sequence number.
pub fn changed_here(known: Option<&Entry>, here: ReplicaId, number: u64) -> VersionVector {
    known
        .map(|entry| entry.version.clone())
        .unwrap_or_default()
        .raised(here, number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

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
        Entry {
            body,
            mode: 0o644,
            version: version(a, b),
        }
    }

    fn other(body: Body, a: u64, b: u64) -> Entry {
        Entry {
            body,
            mode: 0o755,
            version: version(a, b),
        }
    }

    fn link(target: &str) -> Body {
        Body::Link {
            target: target.as_bytes().into(),
        }
    }

    #[test]
    fn table() {
        use Decision::*;
        let at = |entry: &Entry, a, b| entry.with_version(version(a, b));
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
            InstallKeepingOurs(at(&two, 0, 1))
        );
        assert_eq!(plan(Some(&at(&two, 0, 1)), &one), Wait);
        assert_eq!(plan(Some(&one), &at(&gone, 0, 1)), Record(at(&one, 1, 1)));
        assert_eq!(plan(Some(&gone), &at(&one, 0, 1)), Install(at(&one, 0, 1)));
        assert_eq!(plan(Some(&gone), &at(&gone, 0, 1)), Record(at(&gone, 1, 1)));
        assert_eq!(
            plan(Some(&one), &at(&dir, 0, 1)),
            InstallKeepingOurs(at(&dir, 0, 1))
        );
        assert_eq!(plan(Some(&dir), &at(&one, 0, 1)), Wait);
        let linked = other(link("x"), 0, 1);
        assert_eq!(plan(Some(&one), &linked), Wait);
        // First meeting of equal contents: the later mtime, no transfer, no copy.
        let later = file("one", 30, 0, 1);
        assert_eq!(plan(Some(&one), &later), SetMetadata(later.clone()));
        assert_eq!(plan(Some(&later), &one), Record(at(&later, 1, 1)));
    }

    #[test]
    fn exactly_one_side_keeps_the_name() {
        let bodies = [
            file("one", 10, 0, 0).body,
            file("two", 10, 0, 0).body,
            file("two!", 9, 0, 0).body,
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
        let body = file("one", 1, 0, 0).body;
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

    /// Two replicas as pure data: random edits, then exchange until quiet.
    #[derive(Default, Clone)]
    struct Side {
        records: BTreeMap<String, Entry>,
    }

    impl Side {
        fn edit(&mut self, path: &str, body: Body, here: ReplicaId) {
            let version = changed_here(self.records.get(path), here, 0);
            self.records.insert(
                path.to_owned(),
                Entry {
                    body,
                    mode: 0o644,
                    version,
                },
            );
        }

        fn hear(&mut self, path: &str, theirs: &Entry, here: ReplicaId) {
            let mine = self.records.get(path).cloned();
            match plan(mine.as_ref(), theirs) {
                Decision::Nothing | Decision::Wait => {}
                Decision::Remove(entry)
                | Decision::Record(entry)
                | Decision::SetMetadata(entry)
                | Decision::Install(entry) => {
                    self.records.insert(path.to_owned(), entry);
                }
                Decision::InstallKeepingOurs(entry) => {
                    let ours = mine.expect("a conflict has two sides").body;
                    let copy = conflict_name(path.as_bytes(), &ours, here, 0);
                    let copy = String::from_utf8(copy).unwrap();
                    self.edit(&copy, ours, here);
                    self.records.insert(path.to_owned(), entry);
                }
            }
        }
    }

    #[test]
    fn two_replicas_converge_and_lose_nothing() {
        for seed in 0..300u32 {
            let mut noise = blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof();
            let mut byte = move || {
                let mut one = [0u8; 1];
                noise.fill(&mut one);
                one[0]
            };
            let (mut a, mut b) = (Side::default(), Side::default());
            let mut contents: Vec<ContentId> = Vec::new();
            for round in 0..6 {
                for step in 0..byte() % 6 {
                    let path = format!("p{}.txt", byte() % 3);
                    let text = format!("{round}-{step}");
                    let body = file(&text, i64::from(byte() % 4), 0, 0).body;
                    let here = byte() % 2 == 0;
                    let (side, replica) = if here { (&mut a, A) } else { (&mut b, B) };
                    // What its own author replaces need not survive.
                    if let Some(Entry {
                        body: Body::File { id, .. },
                        ..
                    }) = side.records.get(&path)
                    {
                        contents.retain(|content| content != id);
                    }
                    contents.push(id(&text));
                    side.edit(&path, body, replica);
                }
                // A few messages get through before the next edits.
                for _ in 0..byte() % 4 {
                    let (from, to, here) = if byte() % 2 == 0 {
                        (&a, &mut b, B)
                    } else {
                        (&b, &mut a, A)
                    };
                    let pick = from.records.iter().nth(byte() as usize % 4);
                    if let Some((path, entry)) = pick.map(|(p, e)| (p.clone(), e.clone())) {
                        to.hear(&path, &entry, here);
                    }
                }
            }
            for _ in 0..8 {
                for (path, entry) in a.records.clone() {
                    b.hear(&path, &entry, B);
                }
                for (path, entry) in b.records.clone() {
                    a.hear(&path, &entry, A);
                }
            }
            assert_eq!(a.records, b.records, "seed {seed}");
            for content in contents {
                let kept = a
                    .records
                    .values()
                    .any(|entry| matches!(&entry.body, Body::File { id, .. } if *id == content));
                assert!(kept, "seed {seed} lost {content}");
            }
        }
    }
}
