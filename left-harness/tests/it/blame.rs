//! Nothing is green without proof, and nothing is held against the wrong one.

use crate::bench::Bench;

#[test]
fn two_kills_at_the_same_byte_are_not_taken_for_deaths() {
    let bench = Bench::new();
    bench.write(
        "scenario.toml",
        r#"
about = "Both are killed in the middle and must resume."
seed  = 7
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "big.bin", size = "8MiB" } },
    { kill  = { on = "b", when = { received = "40%", of = "big.bin" }, hold = true } },
    { kill  = { on = "a", when = { sent = "40%", of = "big.bin" }, hold = true } },
  ] },
  { start = ["a", "b"] },
  { settle = { within = "60s", quiet = "500ms" } },
]
[expect]
trees  = "identical"
"#,
    );
    let ran = bench.run(&["scenario.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    for step in ["2.2", "2.3"] {
        let hit = ran.figure(&format!("kill offset (step {step})"));
        assert_eq!(hit, (8.0 * 1024.0 * 1024.0 * 0.4_f64).floor(), "{step}");
    }
}

#[test]
fn a_kill_in_the_company_of_an_arrival_is_no_death_either() {
    let bench = Bench::new();
    bench.write(
        "scenario.toml",
        r#"
about = "B is killed while A waits for what B sends."
seed  = 7
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "big.bin", size = "8MiB" } },
    { kill  = { on = "b", when = { received = "40%", of = "big.bin" } } },
    { write = { on = "b", path = "late.bin", size = "16MiB" } },
    { arrives = { on = "a", path = "late.bin", within = "3s", as = "L" } },
  ] },
]
[link]
rate = "4MiB/s"
"#,
    );
    let ran = bench.run(&["scenario.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(!ran.all().contains("by itself"), "{}", ran.all());
    assert!(
        ran.stdout.contains("late.bin did not arrive on a"),
        "{}",
        ran.all()
    );
}

/// `left` that goes deaf at b once it has received a file `stop`.
const DEAF: &str = "case $SHARE in */a/*) exec \"$@\";; esac\n\
     \"$@\" & pid=$!\n\
     trap 'kill -KILL $pid; exit 0' TERM\n\
     until [ -e \"$SHARE/stop\" ]; do sleep 0.05; done; kill -STOP $pid; wait $pid";

#[test]
fn an_old_version_is_not_taken_for_the_one_that_is_being_written() {
    let bench = Bench::new();
    bench.left_under("deaf", DEAF);
    bench.write(
        "scenario.toml",
        r#"
about = "A new version must arrive, the old one is there already."
seed  = 3
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "f", size = "1MiB" } },
  { arrives = { on = "b", path = "f", within = "20s" } },
  { write = { on = "a", path = "stop", size = "1B" } },
  { arrives = { on = "b", path = "stop", within = "20s" } },
  { settle = { within = "20s", quiet = "1s" } },
  { together = [
    { arrives = { on = "b", path = "f", within = "2s", as = "F" } },
    { overwrite = { on = "a", path = "f", amount = "1%" } },
  ] },
]
"#,
    );
    let ran = bench.run(&["scenario.toml", "--sut", "deaf"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.figure("MD5_F"), 0.0);
}

const ARRIVES: &str = r#"
about = "A file arrives."
seed  = 3
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "f", size = "1KiB" } },
  { arrives = { on = "b", path = "f", within = "20s" } },
]
"#;

#[test]
fn a_crash_at_the_very_end_is_a_failure() {
    let bench = Bench::new();
    bench.left_under(
        "crashing",
        "\"$@\" & pid=$!\ntrap 'kill -TERM $pid; wait $pid; kill -SEGV $$' TERM\nwait $pid",
    );
    bench.write("scenario.toml", ARRIVES);
    let ran = bench.run(&["scenario.toml", "--sut", "crashing"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.stdout.contains("crashed when it was asked to end"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_death_that_no_step_was_looking_for_is_a_failure() {
    let bench = Bench::new();
    // It ends itself as soon as the file is there; nothing but `write` comes after it.
    bench.left_under(
        "tired",
        "\"$@\" & pid=$!\n\
         until [ -e \"$SHARE/stop\" ]; do sleep 0.05; done; kill -TERM $pid; wait $pid; exit 0",
    );
    bench.write(
        "scenario.toml",
        &ARRIVES.replace(
            "\n]",
            "\n  { write = { on = \"b\", path = \"stop\", size = \"1B\" } },\n  \
             { write = { on = \"a\", path = \"g\", size = \"300MiB\", content = \"zeros\" } },\n]",
        ),
    );
    let ran = bench.run(&["scenario.toml", "--sut", "tired"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.stdout.contains("by itself: exit code 0"),
        "{}",
        ran.all()
    );
}
