//! Whatever stands in a scenario's file, reading it ends with an answer.

use std::path::Path;

use left_harness::scenario::error::{Mistakes, Paint};
use left_harness::scenario::{self, Scenario};

fn read(text: &str) -> Result<Scenario, Mistakes> {
    let result = scenario::parse(Path::new("x.toml"), text);
    if let Err(mistakes) = &result {
        assert!(!mistakes.list.is_empty(), "no mistake is told");
        for mistake in &mistakes.list {
            let Some(place) = &mistake.place else {
                continue;
            };
            let line = text
                .split('\n')
                .nth(place.line - 1)
                .expect("the line is in the file");
            let line = line.strip_suffix('\r').unwrap_or(line);
            assert_eq!(place.source, line, "the source is not the line");
            assert!(
                place.column <= line.chars().count() + 1,
                "{mistake:?} is not in its line"
            );
            assert!(
                place.column - 1 + place.width <= line.chars().count().max(place.column),
                "{mistake:?} is wider than its line"
            );
        }
        let rendered = mistakes.render(Paint::Plain);
        assert!(
            !rendered.contains(|c: char| c.is_control() && c != '\n'),
            "control characters get out"
        );
    }
    result
}

fn refused(text: &str) -> Mistakes {
    read(text).expect_err("it is no scenario")
}

#[test]
fn hostile_files_are_refused_without_a_panic() {
    let deep = 60_000;
    let keys = vec!["a"; 60].join(".");
    let few = ["a"; 9].join(".");
    let texts = [
        String::new(),
        "\0".into(),
        "\u{feff}".into(),
        "[".repeat(deep),
        format!("step = {}", "[".repeat(deep)),
        format!("step = {}", "{a=".repeat(deep)),
        "]".repeat(deep),
        "{".repeat(deep) + &"}".repeat(deep),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("[{keys}]\n{}", format!("{keys} = {{\n").repeat(79)),
        format!(
            "[{few}]\n{}{few} = 1\n{}",
            format!("{few} = {{\n").repeat(79),
            "}\n".repeat(79)
        ),
        "\"".repeat(deep),
        "'''".repeat(deep),
        "\"\\".repeat(deep),
        "a = 1\n".repeat(deep / 2),
        "[a]\n".repeat(deep / 2),
        "[[a]]\n".repeat(deep / 2),
        "[a\n".repeat(deep / 2),
        "x = = 1\n".repeat(deep / 4),
        "seed = 99999999999999999999999999999999999999".into(),
        format!("seed = {}", "9".repeat(deep)),
        format!("about = \"{}\"", "\u{202e}\u{1b}[31m".repeat(1000)),
        format!("step = [{}]", "{ start = \"$x\" },".repeat(deep / 8)),
        format!("step = [{}]", "{ kill = {} },\n".repeat(deep / 8)),
        format!(
            "step = [\n{}",
            "{ kill = { on = [ \"a },\n".repeat(deep / 8)
        ),
        format!(
            "about = \"x\"\n[matrix]\n{}",
            (0..9000)
                .map(|n| format!("l{n} = [1, 2]\n"))
                .collect::<String>()
        ),
        format!("about = \"x\"\n[matrix]\nl = [{}]", "1,".repeat(deep)),
        "ü".repeat(deep),
        "\r\n\r".repeat(1000),
        "inf = nan\nstep = 1979-05-27\n[expect]\nresent = inf".into(),
    ];
    for text in &texts {
        // The last one shown is the one that is not refused.
        println!(
            "{} bytes of {:?}",
            text.len(),
            text.chars().take(20).collect::<String>()
        );
        refused(text);
    }
}

#[test]
fn a_scenario_of_more_steps_than_anybody_waits_for_is_refused() {
    let step = "{ settle = {} },\n";
    let file = |count: usize| {
        let steps = step.repeat(count);
        format!("about = \"x\"\nstep = [\n{steps}]\n[expect]\ntrees = \"identical\"\n")
    };
    assert!(read(&file(10_000)).is_ok());
    let mistakes = refused(&file(10_001));
    assert_eq!(mistakes.list[0].message, "more than 10000 steps in all");
}

#[test]
fn files_that_are_no_text_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |name: &str, bytes: Option<&[u8]>, reason: &str| {
        let file = dir.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&file, bytes).expect("a file");
        }
        let told = scenario::load(&file)
            .expect_err("it is no scenario")
            .to_string();
        assert!(told.contains(reason), "{told}");
        assert!(told.starts_with(&file.display().to_string()), "{told}");
    };
    check(
        "missing.toml",
        None,
        "cannot read it: no such file or directory",
    );
    check(".", None, "is a directory, not a file");
    check(
        "latin1.toml",
        Some(b"about = \"x\"\nabout = \"\xfc\""),
        "line 2 holds bytes that are not UTF-8",
    );
    check(
        "large.toml",
        Some(&vec![b'#'; 10 << 20]),
        "is larger than 1 MiB",
    );
    let pipe = dir.path().join("pipe.toml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        check("pipe.toml", None, "is not a regular file");
    } else {
        println!("the pipe was skipped: there is no mkfifo");
    }
}

/// A good file with a bit of everything.
const GOOD: &str = include_str!("../../scenarios/hard/disk-full-healed.toml");
const ALSO_GOOD: &str = include_str!("../../scenarios/hard/block-edges.toml");

#[test]
fn damaged_files_are_read_without_a_panic() {
    const ROUNDS: u64 = 1500;
    for seed in 0..ROUNDS {
        // Shown when a round fails; it alone makes the round again.
        let text = damaged(if seed % 2 == 0 { GOOD } else { ALSO_GOOD }, seed);
        let outcome = std::panic::catch_unwind(|| read(&text).is_ok());
        assert!(outcome.is_ok(), "seed {seed} of\n{text}");
    }
}

/// One to six bytes or pieces deleted, doubled, replaced or put in.
fn damaged(text: &str, seed: u64) -> String {
    const PIECES: [&str; 16] = [
        "\"", "'", "{", "}", "[", "]", ",", "=", "\n", "\\", "\"\"\"", "#", ".", "$", "\0", "ü",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=below(6) {
        let at = below(chars.len());
        let until = (at + 1 + below(12)).min(chars.len());
        match below(5) {
            0 => drop(chars.drain(at..until)),
            1 => {
                let piece: Vec<char> = chars[at..until].to_vec();
                chars.splice(at..at, piece);
            }
            2 => drop(chars.splice(at..=at, PIECES[below(16)].chars())),
            3 => drop(chars.splice(at..at, PIECES[below(16)].chars())),
            _ => drop(chars.drain(at..=at)),
        }
    }
    chars.into_iter().collect()
}
