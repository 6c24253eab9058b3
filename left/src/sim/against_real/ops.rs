//! The calls that are compared, and random lists of them.

use crate::disk::Rename;
use crate::sim::rng::Rng;

/// One call. What it prints as can be pasted into a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    MakeDir(&'static str),
    MakeLink(&'static str, &'static str),
    MakeParent(&'static str),
    Create(usize, &'static str),
    OpenAt(usize, &'static str),
    OpenFile(usize, &'static str),
    Write(usize, u64, usize),
    SetLen(usize, u64),
    Read(usize, u64, usize),
    SetMode(usize, u32),
    SetMtime(usize, i64),
    Look(usize),
    Sync(usize),
    Copy(usize, usize),
    Hold(usize, &'static str),
    HeldMakeDir(usize, &'static str),
    HeldCreate(usize, &'static str),
    HeldUnlink(usize, &'static str),
    HeldRename(usize, &'static str, usize, &'static str, Rename),
    HeldOpenDir(usize, &'static str),
    HeldList(usize),
    HeldSetMode(usize, u32),
    HeldSync(usize),
    SetModeAt(&'static str, u32),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    RemoveDir(&'static str),
    Move(&'static str, &'static str, Rename),
    List(&'static str),
    StatAt(&'static str),
    ReadLink(&'static str),
    ByUser(UserOp),
}

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserOp {
    Save(&'static str, usize),
    Overwrite(&'static str, u64, usize),
    Append(&'static str, usize),
    Truncate(&'static str, u64),
    Delete(&'static str),
    Mv(&'static str, &'static str),
    Mkdir(&'static str),
    Rmdir(&'static str),
    Chmod(&'static str, u32),
    Touch(&'static str, i64),
    Symlink(&'static str, &'static str),
    Hardlink(&'static str, &'static str),
}

use Op::*;
use UserOp::*;

const PATHS: &[&str] = &[
    "a", "b", "c", "a/a", "a/b", "a/c", "b/a", "b/b", "c/a", "a/a/a", "a/b/c", "b/a/b", "a/a/a/a",
    "b/a/b/c",
];
const NAMES: &[&str] = &["a", "b", "x"];
const MODES: &[u32] = &[
    0o644, 0o600, 0o755, 0o700, 0o444, 0o500, 0o300, 0o000, 0o1777,
];
const RENAMES: &[Rename] = &[Rename::Plain, Rename::NoReplace, Rename::Exchange];
pub(super) const SLOTS: u64 = 3;

pub(super) fn some_op(rng: &mut Rng) -> Op {
    let path = *rng.pick(PATHS);
    let other = *rng.pick(PATHS);
    let (name, to) = (*rng.pick(NAMES), *rng.pick(NAMES));
    let mode = *rng.pick(MODES);
    let how = *rng.pick(RENAMES);
    let (slot, slot2) = (rng.below(SLOTS) as usize, rng.below(SLOTS) as usize);
    let at = rng.below(1500);
    let len = rng.below(1200) as usize;
    let secs = rng.below(1000) as i64;
    match rng.below(200) {
        0..14 => MakeDir(path),
        14..20 => MakeLink(path, other),
        // These wait for a real disk, so they are few.
        20 => MakeParent(path),
        21 if rng.chance(1, 4) => Sync(slot),
        21 => Look(slot),
        22..34 => Create(slot, path),
        34..40 => OpenAt(slot, path),
        40..46 => OpenFile(slot, path),
        46..60 => Write(slot, at, len),
        60..64 => SetLen(slot, at),
        64..70 => Read(slot, at, len),
        70..73 => SetMode(slot, mode),
        73..77 => SetMtime(slot, secs),
        77..82 => Look(slot),
        82 => Copy(slot, slot2),
        83..90 => Hold(slot, path),
        90..94 => HeldMakeDir(slot, name),
        94..97 => HeldCreate(slot, name),
        97..99 => HeldUnlink(slot, name),
        99..104 => HeldRename(slot, name, slot2, to, how),
        104..106 => HeldOpenDir(slot, name),
        106..108 => HeldList(slot),
        108..110 => HeldSetMode(slot, mode),
        110 if rng.chance(1, 4) => HeldSync(slot),
        110 => HeldList(slot),
        111..114 => SetModeAt(path, mode),
        114..119 => Link(path, other),
        119..123 => Unlink(path),
        123..126 => RemoveDir(path),
        126..146 => Move(path, other, how),
        146..149 => List(path),
        149..152 => StatAt(path),
        152..154 => ReadLink(path),
        _ => ByUser(match rng.below(24) {
            0..5 => Save(path, len),
            5..7 => Overwrite(path, at, len),
            7..9 => Append(path, len),
            9..11 => Truncate(path, at),
            11..13 => Delete(path),
            13..16 => Mv(path, other),
            16..18 => Mkdir(path),
            18 => Rmdir(path),
            19..21 => Chmod(path, mode),
            21 => Touch(path, secs),
            22 => Symlink(other, path),
            _ => Hardlink(path, other),
        }),
    }
}

impl UserOp {
    pub(super) fn paths(self) -> (&'static str, Option<&'static str>) {
        match self {
            Mv(from, to) | Hardlink(from, to) => (from, Some(to)),
            Save(path, _)
            | Overwrite(path, ..)
            | Append(path, _)
            | Truncate(path, _)
            | Delete(path)
            | Mkdir(path)
            | Rmdir(path)
            | Chmod(path, _)
            | Touch(path, _)
            | Symlink(_, path) => (path, None),
        }
    }
}
