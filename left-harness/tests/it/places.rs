//! Unusual places and names: they work, or it is said what to do instead.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::bench::{Bench, Ran, scenarios};

fn smoke() -> String {
    scenarios().join("smoke.toml").display().to_string()
}

#[test]
fn names_with_spaces_dashes_and_depth_are_written_sent_and_compared() {
    let bench = Bench::new();
    bench.write("empty", "");
    bench.write("one", "one file of the dev box\n");
    bench.write("two", &"another\n".repeat(20_000));
    bench.write(
        "scenario.toml",
        r#"
about = "Names that shells and options stumble over."
seed  = 3
step = [
  { start = ["a", "b"] },
  { together = [
    { put = { on = "a", path = "-rf", from = "one" } },
    { put = { on = "a", path = "--  two words", from = "two" } },
    { put = { on = "a", path = "ä/$HOME/`x`/'q'", from = "empty" } },
    { write = { on = "b", path = "deep/er/and/-n/f f", size = "1KiB" } },
    { tree = { on = "b", path = "-t r", files = 3, size = "10B" } },
    { arrives = { on = "b", path = "--  two words", as = "P" } },
    { arrives = { on = "a", path = "-t r", as = "T" } },
  ] },
  { overwrite = { on = "a", path = "--  two words", amount = "10B" } },
  { expect = { parts = "none" } },
  { stop = ["b"] },
  { start = ["b"] },
  { settle = { within = "60s", quiet = "500ms" } },
]
[expect]
trees = "identical"
parts = "none"
"#,
    );
    // The lab's folder has a space, too.
    let mut command = bench.command(&[
        "run",
        "scenario.toml",
        "--out",
        "out",
        "--lab-dir",
        "my lab",
    ]);
    let ran = bench.ran(command.output().expect("the harness starts"));
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(ran.figure("MD5_P"), 1.0);
    assert_eq!(ran.check("content"), "ok");
}

#[test]
fn two_runs_at_once_share_a_lab() {
    let bench = Bench::new();
    let other = bench
        .command(&["run", &smoke(), "--out", "out2", "--lab-dir", "lab"])
        .spawn()
        .expect("the harness starts");
    let ran = bench.run(&[&smoke()]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let other = bench.ran(other.wait_with_output().expect("it ends"));
    assert_eq!(other.code, 0, "{}", other.all());
    assert!(bench.left_on_hosts().is_empty());
}

#[test]
fn a_place_that_cannot_be_used_is_named_with_the_way_out() {
    let bench = Bench::new();
    let odd = bench.path("x").with_file_name(OsStr::from_bytes(b"\xff"));
    let mut odd_lab = bench.command(&["run", &smoke(), "--out", "out", "--lab-dir"]);
    odd_lab.arg(odd);
    let mut homeless = bench.command(&["run", &smoke(), "--out", "out"]);
    homeless.env_remove("HOME").env_remove("XDG_CACHE_HOME");
    let mut no_folder = bench.command(&["run", &smoke(), "--out", "out"]);
    no_folder.env("XDG_CACHE_HOME", "/proc/nowhere");
    for (mut command, shown) in [
        (odd_lab, "is not UTF-8"),
        (homeless, "neither XDG_CACHE_HOME nor HOME is set"),
        (no_folder, "cannot make the folder of host a"),
    ] {
        let ran = bench.ran(command.output().expect("the harness starts"));
        assert_eq!(ran.code, 3, "{}", ran.all());
        assert!(ran.all().contains(shown), "{shown}: {}", ran.all());
        assert!(ran.all().contains("--lab-dir"), "{shown}: {}", ran.all());
    }
}

/// Runs the harness with a lab on a disk of this size; `None` where that takes
/// privileges that the test does not have.
fn run_on_disk(bench: &Bench, size: &str, scenario: &str) -> Option<Ran> {
    std::fs::create_dir(bench.path("lab")).expect("a folder can be made");
    let mount = format!("mount -t tmpfs -o size={size} lab lab");
    let mut may = Command::new("unshare");
    may.args(["-m", "sh", "-c", &mount]);
    let may = may.current_dir(bench.path("")).output();
    if !may.is_ok_and(|may| may.status.success()) {
        println!("skipped: only root may mount a small disk");
        return None;
    }
    bench.write("scenario.toml", scenario);
    let run = bench.run_command(&["scenario.toml"]);
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(bench.path(""))
        .env("NO_COLOR", "1");
    Some(bench.ran(command.output().expect("the harness starts")))
}

fn write_and_settle(size: &str) -> String {
    format!(
        r#"
about = "A disk that is too small."
seed = 1
step = [
  {{ start = ["a", "b"] }},
  {{ write = {{ on = "a", path = "f", size = "{size}" }} }},
  {{ settle = {{ within = "5s" }} }},
]
[expect]
trees = "identical"
"#
    )
}

#[test]
fn a_full_disk_is_never_blamed_on_the_program() {
    let disks = [("2m", "1KiB", 3), ("64m", "100MiB", 3), ("64m", "40MiB", 4)];
    std::thread::scope(|scope| {
        for (disk, file, code) in disks {
            scope.spawn(move || {
                let bench = Bench::new();
                if let Some(ran) = run_on_disk(&bench, disk, &write_and_settle(file)) {
                    assert_eq!(ran.code, code, "{disk} {file}: {}", ran.all());
                    assert!(ran.all().contains("--lab-dir"), "{}", ran.all());
                }
            });
        }
    });
}
