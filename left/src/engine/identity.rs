//! Whether the peer knows of more that happened in our name than we do.

use super::{Action, Engine};
use crate::index::{Change, IndexError, Store};
use crate::planted::{Bug, makes};
use crate::wire::message::Have;

impl<S: Store> Engine<S> {
    /// Whether the peer heard of numbers of this side that were given in a past
    /// that this side does not remember.
    pub(super) fn knows_more_of_us(
        &self,
        peer: (u64, u64),
        have: &Have,
    ) -> Result<bool, IndexError> {
        let store = &self.store;
        if makes(Bug::ReusesCounters) {
            return Ok(false);
        }
        if (have.replica, have.epoch) != (store.replica().0, store.epoch()) {
            // We remember it, and it has met somebody else since then: that may have
            // been us, under an id that was lost.
            let heard = store.heard()?;
            return Ok((heard.replica, heard.epoch) == peer && have.replica != 0);
        }
        if have.upto == 0 {
            return Ok(false);
        }
        let end = match have.run {
            // From before the peer remembered runs.
            0 => Some(store.seq()?),
            run => store.run_end(run)?,
        };
        Ok(end.is_none_or(|end| have.upto > end))
    }

    /// Nothing more is done as the replica that this side was.
    pub(super) fn doubt(&mut self, session: u64) -> Result<(), IndexError> {
        self.store.commit(&[Change::Doubt])?;
        self.actions.push(Action::HangUp { session });
        self.begin_again("this side's state is older than what the peer knows of it");
        Ok(())
    }

    /// Has the index opened anew, as another replica; until then nothing is done.
    pub(super) fn begin_again(&mut self, why: &'static str) {
        self.is_over = true;
        self.hang_up(why);
        if let Some(next) = self.next_session.take() {
            let session = next.id;
            self.actions.push(Action::HangUp { session });
        }
        self.actions.push(Action::BeginAgain);
    }
}
