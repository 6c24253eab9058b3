//! Deletions and renames, on one side and against what the other does.

use std::fs;
use std::path::Path;

use crate::pair::{Pair, Side, left, names, noise};

/// Contents of what lies in the trash of a side.
fn trash(side: &Side) -> Vec<Vec<u8>> {
    let all = fs::read_dir(side.share.join(".left/trash")).unwrap();
    let mut contents: Vec<_> = all
        .flatten()
        .map(|entry| fs::read(entry.path()).unwrap())
        .collect();
    contents.sort();
    contents
}

fn conflicts(side: &Side) -> Vec<String> {
    let all = names(&side.share);
    all.into_iter()
        .filter(|name| name.contains("conflict"))
        .collect()
}

#[test]
fn a_deletion_arrives_lies_in_the_trash_and_is_forgotten_by_both() {
    let mut pair = Pair::started();
    pair.a.write("file", b"content");
    pair.a.write("other", b"stays");
    pair.wait("it arrived", || names(&pair.b.share).len() == 2);
    pair.settle();
    fs::remove_file(pair.a.share.join("file")).unwrap();
    pair.wait("it is gone", || !pair.b.share.join("file").exists());
    pair.settle();
    assert_eq!(trash(&pair.b), [b"content"]);
    assert!(trash(&pair.a).is_empty());
    pair.wait("no tombstone is left", || {
        pair.a.status()["entries"] == 1 && pair.b.status()["entries"] == 1
    });
    // And it does not come back.
    for side in [&mut pair.a, &mut pair.b] {
        side.kill();
    }
    pair.a.start();
    pair.b.start();
    pair.settle();
    assert_eq!(names(&pair.a.share), ["other"]);
    // A new file under the old name is a new file.
    pair.b.write("file", b"again");
    pair.wait("it arrived", || {
        pair.a.read("file").as_deref() == Some(b"again")
    });
    pair.settle();
    assert!(conflicts(&pair.a).is_empty());
}

#[test]
fn kind_empty_dir_and_whole_trees_arrive_and_go() {
    let pair = Pair::started();
    pair.a.write("stays", b"x");
    fs::create_dir_all(pair.b.share.join("empty")).unwrap();
    fs::create_dir_all(pair.a.share.join("d/e/f")).unwrap();
    for n in 0..5 {
        pair.a.write(format!("d/e/{n}"), b"x");
        pair.a.write(format!("d/e/f/{n}"), b"y");
    }
    std::os::unix::fs::symlink("nowhere", pair.a.share.join("d/link")).unwrap();
    pair.wait("all arrived", || names(&pair.b.share).len() == 16);
    pair.settle();
    fs::remove_dir_all(pair.b.share.join("d")).unwrap();
    fs::remove_dir(pair.a.share.join("empty")).unwrap();
    pair.wait("it is held back or gone", || {
        names(&pair.a.share) == ["stays"] && names(&pair.b.share) == ["stays"]
    });
    pair.settle();
}

#[test]
fn both_delete_is_simply_gone() {
    let mut pair = Pair::started();
    pair.a.write("file", b"content");
    pair.a.write("other", b"stays");
    pair.wait("it arrived", || names(&pair.b.share).len() == 2);
    pair.settle();
    pair.a.kill();
    pair.b.kill();
    for side in [&mut pair.a, &mut pair.b] {
        fs::remove_file(side.share.join("file")).unwrap();
        side.start();
    }
    pair.settle();
    assert_eq!(names(&pair.b.share), ["other"]);
    pair.wait("no tombstone is left", || {
        pair.a.status()["entries"] == 1 && pair.b.status()["entries"] == 1
    });
}

#[test]
fn both_edit_vs_delete_the_edit_survives() {
    let mut pair = Pair::started();
    pair.a.write("file", b"content");
    pair.wait("it arrived", || pair.b.share.join("file").exists());
    pair.settle();
    pair.a.kill();
    pair.b.kill();
    fs::remove_file(pair.a.share.join("file")).unwrap();
    pair.b.write("file", b"edited");
    pair.a.start();
    pair.b.start();
    pair.wait("the edit arrived", || {
        pair.a.read("file").as_deref() == Some(b"edited")
    });
    pair.settle();
    assert_eq!(names(&pair.b.share), ["file"]);
}

#[test]
fn both_dir_delete_vs_new_child_the_child_and_its_parents_survive() {
    let mut pair = Pair::started();
    fs::create_dir_all(pair.a.share.join("d/e")).unwrap();
    pair.a.write("d/old", b"x");
    pair.a.write("d/e/old", b"y");
    pair.a.write("other", b"z");
    pair.wait("all arrived", || names(&pair.b.share).len() == 5);
    pair.settle();
    pair.a.kill();
    pair.b.kill();
    fs::remove_dir_all(pair.a.share.join("d")).unwrap();
    pair.b.write("d/e/new", b"new");
    pair.a.start();
    pair.b.start();
    pair.wait("the child arrived", || {
        pair.a.read("d/e/new").as_deref() == Some(b"new")
    });
    pair.settle();
    assert_eq!(names(&pair.a.share), ["d", "d/e", "d/e/new", "other"]);
}

#[test]
fn name_rename_sends_no_content() {
    let pair = Pair::started();
    let content = noise("renamed", 3_000_000);
    pair.a.write("zebra", &content);
    pair.wait("it is counted", || {
        pair.b.status()["received_bytes"] == 3_000_000
    });
    pair.settle();
    for (old, new) in [("zebra", "apple"), ("apple", "zoo")] {
        fs::rename(pair.a.share.join(old), pair.a.share.join(new)).unwrap();
        pair.wait("the new name arrived", || {
            pair.b.read(new).as_deref() == Some(&content)
        });
        pair.settle();
        assert_eq!(names(&pair.b.share), [new]);
    }
    // A copy does not either.
    fs::copy(pair.b.share.join("zoo"), pair.b.share.join("copy")).unwrap();
    pair.wait("the copy arrived", || {
        pair.a.read("copy").as_deref() == Some(&content)
    });
    pair.a.write("last", b"x");
    pair.wait("the last file is counted", || {
        pair.b.status()["received_bytes"] == 3_000_001
    });
    assert_eq!(pair.a.status()["received_bytes"], 0);
}

#[test]
fn name_dir_rename_is_metadata_only() {
    let pair = Pair::started();
    fs::create_dir(pair.a.share.join("old")).unwrap();
    let mut total = 0;
    for n in 0..500 {
        let content = noise(&format!("dir rename {n}"), 1000 + n);
        total += content.len();
        pair.a.write(format!("old/{n}"), &content);
    }
    pair.wait("all are counted", || {
        pair.b.status()["received_bytes"] == total
    });
    pair.settle();
    fs::rename(pair.a.share.join("old"), pair.a.share.join("new")).unwrap();
    pair.wait("the new names arrived", || {
        !pair.b.share.join("old").exists() && names(&pair.b.share).len() == 501
    });
    pair.settle();
    assert_eq!(pair.b.status()["held"], serde_json::Value::Null);
    pair.a.write("last", b"x");
    pair.wait("the last file is counted", || {
        pair.b.status()["received_bytes"] == total + 1
    });
}

#[test]
fn swapped_names_and_cycles_come_out_right() {
    let mut pair = Pair::started();
    for name in ["a", "b", "c"] {
        pair.a.write(name, &noise(name, 200_000));
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 3);
    pair.settle();
    pair.a.kill();
    let at = |name: &str| pair.a.share.join(name);
    fs::rename(at("a"), at("t")).unwrap();
    fs::rename(at("b"), at("a")).unwrap();
    fs::rename(at("c"), at("b")).unwrap();
    fs::rename(at("t"), at("c")).unwrap();
    pair.a.start();
    pair.wait("the names arrived", || {
        pair.b.read("a").as_deref() == Some(&noise("b", 200_000))
            && pair.b.read("b").as_deref() == Some(&noise("c", 200_000))
            && pair.b.read("c").as_deref() == Some(&noise("a", 200_000))
    });
    pair.settle();
    assert!(conflicts(&pair.b).is_empty());
}

#[test]
fn a_folder_becomes_a_file_and_a_file_a_folder() {
    let pair = Pair::started();
    fs::create_dir_all(pair.a.share.join("one/deep")).unwrap();
    pair.a.write("one/deep/file", b"x");
    pair.a.write("two", b"y");
    fs::create_dir(pair.a.share.join("three")).unwrap();
    pair.wait("all arrived", || names(&pair.b.share).len() == 5);
    pair.settle();
    let at = |name: &str| pair.a.share.join(name);
    fs::remove_dir_all(at("one")).unwrap();
    fs::write(at("one"), b"a file now").unwrap();
    fs::remove_file(at("two")).unwrap();
    fs::create_dir(at("two")).unwrap();
    fs::write(at("two/in it"), b"z").unwrap();
    fs::remove_dir(at("three")).unwrap();
    std::os::unix::fs::symlink("one", at("three")).unwrap();
    pair.wait("they are what they are", || {
        pair.b.read("one").as_deref() == Some(b"a file now")
            && pair.b.read("two/in it").as_deref() == Some(b"z")
            && fs::read_link(pair.b.share.join("three")).is_ok_and(|to| to == Path::new("one"))
    });
    pair.settle();
    assert!(conflicts(&pair.b).is_empty());
}

#[test]
fn both_create_types_both_survive() {
    let mut pair = Pair::new();
    pair.a.write("name", b"a file");
    fs::create_dir(pair.b.share.join("name")).unwrap();
    pair.b.write("name/child", b"a child");
    pair.a.start();
    pair.b.start();
    pair.wait("both are there", || {
        pair.a.read("name/child").as_deref() == Some(b"a child") && conflicts(&pair.b).len() == 1
    });
    pair.settle();
    let copy = conflicts(&pair.a).remove(0);
    assert_eq!(pair.b.read(&copy).as_deref(), Some(&b"a file"[..]));
}

#[test]
fn a_folder_replaced_there_and_filled_here_both_survive() {
    let mut pair = Pair::started();
    fs::create_dir(pair.a.share.join("name")).unwrap();
    pair.a.write("name/old", b"old");
    pair.wait("all arrived", || names(&pair.b.share).len() == 2);
    pair.settle();
    pair.a.kill();
    pair.b.kill();
    fs::remove_dir_all(pair.a.share.join("name")).unwrap();
    pair.a.write("name", b"a file now");
    pair.b.write("name/new", b"new");
    pair.a.start();
    pair.b.start();
    pair.wait("the child arrived", || {
        pair.a.read("name/new").as_deref() == Some(b"new") && conflicts(&pair.b).len() == 1
    });
    pair.settle();
    let copy = conflicts(&pair.a).remove(0);
    assert_eq!(pair.b.read(&copy).as_deref(), Some(&b"a file now"[..]));
}

#[test]
fn guard_share_emptied_is_held_back_and_putting_it_back_ends_that() {
    let mut pair = Pair::started();
    for n in 0..20 {
        pair.a
            .write(format!("f{n}"), noise(&format!("{n}"), 100).as_slice());
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 20);
    pair.settle();
    let aside = pair.dir.path().join("aside");
    fs::create_dir(&aside).unwrap();
    // In one look.
    pair.a.kill();
    for n in 0..20 {
        fs::rename(
            pair.a.share.join(format!("f{n}")),
            aside.join(format!("f{n}")),
        )
        .unwrap();
    }
    pair.a.start();
    pair.wait("they are held back", || {
        pair.b.status()["held"]["count"] == 20
    });
    assert_eq!(names(&pair.b.share).len(), 20);
    // Other work goes on.
    pair.a.write("new", b"new");
    pair.wait("it arrived", || pair.b.share.join("new").exists());
    assert_eq!(names(&pair.b.share).len(), 21);
    for n in 0..20 {
        fs::rename(
            aside.join(format!("f{n}")),
            pair.a.share.join(format!("f{n}")),
        )
        .unwrap();
    }
    pair.settle();
    pair.wait("nothing is held back", || pair.b.status()["held"].is_null());
    assert_eq!(names(&pair.b.share).len(), 21);
    assert!(trash(&pair.b).is_empty());
}

/// What a command says to a person about a side, and how it ends.
fn said(side: &Side, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = left();
    command.args(arguments).arg("--share").arg(&side.share);
    let out = command.output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (String::from_utf8(text).unwrap(), out.status.code())
}

#[test]
fn guard_legit_mass_delete_exactly_the_confirmed_set_goes() {
    let mut pair = Pair::started();
    for n in 0..12 {
        pair.a
            .write(format!("f{n}"), format!("content {n}").as_bytes());
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 12);
    pair.settle();
    pair.a.kill();
    for n in 0..12 {
        fs::remove_file(pair.a.share.join(format!("f{n}"))).unwrap();
    }
    pair.a.start();
    pair.wait("they are held back", || {
        pair.b.status()["held"]["count"] == 12
    });
    let set = pair.b.status()["held"]["set"].as_str().unwrap().to_owned();
    let (text, code) = said(&pair.b, &["confirm", "00000000"]);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("left status"), "{text}");
    let (text, code) = said(&pair.b, &["status"]);
    assert!(
        code == Some(0) && text.contains(&format!("left confirm {set}")),
        "{text}"
    );
    assert_eq!(names(&pair.b.share).len(), 12);
    let (text, code) = said(&pair.b, &["confirm", &set]);
    assert_eq!(code, Some(0), "{text}");
    pair.wait("they are gone", || names(&pair.b.share).is_empty());
    pair.settle();
    pair.wait("nothing is held back", || pair.b.status()["held"].is_null());
    assert_eq!(trash(&pair.b).len(), 12);
}

#[test]
fn what_was_deleted_can_be_restored_with_and_without_a_daemon() {
    let mut pair = Pair::started();
    fs::create_dir(pair.a.share.join("d")).unwrap();
    for name in ["d/one", "two"] {
        pair.a.write(name, name.as_bytes());
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 3);
    pair.settle();
    fs::remove_dir_all(pair.a.share.join("d")).unwrap();
    fs::remove_file(pair.a.share.join("two")).unwrap();
    pair.wait("they are gone", || names(&pair.b.share).is_empty());
    pair.settle();
    let (text, _) = said(&pair.b, &["restore"]);
    assert!(text.contains("d/one") && text.contains("two"), "{text}");
    let (text, code) = said(&pair.b, &["restore", "nothing"]);
    assert_eq!(code, Some(5), "{text}");
    let (text, code) = said(&pair.b, &["restore", "d/one"]);
    assert_eq!(code, Some(0), "{text}");
    pair.wait("it is on the other side again", || {
        pair.a.read("d/one").as_deref() == Some(b"d/one")
    });
    pair.settle();
    pair.b.terminate();
    pair.b.write("two", b"another");
    let (text, code) = said(&pair.b, &["restore", "two"]);
    assert!(code == Some(5) && text.contains("move it away"), "{text}");
    fs::remove_file(pair.b.share.join("two")).unwrap();
    let (text, code) = said(&pair.b, &["restore", "two"]);
    assert_eq!(code, Some(0), "{text}");
    let (text, _) = said(&pair.b, &["restore", "--json"]);
    assert_eq!(text, "[]\n");
    pair.b.start();
    pair.wait("it is on the other side again", || {
        pair.a.read("two").as_deref() == Some(b"two")
    });
    pair.settle();
}

#[test]
fn conflict_copies_are_listed_with_what_they_are_copies_of() {
    let mut pair = Pair::new();
    fs::create_dir(pair.a.share.join("d")).unwrap();
    fs::create_dir(pair.b.share.join("d")).unwrap();
    pair.a.write("d/x.txt", b"one");
    pair.b.write("d/x.txt", b"two");
    pair.a.start();
    pair.b.start();
    pair.wait("there is a copy", || conflicts(&pair.a).len() == 1);
    pair.settle();
    let (text, code) = said(&pair.a, &["conflicts"]);
    let copy = conflicts(&pair.a).remove(0);
    assert_eq!((text, code), (format!("d/x.txt\n  {copy}\n"), Some(0)));
    let (text, _) = said(&pair.b, &["conflicts", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(all[0]["path"], "d/x.txt");
    assert_eq!(all[0]["copy"], copy);
}
