//! Runs in which the two sides change different fields of the same paths.

use super::run::{Run, Violation};
use super::seeds::first_on_all_processors;
use crate::planted::{Bug, with};

/// Seeds of every test run; `LEFT_SIM_FIELDS=from..to` runs others.
const SEEDS: std::ops::Range<u64> = 0..100;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("LEFT_SIM_FIELDS") else {
        return SEEDS;
    };
    let (from, to) = text.split_once("..").expect("LEFT_SIM_FIELDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn both_chmod_vs_edit_merge_and_a_deletion_stays_whatever_happens() {
    let failed = first_on_all_processors(seeds(), |seed| {
        let failed = Run::new(seed).merge_fields().err();
        failed.map(|Violation(why)| format!("seed {seed}: {why}"))
    });
    if let Some(failed) = failed {
        panic!("{failed}");
    }
}

/// Whether a mistake that is planted is found.
fn is_found(bug: Bug) -> bool {
    let fails = |seed| with(bug, || Run::new(seed).merge_fields()).err();
    first_on_all_processors(SEEDS, fails).is_some()
}

#[test]
fn a_mode_is_no_part_of_the_content() {
    assert!(is_found(Bug::ModeGoesWithContent));
}

#[test]
fn a_change_of_a_mode_is_no_edit() {
    assert!(is_found(Bug::MetadataBeatsDeletion));
}
