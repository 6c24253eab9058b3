//! Further connections to a host whose server does not carry several programs over one.
//!
//! Each program has one to itself. When it has ended the next one gets it: what is the
//! matter with such servers (see [`Greeting`](super::greeting::Greeting)) are programs
//! that end while others begin.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::door::Door;
use super::remote::RemoteError;
use super::ssh::Link;

/// The way to further connections, and those that nothing runs on.
pub(super) struct Spares {
    door: Door,
    /// The first connection, whose jump host carries all others, too.
    first: Arc<Link>,
    idle: Mutex<Vec<Arc<Link>>>,
    room: Arc<Semaphore>,
    /// A server lets only so many in at a time who have not logged in.
    entering: tokio::sync::Mutex<()>,
}

/// A connection for one program.
pub(super) struct Lease {
    /// To be used for that program alone.
    pub(super) link: Arc<Link>,
    /// Where it belongs, if nobody else may use it meanwhile.
    home: Option<(Arc<Spares>, OwnedSemaphorePermit)>,
}

impl Spares {
    /// None yet. `programs_max` at once have one.
    pub(super) fn new(door: Door, first: Arc<Link>, programs_max: usize) -> Arc<Self> {
        Arc::new(Self {
            door,
            first,
            idle: Mutex::default(),
            room: Arc::new(Semaphore::new(programs_max)),
            entering: tokio::sync::Mutex::default(),
        })
    }

    /// An idle connection, or a new one.
    pub(super) async fn lease(self: &Arc<Self>, doing: &str) -> Result<Lease, RemoteError> {
        let Ok(permit) = self.room.clone().acquire_owned().await else {
            return Err(self.first.lost(doing).await);
        };
        let link = match self.take_idle() {
            Some(link) => link,
            None => self.connect(doing).await?,
        };
        Ok(Lease {
            link,
            home: Some((self.clone(), permit)),
        })
    }

    async fn connect(&self, doing: &str) -> Result<Arc<Link>, RemoteError> {
        let _alone = self.entering.lock().await;
        // A host that has ended the first one is lost, and is not to be found again.
        if self.first.handle.is_closed() {
            return Err(self.first.lost(doing).await);
        }
        let Some(door) = self.door.again() else {
            return Err(self.first.lost(doing).await);
        };
        let through = self.first.through.as_deref();
        let entered = door.enter_from(through).await?;
        Ok(Arc::new(Link::new(entered)))
    }

    fn take_idle(&self) -> Option<Arc<Link>> {
        let mut idle = self.idle();
        idle.retain(|link| !link.handle.is_closed());
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        // Nothing that happens under the lock leaves it half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends those that nothing runs on, and gives no new ones.
    pub(super) fn close(&self) {
        self.room.close();
        self.idle().clear();
    }
}

impl Lease {
    /// One that others use, too.
    pub(super) fn shared(link: &Arc<Link>) -> Self {
        Self {
            link: link.clone(),
            home: None,
        }
    }

    /// The program has ended. Without this an unshared connection ends with the lease.
    pub(super) fn ended(self) {
        let Self { link, home } = self;
        if let Some((spares, permit)) = home
            && !spares.room.is_closed()
        {
            spares.idle().push(link);
            drop(permit);
        }
    }
}
