//! One operation here, one there, and a crash at a chosen change of the program
//! while it brings them together.

use super::{Checked, Run};
use crate::sim::Rng;
use crate::sim::plan::{At, Op, PATHS};
use crate::sim::side::Process;

/// Rounds in which the two sides act on what happened, before all faults end.
const ROUNDS: usize = 6;

/// What is made before, at some of [`PATHS`]: folders first.
const FOLDERS: [usize; 2] = [2, 5];
const FILES: [usize; 6] = [0, 1, 3, 4, 6, 7];

/// Makes an operation of a kind about a path.
pub(crate) type Make = fn(&mut Rng, usize) -> Op;

/// The process dies before the change of this number, and with it, if there is a seed,
/// the power goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crash {
    pub(crate) change: u64,
    pub(crate) power_cut: Option<u64>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Met {
    /// Both operations, as far as there were any, changed something.
    pub(crate) had_effect: bool,
    /// The changes that the program on the one side made.
    pub(crate) deeds: Vec<&'static str>,
    /// It died before the last of these.
    pub(crate) died: bool,
}

impl Run {
    /// Lets an operation `mine` on the side `here` meet one on the other side, on the same
    /// path more often than not, and everything come to rest. The program on the
    /// side `here` is the one that crashes.
    pub(crate) fn meet(
        mut self,
        here: At,
        mine: Option<Make>,
        theirs: Option<Make>,
        crash: Option<Crash>,
    ) -> Checked<Met> {
        let mut rng = Rng::new(self.seed);
        for at in At::BOTH {
            self.start(at)?;
        }
        self.connect()?;
        self.furnish(&mut rng);
        self.settle()?;
        let together = rng.chance(2, 3).then(|| rng.below(PATHS.len() as u64));
        let mut had_effect = true;
        for (at, make) in [(here, mine), (here.other(), theirs)] {
            if let Some(make) = make {
                had_effect &= self.change(&mut rng, at, make, together);
            }
        }
        self.one_writer = false;
        let side = self.side(here);
        side.machine.record_deeds();
        if let Some(crash) = crash {
            side.machine.crash_at(side.machine.changes() + crash.change);
            side.power_cut = crash.power_cut;
        }
        let first = *rng.pick(&At::BOTH);
        let mut deeds = Vec::new();
        let mut died = false;
        for _ in 0..ROUNDS {
            self.wait(60)?;
            for at in [first, first.other()] {
                self.process(at, Process::scan)?;
                self.deliver(at, usize::MAX)?;
                while self.has_fetches(at) {
                    self.fetch(at)?;
                }
                self.process(at, Process::apply)?;
                self.check_trash(at)?;
                self.process(at, Process::look_again)?;
                self.confirm(at)?;
            }
            if self.side(here).process.is_none() {
                died = true;
                break;
            }
        }
        deeds.append(&mut self.side(here).machine.take_deeds());
        self.check_whole("the meeting")?;
        self.settle()?;
        Ok(Met {
            had_effect,
            deeds,
            died,
        })
    }

    fn furnish(&mut self, rng: &mut Rng) {
        let machine = self.side(At::A).machine.clone();
        for path in FOLDERS {
            self.people.act(At::A, &machine, Op::Mkdir(path));
        }
        for path in FILES {
            let op = match rng.below(8) {
                0..2 => continue,
                2 => Op::Symlink(path),
                _ => Op::Write(path, 1 + rng.below(40)),
            };
            self.people.act(At::A, &machine, op);
        }
        self.people.sync(At::A, &machine);
    }

    /// Answers whether anything was changed, by the path that was asked for or, if that
    /// is of no use, by others.
    fn change(&mut self, rng: &mut Rng, at: At, make: Make, path: Option<u64>) -> bool {
        let machine = self.side(at).machine.clone();
        let before = machine.tree();
        for turn in 0..12 {
            let other = rng.below(PATHS.len() as u64);
            let path = path.filter(|_| turn < 4).unwrap_or(other);
            self.people.act(at, &machine, make(rng, path as usize));
            if machine.tree() != before {
                if rng.chance(1, 2) {
                    self.people.sync(at, &machine);
                }
                return true;
            }
        }
        false
    }
}
