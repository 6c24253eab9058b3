//! Two shares that meet for the first time, were paired with others, or lost what
//! they knew of each other.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use left::wire::message::{
    HELLO_BYTES_MAX, Have, Hello, Message, PREFACE, Role, read_message, write_message,
};
use serde_json::{Value, json};

use crate::pair::{Pair, Side, left, manifest, names, noise};

/// What a person is told who says this.
fn said(side: &Side, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = left();
    command.args(arguments).arg("--share").arg(&side.share);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

fn problems(side: &Side) -> String {
    side.status()["problems"].to_string()
}

fn share_of(side: &Side) -> String {
    side.status()["share"].as_str().unwrap_or("").to_owned()
}

/// Names of both sides, with contents of one that differ from the other's.
fn fill_differently(pair: &Pair, count: usize) {
    for n in 0..count {
        pair.a
            .write(format!("f{n}"), format!("{n} of a").as_bytes());
        pair.b
            .write(format!("f{n}"), format!("{n} of b").as_bytes());
    }
}

fn contents(root: &Path) -> BTreeSet<Vec<u8>> {
    manifest(root)
        .into_iter()
        .map(|item| item.content)
        .collect()
}

/// Every content that a side had is on both.
fn check_union(pair: &Pair, before: [BTreeSet<Vec<u8>>; 2]) {
    pair.settle();
    let all: BTreeSet<_> = before.into_iter().flatten().collect();
    assert_eq!(contents(&pair.a.share), all);
    assert_eq!(contents(&pair.b.share), all);
}

fn both_contents(pair: &Pair) -> [BTreeSet<Vec<u8>>; 2] {
    [&pair.a, &pair.b].map(|side| contents(&side.share))
}

fn lose_index(side: &mut Side) {
    side.terminate();
    fs::remove_file(side.share.join(".left/index")).unwrap();
}

fn count(side: &Side, event: &str) -> usize {
    let all = side.events();
    all.iter().filter(|found| found["event"] == event).count()
}

/// Two pairs in sync, of which the first sides are each other's peers from now on.
fn two_shares() -> (Pair, [Pair; 2]) {
    let mut pairs = [Pair::started(), Pair::started()];
    for (pair, name) in pairs.iter_mut().zip(["one", "other"]) {
        pair.a.write(name, name.as_bytes());
        pair.wait("it arrived", || pair.b.share.join(name).exists());
        pair.settle();
        pair.a.terminate();
        pair.b.terminate();
    }
    let mut met = Pair::new();
    for (side, pair) in [&mut met.a, &mut met.b].into_iter().zip(&mut pairs) {
        std::mem::swap(side, &mut pair.a);
    }
    (met.a.peer, met.b.peer) = (met.b.address, met.a.address);
    (met, pairs)
}

#[test]
fn guard_two_shares_that_were_paired_with_others_are_refused_until_one_forgets() {
    let (mut met, _others) = two_shares();
    let before = [&met.a, &met.b].map(|side| (manifest(&side.share), count(side, "peer-up")));
    met.a.start();
    met.b.start();
    met.wait("both say so", || {
        [&met.a, &met.b]
            .iter()
            .all(|side| problems(side).contains("left forget-peer"))
    });
    let ids = [&met.a, &met.b].map(share_of);
    assert_ne!(ids[0], ids[1]);
    for side in [&met.a, &met.b] {
        let told = problems(side);
        assert!(ids.iter().all(|id| told.contains(&id[..8])), "{told}");
        let (text, code) = said(side, &["join", "--yes"]);
        assert_eq!(code, Some(5), "{text}");
        assert!(text.contains("left forget-peer"), "{text}");
    }
    // What a side knows of the other is its share's name and no more.
    let still = [&met.a, &met.b].map(|side| (manifest(&side.share), count(side, "peer-up")));
    assert_eq!(before, still);
    for side in [&met.a, &met.b] {
        let log = fs::read_to_string(&side.log).unwrap();
        assert_eq!(log.matches("were paired with others").count(), 1, "{log}");
    }

    let (text, code) = said(&met.a, &["forget-peer"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("nothing is deleted"), "{text}");
    met.wait("both have both", || {
        names(&met.a.share) == ["one", "other"] && names(&met.b.share) == ["one", "other"]
    });
    met.settle();
    assert_eq!(
        [&met.a, &met.b].map(share_of),
        [&ids[1]; 2].map(String::clone)
    );
    assert_eq!(problems(&met.a), "[]");
    assert_eq!(problems(&met.b), "[]");
}

#[test]
fn guard_two_shares_a_stranger_hears_no_name_of_a_file() {
    let mut pair = Pair::started();
    pair.a.write("secret", b"content");
    pair.wait("it arrived", || pair.b.share.join("secret").exists());
    pair.settle();
    pair.b.terminate();
    let hello = Hello {
        role: Role::Info,
        replica: 1,
        instance: 2,
        epoch: 3,
        run: 4,
        token: 5,
        share: 6,
        have: Have {
            replica: 0,
            epoch: 0,
            run: 0,
            upto: 0,
            joined: false,
        },
    };
    let mut bytes = PREFACE.to_vec();
    write_message(&mut bytes, &Message::Hello(hello)).unwrap();
    let mut stream = left::wire::socket::dial(pair.a.address, pair.b.address.ip()).unwrap();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    let mut rest = heard.strip_prefix(&PREFACE).unwrap();
    let answer = read_message(&mut rest, HELLO_BYTES_MAX).unwrap();
    assert!(matches!(answer, Message::Hello(_)), "{answer:?}");
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(rest));
    pair.wait("it is told", || {
        problems(&pair.a).contains("left forget-peer")
    });
    // Its own peer still gets in.
    pair.b.start();
    pair.settle();
    assert_eq!(problems(&pair.a), "[]");
}

#[test]
fn guard_two_shares_one_can_forget_while_no_left_runs() {
    let (mut met, _others) = two_shares();
    let (text, code) = said(&met.b, &["join", "--yes"]);
    assert_eq!(code, Some(5), "{text}");
    let (text, code) = said(&met.b, &["forget-peer"]);
    assert_eq!(code, Some(0), "{text}");
    met.a.start();
    met.b.start();
    met.wait("both have both", || {
        names(&met.a.share) == ["one", "other"] && names(&met.b.share) == ["one", "other"]
    });
    met.settle();
}

#[test]
fn join_two_full_shares_stops_and_asks_when_much_differs() {
    let mut pair = Pair::new();
    fill_differently(&pair, 101);
    for side in [&pair.a, &pair.b] {
        side.write("same", &noise("same", 300_000));
    }
    pair.a.write("only a 1", b"only a 1");
    pair.a.write("only a 2", b"only a 2");
    pair.b.write("only b", b"only b");
    let trees = [&pair.a, &pair.b].map(|side| manifest(&side.share));
    let before = both_contents(&pair);
    let at_a = json!({"only_here": 2, "only_there": 1, "differ": 101});
    let at_b = json!({"only_here": 1, "only_there": 2, "differ": 101});
    pair.a.start();
    pair.b.start();
    let both_ask = |pair: &Pair| {
        pair.wait("both ask", || {
            let asks = |side: &Side, counts: &Value| {
                let status = side.status();
                status["join"] == *counts && status["state"] == "information exchange"
            };
            asks(&pair.a, &at_a) && asks(&pair.b, &at_b)
        });
        for side in [&pair.a, &pair.b] {
            assert!(problems(side).contains("left join --yes"));
            assert_eq!(side.status()["share"], Value::Null);
            assert_eq!(side.status()["received_bytes"], 0);
        }
        let now = [&pair.a, &pair.b].map(|side| manifest(&side.share));
        assert_eq!(now, trees);
    };
    both_ask(&pair);
    assert_eq!(count(&pair.a, "join-asked"), 1);
    // Whoever starts again is asked again.
    pair.a.kill();
    pair.a.start();
    both_ask(&pair);
    pair.b.terminate();
    pair.b.start();
    both_ask(&pair);

    let (text, code) = said(&pair.b, &["join"]);
    assert_eq!(code, Some(0), "{text}");
    for words in ["only here: 1,", "only at the peer: 2,", "different: 101"] {
        assert!(text.contains(words), "{text}");
    }
    both_ask(&pair);
    let (text, code) = said(&pair.b, &["join", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    check_union(&pair, before);
    assert_eq!(names(&pair.a.share).len(), 2 * 101 + 1 + 2 + 1);
    assert_eq!(share_of(&pair.a), share_of(&pair.b));
    for side in [&pair.a, &pair.b] {
        let received = side.status()["received_bytes"].as_u64().unwrap();
        assert!(received < 300_000, "what both had was sent: {received}");
        assert_eq!(side.status()["join"], Value::Null);
        assert_eq!(problems(side), "[]");
    }
    // Once is enough.
    pair.a.terminate();
    pair.a.start();
    pair.settle();
    let (text, code) = said(&pair.a, &["join"]);
    assert_eq!(code, Some(0));
    assert!(text.contains(&share_of(&pair.a)[..8]), "{text}");
}

#[test]
fn join_two_full_shares_is_a_union_at_once_when_little_differs() {
    let mut pair = Pair::new();
    fill_differently(&pair, 100);
    for side in [&pair.a, &pair.b] {
        fs::create_dir(side.share.join("d")).unwrap();
        side.write("d/same", &noise("same", 300_000));
    }
    pair.a.write("only a", b"only a");
    let before = both_contents(&pair);
    pair.a.start();
    pair.b.start();
    check_union(&pair, before);
    assert_eq!(names(&pair.a.share).len(), 2 * 100 + 2 + 1);
    assert_eq!(count(&pair.a, "join-asked"), 0);
    assert_eq!(count(&pair.a, "joined"), 1);
    assert_eq!(count(&pair.b, "joined"), 1);
}

#[test]
fn meta_first_join_mtimes_nothing_travels_and_one_mtime_is_left() {
    let mut pair = Pair::new();
    for side in [&pair.a, &pair.b] {
        for n in 0..150 {
            let path = side.write(format!("f{n}"), &noise(&format!("{n}"), 1000));
            let secs = if side.address == pair.a.address {
                1_000
            } else {
                2_000 + n
            };
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
    }
    pair.a.start();
    pair.b.start();
    pair.settle();
    assert_eq!(names(&pair.a.share).len(), 150);
    for side in [&pair.a, &pair.b] {
        assert_eq!(side.status()["received_bytes"], 0);
    }
    let seconds: Vec<_> = manifest(&pair.a.share)
        .iter()
        .map(|item| item.mtime.0)
        .collect();
    assert!(
        seconds.iter().all(|secs| (2_000..2_150).contains(secs)),
        "{seconds:?}"
    );
}

#[test]
fn guard_new_empty_peer_is_filled_and_nothing_is_deleted() {
    let mut pair = Pair::started();
    for n in 0..30 {
        pair.a.write(format!("f{n}"), format!("{n}").as_bytes());
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 30);
    pair.settle();
    let share = share_of(&pair.a);
    pair.b.terminate();
    // What the old peer never heard of.
    fs::remove_file(pair.a.share.join("f0")).unwrap();
    pair.b.share = pair.dir.path().join("new");
    fs::create_dir(&pair.b.share).unwrap();
    pair.b.start();
    pair.wait("it is filled", || names(&pair.b.share).len() == 29);
    pair.settle();
    assert_eq!(names(&pair.a.share).len(), 29);
    assert_eq!(
        [&pair.a, &pair.b].map(share_of),
        [&share; 2].map(String::clone)
    );
}

/// In sync, with equal contents of some size.
fn in_sync() -> Pair {
    let pair = Pair::started();
    for n in 0..120 {
        pair.a
            .write(format!("f{n}"), &noise(&format!("{n}"), 3_000));
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 120);
    pair.settle();
    pair
}

/// What was in sync is known to be, and what was changed or deleted alone is kept.
fn check_recognised(pair: &mut Pair) {
    fs::remove_file(pair.b.share.join("f0")).unwrap();
    pair.a.write("f1", b"edited");
    pair.b.write("new", b"new");
    let before = both_contents(pair);
    pair.a.start();
    pair.b.start();
    check_union(pair, before);
    let paths = names(&pair.a.share);
    assert_eq!(paths.len(), 120 + 1 + 1, "{paths:?}");
    for side in [&pair.a, &pair.b] {
        let received = side.status()["received_bytes"].as_u64().unwrap();
        assert!(received <= 2 * 3_000 + 100, "{received}");
        assert!(!share_of(side).is_empty());
    }
    assert_eq!(share_of(&pair.a), share_of(&pair.b));
}

#[test]
fn guard_index_deleted_one_equal_content_is_recognised_and_nothing_deleted() {
    let mut pair = in_sync();
    let share = share_of(&pair.a);
    pair.a.terminate();
    lose_index(&mut pair.b);
    check_recognised(&mut pair);
    assert_eq!(share_of(&pair.b), share, "it is the same share");
}

#[test]
fn guard_index_deleted_both_equal_content_is_recognised_and_nothing_deleted() {
    let mut pair = in_sync();
    lose_index(&mut pair.a);
    lose_index(&mut pair.b);
    check_recognised(&mut pair);
}

#[test]
fn guard_index_deleted_one_asks_as_well_when_much_differs() {
    let mut pair = in_sync();
    pair.a.terminate();
    lose_index(&mut pair.b);
    for n in 0..101 {
        pair.a
            .write(format!("f{n}"), format!("{n} edited").as_bytes());
    }
    let before = both_contents(&pair);
    pair.a.start();
    pair.b.start();
    pair.wait("both ask", || {
        [&pair.a, &pair.b]
            .iter()
            .all(|side| side.status()["join"]["differ"] == 101)
    });
    assert_eq!(both_contents(&pair), before);
    let (text, code) = said(&pair.a, &["join", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    check_union(&pair, before);
}

#[test]
fn guard_long_offline_deletions_are_still_right() {
    let mut pair = Pair::started();
    for n in 0..12 {
        pair.a.write(format!("f{n}"), format!("{n}").as_bytes());
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 12);
    pair.settle();
    pair.b.terminate();
    // Each side goes on by itself, and starts again, for long.
    for n in 0..4 {
        fs::remove_file(pair.a.share.join(format!("f{n}"))).unwrap();
        pair.a.write("counter", format!("{n}").as_bytes());
        pair.a.terminate();
        pair.a.start();
        pair.wait("it is found", || {
            let status = pair.a.status();
            status["state"] == "peer detection" && status["entries"] == 13
        });
    }
    pair.a.terminate();
    for n in 4..7 {
        fs::remove_file(pair.b.share.join(format!("f{n}"))).unwrap();
        pair.b.start();
        pair.wait("it looked", || pair.b.status()["state"] == "peer detection");
        pair.b.terminate();
    }
    pair.a.start();
    pair.b.start();
    let expected = ["counter", "f10", "f11", "f7", "f8", "f9"];
    pair.wait("deletions of both are followed", || {
        names(&pair.a.share) == expected && names(&pair.b.share) == expected
    });
    pair.settle();
    pair.wait("no tombstone is left", || {
        pair.a.status()["entries"] == 6 && pair.b.status()["entries"] == 6
    });
}

#[test]
fn what_was_deleted_before_the_peer_was_forgotten_deletes_nothing() {
    let mut pair = Pair::started();
    for name in ["a deletes", "b deletes", "stays"] {
        pair.a.write(name, name.as_bytes());
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 3);
    pair.settle();
    pair.b.terminate();
    fs::remove_file(pair.a.share.join("a deletes")).unwrap();
    pair.a.terminate();
    pair.a.start();
    pair.wait("it is found", || {
        pair.a.status()["state"] == "peer detection"
    });
    let replica = pair.a.status()["replica"].clone();
    let (text, code) = said(&pair.a, &["forget-peer"]);
    assert_eq!(code, Some(0), "{text}");
    pair.wait("it has begun again", || {
        let status = pair.a.status();
        status["state"] == "peer detection" && status["replica"] != replica
    });
    assert_eq!(pair.a.status()["share"], Value::Null);
    fs::remove_file(pair.b.share.join("b deletes")).unwrap();
    pair.b.start();
    pair.wait("both have all", || {
        names(&pair.a.share).len() == 3 && names(&pair.b.share).len() == 3
    });
    pair.settle();
    // And what is deleted from now on goes.
    fs::remove_file(pair.a.share.join("a deletes")).unwrap();
    pair.wait("it is gone", || {
        names(&pair.b.share) == ["b deletes", "stays"]
    });
    pair.settle();
}
