//! The index as its users see it, and damage to it.

use super::*;
use crate::entry::{Body, Dots};
use crate::path::RelPath;
use crate::record::Stamp;
use crate::version::VersionVector;

fn fresh() -> (ReplicaId, u64) {
    (ReplicaId(7), 9)
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn entry(counter: u64) -> Entry {
    let version = VersionVector::from_pairs([(ReplicaId(7), counter)]);
    Entry::of(Body::Dir, 0o755, version)
}

#[test]
fn a_changed_entry_is_listed_once_under_its_new_number() {
    let dir = tempfile::tempdir().unwrap();
    let (index, aside) = Index::open(&dir.path().join("index"), fresh()).unwrap();
    assert!(aside.is_none());
    let put = |text: &str, counter| Change::Put {
        path: path(text),
        entry: entry(counter),
        stamp: None,
    };
    index
        .commit(&[put("b", 1), put("a/x", 1), put("a", 1), put("a.txt", 1)])
        .unwrap();
    index.commit(&[put("b", 2)]).unwrap();
    let listed: Vec<_> = index
        .listed_after(1, 10)
        .unwrap()
        .into_iter()
        .map(|(seq, path, _)| (seq, path.to_string()))
        .collect();
    let expected = [(2, "a/x"), (3, "a"), (4, "a.txt"), (5, "b")];
    assert_eq!(listed, expected.map(|(seq, path)| (seq, path.to_owned())));
    let order: Vec<_> = index
        .records_after(Some(&path("a")), 10)
        .unwrap()
        .into_iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(order, ["a/x", "a.txt", "b"]);
}

#[test]
fn a_broken_database_is_set_aside_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    std::fs::write(&file, b"this is no database at all").unwrap();
    let (index, aside) = Index::open(&file, fresh()).unwrap();
    assert_eq!(index.replica(), ReplicaId(7));
    let aside = aside.expect("it was set aside");
    assert_eq!(
        std::fs::read(aside.path).unwrap(),
        b"this is no database at all"
    );
}

#[test]
fn identity_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    drop(Index::open(&file, fresh()).unwrap());
    let (index, _) = Index::open(&file, (ReplicaId(1), 1)).unwrap();
    assert_eq!((index.replica(), index.epoch()), (ReplicaId(7), 9));
    let heard = Heard {
        replica: 3,
        epoch: 4,
        run: 6,
        upto: 5,
        partial: true,
        joined: true,
    };
    index.commit(&[Change::Heard(heard)]).unwrap();
    assert_eq!(index.heard().unwrap(), heard);
}

#[test]
fn a_database_that_was_found_damaged_is_set_aside_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    drop(Index::open(&file, fresh()).unwrap());
    Index::mark_damaged(&file).unwrap();
    let (index, aside) = Index::open(&file, (ReplicaId(8), 1)).unwrap();
    assert_eq!(index.replica(), ReplicaId(8));
    assert!(aside.is_some_and(|aside| aside.path.exists()));
    drop(index);
    let (index, aside) = Index::open(&file, fresh()).unwrap();
    assert!(aside.is_none());
    assert_eq!(index.replica(), ReplicaId(8));
}

#[test]
fn a_record_that_is_not_understood_is_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = Index::open(&dir.path().join("index"), fresh()).unwrap();
    let mut txn = index.db.begin_write().unwrap();
    txn.open_table(ENTRIES)
        .unwrap()
        .insert(path("x").key().as_slice(), &b"nonsense"[..])
        .unwrap();
    txn.set_two_phase_commit(true);
    txn.commit().unwrap();
    assert!(index.get(&path("x")).unwrap_err().is_damage());
    assert!(index.records_after(None, 9).unwrap_err().is_damage());
}

fn file(text: &str, counter: u64) -> Entry {
    Entry {
        body: Body::File {
            id: ContentId(*blake3::hash(text.as_bytes()).as_bytes()),
            size: 1,
            mtime: crate::entry::Mtime::default(),
        },
        ..entry(counter)
    }
}

fn gone(counter: u64) -> Entry {
    Entry {
        body: Body::Deleted,
        mode: 0,
        ..entry(counter)
    }
}

fn put(text: &str, entry: Entry) -> Change {
    Change::Put {
        path: path(text),
        entry,
        stamp: None,
    }
}

fn opened() -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = Index::open(&dir.path().join("index"), fresh()).unwrap();
    (dir, index)
}

#[test]
fn a_tombstone_goes_when_the_peer_has_it_and_has_heard_of_ours() {
    let (_dir, index) = opened();
    index
        .commit(&[put("a", gone(5)), put("b", gone(6)), put("c", gone(7))])
        .unwrap();
    let doom = |text: &str, counter| Change::Doom {
        path: path(text),
        version: gone(counter).version,
    };
    // Of b the peer has another one.
    index
        .commit(&[doom("a", 5), doom("b", 5), doom("c", 7)])
        .unwrap();
    assert!(!index.is_any_doomed(0).unwrap());
    assert!(index.is_any_doomed(1).unwrap());
    // c came to life again meanwhile.
    index.commit(&[put("c", file("new", 9))]).unwrap();
    index.commit(&[Change::Acked { upto: 4 }]).unwrap();
    assert_eq!(index.get(&path("a")).unwrap(), None);
    assert!(index.get(&path("b")).unwrap().is_some());
    assert!(!index.get(&path("c")).unwrap().unwrap().entry.is_deleted());
    let listed = index.listed_after(0, 9).unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(index.live().unwrap(), 1);
}

#[test]
fn removals_are_read_from_the_end_and_only_what_was_confirmed_is() {
    let (_dir, index) = opened();
    let want = |text: &str, entry| Change::Want {
        path: path(text),
        entry,
    };
    index
        .commit(&[
            want("d", gone(1)),
            want("d/x", gone(2)),
            want("e", file("e", 3)),
        ])
        .unwrap();
    let order = |index: &Index| {
        let all = index.removals_before(None, 9).unwrap();
        all.into_iter()
            .map(|(path, removal)| (path.to_string(), removal.is_confirmed))
            .collect::<Vec<_>>()
    };
    assert_eq!(order(&index), [("d/x".into(), false), ("d".into(), false)]);
    let confirm = |text: &str, entry| Change::Confirm {
        path: path(text),
        entry,
    };
    index
        .commit(&[
            confirm("d", gone(9)),
            confirm("d/x", gone(2)),
            confirm("e", gone(3)),
        ])
        .unwrap();
    assert_eq!(order(&index), [("d/x".into(), true), ("d".into(), false)]);
    // A newer one was not confirmed.
    index.commit(&[want("d/x", gone(4))]).unwrap();
    assert_eq!(order(&index), [("d/x".into(), false), ("d".into(), false)]);
    index.commit(&[want("d", file("back", 5))]).unwrap();
    assert_eq!(order(&index), [("d/x".into(), false)]);
    assert_eq!(index.counts().unwrap(), (0, 3));
}

#[test]
fn contents_are_found_by_path_want_and_trash() {
    let (_dir, index) = opened();
    let id = |text: &str| ContentId(*blake3::hash(text.as_bytes()).as_bytes());
    index
        .commit(&[
            put("a", file("x", 1)),
            put("b", file("x", 2)),
            put("c", file("y", 3)),
        ])
        .unwrap();
    assert_eq!(index.paths_of(id("x"), 9).unwrap(), [path("a"), path("b")]);
    index
        .commit(&[put("a", file("y", 4)), put("b", gone(5))])
        .unwrap();
    assert!(index.paths_of(id("x"), 9).unwrap().is_empty());
    assert_eq!(index.paths_of(id("y"), 9).unwrap(), [path("a"), path("c")]);
    let want = |entry| Change::Want {
        path: path("d"),
        entry,
    };
    index.commit(&[want(file("x", 1))]).unwrap();
    assert!(index.is_wanted(id("x")).unwrap());
    index.commit(&[want(file("y", 1))]).unwrap();
    assert!(!index.is_wanted(id("x")).unwrap());
    index.commit(&[Change::Unwant { path: path("d") }]).unwrap();
    assert!(!index.is_wanted(id("y")).unwrap());
    let trashed = Trashed {
        path: path("gone"),
        id: Some(id("z")),
        size: 1,
        since: 2,
    };
    let name = b"0001".to_vec();
    index
        .commit(&[Change::Trash {
            name: name.clone(),
            trashed: trashed.clone(),
        }])
        .unwrap();
    assert_eq!(
        index.trashed_as(id("z")).unwrap(),
        Some((name.clone(), trashed))
    );
    index.commit(&[Change::Untrash { name }]).unwrap();
    assert_eq!(index.trashed_as(id("z")).unwrap(), None);
}

/// As before schema 3: of a single change, dots are one byte at the end.
fn without_dots(mut value: Vec<u8>) -> Vec<u8> {
    assert_eq!(value.pop(), Some(0));
    value
}

#[test]
fn an_index_of_schema_1_is_migrated() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("index");
    {
        let (index, _) = Index::open(&place, fresh()).unwrap();
        index
            .commit(&[put("a", file("x", 1)), put("b", gone(2))])
            .unwrap();
        // As schema 1 had it.
        let mut txn = index.db.begin_write().unwrap();
        txn.set_two_phase_commit(true);
        {
            let mut meta = txn.open_table(META).unwrap();
            meta.insert("schema", 1).unwrap();
            meta.remove("live").unwrap();
            let mut wants = txn.open_table(WANTS).unwrap();
            for (text, entry) in [("c", gone(3)), ("d", file("y", 4))] {
                let key = path(text).key();
                let value = without_dots(record::encode_entry(&entry));
                wants.insert(key.as_slice(), value.as_slice()).unwrap();
            }
            let mut entries = txn.open_table(ENTRIES).unwrap();
            for text in ["a", "b"] {
                let key = path(text).key();
                let value = entries
                    .get(key.as_slice())
                    .unwrap()
                    .unwrap()
                    .value()
                    .to_vec();
                let value = without_dots(value);
                entries.insert(key.as_slice(), value.as_slice()).unwrap();
            }
        }
        for table in [CONTENTS, WANTED] {
            txn.delete_table(table).unwrap();
        }
        txn.commit().unwrap();
    }
    let (index, aside) = Index::open(&place, (ReplicaId(1), 1)).unwrap();
    assert!(aside.is_none());
    assert_eq!(index.replica(), ReplicaId(7));
    assert_eq!(index.live().unwrap(), 1);
    let id = |text: &str| ContentId(*blake3::hash(text.as_bytes()).as_bytes());
    assert_eq!(index.paths_of(id("x"), 9).unwrap(), [path("a")]);
    assert!(index.is_wanted(id("y")).unwrap());
    assert_eq!(index.removals().unwrap(), 1);
    assert_eq!(index.wants_after(None, 9).unwrap().len(), 1);
    let known = index.get(&path("a")).unwrap().unwrap().entry;
    assert_eq!(known, file("x", 1));
    assert_eq!(index.want(&path("c")).unwrap(), Some(gone(3)));
}

#[test]
fn an_index_of_schema_2_is_migrated_whatever_its_size() {
    const COUNT: u64 = 1300;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("index");
    let name = |n: u64| path(&format!("f{n:05}"));
    let (here, peer) = (ReplicaId(7), ReplicaId(3));
    let of_both = |n| Entry {
        version: VersionVector::from_pairs([(here, n), (peer, 2 * n)]),
        ..file("x", 1)
    };
    {
        let (index, _) = Index::open(&place, fresh()).unwrap();
        let heard = Heard {
            replica: peer.0,
            ..Heard::default()
        };
        index.commit(&[Change::Heard(heard)]).unwrap();
        let mut txn = index.db.begin_write().unwrap();
        txn.set_two_phase_commit(true);
        {
            let mut meta = txn.open_table(META).unwrap();
            meta.insert("schema", 2).unwrap();
            let mut entries = txn.open_table(ENTRIES).unwrap();
            let mut begun = txn.open_table(BEGUN).unwrap();
            let mut removals = txn.open_table(REMOVALS).unwrap();
            for n in 1..=COUNT {
                let (entry, key) = (of_both(n), name(n).key());
                // Dots that the version knows are its last ones, in two bytes.
                let last = |replica| Dots::unknown(&entry.version, replica).unwrap();
                let old = |mut value: Vec<u8>| {
                    value.truncate(value.len() - 2);
                    value
                };
                let entry = Entry {
                    dots: last(here),
                    ..entry.clone()
                };
                let record = record::Record {
                    seq: n,
                    stamp: None,
                    entry: entry.clone(),
                };
                let value = old(record::encode(&record));
                entries.insert(key.as_slice(), value.as_slice()).unwrap();
                let value = old(record::encode_entry(&entry));
                begun.insert(key.as_slice(), value.as_slice()).unwrap();
                let value = [&[1], &value[..]].concat();
                removals.insert(key.as_slice(), value.as_slice()).unwrap();
            }
        }
        txn.commit().unwrap();
    }
    let (index, aside) = Index::open(&place, (ReplicaId(1), 1)).unwrap();
    assert!(aside.is_none());
    for n in [1, 512, 513, COUNT] {
        let with = |replica| {
            let entry = of_both(n);
            Entry {
                dots: Dots::unknown(&entry.version, replica).unwrap(),
                ..entry
            }
        };
        let known = index.get(&name(n)).unwrap().unwrap();
        assert_eq!(known.entry, with(here));
        assert_eq!(index.begun(&name(n)).unwrap(), Some(with(peer)));
        assert_eq!(index.want(&name(n)).unwrap(), Some(with(peer)));
    }
    let (_, last) = index.removals_before(None, 1).unwrap().remove(0);
    assert!(last.is_confirmed);
}

fn count(text: &str, counter: u64) -> Change {
    put(text, entry(counter))
}

fn version_of(index: &Index, text: &str) -> VersionVector {
    index.get(&path(text)).unwrap().unwrap().entry.version
}

#[test]
fn guard_state_copied_is_noticed_and_gets_a_new_id() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::create_dir(&here).unwrap();
    std::fs::create_dir(&there).unwrap();
    let (index, _) = Index::open(&here.join("index"), fresh()).unwrap();
    let heard = Heard {
        replica: 3,
        epoch: 4,
        run: 5,
        upto: 6,
        partial: false,
        joined: true,
    };
    let want = Change::Want {
        path: path("w"),
        entry: entry(1),
    };
    index
        .commit(&[count("a", 1), Change::Heard(heard), Change::Agreed, want])
        .unwrap();
    drop(index);
    std::fs::copy(here.join("index"), there.join("index")).unwrap();

    let second = (ReplicaId(8), 10);
    let (copy, aside) = Index::open(&there.join("index"), second).unwrap();
    assert!(aside.is_none());
    assert_eq!(copy.renewed(), Some(Renewed::Copied));
    assert_eq!((copy.replica(), copy.epoch()), second);
    assert_eq!(copy.heard().unwrap(), Heard::default());
    assert_eq!(copy.counts().unwrap(), (1, 0));
    // What was known stays known.
    assert_eq!(version_of(&copy, "a"), entry(1).version);
    assert!(copy.was_here(&entry(1).version));
    assert!(!copy.was_here(&entry(2).version), "the original lives on");
    drop(copy);

    for file in [here.join("index"), there.join("index")] {
        let (again, _) = Index::open(&file, (ReplicaId(9), 11)).unwrap();
        assert_eq!(again.renewed(), None);
        assert_ne!(again.replica(), ReplicaId(9));
    }
}

#[test]
fn guard_state_rolled_back_counts_anew_what_may_have_been_counted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    let (index, _) = Index::open(&file, fresh()).unwrap();
    index
        .commit(&[count("a", 1), count("b", 2), Change::Agreed])
        .unwrap();
    index.commit(&[count("c", 3)]).unwrap();
    drop(index);
    let (index, _) = Index::open(&file, (ReplicaId(0), 20)).unwrap();
    assert_eq!(index.run_end(9).unwrap(), Some(3));
    index.commit(&[count("b", 4), count("d", 5)]).unwrap();
    assert_eq!(index.run_end(20).unwrap(), Some(5));
    assert_eq!(index.run_end(21).unwrap(), None);
    index.commit(&[Change::Doubt]).unwrap();
    drop(index);

    let (index, _) = Index::open(&file, (ReplicaId(8), 30)).unwrap();
    assert_eq!(index.renewed(), Some(Renewed::RolledBack));
    assert_eq!(index.replica(), ReplicaId(8));
    for (text, expected) in [
        ("a", [(ReplicaId(7), 1)].as_slice()),
        ("c", &[(ReplicaId(7), 3)]),
        ("b", &[(ReplicaId(7), 3), (ReplicaId(8), 6)]),
        ("d", &[(ReplicaId(7), 3), (ReplicaId(8), 7)]),
    ] {
        let version = version_of(&index, text);
        assert_eq!(version.pairs().collect::<Vec<_>>(), expected, "{text}");
    }
    let listed = index.listed_after(0, 10).unwrap();
    let numbers: Vec<_> = listed.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!((numbers, index.seq().unwrap()), (vec![1, 3, 6, 7], 7));
    // No run of before means anything now.
    assert_eq!(index.run_end(9).unwrap(), None);
}

#[test]
fn who_was_forgotten_left_no_tombstone_no_version_and_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    let (index, _) = Index::open(&file, fresh()).unwrap();
    // More than are gone through at a time.
    let mut changes: Vec<_> = (0..300).map(|n| count(&format!("f{n}"), n + 1)).collect();
    changes.extend([put("gone", gone(301)), put("f7", gone(302))]);
    changes.extend(crate::pairing::ShareId::from_number(5).map(Change::Share));
    index.commit(&changes).unwrap();
    index.commit(&[Change::Forgotten]).unwrap();
    drop(index);

    let (index, _) = Index::open(&file, (ReplicaId(8), 30)).unwrap();
    assert_eq!(index.renewed(), Some(Renewed::Forgot));
    assert_eq!((index.replica(), index.epoch()), (ReplicaId(8), 30));
    assert_eq!(index.share_id().unwrap(), None);
    assert_eq!(
        (index.counts().unwrap().0, index.live().unwrap()),
        (299, 299)
    );
    let listed = index.listed_after(0, 1000).unwrap();
    assert_eq!(listed.len(), 299);
    for (seq, path, entry) in listed {
        let pairs: Vec<_> = entry.version.pairs().collect();
        assert_eq!(pairs, [(ReplicaId(8), seq)], "{path}");
    }
    drop(index);
    let (index, _) = Index::open(&file, (ReplicaId(9), 40)).unwrap();
    assert_eq!((index.renewed(), index.replica()), (None, ReplicaId(8)));
}

#[test]
fn the_sums_follow_every_change_and_are_added_up_once_where_they_are_missing() {
    let (dir, index) = opened();
    let want = |text: &str, entry: Entry| Change::Want {
        path: path(text),
        entry,
    };
    let sized = |text: &str, len: u64| {
        let mut sized = file(text, 1);
        if let Body::File { size, .. } = &mut sized.body {
            *size = len;
        }
        sized
    };
    let copy = "b.conflict-0123ab-01234567.txt";
    let unwant = |text: &str| Change::Unwant { path: path(text) };
    index
        .commit(&[
            put("a", sized("1", 100)),
            put(copy, sized("2", 10)),
            put("folder.conflict-nothing", entry(1)),
            want("a", sized("3", 1000)),
            want("c", sized("4", 2000)),
            want("huge", sized("5", u64::MAX)),
            want("d", gone(9)),
        ])
        .unwrap();
    let sums = Sums {
        entries: 3,
        live: 3,
        live_bytes: 110,
        copies: 1,
        wanted: 4,
        wanted_bytes: 2999,
    };
    assert_eq!(index.sums().unwrap(), sums);
    // Another version is wanted, what nobody can add up no more, and one came.
    index
        .commit(&[
            want("c", sized("6", 50)),
            unwant("huge"),
            unwant("nothing"),
            put("a", sized("3", 1000)),
            unwant("a"),
            put(copy, gone(3)),
        ])
        .unwrap();
    let sums = Sums {
        entries: 3,
        live: 2,
        live_bytes: 1000,
        copies: 0,
        wanted: 2,
        wanted_bytes: 50,
    };
    assert_eq!(index.sums().unwrap(), sums);

    let txn = index.db.begin_write().unwrap();
    for key in ["copies", "live-bytes", "wanted-bytes"] {
        txn.open_table(META).unwrap().remove(key).unwrap();
    }
    txn.commit().unwrap();
    drop(index);
    let (index, _) = Index::open(&dir.path().join("index"), fresh()).unwrap();
    assert_eq!(index.sums().unwrap(), sums);
    index.commit(&[Change::ForgetPeer]).unwrap();
    let sums = index.sums().unwrap();
    assert_eq!((sums.wanted, sums.wanted_bytes), (0, 0));
}

#[test]
fn after_another_boot_what_changed_last_is_read_again() {
    let (_dir, index) = opened();
    let seen = |secs: i64| Stamp {
        ino: 1,
        size: 1,
        mtime: crate::entry::Mtime { secs, nanos: 0 },
        ctime: crate::entry::Mtime { secs, nanos: 0 },
        mode: 0o100_644,
        trusted: true,
    };
    let put = |text: &str, secs| Change::Put {
        path: path(text),
        entry: file(text, 1),
        stamp: Some(seen(secs)),
    };
    index.use_in_boot(1).unwrap();
    index
        .commit(&[put("old", 1_000), put("new", 2_000), put("last", 2_100)])
        .unwrap();
    let trusted = |text: &str| {
        index
            .get(&path(text))
            .unwrap()
            .unwrap()
            .stamp
            .unwrap()
            .trusted
    };
    index.use_in_boot(1).unwrap();
    assert!(trusted("old") && trusted("new") && trusted("last"));
    index.use_in_boot(2).unwrap();
    assert!(trusted("old") && !trusted("new") && !trusted("last"));
}
