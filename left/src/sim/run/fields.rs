//! People on the two sides who never change the same field of a path: what each of
//! them did last must be there in the end, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Checked, Run, Violation};
use crate::sim::people::People;
use crate::sim::plan::{At, Kind, Op, PATHS, Step, step};
use crate::sim::{Item, Machine, Rng};

/// Files of which A changes the content and B the mode.
const EDITED: [usize; 2] = [0, 3];
/// A file of which A changes the mtime and B the mode.
const TOUCHED: usize = 1;
/// A file and a folder that A deletes, and of which B changes all but the content.
const DELETED: usize = 7;
const FOLDER: usize = 5;

const MODES: [u32; 4] = [0o600, 0o644, 0o640, 0o755];

/// What somebody does to a field.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Of A, with content and mtime.
    Content(Op),
    /// Of A.
    Mtime(usize, i64),
    /// Of B.
    Mode(usize, u32),
    /// Of B, of what A deletes.
    InVain(Op),
    /// Of A.
    Gone(Op),
}

impl Act {
    fn of(rng: &mut Rng) -> Self {
        let edited = *rng.pick(&EDITED);
        let mode = *rng.pick(&MODES);
        let secs = 1_000 + rng.below(50) as i64;
        match rng.below(16) {
            0..3 => Act::Content(Op::Write(edited, rng.below(60))),
            3 => Act::Content(Op::Append(edited)),
            4 => Act::Content(Op::Truncate(edited)),
            5..7 => Act::Mtime(TOUCHED, secs),
            7..10 => Act::Mode(edited, mode),
            10..12 => Act::Mode(TOUCHED, mode),
            12 => Act::InVain(Op::Chmod(DELETED, mode)),
            13 => Act::InVain(Op::Touch(DELETED, secs)),
            14 => Act::InVain(Op::Chmod(FOLDER, mode | 0o700)),
            _ => Act::Gone(match rng.chance(1, 2) {
                true => Op::Delete(DELETED),
                false => Op::Rmdir(FOLDER),
            }),
        }
    }

    fn at(self) -> At {
        match self {
            Act::Content(_) | Act::Mtime(..) | Act::Gone(_) => At::A,
            Act::Mode(..) | Act::InVain(_) => At::B,
        }
    }
}

/// What must be there in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fields {
    /// Hash and mtime.
    contents: BTreeMap<usize, (String, crate::entry::Mtime)>,
    modes: BTreeMap<usize, u32>,
}

impl Fields {
    /// Notes what a side has now of a path.
    fn note(&mut self, at: At, path: usize, machine: &Machine) {
        let tree = machine.tree().0;
        let Some(Item::File {
            mode, mtime, hash, ..
        }) = tree.get(PATHS[path])
        else {
            return;
        };
        match at {
            At::A => drop(self.contents.insert(path, (hash.clone(), *mtime))),
            At::B => drop(self.modes.insert(path, *mode)),
        }
    }

    /// Somebody does it, and what was done is durable.
    fn act(fields: &Mutex<Self>, people: &People, machine: &Machine, act: Act) {
        let at = act.at();
        let (op, path) = match act {
            Act::Content(op @ (Op::Write(path, _) | Op::Append(path) | Op::Truncate(path))) => {
                (op, Some(path))
            }
            Act::Mtime(path, secs) => (Op::Touch(path, secs), Some(path)),
            Act::Mode(path, mode) => (Op::Chmod(path, mode), Some(path)),
            Act::Content(op) | Act::InVain(op) | Act::Gone(op) => (op, None),
        };
        match op {
            // Of a folder nothing is owed.
            Op::Chmod(path, mode) if path == FOLDER => {
                let _ = machine.user().chmod(PATHS[path], mode);
            }
            _ => people.act(at, machine, op),
        }
        people.sync(at, machine);
        if let Some(path) = path {
            let mut fields = fields.lock().unwrap_or_else(PoisonError::into_inner);
            fields.note(at, path, machine);
        }
    }
}

impl Run {
    /// Both sides have the same files; then one changes this and the other that.
    pub(crate) fn merge_fields(mut self) -> Checked {
        let mut rng = Rng::new(self.seed);
        for at in At::BOTH {
            self.start(at)?;
        }
        self.connect()?;
        let a = self.side(At::A).machine.clone();
        for path in [2, FOLDER] {
            self.people.act(At::A, &a, Op::Mkdir(path));
        }
        let files = [EDITED[0], EDITED[1], TOUCHED, DELETED];
        for path in files {
            self.people.act(At::A, &a, Op::Write(path, 30));
        }
        self.people.sync(At::A, &a);
        self.settle()?;
        self.one_writer = true;
        let fields = Arc::new(Mutex::new(Fields::default()));
        {
            let mut fields = fields.lock().unwrap_or_else(PoisonError::into_inner);
            for path in &files[..3] {
                fields.note(At::A, *path, &a);
                let b = self.side(At::B).machine.clone();
                fields.note(At::B, *path, &b);
            }
        }
        let mut kind = Kind::of(&mut rng);
        kind.rollbacks = false;
        for _ in 0..kind.steps {
            match step(&mut rng, kind) {
                Step::User(..) => {
                    let act = Act::of(&mut rng);
                    self.trace(|_| format!("{act:?}"));
                    let machine = self.side(act.at()).machine.clone();
                    Fields::act(&fields, &self.people, &machine, act);
                }
                Step::Intrude(_, calls, _) => {
                    let act = Act::of(&mut rng);
                    self.trace(|_| format!("in {calls} calls {act:?}"));
                    let (people, fields) = (self.people.clone(), fields.clone());
                    let then = move |machine: &Machine| {
                        Fields::act(&fields, &people, machine, act);
                    };
                    let side = self.side(act.at());
                    side.machine.before_call(calls, Box::new(then));
                }
                // A file from the future may not have been looked at when the first look
                // after a crash is over, and by then the peer may have set another mode
                // than the one that the crash left there.
                Step::ClockBack(..) => {}
                other => {
                    self.trace(|_| format!("{other:?}"));
                    self.step(other)?;
                }
            }
            self.check_whole("a change of a field")?;
        }
        for op in [Op::Delete(DELETED), Op::Rmdir(FOLDER)] {
            Fields::act(&fields, &self.people, &a, Act::Gone(op));
        }
        self.settle()?;
        let fields = fields
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.check_fields(&fields)
    }

    fn check_fields(&self, fields: &Fields) -> Checked {
        for side in &self.sides {
            let mut is = Fields::default();
            for path in fields.contents.keys().chain(fields.modes.keys()) {
                is.note(At::A, *path, &side.machine);
                is.note(At::B, *path, &side.machine);
            }
            if is != *fields {
                return Err(Violation(format!("it is {is:?}, not {fields:?}")));
            }
            let tree = side.machine.tree().0;
            for gone in [DELETED, FOLDER] {
                if tree.contains_key(PATHS[gone]) {
                    let gone = PATHS[gone];
                    return Err(Violation(format!("{gone} was deleted and is there")));
                }
            }
        }
        Ok(())
    }
}
