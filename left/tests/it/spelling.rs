//! Names as they are, to the byte.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::pair::{Pair, names, noise};

/// Makes files of these names at A and answers what B then has; their contents say which
/// is which.
fn arrive(given: &[&[u8]]) -> Pair {
    let pair = Pair::started();
    for name in given {
        pair.a.write(OsStr::from_bytes(name), name);
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == given.len());
    pair.settle();
    for name in given {
        let content = fs::read(pair.b.share.join(OsStr::from_bytes(name))).unwrap();
        assert_eq!(&content, name);
    }
    pair
}

#[test]
fn name_case_only_changes_arrive_exactly() {
    let pair = arrive(&[b"Readme"]);
    let at = |name: &str| pair.a.share.join(name);
    fs::rename(at("Readme"), at("README")).unwrap();
    pair.wait("the new spelling arrived", || {
        names(&pair.b.share) == ["README"]
    });
    pair.settle();
    pair.a.write("readme", b"another one");
    pair.wait("both are there", || {
        names(&pair.b.share) == ["README", "readme"]
    });
    pair.settle();
}

#[test]
fn name_unicode_forms_are_two_files() {
    arrive(&["caf\u{e9}".as_bytes(), "cafe\u{301}".as_bytes()]);
}

#[test]
fn name_non_utf8_is_exact_to_the_byte() {
    let all: Vec<u8> = (128..=255).collect();
    arrive(&[b"\xff\xfe", b"a\x80b", &all, b"%ff", b"\xc3\x28"]);
}

#[test]
fn name_control_characters_are_exact_on_disk_and_escaped_in_what_is_shown() {
    let given: [&[u8]; 5] = [
        b"new\nline",
        b"tab\t\x1b[31mred",
        b"quote\"'\\back",
        "right-to-left\u{202e}txt".as_bytes(),
        b"\x01\x7f",
    ];
    let pair = arrive(&given);
    let escape = pair.a.share.join("pipe\x1b[2J\nname");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &escape,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    pair.wait("the pipe is told of", || {
        pair.a.status()["problems"].to_string().contains("pipe")
    });
    let log = fs::read(&pair.a.log).unwrap();
    let shown = crate::pair::left()
        .arg("status")
        .arg("--share")
        .arg(&pair.a.share)
        .output()
        .unwrap()
        .stdout;
    for text in [log, shown] {
        let bad = text
            .iter()
            .find(|byte| byte.is_ascii_control() && **byte != b'\n');
        assert_eq!(bad, None, "{}", String::from_utf8_lossy(&text));
        assert!(!String::from_utf8_lossy(&text).contains('\u{202e}'));
    }
}

#[test]
fn name_dash_space_dot_are_exact() {
    arrive(&[
        b"-rf",
        b"--help",
        b" leading",
        b"trailing ",
        b"dot.",
        b"~",
        b"~root",
        b"$HOME",
        b"*",
        b"...",
        b"CON",
        b"a:b",
    ]);
}

#[test]
fn name_dotfiles_are_synchronised() {
    let pair = arrive(&[b".hidden", b".left-out", b".lefts"]);
    fs::create_dir_all(pair.b.share.join(".config/.deeper")).unwrap();
    pair.b.write(".config/.deeper/.file", b"x");
    // A folder of the name of our own is only special at the top.
    fs::create_dir(pair.b.share.join(".config/.left")).unwrap();
    pair.b.write(".config/.left/file", b"y");
    pair.wait("they arrived", || names(&pair.a.share).len() == 8);
    pair.settle();
}

#[test]
fn name_both_rename_keeps_all_names_and_sends_next_to_nothing() {
    let mut pair = Pair::started();
    let content = noise("both rename", 500_000);
    pair.a.write("one", &content);
    pair.wait("it is counted", || {
        pair.b.status()["received_bytes"] == 500_000
    });
    pair.settle();
    pair.a.kill();
    pair.b.kill();
    fs::rename(pair.a.share.join("one"), pair.a.share.join("here")).unwrap();
    fs::rename(pair.b.share.join("one"), pair.b.share.join("there")).unwrap();
    pair.a.start();
    pair.b.start();
    pair.wait("both have both", || {
        names(&pair.a.share) == ["here", "there"] && names(&pair.b.share) == ["here", "there"]
    });
    pair.settle();
    for name in ["here", "there"] {
        assert!(pair.b.read(name).as_deref() == Some(&content));
    }
    assert_eq!(pair.a.status()["received_bytes"], 0);
    assert_eq!(pair.b.status()["received_bytes"], 0);
}
