//! What a scenario needs of a lab, derived from its content: no scenario says in
//! which lab it runs, and no lab knows scenarios.
//!
//! Each lab answers for one [`Need`] at a time why it cannot carry it; the first
//! answer is why the scenario is skipped there.

use crate::scenario::{Action, Case, Scenario};

/// Something that not every lab has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// A link that loses packets.
    Loss,
    /// A link of a limited rate.
    Rate,
    /// A link that takes its time.
    Delay,
    /// A link that counts every byte.
    Count,
    /// A link that stands still at a byte.
    Hold,
    /// A share of limited size on this host.
    LimitedShare(String),
    /// A fault of this kind on this host.
    Fault(Hurt, String),
}

/// What is done to a host. An inventory says which of them its hosts may suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hurt {
    /// Its program is killed or stopped for a while.
    Kill,
    /// Its data network is cut.
    Network,
    /// Its disk is filled.
    Disk,
    /// Its clock is set.
    Clock,
}

impl Hurt {
    /// Every kind with the word for it, in files and in messages.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("kill", Self::Kill),
        ("network", Self::Network),
        ("disk", Self::Disk),
        ("clock", Self::Clock),
    ];

    /// `kill`
    pub fn word(self) -> &'static str {
        let known = Self::WORDS.iter().find(|(_, hurt)| *hurt == self);
        known.map_or("", |(word, _)| word)
    }

    /// What the step `word` does, if it is a fault.
    fn of_step(word: &str) -> Option<Self> {
        match word {
            "kill" | "pause" => Some(Self::Kill),
            "cut" => Some(Self::Network),
            "fill" => Some(Self::Disk),
            _ => None,
        }
    }
}

/// All that one case of a scenario needs, each once, in the order in which it matters.
pub fn needs(scenario: &Scenario, case: &Case) -> Vec<Need> {
    let mut needs = Vec::new();
    let link = &scenario.link;
    if link.loss.is_some() {
        needs.push(Need::Loss);
    }
    if link.rate.is_some() {
        needs.push(Need::Rate);
    }
    if link.delay.is_some() {
        needs.push(Need::Delay);
    }
    for host in &scenario.hosts {
        if host.share_bytes.is_some() {
            needs.push(Need::LimitedShare(host.name.clone()));
        }
    }
    let everywhere: Vec<&str> = scenario
        .hosts
        .iter()
        .map(|host| host.name.as_str())
        .collect();
    for step in &case.steps {
        of_action(&step.action, &everywhere, &mut needs);
    }
    if case.expect.resent.is_some() {
        add(&mut needs, Need::Count);
    }
    needs
}

fn of_action(action: &Action, everywhere: &[&str], needs: &mut Vec<Need>) {
    match action {
        Action::Together(steps) => {
            for step in steps {
                of_action(&step.action, everywhere, needs);
            }
        }
        Action::Kill { on, when, hold } => {
            for host in on {
                add(needs, Need::Fault(Hurt::Kill, host.clone()));
            }
            if when.is_some() {
                add(needs, Need::Count);
            }
            if *hold {
                add(needs, Need::Hold);
            }
        }
        Action::Expect(expect) if expect.resent.is_some() => add(needs, Need::Count),
        Action::Later { word, on, .. } => {
            let Some(hurt) = Hurt::of_step(word) else {
                return;
            };
            let named: Vec<&str> = on.iter().map(String::as_str).collect();
            let hosts = if named.is_empty() { everywhere } else { &named };
            for host in hosts {
                add(needs, Need::Fault(hurt, (*host).to_owned()));
            }
        }
        _ => {}
    }
}

fn add(needs: &mut Vec<Need>, need: Need) {
    if !needs.contains(&need) {
        needs.push(need);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(text: &str) -> Vec<Need> {
        let scenario = crate::scenario::parse(Path::new("x.toml"), text)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        needs(&scenario, &scenario.cases[0])
    }

    #[test]
    fn a_plain_scenario_needs_nothing_that_some_lab_lacks() {
        let plain = "about = \"x\"\nseed = 1\nstep = [{ start = [\"a\", \"b\"] }]\n\
                     [expect]\ntrees = \"identical\"\n";
        assert_eq!(of(plain), []);
    }

    #[test]
    fn everything_that_is_said_becomes_a_need_once() {
        let text = r#"
about = "x"
seed = 1
step = [
  { start = ["a", "b"] },
  { together = [
    { write = { on = "a", path = "f", size = "1MiB" } },
    { kill = { on = "b", when = { received = "40%", of = "f" }, hold = true } },
  ] },
  { start = ["b"] },
  { cut = { on = "a" } },
  { heal = "a" },
  { kill = "b" },
  { start = ["b"] },
  { settle = { within = "60s" } },
]
[host.b]
share = { size = "64MiB" }
[link]
rate = "1MiB/s"
delay = "10ms"
loss = "1%"
[expect]
trees = "identical"
resent = "<= 1%"
"#;
        assert_eq!(
            of(text),
            [
                Need::Loss,
                Need::Rate,
                Need::Delay,
                Need::LimitedShare("b".into()),
                Need::Fault(Hurt::Kill, "b".into()),
                Need::Count,
                Need::Hold,
                Need::Fault(Hurt::Network, "a".into()),
            ]
        );
    }
}
