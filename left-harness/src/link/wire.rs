//! What two hosts share: while their wire stands still, no byte moves either way.

use tokio::sync::watch;

/// Why a wire stands still; it moves while there is no reason left.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// Points that were reached with a hold and are not released yet.
    holds: usize,
    /// Somebody cut it.
    cut: bool,
}

impl Standing {
    fn is_still(self) -> bool {
        self.holds > 0 || self.cut
    }
}

/// The wire between two hosts, both ways and for all their connections.
#[derive(Debug, Default)]
pub struct Wire {
    standing: watch::Sender<Standing>,
}

impl Wire {
    /// One more reason to stand still.
    pub(super) fn hold(&self) {
        self.standing.send_modify(|standing| standing.holds += 1);
    }

    /// Takes a reason of [`Wire::hold`] back.
    pub(super) fn release(&self) {
        self.standing
            .send_modify(|standing| standing.holds = standing.holds.saturating_sub(1));
    }

    /// Stands still until [`Wire::heal`].
    pub(super) fn cut(&self) {
        self.standing.send_modify(|standing| standing.cut = true);
    }

    /// The opposite of [`Wire::cut`].
    pub(super) fn heal(&self) {
        self.standing.send_modify(|standing| standing.cut = false);
    }

    /// No byte may move now.
    pub(super) fn is_still(&self) -> bool {
        self.standing.borrow().is_still()
    }

    /// Ends as soon as bytes may move.
    pub(super) async fn moves(&self) {
        // It only fails when the sender is gone, and that is `self`.
        let _ = self
            .standing
            .subscribe()
            .wait_for(|standing| !standing.is_still())
            .await;
    }
}
