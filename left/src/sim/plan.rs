//! What happens in a simulated run, as data: made from a seed, written by hand
//! in a test, or what is left of a failing one when it was shrunk.

use super::Rng;

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    A,
    B,
}

impl At {
    pub(crate) const BOTH: [At; 2] = [At::A, At::B];

    pub(crate) fn other(self) -> Self {
        match self {
            At::A => At::B,
            At::B => At::A,
        }
    }
}

/// What a person does. A path is one of [`PATHS`], by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// A new content in place, of this many bytes.
    Write(usize, u64),
    /// Some bytes more.
    Append(usize),
    /// Half of it.
    Truncate(usize),
    /// As an editor saves: a new file over the old one.
    Save(usize, u64),
    /// What is in the first goes into the second as well.
    Copy(usize, usize),
    /// A file or link.
    Delete(usize),
    /// With all that is in it.
    DeleteTree(usize),
    /// Over what has the new name.
    Rename(usize, usize),
    /// Both names stay.
    Swap(usize, usize),
    Mkdir(usize),
    Rmdir(usize),
    Symlink(usize),
    /// To this mode.
    Chmod(usize, u32),
    /// To so many seconds since 1970.
    Touch(usize, i64),
    /// Writes one of [`RULES`], by number, into the file of rules.
    Rules(usize),
    /// Removes that file.
    NoRules,
}

impl Op {
    /// Whether it may change what is ignored.
    pub(crate) fn is_of_rules(self) -> bool {
        matches!(self, Op::Rules(_) | Op::NoRules)
    }
}

/// Where things happen: few names, so that they meet.
pub(crate) const PATHS: [&str; 8] = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f"];

/// What people have ignored.
pub(crate) const RULES: [&str; 12] = [
    "",
    "a",
    "/a\nf",
    "d/",
    "d/*\n!d/a",
    "e/",
    "**/e/a",
    "[ab]",
    "d/**\n!d/e/",
    "*\n!d",
    "d\n!d/",
    "f/\nb",
];

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A person does something, and has it made durable or not.
    User(At, Op, bool),
    /// The scanner looks at everything.
    Scan(At),
    /// So many messages arrive.
    Deliver(At, usize),
    /// So many contents arrive.
    Fetch(At, usize),
    /// The applier does what waits for it.
    Apply(At),
    /// The process dies at its change number so and so from now.
    Kill(At, u64),
    /// The power goes then; the seed says what is left.
    PowerCut(At, u64, u64),
    /// The process starts.
    Start(At),
    /// The connection goes.
    Cut,
    /// It comes back.
    Connect,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// A person does something in the middle of the process' work, before its
    /// call number so and so from now.
    Intrude(At, u64, Op),
    /// The disk of a side is full from now on, for this many bytes more.
    Full(At, u64),
    /// A call of the process that lists, after so many others, fails.
    Unlisted(At, u64),
    /// One that reads fails.
    Unread(At, u64),
    /// One that writes fails.
    Unwritten(At, u64),
    /// One that makes something durable fails.
    Unsynced(At, u64),
    /// Somebody takes a snapshot of the disk.
    Snapshot(At),
    /// It is put back, while the process is dead.
    RollBack(At),
    /// There is room again, and nothing fails any more.
    Room(At),
    /// From now on people are asked where more than so many common names differ.
    AskAbove(u64),
    /// Nobody does anything more before somebody is asked.
    Still,
    /// Who is asked whether two shares are to be joined says so.
    Join(At),
    /// Somebody has a side forget its peer.
    Forget(At),
    /// Somebody deletes the index of a side that has nothing to do.
    LoseIndex(At),
    /// The clock of a side is set back by so many seconds.
    ClockBack(At, u64),
}

impl Step {
    /// Whether people do it, or it hides something from a program.
    pub(crate) fn is_of_people(self) -> bool {
        match self {
            Step::User(..) | Step::Intrude(..) | Step::RollBack(_) => true,
            Step::Full(..) | Step::Unlisted(..) | Step::Unread(..) | Step::ClockBack(..) => true,
            Step::Unwritten(..) | Step::Unsynced(..) => true,
            Step::AskAbove(_) | Step::Join(_) | Step::Forget(_) | Step::LoseIndex(_) => true,
            Step::Scan(_) | Step::Deliver(..) | Step::Fetch(..) | Step::Apply(_) => false,
            Step::Kill(..) | Step::PowerCut(..) | Step::Start(_) => false,
            Step::Cut | Step::Connect | Step::Wait(_) => false,
            Step::Snapshot(_) | Step::Room(_) | Step::Still => false,
        }
    }
}

/// What can happen in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// People work on both sides.
    pub(crate) two_writers: bool,
    /// Processes are killed, and the power goes.
    pub(crate) crashes: bool,
    /// Disks are full, and cannot be read.
    pub(crate) faults: bool,
    /// Disks are put back to what they were.
    pub(crate) rollbacks: bool,
    /// Both sides have something before they meet, and forget each other.
    pub(crate) joins: bool,
    /// People do more than everything else.
    pub(crate) busy: bool,
    /// Steps in all.
    pub(crate) steps: usize,
    /// People have some of it ignored.
    pub(crate) rules: bool,
}

impl Kind {
    /// One of all kinds.
    pub(crate) fn of(rng: &mut Rng) -> Self {
        Self {
            two_writers: rng.chance(2, 3),
            crashes: rng.chance(1, 2),
            faults: rng.chance(1, 4),
            rollbacks: rng.chance(1, 4),
            joins: rng.chance(1, 3),
            busy: false,
            steps: 10 + rng.below(110) as usize,
            rules: rng.chance(1, 3),
        }
    }
}

/// The steps of a seed.
pub(crate) fn plan(rng: &mut Rng, kind: Kind) -> Vec<Step> {
    let mut steps = Vec::new();
    if kind.joins {
        steps.push(Step::AskAbove(rng.below(3)));
        let before = 2 + rng.below(12);
        steps.extend((0..before).map(|_| Step::User(*rng.pick(&At::BOTH), op(rng, kind), true)));
        steps.push(Step::Still);
        // For a while only the programs do something.
        let all = (0..rng.below(60)).map(|_| step(rng, kind));
        steps.extend(all.filter(|step| !step.is_of_people()));
    }
    steps.extend((0..kind.steps).map(|_| step(rng, kind)));
    steps
}

/// One of any kind.
pub(crate) fn step(rng: &mut Rng, kind: Kind) -> Step {
    let at = *rng.pick(&At::BOTH);
    if kind.faults && rng.chance(1, 12) {
        return match rng.below(5) {
            0 => Step::Full(at, rng.below(8192)),
            1 => Step::Unlisted(at, rng.below(6)),
            2 => Step::Unwritten(at, rng.below(30)),
            3 => Step::Unsynced(at, rng.below(12)),
            _ => Step::Unread(at, rng.below(12)),
        };
    }
    if kind.joins && rng.chance(1, 16) {
        return match rng.below(5) {
            0..2 => Step::Join(at),
            2..4 => Step::Forget(at),
            _ => Step::LoseIndex(at),
        };
    }
    let what = match kind.busy && rng.chance(1, 2) {
        true => 0,
        false => rng.below(100),
    };
    match what {
        0..22 => {
            let at = if kind.two_writers { at } else { At::A };
            Step::User(at, op(rng, kind), rng.chance(1, 2))
        }
        22..40 => Step::Scan(at),
        40..58 => Step::Deliver(at, 1 + rng.below(4) as usize),
        58..68 => Step::Fetch(at, 1 + rng.below(3) as usize),
        68..80 => Step::Apply(at),
        83 if kind.rollbacks => match rng.chance(1, 2) {
            true => Step::Snapshot(at),
            false => Step::RollBack(at),
        },
        80..84 => Step::Wait(1 + rng.below(400)),
        84 => Step::Cut,
        85..87 => Step::Connect,
        87..91 if kind.crashes => match rng.chance(1, 2) {
            true => Step::Kill(at, rng.below(60)),
            false => Step::PowerCut(at, rng.below(60), rng.next()),
        },
        91..94 => Step::Start(at),
        94..98 => {
            let at = if kind.two_writers { at } else { At::A };
            Step::Intrude(at, rng.below(60), op(rng, kind))
        }
        98..100 if kind.faults => Step::Room(at),
        98 => Step::ClockBack(at, rng.below(7200)),
        _ => Step::Wait(60),
    }
}

fn op(rng: &mut Rng, kind: Kind) -> Op {
    if kind.rules && rng.chance(1, 6) {
        return match rng.below(5) {
            0 => Op::NoRules,
            _ => Op::Rules(rng.below(RULES.len() as u64) as usize),
        };
    }
    let path = rng.below(PATHS.len() as u64) as usize;
    let other = rng.below(PATHS.len() as u64) as usize;
    match rng.below(26) {
        0..5 => Op::Write(path, size(rng)),
        5..7 => Op::Append(path),
        7 => Op::Truncate(path),
        8..10 => Op::Save(path, size(rng)),
        10..12 => Op::Copy(path, other),
        12..15 => Op::Delete(path),
        15 => Op::DeleteTree(path),
        16..19 => Op::Rename(path, other),
        19 => Op::Swap(path, other),
        20..22 => Op::Mkdir(path),
        22 => Op::Rmdir(path),
        23 => Op::Symlink(path),
        24 => Op::Chmod(path, *rng.pick(&[0o600, 0o644, 0o755])),
        _ => Op::Touch(path, 1_000 + rng.below(5) as i64),
    }
}

fn size(rng: &mut Rng) -> u64 {
    match rng.below(6) {
        0 => 0,
        1 => 1 + rng.below(2000),
        _ => 1 + rng.below(20),
    }
}
