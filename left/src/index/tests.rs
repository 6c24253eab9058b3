//! The index as its users see it, and damage to it.

use super::*;
use crate::entry::Body;
use crate::version::VersionVector;

fn fresh() -> (ReplicaId, u64) {
    (ReplicaId(7), 9)
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn entry(counter: u64) -> Entry {
    let version = VersionVector::from_pairs([(ReplicaId(7), counter)]);
    Entry {
        body: Body::Dir,
        mode: 0o755,
        version,
    }
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
        upto: 5,
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
