//! One step: a table with one key, the word, whose value says the rest. Every word of
//! the language is here; what it needs and what it leaves is told to the `world`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Lines, Span, known, tame};
use super::raw::{Fields, Node, Reader};
use super::units::{show_duration, show_size};
use super::world::{Known, Want, World};
use super::{Action, Amount, Content, Direction, Expect, How, Step, When};

/// The words, in the order in which a user meets them.
const WORDS: [&str; 27] = [
    "start",
    "stop",
    "kill",
    "write",
    "put",
    "tree",
    "overwrite",
    "together",
    "arrives",
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
    "fill",
    "pause",
    "heal",
    "exec",
    "wait",
];

/// Over all cells together. Each step costs at least a round trip over SSH.
const STEPS_MAX: usize = 10_000;

/// More small files than any hazard of the library asks for.
const TREE_FILES_MAX: u64 = 200_000;

/// What `settle` and `arrives` wait unless they say otherwise.
const WITHIN: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(2);

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
        let entries = node.entries("a step such as { start = \"a\" }")?;
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
        let action = self.action(entry.key, entry.at, entry.value?, level)?;
        Some(Step { action, line })
    }

    fn action(
        &mut self,
        word: &str,
        at: Span,
        value: Node<'r, 'd>,
        level: Level,
    ) -> Option<Action> {
        if level == Level::Together && matches!(word, "together" | "settle" | "expect") {
            self.reader
                .wrong(at, format!("`{word}` cannot stand inside `together`"));
            return None;
        }
        if let "start" | "stop" | "heal" | "together" | "wait" = word {
            return match word {
                "start" => self.start(value),
                "stop" => self.stop(value),
                "heal" => self.heal(value),
                "wait" => self.wait(value),
                _ => self.together(value, at),
            };
        }
        if !WORDS.contains(&word) {
            let message = format!("unknown step `{}`", tame(word));
            self.reader.unknown(at, message, word, WORDS);
            // Whatever it was to do, nothing later can be blamed for lacking it.
            self.world.paths_unsure = true;
            self.world.running_unsure = true;
            return None;
        }
        let fields = value.fields(format!("`{word}`"), at)?;
        let mut one = OneStep {
            fields,
            level,
            steps: self,
        };
        let action = match word {
            "kill" => one.kill(),
            "write" => one.write(),
            "put" => one.put(),
            "tree" => one.tree(),
            "overwrite" => one.overwrite(),
            "arrives" => one.arrives(),
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
            _ => one.exec(),
        };
        one.fields.finish();
        action
    }

    fn start(&mut self, value: Node<'r, 'd>) -> Option<Action> {
        let on = self.hosts(value);
        self.world.running_unsure |= on.is_none();
        let on = on?;
        for host in &on {
            if self.world.started(host).is_none() {
                self.reader.missing(
                    value.span,
                    format!("`{host}` runs already at this step"),
                    None,
                );
            }
        }
        Some(Action::Start { on })
    }

    fn stop(&mut self, value: Node<'r, 'd>) -> Option<Action> {
        let on = self.ending(value)?;
        Some(Action::Stop { on })
    }

    fn heal(&mut self, value: Node<'r, 'd>) -> Option<Action> {
        let on = self.hosts(value)?;
        for host in &on {
            if self.world.healed(host).is_none() {
                let help =
                    "cut, fill and pause without `for` last until they are healed".to_owned();
                self.reader.missing(
                    value.span,
                    format!("nothing on `{host}` is left to heal at this step"),
                    Some(help),
                );
            }
        }
        let text = format!("heal {}", on.join(", "));
        Some(Action::Later {
            word: "heal",
            on,
            text,
        })
    }

    fn wait(&mut self, value: Node<'r, 'd>) -> Option<Action> {
        let duration = value.duration()?;
        let text = format!("wait {}", show_duration(duration));
        Some(Action::Later {
            word: "wait",
            on: Vec::new(),
            text,
        })
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

    /// Hosts that must run now and will not afterwards.
    fn ending(&mut self, value: Node<'r, 'd>) -> Option<Vec<String>> {
        let on = self.hosts(value);
        self.world.running_unsure |= on.is_none();
        let on = on?;
        for host in &on {
            self.world.wants_running(host, value.span);
            self.world.ended(host);
        }
        Some(on)
    }

    /// One host or a list of them, all different.
    fn hosts(&self, value: Node<'r, 'd>) -> Option<Vec<String>> {
        let nodes = value.one_or_list()?;
        if nodes.is_empty() {
            self.reader.wrong(value.span, "names no host");
            return None;
        }
        let mut hosts = Vec::new();
        let mut whole = true;
        for node in nodes {
            match self.host(node) {
                Some(host) if hosts.contains(&host) => {
                    self.reader.wrong(
                        node.span,
                        format!("`{host}` stands here for the second time"),
                    );
                    whole = false;
                }
                Some(host) => hosts.push(host),
                None => whole = false,
            }
        }
        whole.then_some(hosts)
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

/// Why a path cannot lie inside a share.
fn path_trouble(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.starts_with('/') {
        return Some("is absolute: paths begin at the share");
    }
    if path.contains('\0') {
        return Some("has a NUL in it");
    }
    // PATH_MAX and NAME_MAX of Linux.
    if path.len() > 4095 || path.split('/').any(|part| part.len() > 255) {
        return Some("is longer than a file system takes");
    }
    for part in path.split('/') {
        match part {
            ".." => return Some("leads out of the share"),
            "." | "" => return Some("has an empty part"),
            _ => {}
        }
    }
    None
}

/// How long a fault lasts, and how often.
struct Spell {
    lasts: Option<Duration>,
    text: String,
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

    fn kill(&mut self) -> Option<Action> {
        let on = match self.fields.must("on") {
            Some(node) => self.steps.ending(node),
            None => None,
        };
        let when = self.when(on.as_deref());
        let hold = match self.fields.may("hold") {
            Some(node) => {
                let hold = node.flag();
                if hold == Some(true) && !self.fields.has("when") {
                    let at = self.fields.place("hold");
                    self.steps.reader.wrong(
                        at,
                        "`hold` needs `when`: it stops the link at the byte of the trigger",
                    );
                }
                hold
            }
            None => Some(false),
        };
        Some(Action::Kill {
            on: on?,
            when: when?,
            hold: hold?,
        })
    }

    fn write(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.new_path();
        let size = self.fields.must("size").and_then(Node::size);
        let contents = [
            ("random", Content::Random),
            ("text", Content::Text),
            ("zeros", Content::Zeros),
        ];
        let content = self
            .fields
            .may("content")
            .map_or(Some(Content::Random), |node| node.word(&contents));
        let ways = [("renamed", How::Renamed), ("in-place", How::InPlace)];
        let how = self
            .fields
            .may("how")
            .map_or(Some(How::Renamed), |node| node.word(&ways));
        if let Some(path) = &path {
            self.world()
                .written_with(path, size, content.unwrap_or(Content::Random));
        }
        let when = self.trigger(on.as_deref())?;
        let action = Action::Write {
            on: on?,
            path: path?,
            size: size?,
            content: content?,
            how: how?,
        };
        Some(triggered(action, "write with when", when))
    }

    fn put(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.new_path();
        let from = self
            .fields
            .must("from")
            .and_then(|node| self.file_here(node));
        if let Some(path) = &path {
            let size = from.as_ref().map(|(_, size)| *size);
            self.world().written(path, Known::File(size));
            self.world()
                .weightless
                .push((path.clone(), "is a file of yours"));
        }
        let when = self.trigger(on.as_deref())?;
        let action = Action::Put {
            on: on?,
            path: path?,
            from: from?.0,
        };
        Some(triggered(action, "put with when", when))
    }

    /// A file of the dev box, named from where the scenario lies.
    fn file_here(&self, node: Node<'r, 'd>) -> Option<(PathBuf, u64)> {
        let name = node.text()?;
        let refuse = |why: &str| {
            self.steps
                .reader
                .wrong(node.span, format!("the file `{}` {why}", tame(name)));
            None
        };
        if name.is_empty() || name.contains('\0') {
            return refuse("has no possible name");
        }
        if Path::new(name).is_absolute() {
            return refuse("must be named from the folder of the scenario");
        }
        let file = self.steps.folder.join(name);
        match std::fs::metadata(&file) {
            Ok(meta) if meta.is_file() => Some((file, meta.len())),
            Ok(_) => refuse("is no regular file"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                refuse("does not exist beside the scenario")
            }
            Err(_) => refuse("cannot be looked at"),
        }
    }

    fn tree(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.new_path();
        let files = self
            .fields
            .must("files")
            .and_then(|node| node.count(1, TREE_FILES_MAX));
        let size = self.fields.must("size").and_then(Node::size);
        if let Some(path) = &path {
            let bytes = files
                .zip(size)
                .map(|(files, size)| files.saturating_mul(size));
            self.world().written(path, Known::Folder(bytes));
        }
        let when = self.trigger(on.as_deref())?;
        let action = Action::Tree {
            on: on?,
            path: path?,
            files: files?,
            size: size?,
        };
        Some(triggered(action, "tree with when", when))
    }

    fn overwrite(&mut self) -> Option<Action> {
        let on = self.on();
        let amount = self.amount();
        let at = self.offset();
        let want = match (amount, at) {
            (Some(amount), Some(at)) => Want::Reach { amount, at },
            _ => Want::Something,
        };
        let path = self.old_path(want);
        self.world().transfers = true;
        let when = self.trigger(on.as_deref())?;
        let action = Action::Overwrite {
            on: on?,
            path: path?,
            amount: amount?,
            at: at?,
        };
        Some(triggered(action, "overwrite with when", when))
    }

    fn arrives(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        let within = self.within(WITHIN);
        let name = match self.fields.may("as") {
            Some(node) => self.figure_name(node).map(Some),
            None => Some(None),
        };
        self.world().proves = true;
        Some(Action::Arrives {
            on: on?,
            path: path?,
            within: within?,
            name: name?,
        })
    }

    fn figure_name(&mut self, node: Node<'r, 'd>) -> Option<String> {
        let name = node.text()?;
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let trouble = if name.is_empty() || name.len() > 32 || !name.chars().all(good) {
            "must be 1 to 32 letters, digits, `_` or `-`"
        } else if !self.world().names.insert(name.to_owned()) {
            "is the name of two figures"
        } else {
            return Some(name.to_owned());
        };
        self.steps
            .reader
            .wrong(node.span, format!("`{}` {trouble}", tame(name)));
        None
    }

    fn settle(&mut self) -> Option<Action> {
        let within = self.within(WITHIN);
        let quiet = self.fields.may("quiet").map_or(Some(QUIET), Node::duration);
        if let (Some(within), Some(quiet)) = (within, quiet)
            && quiet >= within
        {
            let at = self.fields.place("quiet");
            let (within, quiet) = (show_duration(within), show_duration(quiet));
            self.steps
                .reader
                .wrong(at, format!("{quiet} of quiet never fit within {within}"));
        }
        Some(Action::Settle {
            within: within?,
            quiet: quiet?,
        })
    }

    fn expect(&mut self) -> Option<Action> {
        expect(&mut self.fields, self.steps.reader, &mut self.steps.world).map(Action::Expect)
    }

    fn append(&mut self) -> Option<Action> {
        let on = self.on();
        let amount = self.amount();
        let path = self.old_path(Want::Reach {
            amount: Amount::Bytes(0),
            at: None,
        });
        self.grows(path.as_deref(), amount);
        let when = self.trigger(on.as_deref())?;
        let (on, path, amount) = (on?, path?, amount?);
        Some(later(
            "append",
            &on,
            format!("append {amount} to {on}:{path}"),
            when,
        ))
    }

    fn insert(&mut self) -> Option<Action> {
        let on = self.on();
        let amount = self.amount();
        let at = self.fields.must("at").and_then(Node::size);
        let path = self.old_path(Want::Reach {
            amount: Amount::Bytes(0),
            at,
        });
        self.grows(path.as_deref(), amount);
        let when = self.trigger(on.as_deref())?;
        let (on, path, amount, at) = (on?, path?, amount?, show_size(at?));
        Some(later(
            "insert",
            &on,
            format!("insert {amount} into {on}:{path} at {at}"),
            when,
        ))
    }

    fn truncate(&mut self) -> Option<Action> {
        let on = self.on();
        let amount = self.amount();
        let path = self.old_path(Want::Reach {
            amount: amount.unwrap_or(Amount::Bytes(0)),
            at: None,
        });
        self.resized(path.as_deref(), |size| {
            Some(size.saturating_sub(amount?.of(size)))
        });
        let when = self.trigger(on.as_deref())?;
        let (on, path, amount) = (on?, path?, amount?);
        Some(later(
            "truncate",
            &on,
            format!("truncate {on}:{path} by {amount}"),
            when,
        ))
    }

    fn grows(&mut self, path: Option<&str>, amount: Option<Amount>) {
        self.resized(path, |size| size.checked_add(amount?.of(size)));
        self.world().transfers = true;
    }

    /// What comes of the size of a file, where both are known.
    fn resized(&mut self, path: Option<&str>, change: impl Fn(u64) -> Option<u64>) {
        if let Some(path) = path
            && let Some(Known::File(size)) = self.world().get(path)
        {
            let size = size.and_then(change);
            self.world()
                .paths
                .insert(path.to_owned(), Known::File(size));
        }
    }

    fn delete(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        if let Some(path) = &path {
            self.world().gone(path);
        }
        let when = self.trigger(on.as_deref())?;
        let (on, path) = (on?, path?);
        Some(later("delete", &on, format!("delete {on}:{path}"), when))
    }

    fn rename(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        let to = self.path_of("to").map(|(to, _)| to);
        self.world().paths_unsure |= to.is_none();
        if let (Some(path), Some(to)) = (&path, &to) {
            for (name, known) in self.world().below(path) {
                self.world()
                    .paths
                    .insert(format!("{to}{}", &name[path.len()..]), known);
            }
            if path != to {
                self.world().gone(path);
            }
        }
        let when = self.trigger(on.as_deref())?;
        let (on, path, to) = (on?, path?, to?);
        Some(later(
            "rename",
            &on,
            format!("rename {on}:{path} to {to}"),
            when,
        ))
    }

    fn swap(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        let with = self.path_of("with");
        if let Some((with, span)) = &with {
            self.world().wants(with, *span, Want::Something);
        }
        let with = with.map(|(with, _)| with);
        if let (Some(path), Some(with)) = (&path, &with)
            && let (Some(one), Some(other)) = (self.world().get(path), self.world().get(with))
        {
            // What lies below two swapped folders is not followed: anything may be there.
            self.world().paths.insert(path.clone(), other);
            self.world().paths.insert(with.clone(), one);
        }
        let when = self.trigger(on.as_deref())?;
        let (on, path, with) = (on?, path?, with?);
        Some(later(
            "swap",
            &on,
            format!("swap {on}:{path} with {with}"),
            when,
        ))
    }

    fn mkdir(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.new_path();
        if let Some(path) = &path {
            self.world().written(path, Known::Folder(None));
        }
        let when = self.trigger(on.as_deref())?;
        let (on, path) = (on?, path?);
        Some(later("mkdir", &on, format!("mkdir {on}:{path}"), when))
    }

    fn link(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.new_path();
        // A link may point anywhere: that it is not followed is what is tested.
        let to = self.fields.must("to").and_then(Node::text);
        if let Some(path) = &path {
            self.world().written(path, Known::Link);
        }
        if to.is_some_and(|to| to.is_empty() || to.contains('\0') || to.len() > 4095) {
            let at = self.fields.place("to");
            self.steps
                .reader
                .wrong(at, "is no possible target of a link");
        }
        let when = self.trigger(on.as_deref())?;
        let (on, path, to) = (on?, path?, tame(to?));
        Some(later(
            "link",
            &on,
            format!("link {on}:{path} to {to}"),
            when,
        ))
    }

    fn chmod(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        let mode = self.fields.must("mode");
        let mode = mode.and_then(|node| {
            let text = node.text()?;
            let good =
                (3..=4).contains(&text.len()) && text.chars().all(|c| ('0'..='7').contains(&c));
            if !good {
                self.steps.reader.wrong(
                    node.span,
                    format!("the mode `{}` is not like \"644\"", tame(text)),
                );
            }
            good.then_some(text)
        });
        let when = self.trigger(on.as_deref())?;
        let (on, path, mode) = (on?, path?, mode?);
        Some(later(
            "chmod",
            &on,
            format!("chmod {on}:{path} to {mode}"),
            when,
        ))
    }

    fn touch(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        let when = self.trigger(on.as_deref())?;
        let (on, path) = (on?, path?);
        Some(later("touch", &on, format!("touch {on}:{path}"), when))
    }

    fn cut(&mut self) -> Option<Action> {
        let on = self.on();
        let ways = [
            ("both", "both ways"),
            ("in", "inwards"),
            ("out", "outwards"),
        ];
        let way = self
            .fields
            .may("way")
            .map_or(Some("both ways"), |node| node.word(&ways));
        self.fault("cut", on, |on| Some(format!("cut {on} off, {}", way?)))
    }

    fn fill(&mut self) -> Option<Action> {
        let on = self.on();
        let leave = self.fields.must("leave").and_then(Node::size);
        self.fault("fill", on, |on| {
            Some(format!(
                "fill the disk of {on}, leave {}",
                show_size(leave?)
            ))
        })
    }

    fn pause(&mut self) -> Option<Action> {
        let on = self.on();
        if let Some(host) = &on {
            let at = self.fields.place("on");
            self.world().wants_running(host, at);
        }
        self.fault("pause", on, |on| Some(format!("pause {on}")))
    }

    fn fault(
        &mut self,
        word: &'static str,
        on: Option<String>,
        text: impl FnOnce(&str) -> Option<String>,
    ) -> Option<Action> {
        let when = self.when(on.as_ref().map(std::slice::from_ref));
        let spell = self.spell();
        // A spell that cannot be read may be endless; then a later `heal` is right.
        let endless = spell.as_ref().is_none_or(|spell| spell.lasts.is_none());
        if let (Some(host), true) = (&on, endless) {
            self.world().broken(host);
        }
        self.world().running_unsure |= on.is_none();
        let (on, when, spell) = (on?, when?, spell?);
        let text = text(&on)?;
        let Action::Later { text, .. } = later(word, &on, text, when) else {
            return None;
        };
        Some(Action::Later {
            word,
            on: vec![on],
            text: format!("{text}{}", spell.text),
        })
    }

    fn spell(&mut self) -> Option<Spell> {
        let lasts = self.fields.may("for").map(Node::duration);
        let every = self.fields.may("every").map(Node::duration);
        let times = self.fields.may("times").map(|node| node.count(1, 1000));
        for (key, other) in [("every", "times"), ("times", "every")] {
            if self.fields.has(key) && !(self.fields.has(other) && self.fields.has("for")) {
                let at = self.fields.place(key);
                self.steps
                    .reader
                    .missing(at, format!("`{key}` needs `for` and `{other}`"), None);
                return None;
            }
        }
        match (lasts, every, times) {
            (None, ..) => Some(Spell {
                lasts: None,
                text: String::new(),
            }),
            (Some(lasts), None, _) => {
                let lasts = lasts?;
                Some(Spell {
                    lasts: Some(lasts),
                    text: format!(", for {}", show_duration(lasts)),
                })
            }
            (Some(lasts), Some(every), times) => {
                let (lasts, every, times) = (lasts?, every?, times??);
                if every <= lasts {
                    let at = self.fields.place("every");
                    self.steps.reader.wrong(
                        at,
                        "`every` must be longer than `for`, or there is nothing between two",
                    );
                }
                let (shown, every) = (show_duration(lasts), show_duration(every));
                Some(Spell {
                    lasts: Some(lasts),
                    text: format!(", for {shown} every {every}, {times} times"),
                })
            }
        }
    }

    fn exec(&mut self) -> Option<Action> {
        let on = self.on();
        let argv = self.fields.must("argv").and_then(|node| {
            let argv = node.texts()?;
            let good = argv.first().is_some_and(|program| !program.is_empty())
                && argv.iter().all(|part| !part.contains('\0'));
            if !good {
                self.steps.reader.wrong(
                    node.span,
                    "is no command: a list of the program and its arguments",
                );
            }
            good.then(|| argv.iter().map(|part| tame(part)).collect::<Vec<_>>())
        });
        let stdin = self.fields.may("stdin").map_or(Some(""), Node::text);
        let within = self.within(WITHIN);
        let exit = self
            .fields
            .may("exit")
            .map_or(Some(0), |node| node.count(0, 255));
        let changes = match self.fields.may("changes") {
            Some(node) => node.list("a list of paths").unwrap_or_default(),
            None => Vec::new(),
        };
        for node in changes {
            if let Some(path) = self.steps.path(node) {
                self.world().written(&path, Known::Anything);
                self.world().weightless.push((path, "is made by a command"));
            }
        }
        let when = self.trigger(on.as_deref())?;
        let (on, argv) = (on?, argv?.join(" "));
        stdin.and(within).and(exit)?;
        Some(later("exec", &on, format!("exec on {on}: {argv}"), when))
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

    fn trigger(&mut self, on: Option<&str>) -> Option<Option<When>> {
        let on = on.map(|on| vec![on.to_owned()]);
        self.when(on.as_deref())
    }

    /// `Some(None)`: not said. `victims` are the hosts of the step, where they are known.
    fn when(&mut self, victims: Option<&[String]>) -> Option<Option<When>> {
        let Some(node) = self.fields.may("when") else {
            return Some(None);
        };
        let place = self.fields.place("when");
        if self.level == Level::Top {
            let message =
                "`when` needs a `together` with the transfer: triggers are armed before it begins";
            self.steps.reader.wrong(place, message);
        }
        let mut fields = node.fields("`when`", place)?;
        let on = match (fields.may("on"), victims) {
            (Some(node), _) => self.steps.host(node),
            (None, Some([only])) => Some(only.clone()),
            (None, Some(_)) => {
                let message =
                    "`when` needs `on` where the step is on several hosts: which one counts?";
                self.steps.reader.missing(place, message, None);
                None
            }
            (None, None) => None,
        };
        let received = fields.may("received");
        let sent = fields.may("sent");
        let of = fields.may("of");
        let of_path = of.and_then(|node| self.steps.path(node));
        let counted = match (received, sent) {
            (Some(_), Some(_)) => {
                self.steps.reader.wrong(
                    fields.place("sent"),
                    "`when` has either `received` or `sent`",
                );
                None
            }
            (Some(node), None) => Some((Direction::Received, node)),
            (None, Some(node)) => Some((Direction::Sent, node)),
            (None, None) => {
                if !fields.has("received") && !fields.has("sent") {
                    self.steps
                        .reader
                        .missing(place, "`when` needs `received` or `sent`", None);
                }
                None
            }
        };
        let amount = counted.and_then(|(_, node)| self.some(node.span, node.amount()?));
        if let (Some(Amount::Share(share)), Some((_, node)), false) =
            (amount, counted, fields.has("of"))
        {
            let share = super::units::show_percent(share);
            let paths = known(
                "",
                self.world()
                    .paths
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
            );
            let help = format!("add `of = \"…\"`; {paths}");
            self.steps
                .reader
                .missing(node.span, format!("{share} of what?"), Some(help));
        }
        if let (Some(path), Some(node), Some(amount)) = (&of_path, of, amount) {
            self.world().wants(path, node.span, Want::Size(amount));
        }
        let of_good = of.is_none() == of_path.is_none() && fields.has("of") == of.is_some();
        fields.finish();
        let (direction, _) = counted?;
        let when = When {
            on: on?,
            direction,
            amount: amount?,
            of: of_path,
        };
        of_good.then_some(Some(when))
    }
}

/// `[expect]` and `{ expect = { … } }`.
pub(super) fn expect(
    fields: &mut Fields<'_, '_>,
    reader: &Reader<'_>,
    world: &mut World,
) -> Option<Expect> {
    if fields.is_empty() {
        let help = "known: trees, resent, parts".to_owned();
        reader.missing(fields.at, "nothing is expected", Some(help));
    }
    world.proves = true;
    let trees = fields
        .may("trees")
        .map_or(Some(false), |node| node.word(&[("identical", true)]));
    let parts = fields
        .may("parts")
        .map_or(Some(false), |node| node.word(&[("none", true)]));
    let resent = match fields.may("resent") {
        Some(node) => {
            world.resent.push(fields.place("resent"));
            node.bound().map(Some)
        }
        None => Some(None),
    };
    Some(Expect {
        trees_identical: trees?,
        resent: resent?,
        parts_none: parts?,
    })
}

fn later(word: &'static str, on: &str, text: String, when: Option<When>) -> Action {
    let on = vec![on.to_owned()];
    let text = match when {
        Some(when) => format!("{text} {}", when.beside(&on)),
        None => text,
    };
    Action::Later { word, on, text }
}

/// A step of today that waits for a trigger is one of tomorrow.
fn triggered(action: Action, word: &'static str, when: Option<When>) -> Action {
    match (&action, when) {
        (
            Action::Write { on, .. }
            | Action::Put { on, .. }
            | Action::Tree { on, .. }
            | Action::Overwrite { on, .. },
            Some(when),
        ) => later(word, on, action.to_string(), Some(when)),
        _ => action,
    }
}
