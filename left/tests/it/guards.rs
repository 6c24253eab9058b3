//! What looks like a mistake deletes nothing.

use std::fs;

use crate::pair::{Pair, names};

fn in_sync() -> Pair {
    let pair = Pair::started();
    for number in 0..20 {
        pair.a.write(
            format!("file-{number}"),
            format!("content {number}").as_bytes(),
        );
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 20);
    pair.settle();
    pair
}

/// B says it still waits for A, or is in sync, and has everything.
fn has_all(pair: &Pair) -> bool {
    names(&pair.b.share).len() == 20
}

#[test]
fn guard_share_missing_no_deletion_reaches_the_peer() {
    let mut pair = in_sync();
    pair.a.terminate();
    let elsewhere = pair.dir.path().join("elsewhere");
    fs::rename(&pair.a.share, &elsewhere).unwrap();
    pair.a.start();
    assert_eq!(pair.a.ended().code(), Some(1));
    assert!(!pair.a.share.exists());
    assert!(has_all(&pair));
    // Back again, it goes on as before.
    fs::rename(&elsewhere, &pair.a.share).unwrap();
    pair.a.start();
    pair.settle();
    assert!(has_all(&pair));
}

/// As when a disk is not mounted: an empty folder in the place of the share.
#[test]
fn guard_share_missing_an_empty_folder_in_its_place_is_filled() {
    let mut pair = in_sync();
    pair.a.terminate();
    fs::rename(&pair.a.share, pair.dir.path().join("elsewhere")).unwrap();
    fs::create_dir(&pair.a.share).unwrap();
    pair.a.start();
    pair.wait("it has all again", || names(&pair.a.share).len() == 20);
    pair.settle();
    assert!(has_all(&pair));
}

#[test]
fn guard_state_removed_while_running_halts_and_loses_nothing() {
    let mut pair = in_sync();
    fs::remove_dir_all(pair.a.share.join(".left")).unwrap();
    let ended = pair.a.ended();
    assert_eq!(ended.code(), Some(1));
    let log = fs::read_to_string(&pair.a.log).unwrap();
    assert!(log.contains(".left"), "{log}");
    assert!(has_all(&pair));
    fs::remove_file(pair.b.share.join("file-3")).unwrap();
    pair.wait("b knows that it is gone", || pair.b.status()["paths"] == 19);
    pair.a.start();
    // What it knew is lost, and with that that B has had the file and deleted it.
    pair.wait("both have all", || {
        names(&pair.a.share).len() == 20 && has_all(&pair)
    });
    pair.settle();
}

#[test]
fn both_edit_same_is_no_conflict_and_no_transfer() {
    let mut pair = in_sync();
    pair.a.terminate();
    pair.b.terminate();
    for side in [&pair.a, &pair.b] {
        side.write("file-7", b"the same edit");
    }
    pair.a.start();
    pair.b.start();
    pair.settle();
    assert_eq!(names(&pair.a.share).len(), 20, "{:?}", names(&pair.a.share));
    for side in [&pair.a, &pair.b] {
        assert_eq!(side.read("file-7").as_deref(), Some(&b"the same edit"[..]));
        assert_eq!(side.status()["received_bytes"], 0);
        assert!(
            side.events()
                .iter()
                .all(|event| event["event"] != "conflict")
        );
    }
}
