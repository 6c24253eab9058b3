//! What a user can ask at any time: the state, and the figures of `status.json`.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat, renameat};
use serde::Serialize;

use crate::engine::Held;
use crate::ignore::RULES_FILE;
use crate::pairing::Counts;
use crate::path::shown;
use crate::problems::Problem;
use crate::progress::{counted, grouped, moving, size};

/// The name of the status file inside the state folder.
pub const STATUS_FILE: &str = "status.json";

/// The eight states a user sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Opening the share and the index.
    Initialization,
    /// Looking at the whole share for the first time since the start.
    Scanning,
    /// Looking for the peer.
    PeerDetection,
    /// Telling each other what changed.
    InformationExchange,
    /// Content is on its way.
    Transfer,
    /// Both sides have the same, as far as is known; nothing to do.
    Synchronization,
    /// Putting right what an interruption left, or waiting for the peer with
    /// work unfinished.
    Recovery,
    /// Ending.
    Termination,
}

impl State {
    /// The word that users read.
    pub fn name(self) -> &'static str {
        match self {
            State::Initialization => "initialization",
            State::Scanning => "scanning",
            State::PeerDetection => "peer detection",
            State::InformationExchange => "information exchange",
            State::Transfer => "transfer",
            State::Synchronization => "synchronization",
            State::Recovery => "recovery",
            State::Termination => "termination",
        }
    }
}

/// What is going on; the state follows from it.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    /// The share and the index are open.
    pub opened: bool,
    /// What an earlier run left is being put right.
    pub recovering: bool,
    /// The first scan is complete.
    pub scanned: bool,
    /// There is a session with the peer.
    pub connected: bool,
    /// The session ended while work was unfinished.
    pub interrupted: bool,
    /// Both listings are read to their ends.
    pub exchanged: bool,
    /// Something is received or put in place.
    pub receiving: bool,
    /// Something is sent.
    pub sending: bool,
    /// Changes are told of by the system; otherwise everything is looked at in
    /// turn.
    pub watching: bool,
    /// Bytes that have arrived and are being put in place.
    pub landing_bytes: u64,
    /// The end has begun.
    pub ending: bool,
}

impl Activity {
    /// The one state that says most.
    pub fn state(&self) -> State {
        if self.ending {
            State::Termination
        } else if !self.opened {
            State::Initialization
        } else if self.recovering {
            State::Recovery
        } else if !self.scanned {
            State::Scanning
        } else if !self.connected {
            if self.interrupted {
                State::Recovery
            } else {
                State::PeerDetection
            }
        } else if self.receiving || self.sending {
            State::Transfer
        } else if !self.exchanged {
            State::InformationExchange
        } else {
            State::Synchronization
        }
    }
}

/// What is on its way in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Moving {
    /// Paths that are still to be acted on.
    pub paths: u64,
    /// Bytes of their content that are still to come, at most: some may turn out
    /// to be there already, under another name.
    pub bytes: u64,
    /// Over the last seconds.
    pub bytes_per_second: u64,
    /// How long that will take at this rate; none if nothing moves.
    pub seconds_left: Option<u64>,
}

/// The content of `status.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Status {
    /// Always true: whoever finds no daemon on the share says that it is false.
    pub running: bool,
    /// The state's word.
    pub state: String,
    /// The daemon's process.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// This side's id.
    pub replica: String,
    /// Where the peer is looked for.
    pub peer: String,
    /// Whether there is a session.
    pub connected: bool,
    /// Always true in this version: nothing is encrypted.
    pub insecure: bool,
    /// Whether changes in the share are told of by the system. If not,
    /// everything is looked at in turn, and a problem says why.
    pub watching: bool,
    /// Files, folders and links that this side has on record.
    pub paths: u64,
    /// Bytes of the files among them.
    pub bytes: u64,
    /// Entries in the index, tombstones too.
    pub entries: u64,
    /// Entries of the peer that are still to be acted on.
    pub wanted: u64,
    /// What this side still has to take.
    pub receiving: Moving,
    /// What the peer says that it still has to take.
    pub sending: Moving,
    /// Conflict copies in the share; `left conflicts` lists them.
    pub conflicts: u64,
    /// The name of what this side and its peer keep the same, once they are joined.
    pub share: Option<String>,
    /// What two shares have that meet and wait for `left join --yes`, if they do.
    pub join: Option<Counts>,
    /// Rules of `.leftignore` that are in force.
    pub rules: u64,
    /// Deletions of the peer that wait for `left confirm`, if any.
    pub held: Option<Held>,
    /// Bytes of content received since the start.
    pub received_bytes: u64,
    /// Bytes of content sent since the start.
    pub sent_bytes: u64,
    /// What stands in the way, the first of it.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
}

/// The status as lines for a person.
pub fn for_people(status: &Status, share: &Path) -> String {
    let mut text = String::new();
    let mut say = |name: &str, what: &str| {
        let what = shown(what.as_bytes());
        let name = format!("{name}:");
        text.push_str(&format!("{name:<12}{what}\n"));
    };
    let connection = match status.connected {
        true => "connected",
        false => "not connected",
    };
    say("state", &status.state);
    say("process", &status.pid.to_string());
    say("replica", &status.replica);
    let peer = &status.peer;
    say(
        "peer",
        &format!("{peer} ({connection}, INSECURE: nothing is encrypted)"),
    );
    let here = format!("{}, {}", counted(status.paths, "path"), size(status.bytes));
    let is_same = status.state == State::Synchronization.name() && status.wanted == 0;
    match is_same && status.sending.paths == 0 && status.problem_count == 0 {
        true => say("in sync", &here),
        false => say("here", &here),
    }
    for (name, way) in [
        ("receiving", &status.receiving),
        ("sending", &status.sending),
    ] {
        if way.paths + way.bytes > 0 {
            say(name, &moving(way));
        }
    }
    say("received", &size(status.received_bytes));
    say("sent", &size(status.sent_bytes));
    let looked = [State::Initialization, State::Scanning, State::Termination];
    if !status.watching && !looked.iter().any(|state| state.name() == status.state) {
        say(
            "changes",
            "found by looking at everything in turn, not by watching",
        );
    }
    let share = share.to_string_lossy();
    if status.conflicts > 0 {
        let copies = match status.conflicts {
            1 => "1 conflict copy".to_owned(),
            many => format!("{} conflict copies", grouped(many)),
        };
        say(
            "conflicts",
            &format!("{copies}: left conflicts --share {share}"),
        );
    }
    if status.rules > 0 {
        let rules = counted(status.rules, "rule");
        say("ignored", &format!("what {rules} of {RULES_FILE} say"));
    }
    if let Some(held) = &status.held {
        let (count, set) = (grouped(held.count), &held.set);
        say(
            "held back",
            &format!("{count} deletions of the peer: left confirm {set} --share {share}"),
        );
    }
    for problem in &status.problems {
        say("problem", &problem.text);
    }
    let more = status.problem_count - (status.problems.len() as u64).min(status.problem_count);
    if more > 0 {
        say("problems", &format!("{} more", grouped(more)));
    }
    text
}

/// Replaces the status file in one step.
pub fn write_status(state_dir: &OwnedFd, status: &Status) -> std::io::Result<()> {
    const NEW: &str = "status.json.new";
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(state_dir, NEW, flags, Mode::from(0o600))?;
    let mut text = serde_json::to_vec_pretty(status)?;
    text.push(b'\n');
    std::fs::File::from(file).write_all(&text)?;
    renameat(state_dir, NEW, state_dir, STATUS_FILE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_from_what_goes_on() {
        let mut activity = Activity::default();
        assert_eq!(activity.state(), State::Initialization);
        activity.opened = true;
        assert_eq!(activity.state(), State::Scanning);
        activity.scanned = true;
        assert_eq!(activity.state(), State::PeerDetection);
        activity.connected = true;
        assert_eq!(activity.state(), State::InformationExchange);
        activity.receiving = true;
        assert_eq!(activity.state(), State::Transfer);
        activity.connected = false;
        activity.interrupted = true;
        assert_eq!(activity.state(), State::Recovery);
        activity = Activity {
            opened: true,
            scanned: true,
            connected: true,
            exchanged: true,
            ..Activity::default()
        };
        assert_eq!(activity.state(), State::Synchronization);
        activity.ending = true;
        assert_eq!(activity.state(), State::Termination);
    }
}
