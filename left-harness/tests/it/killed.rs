//! The harness killed by SIGKILL at random moments: once the leases have lapsed nothing
//! is left, by a ledger that knows nothing of the harness.
//!
//! `LEFT_HARNESS_KILLS` is how many moments there are, `LEFT_HARNESS_SEED` makes them
//! the same again.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bench::{Bench, processes_of_run};
use crate::ledger::{independent, run_of};
use crate::sshd::Sshd;

/// A kill in the middle, a restart, and a quiet time: everything that a run has on its
/// hosts, in a few seconds.
const BUSY: &str = r#"
about = "A receiver killed and started again, for a harness that is killed itself."
seed  = 7
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "big.bin", size = "8MiB" } },
    { kill  = { on = "b", when = { received = "40%", of = "big.bin" }, hold = true } },
  ] },
  { start = ["b"] },
  { settle = { within = "30s", quiet = "1s" } },
]
[link]
rate = "4MiB/s"
[expect]
trees = "identical"
"#;

/// The variable that says how many moments there are to be.
const KILLS: &str = "LEFT_HARNESS_KILLS";

/// About as long as such a run takes, on a machine that is not idle.
const MOMENT_MAX: Duration = Duration::from_secs(8);

/// Every lease has lapsed by then, with what it takes to act on it.
const LAPSED: Duration = Duration::from_secs(15);

/// A transfer that was interrupted is nobody's by then.
const STANDS_STILL: Duration = Duration::from_secs(125);

/// As many at once: most of the time is spent waiting.
const AT_ONCE: usize = 4;

/// A lab, as this test needs to know it.
pub struct LabUnderTest {
    /// How it is chosen: `["--lab-dir", "lab"]`. Relative names are in a fresh folder.
    pub args: Vec<String>,
    /// Where its hosts keep their folders, as far as they can be seen from here.
    pub folders: Vec<PathBuf>,
    /// What takes away what no lease does: `["lab", "down"]`; empty if nothing is to.
    pub down: Vec<String>,
    /// Servers that are its hosts, for as long as it is there.
    pub servers: Vec<Sshd>,
}

/// How many moments there are to be, unless somebody has said.
pub fn kills(usually: usize) -> usize {
    std::env::var(KILLS).map_or(usually, |kills| kills.parse().expect("a number of kills"))
}

/// Kills the harness at so many moments in labs of this kind, and fails if anything of
/// its runs is left.
pub fn leaves_nothing_when_killed(kills: usize, lab: impl Fn(&Bench) -> LabUnderTest + Sync) {
    let given = std::env::var("LEFT_HARNESS_SEED").ok();
    let seed = given.map_or_else(
        || rand::rng().random(),
        |seed| seed.parse().expect("LEFT_HARNESS_SEED is a number"),
    );
    eprintln!("LEFT_HARNESS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let moments: Vec<Duration> = (0..kills)
        .map(|_| random.random_range(Duration::ZERO..MOMENT_MAX))
        .collect();
    // Programs are built once before, so that the moments are moments of a run.
    let bench = Bench::new();
    let ran = bench.ran(
        start(&bench, &lab(&bench))
            .wait_with_output()
            .expect("it ends"),
    );
    assert_eq!(ran.code, 0, "{}", ran.all());
    let mut left = Vec::new();
    for batch in moments.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let kills: Vec<_> = batch
                .iter()
                .map(|moment| scope.spawn(|| what_is_left(*moment, &lab)))
                .collect();
            for (moment, kill) in batch.iter().zip(kills) {
                if let Err(what) = kill.join().expect("no kill breaks") {
                    left.push(format!("killed after {moment:?}: {what}"));
                }
            }
        });
    }
    assert!(left.is_empty(), "seed {seed}:\n{}", left.join("\n"));
}

fn start(bench: &Bench, lab: &LabUnderTest) -> std::process::Child {
    bench.write("busy.toml", BUSY);
    let mut args = vec!["run", "--out", "out", "busy.toml"];
    args.extend(lab.args.iter().map(String::as_str));
    bench.command(&args).spawn().expect("the harness starts")
}

/// Kills one harness at this moment of its life.
fn what_is_left(
    moment: Duration,
    lab: &(impl Fn(&Bench) -> LabUnderTest + Sync),
) -> Result<(), String> {
    let bench = Bench::new();
    let here = lab(&bench);
    let mut harness = start(&bench, &here);
    std::thread::sleep(moment);
    let _ = harness.kill();
    let status = harness.wait().expect("it ends");
    if status.signal().is_none() {
        // It was faster than that, so that nothing was killed.
        assert!(
            moment > Duration::from_millis(10),
            "it ends before it can be killed"
        );
        return what_is_left(moment / 2, lab);
    }
    let run = run_of(&bench);
    let history = bench.history();
    let at = history.lines().last().unwrap_or("before its first word");
    eprintln!("killed after {moment:?}, run {run:?}: {at}");
    let begun = Instant::now();
    if !here.down.is_empty() {
        std::thread::sleep(LAPSED);
        take_down(&bench, &here)?;
    }
    loop {
        let left = left_of(&run, &bench, &here);
        if left.is_empty() {
            break;
        }
        if begun.elapsed() > LAPSED + Duration::from_secs(1) {
            let servers: String = here.servers.iter().map(Sshd::log).collect();
            return Err(format!("run {run} at {at}: {left}\n{servers}"));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let is_patient = std::env::var_os(KILLS).is_some();
    if !is_patient || here.down.is_empty() || parts_of_programs(&here).is_empty() {
        return Ok(());
    }
    // Somebody may still be sending them, until they have stood still for long: two
    // minutes that only whoever asks for many kills wants to wait.
    std::thread::sleep(STANDS_STILL.saturating_sub(begun.elapsed()));
    take_down(&bench, &here)?;
    match parts_of_programs(&here) {
        none if none.is_empty() => Ok(()),
        parts => Err(format!("run {run} at {at}: {parts:?}")),
    }
}

fn take_down(bench: &Bench, lab: &LabUnderTest) -> Result<(), String> {
    let args: Vec<&str> = lab.down.iter().map(String::as_str).collect();
    let mut down = bench.command(&args);
    let output = down.stdin(Stdio::null()).output();
    let output = output.expect("the harness starts");
    match output.status.success() {
        true => Ok(()),
        false => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{:?} fails: {why}", lab.down))
        }
    }
}

/// What interrupted transfers of programs have left on the hosts.
fn parts_of_programs(lab: &LabUnderTest) -> Vec<PathBuf> {
    let bins = lab.folders.iter().map(|folder| folder.join("bin"));
    let entries = bins.filter_map(|bin| std::fs::read_dir(bin).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.to_string_lossy().contains(".tmp-"))
        .collect()
}

fn left_of(run: &str, bench: &Bench, lab: &LabUnderTest) -> String {
    // Killed before it had a name, it has nothing that could bear it.
    if run.is_empty() {
        return String::new();
    }
    independent(run, &lab.folders).unwrap_or_else(|| {
        let processes = processes_of_run(run);
        let names = bench.left_on_hosts();
        match processes.is_empty() && names.is_empty() {
            true => String::new(),
            false => format!("processes {processes:?}, names {names:?}"),
        }
    })
}

#[test]
fn a_harness_killed_at_random_moments_in_the_local_lab_leaves_nothing() {
    leaves_nothing_when_killed(kills(4), |bench| LabUnderTest {
        args: ["--lab-dir", "lab"].map(str::to_owned).into(),
        folders: vec![bench.path("lab")],
        down: Vec::new(),
        servers: Vec::new(),
    });
}
