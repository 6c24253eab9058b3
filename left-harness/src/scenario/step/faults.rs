//! What goes wrong for a while: links that are cut, disks that are full, processes
//! that stand still; and the opposites that end it.

use std::time::Duration;

use super::super::Action;
use super::super::raw::Node;
use super::super::units::{show_duration, show_size};
use super::super::world::Fault;
use super::process::names;
use super::{OneStep, later_on};

/// How long a fault lasts, and how often.
struct Spell {
    lasts: Option<Duration>,
    text: String,
}

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    pub(super) fn cut(&mut self) -> Option<Action> {
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
        self.inject(Fault::Cut, |on| {
            Some(format!("cut {on} off{}{}", way?, how?))
        })
    }

    pub(super) fn fill(&mut self) -> Option<Action> {
        let leave = self.fields.must("leave").and_then(Node::size);
        self.inject(Fault::Full, |on| {
            let leave = show_size(leave?);
            Some(format!("fill the disk of {on}, leave {leave}"))
        })
    }

    pub(super) fn pause(&mut self) -> Option<Action> {
        self.inject(Fault::Paused, |on| Some(format!("pause {on}")))
    }

    pub(super) fn heal(&mut self) -> Option<Action> {
        self.end_fault(Fault::Cut)
    }

    pub(super) fn free(&mut self) -> Option<Action> {
        self.end_fault(Fault::Full)
    }

    pub(super) fn resume(&mut self) -> Option<Action> {
        self.end_fault(Fault::Paused)
    }

    fn inject(
        &mut self,
        fault: Fault,
        text: impl FnOnce(&str) -> Option<String>,
    ) -> Option<Action> {
        let on = self.hosts();
        let spell = self.spell();
        let lasting = spell.as_ref().is_some_and(|spell| spell.lasts.is_none());
        // What cannot be read may last on any host: no later step is to blame.
        self.world().faults_unsure |= on.is_none() || spell.is_none();
        let (word, opposite) = fault.words();
        for (host, span) in on.iter().flatten() {
            if fault == Fault::Paused {
                self.world().wants_running(host, *span);
            }
            if !self.world().is_free_of(fault, host) {
                let message = format!("a `{word}` of `{host}` lasts already at this step");
                let help = format!("it lasts until `{opposite}`");
                self.steps.reader.wrong_with(*span, message, help);
            }
            if lasting {
                self.world().broken(fault, host);
            }
        }
        let on = on.map(names);
        let trigger = self.trigger(on.as_deref());
        let (on, trigger, spell) = (on?, trigger?, spell?);
        let text = format!("{}{}", text(&on.join(", "))?, spell.text);
        Some(later_on(word, on, text, trigger))
    }

    fn end_fault(&mut self, fault: Fault) -> Option<Action> {
        let on = self.hosts();
        self.world().faults_unsure |= on.is_none();
        let (word, opposite) = fault.words();
        for (host, span) in on.iter().flatten() {
            if self.world().healed(fault, host).is_none() {
                let message = format!("nothing on `{host}` is left to {opposite} at this step");
                let help = format!("`{word}` without `for` lasts until `{opposite}`");
                self.steps.reader.missing(*span, message, Some(help));
            }
        }
        let on = on.map(names);
        let trigger = self.trigger(on.as_deref());
        let (on, trigger) = (on?, trigger?);
        let text = format!("{opposite} {}", on.join(", "));
        Some(later_on(opposite, on, text, trigger))
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
