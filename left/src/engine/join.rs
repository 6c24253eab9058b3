//! Two shares that meet and were never joined: what each lists is only written down
//! until both sides know enough, and agree, or a person says that they are to be
//! joined. Then the want of each path is acted on as ever, which makes a union.
//!
//! One person's word is enough, on either side: a union takes nothing away, each
//! side has shown the same question, and who may connect has been decided before.

use super::{Action, Engine, News, PAGE_WANTS, Session};
use crate::index::{Change, IndexError, Store};
use crate::pairing::{Counts, ShareId, Stand};
use crate::plan::{Decision, plan};
use crate::planted::{Bug, makes};
use crate::wire::message::Message;

/// Where more common names differ, a person is asked: that many conflict copies are seldom
/// what somebody wanted.
pub(super) const DIFFER_MAX: u64 = 100;

impl<S: Store> Engine<S> {
    /// Asks a person where more than so many common names differ.
    #[cfg(test)]
    pub(crate) fn ask_above(&mut self, differ_max: u64) {
        self.differ_max = differ_max;
    }

    /// The session in which the peer's listing is acted on, if there is one.
    pub(super) fn joined(&self) -> Option<&Session> {
        self.session.as_ref().filter(|known| known.heard.joined)
    }

    /// Tells a peer that may not know it yet, because it was killed before it could
    /// write it down.
    pub(super) fn say_joined(&mut self) {
        let session = self.joined().filter(|known| !known.peer_knows);
        if let Some(session) = session.map(|known| known.id)
            && !makes(Bug::KeepsTheWord)
        {
            let stand = Stand::Joins;
            let message = Message::Join { stand };
            self.actions.push(Action::Say { session, message });
        }
    }

    /// Where the peer stands.
    pub(super) fn take_stand(&mut self, id: u64, stand: Stand) {
        let all = self.session.iter_mut().chain(&mut self.next_session);
        for session in all.filter(|session| session.id == id) {
            session.their_stand = Some(stand);
        }
    }

    /// Joins the two shares when both sides agree, and says where this side stands as
    /// soon as it knows.
    pub(super) fn join(&mut self) -> Result<(), IndexError> {
        let Some(session) = self.session.as_ref().filter(|known| !known.heard.joined) else {
            return Ok(());
        };
        if !self.scanned {
            return Ok(());
        }
        let (id, theirs) = (session.id, session.their_stand);
        if theirs == Some(Stand::Joins) {
            return self.be_joined();
        }
        let (ours, counts) = match session.our_stand {
            Some(ours) => (ours, None),
            // Who has nothing need not hear all of it first.
            None if !session.heard_once && self.store.live()? > 0 => return Ok(()),
            None => {
                let counts = self.count()?;
                let asks = counts.differ > self.differ_max && !makes(Bug::JoinsUnasked);
                let stand = if asks { Stand::Asks } else { Stand::Agrees };
                if let Some(session) = &mut self.session {
                    session.our_stand = Some(stand);
                }
                let (session, message) = (id, Message::Join { stand });
                self.actions.push(Action::Say { session, message });
                (stand, Some(counts))
            }
        };
        match (ours, theirs) {
            (Stand::Agrees, Some(Stand::Agrees)) => self.be_joined(),
            (Stand::Asks, _) | (_, Some(Stand::Asks)) if !self.asked => {
                self.asked = true;
                let counts = counts.map_or_else(|| self.count(), Ok)?;
                self.tell(News::Asked(counts));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn be_joined(&mut self) -> Result<(), IndexError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let heard = session.heard;
        let (mut ours, theirs) = (self.store.share_id()?, session.peer_share);
        if makes(Bug::NamesTheShareAlone) {
            ours = ours.or(ShareId::from_number(self.store.replica().0));
        }
        let here = (self.store.replica().0, self.store.epoch());
        let share = match ShareId::of_both((ours, here), (theirs, (heard.replica, heard.epoch))) {
            Ok(share) => share,
            Err(_) => {
                let id = session.id;
                self.end_session(id, "its share is another one");
                return Ok(());
            }
        };
        session.heard.joined = true;
        let changes = [Change::Share(share), Change::Heard(session.heard)];
        self.store.commit(&changes)?;
        self.asked = false;
        self.tell(News::Joined(share));
        self.look_at_all_wants();
        self.look_at_all_removals();
        Ok(())
    }

    /// A person wants to know what two shares that meet have, or says that they are to
    /// be joined.
    pub(super) fn take_word(&mut self, ask: u64, is_meant: bool) -> Result<(), IndexError> {
        let answer = self.answer_word(is_meant)?;
        self.actions.push(Action::Answer { ask, answer });
        Ok(())
    }

    fn answer_word(&mut self, is_meant: bool) -> Result<Result<String, String>, IndexError> {
        let share = self.store.share_id()?;
        if self.joined().is_some() {
            let share = share.map_or_else(String::new, ShareId::short);
            return Ok(Ok(format!(
                "this side and its peer are joined, as share {share}"
            )));
        }
        if self.session.is_none() {
            let text = "the peer is not connected; see `left status`";
            return Ok(Err(text.to_owned()));
        }
        if !self.asked {
            let text = "what the two sides have is still being compared";
            return Ok(Err(text.to_owned()));
        }
        let counts = self.count()?;
        if !is_meant {
            self.tell(News::Asked(counts));
            let text = "nothing is changed before `left join --yes` is said here or there";
            return Ok(Ok(format!("{counts}; {text}")));
        }
        self.be_joined()?;
        self.say_joined();
        Ok(Ok(format!("{counts}; they are joined now")))
    }

    /// A person says that whoever this side was paired with is to be forgotten.
    pub(super) fn forget(&mut self, ask: u64) -> Result<(), IndexError> {
        self.store.commit(&[Change::Forgotten])?;
        let answer = Ok(FORGOTTEN.to_owned());
        self.actions.push(Action::Answer { ask, answer });
        self.begin_again("the peer is forgotten");
        Ok(())
    }

    /// Nothing was acted on yet, so all that the peer has is still wanted.
    pub(super) fn count(&self) -> Result<Counts, IndexError> {
        let mut counts = Counts::default();
        let mut on_both = 0;
        let mut cursor = None;
        loop {
            let page = self.store.wants_after(cursor.as_ref(), PAGE_WANTS)?;
            for (path, theirs) in &page {
                let known = self.store.get(path)?;
                let Some(known) = known.filter(|known| !known.entry.is_deleted()) else {
                    counts.only_there += 1;
                    continue;
                };
                on_both += 1;
                // Other metadata make no copy, whoever has to take the other's.
                let differs = !known.entry.same_content(theirs)
                    && matches!(
                        plan(Some(&known.entry), theirs),
                        Decision::Wait | Decision::InstallKeepingOurs(_)
                    );
                counts.differ +=
                    u64::from(differs && !known.entry.version.has_met(&theirs.version));
            }
            match page.last() {
                Some((path, _)) => cursor = Some(path.clone()),
                None => break,
            }
        }
        counts.only_here = self.store.live()?.saturating_sub(on_both);
        Ok(counts)
    }
}

/// What a person is told who had a peer forgotten.
pub(crate) const FORGOTTEN: &str = "\
the peer is forgotten: the next one that connects, whichever it is, is met for the first time. Then both \
sides keep all they have, what differs is kept twice, and nothing is deleted; what was deleted on one side \
only comes back";
