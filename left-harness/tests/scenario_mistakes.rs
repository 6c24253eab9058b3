//! Every mistake of a scenario is told at once, where it is and with what is known.

use std::path::{Path, PathBuf};

use left_harness::scenario::{self, Scenario};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The scenario's files, in the order of their names.
fn library(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("scenarios").join(folder))
        .expect("the library can be listed");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenario in {folder}");
    files
}

fn load(file: &Path) -> Scenario {
    scenario::load(file).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn every_scenario_of_the_library_loads() {
    for file in library("").into_iter().chain(library("hard")) {
        let scenario = load(&file);
        for case in &scenario.cases {
            println!("{} [{}]", scenario.name, case.label);
            for step in &case.steps {
                println!("  {}: {}", step.line, step.action);
            }
            println!("  expect {}; needs {:?}", case.expect, case.needs_unbuilt());
        }
    }
}
