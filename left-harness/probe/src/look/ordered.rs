//! Answers made by many threads, written in the order of the questions.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Lines under way at most. A large file at the front holds up the others only this far.
const WINDOW: usize = 4096;

/// The writer's end of the pipeline.
pub struct Ordered<W> {
    state: Mutex<State<W>>,
    moved: Condvar,
}

struct State<W> {
    out: W,
    /// Number of the first line in `window`.
    first: u64,
    window: VecDeque<Option<String>>,
    broken: Option<String>,
}

impl<W: Write> Ordered<W> {
    /// Nothing asked yet.
    pub fn new(out: W) -> Self {
        let state = State {
            out,
            first: 0,
            window: VecDeque::new(),
            broken: None,
        };
        Self {
            state: Mutex::new(state),
            moved: Condvar::new(),
        }
    }

    /// A place for the next line; waits while too many are open. `None` once nobody reads us.
    pub fn reserve(&self) -> Option<u64> {
        let mut state = self.lock();
        while state.window.len() >= WINDOW && state.broken.is_none() {
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.broken.is_some() {
            return None;
        }
        state.window.push_back(None);
        Some(state.first + state.window.len() as u64 - 1)
    }

    /// The line for a place; an empty one writes nothing.
    pub fn put(&self, place: u64, line: String) {
        let mut state = self.lock();
        let index = place.wrapping_sub(state.first) as usize;
        if let Some(slot) = state.window.get_mut(index) {
            *slot = Some(line);
        }
        while let Some(Some(_)) = state.window.front() {
            let line = state.window.pop_front().flatten().unwrap_or_default();
            state.first += 1;
            if state.broken.is_none()
                && let Err(error) = state.out.write_all(line.as_bytes())
            {
                state.broken = Some(crate::fail::reason(&error));
            }
        }
        self.moved.notify_one();
    }

    /// Everything was put; gives the writer back, or why it is of no use.
    pub fn finish(self) -> Result<W, String> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match state.broken {
            Some(why) => Err(why),
            None => Ok(state.out),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_the_order_of_their_places() {
        let ordered = Ordered::new(Vec::new());
        let places: Vec<_> = (0..4).map(|_| ordered.reserve().unwrap()).collect();
        for place in [2, 0, 3, 1] {
            ordered.put(places[place], format!("{place}"));
        }
        assert_eq!(ordered.finish().unwrap(), b"0123");
    }
}
