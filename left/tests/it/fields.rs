//! Content, mode and mtime are three fields: who changes one takes nothing back
//! that the other side did to another.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::pair::{Item, Pair, Side, names, noise};

fn chmod(side: &Side, name: &str, mode: u32) {
    std::fs::set_permissions(side.share.join(name), Permissions::from_mode(mode)).unwrap();
}

fn touch(side: &Side, name: &str, time: SystemTime) {
    let file = File::options().write(true).open(side.share.join(name));
    file.unwrap().set_modified(time).unwrap();
}

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(secs, 123_456_789)
}

/// Both have the same files, and no daemon runs.
fn parted(files: &[&str], content: &[u8]) -> Pair {
    let mut pair = Pair::started();
    for name in files {
        pair.a.write(name, content);
    }
    pair.wait("they arrived", || names(&pair.b.share).len() == files.len());
    pair.settle();
    pair.a.terminate();
    pair.b.terminate();
    pair
}

/// They meet again; what both have then, without a conflict.
fn joined(pair: &mut Pair) -> Vec<Item> {
    pair.a.start();
    pair.b.start();
    let items = pair.settle();
    let conflicts = |side: &Side| {
        let mut events = side.events().into_iter();
        events.any(|event| event["event"] == "conflict")
    };
    assert!(!conflicts(&pair.a) && !conflicts(&pair.b));
    items
}

fn mode(item: &Item) -> u32 {
    item.mode & 0o7777
}

#[test]
fn both_chmod_vs_edit_have_both_in_the_end() {
    let mut pair = parted(&["x", "y"], b"common");
    pair.a.write("x", b"edited by a");
    chmod(&pair.b, "x", 0o600);
    // And the other way round.
    pair.b.write("y", b"edited by b");
    chmod(&pair.a, "y", 0o755);
    let items = joined(&mut pair);
    assert_eq!(pair.b.read("x").unwrap(), b"edited by a");
    assert_eq!(pair.a.read("y").unwrap(), b"edited by b");
    let modes: Vec<_> = items.iter().map(mode).collect();
    assert_eq!(modes, [0o600, 0o755]);
}

#[test]
fn what_lost_its_name_leaves_it_closed_to_others() {
    let mut pair = parted(&["x"], b"common");
    pair.a.write("x", b"later");
    touch(&pair.a, "x", at(2_000));
    pair.b.write("x", b"earlier, and a secret");
    touch(&pair.b, "x", at(1_000));
    chmod(&pair.b, "x", 0o600);
    pair.a.start();
    pair.b.start();
    pair.wait("both have both", || {
        names(&pair.a.share).len() == 2 && names(&pair.b.share).len() == 2
    });
    let items = pair.settle();
    assert_eq!(pair.b.read("x").unwrap(), b"later");
    assert!(items.iter().all(|item| mode(item) == 0o600), "{items:?}");
}

#[test]
fn meta_both_chmod_closes_more_and_makes_no_copy() {
    let mut pair = parted(&["x", "y"], b"common");
    chmod(&pair.a, "x", 0o755);
    chmod(&pair.b, "x", 0o640);
    chmod(&pair.a, "y", 0o600);
    touch(&pair.b, "y", at(5));
    let items = joined(&mut pair);
    let modes: Vec<_> = items.iter().map(mode).collect();
    assert_eq!(modes, [0o640, 0o600]);
    assert_eq!(items[1].mtime, (5, 123_456_789));
}

#[test]
fn a_chmod_does_not_bring_back_what_was_deleted_and_an_edit_does() {
    let mut pair = parted(&["x", "y"], b"common");
    for name in ["x", "y"] {
        std::fs::remove_file(pair.a.share.join(name)).unwrap();
        chmod(&pair.b, name, 0o600);
    }
    pair.b.write("y", b"edited");
    let items = joined(&mut pair);
    assert_eq!(names(&pair.a.share), ["y"]);
    assert_eq!(pair.a.read("y").unwrap(), b"edited");
    assert_eq!(mode(&items[0]), 0o600);
}

#[test]
fn kind_metadata_only_sends_no_content() {
    let pair = Pair::started();
    pair.a.write("file", &noise("metadata", 300_000));
    pair.wait("it is counted", || {
        pair.b.status()["received_bytes"] == 300_000
    });
    pair.settle();
    chmod(&pair.a, "file", 0o600);
    touch(&pair.a, "file", at(1));
    // From the other side at the same time.
    chmod(&pair.b, "file", 0o640);
    let other = pair.b.share.join("file");
    pair.wait("mode and mtime arrived", || {
        let metadata = std::fs::metadata(&other).unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        [0o600, 0o640].contains(&mode) && metadata.modified().unwrap() == at(1)
    });
    pair.settle();
    // Anything that came meanwhile would be counted by the time that this is.
    pair.a.write("last", b"x");
    pair.b.write("other", b"yz");
    pair.wait("the last files are counted", || {
        pair.b.status()["received_bytes"] == 300_001 && pair.a.status()["received_bytes"] == 2
    });
}

#[test]
fn meta_first_join_mtimes_moves_no_content_and_makes_one_of_them() {
    let mut pair = Pair::new();
    for (side, secs) in [(&pair.a, 2_000), (&pair.b, 1_000)] {
        for name in ["x", "y"] {
            side.write(name, &noise("equal", 200_000));
            touch(side, name, at(secs));
        }
    }
    // Of this one each side has something of its own.
    chmod(&pair.b, "y", 0o600);
    let items = joined(&mut pair);
    let both: Vec<_> = items
        .iter()
        .map(|item| (mode(item), item.mtime.0))
        .collect();
    assert_eq!(both, [(mode(&items[0]), 2_000), (0o600, 2_000)]);
    for side in [&pair.a, &pair.b] {
        assert_eq!(side.status()["received_bytes"], 0);
    }
}

#[test]
fn dst_chmod_during_a_transfer_stays_and_the_content_comes() {
    const BYTES: usize = 48 * 1024 * 1024;
    let pair = Pair::started();
    pair.a.write("file", b"first");
    pair.wait("it arrived", || pair.b.share.join("file").exists());
    pair.settle();
    let large = noise("large", BYTES);
    pair.a.write("file", &large);
    let parts = pair.b.share.join(".left/parts");
    pair.wait("its part grows", || {
        std::fs::read_dir(&parts).is_ok_and(|parts| parts.count() > 0)
            || pair
                .b
                .read("file")
                .is_some_and(|bytes| bytes.len() == BYTES)
    });
    chmod(&pair.b, "file", 0o600);
    pair.wait("the content is there", || {
        pair.b.read("file").is_some_and(|bytes| bytes == large)
    });
    let items = pair.settle();
    assert_eq!(items.len(), 1);
    pair.wait("the mode is there", || {
        let of = |side: &Side| std::fs::metadata(side.share.join("file")).unwrap();
        of(&pair.a).permissions().mode() & 0o7777 == 0o600
            && of(&pair.b).permissions().mode() & 0o7777 == 0o600
    });
}
