//! The workload: what users do to files, and the one way out, `exec`.

use std::path::{Path, PathBuf};

use super::super::error::tame;
use super::super::raw::Node;
use super::super::units::show_size;
use super::super::world::{Known, Want};
use super::super::{Action, Amount, Content, How};
use super::when::Trigger;
use super::{OneStep, WITHIN, later};

/// More small files than any hazard of the library asks for.
const TREE_FILES_MAX: u64 = 200_000;

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    pub(super) fn write(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref())?;
        let action = Action::Write {
            on: on?,
            path: path?,
            size: size?,
            content: content?,
            how: how?,
        };
        Some(triggered(action, "write with when", trigger))
    }

    pub(super) fn put(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref())?;
        let action = Action::Put {
            on: on?,
            path: path?,
            from: from?.0,
        };
        Some(triggered(action, "put with when", trigger))
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

    pub(super) fn tree(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref())?;
        let action = Action::Tree {
            on: on?,
            path: path?,
            files: files?,
            size: size?,
        };
        Some(triggered(action, "tree with when", trigger))
    }

    pub(super) fn overwrite(&mut self) -> Option<Action> {
        let on = self.on();
        let amount = self.amount();
        let at = self.offset();
        let want = match (amount, at) {
            (Some(amount), Some(at)) => Want::Reach { amount, at },
            _ => Want::Something,
        };
        let path = self.old_path(want);
        self.world().transfers = true;
        let trigger = self.trigger_at(on.as_ref())?;
        let action = Action::Overwrite {
            on: on?,
            path: path?,
            amount: amount?,
            at: at?,
        };
        Some(triggered(action, "overwrite with when", trigger))
    }

    pub(super) fn append(&mut self) -> Option<Action> {
        let on = self.on();
        let amount = self.amount();
        let path = self.old_path(Want::Reach {
            amount: Amount::Bytes(0),
            at: None,
        });
        self.grows(path.as_deref(), amount);
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path, amount) = (on?, path?, amount?);
        Some(later(
            "append",
            &on,
            format!("append {amount} to {on}:{path}"),
            trigger,
        ))
    }

    pub(super) fn insert(&mut self) -> Option<Action> {
        let on = self.on();
        let amount = self.amount();
        let at = self.fields.must("at").and_then(Node::size);
        let path = self.old_path(Want::Reach {
            amount: Amount::Bytes(0),
            at,
        });
        self.grows(path.as_deref(), amount);
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path, amount, at) = (on?, path?, amount?, show_size(at?));
        Some(later(
            "insert",
            &on,
            format!("insert {amount} into {on}:{path} at {at}"),
            trigger,
        ))
    }

    pub(super) fn truncate(&mut self) -> Option<Action> {
        let on = self.on();
        let end = self.end();
        let want = match end {
            Some(End::To(to)) => Want::Beyond(to),
            Some(End::By(by)) => Want::Reach {
                amount: Amount::Bytes(by),
                at: None,
            },
            None => Want::Something,
        };
        let path = self.old_path(want);
        self.resized(path.as_deref(), |size| match end? {
            End::To(to) => Some(to),
            End::By(by) => size.checked_sub(by),
        });
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path) = (on?, path?);
        let text = match end? {
            End::To(to) => format!("truncate {on}:{path} to {}", show_size(to)),
            End::By(by) => format!("truncate {on}:{path} by {}", show_size(by)),
        };
        Some(later("truncate", &on, text, trigger))
    }

    /// `to` or `by`, exactly one of them.
    fn end(&mut self) -> Option<End> {
        let (to, by) = (self.fields.may("to"), self.fields.may("by"));
        if self.fields.has("to") && self.fields.has("by") {
            let at = self.fields.place("by");
            self.steps
                .reader
                .wrong(at, "`truncate` has either `to` or `by`");
            return None;
        }
        if !self.fields.has("to") && !self.fields.has("by") {
            let at = self.fields.at;
            self.steps
                .reader
                .missing(at, "`truncate` needs `to` or `by`", None);
        }
        if let Some(node) = to {
            return node.size().map(End::To);
        }
        let node = by?;
        let by = node.size()?;
        if by == 0 {
            self.steps.reader.wrong(node.span, "cuts nothing off");
            return None;
        }
        Some(End::By(by))
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

    pub(super) fn exec(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, argv) = (on?, argv?.join(" "));
        stdin.and(within).and(exit)?;
        Some(later("exec", &on, format!("exec on {on}: {argv}"), trigger))
    }
}

/// Where a file ends after `truncate`, in bytes.
#[derive(Clone, Copy)]
enum End {
    /// At this size.
    To(u64),
    /// So much earlier than before.
    By(u64),
}

/// A step of today that waits for a trigger is one of tomorrow.
fn triggered(action: Action, word: &'static str, trigger: Option<Trigger>) -> Action {
    match (&action, trigger) {
        (
            Action::Write { on, .. }
            | Action::Put { on, .. }
            | Action::Tree { on, .. }
            | Action::Overwrite { on, .. },
            Some(trigger),
        ) => later(word, on, action.to_string(), Some(trigger)),
        _ => action,
    }
}
