//! Simulated runs by the seed, and what is left of one that fails.

use super::Rng;
use super::plan::{Kind, Step, plan};
use super::run::{Run, Violation};

/// Seeds of every test run; `LEFT_SIM_SEEDS=from..to` runs others.
const SEEDS: std::ops::Range<u64> = 0..150;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("LEFT_SIM_SEEDS") else {
        return SEEDS;
    };
    let (from, to) = text.split_once("..").expect("LEFT_SIM_SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

fn steps_of(seed: u64) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let kind = Kind::of(&mut rng);
    plan(&mut rng, kind)
}

fn run(seed: u64, steps: &[Step]) -> Result<(), Violation> {
    Run::new(seed).perform(steps)
}

/// Leaves out what is not needed for the run to fail.
fn shrink(seed: u64, mut steps: Vec<Step>) -> (Vec<Step>, Violation) {
    let mut violation = run(seed, &steps).expect_err("it failed before");
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let end = (at + size).min(steps.len());
            let fewer = [&steps[..at], &steps[end..]].concat();
            match run(seed, &fewer) {
                Err(still) => {
                    steps = fewer;
                    violation = still;
                }
                Ok(()) => at = end,
            }
        }
        size /= 2;
    }
    (steps, violation)
}

#[test]
fn nothing_is_lost_and_both_sides_are_the_same_in_the_end() {
    let mut steps = 0;
    for seed in seeds() {
        let all = steps_of(seed);
        steps += all.len();
        if run(seed, &all).is_err() {
            let (few, Violation(why)) = shrink(seed, all);
            let code: Vec<_> = few
                .iter()
                .map(|step| format!("        {step:?},\n"))
                .collect();
            panic!("seed {seed}: {why}\nfails({seed}, &[\n{}]);", code.concat());
        }
    }
    println!("{steps} steps");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(steps_of(seed), steps_of(seed));
        assert_eq!(run(seed, &steps_of(seed)), run(seed, &steps_of(seed)));
    }
}

/// Runs that failed once.
mod once {
    use super::super::plan::{At::*, Op::*, Step, Step::*};
    use super::run;

    fn holds(seed: u64, steps: &[Step]) {
        assert_eq!(run(seed, steps), Ok(()));
    }

    /// B resolved a conflict by a version that knew of both; A deleted what it had
    /// and resolved against what B had had before, with the same version.
    #[test]
    fn a_version_never_stands_for_two_things() {
        let steps = [
            Intrude(A, 14, Rename(2, 7)),
            User(A, Mkdir(2), true),
            User(B, Symlink(2), true),
            Scan(A),
            Scan(B),
            Deliver(B, 4),
            Apply(B),
        ];
        holds(1071, &steps);
    }

    /// Each side forgot its tombstone before the other's arrived.
    #[test]
    fn a_tombstone_is_not_told_to_and_fro() {
        let steps = [
            Intrude(A, 14, Rename(2, 7)),
            User(A, Mkdir(2), true),
            User(B, Symlink(2), true),
            Scan(A),
            Deliver(B, 4),
            Scan(A),
            Scan(B),
            Deliver(A, 4),
            Apply(A),
            Apply(B),
        ];
        holds(1071, &steps);
    }
}
