//! What appears or changes on one side is soon on the other.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, UNIX_EPOCH};

use crate::pair::{Pair, names, noise};

#[test]
fn files_go_both_ways_whatever_they_are() {
    let pair = Pair::started();
    let (a, b) = (&pair.a, &pair.b);
    a.write("from-a", b"hello");
    b.write("from-b", b"there");
    a.write("empty", b"");
    a.write(".hidden", b"dot");
    a.write(OsStr::from_bytes(b"not-\xff\xfe-utf8"), b"bytes");
    b.write("line\nbreak \x1b[31m\"quoted\" 100%", b"control");
    std::fs::create_dir_all(a.share.join("d/empty folder/deeper")).unwrap();
    b.write("-rf", b"dash");
    symlink("nowhere", a.share.join("dangling")).unwrap();
    symlink("/etc/passwd", b.share.join("absolute")).unwrap();
    symlink("../..", a.share.join("upwards")).unwrap();
    let script = a.write("script", b"#!/bin/sh\n");
    std::fs::set_permissions(&script, Permissions::from_mode(0o751)).unwrap();
    let old = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    File::options()
        .write(true)
        .open(&script)
        .unwrap()
        .set_modified(old)
        .unwrap();
    pair.wait("all are on both sides", || {
        names(&a.share).len() == 14 && names(&b.share).len() == 14
    });
    pair.settle();
    assert_eq!(b.read("from-a").unwrap(), b"hello");
    assert_eq!(a.read("from-b").unwrap(), b"there");
    let parts = std::fs::read_dir(b.share.join(".left/parts"))
        .unwrap()
        .count();
    assert_eq!(parts, 0, "no part is left over");
}

#[test]
fn a_changed_file_and_only_its_change_arrives() {
    let pair = Pair::started();
    pair.a.write("file", b"first");
    pair.wait("it arrived", || {
        pair.b.read("file").as_deref() == Some(b"first")
    });
    pair.settle();
    pair.b.write("file", b"second");
    pair.wait("the change came back", || {
        pair.a.read("file").as_deref() == Some(b"second")
    });
    pair.settle();
    // The same length again, as an editor does it.
    pair.a.write("new", b"third!");
    std::fs::rename(pair.a.share.join("new"), pair.a.share.join("file")).unwrap();
    pair.wait("the rename arrived", || {
        pair.b.read("file").as_deref() == Some(b"third!")
    });
    assert!(
        !names(&pair.b.share)
            .iter()
            .any(|name| name.contains("conflict"))
    );
}

#[test]
fn metadata_alone_sends_no_content() {
    let pair = Pair::started();
    let path = pair.a.write("file", &noise("metadata", 300_000));
    pair.wait("it arrived", || pair.b.share.join("file").exists());
    pair.settle();
    pair.wait("it is counted", || {
        pair.b.status()["received_bytes"] == 300_000
    });
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let old = UNIX_EPOCH + Duration::new(1, 1);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let other = pair.b.share.join("file");
    pair.wait("mode and mtime arrived", || {
        let metadata = std::fs::metadata(&other).unwrap();
        metadata.permissions().mode() & 0o777 == 0o600 && metadata.modified().unwrap() == old
    });
    pair.settle();
    // Anything that came meanwhile would be counted by the time that this is.
    pair.a.write("last", b"x");
    pair.wait("the last file is counted", || {
        pair.b.status()["received_bytes"] == 300_001
    });
}

#[test]
fn kind_block_edges_are_exact() {
    const BLOCK: usize = 128 * 1024;
    let pair = Pair::started();
    for size in [
        1,
        1023,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        2 * BLOCK,
        3 * BLOCK - 1,
        7 * BLOCK + 1,
    ] {
        pair.a.write(format!("size-{size}"), &noise("edges", size));
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 8);
    pair.settle();
}

#[test]
fn both_edit_differently_keeps_both_under_one_rule() {
    let mut pair = Pair::started();
    pair.a.write("notes.txt", b"common");
    pair.wait("it arrived", || pair.b.share.join("notes.txt").exists());
    pair.settle();
    pair.a.terminate();
    pair.b.terminate();
    let at = |side: &crate::pair::Side, text: &[u8], secs| {
        let path = side.write("notes.txt", text);
        let time = UNIX_EPOCH + Duration::from_secs(secs);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    at(&pair.a, b"earlier, of a", 1_000);
    at(&pair.b, b"later, of b", 2_000);
    pair.a.start();
    pair.b.start();
    pair.wait("both have both", || {
        names(&pair.a.share).len() == 2 && names(&pair.b.share).len() == 2
    });
    pair.settle();
    assert_eq!(pair.a.read("notes.txt").unwrap(), b"later, of b");
    let copy = names(&pair.b.share)
        .into_iter()
        .find(|name| name.contains("conflict"))
        .unwrap();
    assert!(
        copy.starts_with("notes.conflict-") && copy.ends_with(".txt"),
        "{copy}"
    );
    assert_eq!(pair.b.read(&copy).unwrap(), b"earlier, of a");
    assert!(
        pair.a
            .events()
            .iter()
            .any(|event| event["event"] == "conflict" && event["path"] == "notes.txt")
    );
}

#[test]
fn a_folder_wins_the_name_against_a_file_and_both_stay() {
    let mut pair = Pair::new();
    pair.a.write("thing", b"a file");
    std::fs::create_dir(pair.b.share.join("thing")).unwrap();
    pair.b.write("thing/inside", b"in a folder");
    pair.a.start();
    pair.b.start();
    pair.wait("both have all three", || {
        names(&pair.a.share).len() == 3 && names(&pair.b.share).len() == 3
    });
    pair.settle();
    assert_eq!(pair.a.read("thing/inside").unwrap(), b"in a folder");
}

#[test]
fn a_file_that_becomes_a_folder_and_a_link_that_becomes_a_file_arrive() {
    let pair = Pair::started();
    pair.a.write("thing", b"a file");
    symlink("x", pair.a.share.join("link")).unwrap();
    pair.wait("they arrived", || names(&pair.b.share).len() == 2);
    pair.settle();
    let staged = pair.dir.path().join("staged");
    std::fs::create_dir(&staged).unwrap();
    std::fs::write(staged.join("inside"), b"in a folder").unwrap();
    std::fs::remove_file(pair.a.share.join("thing")).unwrap();
    std::fs::rename(&staged, pair.a.share.join("thing")).unwrap();
    std::fs::remove_file(pair.a.share.join("link")).unwrap();
    pair.a.write("link", b"a file now");
    pair.wait("the new kinds arrived", || {
        pair.b.read("thing/inside").is_some()
            && pair.b.read("link").as_deref() == Some(b"a file now")
    });
    pair.settle();
    assert_eq!(names(&pair.b.share), ["link", "thing", "thing/inside"]);
}

#[test]
fn what_cannot_be_read_is_told_and_others_go_on() {
    let pair = Pair::started();
    pair.a.write("readable", b"content");
    let path = pair.a.write("secret", b"content");
    std::fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        println!("skipped: this user (root) can read every file");
        return;
    }
    pair.wait("the other one arrived", || {
        pair.b.share.join("readable").exists()
    });
    pair.wait("the problem is told", || {
        pair.a.status()["problems"].to_string().contains("secret")
    });
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    pair.wait("it arrived too", || pair.b.share.join("secret").exists());
    pair.wait("the problem is over", || {
        pair.a.status()["problems"] == serde_json::json!([])
    });
}

#[test]
fn many_equal_and_empty_files_arrive() {
    let pair = Pair::started();
    for n in 0..200 {
        pair.a.write(format!("equal-{n}"), b"the same everywhere");
        pair.a.write(format!("empty-{n}"), b"");
    }
    pair.a.write("large-1", &noise("equal", 400_000));
    pair.a.write("large-2", &noise("equal", 400_000));
    pair.wait("all arrived", || names(&pair.b.share).len() == 402);
    pair.settle();
}

#[test]
fn a_lost_index_is_built_again_and_nothing_is_sent() {
    let mut pair = Pair::started();
    for n in 0..20 {
        pair.a
            .write(format!("f{n}"), &noise(&format!("index {n}"), 10_000));
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 20);
    let before = pair.settle();
    pair.b.terminate();
    std::fs::remove_file(pair.b.share.join(".left/index")).unwrap();
    pair.b.start();
    pair.wait("they met again", || {
        pair.b.status()["state"] == "synchronization"
    });
    assert_eq!(pair.settle(), before);
    assert_eq!(pair.b.status()["received_bytes"], 0);
    assert!(
        pair.a
            .events()
            .iter()
            .all(|event| event["event"] != "conflict")
    );
}

#[test]
fn a_thousand_small_files_and_a_deep_folder_arrive() {
    let pair = Pair::started();
    let staging = pair.dir.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    for n in 0..1000 {
        std::fs::write(
            staging.join(format!("f{n}")),
            noise(&format!("small {n}"), 700),
        )
        .unwrap();
    }
    std::fs::create_dir_all(staging.join("d/".repeat(400))).unwrap();
    std::fs::rename(&staging, pair.a.share.join("many")).unwrap();
    pair.wait("all arrived", || names(&pair.b.share).len() == 1401);
    pair.settle();
}
