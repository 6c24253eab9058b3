//! Every mistake of a scenario is told at once, where it is and with what is known.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use left_harness::scenario::{self, Action, Scenario};

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
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A list of hosts is no scenario.
            name.ends_with(".toml") && !name.starts_with("hosts.")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenario in {folder}");
    files
}

fn load(file: &Path) -> Scenario {
    scenario::load(file).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// A case as the display of a run shows it.
fn told(scenario: &Scenario) -> String {
    let Some(case) = scenario.cases.last() else {
        return format!("{}: no case\n", scenario.name);
    };
    let mut text = match scenario.cases.len() {
        1 => format!("{}\n", scenario.name),
        count => format!(
            "{}[{}], the last of {count} cases\n",
            scenario.name, case.label
        ),
    };
    for step in &case.steps {
        text.push_str(&format!("  {:2}  {}\n", step.line, step.action));
    }
    text.push_str(&format!("      expect {}\n", case.expect));
    if let Some((line, word)) = case.needs_unbuilt() {
        text.push_str(&format!("      skipped: line {line} needs `{word}`\n"));
    }
    text
}

#[test]
fn every_scenario_of_the_library_loads() {
    for file in library("") {
        let scenario = load(&file);
        assert!(
            scenario.about.ends_with('.'),
            "{} is told in a sentence",
            scenario.name
        );
        println!("{}", told(&scenario));
    }
}

#[test]
fn the_hard_scenarios_read_as_they_are_meant() {
    let all: Vec<String> = library("hard")
        .iter()
        .map(|file| told(&load(file)))
        .collect();
    insta::assert_snapshot!("hard", all.join("\n"));
}

#[test]
fn the_quick_scenario_runs_today() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/quick.toml");
    let scenario = load(&file);
    assert_eq!(scenario.cases[0].needs_unbuilt(), None);
}

fn guide() -> String {
    std::fs::read_to_string(root().join("scenarios/README.md")).expect("the guide")
}

/// What `known: …` lists for the mistake that `steps` are.
fn known(steps: &str, mistake: &str) -> Vec<String> {
    let mistakes = scenario::parse(Path::new("x.toml"), &around(steps)).expect_err("a mistake");
    let found = mistakes
        .list
        .iter()
        .find(|found| found.message.starts_with(mistake))
        .unwrap_or_else(|| panic!("{steps}: {mistakes}"));
    let help = found.help.as_ref().expect("the known names");
    let (_, names) = help.split_once("known: ").expect("the known names");
    names.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_step_and_every_key_is_in_the_guide() {
    let guide = guide();
    // Every other piece between backticks is code.
    let code: BTreeSet<&str> = guide
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric()))
        .collect();
    let words = known("{ x = 1 }", "unknown step");
    let mut missing: Vec<String> = words
        .iter()
        .filter(|word| !guide.contains(&format!("`{word}")))
        .cloned()
        .collect();
    for word in &words {
        if word == "together" || word == "wait" {
            continue;
        }
        let keys = known(
            &format!("{{ {word} = {{ zzz = 1 }} }}"),
            "unknown key `zzz`",
        );
        let unknown = keys.into_iter().filter(|key| !code.contains(key.as_str()));
        missing.extend(unknown.map(|key| format!("{word}.{key}")));
    }
    assert!(missing.is_empty(), "the guide lacks {missing:?}");
}

#[test]
fn the_guide_has_no_step_that_does_not_exist() {
    let guide = guide();
    let table = guide.split("| step |").nth(1).expect("the steps");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let words = known("{ x = 1 }", "unknown step");
    let mut count = 0;
    for row in rows {
        let first = row.split('|').nth(1).expect("a column");
        // `delete`*, `mkdir`* `= { on, path }`: those that do not begin with `=`.
        for code in first.split('`').skip(1).step_by(2) {
            let word = code.split(' ').next().unwrap_or_default();
            if word == "=" || word == "{" {
                continue;
            }
            assert!(words.iter().any(|known| known == word), "`{word}` in {row}");
            count += 1;
        }
    }
    assert_eq!(count, words.len(), "each step has its place in the guide");
}

#[test]
fn steps_are_the_same_in_a_list_and_as_tables() {
    let list = "about = \"x\"\nstep = [{ start = \"a\" }, { write = { on = \"a\", path = \"x\", size = 1 } }]\n\
                [expect]\nparts = \"none\"\n";
    let tables = "about = \"x\"\n[[step]]\nstart = \"a\"\n[[step]]\nwrite.on = \"a\"\nwrite.path = \"x\"\nwrite.size = 1\n\
                  [expect]\nparts = \"none\"\n";
    let actions = |text: &str| {
        let scenario = scenario::parse(Path::new("x.toml"), text)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        scenario.cases[0]
            .steps
            .iter()
            .map(|step| step.action.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(actions(list), actions(tables));
}

/// The last step of a scenario around `steps`.
fn last(steps: &str) -> Action {
    let scenario = scenario::parse(Path::new("x.toml"), &around(steps))
        .unwrap_or_else(|mistakes| panic!("{steps}: {mistakes}"));
    let steps = &scenario.cases[0].steps;
    steps.last().expect("a step").action.clone()
}

#[test]
fn steps_that_need_only_hosts_are_the_same_without_a_table() {
    for (before, word) in [
        ("{ stop = [\"a\", \"b\"] },", "start"),
        ("", "stop"),
        ("", "kill"),
        (
            "{ cut = { on = \"a\" } }, { cut = { on = \"b\" } },",
            "heal",
        ),
    ] {
        for hosts in ["\"b\"", "[\"a\", \"b\"]"] {
            let short = last(&format!("{before} {{ {word} = {hosts} }}"));
            let long = last(&format!("{before} {{ {word} = {{ on = {hosts} }} }}"));
            assert_eq!(short, long, "{word}");
        }
    }
}

#[test]
fn every_step_with_a_trigger_may_hold_the_link() {
    let trigger = "when = { on = \"b\", received = 5 }, hold = true";
    for step in [
        "stop = { on = \"b\"",
        "kill = { on = \"b\"",
        "write = { on = \"a\", path = \"x\", size = 9",
        "put = { on = \"a\", path = \"x\", from = \"Cargo.toml\"",
        "tree = { on = \"a\", path = \"x\", files = 9, size = 9",
        "overwrite = { on = \"a\", path = \"big.bin\", amount = 9",
        "append = { on = \"a\", path = \"big.bin\", amount = 9",
        "insert = { on = \"a\", path = \"big.bin\", amount = 9, at = 9",
        "truncate = { on = \"a\", path = \"big.bin\", by = 9",
        "delete = { on = \"a\", path = \"big.bin\"",
        "rename = { on = \"a\", path = \"big.bin\", to = \"x\"",
        "swap = { on = \"a\", path = \"big.bin\", with = \"big.bin\"",
        "mkdir = { on = \"a\", path = \"x\"",
        "link = { on = \"a\", path = \"x\", to = \"y\"",
        "chmod = { on = \"a\", path = \"big.bin\", mode = \"600\"",
        "touch = { on = \"a\", path = \"big.bin\"",
        "exec = { on = \"a\", argv = [\"true\"]",
        "cut = { on = \"b\"",
        "fill = { on = \"b\", leave = 9",
        "pause = { on = \"b\"",
    ] {
        let action = last(&format!("{{ together = [{{ {step}, {trigger} }} }}] }}"));
        let told = action.to_string();
        assert!(told.ends_with(", hold"), "{told}");
        let built = step.starts_with("kill");
        assert_eq!(action.needs_unbuilt().is_none(), built, "{told}");
        let without = format!("{{ {step}, hold = true }} }}");
        assert_eq!(
            messages(&around(&without)),
            ["`hold` needs `when`: it stops the link at the byte of the trigger"],
            "{step}"
        );
    }
    let again = "{ stop = \"b\" }, { together = [{ start = { on = \"b\", when = { on = \"a\", sent = 5 }, hold = true } }] }";
    assert_eq!(last(again).needs_unbuilt(), Some("start with when"));
}

/// What the user sees of `text` in a file named `x.toml`.
fn rendered(text: &str) -> String {
    match scenario::parse(Path::new("x.toml"), text) {
        Ok(scenario) => format!("no mistake: {scenario:#?}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

#[test]
fn a_slip_two_bad_steps_an_unknown_key_and_an_unknown_host_are_told_together() {
    let text = r#"about = "x"
seed = 7
step = [
  { start = ["a", "b" },
  { together = [
    { write = { on = "a", path = "big.bin", size = "256MB!" } },
    { kill = { on = "bata", when = { received = "140%", of = "big.bin" } } },
  ] },
  { strat = ["b"] },
  { settle = { within = "60s" } },
]
[expect]
trees = "identical"
resend = "<= 1% + 1MiB"
"#;
    insta::assert_snapshot!("all_together", rendered(text));
}

#[test]
fn slips_of_the_syntax_do_not_hide_each_other() {
    let text = r#"about = "it never ends
seed = seven
step = [
  { start = "a", },
  { write = { on = "a", path = "x, size = "1MiB" } },
  { write = { on = "a", path = "y", size = 1MiB } },
  { kill = { on = "b" },
  { kill = { on = "c" } },
  { start = "d"] },
  { stop = "e" }
  { settle = { within = } },

[host.a]
share = { sice = "1MiB" }
[expect
trees = "same"
[expect]
parts = "none
"#;
    insta::assert_snapshot!("slips", rendered(text));
}

/// A whole scenario around some steps that may rely on `a` and `b` running and on
/// `big.bin` (1 MiB) at `a`.
fn around(steps: &str) -> String {
    format!(
        "about = \"x\"\nstep = [\n{{ start = [\"a\", \"b\"] }},\n\
         {{ write = {{ on = \"a\", path = \"big.bin\", size = \"1MiB\" }} }},\n{steps}\n]\n\
         [expect]\ntrees = \"identical\"\n"
    )
}

/// The messages of a scenario, in their order.
fn messages(text: &str) -> Vec<String> {
    match scenario::parse(Path::new("x.toml"), text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes
            .list
            .into_iter()
            .map(|mistake| mistake.message)
            .collect(),
    }
}

fn check_steps(cases: &[(&str, &[&str])]) {
    for (steps, expected) in cases {
        assert_eq!(messages(&around(steps)), *expected, "{steps}");
    }
}

#[test]
fn every_mistake_of_a_step_is_told() {
    check_steps(&[
        ("{ }", &["a step without a word"]),
        (
            "{ stop = \"a\", kill = { on = \"b\" } }",
            &["`kill` needs a step of its own: a step has one word"],
        ),
        ("{ kil = { on = \"b\" } }", &["unknown step `kil`"]),
        (
            "7",
            &["must be a step such as { start = \"a\" }, not a number"],
        ),
        ("{ stop = \"c\" }", &["no host named `c`"]),
        ("{ stop = [] }", &["names no host"]),
        (
            "{ stop = [\"a\", \"a\"] }",
            &["`a` stands here for the second time"],
        ),
        ("{ kill = { } }", &["`kill` needs `on`"]),
        (
            "{ kill = { on = 1, when = \"now\", hold = \"yes\" } }",
            &[
                "must be text in quotes, not a number",
                "`when` needs a `together` with the transfer: triggers are armed before it begins",
                "must be a table such as { on = \"a\", … }, not text",
                "must be true or false, not text",
            ],
        ),
        (
            "{ kill = { on = \"b\", hold = true } }",
            &["`hold` needs `when`: it stops the link at the byte of the trigger"],
        ),
        ("{ kill = 7 }", &["must be text in quotes, not a number"]),
        ("{ kill = [\"a\", \"c\"] }", &["no host named `c`"]),
        ("{ start = { } }", &["`start` needs `on`"]),
        (
            "{ stop = { on = \"b\", within = \"5s\" } }",
            &["unknown key `within` in `stop`"],
        ),
        (
            "{ kill = { on = \"b\", at = \"1MiB\" } }",
            &["unknown key `at` in `kill`"],
        ),
        ("{ start = \"b\" }", &["`b` runs already at this step"]),
        (
            "{ stop = \"b\" }, { kill = { on = \"b\" } }",
            &["`b` does not run at this step"],
        ),
        (
            "{ kill = { on = \"b\" } }, { stop = \"b\" }",
            &["`b` does not run at this step"],
        ),
        (
            "{ heal = \"b\" }",
            &["nothing on `b` is left to heal at this step"],
        ),
        (
            "{ wait = 20 }",
            &["must be a duration such as \"60s\", not a number"],
        ),
        ("{ wait = \"0s\" }", &["nothing lasts no time"]),
        ("{ together = [] }", &["`together` has no steps"]),
        (
            "{ together = [{ together = [] }, { settle = {} }, { expect = {} }, { wait = \"1s\" }] }",
            &[
                "`together` cannot stand inside `together`",
                "`settle` cannot stand inside `together`",
                "`expect` cannot stand inside `together`",
                "`wait` cannot stand inside `together`",
            ],
        ),
        (
            "{ settle = { within = \"2s\", quiet = \"2s\" } }",
            &["2s of quiet never fit within 2s"],
        ),
        (
            "{ settle = { within = \"0s\", quiet = \"0s\" } }",
            &[
                "nothing happens within no time",
                "0s of quiet never fit within 0s",
            ],
        ),
        ("{ expect = { } }", &["nothing is expected"]),
        (
            "{ expect = { trees = \"alike\", parts = 0, resent = \"1%\" } }",
            &[
                "unknown word `alike`",
                "must be text in quotes, not a number",
                "the bound `1%` does not begin with `<=`",
            ],
        ),
        (
            "{ arrives = { on = \"b\", path = \"big.bim\" } }",
            &["no step before wrote `big.bim`"],
        ),
        (
            "{ arrives = { on = \"b\", path = \"big.bin\", as = \"x y\", within = 60 } }",
            &[
                "`x y` must be 1 to 32 letters, digits, `_` or `-`",
                "must be a duration such as \"60s\", not a number",
            ],
        ),
        (
            "{ arrives = { on = \"b\", path = \"big.bin\", as = \"x\" } }, { arrives = { on = \"a\", path = \"big.bin\", as = \"x\" } }",
            &["`x` is the name of two figures"],
        ),
    ]);
}

#[test]
fn a_step_that_is_not_understood_puts_no_blame_on_later_ones() {
    let arrives =
        "{ arrives = { on = \"b\", path = \"new\" } }, { stop = \"b\" }, { start = \"b\" }";
    for (broken, mistake) in [
        (
            "{ wriet = { on = \"a\", path = \"new\", size = 1 } }",
            "unknown step `wriet`",
        ),
        (
            "{ write = \"new\" }",
            "must be a table such as { on = \"a\", … }, not text",
        ),
        (
            "{ write = { on = \"a\", path = 1, size = 1 } }",
            "must be text in quotes, not a number",
        ),
        (
            "{ write = { on = \"a\", path = \"new\", size = \"1Mib\" } }",
            "the size `1Mib` has the unknown unit `Mib`",
        ),
        ("[]", "must be a step such as { start = \"a\" }, not a list"),
    ] {
        let found = messages(&around(&format!("{broken}, {arrives}")));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(mistake), "{found:?}");
    }
    let found = messages(&around(
        "{ stop = \"bb\" }, { start = \"b\" }, { kill = { on = \"b\" } }",
    ));
    assert_eq!(found, ["no host named `bb`"]);
}

#[test]
fn only_what_was_taken_away_can_be_gone() {
    let gone = |path: &str| format!("{{ gone = {{ on = \"b\", path = \"{path}\" }} }}");
    let check = |before: &str, path: &str, expected: &[&str]| {
        let steps = format!("{before} {}", gone(path));
        assert_eq!(messages(&around(&steps)), expected, "{steps}");
    };
    let delete = "{ delete = { on = \"a\", path = \"big.bin\" } },";
    let write = "{ write = { on = \"a\", path = \"big.bin\", size = 1 } },";
    let tree = "{ tree = { on = \"a\", path = \"t\", files = 2, size = 1 } },";
    let taken = ["no step before took `big.bin` away"];
    check("", "big.bin", &taken);
    check("", "big.bim", &["no step before took `big.bim` away"]);
    check(delete, "big.bin", &[]);
    check(
        &format!("{delete} {write}"),
        "big.bin",
        &["no step before took `big.bin` away"],
    );
    check(
        "{ rename = { on = \"a\", path = \"big.bin\", to = \"new\" } },",
        "big.bin",
        &[],
    );
    check(
        "{ rename = { on = \"a\", path = \"big.bin\", to = \"new\" } },",
        "new",
        &["no step before took `new` away"],
    );
    check(tree, "t/f0", &["no step before took `t/f0` away"]);
    let gone_tree = format!("{tree} {{ delete = {{ on = \"a\", path = \"t\" }} }},");
    check(&gone_tree, "t/f0", &[]);
    check(
        &format!("{gone_tree} {{ write = {{ on = \"a\", path = \"t/x\", size = 1 }} }},"),
        "t",
        &["`t` was written again before this step"],
    );
    check(
        "{ exec = { on = \"a\", argv = [\"rm\"], changes = [\"big.bin\"] } },",
        "big.bin",
        &[],
    );
    check("{ wriet = {} },", "big.bin", &["unknown step `wriet`"]);
    let together = format!("{{ together = [{delete} {}] }}", gone("big.bin"));
    assert_eq!(messages(&around(&together)), [""; 0]);
    assert_eq!(
        last(&format!("{delete} {}", gone("big.bin"))).needs_unbuilt(),
        Some("gone")
    );
    check("", "../x", &["the path `../x` leads out of the share"]);
}

#[test]
fn each_fault_lasts_until_its_own_opposite() {
    check_steps(&[
        (
            "{ cut = \"b\" }, { fill = { on = \"b\", leave = 0 } }, { pause = [\"a\", \"b\"] }, { wait = \"20s\" }, \
             { resume = [\"a\", \"b\"] }, { free = \"b\" }, { heal = \"b\" }",
            &[],
        ),
        (
            "{ cut = \"b\" }, { free = \"b\" }, { resume = \"b\" }, { heal = \"a\" }",
            &[
                "nothing on `b` is left to free at this step",
                "nothing on `b` is left to resume at this step",
                "nothing on `a` is left to heal at this step",
            ],
        ),
        (
            "{ cut = { on = \"b\", for = \"1s\" } }, { heal = \"b\" }",
            &["nothing on `b` is left to heal at this step"],
        ),
        (
            "{ cut = \"b\" }, { cut = { on = \"b\", for = \"1s\" } }",
            &["a `cut` of `b` lasts already at this step"],
        ),
        ("{ cut = \"b\" }, { heal = \"b\" }, { cut = \"b\" }", &[]),
        (
            "{ pause = \"b\" }, { kill = \"b\" }, { start = \"b\" }, { pause = \"b\" }",
            &[],
        ),
        (
            "{ pause = \"b\" }, { kill = \"b\" }, { resume = \"b\" }",
            &["nothing on `b` is left to resume at this step"],
        ),
        // Of a fault that is not understood nobody knows whether it lasts.
        (
            "{ cut = { on = \"b\", for = 1 } }, { heal = \"b\" }",
            &["must be a duration such as \"60s\", not a number"],
        ),
        (
            "{ cut = \"bb\" }, { heal = \"b\" }",
            &["no host named `bb`"],
        ),
        (
            "{ cut = \"b\" }, { heal = \"bb\" }, { cut = \"b\" }",
            &["no host named `bb`"],
        ),
    ]);
}

#[test]
fn members_of_a_together_may_rely_on_each_other() {
    check_steps(&[
        (
            "{ kill = { on = \"b\" } }, { together = [{ kill = { on = \"b\", when = { received = \"1%\", of = \"new\" } } }, \
             { start = \"b\" }, { write = { on = \"a\", path = \"new\", size = 9 } }] }, { start = \"b\" }",
            &[],
        ),
        (
            "{ tree = { on = \"a\", path = \"t\", files = 2, size = 1 } }, { arrives = { on = \"b\", path = \"t/f0\" } }",
            &[],
        ),
        (
            "{ exec = { on = \"a\", argv = [\"cp\"], changes = [\"c\"] } }, { overwrite = { on = \"a\", path = \"c\", amount = 1 } }",
            &[],
        ),
        (
            "{ cut = { on = \"b\" } }, { kill = { on = \"b\" } }, { heal = \"b\" }, { start = \"b\" }",
            &[],
        ),
    ]);
}

#[test]
fn every_mistake_of_a_trigger_is_told() {
    let check = |when: &str, expected: &[&str]| {
        let steps = format!("{{ together = [{{ kill = {{ on = [\"b\"], when = {when} }} }}] }}");
        assert_eq!(messages(&around(&steps)), expected, "{when}");
    };
    check("{ received = \"40%\", of = \"big.bin\" }", &[]);
    check("{ received = \"1MiB\" }", &[]);
    check("{ }", &["`when` needs `received` or `sent`"]);
    check("{ received = \"40%\" }", &["40% of what?"]);
    check(
        "{ received = \"40%\", of = \"other\" }",
        &["no step before wrote `other`"],
    );
    check(
        "{ received = \"40%\", of = \"../big.bin\" }",
        &["the path `../big.bin` leads out of the share"],
    );
    check(
        "{ received = \"101%\", of = \"big.bin\" }",
        &["the amount `101%` is more than 100%"],
    );
    check(
        "{ received = \"0%\", of = \"big.bin\" }",
        &["the amount is nothing"],
    );
    check(
        "{ received = \"2MiB\", of = \"big.bin\" }",
        &["2 MiB never come: the file has 1 MiB"],
    );
    check(
        "{ received = 1, sent = 1 }",
        &["`when` has either `received` or `sent`"],
    );
    check(
        "{ recieved = 1 }",
        &[
            "`when` needs `received` or `sent`",
            "unknown key `recieved` in `when`",
        ],
    );
    check("{ on = \"c\", sent = 1 }", &["no host named `c`"]);
    let both = "{ together = [{ kill = { on = [\"a\", \"b\"], when = { sent = 1 } } }] }";
    assert_eq!(
        messages(&around(both)),
        ["`when` needs `on` where the step is on several hosts: which one counts?"]
    );
    let empty = "{ together = [{ write = { on = \"a\", path = \"e\", size = 0 } }, \
                 { kill = { on = \"b\", when = { sent = \"1%\", of = \"e\" } } }] }";
    assert_eq!(
        messages(&around(empty)),
        ["is empty, so that nothing of it is ever on the way"]
    );
}

#[test]
fn every_mistake_of_the_workload_is_told() {
    check_steps(&[
        (
            "{ write = { on = \"a\", path = \"/etc/passwd\", size = \"1MiB\" } }",
            &["the path `/etc/passwd` is absolute: paths begin at the share"],
        ),
        (
            "{ write = { on = \"a\", path = \"x\", size = -1 } }",
            &["the size is no possible number of bytes"],
        ),
        (
            "{ write = { on = \"a\", path = \"x\", size = 9999999999999 } }",
            &["the size is more than 1 TiB"],
        ),
        (
            "{ write = { on = \"a\", path = \"x\", size = 1.5 } }",
            &["must be a size such as \"10MiB\", not a number"],
        ),
        (
            "{ write = { on = \"a\", path = \"x\", size = 1, content = \"noise\", how = \"fast\" } }",
            &["unknown word `noise`", "unknown word `fast`"],
        ),
        (
            "{ put = { on = \"a\", path = \"x\", from = \"no-such-file\" } }",
            &["the file `no-such-file` does not exist beside the scenario"],
        ),
        (
            "{ put = { on = \"a\", path = \"x\", from = \"/etc/passwd\" } }",
            &["the file `/etc/passwd` must be named from the folder of the scenario"],
        ),
        (
            "{ put = { on = \"a\", path = \"x\", from = \".\" } }",
            &["the file `.` is no regular file"],
        ),
        (
            "{ tree = { on = \"a\", path = \"t\", files = 0, size = 1 } }",
            &["must be a number from 1 to 200000"],
        ),
        (
            "{ overwrite = { on = \"a\", path = \"y\", amount = \"1%\" } }",
            &["no step before wrote `y`"],
        ),
        (
            "{ overwrite = { on = \"a\", path = \"big.bin\", amount = \"0%\" } }",
            &["the amount is nothing"],
        ),
        (
            "{ overwrite = { on = \"a\", path = \"big.bin\", amount = \"1MiB\", at = 1 } }",
            &["reaches beyond the end of the file, which has 1 MiB"],
        ),
        (
            "{ tree = { on = \"a\", path = \"t\", files = 9, size = 1 } }, { overwrite = { on = \"a\", path = \"t\", amount = 1 } }",
            &["is no file, so that it has no bytes to change"],
        ),
        (
            "{ delete = { on = \"a\", path = \"big.bin\" } }, { arrives = { on = \"b\", path = \"big.bin\" } }",
            &["no step before wrote `big.bin`"],
        ),
        (
            "{ rename = { on = \"a\", path = \"big.bin\", to = \"new\" } }, { touch = { on = \"a\", path = \"big.bin\" } }",
            &["no step before wrote `big.bin`"],
        ),
        (
            "{ rename = { on = \"a\", path = \"big.bin\", to = \"new\" } }, { touch = { on = \"a\", path = \"new\" } }",
            &[],
        ),
        (
            "{ swap = { on = \"a\", path = \"big.bin\", with = \"none\" } }",
            &["no step before wrote `none`"],
        ),
        (
            "{ truncate = { on = \"a\", path = \"big.bin\", by = \"2MiB\" } }",
            &["reaches beyond the end of the file, which has 1 MiB"],
        ),
        (
            "{ truncate = { on = \"a\", path = \"big.bin\", to = \"1MiB\" } }",
            &["cuts nothing off the file, which has 1 MiB"],
        ),
        (
            "{ truncate = { on = \"a\", path = \"big.bin\", by = 0 } }",
            &["cuts nothing off"],
        ),
        (
            "{ truncate = { on = \"a\", path = \"big.bin\", to = 1, by = 1 } }",
            &["`truncate` has either `to` or `by`"],
        ),
        (
            "{ truncate = { on = \"a\", path = \"big.bin\", amount = 1 } }",
            &[
                "`truncate` needs `to` or `by`",
                "unknown key `amount` in `truncate`",
            ],
        ),
        (
            "{ truncate = { on = \"a\", path = \"big.bin\", to = 7 } }, { truncate = { on = \"a\", path = \"big.bin\", by = 8 } }",
            &["reaches beyond the end of the file, which has 7 bytes"],
        ),
        (
            "{ truncate = { on = \"a\", path = \"big.bin\", to = 7 } }, { truncate = { on = \"a\", path = \"big.bin\", by = 7 } }",
            &[],
        ),
        (
            "{ insert = { on = \"a\", path = \"big.bin\", amount = 1 } }",
            &["`insert` needs `at`"],
        ),
        (
            "{ chmod = { on = \"a\", path = \"big.bin\", mode = \"rwx\" } }",
            &["the mode `rwx` is not like \"644\""],
        ),
        (
            "{ link = { on = \"a\", path = \"l\", to = \"\" } }",
            &["is no possible target of a link"],
        ),
        (
            "{ exec = { on = \"a\", argv = [] } }",
            &["is no command: a list of the program and its arguments"],
        ),
        (
            "{ exec = { on = \"a\", argv = \"rm -rf\", exit = 256, changes = [\"..\"] } }",
            &[
                "must be a list of texts, not text",
                "must be a number from 0 to 255",
                "the path `..` leads out of the share",
            ],
        ),
        (
            "{ cut = { on = \"b\", way = \"up\", how = \"hard\" } }",
            &["unknown word `up`", "unknown word `hard`"],
        ),
        (
            "{ cut = { on = \"b\", way = \"in\", how = \"reset\" } }",
            &["a connection ends both ways: `reset` takes no `way`"],
        ),
        (
            "{ cut = { on = \"b\", way = \"in\", how = \"drop\" } }",
            &[],
        ),
        (
            "{ cut = { on = \"b\", every = \"3s\" } }",
            &["`every` needs `for` and `times`"],
        ),
        (
            "{ cut = { on = \"b\", for = \"3s\", every = \"3s\", times = 2 } }",
            &["`every` counts from start to start: it must be longer than `for`"],
        ),
        (
            "{ pause = { on = \"b\", for = \"0s\" } }",
            &["a fault of no time is none"],
        ),
        ("{ fill = { on = \"b\" } }", &["`fill` needs `leave`"]),
        (
            "{ stop = \"b\" }, { pause = { on = \"b\", for = \"1s\" } }",
            &["`b` does not run at this step"],
        ),
    ]);
}

#[test]
fn every_mistake_of_the_tables_is_told() {
    let steps =
        "step = [{ start = \"a\" }, { write = { on = \"a\", path = \"x\", size = \"$size\" } }]\n";
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &["the scenario needs `about`", "the scenario needs `step`"],
        ),
        (
            "about = \" \"\nstep = []\n",
            &[
                "`about` must say what a pass proves",
                "has no steps",
                "the scenario proves nothing",
            ],
        ),
        (
            "about = \"x\"\nseed = -1\nstep = [{ start = \"a\" }]\n[expect]\n",
            &[
                "must be a number from 0 to 9223372036854775807",
                "nothing is expected",
            ],
        ),
        (
            "about = \"x\"\nstep = [{ start = \"a\" }]\nsteps = 1\n",
            &[
                "the scenario proves nothing",
                "unknown key `steps` in the scenario",
            ],
        ),
        (
            "about = \"x\"\nstep = [{ start = \"a\" }]\n[expect]\nresent = \"<= 1%\"\n",
            &["`resent` means nothing here: no step writes anything"],
        ),
        (
            "about = \"x\"\nstep = [{ start = \"a\" }, { write = { on = \"a\", path = \"x\", size = 1, content = \"text\" } }]\n[expect]\nresent = \"<= 1%\"\n",
            &["`resent` means nothing here: `x` is text, only random content weighs what it is"],
        ),
        (
            "about = \"x\"\nstep = [{ start = \"a\" }]\n[expect]\ntrees = \"identical\"\n[host.Bad]\n[host.c]\nshare = {}\nuser = 1\n",
            &[
                "no host named `a`",
                "the host name `Bad` must be 1 to 16 of a-z, 0-9 and `-`",
                "`share` needs `size`",
                "unknown key `user` in [host.c]",
            ],
        ),
        (
            "about = \"x\"\nstep = [{ start = \"c\" }]\n[expect]\ntrees = \"identical\"\n[host.c]\n",
            &["a scenario has 2 hosts, not 1"],
        ),
        (
            "about = \"x\"\nstep = [{ start = \"a\" }]\n[expect]\ntrees = \"identical\"\n[link]\nrate = \"10MiB\"\ndelay = \"1\"\nloss = \"2\"\njitter = 1\n",
            &[
                "the rate `10MiB` has the unknown unit `MiB` (known: KiB/s, MiB/s, GiB/s, MB/s, kbit/s, Mbit/s, Gbit/s)",
                "the duration `1` has no unit (ms, s, m, h)",
                "the percentage `2` is no percentage (`40%`)",
                "unknown key `jitter` in [link]",
            ],
        ),
        (
            &format!(
                "about = \"x\"\n{steps}[expect]\ntrees = \"identical\"\n[matrix]\nsice = [1, 2]\n"
            ),
            &["no list named `size` in [matrix]", "no step uses `$sice`"],
        ),
        (
            &format!(
                "about = \"x\"\n{steps}[expect]\ntrees = \"identical\"\n[matrix]\nsize = []\n"
            ),
            &["the list `size` is empty: there would be no case"],
        ),
        (
            &format!(
                "about = \"x\"\n{steps}[expect]\ntrees = \"identical\"\n[matrix]\nsize = [1, \"much\", 1]\n"
            ),
            &[
                "the size `much` does not begin with a number",
                "stands in this list for the second time",
            ],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(messages(text), *expected, "{text}");
    }
}

#[test]
fn a_matrix_of_more_cells_than_anybody_waits_for_is_refused() {
    let list = (0..17).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let text = format!(
        "about = \"x\"\nstep = [{{ write = {{ on = \"a\", path = \"x\", size = \"$s\" }} }}, {{ write = {{ on = \"a\", path = \"y\", size = \"$t\" }} }}]\n\
         [expect]\ntrees = \"identical\"\n[matrix]\ns = [{list}]\nt = [{list}]\n"
    );
    assert_eq!(messages(&text), ["the matrix has more than 256 cells"]);
}

#[test]
fn each_cell_of_a_matrix_is_a_case_of_its_own() {
    let text = "about = \"x\"\nstep = [{ start = [\"a\", \"b\"] }, \
                { together = [{ write = { on = \"a\", path = \"x\", size = \"$size\" } }, { kill = { on = \"b\", when = \"$when\" } }] }]\n\
                [expect]\ntrees = \"identical\"\n\
                [matrix]\nsize = [\"1MiB\", 7]\nwhen = [{ received = 5 }, { sent = \"50%\", of = \"x\" }]\n";
    let scenario =
        scenario::parse(Path::new("x.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let cells: Vec<String> = scenario
        .cases
        .iter()
        .map(|case| format!("{}: {}", case.label, case.steps[1].action))
        .collect();
    insta::assert_snapshot!(cells.join("\n"), @r"
    size=1MiB,when=#1: together: write a:x, 1 MiB; kill b when 5 bytes received
    size=1MiB,when=#2: together: write a:x, 1 MiB; kill b when 50% of x sent
    size=7,when=#1: together: write a:x, 7 bytes; kill b when 5 bytes received
    size=7,when=#2: together: write a:x, 7 bytes; kill b when 50% of x sent
    ");
}
