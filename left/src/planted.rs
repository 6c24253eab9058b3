//! Mistakes that tests make on purpose, to see that the simulator finds them.
//! In the program itself none is ever made.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) enum Bug {
    /// What is taken from the peer gets a version of this side.
    AdoptsNoVector,
    /// A folder that cannot be listed is empty.
    UnlistedIsEmpty,
    /// A file that cannot be read is gone.
    UnreadableIsGone,
    /// What an interrupted exchange left is removed unseen.
    ForgetsUsersFile,
    /// A stat is trusted however young it is.
    TrustsYoungStamps,
    /// A file gets its name before its content is durable.
    NamesBeforeSync,
    /// A tombstone goes before the peer has heard of it.
    DropsTombstonesEarly,
    /// All conflict copies in a folder have one name, and replace what has it.
    CopyOverwrites,
    /// What came out of an exchange is not looked at.
    ReplacesUnseen,
    /// What came out of the move into the trash is not looked at.
    RemovesUnseen,
    /// The version that lost a name is forgotten at once.
    ForgetsLosers,
    /// What was wanted before what is wanted now is forgotten.
    ForgetsBegun,
    /// An index that is older than what the peer heard of it goes on counting.
    ReusesCounters,
    /// What becomes ignored is told of as deleted.
    IgnoredIsDeleted,
    /// When less is ignored than before, the peer is not asked to list again.
    HearsNothingAgain,
    /// A job is performed though what it changes has become ignored.
    ChangesIgnored,
    /// Mode and mtime are of who has the content.
    ModeGoesWithContent,
    /// A change of a mode beats a deletion as an edit does.
    MetadataBeatsDeletion,
    /// Two shares are joined without a question, whatever differs.
    JoinsUnasked,
    /// Tombstones and versions that a former peer knew outlive its being forgotten.
    RemembersTheForgotten,
    /// Each side names the share by itself.
    NamesTheShareAlone,
    /// What a person said to one side is not told to the other.
    KeepsTheWord,
}

#[cfg(test)]
thread_local! {
    static MADE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is made.
#[cfg(test)]
pub(crate) fn makes(bug: Bug) -> bool {
    MADE.get() == Some(bug)
}

/// Whether this mistake is made: never.
#[cfg(not(test))]
pub(crate) const fn makes(_: Bug) -> bool {
    false
}

/// Does something with this mistake made on this thread.
#[cfg(test)]
pub(crate) fn with<T>(bug: Bug, work: impl FnOnce() -> T) -> T {
    MADE.set(Some(bug));
    let done = work();
    MADE.set(None);
    done
}
