//! One end of the wire between two hosts, carried by the probe. It lives as long as
//! its channel, and no longer than its lease.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::ProbeError;
use super::answer::Line;
use super::conversation::Conversation;
use super::held::{late, lost, why_lost};
use crate::link::Hold;

/// Several times in a lease.
const RENEWALS_PER_LEASE: u32 = 5;
/// A relay answers between two bytes; the rest is the way there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// A relay to be started.
#[derive(Debug, Clone)]
pub struct RelaySpec {
    /// Where the other relay finds it; port 0 is any that is free.
    pub data: SocketAddr,
    /// It ends when it was not renewed for so long.
    pub lease: Duration,
    /// Towards its host, in bytes a second.
    pub rate: Option<u64>,
    /// Towards its host.
    pub delay: Duration,
}

/// Where things are on a relay's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayPlaces {
    /// The other relay finds it here.
    pub data: SocketAddr,
    /// The program is to listen here.
    pub listen: SocketAddr,
    /// And finds its peer here.
    pub peer: SocketAddr,
}

/// What a relay knows at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// Payload bytes written out to the program of its host, ever.
    pub delivered: u64,
    /// Connections that the program of its host has dialled, ever.
    pub connections: u64,
}

/// A relay that runs. Clones talk to the same one; when the last is dropped it ends,
/// and with it every connection that it carries.
#[derive(Clone)]
pub struct Relay {
    host: Arc<str>,
    /// Where it is.
    pub places: RelayPlaces,
    orders: mpsc::UnboundedSender<Vec<u8>>,
    heard: Arc<Heard>,
    end: watch::Receiver<Option<String>>,
}

#[derive(Default)]
struct Heard {
    inner: Mutex<Ears>,
}

#[derive(Default)]
struct Ears {
    last_tag: u64,
    /// Who waits for an answer, by its tag.
    waiting: BTreeMap<u64, oneshot::Sender<Result<Relayed, String>>>,
    /// Who waits for a point, by its name.
    points: BTreeMap<u64, watch::Sender<Option<u64>>>,
}

impl Relay {
    pub(super) async fn open(mut talk: Conversation, lease: Duration) -> Result<Self, ProbeError> {
        let first = tokio::time::timeout(ANSWER_DEADLINE, talk.needed_line()).await;
        let line = first.map_err(|_| late(talk.host(), "starting a relay", ANSWER_DEADLINE))??;
        let places = places(&line).ok_or_else(|| talk.nonsense("it does not say where it is"))?;
        let host: Arc<str> = talk.host().into();
        let heard = Arc::new(Heard::default());
        let (tell_end, end) = watch::channel(None);
        let orders = speak(talk.orders(), lease / RENEWALS_PER_LEASE);
        talk.only_listen();
        tokio::spawn(listen(talk, heard.clone(), tell_end));
        Ok(Self {
            host,
            places,
            orders,
            heard,
            end,
        })
    }

    /// Makes it one end of a wire: from now on it carries. `token` is a secret of 32
    /// bytes that the other end has been told as well.
    pub async fn join(&self, token: &[u8; 32], other: SocketAddr) -> Result<(), ProbeError> {
        let token = blake3::Hash::from_bytes(*token).to_hex();
        self.ask(&format!("join {token} {other}")).await.map(drop)
    }

    /// What it knows now.
    pub async fn count(&self) -> Result<Relayed, ProbeError> {
        self.ask("count").await
    }

    /// Stops every byte until healed.
    pub async fn cut(&self) -> Result<(), ProbeError> {
        self.ask("cut").await.map(drop)
    }

    /// Lets the bytes move again; none is lost.
    pub async fn heal(&self) -> Result<(), ProbeError> {
        self.ask("heal").await.map(drop)
    }

    /// Waits for so many bytes more towards its host. `point` names it for good on
    /// this wire.
    pub async fn arm(&self, point: u64, bytes: u64, hold: Hold) -> Result<Point, ProbeError> {
        let word = match hold {
            Hold::UntilReleased => "hold",
            Hold::No => "flow",
        };
        let (tell, fired) = watch::channel(None);
        self.heard.ears().points.insert(point, tell);
        let mut armed = Point {
            name: point,
            from: 0,
            fired,
            relay: self.clone(),
        };
        let answer = self.ask(&format!("arm {point} {bytes} {word}")).await?;
        armed.from = answer.delivered;
        Ok(armed)
    }

    /// Stands still for a point of the other direction, until released.
    pub async fn stand(&self, point: u64) -> Result<(), ProbeError> {
        self.ask(&format!("stand {point}")).await.map(drop)
    }

    /// Does not wait or stand still for a point any more. Nobody waits for that.
    pub fn release(&self, point: u64) {
        self.tell(&format!("release {point}"));
    }

    /// Tells it to end, whoever else has a handle, and waits until it has.
    pub async fn end(self) {
        self.tell("end");
        self.ended().await;
    }

    /// Ends when it has ended, and says why.
    pub async fn ended(&self) -> String {
        let mut end = self.end.clone();
        let why = end.wait_for(Option::is_some).await;
        let why = why.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "nobody listens any more".into())
    }

    /// Orders something of which no answer is wanted.
    fn tell(&self, order: &str) {
        let tag = self.heard.next_tag();
        // One that is gone has forgotten everything, which is as good.
        let _ = self.orders.send(format!("{tag} {order}\n").into_bytes());
    }

    async fn ask(&self, order: &str) -> Result<Relayed, ProbeError> {
        let tag = self.heard.next_tag();
        let (tell, told) = oneshot::channel();
        self.heard.ears().waiting.insert(tag, tell);
        let _ = self.orders.send(format!("{tag} {order}\n").into_bytes());
        let answer = tokio::select! {
            answer = told => answer.ok(),
            why = self.ended() => {
                self.heard.ears().waiting.remove(&tag);
                return Err(self.lost(why));
            }
            () = tokio::time::sleep(ANSWER_DEADLINE) => {
                self.heard.ears().waiting.remove(&tag);
                return Err(late(&self.host, "an order to the relay", ANSWER_DEADLINE));
            }
        };
        match answer {
            Some(Ok(relayed)) => Ok(relayed),
            Some(Err(why)) => Err(ProbeError::Failed {
                host: self.host.to_string(),
                doing: "relay".into(),
                why,
            }),
            None => Err(self.lost("nobody listens any more".into())),
        }
    }

    fn lost(&self, why: String) -> ProbeError {
        lost(&self.host, "carrying the link", why)
    }
}

/// A point that is armed on a relay. Dropping it disarms it, and what it holds moves.
#[must_use = "dropping it disarms the point"]
pub struct Point {
    name: u64,
    /// What had been delivered when it was armed.
    pub from: u64,
    fired: watch::Receiver<Option<u64>>,
    relay: Relay,
}

impl Point {
    /// Its name.
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Ends when it is reached: the bytes since it was armed.
    pub async fn fired(&mut self) -> Result<u64, ProbeError> {
        let relay = self.relay.clone();
        let fired = self.fired.wait_for(Option::is_some);
        let bytes = tokio::select! {
            biased;
            fired = fired => fired.ok().and_then(|bytes| *bytes),
            why = relay.ended() => return Err(relay.lost(why)),
        };
        bytes.ok_or_else(|| relay.lost("nobody listens any more".into()))
    }

    /// Lets the bytes flow on, where they wait for this.
    pub fn notice(&self) {
        self.relay.tell(&format!("noticed {}", self.name));
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        self.relay.heard.ears().points.remove(&self.name);
        self.relay.release(self.name);
    }
}

impl Heard {
    fn ears(&self) -> MutexGuard<'_, Ears> {
        // Nothing that happens under the lock leaves it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_tag(&self) -> u64 {
        let mut ears = self.ears();
        ears.last_tag += 1;
        ears.last_tag
    }

    fn hear(&self, line: &Line) -> Result<(), &'static str> {
        let mut ears = self.ears();
        if let Some(tag) = line.answer {
            let answer = match (&line.refused, line.delivered, line.connections) {
                (Some(why), ..) => Err(why.clone()),
                (None, Some(delivered), Some(connections)) => Ok(Relayed {
                    delivered,
                    connections,
                }),
                _ => return Err("an answer without a count"),
            };
            if let Some(waiting) = ears.waiting.remove(&tag) {
                // Who asked may not want to know any more.
                let _ = waiting.send(answer);
            }
            return Ok(());
        }
        let (point, bytes) = line
            .fired
            .zip(line.bytes)
            .ok_or("neither answer nor point")?;
        if let Some(point) = ears.points.get(&point) {
            point.send_replace(Some(bytes));
        }
        Ok(())
    }
}

/// Passes orders on and renews between them; ends, and with it the relay, when nobody
/// is left to give any.
fn speak(channel: mpsc::Sender<Vec<u8>>, every: Duration) -> mpsc::UnboundedSender<Vec<u8>> {
    let (orders, mut given) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        let mut renewals = tokio::time::interval(every.max(Duration::from_millis(1)));
        loop {
            let order = tokio::select! {
                given = given.recv() => match given {
                    Some(order) => order,
                    None => return,
                },
                _ = renewals.tick() => b"0 renew\n".to_vec(),
            };
            if channel.send(order).await.is_err() {
                return;
            }
        }
    });
    orders
}

async fn listen(mut talk: Conversation, heard: Arc<Heard>, end: watch::Sender<Option<String>>) {
    let why = loop {
        match talk.line().await {
            Ok(Some(line)) => {
                if let Err(why) = heard.hear(&line) {
                    break talk.nonsense(why).to_string();
                }
            }
            Ok(None) => break "the relay has ended".into(),
            Err(error) => break why_lost(&error),
        }
    };
    end.send_replace(Some(why));
}

fn places(line: &Line) -> Option<RelayPlaces> {
    let address = |text: &Option<String>| text.as_deref()?.parse::<SocketAddr>().ok();
    Some(RelayPlaces {
        data: address(&line.data)?,
        listen: address(&line.listen)?,
        peer: address(&line.peer)?,
    })
}
