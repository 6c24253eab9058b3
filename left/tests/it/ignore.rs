//! What `.leftignore` says is not synchronised: before, later, no more, and when it
//! cannot be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::pair::{Pair, Side, left, names};

const RULES: &str = ".leftignore";

fn is_idle(side: &Side) -> bool {
    side.status()["state"] == "synchronization"
}

/// Waits until so many rules hold on both sides, and both are idle.
fn wait_for_rules(pair: &Pair, count: u64) {
    pair.wait(&format!("{count} rules hold on both sides"), || {
        [&pair.a, &pair.b]
            .iter()
            .all(|side| side.status()["rules"] == count && is_idle(side))
    });
}

/// What is written now has arrived when this has.
fn sync(pair: &Pair, text: &str) {
    for (from, to) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
        let name = format!("sync-{text}-{}", from.address.ip());
        from.write(&name, text.as_bytes());
        pair.wait(&format!("{name} arrived"), || to.read(&name).is_some());
    }
    pair.wait("both sides are idle", || {
        is_idle(&pair.a) && is_idle(&pair.b)
    });
}

fn problem(side: &Side, part: &str) -> bool {
    let problems = side.status()["problems"].clone();
    let mut all = problems.as_array().into_iter().flatten();
    all.any(|problem| {
        problem["text"]
            .as_str()
            .is_some_and(|text| text.contains(part))
    })
}

fn trash(side: &Side) -> usize {
    fs::read_dir(side.share.join(".left/trash"))
        .unwrap()
        .count()
}

#[test]
fn ignore_added_later() {
    let mut pair = Pair::started();
    fs::create_dir_all(pair.a.share.join("build/deep")).unwrap();
    for n in 0..30 {
        pair.a
            .write(format!("build/{n}"), format!("object {n}").as_bytes());
    }
    pair.a.write("build/deep/file", b"deep");
    pair.a.write("source", b"source");
    pair.wait("all arrived", || names(&pair.b.share).len() == 34);
    pair.settle();
    pair.a.write(RULES, b"build/\n");
    wait_for_rules(&pair, 1);
    // Not a word of it is in the index any more.
    pair.wait("it is forgotten", || {
        pair.a.status()["entries"] == 2 && pair.b.status()["entries"] == 2
    });
    // From now on each side has its own.
    fs::remove_dir_all(pair.a.share.join("build/deep")).unwrap();
    fs::remove_file(pair.a.share.join("build/1")).unwrap();
    pair.a.write("build/2", b"new at a");
    pair.b.write("build/3", b"new at b");
    fs::remove_file(pair.b.share.join("build/4")).unwrap();
    sync(&pair, "1");
    for side in [&mut pair.a, &mut pair.b] {
        side.kill();
        side.start();
    }
    sync(&pair, "2");
    assert_eq!(
        pair.b.read("build/deep/file").as_deref(),
        Some(&b"deep"[..])
    );
    assert_eq!(pair.b.read("build/1").as_deref(), Some(&b"object 1"[..]));
    assert_eq!(pair.b.read("build/2").as_deref(), Some(&b"object 2"[..]));
    assert_eq!(pair.a.read("build/3").as_deref(), Some(&b"object 3"[..]));
    assert_eq!(pair.a.read("build/4").as_deref(), Some(&b"object 4"[..]));
    assert_eq!((trash(&pair.a), trash(&pair.b)), (0, 0));
    assert_eq!(pair.a.status()["held"], Value::Null);
}

#[test]
fn ignore_added_while_it_was_down_deletes_nothing() {
    let mut pair = Pair::started();
    fs::create_dir(pair.a.share.join("logs")).unwrap();
    for n in 0..20 {
        pair.a.write(format!("logs/{n}.log"), b"line");
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 21);
    pair.settle();
    pair.a.kill();
    pair.a.write(RULES, b"*.log\n");
    // What is ignored and gone is no deletion either.
    for n in 0..10 {
        fs::remove_file(pair.a.share.join(format!("logs/{n}.log"))).unwrap();
    }
    pair.b.kill();
    pair.a.start();
    pair.b.start();
    wait_for_rules(&pair, 1);
    sync(&pair, "1");
    assert_eq!(fs::read_dir(pair.b.share.join("logs")).unwrap().count(), 20);
    assert_eq!(fs::read_dir(pair.a.share.join("logs")).unwrap().count(), 10);
    assert_eq!(trash(&pair.b), 0);
}

#[test]
fn ignored_from_the_beginning_never_travels() {
    let mut pair = Pair::new();
    pair.a
        .write(RULES, b"# made by tools\n/out/\n*.tmp\n!keep.tmp\n");
    fs::create_dir_all(pair.a.share.join("out")).unwrap();
    fs::create_dir_all(pair.a.share.join("d/out")).unwrap();
    for name in ["out/x", "a.tmp", "keep.tmp", "d/out/x", "d/b.tmp"] {
        pair.a.write(name, b"x");
    }
    pair.b.write("own.tmp", b"of b");
    pair.a.start();
    pair.b.start();
    wait_for_rules(&pair, 3);
    sync(&pair, "1");
    for (name, arrives) in [
        ("out", false),
        ("a.tmp", false),
        ("keep.tmp", true),
        ("d/out/x", true),
        ("d/b.tmp", false),
    ] {
        assert_eq!(pair.b.share.join(name).exists(), arrives, "{name}");
    }
    assert!(!pair.a.share.join("own.tmp").exists());
    // New ones neither.
    pair.a.write("c.tmp", b"x");
    fs::create_dir(pair.b.share.join("out")).unwrap();
    pair.b.write("out/b", b"x");
    sync(&pair, "2");
    assert!(!pair.b.share.join("c.tmp").exists());
    assert!(!pair.a.share.join("out/b").exists());
    let told = left()
        .args(["status", "--share"])
        .arg(&pair.a.share)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("3 rules of .leftignore"), "{told}");
}

#[test]
fn ignored_no_more_is_found_as_new_and_what_is_equal_is_recognised() {
    let pair = Pair::started();
    fs::create_dir(pair.a.share.join("d")).unwrap();
    let large = crate::pair::noise("large", 3 << 20);
    pair.a.write("d/large", &large);
    pair.a.write("d/changed", b"old");
    pair.wait("all arrived", || {
        pair.b.read("d/large").as_ref() == Some(&large)
    });
    pair.settle();
    pair.b.write(RULES, b"d/\n");
    wait_for_rules(&pair, 1);
    pair.a.write("d/of-a", b"only at a");
    pair.b.write("d/of-b", b"only at b");
    pair.b.write("d/changed", b"new at b");
    fs::remove_file(pair.a.share.join("d/changed")).unwrap();
    sync(&pair, "1");
    let received = pair.b.status()["received_bytes"].as_u64().unwrap();
    fs::remove_file(pair.a.share.join(RULES)).unwrap();
    wait_for_rules(&pair, 0);
    pair.settle();
    for side in [&pair.a, &pair.b] {
        assert_eq!(side.read("d/of-a").as_deref(), Some(&b"only at a"[..]));
        assert_eq!(side.read("d/of-b").as_deref(), Some(&b"only at b"[..]));
        assert_eq!(side.read("d/changed").as_deref(), Some(&b"new at b"[..]));
        assert_eq!(side.read("d/large").as_ref(), Some(&large));
        assert!(
            !names(&side.share)
                .iter()
                .any(|name| name.contains("conflict"))
        );
    }
    let received = pair.b.status()["received_bytes"].as_u64().unwrap() - received;
    assert!(received < 1 << 20, "{received} bytes were received again");
}

#[test]
fn a_deleted_folder_that_holds_something_ignored_stays_and_says_so() {
    let pair = Pair::started();
    pair.a.write(RULES, b"*.tmp\n");
    fs::create_dir(pair.a.share.join("d")).unwrap();
    pair.a.write("d/file", b"x");
    pair.wait("it arrived", || pair.b.read("d/file").is_some());
    wait_for_rules(&pair, 1);
    pair.b.write("d/own.tmp", b"of b");
    fs::remove_dir_all(pair.a.share.join("d")).unwrap();
    pair.wait("the folder stays", || {
        problem(&pair.b, "d/own.tmp, and that is ignored here")
    });
    assert!(!pair.b.share.join("d/file").exists());
    assert_eq!(pair.b.read("d/own.tmp").as_deref(), Some(&b"of b"[..]));
    sync(&pair, "1");
    assert!(!pair.a.share.join("d").exists());
    fs::rename(pair.b.share.join("d/own.tmp"), pair.b.share.join("own.tmp")).unwrap();
    pair.wait("it goes", || !pair.b.share.join("d").exists());
    pair.wait("nothing stands in the way", || !problem(&pair.b, "own.tmp"));
}

#[test]
fn a_file_in_the_place_of_a_folder_that_holds_something_ignored_is_a_conflict() {
    let pair = Pair::started();
    pair.a.write(RULES, b"*.tmp\n");
    fs::create_dir(pair.a.share.join("d")).unwrap();
    pair.wait("it arrived", || pair.b.share.join("d").is_dir());
    wait_for_rules(&pair, 1);
    pair.b.write("d/own.tmp", b"of b");
    fs::remove_dir(pair.a.share.join("d")).unwrap();
    pair.a.write("d", b"a file now");
    pair.wait("the folder is back, and the file is a copy", || {
        let copy = names(&pair.b.share)
            .into_iter()
            .find(|name| name.starts_with("d.conflict-"));
        pair.a.share.join("d").is_dir()
            && copy.is_some_and(|copy| pair.b.read(&copy).as_deref() == Some(b"a file now"))
    });
    assert_eq!(pair.b.read("d/own.tmp").as_deref(), Some(&b"of b"[..]));
}

#[test]
fn a_line_that_cannot_be_understood_is_named_and_the_others_hold() {
    let pair = Pair::started();
    pair.a.write(RULES, b"*.tmp\n[oops\n/private\n");
    wait_for_rules(&pair, 2);
    for side in [&pair.a, &pair.b] {
        assert!(problem(side, "line 2 of .leftignore"), "{}", side.status());
    }
    pair.b.write(RULES, b"*.tmp\n/private\n");
    pair.wait("it is mended", || {
        !problem(&pair.a, "line 2") && !problem(&pair.b, "line 2")
    });
}

#[test]
fn rules_that_cannot_be_read_hold_as_they_were() {
    let mut pair = Pair::started();
    pair.a.write(RULES, b"/own\n");
    wait_for_rules(&pair, 1);
    pair.a.write("own", b"of a");
    pair.b.write("own", b"of b");
    let rules = pair.a.share.join(RULES);
    let outside = pair.dir.path().join("outside");
    fs::write(&outside, b"nothing that matters\n").unwrap();
    let hold = |pair: &Pair, round: &str| {
        sync(pair, round);
        assert_eq!(pair.a.read("own").as_deref(), Some(&b"of a"[..]), "{round}");
        assert_eq!(pair.b.read("own").as_deref(), Some(&b"of b"[..]), "{round}");
        assert_eq!(pair.a.status()["rules"], 1, "{round}");
    };
    // A link is not followed, not even after another start.
    fs::remove_file(&rules).unwrap();
    symlink(&outside, &rules).unwrap();
    pair.wait("it is told", || problem(&pair.a, ".leftignore is no file"));
    hold(&pair, "link");
    pair.a.kill();
    pair.a.start();
    pair.wait("it is told", || problem(&pair.a, ".leftignore is no file"));
    hold(&pair, "link-again");
    // Nor is a folder taken for anything.
    fs::remove_file(&rules).unwrap();
    fs::create_dir(&rules).unwrap();
    hold(&pair, "folder");
    fs::remove_dir(&rules).unwrap();
    pair.a.write(RULES, &vec![b'x'; 300 * 1024]);
    pair.wait("it is told", || {
        problem(&pair.a, "longer than 262144 bytes")
    });
    hold(&pair, "long");
    pair.a.write(RULES, b"/own\n");
    pair.wait("it is mended", || !problem(&pair.a, RULES));
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root can read every file");
        return;
    }
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o000)).unwrap();
    pair.a.kill();
    pair.a.start();
    pair.wait("it is told", || problem(&pair.a, "cannot read .leftignore"));
    hold(&pair, "denied");
}

#[test]
fn rules_that_are_removed_and_written_anew_hold_all_the_time() {
    let pair = Pair::started();
    pair.a.write(RULES, b"/own\n");
    wait_for_rules(&pair, 1);
    pair.a.write("own", b"of a");
    for round in 0..5 {
        fs::remove_file(pair.a.share.join(RULES)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        pair.a.write(RULES, format!("# {round}\n/own\n").as_bytes());
        sync(&pair, &round.to_string());
    }
    wait_for_rules(&pair, 1);
    assert!(!pair.b.share.join("own").exists());
}

#[test]
fn rules_in_conflict_are_one_and_the_same_in_the_end() {
    let mut pair = Pair::started();
    pair.a.kill();
    pair.b.kill();
    pair.a.write(RULES, b"/one\n/other\n");
    std::thread::sleep(std::time::Duration::from_millis(20));
    pair.b.write(RULES, b"/two\n");
    pair.a.start();
    pair.b.start();
    pair.settle();
    wait_for_rules(&pair, 1);
    assert_eq!(pair.a.read(RULES).as_deref(), Some(&b"/two\n"[..]));
    let copies = names(&pair.b.share);
    assert!(
        copies
            .iter()
            .any(|name| name.starts_with(".leftignore.conflict-")),
        "{copies:?}"
    );
}
