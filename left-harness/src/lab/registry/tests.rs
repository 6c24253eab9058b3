//! Labs that are up, crashed and left behind, in a registry of the test's own.

use super::*;

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("a")).expect("made");
        Self { dir }
    }

    fn labs(&self) -> PathBuf {
        self.dir.path().join("labs")
    }

    fn register(&self, init: Option<u32>) -> Registered {
        let home = Home {
            host: "a".into(),
            dir: self.dir.path().join("a"),
        };
        let lab = Coming {
            kind: "netns",
            init,
            homes: vec![home],
            ..Coming::default()
        };
        register_in(&self.labs(), lab).expect("registered")
    }

    fn only(&self) -> Entry {
        let mut entries = list_in(&self.labs()).expect("listed");
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }

    /// As if the harness had been killed.
    fn crash(&self, registered: &Registered) -> Entry {
        let mut entry = self.only();
        entry.harness.start_time += 1;
        let text = serde_json::to_string(&entry).expect("it is JSON");
        std::fs::write(file_of(registered), text).expect("written");
        entry
    }

    fn run_folder(&self, run: &str, marker: &str) -> PathBuf {
        let folder = self.dir.path().join("a").join(format!("run-{run}"));
        std::fs::create_dir_all(folder.join("share")).expect("made");
        std::fs::write(folder.join(crate::lab::run_folder::MARKER), marker).expect("written");
        folder
    }
}

fn file_of(registered: &Registered) -> PathBuf {
    registered.place.as_ref().expect("there is a home").file()
}

fn sleeper(dir: &Path) -> std::process::Child {
    let mut command = std::process::Command::new("sleep");
    command.arg("1000").current_dir(dir);
    command.spawn().expect("sleep is there")
}

#[test]
fn a_lab_is_listed_while_it_is_up_and_cannot_be_taken_away() {
    let bench = Bench::new();
    assert_eq!(list_in(&bench.labs()).expect("no folder is no lab"), []);
    let registered = bench.register(None);
    let entry = bench.only();
    assert_eq!(entry.life(), Life::Alive);
    assert_eq!(entry.homes[0].host, "a");
    let refused = remove_in(&bench.labs(), &entry).expect_err("it is in use");
    assert!(
        refused.to_string().contains("in use by process"),
        "{refused}"
    );
    registered.remove().expect("removed");
    assert_eq!(list_in(&bench.labs()).expect("listed"), []);
}

#[test]
fn a_crashed_lab_is_taken_away_with_its_process_and_unguarded_folders() {
    let bench = Bench::new();
    let mut init = sleeper(bench.dir.path());
    let registered = bench.register(Some(init.id()));
    let entry = bench.crash(&registered);
    assert_eq!(entry.life(), Life::Orphaned);
    let left = bench.run_folder("1", "1");
    let not_ours = bench.run_folder("2", "another");
    let guarded = bench.run_folder("3", "3\n");
    let mut guard = sleeper(&guarded);
    assert_eq!(entry.run_folders(), [left.clone(), guarded.clone()]);

    let done = remove_in(&bench.labs(), &entry).expect("removed");
    assert!(
        init.wait().expect("it ended").code().is_none(),
        "it was killed"
    );
    guard.kill().expect("it still ran");
    guard.wait().expect("it ended");
    assert_eq!(done.len(), 2, "{done:?}");
    assert!(!left.exists() && not_ours.exists() && guarded.exists());
    assert_eq!(list_in(&bench.labs()).expect("listed"), []);
}

#[test]
fn only_a_folder_that_a_guard_takes_away_is_waited_for() {
    let bench = Bench::new();
    let home = bench.dir.path().join("a");
    assert!(!awaits_guard(&home), "there is no folder");
    let folder = bench.run_folder("1", "1");
    assert!(awaits_guard(&home), "its guard may just be coming");
    let marker = folder.join(crate::lab::run_folder::MARKER);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let file = std::fs::File::open(&marker).expect("it is there");
    file.set_modified(old).expect("it is ours");
    assert!(!awaits_guard(&home), "nobody guards it");
    let mut guard = sleeper(&folder);
    assert!(awaits_guard(&home));
    let kept = folder.join(crate::lab::run_folder::KEPT_MARKER);
    std::fs::rename(&marker, kept).expect("it is ours");
    assert!(!awaits_guard(&home), "it is the user's now");
    guard.kill().expect("it still ran");
    guard.wait().expect("it ended");
}

#[test]
fn folders_of_a_home_that_another_lab_uses_are_left_to_it() {
    let bench = Bench::new();
    let crashed = bench.register(None);
    let entry = bench.crash(&crashed);
    let left = bench.run_folder("1", "1");
    let _alive = bench.register(None);
    remove_in(&bench.labs(), &entry).expect("removed");
    assert!(left.exists());
    assert_eq!(bench.only().life(), Life::Alive);
}

#[test]
fn a_crashed_lab_that_has_left_nothing_is_forgotten_by_itself() {
    let bench = Bench::new();
    let crashed = bench.register(None);
    bench.crash(&crashed);
    let left = bench.run_folder("1", "1");
    let _second = bench.register(None);
    assert_eq!(list_in(&bench.labs()).expect("listed").len(), 2);
    std::fs::remove_dir_all(left).expect("removed");
    let _third = bench.register(None);
    let entries = list_in(&bench.labs()).expect("listed");
    assert!(entries.iter().all(|entry| entry.life() == Life::Alive));
}

#[test]
fn a_file_that_is_no_entry_is_named() {
    let bench = Bench::new();
    let registered = bench.register(None);
    let file = &file_of(&registered);
    for text in ["{", "{\"id\":\"../../x\"}"] {
        std::fs::write(file, text).expect("written");
        let error = list_in(&bench.labs()).expect_err("it is damaged");
        assert!(
            format!("{error:#}").contains("no entry of a lab"),
            "{error:#}"
        );
    }
}
