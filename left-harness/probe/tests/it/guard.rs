//! `guard`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::talk::{Talk, complaint, wait_until};

/// A marked folder full of what makes removal hard, and one outside that must stay.
fn marked(dir: &Path) -> PathBuf {
    let run = dir.join("run");
    fs::create_dir_all(run.join("a/b/c")).unwrap();
    fs::create_dir_all(dir.join("outside")).unwrap();
    fs::write(dir.join("outside/precious"), "p").unwrap();
    fs::write(run.join("a/file"), "x").unwrap();
    fs::write(run.join("a/b/read-only"), "x").unwrap();
    std::os::unix::fs::symlink(dir.join("outside"), run.join("a/link")).unwrap();
    std::os::unix::fs::symlink(dir.join("outside/precious"), run.join("link")).unwrap();
    let closed = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(run.join(path), PermissionsExt::from_mode(0o000)).unwrap();
    };
    closed("a/b/read-only");
    closed("a/b/c");
    fs::write(run.join(".left-harness-run"), "run-1\n").unwrap();
    run
}

fn guard(run: &Path, lease_ms: &str) -> Talk {
    let talk = Talk::start(&[
        "guard",
        "--dir",
        run.to_str().unwrap(),
        "--id",
        "run-1",
        "--lease-ms",
        lease_ms,
    ]);
    talk.hears(&["\"guarding\":true"]);
    talk
}

#[test]
fn healing_removes_the_folder_and_nothing_that_links_point_to() {
    let dir = tempfile::tempdir().unwrap();
    let run = marked(dir.path());
    let mut talk = guard(&run, "60000");
    assert!(run.exists());
    talk.order("heal");
    assert_eq!(talk.line(), "{\"healed\":true}");
    talk.is_over();
    assert!(!run.exists());
    assert_eq!(fs::read(dir.path().join("outside/precious")).unwrap(), b"p");
}

#[test]
fn a_lapsed_lease_heals_also_without_a_channel() {
    let dir = tempfile::tempdir().unwrap();
    let run = marked(dir.path());
    guard(&run, "300").close();
    wait_until("the removal", || !run.exists());
    assert!(dir.path().join("outside/precious").exists());
}

#[test]
fn what_is_still_being_written_is_removed_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let run = marked(dir.path());
    let mut talk = guard(&run, "60000");
    let writer = run.clone();
    // As fast as it can, until the ground is gone under its feet, or for a good while.
    let writing = std::thread::spawn(move || {
        (0..3_000_000).find(|number| fs::create_dir(writer.join(format!("a/new{number}"))).is_err())
    });
    wait_until("some writing", || run.join("a/new10").exists());
    talk.order("heal");
    assert_eq!(talk.line(), "{\"healed\":true}");
    assert!(writing.join().unwrap().unwrap() > 10);
    assert!(!run.exists());
}

#[test]
fn a_dismissed_guard_leaves_everything() {
    let dir = tempfile::tempdir().unwrap();
    let run = marked(dir.path());
    let mut talk = guard(&run, "60000");
    talk.order("dismiss");
    assert_eq!(talk.line(), "{\"dismissed\":true}");
    assert!(run.join("a/file").exists());
}

#[test]
fn a_folder_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = marked(dir.path());
    let refused = |folder: &Path, id: &str| {
        complaint(
            1,
            &[
                "guard",
                "--dir",
                folder.to_str().unwrap(),
                "--id",
                id,
                "--lease-ms",
                "1000",
            ],
        )
    };
    assert!(refused(&run, "run-2").contains("bears another id"));
    assert!(refused(&run, "run").contains("bears another id"));
    assert!(
        refused(&dir.path().join("outside"), "run-1").contains("cannot open .left-harness-run")
    );
    std::os::unix::fs::symlink(&run, dir.path().join("alias")).unwrap();
    assert!(refused(&dir.path().join("alias"), "run-1").contains("cannot open folder"));
    assert!(run.join("a/file").exists());
}

#[test]
fn a_marker_that_changes_meanwhile_stops_the_removal() {
    let dir = tempfile::tempdir().unwrap();
    let run = marked(dir.path());
    let mut talk = guard(&run, "60000");
    fs::write(run.join(".left-harness-run"), "run-2").unwrap();
    talk.order("heal");
    talk.hears(&["\"healed\":false", "bears another id"]);
    assert!(run.join("a/file").exists());
}

#[test]
fn a_folder_is_made_and_guarded_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let folder = run.to_str().unwrap();
    let argv = |id| {
        [
            &["guard", "--make", "--dir", folder, "--id", id][..],
            &["--lease-ms", "60000"],
        ]
        .concat()
    };
    let mut talk = Talk::start(&argv("run-1"));
    talk.hears(&["\"guarding\":true"]);
    assert_eq!(fs::read(run.join(".left-harness-run")).unwrap(), b"run-1");
    // Whoever finds the name taken has not made it, so that it is not theirs.
    let taken = complaint(1, &argv("run-2"));
    assert!(taken.contains("file exists"), "{taken}");
    talk.order("heal");
    assert_eq!(talk.line(), "{\"healed\":true}");
    assert!(!run.exists());
}
