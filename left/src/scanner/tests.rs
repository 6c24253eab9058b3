//! What the scanner sees of changes on a real disk.

use super::*;
use crate::entry::{ContentId, Entry};
use crate::index::Change;
use crate::version::{ReplicaId, VersionVector};
use crate::watcher::Mark;
use std::fs::File;
use std::time::SystemTime;

struct Place {
    dir: tempfile::TempDir,
    index: Arc<Index>,
    scanner: Scanner,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let share = Arc::new(Share::open(dir.path()).unwrap());
    let (index, _) = Index::open(&dir.path().join(".left/index"), (ReplicaId(1), 1)).unwrap();
    let index = Arc::new(index);
    let scanner = Scanner::new(
        share,
        index.clone(),
        Arc::default(),
        Arc::new(Reporter::new(None)),
        Arc::default(),
    );
    Place {
        dir,
        index,
        scanner,
    }
}

impl Place {
    fn write(&self, name: &str, text: &str, age: Duration) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    /// Looks until nothing is restless, and takes what was seen as it is.
    fn look(&mut self) -> Vec<(String, bool)> {
        self.look_by(|scanner, sink| scanner.scan(sink))
    }

    /// As [`Place::look`], at what is marked.
    fn look_at(&mut self, marks: &[Mark]) -> Vec<(String, bool)> {
        self.look_by(|scanner, sink| scanner.scan_dirty(marks, sink))
    }

    fn look_by(
        &mut self,
        look: impl Fn(&mut Scanner, Sink<'_>) -> Result<ScanEnd, IndexError>,
    ) -> Vec<(String, bool)> {
        let mut seen = Vec::new();
        loop {
            let mut found = Vec::new();
            let mut sink = |observations: Vec<Observation>| {
                found.extend(observations);
                Ok(())
            };
            let end = look(&mut self.scanner, &mut sink).unwrap();
            let version = VersionVector::from_pairs([(ReplicaId(1), 1)]);
            for Observation {
                path, seen: what, ..
            } in found
            {
                seen.push((path.to_string(), matches!(what, Seen::Present { .. })));
                let (body, mode, stamp) = match what {
                    Seen::Present { body, mode, stamp } => (body, mode, Some(stamp)),
                    Seen::Absent => (Body::Deleted, 0, None),
                    Seen::Ignored | Seen::Rules(_) => continue,
                };
                let entry = Entry::of(body, mode, version.clone());
                self.index
                    .commit(&[Change::Put { path, entry, stamp }])
                    .unwrap();
            }
            if matches!(
                end,
                ScanEnd::Complete {
                    restless: false,
                    ..
                }
            ) {
                return seen;
            }
        }
    }

    fn id(&self, name: &str) -> ContentId {
        let path = RelPath::parse(name.as_bytes()).unwrap();
        match self.index.get(&path).unwrap().unwrap().entry.body {
            Body::File { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }
}

fn present(names: &[&str]) -> Vec<(String, bool)> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), true))
        .collect()
}

#[test]
fn everything_is_seen_once_in_the_order_of_paths() {
    let mut place = place();
    for name in ["b", "a/y", "a/x/deep", "a.txt"] {
        place.write(name, name, Duration::ZERO);
    }
    let mut seen = place.look();
    seen.sort();
    assert_eq!(
        seen,
        present(&["a", "a.txt", "a/x", "a/x/deep", "a/y", "b"])
    );
    // A young stamp is not trusted, so files may be read again, but they
    // are the same.
    let again = place.look();
    assert!(again.iter().all(|(_, present)| *present), "{again:?}");
}

#[test]
fn what_is_gone_is_absent_and_only_that() {
    let mut place = place();
    for name in ["a/x", "a/y", "b", "c/z"] {
        place.write(name, name, Duration::ZERO);
    }
    place.look();
    std::fs::remove_dir_all(place.dir.path().join("a")).unwrap();
    std::fs::remove_file(place.dir.path().join("b")).unwrap();
    let seen = place.look();
    let absent: Vec<_> = seen
        .iter()
        .filter(|(_, present)| !present)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(absent, ["a/x", "a/y", "a", "b"]);
    assert!(place.look().iter().all(|(_, present)| *present));
}

#[test]
fn src_racy_timestamp_a_write_of_the_same_size_and_mtime_is_noticed() {
    let mut place = place();
    place.write("file", "one", Duration::ZERO);
    place.look();
    let path = place.dir.path().join("file");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "two").unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    place.look();
    assert_eq!(place.id("file").0, *blake3::hash(b"two").as_bytes());
}

#[test]
fn a_folder_where_a_file_was_and_the_reverse() {
    let mut place = place();
    place.write("x", "file", Duration::ZERO);
    place.write("y/inside", "file", Duration::ZERO);
    place.look();
    std::fs::remove_file(place.dir.path().join("x")).unwrap();
    std::fs::remove_dir_all(place.dir.path().join("y")).unwrap();
    place.write("x/inside", "file", Duration::ZERO);
    place.write("y", "file", Duration::ZERO);
    let seen = place.look();
    for expected in [
        ("x", true),
        ("x/inside", true),
        ("y", true),
        ("y/inside", false),
    ] {
        assert!(
            seen.contains(&(expected.0.to_owned(), expected.1)),
            "{expected:?} in {seen:?}"
        );
    }
}

#[test]
fn what_is_in_the_place_of_a_folder_is_told_after_what_was_in_it() {
    let mut place = place();
    for name in ["a/b/c", "a/z", "ab"] {
        place.write(name, "x", Duration::from_secs(10));
    }
    place.look();
    std::fs::remove_dir_all(place.dir.path().join("a")).unwrap();
    place.write("a", "a file now", Duration::from_secs(10));
    place.write("ab", "changed", Duration::from_secs(10));
    let told: Vec<_> = place.look().into_iter().map(|(path, _)| path).collect();
    assert_eq!(told, ["a/b/c", "a/b", "a/z", "ab", "a"]);
}

#[test]
fn a_folder_that_is_gone_is_told_after_what_was_in_it() {
    let mut place = place();
    for name in ["a/b/c", "a/b.txt", "a/z", "ab", "d/e"] {
        place.write(name, "x", Duration::from_secs(10));
    }
    place.look();
    for gone in ["a", "d"] {
        std::fs::remove_dir_all(place.dir.path().join(gone)).unwrap();
    }
    let gone: Vec<_> = place.look().into_iter().map(|(path, _)| path).collect();
    assert_eq!(gone, ["a/b/c", "a/b", "a/b.txt", "a/z", "a", "d/e", "d"]);
}

#[test]
fn only_what_is_marked_is_looked_at() {
    let mut place = place();
    for name in ["a/x", "a/y", "b"] {
        place.write(name, "one", Duration::from_secs(10));
    }
    place.look();
    for name in ["a/x", "a/y", "b"] {
        place.write(name, "other", Duration::ZERO);
    }
    let name = |text: &str| Mark::Name(RelPath::parse(text.as_bytes()).unwrap());
    assert_eq!(place.look_at(&[name("a/x")]), present(&["a/x"]));
    std::fs::remove_dir_all(place.dir.path().join("a")).unwrap();
    assert!(
        place
            .look_at(&[name("b/nothing"), name("never")])
            .is_empty()
    );
    // What was in a folder that is gone is told of with the folder.
    assert!(place.look_at(&[name("a/x")]).is_empty());
    let gone: Vec<_> = place
        .look_at(&[name("a")])
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(gone, ["a/x", "a/y", "a"]);
}

#[test]
fn guard_scan_error_what_cannot_be_listed_is_not_taken_for_deleted() {
    let mut place = place();
    place.write("d/file", "one", Duration::from_secs(10));
    place.look();
    let folder = place.dir.path().join("d");
    let mode = |bits| {
        let bits = std::os::unix::fs::PermissionsExt::from_mode(bits);
        std::fs::set_permissions(&folder, bits).unwrap();
    };
    std::fs::remove_file(folder.join("file")).unwrap();
    // Asked for by name it is not there, but the list cannot be had.
    mode(0o300);
    if std::fs::read_dir(&folder).is_ok() {
        eprintln!("skipped: this user (root) can list every folder");
        return;
    }
    let mark = Mark::Name(RelPath::parse(b"d/file").unwrap());
    assert!(place.look_at(std::slice::from_ref(&mark)).is_empty());
    mode(0o755);
    assert_eq!(place.look_at(&[mark]), [("d/file".to_owned(), false)]);
}

/// Remembers which folders are watched.
#[derive(Default)]
struct Watched(std::sync::Mutex<std::collections::BTreeSet<String>>);

impl Watch<std::os::fd::OwnedFd> for Watched {
    fn watch(&self, path: Option<&RelPath>, _: &std::os::fd::OwnedFd) {
        let name = path.map_or(".".to_owned(), RelPath::to_string);
        self.0.lock().unwrap().insert(name);
    }

    fn unwatch(&self, path: &RelPath) {
        let mut watched = self.0.lock().unwrap();
        let below = format!("{path}/");
        watched.retain(|name| *name != path.to_string() && !name.starts_with(&below));
    }

    fn is_watched(&self, path: &RelPath) -> bool {
        self.0.lock().unwrap().contains(&path.to_string())
    }
}

#[test]
fn ignored_folders_are_neither_listed_nor_watched() {
    let mut place = place();
    let watched = Arc::new(Watched::default());
    place.scanner = place.scanner.watched_by(watched.clone());
    let old = Duration::from_secs(9);
    for name in ["d/file", "d/deep/file", "e/file"] {
        place.write(name, "x", old);
    }
    assert_eq!(place.look().len(), 6);
    let names = || {
        watched
            .0
            .lock()
            .unwrap()
            .iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), [".", "d", "d/deep", "e"]);
    place.write(".leftignore", "d/\n", old);
    std::thread::sleep(Duration::from_millis(60));
    // The records are still there: they are seen as ignored and not as gone.
    let mut seen = Vec::new();
    let mut sink = |observations: Vec<Observation>| {
        seen.extend(observations);
        Ok(())
    };
    place.scanner.scan(&mut sink).unwrap();
    let ignored = seen.iter().filter(|it| matches!(it.seen, Seen::Ignored));
    assert_eq!(ignored.count(), 4, "{seen:?}");
    let gone = seen.iter().any(|it| matches!(it.seen, Seen::Absent));
    assert!(!gone && matches!(seen[0].seen, Seen::Rules(_)), "{seen:?}");
    assert_eq!(names(), [".", "e"]);
    // What is marked there is not looked at.
    place.write("d/new", "x", old);
    let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
    let marks = [
        Mark::Name(path("d/new")),
        Mark::Folder(Some(path("d/deep"))),
    ];
    assert_eq!(place.look_at(&marks), []);
    assert_eq!(names(), [".", "e"]);
    // And is when it is ignored no more, whatever was marked. The file may be about to
    // be written anew, so that takes a moment.
    std::fs::write(place.dir.path().join(".leftignore"), "!d/\n").unwrap();
    let marks = [Mark::Name(path(".leftignore")), Mark::Name(path("e/file"))];
    assert_eq!(place.look_at(&marks), [(".leftignore".to_owned(), true)]);
    assert!(!place.scanner.take_again().paths.is_empty());
    std::thread::sleep(Duration::from_millis(1100));
    let told = place.look_at(&[Mark::Name(path("e/file"))]);
    assert!(told.contains(&("d/new".to_owned(), true)), "{told:?}");
    assert_eq!(names(), [".", "d", "d/deep", "e"]);
}

#[test]
fn rules_that_were_never_read_are_waited_for() {
    let mut place = place();
    let old = Duration::from_secs(9);
    place.write("file", "x", old);
    place.write(".leftignore", "file", old);
    // It was written only just now.
    let mut told = 0;
    let mut sink = |observations: Vec<Observation>| {
        told += observations.len();
        Ok(())
    };
    place.scanner.scan(&mut sink).unwrap();
    assert!(place.scanner.take_again().unsure);
    assert_eq!(told, 0);
    std::thread::sleep(Duration::from_millis(60));
    let told = place.look();
    assert!(told.iter().all(|(path, _)| path == ".leftignore") && !told.is_empty());
    assert!(!place.scanner.take_again().unsure);
}
