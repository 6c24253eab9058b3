//! Runs in which the two sides change different fields of the same paths.

use super::run::{Run, Violation};
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
    for seed in seeds() {
        if let Err(Violation(why)) = Run::new(seed).merge_fields() {
            panic!("seed {seed}: {why}");
        }
    }
}

/// The seed in which a mistake that was planted is found.
fn finds(bug: Bug) -> Option<u64> {
    SEEDS
        .into_iter()
        .find(|seed| with(bug, || Run::new(*seed).merge_fields()).is_err())
}

#[test]
fn a_mode_is_no_part_of_the_content() {
    assert!(finds(Bug::ModeGoesWithContent).is_some());
}

#[test]
fn a_change_of_a_mode_is_no_edit() {
    assert!(finds(Bug::MetadataBeatsDeletion).is_some());
}
