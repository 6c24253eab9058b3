//! What can go wrong with the database, and what that says about it.

/// A failure of the database; it names the operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the index: {source}")]
pub struct IndexError {
    operation: &'static str,
    #[source]
    source: Box<redb::Error>,
}

impl IndexError {
    /// What the file system says of the index's file.
    #[cfg(test)]
    pub(crate) fn of_file(errno: rustix::io::Errno) -> Self {
        Self {
            operation: "open",
            source: Box::new(redb::Error::Io(errno.into())),
        }
    }

    /// Whether there was no room to write.
    pub fn is_lack_of_room(&self) -> bool {
        use std::io::ErrorKind;
        matches!(self.source.as_ref(), redb::Error::Io(error) if matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        ))
    }

    /// Whether what is in the database cannot be.
    pub fn is_damage(&self) -> bool {
        matches!(self.source.as_ref(), redb::Error::Corrupted(_))
    }

    /// Whether the database may well be sound, and only could not be used now.
    pub fn is_of_the_moment(&self) -> bool {
        use std::io::ErrorKind;
        match self.source.as_ref() {
            redb::Error::Io(error) => !matches!(
                error.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ),
            // After a failure it refuses all else until it is opened again.
            redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => true,
            _ => false,
        }
    }
}

pub(super) trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, IndexError>;
}

impl<T, E: Into<redb::Error>> During<T> for Result<T, E> {
    fn during(self, operation: &'static str) -> Result<T, IndexError> {
        self.map_err(|error| IndexError {
            operation,
            source: Box::new(error.into()),
        })
    }
}

pub(super) fn damaged<T>(why: &str) -> Result<T, IndexError> {
    Err(redb::Error::Corrupted(why.to_owned())).during("use")
}

/// What is not understood is never passed over: a record that is missing
/// would look like a new file with a young version.
pub(super) fn sound<T>(read: Option<T>) -> Result<T, IndexError> {
    read.map_or_else(|| damaged("a record in it is not understood"), Ok)
}
