//! Two sides that meet, are asked, and forget each other.

use std::collections::BTreeSet;

use super::{Checked, Run, Violation};
use crate::engine::Event;
use crate::ignore::RULES_FILE;
use crate::index::{Change, Heard, Renewed};
use crate::pairing::ShareId;
use crate::path::STATE_DIR;
use crate::sim::open_index;
use crate::sim::people::files;
use crate::sim::plan::At;
use crate::sim::side::Process;
use crate::version::ReplicaId;

impl Run {
    /// They are joined before anything happens.
    pub(super) fn pair(&mut self) -> Checked {
        let [Some(a), Some(b)] = [0, 1].map(|at: usize| self.sides[at].process.as_ref()) else {
            return Ok(());
        };
        for (one, other) in [(a, b), (b, a)] {
            let heard = Heard {
                replica: other.index.replica().0,
                epoch: other.index.epoch(),
                run: other.index.run(),
                upto: 0,
                partial: true,
                joined: true,
            };
            let share = ShareId::from_number(self.seed | 1).map(Change::Share);
            let changes: Vec<_> = share.into_iter().chain([Change::Heard(heard)]).collect();
            let done = one.index.commit(&changes);
            done.map_err(|error| Violation(error.to_string()))?;
        }
        Ok(())
    }

    /// Neither side is joined with the other, and nothing is under way.
    fn have_parted(&self) -> bool {
        let [a, b] = &self.sides;
        let (Some(a_is), Some(b_is)) = (&a.process, &b.process) else {
            return false;
        };
        let joined =
            a_is.is_joined_with(b_is.index.replica()) || b_is.is_joined_with(a_is.index.replica());
        let is_still = |side: &super::Side, process: &Process| {
            let machine = &side.machine;
            process.is_still() && !machine.is_to_be_intruded() && !machine.is_to_fail()
        };
        !joined && is_still(a, a_is) && is_still(b, b_is)
    }

    /// If so much differs that a person has to be asked, nothing may change before.
    pub(super) fn expect_a_question(&mut self) {
        let Some(differ_max) = self.differ_max.filter(|_| self.have_parted()) else {
            return;
        };
        // Nobody is asked about what the program has not seen yet.
        let is_blind = |side: &super::Side| {
            let process = side.process.as_ref();
            side.unseen && process.is_some_and(|process| process.has_looked)
        };
        if self.sides.iter().any(is_blind) {
            return;
        }
        let [a, b] = self.trees();
        // What is ignored is no reason to ask.
        if a.contains_key(RULES_FILE) || b.contains_key(RULES_FILE) {
            return;
        }
        let content = |text: &str| {
            // A mode or a time is no content.
            let mut words: Vec<_> = text.split(' ').collect();
            match words[0] {
                "file" => drop(words.drain(1..3)),
                "dir" => words.truncate(1),
                _ => {}
            }
            words.join(" ")
        };
        let differ = a.iter().filter(|(path, here)| {
            let there = b.get(*path);
            there.is_some_and(|there| content(here) != content(there))
        });
        if differ.count() as u64 > differ_max {
            self.waiting = Some([a, b]);
        }
    }

    pub(super) fn check_waiting(&self, when: &str) -> Checked {
        match &self.waiting {
            Some(then) if *then != self.trees() => Err(Violation(format!(
                "changed before anybody was asked, by {when}: {then:?} {:?}",
                self.trees()
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn say_the_word(&mut self, at: At) -> Checked {
        let process = self.side(at).process.as_ref();
        if !process.is_some_and(|process| process.asks) {
            return Ok(());
        }
        self.waiting = None;
        let word = Event::JoinAsked {
            ask: 0,
            is_meant: true,
        };
        self.process(at, |process| process.tell(vec![word]))
    }

    pub(super) fn forget(&mut self, at: At) -> Checked {
        self.one_writer = false;
        if self.side(at).process.is_some() {
            let word = Event::Forgotten { ask: 0 };
            self.process(at, |process| process.tell(vec![word]))?;
        } else {
            let machine = self.side(at).machine.clone();
            let marked = machine.start().is_ok_and(|disk| {
                let index = open_index(&disk, (ReplicaId(self.fresh(at)), self.fresh(at)));
                index.is_ok_and(|index| index.commit(&[Change::Forgotten]).is_ok())
            });
            machine.kill();
            if !marked {
                return Ok(());
            }
        }
        self.start(at)?;
        let process = self.sides[at as usize].process.as_ref();
        if process.is_some_and(|process| process.index.renewed() == Some(Renewed::Forgot)) {
            self.part();
        }
        Ok(())
    }

    /// Not while something is under way: what the index says of that is lost with it.
    pub(super) fn lose_index(&mut self, at: At) -> Checked {
        let process = self.sides[at as usize].process.as_ref();
        if !process.is_some_and(Process::is_still) {
            return Ok(());
        }
        self.one_writer = false;
        self.side(at).power_cut = None;
        self.side(at).machine.kill();
        self.died(at)?;
        let machine = self.side(at).machine.clone();
        let _ = machine.user().delete(format!("{STATE_DIR}/index"));
        self.people.sync(at, &machine);
        self.start(at)?;
        if self.side(at).process.is_some() {
            self.part();
        }
        Ok(())
    }

    /// From now on they do not know each other.
    fn part(&mut self) {
        if !self.have_parted() {
            return;
        }
        let trashed: BTreeSet<_> = self
            .sides
            .iter()
            .filter_map(|side| side.process.as_ref())
            .flat_map(Process::trashed)
            .collect();
        for side in &self.sides {
            let there = files(&side.machine).into_values();
            self.people
                .after_parting(there.filter(|version| !trashed.contains(version)));
        }
        self.expect_a_question();
    }

    pub(super) fn share_ids(&self) -> [Option<ShareId>; 2] {
        [0, 1].map(|at: usize| {
            let process = self.sides[at].process.as_ref()?;
            process.index.share_id().ok().flatten()
        })
    }

    /// Whether they refuse each other.
    pub(super) fn are_strangers(&self) -> bool {
        let [a, b] = self.share_ids();
        a.zip(b).is_some_and(|(a, b)| a != b)
    }
}
