//! Races at the destination and crashes around the exchange.

use super::exchange::exchange_staged;
use super::*;
use crate::entry::Mtime;
use crate::events::Reporter;
use crate::index::Index;
use crate::part::{open_part, settle_intents};
use crate::share::Share;
use crate::version::{ReplicaId, VersionVector};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

struct Place {
    dir: tempfile::TempDir,
    share: Share,
    index: Index,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let share = Share::open(dir.path()).unwrap();
    let (index, _) = Index::open(&dir.path().join(".left/index"), (ReplicaId(1), 1)).unwrap();
    Place { dir, share, index }
}

impl Place {
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.dir.path()).unwrap().flatten();
        let mut names: Vec<_> = all
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| name != ".left")
            .collect();
        names.sort();
        names
    }

    /// What the index would know of a file as it is now.
    fn known(&self, name: &str) -> Record {
        let path = RelPath::parse(name.as_bytes()).unwrap();
        let now = self.share.stat(&path).unwrap().stamp();
        let entry = file(&self.read(name), 1);
        Record {
            seq: 1,
            stamp: Some(now),
            entry,
        }
    }

    /// A job for a file whose content has arrived.
    fn job(&self, name: &str, known: Option<Record>, text: &str, how: How) -> Job {
        let target = file(text, 2);
        let path = RelPath::parse(name.as_bytes()).unwrap();
        let job = Job {
            path,
            known,
            theirs: target.clone(),
            target,
            how,
            slot: 0,
            source: None,
        };
        let mut part = open_part(&self.share, job.part().unwrap()).unwrap();
        part.write_all(text.as_bytes()).unwrap();
        job
    }

    fn apply(&self, job: Job) -> Outcome {
        apply(&self.share, &self.index, vec![job]).remove(0).1
    }
}

fn file(text: &str, counter: u64) -> Entry {
    let id = ContentId(*blake3::hash(text.as_bytes()).as_bytes());
    let mtime = Mtime {
        secs: 1_000,
        nanos: 5,
    };
    let body = Body::File {
        id,
        size: text.len() as u64,
        mtime,
    };
    let version = VersionVector::from_pairs([(ReplicaId(2), counter)]);
    Entry::of(body, 0o640, version)
}

#[test]
fn a_new_file_gets_its_content_and_metadata() {
    let place = place();
    let outcome = place.apply(place.job("d/new", None, "content", How::Install));
    assert!(
        matches!(outcome, Outcome::Done { copy: None, .. }),
        "{outcome:?}"
    );
    assert_eq!(place.read("d/new"), "content");
    let metadata = std::fs::metadata(place.dir.path().join("d/new")).unwrap();
    assert_eq!(
        (
            metadata.mode() & 0o7777,
            metadata.mtime(),
            metadata.mtime_nsec()
        ),
        (0o640, 1_000, 5)
    );
}

#[test]
fn dst_name_taken_is_never_overwritten() {
    let place = place();
    place.write("name", "of the user");
    let outcome = place.apply(place.job("name", None, "of the peer", How::Install));
    assert!(matches!(outcome, Outcome::Changed), "{outcome:?}");
    assert_eq!(place.read("name"), "of the user");
}

#[test]
fn dst_edited_before_replace_keeps_the_edit() {
    let place = place();
    place.write("name", "old");
    let known = place.known("name");
    place.write("name", "an edit nobody has seen");
    for how in [How::Install, How::InstallKeepingOurs] {
        let outcome = place.apply(place.job("name", Some(known.clone()), "of the peer", how));
        assert!(matches!(outcome, Outcome::Changed), "{outcome:?}");
        assert_eq!(place.read("name"), "an edit nobody has seen");
        assert_eq!(place.names(), ["name"]);
    }
}

#[test]
fn an_edit_between_the_check_and_the_exchange_goes_back() {
    let place = place();
    place.write("name", "old");
    let known = place.known("name");
    place.write("name", "an edit nobody has seen");
    let job = place.job("name", Some(known), "of the peer", How::Install);
    let staged = PartId {
        content: ContentId(*blake3::hash(b"of the peer").as_bytes()),
        slot: 0,
    };
    let folder = place.share.open_dir(None).unwrap();
    let exchanged = exchange_staged(&place.share, &place.index, &folder, &staged.name(), &job);
    assert!(!exchanged.unwrap());
    assert_eq!(place.read("name"), "an edit nobody has seen");
}

#[test]
fn the_loser_of_a_conflict_keeps_its_content_under_another_name() {
    let place = place();
    place.write("name.txt", "ours");
    let known = place.known("name.txt");
    let job = place.job("name.txt", Some(known), "theirs", How::InstallKeepingOurs);
    let outcome = place.apply(job);
    let Outcome::Done {
        copy: Some(copy), ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(place.read("name.txt"), "theirs");
    assert_eq!(
        place.read(std::str::from_utf8(copy.as_bytes()).unwrap()),
        "ours"
    );
    assert_eq!(place.names().len(), 2);
}

/// As a kill leaves it between the exchange and what follows: the intent is
/// there, the new content has the name, and what was there has the part's.
fn exchanged_and_killed(place: &Place, edit: Option<&str>) {
    place.write("name", "old");
    let known = place.known("name");
    let path = RelPath::parse(b"name").unwrap();
    let put = Change::Put {
        path: path.clone(),
        entry: known.entry,
        stamp: known.stamp,
    };
    if let Some(edit) = edit {
        place.write("name", edit);
    }
    let job = place.job("name", None, "new", How::Install);
    let id = job.part().unwrap();
    place
        .index
        .commit(&[put, Change::Intend { id, path }])
        .unwrap();
    let folder = place.share.open_dir(None).unwrap();
    let part = id.name();
    let from = (place.share.parts(), part.as_bytes());
    place
        .share
        .rename(from, (&folder, b"name"), Rename::Exchange)
        .unwrap();
    settle_intents(&place.share, &place.index, &Reporter::new(None)).unwrap();
    assert_eq!(place.read("name"), "new");
    assert_eq!(place.index.intents().unwrap(), []);
    assert!(!crate::part::any_parts(&place.share));
}

#[test]
fn crash_after_exchange_removes_only_what_was_superseded() {
    let place = place();
    exchanged_and_killed(&place, None);
    assert_eq!(place.names(), ["name"]);
}

#[test]
fn crash_after_exchange_with_user_edit_keeps_the_edit() {
    let place = place();
    exchanged_and_killed(&place, Some("an edit nobody has seen"));
    let names = place.names();
    assert_eq!(names.len(), 2, "{names:?}");
    let copy = names.iter().find(|name| name.contains("conflict")).unwrap();
    assert_eq!(place.read(copy), "an edit nobody has seen");
}

#[test]
fn src_racy_timestamp_a_write_behind_a_young_stamp_survives_the_exchange() {
    let place = place();
    place.write("name", "old");
    let mut known = place.known("name");
    // As if two writes of one length had fallen into one step of the clock.
    place.write("name", "new");
    known.stamp = place.known("name").stamp.map(|stamp| Stamp {
        trusted: false,
        ..stamp
    });
    let outcome = place.apply(place.job("name", Some(known), "of the peer", How::Install));
    assert!(matches!(outcome, Outcome::Changed), "{outcome:?}");
    assert_eq!(place.read("name"), "new");
}

#[test]
fn metadata_that_is_set_hides_no_write() {
    let place = place();
    place.write("name", "old");
    let known = place.known("name");
    let mut job = place.job("name", Some(known), "old", How::Install);
    job.how = How::SetMetadata;
    let Outcome::Done { stamp, .. } = place.apply(job) else {
        panic!("it was not done")
    };
    assert!(!stamp.trusted);
}

#[test]
fn an_attempt_that_failed_leaves_no_small_part() {
    let place = place();
    place.write("name", "of the user");
    let target = file("of the peer", 2);
    let job = Job {
        path: RelPath::parse(b"name").unwrap(),
        known: None,
        theirs: target.clone(),
        target,
        how: How::Install,
        slot: 7,
        source: None,
    };
    let mut part = open_part(&place.share, job.part().unwrap()).unwrap();
    part.write_all(b"of the peer").unwrap();
    let outcome = place.apply(job);
    assert!(matches!(outcome, Outcome::Changed), "{outcome:?}");
    assert!(!crate::part::any_parts(&place.share));
}

#[test]
fn something_else_under_the_parts_name_is_not_put_in_place() {
    let place = place();
    let job = place.job("name", None, "of the peer", How::Install);
    let name = place.dir.path().join(".left/parts").join(job.part_name());
    std::fs::remove_file(&name).unwrap();
    std::fs::write(&name, "something else").unwrap();
    let outcome = place.apply(job);
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert!(place.names().is_empty());
}

#[test]
fn crash_after_exchange_with_an_edit_that_cannot_be_read_keeps_it_too() {
    use std::os::unix::fs::PermissionsExt;
    let place = place();
    let job = place.job("gone/name", None, "new", How::Install);
    let id = job.part().unwrap();
    let part = place.dir.path().join(".left/parts").join(id.name());
    std::fs::write(&part, "an edit nobody has seen").unwrap();
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o400)).unwrap();
    // Its folder became a file, so that it cannot go back there.
    place.write("gone", "a file");
    let path = job.path;
    place.index.commit(&[Change::Intend { id, path }]).unwrap();
    settle_intents(&place.share, &place.index, &Reporter::new(None)).unwrap();
    assert_eq!(place.index.intents().unwrap(), []);
    let names = place.names();
    assert_eq!(names.len(), 2, "{names:?}");
    let copy = names.iter().find(|name| name.contains("conflict")).unwrap();
    assert_eq!(place.read(copy), "an edit nobody has seen");
}

impl Place {
    /// A removal of what the index knows.
    fn removal(&self, name: &str, known: Record) -> Job {
        let version = VersionVector::from_pairs([(ReplicaId(2), 2)]);
        let target = Entry::of(Body::Deleted, 0, version);
        let path = RelPath::parse(name.as_bytes()).unwrap();
        Job {
            path,
            known: Some(known),
            theirs: target.clone(),
            target,
            how: How::Remove,
            slot: 3,
            source: None,
        }
    }

    fn trash(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.dir.path().join(".left/trash")).unwrap();
        let mut texts: Vec<_> = all
            .flatten()
            .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
            .collect();
        texts.sort();
        texts
    }
}

#[test]
fn what_is_removed_lies_in_the_trash() {
    let place = place();
    place.write("name", "old");
    let known = place.known("name");
    let outcome = place.apply(place.removal("name", known));
    let Outcome::Removed(Some((name, trashed))) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(name.ends_with(b"-name"));
    assert_eq!((trashed.path.as_bytes(), trashed.size), (&b"name"[..], 3));
    assert!(place.names().is_empty());
    assert_eq!(place.trash(), ["old"]);
}

#[test]
fn del_edited_before_unlink_keeps_the_edit() {
    let place = place();
    place.write("name", "old");
    let known = place.known("name");
    place.write("name", "an edit nobody has seen");
    let outcome = place.apply(place.removal("name", known));
    assert!(matches!(outcome, Outcome::Changed), "{outcome:?}");
    assert_eq!(place.read("name"), "an edit nobody has seen");
    assert!(place.trash().is_empty());
    assert!(place.index.removing().unwrap().is_empty());
}

#[test]
pub(crate) fn del_edited_behind_a_young_stamp_gets_its_name_back() {
    let place = place();
    place.write("name", "old");
    let mut known = place.known("name");
    place.write("name", "new");
    // As if both writes had fallen into one step of the clock.
    known.stamp = place.known("name").stamp.map(|stamp| Stamp {
        trusted: false,
        ..stamp
    });
    let outcome = place.apply(place.removal("name", known));
    assert!(matches!(outcome, Outcome::Changed), "{outcome:?}");
    assert_eq!(place.read("name"), "new");
    assert!(place.trash().is_empty());
}

#[test]
fn a_folder_goes_only_when_it_is_empty() {
    let place = place();
    std::fs::create_dir(place.dir.path().join("d")).unwrap();
    place.write("d/new", "of the user");
    let path = RelPath::parse(b"d").unwrap();
    let mut known = Record {
        seq: 1,
        stamp: Some(place.share.stat(&path).unwrap().stamp()),
        entry: file("", 1),
    };
    known.entry.body = Body::Dir;
    let outcome = place.apply(place.removal("d", known.clone()));
    assert!(matches!(outcome, Outcome::NotEmpty(_)), "{outcome:?}");
    assert_eq!(place.read("d/new"), "of the user");
    std::fs::remove_file(place.dir.path().join("d/new")).unwrap();
    let outcome = place.apply(place.removal("d", known));
    assert!(matches!(outcome, Outcome::Removed(None)), "{outcome:?}");
    assert!(place.names().is_empty());
}

/// As a kill leaves it between the move into the trash and its record.
fn removed_and_killed(edit: Option<&str>) -> Place {
    let place = place();
    place.write("name", "old");
    let known = place.known("name");
    let path = RelPath::parse(b"name").unwrap();
    let put = Change::Put {
        path: path.clone(),
        entry: known.entry,
        stamp: known.stamp,
    };
    if let Some(edit) = edit {
        place.write("name", edit);
    }
    let name = b"00001".to_vec();
    let removing = Change::Removing { name, path };
    place.index.commit(&[put, removing]).unwrap();
    let root = place.dir.path();
    std::fs::rename(root.join("name"), root.join(".left/trash/00001")).unwrap();
    let reporter = Reporter::new(None);
    crate::part::settle_removing(&place.share, &place.index, &reporter, 7).unwrap();
    assert!(place.index.removing().unwrap().is_empty());
    place
}

#[test]
fn crash_delete_unconfirmed_leaves_what_was_superseded_in_the_trash() {
    let place = removed_and_killed(None);
    assert!(place.names().is_empty());
    let id = ContentId(*blake3::hash(b"old").as_bytes());
    let (name, trashed) = place.index.trashed_as(id).unwrap().unwrap();
    assert_eq!((name, trashed.since), (b"00001".to_vec(), 7));
}

#[test]
fn crash_delete_unconfirmed_gives_an_edit_its_name_back() {
    let place = removed_and_killed(Some("an edit nobody has seen"));
    assert_eq!(place.read("name"), "an edit nobody has seen");
    assert!(place.trash().is_empty());
}

#[test]
fn content_is_taken_from_the_trash_or_copied_and_never_unseen() {
    let place = place();
    let text = "content";
    let job = |name: &str, source| {
        let target = file(text, 2);
        Job {
            path: RelPath::parse(name.as_bytes()).unwrap(),
            known: None,
            theirs: target.clone(),
            target,
            how: How::Install,
            slot: 1,
            source: Some(source),
        }
    };
    place.write("other", text);
    let other = RelPath::parse(b"other").unwrap();
    let seen = place.share.stat(&other).unwrap().stamp();
    let copied = place.apply(job("copy", Source::Path(other.clone(), seen)));
    assert!(matches!(copied, Outcome::Done { .. }), "{copied:?}");
    assert_eq!(place.read("copy"), text);
    assert_eq!(place.read("other"), text);
    // It looks like another file by now.
    place.write("other", "changed");
    let stale = place.apply(job("stale", Source::Path(other, seen)));
    assert!(
        matches!(stale, Outcome::NotHere(Elsewhere::Another)),
        "{stale:?}"
    );
    let trash = place.dir.path().join(".left/trash");
    let trashed = Trashed {
        path: RelPath::parse(b"gone").unwrap(),
        id: None,
        size: 7,
        since: 0,
    };
    std::fs::write(trash.join("1"), text).unwrap();
    let moved = place.apply(job("back", Source::Trash(b"1".to_vec(), trashed.clone())));
    assert!(matches!(moved, Outcome::Done { .. }), "{moved:?}");
    assert_eq!(place.read("back"), text);
    assert!(place.trash().is_empty());
    let name = b"1".to_vec();
    let again = place.apply(job("again", Source::Trash(name, trashed.clone())));
    assert!(
        matches!(again, Outcome::NotHere(Elsewhere::Gone)),
        "{again:?}"
    );
    // Written to after it was removed, by somebody who had it open.
    std::fs::write(trash.join("2"), "CONTENT").unwrap();
    let wrong = place.apply(job("wrong", Source::Trash(b"2".to_vec(), trashed)));
    assert!(
        matches!(wrong, Outcome::NotHere(Elsewhere::Another)),
        "{wrong:?}"
    );
    assert_eq!(place.trash(), ["CONTENT"]);
    assert_eq!(place.names(), ["back", "copy", "other"]);
}
