//! What is nobody's fault but must be said clearly: exit codes and messages.

use crate::bench::{Bench, scenarios};

const SMOKE: &str = r#"
about = "One file."
seed  = 1
step = [{ start = ["a", "b"] }, { write = { on = "a", path = "f", size = "1KiB" } }]
[expect]
trees = "identical"
"#;

#[test]
fn a_program_that_dies_at_start_has_failed_and_its_last_words_are_shown() {
    let bench = Bench::new();
    bench.left_under("stillborn", "echo 'cannot find the moon' >&2; exit 7");
    bench.write("smoke.toml", SMOKE);
    let ran = bench.run(&["smoke.toml", "--sut", "stillborn"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.stdout
            .contains("ended before it was ready: exit code 7"),
        "{}",
        ran.all()
    );
    assert!(ran.stdout.contains("cannot find the moon"), "{}", ran.all());
}

#[test]
fn a_program_that_dies_on_the_way_has_failed() {
    let bench = Bench::new();
    bench.left_under(
        "mortal",
        "\"$@\" & pid=$!\nsleep 2; kill -KILL $pid; wait $pid; exit 9",
    );
    bench.write(
        "scenario.toml",
        &SMOKE.replace("\n]\n", "").replace(
            "size = \"1KiB\" } }]",
            "size = \"1KiB\" } }, { settle = { within = \"20s\", quiet = \"10s\" } }]",
        ),
    );
    let ran = bench.run(&["scenario.toml", "--sut", "mortal"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.stdout.contains("ended by itself: exit code 9"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_mistake_in_a_scenario_is_told_before_anything_is_built() {
    let bench = Bench::new();
    bench.write("wrong.toml", &SMOKE.replace("on = \"a\"", "on = \"c\""));
    let ran = bench.run(&[
        "wrong.toml",
        scenarios().join("no-such.toml").to_str().expect("UTF-8"),
    ]);
    assert_eq!(ran.code, 2, "{}", ran.all());
    assert!(ran.stderr.contains("wrong.toml:4:"), "{}", ran.all());
    assert!(ran.stderr.contains("no host named `c`"), "{}", ran.all());
    assert!(ran.stderr.contains("no-such.toml"), "{}", ran.all());
    assert!(
        !bench.path("lab").exists() && !bench.path("out").exists(),
        "nothing was begun"
    );
}

#[test]
fn an_unknown_adapter_is_told_with_the_known_ones() {
    let bench = Bench::new();
    bench.left_under("other", "exec \"$@\"");
    bench.write("smoke.toml", SMOKE);
    let ran = bench.run(&["smoke.toml", "--sut", "lefft"]);
    assert_eq!(ran.code, 2, "{}", ran.all());
    assert!(
        ran.stderr.contains("lefft") && ran.stderr.contains("other"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_missing_program_is_infrastructure() {
    let bench = Bench::new();
    bench.write("smoke.toml", SMOKE);
    std::fs::create_dir(bench.path("empty")).expect("a folder can be made");
    let ran = bench.run(&["smoke.toml", "--bin-dir", "empty"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(
        ran.stdout.contains("no file left in --bin-dir empty"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_program_for_another_machine_is_infrastructure_and_the_remedy_is_named() {
    let bench = Bench::new();
    bench.write("smoke.toml", SMOKE);
    std::fs::create_dir(bench.path("bin")).expect("a folder can be made");
    // The header of a program for a machine of 1985, which nobody runs this on.
    let mut header = b"\x7fELF\x01\x02\x01".to_vec();
    header.resize(18, 0);
    header.extend([0, 4]);
    std::fs::write(bench.path("bin/left"), header).expect("a file can be written");
    let ran = bench.run(&["smoke.toml", "--bin-dir", "bin"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    let remedy = format!("left-{}", std::env::consts::ARCH);
    assert!(
        ran.stdout.contains("bin/left is for another machine") && ran.stdout.contains(&remedy),
        "{}",
        ran.all()
    );
}

#[test]
fn a_host_that_executes_nothing_in_its_folder_is_infrastructure_and_says_why() {
    let bench = Bench::new();
    bench.write("smoke.toml", SMOKE);
    std::fs::create_dir(bench.path("lab")).expect("a folder can be made");
    // A file system of its own, in a mount namespace that goes with the harness.
    let lab = bench.path("lab");
    let mount = format!("mount -t tmpfs -o noexec none '{}'", lab.display());
    let apart = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    if !apart(&mount)
        .output()
        .is_ok_and(|output| output.status.success())
    {
        eprintln!("skipped: nothing can be mounted here, not even in a namespace");
        return;
    }
    let harness = bench.run_command(&["smoke.toml"]);
    let mut command = apart(&format!("{mount} && exec \"$0\" \"$@\""));
    command.arg(harness.get_program()).args(harness.get_args());
    command.current_dir(bench.path(""));
    let ran = bench.ran(command.output().expect("the harness starts"));
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(
        ran.stdout.contains("which is mounted noexec"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_lab_folder_that_cannot_be_made_is_infrastructure() {
    let bench = Bench::new();
    bench.write("smoke.toml", SMOKE);
    bench.write("lab", "a file where a folder must be");
    let ran = bench.run(&["smoke.toml"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(
        ran.stdout.contains("cannot make the folder of host a"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_kill_whose_moment_never_comes_is_inconclusive() {
    let bench = Bench::new();
    bench.write(
        "scenario.toml",
        r#"
about = "The kill is aimed beyond the end of what is sent."
seed  = 1
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "f", size = "1MiB" } },
    { kill  = { on = "b", when = { received = "100MiB" } } },
  ] },
]
[expect]
trees = "identical"
"#,
    );
    let ran = bench.run(&["scenario.toml"]);
    assert_eq!(ran.code, 4, "{}", ran.all());
    assert!(ran.stdout.contains("never fired"), "{}", ran.all());
}
