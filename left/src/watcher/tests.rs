//! What is marked when something happens in a real folder.

use super::*;
use crate::entry::{Body, Entry};
use crate::events::Reporter;
use crate::index::{Change, Index};
use crate::scanner::{Observation, ScanEnd, Scanner, Seen};
use crate::version::{ReplicaId, VersionVector};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A share that is watched and looked at only where marks are.
struct Place {
    dir: tempfile::TempDir,
    index: Arc<Index>,
    watcher: Arc<Watcher>,
    scanner: Scanner,
    woken: Receiver<()>,
    /// Everything that was told, in order; `false` is a deletion.
    told: Vec<(String, bool)>,
}

fn place() -> Place {
    limited_place(usize::MAX)
}

fn limited_place(watches_max: usize) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let share = Arc::new(Share::open(dir.path()).unwrap());
    let (index, _) = Index::open(&dir.path().join(".left/index"), (ReplicaId(1), 1)).unwrap();
    let index = Arc::new(index);
    let (wake, woken) = sync_channel(1);
    let watcher = Arc::new(Watcher {
        watches_max,
        ..Watcher::new(share.clone(), wake)
    });
    let scanner = Scanner::new(
        share,
        index.clone(),
        Arc::default(),
        Arc::new(Reporter::new(None)),
        Arc::default(),
    );
    let mut place = Place {
        dir,
        index,
        scanner: scanner.watched_by(watcher.clone()),
        watcher,
        woken,
        told: Vec::new(),
    };
    place.watcher.begin().unwrap();
    place.look(None);
    place
}

impl Place {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A look at marks, or at everything; what is told of is taken as it is.
    fn look(&mut self, marks: Option<&[Mark]>) {
        let mut found: Vec<Observation> = Vec::new();
        let mut sink = |observations: Vec<Observation>| {
            found.extend(observations);
            Ok(())
        };
        let end = match marks {
            Some(marks) => self.scanner.scan_dirty(marks, &mut sink),
            None => self.scanner.scan(&mut sink),
        };
        assert!(matches!(end.unwrap(), ScanEnd::Complete { .. }));
        let again = self.scanner.take_again();
        self.watcher.look_again(again.paths, Instant::now());
        let mut changes = Vec::new();
        for Observation { path, seen, .. } in found {
            let (body, mode, stamp) = match seen {
                Seen::Present { body, mode, stamp } => (body, mode, Some(stamp)),
                Seen::Absent => (Body::Deleted, 0, None),
                Seen::Ignored | Seen::Rules(_) => continue,
            };
            self.told.push((path.to_string(), body != Body::Deleted));
            let version = VersionVector::from_pairs([(ReplicaId(1), 1)]);
            let entry = Entry::of(body, mode, version);
            changes.push(Change::Put { path, entry, stamp });
        }
        self.index.commit(&changes).unwrap();
    }

    /// Looks at what is marked until the index is as the disk, and nothing is
    /// marked any more. Never looks at everything.
    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert_eq!(self.watcher.trouble(), None);
            assert!(!self.watcher.take_everything(), "too much at once");
            let now = Instant::now();
            let marks = self.watcher.take_due(now);
            if !marks.is_empty() {
                self.look(Some(&marks));
                continue;
            }
            let Some(due) = self.watcher.next_due() else {
                let (known, there) = (self.known(), self.there());
                if known == there {
                    return;
                }
                assert!(now < deadline, "known {known:?}\nthere {there:?}");
                let _ = self.woken.recv_timeout(Duration::from_millis(10));
                continue;
            };
            assert!(now < deadline, "never rests: {:?}", self.told);
            let _ = self.woken.recv_timeout(due.saturating_duration_since(now));
        }
    }

    /// What the index says is there: names, and contents of files.
    fn known(&self) -> BTreeMap<String, Option<[u8; 32]>> {
        let mut known = BTreeMap::new();
        for (path, record) in self.index.records_after(None, usize::MAX).unwrap() {
            match record.entry.body {
                Body::Deleted => {}
                Body::File { id, .. } => {
                    known.insert(path.to_string(), Some(id.0));
                }
                Body::Dir | Body::Link { .. } => {
                    known.insert(path.to_string(), None);
                }
            }
        }
        known
    }

    fn there(&self) -> BTreeMap<String, Option<[u8; 32]>> {
        let mut there = BTreeMap::new();
        let mut open = vec![self.dir.path().to_owned()];
        while let Some(folder) = open.pop() {
            for item in std::fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                let name = path.strip_prefix(self.dir.path()).unwrap().to_owned();
                if name.as_os_str() == ".left" {
                    continue;
                }
                let content = if path.is_dir() && !path.is_symlink() {
                    open.push(path);
                    None
                } else if path.is_symlink() {
                    None
                } else {
                    Some(*blake3::hash(&std::fs::read(&path).unwrap()).as_bytes())
                };
                there.insert(name.to_string_lossy().into_owned(), content);
            }
        }
        there
    }

    fn deletions(&self) -> Vec<&str> {
        let gone = self.told.iter().filter(|(_, there)| !there);
        gone.map(|(name, _)| name.as_str()).collect()
    }

    fn watches(&self) -> usize {
        self.watcher.shared.lock().table.len()
    }
}

#[test]
fn what_is_made_changed_and_removed_is_found_by_its_marks_alone() {
    let mut place = place();
    std::fs::create_dir(place.at("d")).unwrap();
    std::fs::write(place.at("d/file"), "one").unwrap();
    std::os::unix::fs::symlink("nowhere", place.at("link")).unwrap();
    place.settle();
    std::fs::write(place.at("d/file"), "two").unwrap();
    std::fs::hard_link(place.at("d/file"), place.at("second")).unwrap();
    place.settle();
    std::fs::remove_file(place.at("d/file")).unwrap();
    std::fs::remove_dir(place.at("d")).unwrap();
    place.settle();
    assert_eq!(place.deletions(), ["d/file", "d"]);
    assert_eq!(place.watches(), 1);
}

#[test]
fn a_closed_file_does_not_wait_for_an_open_one() {
    let mut place = place();
    let mut open = File::create(place.at("open")).unwrap();
    open.write_all(b"half").unwrap();
    std::fs::write(place.at("closed"), "whole").unwrap();
    place.settle();
    assert_eq!(place.told[0], ("closed".to_owned(), true));
    drop(open);
}

#[test]
fn watch_mkdir_race_what_is_in_a_new_folder_at_once_is_not_missed() {
    let mut place = place();
    for n in 0..30 {
        // Now before the first event is read, now while a look is under way.
        let top = place.at(&format!("t{n}"));
        let maker = std::thread::spawn(move || {
            for branch in ["a/b/c", "a/x/y/z", "q"] {
                std::fs::create_dir_all(top.join(branch)).unwrap();
                std::fs::write(top.join(branch).join("f"), branch).unwrap();
            }
        });
        if n % 2 == 0 {
            place.look(Some(&[Mark::Folder(None)]));
        }
        maker.join().unwrap();
        if n % 3 == 0 {
            place.settle();
        }
    }
    place.settle();
    assert_eq!(place.known().len(), 30 * 11);
}

#[test]
fn watch_mkdir_race_a_folder_is_watched_before_it_is_listed() {
    let mut place = place();
    // Nothing is watched yet.
    place.watcher.begin().unwrap();
    let shared = place.watcher.shared.clone();
    let late = place.at("late");
    let seen = std::thread::scope(|scope| {
        // With this lock, nothing can be watched.
        let state = shared.lock();
        let scanner = &mut place.scanner;
        let look = scope.spawn(move || {
            let mut seen = 0;
            let mut sink = |observations: Vec<Observation>| {
                seen += observations.len();
                Ok(())
            };
            scanner.scan(&mut sink).unwrap();
            seen + scanner.take_again().paths.len()
        });
        std::thread::sleep(Duration::from_millis(200));
        std::fs::write(late, "x").unwrap();
        drop(state);
        look.join().unwrap()
    });
    assert!(seen > 0, "it was listed before it was watched");
}

#[test]
fn watch_dir_moves_in_out_and_about_are_found() {
    let mut place = place();
    let outside = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    let tree = |top: PathBuf| {
        std::fs::create_dir_all(top.join("x/y")).unwrap();
        std::fs::write(top.join("x/y/f"), "f").unwrap();
    };
    tree(outside.path().join("in"));
    tree(place.at("a"));
    place.settle();
    // In, about, and out: what happens afterwards is seen under the new name.
    std::fs::rename(outside.path().join("in"), place.at("in")).unwrap();
    std::fs::rename(place.at("a"), place.at("b")).unwrap();
    std::fs::write(place.at("b/x/y/late"), "1").unwrap();
    std::fs::write(place.at("in/x/y/late"), "2").unwrap();
    place.settle();
    std::fs::write(place.at("b/x/y/later"), "3").unwrap();
    std::fs::rename(place.at("in"), outside.path().join("out")).unwrap();
    place.settle();
    // What goes on outside is nobody's business here.
    std::fs::write(outside.path().join("out/x/y/f"), "g").unwrap();
    // Two folders change places, and one goes where it was not.
    tree(place.at("c"));
    place.settle();
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    let (b, c) = (place.at("b"), place.at("c"));
    rustix::fs::renameat_with(rustix::fs::CWD, &b, rustix::fs::CWD, &c, flags).unwrap();
    place.settle();
    std::fs::write(place.at("b/x/y/f"), "in b").unwrap();
    std::fs::write(place.at("c/x/y/f"), "in c").unwrap();
    std::fs::rename(place.at("c/x"), place.at("b/x/y/deeper")).unwrap();
    std::fs::write(place.at("b/x/y/deeper/y/f"), "deep").unwrap();
    place.settle();
    // The share, b, x, y, deeper, y; c.
    assert_eq!(place.watches(), 7);
}

#[test]
fn a_look_at_one_folder_passes_over_what_is_watched_below_it() {
    let mut place = place();
    // More than are read from the index at a time.
    std::fs::create_dir_all(place.at("b/deep")).unwrap();
    for n in 0..700 {
        File::create(place.at(&format!("b/deep/f{n}"))).unwrap();
    }
    for name in ["a", "b.txt", "c"] {
        File::create(place.at(name)).unwrap();
    }
    place.settle();
    place.told.clear();
    for gone in ["a", "b.txt", "b/deep/f9"] {
        std::fs::remove_file(place.at(gone)).unwrap();
    }
    std::fs::write(place.at("c"), "changed").unwrap();
    std::fs::write(place.at("b/deep/f7"), "changed").unwrap();
    // Only this: as if what is below had its own time.
    std::thread::sleep(Duration::from_millis(60));
    place.look(Some(&[Mark::Folder(None)]));
    place.told.sort();
    let told: Vec<_> = place
        .told
        .iter()
        .map(|(name, there)| (&**name, *there))
        .collect();
    assert_eq!(told, [("a", false), ("b.txt", false), ("c", true)]);
    place.settle();
}

#[test]
fn src_editor_save_is_one_update_and_never_a_deletion() {
    let mut place = place();
    std::fs::write(place.at("notes"), "first").unwrap();
    place.settle();
    place.told.clear();
    // As most editors do it: a new file over the old one.
    std::fs::write(place.at(".notes.swp"), "second").unwrap();
    std::fs::rename(place.at(".notes.swp"), place.at("notes")).unwrap();
    place.settle();
    // And as others do it: the old one aside first.
    std::fs::rename(place.at("notes"), place.at("notes~")).unwrap();
    std::fs::write(place.at("notes"), "third").unwrap();
    std::fs::remove_file(place.at("notes~")).unwrap();
    place.settle();
    assert!(
        !place.told.contains(&("notes".to_owned(), false)),
        "{:?}",
        place.told
    );
    let lasting = place.known();
    assert_eq!(lasting.keys().collect::<Vec<_>>(), ["notes"]);
}

#[test]
fn what_goes_and_comes_back_meanwhile_is_no_deletion() {
    let mut place = place();
    std::fs::create_dir(place.at("d")).unwrap();
    std::fs::write(place.at("d/file"), "x").unwrap();
    place.settle();
    std::fs::rename(place.at("d"), place.at("e")).unwrap();
    std::fs::rename(place.at("e"), place.at("d")).unwrap();
    std::fs::write(place.at("d/more"), "y").unwrap();
    place.settle();
    assert_eq!(place.deletions(), [] as [&str; 0]);
}

#[test]
fn a_folder_where_a_file_was_and_the_reverse_is_found_by_its_marks() {
    let mut place = place();
    std::fs::write(place.at("x"), "file").unwrap();
    std::fs::create_dir_all(place.at("y/z")).unwrap();
    std::fs::write(place.at("y/z/inside"), "file").unwrap();
    place.settle();
    std::fs::remove_file(place.at("x")).unwrap();
    std::fs::create_dir(place.at("x")).unwrap();
    std::fs::write(place.at("x/inside"), "file").unwrap();
    std::fs::remove_dir_all(place.at("y")).unwrap();
    std::fs::write(place.at("y"), "file").unwrap();
    place.settle();
    // Its folder was told of as a file already, which says the same.
    for gone in ["y/z/inside", "y/z"] {
        assert!(place.deletions().contains(&gone), "{:?}", place.told);
    }
}

#[test]
fn a_link_is_not_followed_and_the_state_folder_not_watched() {
    let mut place = place();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), place.at("way")).unwrap();
    place.settle();
    place.told.clear();
    std::fs::write(outside.path().join("file"), "x").unwrap();
    std::fs::write(place.at(".left/file"), "x").unwrap();
    std::fs::write(place.at("last"), "x").unwrap();
    place.settle();
    assert!(place.told.iter().all(|(name, _)| name == "last"));
    assert_eq!(place.watches(), 1);
}

#[test]
fn a_folder_that_cannot_be_read_is_unknown_until_it_can_be() {
    let mut place = place();
    std::fs::create_dir(place.at("d")).unwrap();
    std::fs::write(place.at("d/file"), "x").unwrap();
    place.settle();
    let mode = |bits| {
        let bits = std::os::unix::fs::PermissionsExt::from_mode(bits);
        std::fs::set_permissions(place.dir.path().join("d"), bits).unwrap();
    };
    mode(0);
    if std::fs::read_dir(place.at("d")).is_ok() {
        eprintln!("skipped: this user (root) can read every folder");
        return;
    }
    mode(0o755);
    std::fs::write(place.at("d/file"), "yy").unwrap();
    mode(0);
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        let marks = place.watcher.take_due(Instant::now());
        place.look(Some(&marks));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(place.deletions(), [] as [&str; 0]);
    let bits = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.at("d"), bits).unwrap();
    place.settle();
}

#[test]
fn watch_limit_is_told_and_what_mends_it() {
    let mut place = limited_place(3);
    std::fs::create_dir_all(place.at("a/b")).unwrap();
    place.settle();
    assert_eq!(place.watches(), 3);
    std::fs::create_dir(place.at("c")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while place.watcher.trouble().is_none() {
        assert!(Instant::now() < deadline);
        let marks = place.watcher.take_due(Instant::now());
        place.look(Some(&marks));
    }
    assert_eq!(place.watcher.trouble(), Some(Trouble::NoWatches));
    assert!(!place.watcher.is_watched(&RelPath::parse(b"a").unwrap()));
    let text = Trouble::NoWatches.to_string();
    assert!(
        text.contains("sysctl fs.inotify.max_user_watches="),
        "{text}"
    );
    // It works again once there is enough.
    std::fs::remove_dir(place.at("c")).unwrap();
    place.watcher.begin().unwrap();
    place.look(None);
    assert_eq!(place.watcher.trouble(), None);
    std::fs::write(place.at("a/b/f"), "x").unwrap();
    place.settle();
}

#[test]
fn watch_storm_is_coalesced_and_ends_as_the_disk_is() {
    let mut place = place();
    for folder in ["a", "b", "c"] {
        std::fs::create_dir(place.at(folder)).unwrap();
    }
    place.settle();
    place.told.clear();
    let root = place.dir.path().to_owned();
    let storm = std::thread::spawn(move || {
        let mut events = 0;
        let until = Instant::now() + Duration::from_secs(2);
        let mut n = 0;
        while Instant::now() < until {
            n += 1;
            let name = format!("{}/f{}", ["a", "b", "c"][n % 3], n % 500);
            let path = root.join(name);
            // Opened, written, closed, its mode set: at least four events.
            std::fs::write(&path, n.to_string()).unwrap();
            if n % 7 == 0 {
                std::fs::remove_file(&path).unwrap();
            }
            events += 4;
        }
        events
    });
    // Nobody looks for a while, as when a large file is read.
    std::thread::sleep(Duration::from_millis(300));
    let mut looks = 0;
    let mut marks_most = 0;
    while !storm.is_finished() {
        if place.watcher.trouble() == Some(Trouble::Overflow) {
            eprintln!("skipped: this machine makes events faster than they can be read");
            return;
        }
        let marks = place.watcher.take_due(Instant::now());
        marks_most = marks_most.max(marks.len());
        place.look(Some(&marks));
        looks += 1;
    }
    let events = storm.join().unwrap();
    place.settle();
    eprintln!("{events} events, {looks} looks, {marks_most} marks at once");
    assert!(
        place.told.len() < events / 2,
        "{} of {events}",
        place.told.len()
    );
}

#[test]
fn events_that_were_lost_are_told_of() {
    let place = place();
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // The reader waits for this lock while the queue fills.
    let state = place.watcher.shared.lock();
    let (one, two) = (place.at("one"), place.at("two"));
    for _ in 0..=limit {
        // In turn, because the same event twice in a row counts once.
        File::create(&one).unwrap();
        File::create(&two).unwrap();
    }
    drop(state);
    let deadline = Instant::now() + PATIENCE;
    while place.watcher.trouble() != Some(Trouble::Overflow) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Trouble::Overflow.to_string().contains("max_queued_events"));
    // Beginning again forgets all that was known of the folders.
    place.watcher.begin().unwrap();
    assert_eq!((place.watcher.trouble(), place.watches()), (None, 0));
}
