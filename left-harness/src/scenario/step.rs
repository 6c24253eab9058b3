//! One step: a table with one key, the word, whose value says the rest. Which words
//! there are stands here, what each of them takes in the modules below; what a step
//! needs and what it leaves is told to the `world`.

use std::path::Path;
use std::time::Duration;

use super::error::{Lines, Span, tame};
use super::path::path_trouble;
use super::raw::{Fields, Node, Reader};
use super::world::{Want, World};
use super::{Action, Amount, Step};
use when::Trigger;

pub(super) mod checks;
mod faults;
mod files;
mod names;
mod process;
mod when;

/// The words, in the order in which a user meets them.
const WORDS: [&str; 30] = [
    "start",
    "stop",
    "kill",
    "write",
    "put",
    "tree",
    "overwrite",
    "together",
    "arrives",
    "gone",
    "settle",
    "expect",
    "append",
    "insert",
    "truncate",
    "delete",
    "rename",
    "swap",
    "mkdir",
    "link",
    "chmod",
    "touch",
    "cut",
    "heal",
    "fill",
    "free",
    "pause",
    "resume",
    "wait",
    "exec",
];

/// Those that may need nothing but hosts, so that `kill = "b"` says it all.
const SHORT: [&str; 8] = [
    "start", "stop", "kill", "cut", "heal", "free", "pause", "resume",
];

/// Over all cells together. Each step costs at least a round trip over SSH.
const STEPS_MAX: usize = 10_000;

/// What `settle`, `arrives`, `gone` and `exec` wait unless they say otherwise.
const WITHIN: Duration = Duration::from_secs(60);

/// Reads steps against a world that they change.
pub(super) struct Steps<'r, 'd> {
    pub(super) reader: &'r Reader<'d>,
    pub(super) lines: &'r Lines<'r>,
    /// Where `put` looks for its files.
    pub(super) folder: &'r Path,
    pub(super) hosts: &'r [String],
    pub(super) world: World,
    /// How many were read, in all cells.
    pub(super) count: usize,
}

/// Where a step stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Together,
}

impl<'r, 'd> Steps<'r, 'd> {
    /// The steps of a scenario.
    pub(super) fn read(&mut self, list: Node<'r, 'd>) -> Option<Vec<Step>> {
        let nodes = list.list("a list of steps")?;
        if nodes.is_empty() {
            self.reader.wrong(list.span, "has no steps");
        }
        let mut steps = Vec::new();
        for node in nodes {
            if self.count >= STEPS_MAX {
                self.reader
                    .wrong(node.span, format!("more than {STEPS_MAX} steps in all"));
                return None;
            }
            steps.extend(self.step(node, Level::Top));
            self.world.step_ended(self.reader);
        }
        Some(steps)
    }

    fn step(&mut self, node: Node<'r, 'd>, level: Level) -> Option<Step> {
        self.count += 1;
        let Some(entries) = node.entries("a step such as { start = \"a\" }") else {
            self.world.lost_track();
            return None;
        };
        let Some(entry) = entries.first() else {
            self.reader.wrong(node.span, "a step without a word");
            return None;
        };
        for more in &entries[1..] {
            let message = format!(
                "`{}` needs a step of its own: a step has one word",
                tame(more.key)
            );
            self.reader.wrong(more.at, message);
        }
        let line = self.lines.line(entry.at.start);
        let Some(value) = entry.value else {
            self.world.lost_track();
            return None;
        };
        let action = self.action(entry.key, entry.at, value, level)?;
        Some(Step { action, line })
    }

    fn action(
        &mut self,
        word: &str,
        at: Span,
        value: Node<'r, 'd>,
        level: Level,
    ) -> Option<Action> {
        if level == Level::Together && matches!(word, "together" | "settle" | "expect" | "wait") {
            self.reader
                .wrong(at, format!("`{word}` cannot stand inside `together`"));
            return None;
        }
        if word == "together" {
            return self.together(value, at);
        }
        if word == "wait" {
            return self.wait(value);
        }
        if !WORDS.contains(&word) {
            let message = format!("unknown step `{}`", tame(word));
            self.reader.unknown(at, message, word, WORDS);
            self.world.lost_track();
            return None;
        }
        let name = format!("`{word}`");
        let fields = match SHORT.contains(&word) {
            true => value.fields_or("on", name, at),
            false => value.fields(name, at),
        };
        let Some(fields) = fields else {
            self.world.lost_track();
            return None;
        };
        let mut one = OneStep {
            fields,
            level,
            steps: self,
        };
        let action = match word {
            "start" => one.start(),
            "stop" => one.stop(),
            "kill" => one.kill(),
            "write" => one.write(),
            "put" => one.put(),
            "tree" => one.tree(),
            "overwrite" => one.overwrite(),
            "arrives" => one.arrives(),
            "gone" => one.gone(),
            "settle" => one.settle(),
            "expect" => one.expect(),
            "append" => one.append(),
            "insert" => one.insert(),
            "truncate" => one.truncate(),
            "delete" => one.delete(),
            "rename" => one.rename(),
            "swap" => one.swap(),
            "mkdir" => one.mkdir(),
            "link" => one.link(),
            "chmod" => one.chmod(),
            "touch" => one.touch(),
            "cut" => one.cut(),
            "fill" => one.fill(),
            "pause" => one.pause(),
            "heal" => one.heal(),
            "free" => one.free(),
            "resume" => one.resume(),
            _ => one.exec(),
        };
        one.fields.finish();
        action
    }

    fn together(&mut self, value: Node<'r, 'd>, at: Span) -> Option<Action> {
        let nodes = value.list("a list of steps")?;
        if nodes.is_empty() {
            self.reader.wrong(at, "`together` has no steps");
        }
        let mut steps = Vec::new();
        for node in nodes {
            if self.count >= STEPS_MAX {
                self.reader
                    .wrong(node.span, format!("more than {STEPS_MAX} steps in all"));
                return None;
            }
            steps.extend(self.step(node, Level::Together));
        }
        Some(Action::Together(steps))
    }

    fn host(&self, node: Node<'r, 'd>) -> Option<String> {
        let name = node.text()?;
        if self.hosts.iter().any(|host| host == name) {
            return Some(name.to_owned());
        }
        let message = format!("no host named `{}`", tame(name));
        self.reader.unknown(
            node.span,
            message,
            name,
            self.hosts.iter().map(String::as_str),
        );
        None
    }

    /// A path inside the share.
    fn path(&self, node: Node<'r, 'd>) -> Option<String> {
        let path = node.text()?;
        match path_trouble(path) {
            None => Some(path.to_owned()),
            Some(trouble) => {
                self.reader
                    .wrong(node.span, format!("the path `{}` {trouble}", tame(path)));
                None
            }
        }
    }
}

/// The fields of one step, and everything they are checked against.
struct OneStep<'s, 'r, 'd> {
    fields: Fields<'r, 'd>,
    level: Level,
    steps: &'s mut Steps<'r, 'd>,
}

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    fn world(&mut self) -> &mut World {
        &mut self.steps.world
    }

    fn on(&mut self) -> Option<String> {
        let node = self.fields.must("on")?;
        self.steps.host(node)
    }

    /// One host or a list of them, all different, with their places.
    fn hosts(&mut self) -> Option<Vec<(String, Span)>> {
        let value = self.fields.must("on")?;
        let nodes = value.one_or_list()?;
        if nodes.is_empty() {
            self.steps.reader.wrong(value.span, "names no host");
            return None;
        }
        let mut hosts: Vec<(String, Span)> = Vec::new();
        let mut whole = true;
        for node in nodes {
            match self.steps.host(node) {
                Some(host) if hosts.iter().any(|(other, _)| *other == host) => {
                    let message = format!("`{host}` stands here for the second time");
                    self.steps.reader.wrong(node.span, message);
                    whole = false;
                }
                Some(host) => hosts.push((host, node.span)),
                None => whole = false,
            }
        }
        whole.then_some(hosts)
    }

    fn path_of(&mut self, key: &'static str) -> Option<(String, Span)> {
        let node = self.fields.must(key)?;
        Some((self.steps.path(node)?, node.span))
    }

    /// The path that a step writes.
    fn new_path(&mut self) -> Option<String> {
        let path = self.path_of("path");
        self.world().paths_unsure |= path.is_none();
        path.map(|(path, _)| path)
    }

    /// The path that must have been written before.
    fn old_path(&mut self, want: Want) -> Option<String> {
        let (path, span) = self.path_of("path")?;
        self.world().wants(&path, span, want);
        Some(path)
    }

    fn within(&mut self, otherwise: Duration) -> Option<Duration> {
        let within = match self.fields.may("within") {
            Some(node) => node.duration()?,
            None => otherwise,
        };
        if within.is_zero() {
            let at = self.fields.place("within");
            self.steps
                .reader
                .wrong(at, "nothing happens within no time");
        }
        Some(within)
    }

    fn amount(&mut self) -> Option<Amount> {
        let node = self.fields.must("amount")?;
        let amount = node.amount()?;
        self.some(node.span, amount)
    }

    /// An amount that is not nothing.
    fn some(&self, span: Span, amount: Amount) -> Option<Amount> {
        if matches!(amount, Amount::Bytes(0))
            || matches!(amount, Amount::Share(share) if share <= 0.0)
        {
            self.steps.reader.wrong(span, "the amount is nothing");
            return None;
        }
        Some(amount)
    }

    /// `Some(None)`: not said.
    fn offset(&mut self) -> Option<Option<u64>> {
        match self.fields.may("at") {
            Some(node) => node.size().map(Some),
            None => Some(None),
        }
    }
}

/// A step on one host that is checked and cannot be carried out yet.
fn later(word: &'static str, on: &str, text: String, trigger: Option<Trigger>) -> Action {
    later_on(word, vec![on.to_owned()], text, trigger)
}

/// The same on any number of hosts.
fn later_on(word: &'static str, on: Vec<String>, text: String, trigger: Option<Trigger>) -> Action {
    let text = match trigger {
        Some(trigger) => format!("{text} {}", trigger.beside(&on)),
        None => text,
    };
    Action::Later { word, on, text }
}
