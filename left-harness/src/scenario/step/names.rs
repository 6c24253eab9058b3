//! What users do to names, kinds and modes, whatever a file holds.

use super::super::Action;
use super::super::error::tame;
use super::super::raw::Node;
use super::super::world::{Known, Want};
use super::{OneStep, later};

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    pub(super) fn delete(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        if let Some(path) = &path {
            self.world().gone(path);
        }
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path) = (on?, path?);
        Some(later("delete", &on, format!("delete {on}:{path}"), trigger))
    }

    pub(super) fn rename(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        let to = self.path_of("to").map(|(to, _)| to);
        self.world().paths_unsure |= to.is_none();
        if let (Some(path), Some(to)) = (&path, &to) {
            for (name, known) in self.world().below(path) {
                let name = format!("{to}{}", &name[path.len()..]);
                self.world().moved(&name, known);
            }
            if path != to {
                self.world().gone(path);
            }
        }
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path, to) = (on?, path?, to?);
        Some(later(
            "rename",
            &on,
            format!("rename {on}:{path} to {to}"),
            trigger,
        ))
    }

    pub(super) fn swap(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path, with) = (on?, path?, with?);
        Some(later(
            "swap",
            &on,
            format!("swap {on}:{path} with {with}"),
            trigger,
        ))
    }

    pub(super) fn mkdir(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.new_path();
        if let Some(path) = &path {
            self.world().written(path, Known::Folder(None));
        }
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path) = (on?, path?);
        Some(later("mkdir", &on, format!("mkdir {on}:{path}"), trigger))
    }

    pub(super) fn link(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path, to) = (on?, path?, tame(to?));
        Some(later(
            "link",
            &on,
            format!("link {on}:{path} to {to}"),
            trigger,
        ))
    }

    pub(super) fn chmod(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path, mode) = (on?, path?, mode?);
        Some(later(
            "chmod",
            &on,
            format!("chmod {on}:{path} to {mode}"),
            trigger,
        ))
    }

    pub(super) fn touch(&mut self) -> Option<Action> {
        let on = self.on();
        let path = self.old_path(Want::Something);
        let trigger = self.trigger_at(on.as_ref())?;
        let (on, path) = (on?, path?);
        Some(later("touch", &on, format!("touch {on}:{path}"), trigger))
    }
}
