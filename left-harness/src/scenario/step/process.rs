//! The processes: started, stopped, killed.

use super::super::Action;
use super::super::error::Span;
use super::{OneStep, later_on};

impl<'r, 'd> OneStep<'_, 'r, 'd> {
    pub(super) fn start(&mut self) -> Option<Action> {
        let on = self.hosts();
        self.world().running_unsure |= on.is_none();
        for (host, span) in on.iter().flatten() {
            if self.world().started(host).is_none() {
                let message = format!("`{host}` runs already at this step");
                self.steps.reader.missing(*span, message, None);
            }
        }
        let on = on.map(names);
        let trigger = self.trigger(on.as_deref());
        let (on, trigger) = (on?, trigger?);
        if trigger.is_none() {
            return Some(Action::Start { on });
        }
        let text = format!("start {}", on.join(", "));
        Some(later_on("start with when", on, text, trigger))
    }

    pub(super) fn stop(&mut self) -> Option<Action> {
        let on = self.ending();
        let trigger = self.trigger(on.as_deref());
        let (on, trigger) = (on?, trigger?);
        if trigger.is_none() {
            return Some(Action::Stop { on });
        }
        let text = format!("stop {}", on.join(", "));
        Some(later_on("stop with when", on, text, trigger))
    }

    pub(super) fn kill(&mut self) -> Option<Action> {
        let on = self.ending();
        let trigger = self.trigger(on.as_deref());
        let (on, trigger) = (on?, trigger?);
        let hold = trigger.as_ref().is_some_and(|trigger| trigger.hold);
        Some(Action::Kill {
            on,
            when: trigger.map(|trigger| trigger.when),
            hold,
        })
    }

    /// Hosts that must run now and will not afterwards.
    fn ending(&mut self) -> Option<Vec<String>> {
        let on = self.hosts();
        self.world().running_unsure |= on.is_none();
        let on = on?;
        for (host, span) in &on {
            self.world().wants_running(host, *span);
            self.world().ended(host);
        }
        Some(names(on))
    }
}

/// The hosts without their places.
pub(super) fn names(hosts: Vec<(String, Span)>) -> Vec<String> {
    hosts.into_iter().map(|(host, _)| host).collect()
}
