//! A state folder that is older than what the peer heard of it, or lies where it
//! did not: nothing is lost, and no change is taken for another one.

use std::path::Path;

use crate::pair::{Pair, Side};

/// Copies a folder with all in it, as `cp -a` does.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Puts back what is in a folder, in the place where it was.
fn put_back(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(to).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => std::fs::remove_dir_all(entry.path()).unwrap(),
            false => std::fs::remove_file(entry.path()).unwrap(),
        }
    }
    copy(from, to);
}

fn replica(side: &Side) -> String {
    side.status()["replica"].as_str().unwrap_or("").to_owned()
}

fn is_there(side: &Side, content: &[u8]) -> bool {
    let files = std::fs::read_dir(&side.share).unwrap().flatten();
    let mut contents = files.filter_map(|file| std::fs::read(file.path()).ok());
    contents.any(|found| found == content)
}

/// Both have the same, and each of these contents somewhere.
fn check(pair: &Pair, contents: &[&str]) {
    pair.settle();
    for content in contents {
        assert!(is_there(&pair.a, content.as_bytes()), "{content} is lost");
    }
}

/// In sync, with a copy of the state of A and of its share, then some changes more
/// at A, which B took.
fn copied_then_changed() -> (Pair, std::path::PathBuf) {
    let mut pair = Pair::started();
    pair.a.write("x", b"x first");
    pair.a.write("stays", b"stays");
    pair.settle();
    pair.a.terminate();
    let aside = pair.dir.path().join("aside");
    copy(&pair.a.share, &aside);
    pair.a.start();
    pair.a.write("x", b"x second");
    pair.a.write("y", b"y of the lost past");
    pair.a.write("z", b"z of the lost past");
    pair.wait("B has it all", || {
        pair.b.read("x").as_deref() == Some(b"x second")
            && pair.b.read("y").is_some()
            && pair.b.read("z").is_some()
    });
    pair.settle();
    (pair, aside)
}

#[test]
fn guard_state_copied_aside_and_put_back_loses_nothing() {
    let (mut pair, aside) = copied_then_changed();
    let before = replica(&pair.a);
    pair.a.terminate();
    // The share is as it was, only the state is of yesterday, and in a new folder.
    let state = pair.a.share.join(".left");
    std::fs::rename(&state, pair.dir.path().join("newer")).unwrap();
    copy(&aside.join(".left"), &state);
    pair.a.write("y", b"y after it");
    pair.a.write("new", b"new after it");
    pair.a.start();
    pair.wait("A has a new id", || {
        let now = replica(&pair.a);
        !now.is_empty() && now != before
    });
    let contents = ["x second", "y after it", "new after it", "stays"];
    check(&pair, &contents);
    // What both have alike is no conflict.
    assert_eq!(pair.a.read("x").as_deref(), Some(&b"x second"[..]));
    let log = std::fs::read_to_string(&pair.a.log).unwrap();
    assert_eq!(
        log.matches("the state folder was copied").count(),
        1,
        "{log}"
    );
    let renewed = replica(&pair.a);
    pair.a.terminate();
    pair.a.start();
    pair.settle();
    assert_eq!(replica(&pair.a), renewed, "once is enough");
}

#[test]
fn guard_state_copied_to_the_other_machine_is_another_replica() {
    let mut pair = Pair::new();
    pair.a.start();
    pair.a.write("file", b"content");
    pair.wait("A knows its file", || pair.a.status()["entries"] == 1);
    pair.a.terminate();
    // As a cloned disk: the share with all that is in it.
    copy(&pair.a.share, &pair.b.share);
    pair.b.write("more", b"of the clone");
    pair.a.write("else", b"of the original");
    pair.a.start();
    pair.b.start();
    check(&pair, &["content", "of the clone", "of the original"]);
    assert_ne!(replica(&pair.a), replica(&pair.b));
}

#[test]
fn guard_state_rolled_back_with_its_share_gets_back_what_the_peer_has() {
    let (mut pair, aside) = copied_then_changed();
    let before = replica(&pair.a);
    pair.a.terminate();
    // The folders stay the same ones, as on a disk that is rolled back.
    let state = pair.a.share.join(".left");
    for name in ["x", "y", "z"] {
        let _ = std::fs::remove_file(pair.a.share.join(name));
    }
    std::fs::copy(aside.join("x"), pair.a.share.join("x")).unwrap();
    put_back(&aside.join(".left"), &state);
    // As many numbers as were lost, and more, before the peer can say a word.
    pair.b.terminate();
    pair.a.start();
    for name in ["y", "k", "l", "m", "n"] {
        pair.a.write(name, format!("{name} after it").as_bytes());
    }
    pair.wait("A has counted them", || pair.a.status()["entries"] == 7);
    assert_eq!(replica(&pair.a), before, "it cannot know yet");
    pair.b.start();
    pair.wait("A has a new id", || {
        let now = replica(&pair.a);
        !now.is_empty() && now != before
    });
    let contents = [
        "x second",
        "y of the lost past",
        "z of the lost past",
        "y after it",
        "k after it",
        "n after it",
        "stays",
    ];
    check(&pair, &contents);
    let log = std::fs::read_to_string(&pair.a.log).unwrap();
    assert_eq!(
        log.matches("older than what the peer heard").count(),
        1,
        "{log}"
    );
}
