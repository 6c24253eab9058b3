//! What a program promises, and whether a scenario asks for more. Nobody is failed for
//! what was never promised: the scenario is skipped, and the reason is said.

use crate::scenario::{Action, Case, Direction, Expect, Step, When};

/// What a program promises. Whatever its adapter does not take back is asked of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promise {
    /// Whose changes reach the other side.
    pub ways: Ways,
    /// After which kills it goes on with a file instead of starting over.
    pub resume: After,
    /// After which kills it leaves nothing unfinished behind in the share.
    pub tidy: After,
    /// Steps whose effect it does not carry over: `delete`.
    pub ignores: Vec<&'static str>,
    /// What becomes of a file that both sides changed; `None`: nothing is promised.
    pub conflicts: Option<Conflicts>,
}

/// Whose changes reach the other side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ways {
    /// Everybody's.
    #[default]
    Both,
    /// Only those of the first host.
    First,
}

/// The kills after which something is promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum After {
    /// Whoever is killed.
    #[default]
    Any,
    /// As long as the receiver of the file lives.
    Sender,
    /// None.
    Never,
}

/// What becomes of a file that both sides changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// Both versions survive, one of them under a name of its own.
    Copies,
    /// The later one survives.
    Newest,
    /// Both stay as they are until a user decides.
    Untouched,
}

/// The steps that change a share.
pub(super) const CHANGES: [&str; 14] = [
    "write",
    "put",
    "tree",
    "overwrite",
    "append",
    "insert",
    "truncate",
    "delete",
    "mkdir",
    "touch",
    "rename",
    "swap",
    "link",
    "chmod",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sender,
    /// Or nobody can tell who it is.
    Receiver,
}

impl Promise {
    /// The first thing that a scenario asks and this does not promise, in words that
    /// follow "does not promise to". `first` is the first of its hosts.
    pub fn broken_by(&self, case: &Case, first: &str) -> Option<String> {
        let steps = flat(&case.steps);
        let place = |what: String, step: &Step| format!("{what} (line {})", step.line);
        for step in &steps {
            if let Some(what) = self.change(&step.action, first) {
                return Some(place(what, step));
            }
        }
        let asked = Asked::of(case, &steps);
        steps.iter().find_map(|step| {
            let victim = victim(&step.action)?;
            Some(place(self.kill(victim, asked)?, step))
        })
    }

    fn change(&self, action: &Action, first: &str) -> Option<String> {
        let (word, hosts) = changes(action)?;
        if self.ignores.contains(&word) {
            return Some(format!("carry a `{word}` over"));
        }
        let other = hosts.iter().find(|host| *host != first)?;
        (self.ways == Ways::First).then(|| format!("carry over what is changed on {other}"))
    }

    fn kill(&self, victim: Victim, asked: Asked) -> Option<String> {
        let when = match victim {
            Victim::Sender => "its sender",
            Victim::Receiver => "its receiver",
        };
        if asked.resume && !self.resume.covers(victim) {
            return Some(format!("resume a file when {when} was killed"));
        }
        let untidy = asked.tidy && !self.tidy.covers(victim);
        untidy.then(|| format!("clear up after a file when {when} was killed"))
    }
}

impl After {
    fn covers(self, victim: Victim) -> bool {
        match self {
            After::Any => true,
            After::Sender => victim == Victim::Sender,
            After::Never => false,
        }
    }
}

/// What a scenario asks once something was killed in it.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    resume: bool,
    tidy: bool,
}

impl Asked {
    fn of(case: &Case, steps: &[&Step]) -> Self {
        let mut asked = Self::default();
        asked.add(&case.expect);
        for step in steps {
            match &step.action {
                Action::Expect(expect) => asked.add(expect),
                // Equal trees, which what is left behind on one side makes unequal.
                Action::Settle { .. } => asked.tidy = true,
                _ => {}
            }
        }
        asked
    }

    fn add(&mut self, expect: &Expect) {
        self.resume |= expect.resent.is_some();
        self.tidy |= expect.trees_identical || expect.parts_none;
    }
}

/// The steps with those inside `together`.
fn flat(steps: &[Step]) -> Vec<&Step> {
    let mut all = Vec::new();
    for step in steps {
        match &step.action {
            Action::Together(members) => all.extend(flat(members)),
            _ => all.push(step),
        }
    }
    all
}

/// The word of a step that changes a share, and where it does.
fn changes(action: &Action) -> Option<(&'static str, &[String])> {
    let (word, on) = match action {
        Action::Write { on, .. } => ("write", std::slice::from_ref(on)),
        Action::Put { on, .. } => ("put", std::slice::from_ref(on)),
        Action::Tree { on, .. } => ("tree", std::slice::from_ref(on)),
        Action::Overwrite { on, .. } => ("overwrite", std::slice::from_ref(on)),
        Action::Later { word, on, .. } if CHANGES.contains(word) => (*word, on.as_slice()),
        _ => return None,
    };
    Some((word, on))
}

/// Whom a kill hits, seen from the file on its way.
fn victim(action: &Action) -> Option<Victim> {
    let Action::Kill { on, when, .. } = action else {
        return None;
    };
    let Some(When {
        on: counted,
        direction,
        ..
    }) = when
    else {
        return Some(Victim::Receiver);
    };
    let receives = *direction == Direction::Received;
    // With two hosts, whoever is not the one that counts is the other end.
    let hits_receiver = on.iter().any(|name| (name == counted) == receives);
    Some(match hits_receiver {
        true => Victim::Receiver,
        false => Victim::Sender,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario;

    fn broken(promise: &Promise, steps: &str, expect: &str) -> Option<String> {
        let text = format!("about = \"x\"\nstep = [\n{steps}\n]\n[expect]\n{expect}\n");
        let scenario =
            scenario::parse(Path::new("x.toml"), &text).unwrap_or_else(|wrong| panic!("{wrong}"));
        promise.broken_by(&scenario.cases[0], &scenario.hosts[0].name)
    }

    fn killing(kill: &str) -> String {
        format!(
            "{{ start = [\"a\", \"b\"] }},\n{{ together = [\n{{ write = {{ on = \"a\", path = \"f\", size = \"1MiB\" }} }},\n{{ kill = {kill} }},\n] }},"
        )
    }

    const OF_B: &str = r#"{ on = "b", when = { received = "40%", of = "f" } }"#;
    const OF_A: &str = r#"{ on = "a", when = { sent = "40%", of = "f" } }"#;
    const OF_A_SEEN_FROM_B: &str =
        r#"{ on = "a", when = { on = "b", received = "40%", of = "f" } }"#;
    const OF_BOTH: &str = r#"{ on = ["a", "b"], when = { on = "b", received = "40%", of = "f" } }"#;

    #[test]
    fn who_promises_everything_is_asked_everything() {
        let expect = "trees = \"identical\"\nresent = \"<= 1%\"\nparts = \"none\"";
        for kill in [OF_A, OF_B, OF_BOTH] {
            assert_eq!(
                broken(&Promise::default(), &killing(kill), expect),
                None,
                "{kill}"
            );
        }
    }

    #[test]
    fn resuming_after_the_death_of_the_sender_says_nothing_of_the_receiver() {
        let promise = Promise {
            resume: After::Sender,
            ..Promise::default()
        };
        let broken = |kill| broken(&promise, &killing(kill), "resent = \"<= 1%\"");
        assert_eq!((broken(OF_A), broken(OF_A_SEEN_FROM_B)), (None, None));
        for kill in [OF_B, OF_BOTH] {
            assert_eq!(
                broken(kill).as_deref(),
                Some("resume a file when its receiver was killed (line 6)")
            );
        }
    }

    #[test]
    fn only_what_is_asked_of_a_kill_is_held_against_a_promise() {
        let promise = Promise {
            resume: After::Never,
            tidy: After::Sender,
            ..Promise::default()
        };
        let trees = "trees = \"identical\"";
        assert_eq!(broken(&promise, &killing(OF_A), trees), None);
        assert_eq!(
            broken(&promise, &killing(OF_B), trees).as_deref(),
            Some("clear up after a file when its receiver was killed (line 6)")
        );
        let write = "{ start = \"a\" }, { write = { on = \"a\", path = \"f\", size = 1 } },";
        assert_eq!(
            broken(&promise, write, "trees = \"identical\"\nresent = \"<= 1%\""),
            None
        );
    }

    #[test]
    fn a_kill_that_nothing_aims_may_hit_the_receiver() {
        let promise = Promise {
            resume: After::Sender,
            ..Promise::default()
        };
        let steps = "{ start = \"a\" }, { write = { on = \"a\", path = \"f\", size = 1 } }, { kill = \"a\" },";
        assert!(broken(&promise, steps, "resent = \"<= 1%\"").is_some());
    }

    #[test]
    fn changes_of_the_other_host_and_steps_that_are_ignored_are_not_asked() {
        let promise = Promise {
            ways: Ways::First,
            ignores: vec!["delete"],
            ..Promise::default()
        };
        let start = "{ start = [\"a\", \"b\"] },\n";
        let write =
            |on| format!("{start}{{ write = {{ on = \"{on}\", path = \"f\", size = 1 }} }},");
        let trees = "trees = \"identical\"";
        assert_eq!(broken(&promise, &write("a"), trees), None);
        assert_eq!(
            broken(&promise, &write("b"), trees).as_deref(),
            Some("carry over what is changed on b (line 4)")
        );
        let delete = format!(
            "{}\n{{ delete = {{ on = \"a\", path = \"f\" }} }},",
            write("a")
        );
        assert_eq!(
            broken(&promise, &delete, trees).as_deref(),
            Some("carry a `delete` over (line 5)")
        );
    }
}
