//! Triggers: `when = { received = "40%", of = "big.bin" }`.

use super::super::error::known;
use super::super::raw::Node;
use super::super::units::show_percent;
use super::super::world::Want;
use super::super::{Amount, Direction, When};
use super::{Level, OneStep};

/// When a step fires, and whether the link stands still from then on until it has hit.
pub(super) struct Trigger {
    pub(super) when: When,
    pub(super) hold: bool,
}

impl Trigger {
    /// In a sentence that has named the step's hosts already.
    pub(super) fn beside(&self, on: &[String]) -> String {
        let when = self.when.beside(on);
        match self.hold {
            true => format!("{when}, hold"),
            false => when,
        }
    }
}

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    /// `when` and `hold` of a step on one host.
    pub(super) fn trigger_at(&mut self, on: Option<&String>) -> Option<Option<Trigger>> {
        self.trigger(on.map(std::slice::from_ref))
    }

    /// `when` and `hold`; `Some(None)`: not said. `victims` are the hosts of the step,
    /// where they are known.
    pub(super) fn trigger(&mut self, victims: Option<&[String]>) -> Option<Option<Trigger>> {
        let when = self.when(victims);
        let hold = self.fields.may("hold").map_or(Some(false), Node::flag);
        if hold == Some(true) && !self.fields.has("when") {
            let at = self.fields.place("hold");
            let message = "`hold` needs `when`: it stops the link at the byte of the trigger";
            self.steps.reader.wrong(at, message);
        }
        let (when, hold) = (when?, hold?);
        Some(when.map(|when| Trigger { when, hold }))
    }

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
            let share = show_percent(share);
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
