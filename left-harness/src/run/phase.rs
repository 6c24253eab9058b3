//! A part of a run outside the steps, from its begin to its end.

use std::time::Instant;

use super::halt::Halt;
use crate::event::{EventKind, Outcome};
use crate::report::EventSink;

/// It has begun and must end in one of these ways.
#[must_use = "a phase that has begun must end"]
pub struct Phase<'a> {
    sink: &'a EventSink,
    name: &'static str,
    begun: Instant,
}

impl<'a> Phase<'a> {
    /// Says that it begins.
    pub fn begin(sink: &'a EventSink, name: &'static str) -> Self {
        sink.send(EventKind::PhaseStarted { phase: name.into() });
        Self {
            sink,
            name,
            begun: Instant::now(),
        }
    }

    /// Says how it ended.
    pub fn end(self, outcome: Outcome, note: impl Into<String>) {
        self.sink.send(EventKind::PhaseEnded {
            phase: self.name.into(),
            outcome,
            note: note.into(),
            seconds: self.begun.elapsed().as_secs_f64(),
        });
    }

    /// Ends as the result says, with a note where it is good.
    ///
    /// # Errors
    /// The result's own.
    pub fn ended<T, E: Into<Halt>>(
        self,
        result: Result<T, E>,
        note: impl FnOnce(&T) -> String,
    ) -> Result<T, Halt> {
        match result {
            Ok(value) => {
                self.end(Outcome::Ok, note(&value));
                Ok(value)
            }
            Err(error) => {
                let halt = error.into();
                self.end(halt.outcome, halt.reason.clone());
                Err(halt)
            }
        }
    }
}
