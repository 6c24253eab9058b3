//! Trouble with storage as the kernel makes it: named in the status with its
//! reason and what mends it, over by itself when it is mended, and no matter for
//! other files.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::pair::{Pair, Side, noise};

/// Whom root becomes for a daemon that is to be an ordinary user's.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts a side as an ordinary user, whom modes bind. `false` where that cannot
/// be.
fn start_as_ordinary_user(pair: &mut Pair) -> bool {
    if !is_root() {
        pair.a.start();
        return true;
    }
    let dir = pair.dir.path().to_owned();
    let drop_to = |command: &mut Command| {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    };
    let program = pair.a.command().get_program().to_owned();
    let mut probe = Command::new("setpriv");
    drop_to(&mut probe);
    probe.arg(&program).arg("--version").stdout(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: root cannot become an ordinary user here who may run {program:?}");
        return false;
    }
    for path in [&dir, &pair.a.share] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let left = pair.a.command();
    let mut command = Command::new("setpriv");
    drop_to(&mut command);
    command.arg(left.get_program()).args(left.get_args());
    pair.a.start_by(command);
    true
}

/// Makes something that the tests made the daemon's.
fn give(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What `left status --json` says.
pub fn told(side: &Side) -> Value {
    let output = crate::pair::left()
        .args(["status", "--json", "--share"])
        .arg(&side.share)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The problem of a path, as the status tells it.
fn problem(side: &Side, path: &str) -> String {
    let status = told(side);
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let found = problems.iter().find(|problem| problem["path"] == path);
    found.map_or(String::new(), |problem| problem["text"].to_string())
}

/// Starts a side whose share is a small file system of its own, in a namespace
/// that only its daemon sees; from then on `side.share` is the way in. `false`
/// where that cannot be.
fn start_on_small_disk(side: &mut Side, options: &str) -> bool {
    let apart = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(&side.share).arg(options);
        command
    };
    let mount = "mount -t tmpfs -o \"$1\" tmpfs \"$0\"";
    let tried = apart(mount).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: nothing can be mounted here, not even in a namespace");
        return false;
    }
    let mut command = apart(&format!("{mount} && shift && exec \"$@\""));
    let left = side.command();
    command.arg(left.get_program()).args(left.get_args());
    side.start_by(command);
    let inside = side.share.strip_prefix("/").unwrap().to_owned();
    side.share = PathBuf::from(format!("/proc/{}/root", side.pid())).join(inside);
    true
}

/// Starts a side with limits of its own, as `prlimit` names them.
pub fn start_with_limit(side: &mut Side, limit: &str) -> bool {
    let tried = Command::new("prlimit").arg(limit).arg("true").status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("skipped: prlimit cannot set {limit} here");
        return false;
    }
    let left = side.command();
    let mut command = Command::new("prlimit");
    command.arg(limit).arg(left.get_program());
    command.args(left.get_args());
    side.start_by(command);
    true
}

#[test]
fn perm_unreadable_file_is_told_and_heals_and_is_never_taken_for_deleted() {
    let mut pair = Pair::new();
    if !start_as_ordinary_user(&mut pair) {
        return;
    }
    pair.b.start();
    let secret = pair.a.write("secret", b"first");
    give(&secret);
    pair.wait("it arrived", || pair.b.read("secret").is_some());
    pair.settle();

    set_mode(&secret, 0o000);
    std::fs::write(&secret, b"second").unwrap_or_else(|_| {
        // Its owner may not write it either.
        set_mode(&secret, 0o200);
        std::fs::write(&secret, b"second").unwrap();
        set_mode(&secret, 0o000);
    });
    let other = pair.a.write("other", b"readable");
    give(&other);
    pair.wait("the other one arrived", || pair.b.read("other").is_some());
    pair.wait("the problem is named with what mends it", || {
        let text = problem(&pair.a, "secret");
        text.contains("Permission denied") && text.contains("give this user the permission")
    });
    assert_eq!(told(&pair.a)["problem_count"], 1);
    assert_eq!(pair.b.read("secret").unwrap(), b"first");

    set_mode(&secret, 0o644);
    pair.wait("the new content arrived", || {
        pair.b.read("secret").as_deref() == Some(b"second")
    });
    pair.wait("the problem is over", || {
        told(&pair.a)["problems"] == serde_json::json!([])
    });
}

#[test]
fn guard_scan_error_a_folder_that_cannot_be_listed_is_not_taken_for_empty() {
    let mut pair = Pair::new();
    if !start_as_ordinary_user(&mut pair) {
        return;
    }
    pair.b.start();
    let folder = pair.a.share.join("folder");
    std::fs::create_dir(&folder).unwrap();
    give(&folder);
    for n in 0..20 {
        let file = pair.a.write(format!("folder/f{n}"), b"content");
        give(&file);
    }
    pair.wait("they arrived", || pair.b.share.join("folder/f19").exists());
    pair.settle();

    // A look at everything, with nothing remembered.
    pair.a.terminate();
    set_mode(&folder, 0o000);
    assert!(start_as_ordinary_user(&mut pair));
    pair.wait("the problem is named with what mends it", || {
        let text = problem(&pair.a, "folder");
        text.contains("cannot list folder") && text.contains("give this user the permission")
    });
    let other = pair.a.write("other", b"content");
    give(&other);
    pair.wait("the other one arrived", || pair.b.read("other").is_some());
    // The folder's own mode may have arrived, so that it cannot be looked into there either.
    let removed = || {
        std::fs::read_dir(pair.b.share.join(".left/trash"))
            .unwrap()
            .count()
    };
    assert_eq!(removed(), 0, "it was taken for empty");
    set_mode(&folder, 0o755);
    pair.wait("the problem is over", || {
        told(&pair.a)["problems"] == serde_json::json!([])
    });
    pair.settle();
    assert_eq!(removed(), 0);
    for n in 0..20 {
        assert!(pair.b.share.join(format!("folder/f{n}")).exists());
    }
}

#[test]
fn perm_readonly_target_is_told_and_heals() {
    let mut pair = Pair::new();
    if !start_as_ordinary_user(&mut pair) {
        return;
    }
    pair.b.start();
    pair.settle();
    std::fs::create_dir(pair.b.share.join("folder")).unwrap();
    pair.wait("the folder arrived", || {
        pair.a.share.join("folder").exists()
    });
    pair.settle();
    let folder = pair.a.share.join("folder");
    if !is_root() {
        // One's own folder is made writable for the moment.
        set_mode(&folder, 0o555);
        pair.b.write("folder/file", b"content");
        pair.wait("it arrived", || pair.a.read("folder/file").is_some());
        pair.settle();
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o555);
        eprintln!("skipped in part: only root can make a folder that is somebody else's");
        return;
    }
    chown(&folder, Some(0), Some(0)).unwrap();
    pair.b.write("folder/file", b"content");
    pair.b.write("other", b"content");
    pair.wait("the other one arrived", || pair.a.read("other").is_some());
    pair.wait("the problem is named with what mends it", || {
        let text = problem(&pair.a, "folder/file");
        text.contains("Permission denied") && text.contains("give this user the permission")
    });
    give(&folder);
    pair.wait("it arrived", || pair.a.read("folder/file").is_some());
    pair.wait("the problem is over", || {
        told(&pair.a)["problems"] == serde_json::json!([])
    });
    pair.settle();
}

#[test]
fn disk_full_names_what_does_not_fit_and_takes_what_does() {
    let mut pair = Pair::new();
    pair.a.start();
    if !start_on_small_disk(&mut pair.b, "size=12m") {
        return;
    }
    pair.settle();
    let ballast = pair.b.share.join(".left/ballast");
    std::fs::write(&ballast, vec![1; 5 * 1024 * 1024]).unwrap();
    pair.a.write("large", &noise("large", 7 * 1024 * 1024));
    pair.wait("the lack of room is named", || {
        let text = problem(&pair.b, "large");
        text.contains("No space left") && text.contains("make room, it goes on by itself")
    });
    assert!(pair.b.is_running());
    std::fs::remove_file(ballast).unwrap();
    pair.a.write("small", b"content");
    pair.settle();
    assert_eq!(
        pair.b.read("large").unwrap(),
        noise("large", 7 * 1024 * 1024)
    );
    pair.wait("the problems are over", || {
        told(&pair.b)["problems"] == serde_json::json!([])
    });
    pair.b.kill();
}

#[test]
fn disk_full_at_the_index_is_told_and_waited_for() {
    let mut pair = Pair::new();
    pair.a.start();
    if !start_on_small_disk(&mut pair.b, "size=10m") {
        return;
    }
    pair.settle();
    let ballast = pair.b.share.join(".left/ballast");
    let _ = std::fs::write(&ballast, vec![1; 16 * 1024 * 1024]);
    for n in 0..2000 {
        pair.a.write(format!("a name of some length {n}"), b"");
    }
    pair.wait(
        "the index's lack of room is told though no file can be written",
        || {
            let status = told(&pair.b);
            let problems = status["problems"].to_string();
            status["state"] == "recovery"
                && problems.contains("the index: I/O error: No space left")
                && problems.contains("it goes on by itself")
        },
    );
    assert!(pair.b.is_running());
    std::fs::remove_file(ballast).unwrap();
    pair.settle();
    pair.wait("the problems are over", || {
        told(&pair.b)["problems"] == serde_json::json!([])
    });
    pair.b.kill();
}

#[test]
fn disk_full_of_files_is_told_apart_from_no_space() {
    let mut pair = Pair::new();
    pair.a.start();
    if !start_on_small_disk(&mut pair.b, "size=64m,nr_inodes=100") {
        return;
    }
    pair.settle();
    for n in 0..40 {
        std::fs::write(pair.b.share.join(format!(".left/ballast{n}")), b"").unwrap();
    }
    for n in 0..80 {
        pair.a
            .write(format!("f{n}"), format!("content {n}").as_bytes());
    }
    pair.wait("the lack of inodes is named", || {
        let problems = told(&pair.b)["problems"].to_string();
        problems.contains("No inodes left") && problems.contains("holds as many files as it can")
    });
    assert!(pair.b.is_running());
    for n in 0..40 {
        std::fs::remove_file(pair.b.share.join(format!(".left/ballast{n}"))).unwrap();
    }
    pair.settle();
    pair.wait("the problems are over", || {
        told(&pair.b)["problems"] == serde_json::json!([])
    });
    pair.b.kill();
}

#[test]
fn disk_quota_a_file_above_the_limit_is_named_and_does_not_end_the_daemon() {
    let mut pair = Pair::new();
    pair.a.start();
    if !start_with_limit(&mut pair.b, "--fsize=6000000:unlimited") {
        return;
    }
    pair.settle();
    pair.a.write("large", &noise("large", 8_000_000));
    pair.a.write("small", b"content");
    pair.wait("the small one arrived", || pair.b.read("small").is_some());
    pair.wait("the limit is named", || {
        let text = problem(&pair.b, "large");
        text.contains("File too large") && text.contains("raise `ulimit -f`")
    });
    assert!(pair.b.is_running());
    let raised = Command::new("prlimit")
        .arg(format!("--pid={}", pair.b.pid()))
        .arg("--fsize=unlimited:unlimited")
        .status();
    assert!(raised.unwrap().success());
    pair.settle();
    assert_eq!(pair.b.read("large").unwrap(), noise("large", 8_000_000));
    pair.wait("the problems are over", || {
        told(&pair.b)["problems"] == serde_json::json!([])
    });
}

#[test]
fn out_of_descriptors_is_named_and_everything_arrives_all_the_same() {
    let mut pair = Pair::new();
    pair.a.start();
    if !start_with_limit(&mut pair.b, "--nofile=48:4096") {
        return;
    }
    pair.settle();
    for n in 0..200 {
        pair.a
            .write(format!("f{n}"), &noise(&format!("{n}"), 200_000));
    }
    pair.wait("it is named", || {
        std::fs::read_to_string(&pair.b.log)
            .is_ok_and(|log| log.contains("Too many open files") && log.contains("`ulimit -n`"))
    });
    pair.settle();
    pair.wait("the problems are over", || {
        told(&pair.b)["problems"] == serde_json::json!([])
    });
}

#[test]
fn perm_unreadable_file_that_was_offered_is_told_by_its_sender_and_heals() {
    let mut pair = Pair::new();
    if !start_as_ordinary_user(&mut pair) {
        return;
    }
    let secret = pair.a.write("secret", b"content");
    give(&secret);
    pair.wait("it is on record", || told(&pair.a)["paths"] == 1);
    // The peer hears of a version that cannot be read by then.
    set_mode(&secret, 0o000);
    pair.b.start();
    let other = pair.a.write("other", b"content");
    give(&other);
    pair.wait("the other one arrived", || pair.b.read("other").is_some());
    pair.wait("the sender names it", || {
        problem(&pair.a, "secret").contains("cannot read secret")
    });
    set_mode(&secret, 0o644);
    pair.settle();
    pair.wait("the problems are over", || {
        let problems = [&pair.a, &pair.b].map(|side| told(side)["problems"].clone());
        problems
            .iter()
            .all(|problems| *problems == serde_json::json!([]))
    });
}
