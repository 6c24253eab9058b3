//! A program that is not ours: found on the host, configured by files, working by rounds.
//! The harness knows it by its adapter alone.

use std::path::{Path, PathBuf};

use crate::bench::{Bench, Ran, processes_of_run, scenarios};

/// Where the harness would find the program of these tests.
fn installed() -> bool {
    let there = ["/usr/bin/rsync", "/usr/local/bin/rsync"]
        .iter()
        .any(|path| Path::new(path).is_file());
    if !there {
        eprintln!("skipped: rsync is not installed (apt-get install rsync)");
    }
    there
}

fn run(scenario: &str, sut: &str) -> (Bench, Ran) {
    let bench = Bench::new();
    let file = scenarios().join(scenario);
    let ran = bench.run(&[file.to_str().expect("UTF-8"), "--sut", sut]);
    (bench, ran)
}

fn passes(scenario: &str, sut: &str) -> Ran {
    let (_bench, ran) = run(scenario, sut);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let result = ran.result.as_ref().expect("a run was made");
    assert_eq!(result["outcome"], "ok", "{}", ran.all());
    let id = result["run"].as_str().expect("a run has an id");
    assert_eq!(processes_of_run(id), [0; 0], "nothing is left running");
    ran
}

#[test]
fn small_files_go_both_ways() {
    if installed() {
        let ran = passes("smoke.toml", "rsync");
        assert_eq!(
            (ran.check("trees"), ran.check("parts")),
            ("ok".into(), "ok".into())
        );
        // Of all its processes, which is more than those that keep the others.
        assert!(
            ran.figure("peak memory a") > 2.5 * 1024.0 * 1024.0,
            "{}",
            ran.all()
        );
        assert!(ran.figure("processor time b") < 10.0, "{}", ran.all());
    }
}

#[test]
fn a_receiver_that_lives_keeps_what_it_has() {
    if installed() {
        let ran = passes("resume-sender.toml", "rsync");
        assert_eq!(ran.check("resent"), "ok");
    }
}

#[test]
fn a_mirror_that_writes_in_place_resumes_after_any_kill() {
    if installed() {
        let ran = passes("resume.toml", "rsync-oneway");
        assert_eq!(ran.check("resent"), "ok");
    }
}

#[test]
fn what_a_program_does_not_promise_is_skipped_with_the_reason() {
    for (scenario, sut, reason) in [
        (
            "resume.toml",
            "rsync",
            "rsync does not promise to resume a file when its receiver was killed (line 7)",
        ),
        (
            "hard/both-killed.toml",
            "rsync",
            "rsync does not promise to resume a file when its receiver was killed (line 8)",
        ),
        (
            "smoke.toml",
            "rsync-oneway",
            "rsync-oneway does not promise to carry over what is changed on b (line 7)",
        ),
    ] {
        let (bench, ran) = run(scenario, sut);
        assert!(ran.stdout.contains(reason), "{scenario}: {}", ran.all());
        let outcome = &ran.result.as_ref().expect("a run was made")["outcome"];
        assert_eq!(outcome, "skipped", "{}", ran.all());
        assert!(!bench.path("lab").exists(), "nothing was begun");
    }
}

const ONE_FILE: &str = r#"
about = "One file."
seed  = 1
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "f", size = "1KiB" } },
  { settle = { within = "20s", quiet = "500ms" } },
]
[expect]
trees = "identical"
"#;

/// The adapter of the workspace with some words replaced.
fn changed(bench: &Bench, changes: &[(&str, &str)]) -> PathBuf {
    let mut text =
        std::fs::read_to_string(scenarios().join("suts/rsync.toml")).expect("the adapter is there");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replace(from, to);
    }
    bench.write("scenario.toml", ONE_FILE);
    bench.write("suts/changed.toml", &text)
}

#[test]
fn a_program_that_is_not_on_the_host_is_told_with_the_command_that_brings_it() {
    let bench = Bench::new();
    changed(
        &bench,
        &[("program = \"rsync\"", "program = \"rsinc-of-nobody\"")],
    );
    let ran = bench.run(&["scenario.toml", "--sut", "changed"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    let told = "no program rsinc-of-nobody on host a: `apt-get install rsync` there, or name a folder with it by --bin-dir";
    assert!(ran.stdout.contains(told), "{}", ran.all());
}

#[test]
fn a_program_that_needs_its_own_network_is_skipped_where_hosts_have_none() {
    let bench = Bench::new();
    changed(
        &bench,
        &[("[promise]", "[needs]\nnetwork = \"own\"\n[promise]")],
    );
    let ran = bench.run(&["scenario.toml", "--sut", "changed"]);
    let told = "changed needs its own network, which the local lab does not give its hosts";
    assert!(ran.stdout.contains(told), "{}", ran.all());
}

#[test]
fn a_round_that_ends_as_it_should_not_is_the_end_of_the_program() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    changed(
        &bench,
        &[("\"-a\", \"-u\"", "\"-a\", \"--no-such-option\"")],
    );
    let ran = bench.run(&["scenario.toml", "--sut", "changed"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.stdout.contains("exit code 1"), "{}", ran.all());
    assert!(
        ran.stdout
            .contains("a round ended with exit code 1, which is none of [0, "),
        "{}",
        ran.all()
    );
}

#[test]
fn rounds_that_cost_more_than_the_adapter_says_are_not_taken_for_quiet() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let cheap = [
        ("bytes     = \"2KiB\"", "bytes = 1"),
        ("per_entry = 80", "per_entry = 0"),
    ];
    changed(&bench, &cheap);
    let ran = bench.run(&["scenario.toml", "--sut", "changed"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.stdout.contains("bytes moved on the link"),
        "{}",
        ran.all()
    );
}

#[test]
fn two_intervals_longer_than_the_patience_of_the_scenario_prove_nothing() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    changed(&bench, &[("every = \"1s\"", "every = \"11s\"")]);
    let ran = bench.run(&["scenario.toml", "--sut", "changed"]);
    assert_eq!(ran.code, 4, "{}", ran.all());
    assert!(
        ran.stdout.contains("counts as quiet after 22 s"),
        "{}",
        ran.all()
    );
}

#[test]
fn rounds_that_only_say_hello_do_not_keep_a_trigger_waiting_for_ever() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    bench.write(
        "never.toml",
        r#"
about = "The kill is aimed beyond the end of what is sent."
seed  = 1
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "f", size = "1MiB" } },
    { kill  = { on = "a", when = { sent = "100MiB" } } },
  ] },
]
[expect]
trees = "identical"
"#,
    );
    let ran = bench.run(&["never.toml", "--sut", "rsync"]);
    assert_eq!(ran.code, 4, "{}", ran.all());
    assert!(ran.stdout.contains("never fired"), "{}", ran.all());
}

#[test]
fn a_program_that_the_user_brings_is_used_instead_of_the_one_that_is_found() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    // It shows itself in the log, which a program of the host would not.
    let script = "#!/bin/sh\necho brought by hand\nexec rsync \"$@\"\n";
    std::fs::create_dir(bench.path("bin")).expect("a folder can be made");
    bench.write("bin/rsync", script);
    changed(&bench, &[]);
    let ran = bench.run(&["scenario.toml", "--sut", "changed", "--bin-dir", "bin"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let folder = ran.result.as_ref().expect("a run was made")["folder"].clone();
    let folder = bench.path(folder.as_str().expect("the folder is named"));
    let log = std::fs::read_to_string(folder.join("logs/b-1.log")).expect("a log was fetched");
    assert!(log.contains("brought by hand"), "{log}");
}

#[test]
fn a_code_that_the_adapter_calls_clean_is_no_reason_for_a_warning() {
    let bench = Bench::new();
    let deed = "\"$@\" & pid=$!\ntrap 'kill -TERM $pid; wait $pid; exit 20' TERM\nwait $pid";
    bench.left_under("odd", deed);
    bench.write("scenario.toml", ONE_FILE);
    let warned = |bench: &Bench| {
        let ran = bench.run(&["scenario.toml", "--sut", "odd"]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        ran.all()
            .contains("ended with exit code 20 when it was asked to end")
    };
    assert!(warned(&bench));
    let adapter = std::fs::read_to_string(bench.path("suts/odd.toml")).expect("it was written");
    let clean = adapter.replace("[stop]", "[stop]\ncodes = [0, 20]");
    bench.write("suts/odd.toml", &clean);
    assert!(!warned(&bench));
}

/// Of everything in `src`, only the default of the command line may be the name of a
/// program under test: what knows one by name treats it unlike others.
#[test]
fn no_text_in_the_sources_is_the_name_of_an_adapter() {
    let adapters = std::fs::read_dir(scenarios().join("suts")).expect("adapters can be listed");
    let names: Vec<String> = adapters
        .map(|entry| entry.expect("it can be listed").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    assert!(names.len() > 1, "{names:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in [root.join("src"), root.join("probe/src")] {
        sources(&folder, &mut |file, code| {
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                let named = |name: &&String| line.contains(&format!("{name:?}"));
                if let Some(name) = names.iter().find(named) {
                    let file = file.strip_prefix(root).unwrap_or(file).display();
                    found.push(format!("{file}:{}: {name}", number + 1));
                }
            }
        });
    }
    // The default program, and the name of the user that the embedded SSH server knows.
    let known = ["src/cli/mod.rs", "src/lab/local.rs"];
    found.retain(|place| !known.iter().any(|file| place.starts_with(file)));
    assert_eq!(found, [""; 0]);
}

/// The code of each file up to its tests.
fn sources(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            sources(&path, look);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            let code = text.split("#[cfg(test)]\nmod tests {").next();
            look(&path, code.unwrap_or_default());
        }
    }
}
