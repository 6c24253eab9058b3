//! `look tree`, `look blocks`, `look parts`, `digest`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::talk::{complaint, said};

fn tree(root: &Path, more: &[&str]) -> Vec<String> {
    let mut args = vec!["look", "tree", root.to_str().unwrap()];
    args.extend(more);
    said(&args)
}

/// The paths of all lines but the last, as they are written.
fn paths(lines: &[String]) -> Vec<&str> {
    lines[..lines.len() - 1]
        .iter()
        .map(|line| line.split('"').nth(3).unwrap())
        .collect()
}

#[test]
fn all_kinds_are_listed_in_order_and_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("b/inside")).unwrap();
    fs::create_dir_all(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/secret"), "s").unwrap();
    fs::write(root.join("b.txt"), "content").unwrap();
    fs::set_permissions(root.join("b.txt"), PermissionsExt::from_mode(0o4751)).unwrap();
    fs::write(root.join(".hidden"), "").unwrap();
    fs::write(root.join("skipped"), "").unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), root.join("out")).unwrap();
    std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(root.join("fifo"))
        .status()
        .unwrap();
    assert!(fifo.success());

    let lines = tree(&root, &["--skip", "skipped"]);
    assert_eq!(
        paths(&lines),
        [
            ".hidden", "b", "b/inside", "b.txt", "fifo", "loop", "out", "socket"
        ]
    );
    let hash = blake3::hash(b"content").to_hex();
    assert!(
        lines[3].contains(&format!("\"mode\":{},", 0o4751)),
        "{}",
        lines[3]
    );
    assert!(
        lines[3].ends_with(&format!("\"size\":7,\"blake3\":\"{hash}\"}}")),
        "{}",
        lines[3]
    );
    assert!(lines[4].contains("\"kind\":\"fifo\""));
    assert!(lines[5].ends_with("\"target\":\"loop\"}"), "{}", lines[5]);
    assert!(lines[7].contains("\"kind\":\"socket\""));
    assert_eq!(
        lines[8],
        "{\"end\":true,\"entries\":8,\"files\":2,\"bytes\":7}"
    );

    let quick = tree(&root, &["--quick"]);
    assert!(
        quick[3].contains("\"ino\":") && quick[3].contains("\"ctime_ns\":"),
        "{}",
        quick[3]
    );
    assert!(!quick[3].contains("blake3"), "{}", quick[3]);
}

#[test]
fn names_are_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        b"\xff\xfe".as_slice(),
        b"quote\" back\\ new\n esc\x1b",
        "e\u{301}\u{e9}".as_bytes(),
        b"-rf *",
    ] {
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
    }
    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(b"to\xff"), dir.path().join("z"))
        .unwrap();
    let lines = tree(dir.path(), &[]);
    assert!(lines[0].starts_with("{\"path\":\"-rf *\""), "{}", lines[0]);
    assert!(
        lines[1].starts_with("{\"path\":\"e\u{301}\u{e9}\""),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].starts_with(r#"{"path":"quote\" back\\ new\n esc\u001b""#),
        "{}",
        lines[2]
    );
    assert!(
        lines[3].ends_with("\"target_hex\":\"746fff\"}"),
        "{}",
        lines[3]
    );
    assert!(
        lines[4].starts_with("{\"path_hex\":\"fffe\""),
        "{}",
        lines[4]
    );
}

/// Makes folders inside each other, deeper than a path may be long.
fn make_deep(root: &Path, depth: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let mut folder = rustix::fs::open(root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..depth {
        mkdirat(&folder, "inside", Mode::RWXU).unwrap();
        let file = openat(&folder, "zz", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        rustix::io::write(&file, level.to_string().as_bytes()).unwrap();
        folder = openat(&folder, "inside", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

#[test]
fn a_tree_deeper_than_any_path_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    make_deep(&root, 1000);
    let lines = tree(&root, &[]);
    let bytes: usize = (0..1000).map(|level: usize| level.to_string().len()).sum();
    assert_eq!(
        lines.last().unwrap(),
        &format!("{{\"end\":true,\"entries\":2000,\"files\":1000,\"bytes\":{bytes}}}")
    );
    assert!(lines.iter().all(|line| !line.contains("problem")));
    // On the way out each file comes with its own content.
    let first = blake3::hash(b"0").to_hex();
    assert!(
        lines[1999].contains("\"path\":\"zz\"") && lines[1999].contains(first.as_str()),
        "{}",
        lines[1999]
    );
}

#[test]
fn a_wide_tree_is_complete_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..5_000 {
        fs::write(dir.path().join(format!("{number}")), number.to_string()).unwrap();
    }
    let lines = tree(dir.path(), &[]);
    assert_eq!(lines.len(), 5_001);
    assert!(paths(&lines).is_sorted());
    for line in &lines[..5_000] {
        let name = line.split('"').nth(3).unwrap();
        assert!(
            line.contains(blake3::hash(name.as_bytes()).to_hex().as_str()),
            "{line}"
        );
    }
}

#[test]
fn one_unreadable_thing_is_a_line_and_not_the_end() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root can read everything");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    fs::write(dir.path().join("g"), "x").unwrap();
    fs::set_permissions(dir.path().join("f"), PermissionsExt::from_mode(0o0)).unwrap();
    fs::set_permissions(dir.path().join("d"), PermissionsExt::from_mode(0o0)).unwrap();
    let lines = tree(dir.path(), &[]);
    fs::set_permissions(dir.path().join("d"), PermissionsExt::from_mode(0o700)).unwrap();
    assert!(lines[0].contains("\"kind\":\"dir\""), "{}", lines[0]);
    assert_eq!(
        lines[1],
        "{\"path\":\"d\",\"problem\":\"permission denied\"}"
    );
    assert_eq!(
        lines[2],
        "{\"path\":\"f\",\"problem\":\"permission denied\"}"
    );
    assert!(lines[3].contains("blake3"), "{}", lines[3]);
}

#[test]
fn a_root_that_is_missing_a_file_or_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("l")).unwrap();
    for (name, why) in [
        ("none", "no such file"),
        ("f", "not a directory"),
        ("l", ""),
    ] {
        let text = complaint(
            1,
            &["look", "tree", dir.path().join(name).to_str().unwrap()],
        );
        assert!(
            text.contains("cannot open folder") && text.contains(why),
            "{text}"
        );
    }
}

#[test]
fn blocks_and_parts_are_described() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".left/parts")).unwrap();
    let part = dir.path().join(".left/parts/7.part");
    fs::write(&part, [1; 2500]).unwrap();
    fs::write(dir.path().join(".left/parts/other"), "").unwrap();
    let lines = said(&["look", "blocks", part.to_str().unwrap(), "--block", "1000"]);
    assert_eq!((lines.len(), lines[0].as_str()), (5, "{\"size\":2500}"));
    assert_eq!(
        lines[3],
        format!(
            "{{\"block\":2,\"blake3\":\"{}\"}}",
            blake3::hash(&[1; 500]).to_hex()
        )
    );
    let root = dir.path().to_str().unwrap();
    let lines = said(&["look", "parts", root, ".left/parts/*.part", "none/*", "*"]);
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with("{\"path\":\".left/parts/7.part\",\"kind\":\"file\",\"size\":2500,"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("{\"path\":\".left\",\"kind\":\"dir\""),
        "{}",
        lines[1]
    );
    let text = complaint(1, &["look", "parts", root, "../*"]);
    assert!(text.contains("is no path below the root"), "{text}");
}

#[test]
fn mistakes_are_exit_code_2_and_name_themselves() {
    for (args, text) in [
        (
            vec!["look", "tree"],
            "left-harness-probe look tree: ROOT is missing",
        ),
        (vec!["dance"], "left-harness-probe dance: no such verb"),
        (vec!["look", "blocks", "x"], "--block is missing"),
        (
            vec!["write", "x", "--seed", "s", "--size", "many", "--temp", "t"],
            "--size many is not a number",
        ),
        (
            vec!["hold", "--dir", "d", "--lease-ms", "0", "--", "x"],
            "--lease-ms is from 1 to 600000",
        ),
        (
            vec!["hold", "--dir", "d", "--lease-ms", "9"],
            "no program is given",
        ),
    ] {
        let said = complaint(2, &args);
        assert!(said.contains(text), "{said}");
    }
    assert!(
        said(&["--help"])
            .iter()
            .any(|line| line.contains("look arrives ROOT"))
    );
}
