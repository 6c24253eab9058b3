//! Keeps the status file, the line in the terminal and the peer's figures true.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::Input;
use crate::engine::Event;
use crate::events::Reporter;
use crate::index::{Index, Sums};
use crate::progress::{Meter, line, seconds_left};
use crate::share::Share;
use crate::status::{Moving, State, Status, write_status};
use crate::trouble::Trouble;

/// The peer is told what is left this often at most, but at once that nothing is.
const PEER_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Telling {
    share: Arc<Share>,
    index: Arc<Index>,
    reporter: Arc<Reporter>,
    inputs: SyncSender<Input>,
    peer: SocketAddr,
    meter: Meter,
    sums: Sums,
    /// Paths and bytes that the peer was told of, and when.
    told_peer: ((u64, u64), Instant),
}

impl Telling {
    pub(super) fn new(
        share: Arc<Share>,
        index: Arc<Index>,
        reporter: Arc<Reporter>,
        inputs: SyncSender<Input>,
        peer: SocketAddr,
    ) -> Self {
        Self {
            share,
            index,
            reporter,
            inputs,
            peer,
            meter: Meter::default(),
            sums: Sums::default(),
            told_peer: ((0, 0), Instant::now()),
        }
    }

    /// Tells how things are. Answers whether to do it again soon though nothing
    /// changes.
    pub(super) fn tell(&mut self) -> bool {
        let now = Instant::now();
        let status = self.status(now);
        let told_peer = self.tell_peer(now, &status);
        let moves = status.receiving.bytes_per_second + status.sending.bytes_per_second > 0;
        if self.reporter.logged().draws() {
            self.reporter.logged().draw(&line(&status));
        }
        if let Err(error) = write_status(self.share.state(), &status) {
            // A full disk, most likely; it is written once there is room.
            self.reporter.mark_changed();
            let advice = Trouble::of(&error).advice();
            let text = format!("cannot write the status file: {error}; {advice}");
            self.reporter.problem(b"/status", &text);
        } else {
            self.reporter.solved(b"/status");
        }
        self.reporter.keep_status(status);
        moves || !told_peer
    }

    fn status(&mut self, now: Instant) -> Status {
        let activity = self.reporter.activity();
        let state = activity.state();
        // An index that failed says nothing more.
        let sums = self.index.sums().unwrap_or(self.sums);
        self.sums = sums;
        let moved = self.reporter.moved_bytes();
        self.meter.take(now, moved);
        if state != State::Transfer {
            self.meter.rest();
        }
        let [received, sent] = self.meter.rates();
        let (paths, bytes) = self.reporter.left_to_give();
        let sending = moving(paths, bytes, sent);
        let (problems, problem_count) = self.reporter.problems();
        Status {
            running: true,
            state: state.name().to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            replica: self.index.replica().to_string(),
            peer: self.peer.to_string(),
            connected: activity.connected,
            insecure: true,
            watching: activity.watching,
            paths: sums.live,
            bytes: sums.live_bytes,
            entries: sums.entries,
            wanted: sums.wanted,
            receiving: moving(sums.wanted, self.bytes_to_take(&sums), received),
            sending,
            conflicts: sums.copies,
            share: self.share_name(),
            join: self.reporter.asked(),
            rules: self.index.rules().map_or(0, |rules| rules.len() as u64),
            held: self.reporter.held(),
            received_bytes: moved[0],
            sent_bytes: moved[1],
            problems,
            problem_count,
        }
    }

    /// An index that failed says nothing more.
    fn share_name(&self) -> Option<String> {
        let share = self.index.share_id().unwrap_or_default();
        share.map(|id| id.to_string())
    }

    fn bytes_to_take(&self, sums: &Sums) -> u64 {
        let arrived = self.reporter.arrived_bytes();
        sums.wanted_bytes.saturating_sub(arrived)
    }

    /// Answers whether the peer knows how much is left here.
    fn tell_peer(&mut self, now: Instant, status: &Status) -> bool {
        let (told, at) = self.told_peer;
        let left = (status.receiving.paths, status.receiving.bytes);
        if !status.connected {
            // The next session knows nothing.
            self.told_peer = ((0, 0), at);
            return true;
        }
        if left == told {
            return true;
        }
        if left != (0, 0) && now.saturating_duration_since(at) < PEER_EVERY {
            return false;
        }
        let (paths, bytes) = left;
        let event = Event::ToTake { paths, bytes };
        let taken = self.inputs.try_send(Input::Event(event)).is_ok();
        if taken {
            self.told_peer = (left, now);
        }
        taken
    }
}

fn moving(paths: u64, bytes: u64, bytes_per_second: u64) -> Moving {
    Moving {
        paths,
        bytes,
        bytes_per_second,
        seconds_left: seconds_left(bytes, bytes_per_second),
    }
}
