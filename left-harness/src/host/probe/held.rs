//! A process under a holder. It lives longer than the channel it is talked to over,
//! for as long as its lease is renewed. A folder under guard ([`super::guarded`])
//! is heard in the same way.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::ProbeError;
use super::answer::Line;
use super::conversation::Conversation;
use crate::host::remote::RemoteError;

/// A start is a matter of milliseconds; the rest is a slow host and the way there.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(30);

/// For the channel to take a line: longer than a lease is too late anyway.
const ORDER_DEADLINE: Duration = Duration::from_secs(10);

/// A program to be held.
#[derive(Debug, Clone)]
pub struct HoldSpec {
    /// Gets log, pid and status; made if it is missing.
    pub dir: PathBuf,
    /// The process dies when it was not renewed for so long.
    pub lease: Duration,
    /// Where it runs.
    pub cwd: Option<PathBuf>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
    /// Ready when it listens on this TCP port.
    pub listen: Option<u16>,
    /// Limit of open files.
    pub open_files: Option<u64>,
    /// Program and arguments.
    pub argv: Vec<String>,
}

/// How a held process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    /// When it ended by itself.
    pub code: Option<i32>,
    /// When it was killed: `KILL`.
    pub signal: Option<String>,
    /// The most memory that it, or one it started, was seen with, looked at every 50 ms
    /// and at its kill.
    pub max_rss_kib: Option<u64>,
    /// Time in its own code; with all it started, as the kernel added it up.
    pub user: Duration,
    /// Time in the kernel.
    pub system: Duration,
    /// Descendants that lived when it ended, and were killed then.
    pub left_behind: u64,
    /// Of those, how many could not be killed.
    pub stuck: u64,
    /// From the SIGKILL to the kernel's word that it is dead, where it was killed by order or lease.
    pub died_within: Option<Duration>,
    /// It was killed because nobody renewed.
    pub lease_lapsed: bool,
}

impl Exited {
    /// `exit code 1`, `killed by SIGKILL`
    pub fn how(&self) -> String {
        match (&self.signal, self.code) {
            (Some(signal), _) => format!("killed by SIG{signal}"),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "nobody knows how".into(),
        }
    }

    /// SIGKILL ended it, and not an end of its own a moment before.
    pub fn was_killed(&self) -> bool {
        self.signal.as_deref() == Some("KILL")
    }
}

/// What came of waiting for a process to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It listens.
    Listening {
        /// Since it was started.
        after: Duration,
    },
    /// It ended before that.
    Exited(Exited),
}

/// A held process. Clones talk to the same one; when the last is dropped, the
/// channel closes and the process lives until its lease lapses.
#[derive(Clone)]
pub struct Held {
    host: String,
    orders: mpsc::Sender<Vec<u8>>,
    state: watch::Receiver<State>,
}

/// What was heard so far.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) started: Option<(u32, u64)>,
    ready_after: Option<Duration>,
    refused: Option<String>,
    pub(super) end: Option<End>,
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Exited(Exited),
    NotStarted(String),
    Healed(Result<(), String>),
    Dismissed,
    Lost(String),
}

impl Held {
    pub(super) async fn open(talk: Conversation, program: &str) -> Result<Self, ProbeError> {
        let host = talk.host().to_owned();
        let (orders, state) = listen(talk);
        let mut held = Self {
            host,
            orders,
            state,
        };
        let began = held.wait(|state| state.started.is_some());
        let Ok(state) = tokio::time::timeout(START_DEADLINE, began).await else {
            return Err(late(
                &held.host,
                &format!("starting {program}"),
                START_DEADLINE,
            ));
        };
        let state = state?;
        match state.end {
            Some(End::NotStarted(why)) => Err(ProbeError::NotStarted {
                host: held.host,
                program: program.to_owned(),
                why,
            }),
            Some(End::Lost(why)) => Err(held.lost(why)),
            _ => Ok(held),
        }
    }

    /// The process's pid with its start time, which name it for good; `None` when
    /// it had ended before we were connected.
    pub fn process(&self) -> Option<(u32, u64)> {
        self.state.borrow().started
    }

    /// Lengthens its life by one lease.
    pub async fn renew(&self) -> Result<(), ProbeError> {
        self.order("renew\n".into()).await
    }

    /// Sends a signal by name, `TERM`, to the process alone. What comes of it is told by [`Self::exited`].
    pub async fn signal(&self, name: &str) -> Result<(), ProbeError> {
        self.order(format!("signal {name}\n")).await
    }

    /// Kills it and everything it started; returns once all of it is certainly
    /// dead. When it had ended before, that end is told.
    pub async fn kill(&self) -> Result<Exited, ProbeError> {
        match self.arm_kill().await {
            Ok(armed) => armed.fire().await,
            Err(_) => self.exited().await,
        }
    }

    /// Does everything for a kill that can be done before it.
    pub async fn arm_kill(&self) -> Result<ArmedKill, ProbeError> {
        let permit = self.orders.clone().reserve_owned().await;
        let permit = permit.map_err(|_| self.lost("the channel closed".into()))?;
        Ok(ArmedKill {
            permit,
            held: self.clone(),
        })
    }

    /// Waits until it listens on its port, or has ended.
    pub async fn ready(&self) -> Result<Readiness, ProbeError> {
        let state = self
            .clone()
            .wait(|state| state.ready_after.is_some())
            .await?;
        match (state.ready_after, state.end) {
            (Some(after), _) => Ok(Readiness::Listening { after }),
            (None, end) => self.exited_of(end).map(Readiness::Exited),
        }
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn exited(&self) -> Result<Exited, ProbeError> {
        let state = self.clone().wait(|_| false).await?;
        self.exited_of(state.end)
    }

    /// How it ended, if it has.
    pub fn has_exited(&self) -> Option<Exited> {
        match &self.state.borrow().end {
            Some(End::Exited(exited)) => Some(exited.clone()),
            _ => None,
        }
    }

    /// Why the last order was refused, if one was.
    pub fn refused(&self) -> Option<String> {
        self.state.borrow().refused.clone()
    }

    async fn order(&self, order: String) -> Result<(), ProbeError> {
        let sending = self.orders.send(order.into_bytes());
        let Ok(sent) = tokio::time::timeout(ORDER_DEADLINE, sending).await else {
            return Err(late(&self.host, "an order to a holder", ORDER_DEADLINE));
        };
        match sent {
            Ok(()) => Ok(()),
            // Nobody listens once it has ended; that is no failure of an order.
            Err(_) => self.exited().await.map(|_| ()),
        }
    }

    /// Until the condition holds or everything has ended.
    async fn wait(&mut self, condition: impl Fn(&State) -> bool) -> Result<State, ProbeError> {
        let state = self
            .state
            .wait_for(|state| condition(state) || state.end.is_some())
            .await;
        let state = state.map(|state| state.clone());
        // The listener always tells an end before it goes.
        state.map_err(|_| self.lost("nobody listens any more".into()))
    }

    fn exited_of(&self, end: Option<End>) -> Result<Exited, ProbeError> {
        match end {
            Some(End::Exited(exited)) => Ok(exited),
            Some(End::Lost(why)) => Err(self.lost(why)),
            other => Err(self.lost(format!("unexpected end {other:?}"))),
        }
    }

    fn lost(&self, why: String) -> ProbeError {
        lost(&self.host, "holding a process", why)
    }
}

/// A kill that costs one small message over an open channel.
pub struct ArmedKill {
    permit: mpsc::OwnedPermit<Vec<u8>>,
    held: Held,
}

impl ArmedKill {
    /// Kills; returns once the process and all it started are certainly dead.
    pub async fn fire(self) -> Result<Exited, ProbeError> {
        self.strike().exited().await
    }

    /// Sends the kill and waits for nothing: its end is told by [`Held::exited`].
    pub fn strike(self) -> Held {
        self.permit.send(b"kill\n".to_vec());
        self.held
    }
}

pub(super) fn lost(host: &str, doing: &str, why: String) -> ProbeError {
    ProbeError::Remote(RemoteError::Lost {
        host: host.to_owned(),
        doing: doing.to_owned(),
        why,
    })
}

pub(super) fn late(host: &str, doing: &str, within: Duration) -> ProbeError {
    ProbeError::Remote(RemoteError::Deadline {
        host: host.to_owned(),
        doing: doing.to_owned(),
        seconds: within.as_secs_f64(),
    })
}

/// What is told of a conversation that broke off, for somebody who says himself what was
/// lost and where.
pub(super) fn why_lost(error: &ProbeError) -> String {
    match error {
        ProbeError::Remote(RemoteError::Lost { why, .. }) => why.clone(),
        other => other.to_string(),
    }
}

/// Reads all that a daemon says, until it ends. The task ends with the channel,
/// which closes when the last sender of orders is dropped.
pub(super) fn listen(mut talk: Conversation) -> (mpsc::Sender<Vec<u8>>, watch::Receiver<State>) {
    let orders = talk.orders();
    talk.only_listen();
    let (tell, state) = watch::channel(State::default());
    tokio::spawn(async move {
        loop {
            let end = match talk.line().await {
                Ok(Some(line)) => hear(&tell, line),
                Ok(None) => Some(End::Lost("it ended without a word".into())),
                Err(error) => Some(End::Lost(why_lost(&error))),
            };
            if let Some(end) = end {
                tell.send_modify(|state| state.end = Some(end));
                return;
            }
        }
    });
    (orders, state)
}

fn hear(tell: &watch::Sender<State>, line: Line) -> Option<End> {
    if line.exited {
        return Some(End::Exited(Exited::of(&line)));
    }
    if let Some(healed) = line.healed {
        let why = line.why.unwrap_or_else(|| "no reason is given".into());
        return Some(End::Healed(if healed { Ok(()) } else { Err(why) }));
    }
    if line.dismissed {
        return Some(End::Dismissed);
    }
    if let Some(why) = line.failed {
        return Some(End::NotStarted(why));
    }
    tell.send_modify(|state| {
        if line.started || line.guarding {
            state.started = Some((line.pid.unwrap_or(0), line.start_time.unwrap_or(0)));
        }
        if line.ready {
            state.ready_after = Some(Duration::from_millis(line.after_ms.unwrap_or(0)));
        }
        if line.refused.is_some() {
            state.refused.clone_from(&line.refused);
        }
    });
    None
}
