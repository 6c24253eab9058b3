//! What must come of it: `arrives`, `gone`, `settle`, `expect`; and `wait`, which checks nothing.

use std::time::Duration;

use super::super::error::tame;
use super::super::raw::{Fields, Node, Reader};
use super::super::units::show_duration;
use super::super::world::{Want, World};
use super::super::{Action, Expect};
use super::{OneStep, Steps, WITHIN, later, later_on};

/// How long both sides must be silent, unless a scenario says otherwise.
const QUIET: Duration = Duration::from_secs(2);

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    pub(super) fn arrives(&mut self) -> Option<Action> {
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

    /// The opposite of `arrives`: the path is to be absent.
    pub(super) fn gone(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.path_of("path");
        if let Some((path, span)) = &path {
            self.world().wants_gone(path, *span);
        }
        let within = self.within(WITHIN);
        self.world().proves = true;
        let (on, (path, _)) = (on?, path?);
        let text = format!("gone {on}:{path} within {}", show_duration(within?));
        Some(later("gone", &on, text, None))
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

    pub(super) fn settle(&mut self) -> Option<Action> {
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

    pub(super) fn expect(&mut self) -> Option<Action> {
        expect(&mut self.fields, self.steps.reader, &mut self.steps.world).map(Action::Expect)
    }
}

impl<'r, 'd> Steps<'r, 'd> {
    /// Lets a state last.
    pub(super) fn wait(&mut self, value: Node<'r, 'd>) -> Option<Action> {
        let lasts = value.duration()?;
        if lasts.is_zero() {
            self.reader.wrong(value.span, "nothing lasts no time");
        }
        let text = format!("wait {}", show_duration(lasts));
        Some(later_on("wait", Vec::new(), text, None))
    }
}

/// `[expect]` and `{ expect = { … } }`.
pub(in super::super) fn expect(
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
