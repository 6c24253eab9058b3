//! Each expectation fails when it should: `left` runs under a script that does what
//! a broken program would do.

use crate::bench::{Bench, Ran};

/// Performs the script's own deed when the program was asked to end: after both
/// sides had settled, before anybody looks.
fn after_stop(deed: &str) -> String {
    format!(
        "\"$@\" & pid=$!\n\
         trap 'kill -TERM $pid; wait $pid; case $SHARE in */b/*) {deed};; esac; exit 0' TERM\n\
         wait $pid"
    )
}

fn run_with_deed(deed: &str) -> Ran {
    let bench = Bench::new();
    bench.left_under("broken", &after_stop(deed));
    bench.write(
        "scenario.toml",
        r#"
about = "A few files arrive."
seed  = 3
step = [
  { start = ["a", "b"] },
  { tree  = { on = "a", path = "d", files = 3, size = "1KiB" } },
  { write = { on = "a", path = "text.txt", size = "4KiB", content = "text" } },
  { settle = { within = "60s", quiet = "500ms" } },
]
[expect]
trees = "identical"
parts = "none"
"#,
    );
    bench.run(&["scenario.toml", "--sut", "broken"])
}

#[test]
fn with_no_deed_it_passes() {
    let ran = run_with_deed("true");
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn trees_fail_when_a_tree_changed_behind_its_back() {
    let ran = run_with_deed(
        "cd \"$SHARE\"; rm d/f0000; echo x >new; chmod 600 d/f0001; touch -d 2001-02-03 d/f0002; \
         mkdir hollow; ln -s nowhere pointer",
    );
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.check("trees"), "fail");
    let result = ran.result.as_ref().expect("a run was made");
    let checks = result["checks"].as_array().expect("checks are a list");
    let trees = checks.iter().find(|check| check["what"] == "trees");
    let details = trees.expect("it was checked")["details"].as_array();
    let lines: Vec<&str> = details
        .expect("details are a list")
        .iter()
        .filter_map(|line| line.as_str())
        .collect();
    for (path, shown) in [
        ("d/f0000", "missing at b"),
        ("new", "missing at a"),
        ("d/f0001", "mode"),
        ("d/f0002", "mtime"),
        ("hollow", "missing at a"),
        ("pointer", "missing at a"),
    ] {
        assert!(
            lines
                .iter()
                .any(|line| line.contains(path) && line.contains(shown)),
            "{path} is not shown as {shown:?}: {}",
            ran.all()
        );
    }
}

#[test]
fn a_changed_text_is_shown_as_a_difference_of_lines() {
    // Same size, same mtime, other content: what a quick look cannot see.
    let ran = run_with_deed(
        "cp -p \"$SHARE/text.txt\" \"$SHARE/../keep\"; sed -i \"1s/^0/9/\" \"$SHARE/text.txt\"; \
         touch -r \"$SHARE/../keep\" \"$SHARE/text.txt\"",
    );
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.check("trees"), "fail");
    assert!(ran.stdout.contains("-00000000 "), "{}", ran.all());
    assert!(ran.stdout.contains("+90000000 "), "{}", ran.all());
}

#[test]
fn parts_fail_when_one_is_left() {
    let ran =
        run_with_deed("mkdir -p \"$SHARE/.left/parts\"; echo x >\"$SHARE/.left/parts/leftover\"");
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.check("parts"), "fail");
    assert_eq!(ran.check("trees"), "ok", "a part is the program's own");
}

#[test]
fn resent_fails_when_a_transfer_starts_over() {
    let bench = Bench::new();
    bench.left_under("forgetful", "rm -rf \"$SHARE/.left/parts\"; exec \"$@\"");
    bench.write(
        "scenario.toml",
        r#"
about = "B is killed at 60 % and must resume."
seed  = 3
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "big.bin", size = "24MiB" } },
    { kill  = { on = "b", when = { received = "60%", of = "big.bin" }, hold = true } },
  ] },
  { start = ["b"] },
  { settle = { within = "60s" } },
]
[expect]
trees  = "identical"
resent = "<= 1% + 3MiB"
"#,
    );
    let ran = bench.run(&["scenario.toml", "--sut", "forgetful"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.check("resent"), "fail");
    assert_eq!(ran.check("trees"), "ok", "it is whole all the same");
    assert!(
        ran.figure("resent a → b") > 0.5 * 24.0 * 1024.0 * 1024.0,
        "{}",
        ran.all()
    );
}

#[test]
fn a_file_that_never_arrives_fails_and_shows_what_is_missing() {
    let bench = Bench::new();
    // Stops syncing at once, but goes on living.
    bench.left_under(
        "deaf",
        "\"$@\" & pid=$!\ntrap 'kill -KILL $pid; exit 0' TERM\nsleep 1; kill -STOP $pid; wait $pid",
    );
    bench.write(
        "scenario.toml",
        r#"
about = "A file arrives."
seed  = 3
step = [
  { start = ["a", "b"] },
  { settle = { within = "20s", quiet = "3s" } },
  { write = { on = "a", path = "late.bin", size = "1KiB" } },
  { arrives = { on = "b", path = "late.bin", within = "2s", as = "L" } },
]
"#,
    );
    let ran = bench.run(&["scenario.toml", "--sut", "deaf"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.check("MD5_L"), "fail");
    assert_eq!(ran.figure("MD5_L"), 0.0);
    assert!(
        ran.stdout.contains("late.bin did not arrive on b"),
        "{}",
        ran.all()
    );
}
