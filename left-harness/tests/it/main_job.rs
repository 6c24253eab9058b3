//! The main job, end to end, with small files.

use crate::bench::{Bench, Ran, scenarios};

const SMALL_RESUME: &str = r#"
about = "B is killed at 40 % of a 24 MiB file and must resume."
seed  = 7
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "big.bin", size = "24MiB" } },
    { kill  = { on = "b", when = { received = "40%", of = "big.bin" }, hold = true } },
  ] },
  { start = ["b"] },
  { settle = { within = "60s" } },
]
[expect]
trees  = "identical"
resent = "<= 1% + 3MiB"
parts  = "none"
"#;

#[test]
fn a_killed_receiver_resumes_and_the_trees_are_proved_equal() {
    let bench = Bench::new();
    bench.write("resume.toml", SMALL_RESUME);
    let ran = bench.run(&["resume.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    for what in ["trees", "content", "resent", "parts"] {
        assert_eq!(ran.check(what), "ok", "{}", ran.all());
    }
    let size = 24.0 * 1024.0 * 1024.0;
    assert_eq!(
        ran.figure("kill offset"),
        (size * 0.4_f64).floor(),
        "hold hits the very byte"
    );
    assert!(ran.figure("delivered a → b") >= size, "{}", ran.all());
    assert!(ran.stdout.contains("PASS"), "{}", ran.all());
    assert_eq!(bench.left_on_hosts(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_second_run_deploys_nothing_and_leaves_the_same_evidence() {
    let bench = Bench::new();
    let smoke = scenarios().join("smoke.toml");
    let smoke = smoke.to_str().expect("a path in UTF-8");
    let note = |ran: &Ran| {
        let result = ran.result.as_ref().expect("a run was made");
        let phases = result["phases"].as_array().expect("phases are a list");
        let deploy = phases
            .iter()
            .find(|phase| phase["phase"] == "deploy")
            .expect("it deployed");
        deploy["note"].as_str().expect("a note").to_owned()
    };
    let first = bench.run(&[smoke]);
    assert_eq!(first.code, 0, "{}", first.all());
    assert!(note(&first).starts_with("4 programs"), "{}", note(&first));
    let second = bench.run(&[smoke, "--json"]);
    assert_eq!(second.code, 0, "{}", second.all());
    assert!(note(&second).starts_with("nothing"), "{}", note(&second));
    leaves_its_evidence(&bench, &second);
}

fn leaves_its_evidence(bench: &Bench, ran: &Ran) {
    let printed: serde_json::Value =
        serde_json::from_str(ran.stdout.trim()).expect("--json prints JSON");
    assert_eq!(Some(&printed), ran.result.as_ref());
    let folder = bench.path(printed["folder"].as_str().expect("the folder is named"));
    for file in [
        "history.jsonl",
        "result.json",
        "manifests/a.jsonl",
        "manifests/b.jsonl",
        "logs/a-1.log",
        "logs/b-1.log",
    ] {
        assert!(
            folder.join(file).is_file(),
            "{file} is missing in {}",
            folder.display()
        );
    }
    let history = std::fs::read_to_string(folder.join("history.jsonl")).expect("readable");
    let events: Vec<serde_json::Value> = history
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of history is JSON"))
        .collect();
    assert_eq!(events[0]["event"], "run-started");
    assert_eq!(events[events.len() - 1]["event"], "run-ended");
}
