//! Why the daemon did not start or ended, and the exit codes of that.

use std::io;
use std::net::SocketAddr;

use crate::index::IndexError;
use crate::path::STATE_DIR;
use crate::share::ShareError;

/// Why the daemon did not start or ended; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The share or its state cannot be used.
    #[error("{0}")]
    Share(#[from] ShareError),
    /// The index cannot be used.
    #[error("{0}; stop what else uses {STATE_DIR}, or make room")]
    Index(#[from] IndexError),
    /// The share went away while the daemon ran.
    #[error(
        "share {0} or its {STATE_DIR} was removed or replaced while left ran; nothing was taken for deleted; put it back and start again"
    )]
    Removed(String),
    /// The peer heard more of this side than this side remembers, or is to be forgotten.
    #[error("the index in {STATE_DIR} is opened anew; this side goes on as a new replica")]
    ToBeginAgain,
    /// The events file cannot be used.
    #[error("{0}")]
    Events(String),
    /// The port cannot be bound.
    #[error("cannot listen on {address}: {source}; {}", bind_advice(source))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused a thread, a signal handler or a pipe.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl DaemonError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            DaemonError::Events(_) => 2,
            DaemonError::Bind { .. } => 3,
            _ => 1,
        }
    }
}

/// What helps against that, and not against something else.
fn bind_advice(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::AddrInUse => "end what uses the port, or give another --listen",
        io::ErrorKind::AddrNotAvailable => {
            "give --listen an address of this machine, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => "give --listen a port above 1023",
        _ => "give another --listen",
    }
}
