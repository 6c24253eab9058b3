//! Feeds the engine, and does what it wants done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::DaemonError;
use super::work::Work;
use crate::apply::Job;
use crate::engine::{Action, Engine, Event, News};
use crate::events::Reporter;
use crate::index::{Index, IndexError};
use crate::part::{remove_all_parts, remove_part, remove_small_parts};
use crate::share::Share;
use crate::transfer::receive::Note;
use crate::watcher::Watcher;
use crate::wire::message::Message;

/// Events that are taken together, so that they share a commit.
const EVENTS_AT_ONCE: usize = 64;

/// Not in a tight loop when many retries are due one after the other.
const WAKE_MIN: Duration = Duration::from_millis(10);

/// What reaches the engine's thread.
pub enum Input {
    /// For the engine.
    Event(Event),
    /// There is a session.
    SessionUp {
        /// Which.
        session: u64,
        /// What the engine is told: [`Event::SessionUp`].
        event: Event,
        /// Where messages to the peer go.
        out: SyncSender<Message>,
    },
    /// The session can receive content.
    ReceiverUp {
        /// Which session.
        session: u64,
        /// Where jobs go.
        notes: SyncSender<Note>,
    },
    /// A person says or asks something.
    Asked {
        /// What.
        word: Word,
        /// Where the answer goes.
        answer: SyncSender<Result<String, String>>,
    },
    /// The end.
    Stop,
}

/// What a person can say to the engine.
pub enum Word {
    /// This set of deletions is meant.
    Confirm(String),
    /// How two shares compare that meet; and whether they are to be joined.
    Join {
        /// They are.
        is_meant: bool,
    },
    /// Whoever this side was paired with is to be forgotten.
    ForgetPeer,
}

/// What the actions need.
pub(super) struct Hands {
    pub share: Arc<Share>,
    pub index: Arc<Index>,
    pub reporter: Arc<Reporter>,
    /// The thread that changes the share.
    pub applier: SyncSender<Work>,
    /// The thread that copies what is long.
    pub copier: SyncSender<Box<Job>>,
    /// Makes the scanner look again soon.
    pub watcher: Arc<Watcher>,
}

/// Who waits for something from the engine.
#[derive(Default)]
struct Waiting {
    sessions: HashMap<u64, Ways>,
    asks: HashMap<u64, SyncSender<Result<String, String>>>,
    last_ask: u64,
}

/// The ways out of a session. Letting go of them ends the threads behind them.
struct Ways {
    out: SyncSender<Message>,
    notes: Option<SyncSender<Note>>,
}

/// Works until it is told to stop; an error means that the index failed, or is to
/// be opened anew. Of `observed` one is taken for each batch of observations.
pub(super) fn drive(
    hands: &Hands,
    inputs: &Receiver<Input>,
    observed: &Receiver<()>,
) -> Result<(), DaemonError> {
    let mut engine = Engine::new(hands.index.clone(), Instant::now());
    let mut waiting = Waiting::default();
    let mut stuck = Vec::new();
    loop {
        let first = match engine.wakes_at() {
            _ if !stuck.is_empty() => None,
            Some(at) => {
                let pause = at.saturating_duration_since(Instant::now()).max(WAKE_MIN);
                match inputs.recv_timeout(pause) {
                    Ok(input) => Some(input),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
            None => match inputs.recv() {
                Ok(input) => Some(input),
                Err(_) => return Ok(()),
            },
        };
        let mut events: Vec<Event> = std::mem::take(&mut stuck);
        for input in first
            .into_iter()
            .chain(inputs.try_iter().take(EVENTS_AT_ONCE))
        {
            let Some(event) = open(&mut waiting, input) else {
                return Ok(());
            };
            events.push(event);
        }
        let is_observed = |event: &&Event| matches!(event, Event::Observed(_));
        let batches = events.iter().filter(is_observed).count();
        let actions = engine.step(Instant::now(), events)?;
        observed.try_iter().take(batches).for_each(drop);
        for action in actions {
            if matches!(action, Action::BeginAgain) {
                return Err(DaemonError::ToBeginAgain);
            }
            stuck.extend(perform(hands, &mut waiting, action)?);
        }
    }
}

/// What an input is to the engine; `None` at the end.
fn open(waiting: &mut Waiting, input: Input) -> Option<Event> {
    Some(match input {
        Input::Event(event) => event,
        Input::SessionUp {
            session,
            event,
            out,
        } => {
            waiting.sessions.insert(session, Ways { out, notes: None });
            event
        }
        Input::ReceiverUp { session, notes } => {
            if let Some(ways) = waiting.sessions.get_mut(&session) {
                ways.notes = Some(notes);
            }
            Event::ReceiverUp { session }
        }
        Input::Asked { word, answer } => {
            waiting.last_ask += 1;
            let ask = waiting.last_ask;
            waiting.asks.insert(ask, answer);
            match word {
                Word::Confirm(set) => Event::Confirmed { ask, set },
                Word::Join { is_meant } => Event::JoinAsked { ask, is_meant },
                Word::ForgetPeer => Event::Forgotten { ask },
            }
        }
        Input::Stop => return None,
    })
}

/// Does it; answers with what the engine has to know at once.
fn perform(
    hands: &Hands,
    waiting: &mut Waiting,
    action: Action,
) -> Result<Option<Event>, IndexError> {
    // No queue is waited for: a session whose threads do not keep up with what
    // they asked for themselves is ended.
    match action {
        Action::Say { session, message } => {
            let Some(ways) = waiting.sessions.get(&session) else {
                return Ok(None);
            };
            if ways.out.try_send(message).is_err() {
                return Ok(Some(Event::Stuck { session }));
            }
        }
        Action::Fetch { session, job } => {
            let Some(ways) = waiting.sessions.get(&session) else {
                return Ok(None);
            };
            let notes = ways.notes.as_ref();
            if notes.is_none_or(|notes| notes.try_send(Note::Fetch(job)).is_err()) {
                return Ok(Some(Event::Stuck { session }));
            }
        }
        // Their queues are longer than what the engine has on its way; they are only
        // gone at the end of the process.
        Action::Copy(job) => drop(hands.copier.try_send(job)),
        Action::Apply(job) => drop(hands.applier.try_send(Work::Job(job))),
        // If it has so much to do that this does not fit, it is asked once more.
        Action::MakeRoom => drop(hands.applier.try_send(Work::MakeRoom)),
        Action::HangUp { session } => {
            waiting.sessions.remove(&session);
        }
        // The end of all this; see `drive`.
        Action::BeginAgain => {}
        Action::LookAgain => hands.watcher.ask(),
        Action::RemovePart(id) => remove_part(&*hands.share, id),
        Action::RemoveSmallParts => remove_small_parts(&*hands.share, &*hands.index)?,
        Action::RemoveAllParts => remove_all_parts(&*hands.share, &*hands.index)?,
        Action::Answer { ask, answer } => {
            if let Some(asking) = waiting.asks.remove(&ask) {
                // Who has given up meanwhile sees it in the status.
                let _ = asking.try_send(answer);
            }
        }
        Action::Tell(news) => tell(&hands.reporter, news),
    }
    Ok(None)
}

fn tell(reporter: &Reporter, news: News) {
    match news {
        News::PeerUp { replica } => {
            reporter.peer("peer-up", &format!("{replica:016x}"), "");
            reporter.update(|activity| activity.interrupted = false);
        }
        News::PeerDown {
            replica,
            why,
            unfinished,
        } => {
            reporter.peer("peer-down", &format!("{replica:016x}"), why);
            reporter.to_give(0, 0);
            reporter.update(|activity| {
                activity.connected = false;
                activity.interrupted = unfinished || activity.sending;
            });
        }
        News::Problem { about, text } => reporter.problem(&about, &text),
        News::Solved(path) => reporter.solved(path.as_bytes()),
        News::Conflict { path, copy } => reporter.conflict(&path, &copy),
        News::Complete { path, size } => reporter.complete(&path, size),
        News::Doing(doing) => reporter.update(|activity| {
            activity.scanned = doing.scanned;
            activity.connected = doing.connected;
            activity.exchanged = doing.exchanged;
            activity.receiving = doing.receiving;
            activity.landing_bytes = doing.landing_bytes;
        }),
        News::ToGive { paths, bytes } => reporter.to_give(paths, bytes),
        News::Held(held) => reporter.hold(held),
        News::Asked(counts) => reporter.ask_to_join(counts),
        News::Joined(share) => reporter.joined(share),
        News::Changed => reporter.mark_changed(),
    }
}
