//! What goes wrong: processes that die or stand still, links that break, full disks.

use std::time::Duration;

use super::super::Action;
use super::super::raw::Node;
use super::super::units::{show_duration, show_size};
use super::process::names;
use super::{OneStep, later, later_on};

/// How long a fault lasts, and how often.
struct Spell {
    lasts: Option<Duration>,
    text: String,
}

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    pub(super) fn cut(&mut self) -> Option<Action> {
        let on = self.on();
        let ways = [("both", ""), ("in", ", inwards"), ("out", ", outwards")];
        let way = self
            .fields
            .may("way")
            .map_or(Some(""), |node| node.word(&ways));
        let hows = [("drop", ""), ("reset", ", connections reset")];
        let how = self
            .fields
            .may("how")
            .map_or(Some(""), |node| node.word(&hows));
        if let (Some(way), Some(how)) = (way, how)
            && !way.is_empty()
            && !how.is_empty()
        {
            let at = self.fields.place("how");
            self.steps
                .reader
                .wrong(at, "a connection ends both ways: `reset` takes no `way`");
        }
        self.fault("cut", on, |on| {
            Some(format!("cut {on} off{}{}", way?, how?))
        })
    }

    pub(super) fn fill(&mut self) -> Option<Action> {
        let on = self.on();
        let leave = self.fields.must("leave").and_then(Node::size);
        self.fault("fill", on, |on| {
            Some(format!(
                "fill the disk of {on}, leave {}",
                show_size(leave?)
            ))
        })
    }

    pub(super) fn pause(&mut self) -> Option<Action> {
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
        let trigger = self.trigger_at(on.as_ref());
        let spell = self.spell();
        // A spell that cannot be read may be endless; then a later `heal` is right.
        let endless = spell.as_ref().is_none_or(|spell| spell.lasts.is_none());
        if let (Some(host), true) = (&on, endless) {
            self.world().broken(host);
        }
        self.world().running_unsure |= on.is_none();
        let (on, trigger, spell) = (on?, trigger?, spell?);
        let (text, spell) = (text(&on)?, spell.text);
        Some(later(word, &on, format!("{text}{spell}"), trigger))
    }

    pub(super) fn heal(&mut self) -> Option<Action> {
        let on = self.hosts()?;
        for (host, span) in &on {
            if self.world().healed(host).is_none() {
                let message = format!("nothing on `{host}` is left to heal at this step");
                let help = "cut, fill and pause without `for` last until they are healed";
                self.steps
                    .reader
                    .missing(*span, message, Some(help.to_owned()));
            }
        }
        let on = names(on);
        let trigger = self.trigger(Some(&on))?;
        let text = format!("heal {}", on.join(", "));
        Some(later_on("heal", on, text, trigger))
    }

    fn spell(&mut self) -> Option<Spell> {
        let lasts = self.fields.may("for").map(Node::duration);
        if lasts == Some(Some(Duration::ZERO)) {
            let at = self.fields.place("for");
            self.steps.reader.wrong(at, "a fault of no time is none");
        }
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
                        "`every` counts from start to start: it must be longer than `for`",
                    );
                }
                let (shown, every) = (show_duration(lasts), show_duration(every));
                Some(Spell {
                    lasts: Some(lasts),
                    text: format!(", for {shown}, {times} times every {every}"),
                })
            }
        }
    }
}
