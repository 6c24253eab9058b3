//! The simulated file system compared with the real one: random lists of calls
//! have the same answers and leave the same tree.

mod ops;
mod users;
mod world;

use std::path::PathBuf;

use rustix::io::Errno;

use ops::{Op, some_op};
use users::{by_real_user, by_simulated_user};
use world::{Answer, World, set_by_test};

use super::rng::Rng;
use super::{Config, Item, Machine, Tree};
use crate::entry::Mtime;
use crate::share::Share;

/// A real folder that can be removed whatever its modes have become.
struct RealFolder(tempfile::TempDir);

impl Drop for RealFolder {
    fn drop(&mut self) {
        use std::os::unix::fs::PermissionsExt;
        let mut todo: Vec<PathBuf> = vec![self.0.path().to_owned()];
        while let Some(folder) = todo.pop() {
            let _ = std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700));
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push(entry.path());
                }
            }
        }
    }
}

/// Runs a list on both; what differs first.
fn difference(ops: &[Op]) -> Option<String> {
    let folder = RealFolder(tempfile::tempdir().unwrap());
    let root = folder.0.path();
    let share = Share::open(root).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let config = Config {
        is_root,
        ..Config::default()
    };
    let machine = Machine::new(1, config);
    let disk = machine.start().unwrap();
    let real_user = |op| by_real_user(root, op);
    let sim_user = |op| by_simulated_user(&machine, op);
    let mut real = World::new(&share, &real_user);
    let mut sim = World::new(&disk, &sim_user);
    for (n, op) in ops.iter().enumerate() {
        let (expected, found) = (real.run(*op), sim.run(*op));
        if !is_same(&expected, &found) {
            return Some(format!(
                "{n}: {op:?} is {expected:?}, but simulated {found:?}"
            ));
        }
    }
    let expected = without_clock(Tree::of_folder(root).unwrap());
    let found = without_clock(machine.tree());
    (expected != found).then(|| format!("the tree is\n{expected:#?}\nbut simulated\n{found:#?}"))
}

/// Of several reasons to refuse, kernels do not agree which comes first when
/// one is a lack of permission.
fn is_same(one: &Result<Answer, Errno>, other: &Result<Answer, Errno>) -> bool {
    match (one, other) {
        (Err(one), Err(other)) => one == other || [one, other].contains(&&Errno::ACCESS),
        _ => one == other,
    }
}

/// A tree in which times from a clock are all the same.
fn without_clock(mut tree: Tree) -> Tree {
    for item in tree.0.values_mut() {
        if let Item::File { mtime, .. } | Item::Dir { mtime, .. } = item
            && set_by_test(*mtime).is_none()
        {
            *mtime = Mtime::default();
        }
    }
    tree
}

/// The shortest part of a list that still differs.
fn shrunk(mut ops: Vec<Op>) -> Vec<Op> {
    let mut chunk = ops.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + chunk).min(ops.len()));
            if difference(&fewer).is_some() {
                ops = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    ops
}

/// As it can be pasted into a test.
fn as_code(ops: &[Op]) -> String {
    let lines: String = ops.iter().map(|op| format!("    {op:?},\n")).collect();
    let lines = lines
        .replace(", Plain)", ", Rename::Plain)")
        .replace(", NoReplace)", ", Rename::NoReplace)")
        .replace(", Exchange)", ", Rename::Exchange)");
    format!("assert_eq!(difference(&[\n{lines}]), None);")
}

fn compare(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let count = 10 + rng.below(50);
        let ops: Vec<Op> = (0..count).map(|_| some_op(&mut rng)).collect();
        if difference(&ops).is_some() {
            let ops = shrunk(ops);
            let text = difference(&ops).unwrap_or_else(|| "it no longer differs".to_owned());
            panic!("seed {seed}: {text}\n{}", as_code(&ops));
        }
    }
}

/// Whether folders are made with the mode that is asked for.
fn umask_is_usual() -> bool {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    std::fs::create_dir(&made).unwrap();
    let mode = std::fs::metadata(made).unwrap().permissions().mode();
    mode & 0o777 == 0o755
}

#[test]
fn the_simulated_file_system_answers_as_the_real_one() {
    if !umask_is_usual() {
        eprintln!("skipped: the simulation knows no umask but 022");
        return;
    }
    let lists = std::env::var("LEFT_SIM_LISTS").ok();
    let lists = lists.and_then(|text| text.parse().ok()).unwrap_or(2000);
    let first = std::env::var("LEFT_SIM_SEED").ok();
    let first = first.and_then(|text| text.parse().ok()).unwrap_or(0);
    compare(first..first + lists);
}
