//! The stream link: a TCP proxy between stand-in addresses on loopback.
//!
//! Each host sees the other only at an address of this proxy, which dials on
//! from the caller's own stand-in, so that source and destination agree both
//! ways. It needs no privileges. What it does not do, because it carries
//! streams and not packets: loss, reordering, and a cut that a host's kernel
//! notices (see [`StreamLink::cut`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::lane::{ArmedLane, Hold, Lane};
use super::pump::{self, Lanes};
use super::wire::Wire;
use super::{Armed, Link};
use crate::scenario::LinkSpec;

/// `SO_SNDBUF` and `SO_RCVBUF` of each of the proxy's sockets (the kernel
/// doubles it for its own bookkeeping). What waits in the one towards a killed
/// receiver has been counted, so it is as small as full speed allows.
const SOCKET_BUFFER_BYTES: u32 = 64 << 10;
/// Connections that wait to be accepted, on each route.
const BACKLOG: u32 = 128;
/// Connections carried at once on each route; more wait in the backlog. A sync
/// program opens a handful.
const CONNECTIONS_MAX: usize = 512;
/// On loopback a dial is answered at once, or there is nobody.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause when this process is out of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// One way to dial: who, whom, and at which addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The host that dials.
    pub from: String,
    /// The host that is dialled.
    pub to: String,
    /// Where `from` dials: the stand-in of `to`.
    pub listen: SocketAddr,
    /// Where `to` really listens.
    pub dial: SocketAddr,
    /// What `to` sees as the caller's address: the stand-in of `from`.
    pub source: IpAddr,
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// This kind of link cannot do it, another may: the scenario is skipped.
    #[error("{what} needs a link that carries packets, this one carries streams")]
    Unsupported {
        /// `loss`
        what: &'static str,
    },
    /// A stand-in address is not ours to listen on.
    #[error("cannot listen on stand-in address {listen} of host {to}: {why}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Whose stand-in it is.
        to: String,
        /// What the system says.
        why: io::Error,
    },
}

/// A link that is up. Clones are handles to the same link; when the last one is
/// dropped it goes down by itself, without anybody waiting for it.
#[derive(Debug, Clone)]
pub struct StreamLink {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rate: Option<u64>,
    map: Mutex<Map>,
    acceptors: Mutex<Vec<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
}

/// All directions by the names of their hosts.
#[derive(Debug, Default)]
struct Map {
    wires: BTreeMap<(String, String), Arc<Wire>>,
    lanes: BTreeMap<(String, String), Arc<Lane>>,
}

impl StreamLink {
    /// Listens on every route. Must be called inside the runtime that carries it.
    pub async fn up(routes: Vec<Route>, spec: &LinkSpec) -> Result<Self, LinkError> {
        if spec.loss.is_some_and(|loss| loss > 0.0) {
            return Err(LinkError::Unsupported { what: "loss" });
        }
        // All are bound before the first one accepts: a link is up or it is not.
        let mut bound = Vec::with_capacity(routes.len());
        for route in routes {
            match listen(route.listen) {
                Ok(listener) => bound.push((route, listener)),
                Err(why) => {
                    let Route { listen, to, .. } = route;
                    return Err(LinkError::Listen { listen, to, why });
                }
            }
        }
        let link = Self {
            inner: Arc::new(Inner {
                rate: spec.rate,
                map: Mutex::default(),
                acceptors: Mutex::default(),
                stop: watch::Sender::new(false),
            }),
        };
        let delay = spec.delay.filter(|delay| !delay.is_zero());
        for (route, listener) in bound {
            let lanes = Lanes {
                there: link.lane(&route.from, &route.to),
                back: link.lane(&route.to, &route.from),
            };
            let stop = link.inner.stop.subscribe();
            let task = tokio::spawn(accept(listener, route, lanes, delay, stop));
            lock(&link.inner.acceptors).push(task);
        }
        Ok(link)
    }

    /// Payload bytes written out towards `to`, over all connections ever
    /// whichever side dialled them.
    pub fn delivered(&self, from: &str, to: &str) -> u64 {
        self.lane(from, to).delivered()
    }

    /// Connections that `from` has dialled to `to`, ever.
    pub fn connections(&self, from: &str, to: &str) -> u64 {
        self.lane(from, to).connections()
    }

    /// Grows with every byte between any two hosts: the link is silent while
    /// it stays the same.
    pub fn activity(&self) -> u64 {
        let map = lock(&self.inner.map);
        map.lanes.values().map(|lane| lane.delivered()).sum()
    }

    /// Waits for the `bytes`-th byte from now on in this direction, over all
    /// connections together. With a hold exactly so many are delivered, and
    /// then the wire between the two stands still both ways, also for new
    /// connections, until the answer is released or dropped.
    pub fn arm(&self, from: &str, to: &str, bytes: u64, hold: Hold) -> ArmedLane {
        self.lane(from, to).arm(bytes, hold)
    }

    /// Stops every byte between two hosts, until healed; doing it twice is
    /// doing it once. Ends and resets of connections wait as well. New
    /// connections are accepted into nothing: they look established and stay
    /// silent. So it is a cable pulled behind the next router rather than at
    /// the host: a sender's own kernel still acknowledges until the buffers
    /// are full, and answers keep-alives.
    pub fn cut(&self, one: &str, other: &str) {
        self.wire(one, other).cut();
    }

    /// Lets the bytes move again; none is lost.
    pub fn heal(&self, one: &str, other: &str) {
        self.wire(one, other).heal();
    }

    /// Resets all connections, ends all tasks and frees the addresses.
    pub async fn down(self) {
        self.inner.stop.send_replace(true);
        let acceptors = std::mem::take(&mut *lock(&self.inner.acceptors));
        for acceptor in acceptors {
            // A task that panicked is down too.
            let _ = acceptor.await;
        }
    }

    fn wire(&self, one: &str, other: &str) -> Arc<Wire> {
        lock(&self.inner.map).wire(one, other)
    }

    fn lane(&self, from: &str, to: &str) -> Arc<Lane> {
        let mut map = lock(&self.inner.map);
        let key = (from.to_string(), to.to_string());
        if let Some(lane) = map.lanes.get(&key) {
            return lane.clone();
        }
        let lane = Arc::new(Lane::new(map.wire(from, to), self.inner.rate));
        map.lanes.insert(key, lane.clone());
        lane
    }
}

#[async_trait]
impl Link for StreamLink {
    async fn delivered(&self, from: &str, to: &str) -> anyhow::Result<u64> {
        Ok(StreamLink::delivered(self, from, to))
    }

    async fn activity(&self) -> anyhow::Result<u64> {
        Ok(StreamLink::activity(self))
    }

    async fn arm(
        &self,
        from: &str,
        to: &str,
        bytes: u64,
        hold: Hold,
    ) -> anyhow::Result<Box<dyn Armed>> {
        Ok(Box::new(StreamLink::arm(self, from, to, bytes, hold)))
    }
}

impl Map {
    fn wire(&mut self, one: &str, other: &str) -> Arc<Wire> {
        let (first, second) = (one.min(other), one.max(other));
        let key = (first.to_string(), second.to_string());
        self.wires.entry(key).or_default().clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that happens under these locks leaves them half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts until told to stop; ends when its connections have ended.
async fn accept(
    listener: TcpListener,
    route: Route,
    lanes: Lanes,
    delay: Option<Duration>,
    mut stop: watch::Receiver<bool>,
) {
    enum Event {
        Accepted(io::Result<(TcpStream, SocketAddr)>),
        Ended,
        Stop,
    }
    let mut connections = JoinSet::new();
    loop {
        let event = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX =>
                Event::Accepted(accepted),
            Some(_) = connections.join_next() => Event::Ended,
            // An error means that the last handle of the link is gone.
            _ = stop.wait_for(|stop| *stop) => Event::Stop,
        };
        match event {
            Event::Accepted(Ok((near, _))) => {
                let connection = connect(near, route.clone(), lanes.clone(), delay);
                connections.spawn(connection);
            }
            Event::Accepted(Err(_)) => tokio::time::sleep(ACCEPT_RETRY).await,
            Event::Ended => {}
            Event::Stop => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// One connection, from the moment it was accepted.
async fn connect(near: TcpStream, route: Route, lanes: Lanes, delay: Option<Duration>) {
    let wire = lanes.there.wire();
    let is_still = wire.is_still();
    lanes.there.count_connection();
    if is_still {
        wire.moves().await;
        // Who has given up meanwhile would never have been heard on the far side.
        if pump::has_closed(&near) {
            return;
        }
    }
    // The wish to connect takes its time as well.
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    // Nobody listens there: dropping the socket resets it, and the dialler sees
    // that rather than a polite end.
    let dialling = dial(route.source, route.dial);
    match tokio::time::timeout(DIAL_TIMEOUT, dialling).await {
        Ok(Ok(far)) => {
            let _ = near.set_nodelay(true);
            pump::carry(near, far, &lanes, delay).await;
        }
        // Refused, or accepted and reset at once; neither crosses a wire that
        // stands still by now.
        _ => wire.moves().await,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(address)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn dial(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_for(address)?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(address).await?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Dropped is reset, see `pump::carry`. What is accepted inherits it.
    socket.set_zero_linger()?;
    // Before listening or dialling: TCP settles its window scale then. What is
    // accepted inherits them.
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(socket)
}
