//! Which operation met which, and where the program crashed meanwhile: runs are made
//! until each cell of that table that can be reached was reached often enough.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Rng;
use super::plan::{At, Op, PATHS};
use super::run::{Crash, Make, Run, Violation};

/// What people do on a side; the first is nothing.
const KINDS: [(&str, Option<Make>); 14] = [
    ("nothing", None),
    (
        "write",
        Some(|rng, path| Op::Write(path, 1 + rng.below(60))),
    ),
    ("append", Some(|_, path| Op::Append(path))),
    ("truncate", Some(|_, path| Op::Truncate(path))),
    ("save", Some(|rng, path| Op::Save(path, 1 + rng.below(60)))),
    ("delete", Some(|_, path| Op::Delete(path))),
    ("delete-tree", Some(|_, path| Op::DeleteTree(path))),
    (
        "rename",
        Some(|rng, path| match rng.chance(1, 2) {
            true => Op::Rename(path, any(rng)),
            false => Op::Rename(any(rng), path),
        }),
    ),
    ("swap", Some(|rng, path| Op::Swap(path, any(rng)))),
    ("mkdir", Some(|_, path| Op::Mkdir(path))),
    ("rmdir", Some(|_, path| Op::Rmdir(path))),
    ("symlink", Some(|_, path| Op::Symlink(path))),
    (
        "chmod",
        Some(|rng, path| Op::Chmod(path, *rng.pick(&[0o600, 0o640, 0o755]))),
    ),
    (
        "touch",
        Some(|rng, path| Op::Touch(path, 1_000 + rng.below(5) as i64)),
    ),
];

fn any(rng: &mut Rng) -> usize {
    rng.below(PATHS.len() as u64) as usize
}

/// How often each crash point was reached with these two operations.
type Cells = BTreeMap<&'static str, u64>;

/// Reaches each crash point of two operations `often` times, if `tries` are enough. A
/// point is known to be reachable when a run without a crash passes it.
fn cover(
    pair: usize,
    (mine, theirs): (Option<Make>, Option<Make>),
    often: u64,
    tries: u64,
) -> Result<Cells, String> {
    let mut cells = Cells::new();
    for turn in 0..tries {
        let seed = Rng::new((pair as u64) << 32 | turn).next();
        let here = At::BOTH[turn as usize % 2];
        let meet = |crash| {
            Run::new(seed)
                .meet(here, mine, theirs, crash)
                .map_err(|Violation(why)| {
                    format!("seed {seed}, here is {here:?}, crash {crash:?}: {why}")
                })
        };
        let whole = meet(None)?;
        if !whole.had_effect {
            continue;
        }
        for deed in &whole.deeds {
            cells.entry(deed).or_default();
        }
        let counts = |deed: &&str| cells.get(deed).copied().unwrap_or(0);
        let Some(rarest) = whole.deeds.iter().copied().min_by_key(counts) else {
            continue;
        };
        let mut rng = Rng::new(seed ^ 1);
        let at: Vec<usize> = (0..whole.deeds.len())
            .filter(|at| whole.deeds[*at] == rarest)
            .collect();
        let change = *rng.pick(&at);
        let crash = Crash {
            change: change as u64,
            power_cut: rng.chance(1, 2).then(|| rng.next()),
        };
        let crashed = meet(Some(crash))?;
        // The same run up to there.
        assert!(crashed.died, "seed {seed} {crash:?}");
        assert_eq!(crashed.deeds, whole.deeds[..=change]);
        *cells.entry(rarest).or_default() += 1;
        if cells.values().all(|count| *count >= often) {
            break;
        }
    }
    Ok(cells)
}

/// All pairs, on all processors.
fn table(often: u64, tries: u64) -> BTreeMap<(&'static str, &'static str), Cells> {
    let pairs: Vec<_> = KINDS
        .iter()
        .flat_map(|mine| KINDS.iter().map(move |theirs| (*mine, *theirs)))
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((mine, theirs)) = pairs.get(number) else {
                return;
            };
            let cells = cover(number, (mine.1, theirs.1), often, tries)
                .unwrap_or_else(|why| panic!("{} here, {} there: {why}", mine.0, theirs.0));
            let mut done = done.lock().unwrap();
            done.insert((mine.0, theirs.0), cells);
            if done.len().is_multiple_of(KINDS.len()) {
                eprintln!("{} of {} pairs of operations", done.len(), pairs.len());
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for one in all {
            if let Err(panic) = one.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn crash_every_step_of_every_two_operations_that_meet() {
    let table = table(1, 2);
    let cells: usize = table.values().map(BTreeMap::len).sum();
    assert!(cells > 500, "{cells} cells are not what there is");
}

/// `LEFT_SIM_TABLE=FILE` gets every cell.
#[test]
#[ignore = "reaches each cell of operation x operation x crash point 100 times: minutes, in a release build"]
fn crash_every_step_of_every_two_operations_a_hundred_times() {
    const OFTEN: u64 = 100;
    let table = table(OFTEN, 100 * OFTEN);
    let mut points: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    let mut text = String::new();
    let mut seldom = Vec::new();
    for ((mine, theirs), cells) in &table {
        for (point, count) in cells {
            text += &format!("{mine}\t{theirs}\t{point}\t{count}\n");
            let (pairs, least, all) = points.entry(point).or_insert((0, u64::MAX, 0));
            (*pairs, *least, *all) = (*pairs + 1, *count.min(least), *all + count);
            if *count < OFTEN {
                seldom.push(format!("{mine} x {theirs} x {point}: {count}"));
            }
        }
    }
    println!("crash point   pairs of operations   least often   in all");
    for (point, (pairs, least, all)) in points {
        println!("{point:13} {pairs:19} {least:13} {all:8}");
    }
    if let Some(file) = std::env::var_os("LEFT_SIM_TABLE") {
        std::fs::write(file, text).unwrap();
    }
    assert!(seldom.is_empty(), "reached too seldom: {seldom:#?}");
}
