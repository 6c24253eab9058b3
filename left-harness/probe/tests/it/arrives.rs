//! `look arrives`.

use std::fs;
use std::path::Path;

use crate::talk::{Talk, said};

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn ask(root: &Path, within_ms: &str, wanted: &[(&str, Option<&str>)]) -> Talk {
    let mut talk = Talk::start(&[
        "look",
        "arrives",
        root.to_str().unwrap(),
        "--within",
        within_ms,
    ]);
    for (path, content) in wanted {
        match content {
            Some(content) => {
                let hash = blake3::hash(content.as_bytes()).to_hex();
                talk.order(&format!("{hash} {} {}", hex(path), content.len()));
            }
            None => talk.order(&format!("- {}", hex(path))),
        }
    }
    talk.order("end");
    talk
}

#[test]
fn what_is_there_has_arrived() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/x"), "new").unwrap();
    let talk = ask(dir.path(), "30000", &[("d", None), ("d/x", Some("new"))]);
    assert_eq!(talk.line(), "{\"arrived\":true}");
    talk.is_over();
}

#[test]
fn a_file_that_is_replaced_arrives_with_its_new_content() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("x"), dir.path().join("temp"));
    fs::write(&old, "old").unwrap();
    let talk = ask(dir.path(), "30000", &[("x", Some("new"))]);
    fs::write(&new, "new").unwrap();
    // Same size, same mtime: only the content tells them apart.
    let modified = fs::metadata(&old).unwrap().modified().unwrap();
    fs::File::options()
        .write(true)
        .open(&new)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    fs::rename(&new, &old).unwrap();
    assert_eq!(talk.line(), "{\"arrived\":true}");
}

#[test]
fn a_file_that_is_written_in_place_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "abc").unwrap();
    let talk = ask(dir.path(), "30000", &[("x", Some("abd"))]);
    fs::write(&path, "abd").unwrap();
    assert_eq!(talk.line(), "{\"arrived\":true}");
}

#[test]
fn at_the_deadline_the_first_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("same"), "same").unwrap();
    fs::write(dir.path().join("other"), "size").unwrap();
    fs::write(dir.path().join("short"), "s").unwrap();
    std::os::unix::fs::symlink("same", dir.path().join("link")).unwrap();
    for (path, content, why) in [
        ("none", Some("x"), "absent"),
        ("none", None, "absent"),
        ("same", None, "absent"),
        ("other", Some("same"), "differs"),
        ("short", Some("same"), "size 1 instead of 4"),
        ("link", Some("same"), "differs: a link is in the way"),
        ("link/x", Some("same"), "absent"),
    ] {
        let talk = ask(dir.path(), "10", &[("same", Some("same")), (path, content)]);
        let wanted =
            format!("{{\"arrived\":false,\"missing\":1,\"first\":\"{path}\",\"why\":\"{why}\"}}");
        assert_eq!(talk.line(), wanted);
    }
}

#[test]
fn it_ends_with_its_channel() {
    let dir = tempfile::tempdir().unwrap();
    let mut talk = ask(dir.path(), "600000", &[("x", Some("new"))]);
    assert!(talk.child.try_wait().unwrap().is_none());
    talk.close();
}

#[test]
fn a_path_that_leads_out_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let talk = ask(dir.path(), "10", &[("../x", None)]);
    talk.is_over();
    assert_eq!(
        said(&["look", "tree", dir.path().to_str().unwrap()]).len(),
        1
    );
}
