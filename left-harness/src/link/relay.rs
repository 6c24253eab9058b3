//! The relay link: on hosts that are not ours the data path is carried by the harness's
//! own probes, see [`crate::host::probe::Relay`].
//!
//! Each direction is counted, held and slowed by the relay of the host it leads to, at
//! the byte that is written out to the program there. What is not as in the
//! [`super::StreamLink`]: a hold reaches the other end by way of the harness. Every
//! byte between the two passes both relays, so that nothing new comes through from
//! the moment the point is reached; what the held host had sent before may still
//! arrive, until [`super::Armed::fired`] is told. From then on all stands still.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use rand::RngExt;

use super::stream::LinkError;
use super::{Armed, Hold, Link};
use crate::host::probe::{Point, Probe, Relay, RelaySpec};
use crate::scenario::LinkSpec;
use crate::teardown::Teardown;

/// A relay whose harness is gone ends after this; it has nothing of its own that
/// could be damaged by a machine that is slow for a moment.
const LEASE: Duration = Duration::from_secs(5);
/// It only has to drop its connections.
const DOWN_DEADLINE: Duration = Duration::from_secs(5);

/// A host that the link leads to.
pub struct RelayEnd {
    /// `a`
    pub name: String,
    /// Of this host.
    pub probe: Probe,
    /// Where the other host reaches it.
    pub data: IpAddr,
    /// And at which port; any that is free unless a firewall says otherwise.
    pub data_port: Option<u16>,
}

/// Where the program on a host is to listen and where it finds its peer.
pub type Addresses = (SocketAddr, SocketAddr);

/// A link that is up. Clones are handles to the same link.
#[derive(Clone)]
pub struct RelayLink {
    inner: Arc<Inner>,
}

struct Inner {
    ends: [(String, Relay); 2],
    last_point: AtomicU64,
}

impl RelayLink {
    /// Starts a relay on each host and joins them.
    ///
    /// # Errors
    /// [`LinkError::Unsupported`] for what no relay can do, else trouble of a host.
    pub async fn up(
        ends: [RelayEnd; 2],
        spec: &LinkSpec,
        teardown: &mut Teardown,
    ) -> Result<(Self, Vec<Addresses>)> {
        if spec.loss.is_some_and(|loss| loss > 0.0) {
            bail!(LinkError::Unsupported { what: "loss" });
        }
        let slots = ends.each_ref().map(|end| end_later(&end.name, teardown));
        let [one, other] = &ends;
        let starting = tokio::join!(start(one, spec, &slots[0]), start(other, spec, &slots[1]));
        let (one, other) = (starting.0?, starting.1?);
        let token: [u8; 32] = rand::rng().random();
        let join = async |(name, relay): &(String, Relay), (_, far): &(String, Relay)| {
            let joined = relay.join(&token, far.places.data).await;
            joined.with_context(|| format!("cannot join the relay of host {name} to the link"))
        };
        tokio::try_join!(join(&one, &other), join(&other, &one))?;
        let addresses = [&one, &other].map(|(_, relay)| (relay.places.listen, relay.places.peer));
        let link = Self {
            inner: Arc::new(Inner {
                ends: [one, other],
                last_point: AtomicU64::new(0),
            }),
        };
        Ok((link, addresses.to_vec()))
    }

    /// Connections that `from` has dialled to the other host, ever.
    pub async fn connections(&self, from: &str) -> Result<u64> {
        Ok(self.relay(from)?.count().await?.connections)
    }

    /// Stops every byte between the hosts, until healed, as
    /// [`super::StreamLink::cut`] does.
    pub async fn cut(&self) -> Result<()> {
        for (name, relay) in &self.inner.ends {
            let cut = relay.cut().await;
            cut.with_context(|| format!("cannot cut the link at host {name}"))?;
        }
        Ok(())
    }

    /// Lets the bytes move again; none is lost.
    pub async fn heal(&self) -> Result<()> {
        let mut healed = Ok(());
        // One end that cannot be reached must not keep the other one cut.
        for (name, relay) in &self.inner.ends {
            let heal = relay.heal().await;
            let heal = heal.with_context(|| format!("cannot heal the link at host {name}"));
            healed = healed.and(heal);
        }
        healed
    }

    fn relay(&self, host: &str) -> Result<&Relay> {
        let ends = self.inner.ends.iter();
        let mut relays = ends.filter(|(name, _)| name == host);
        let (_, relay) = relays
            .next()
            .with_context(|| format!("the link has no end on host {host}"))?;
        Ok(relay)
    }
}

#[async_trait]
impl Link for RelayLink {
    async fn delivered(&self, _: &str, to: &str) -> Result<u64> {
        Ok(self.relay(to)?.count().await?.delivered)
    }

    async fn activity(&self) -> Result<u64> {
        let [(_, one), (_, other)] = &self.inner.ends;
        let (one, other) = tokio::try_join!(one.count(), other.count())?;
        Ok(one.delivered + other.delivered)
    }

    async fn arm(&self, from: &str, to: &str, bytes: u64, hold: Hold) -> Result<Box<dyn Armed>> {
        let name = 1 + self.inner.last_point.fetch_add(1, Ordering::Relaxed);
        let (near, far) = (self.relay(to)?, self.relay(from)?);
        let point = near.arm(name, bytes, hold).await?;
        Ok(Box::new(ArmedRelay {
            point,
            near: near.clone(),
            far: far.clone(),
            hold,
            fired: None,
        }))
    }
}

/// A point on the relay that the direction leads to.
struct ArmedRelay {
    point: Point,
    near: Relay,
    far: Relay,
    hold: Hold,
    fired: Option<u64>,
}

#[async_trait]
impl Armed for ArmedRelay {
    async fn fired(&mut self) -> Result<u64> {
        if let Some(bytes) = self.fired {
            return Ok(bytes);
        }
        let bytes = self.point.fired().await?;
        match self.hold {
            Hold::UntilReleased => self.far.stand(self.point.name()).await?,
            Hold::No => self.point.notice(),
        }
        self.fired = Some(bytes);
        Ok(bytes)
    }

    async fn delivered(&self) -> Result<u64> {
        let now = self.near.count().await?.delivered;
        Ok(now.saturating_sub(self.point.from))
    }
}

impl Drop for ArmedRelay {
    fn drop(&mut self) {
        // The near end is released by the point itself.
        self.far.release(self.point.name());
    }
}

/// Where a relay is put for its end, once it runs.
type Slot = Arc<Mutex<Option<Relay>>>;

fn end_later(name: &str, teardown: &mut Teardown) -> Slot {
    let slot = Slot::default();
    let ending = slot.clone();
    let what = format!("end the relay on host {name}");
    teardown.push(what, DOWN_DEADLINE, async move {
        let relay = ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(relay) = relay {
            relay.end().await;
        }
        Ok(())
    });
    slot
}

async fn start(end: &RelayEnd, spec: &LinkSpec, slot: &Slot) -> Result<(String, Relay)> {
    let RelayEnd {
        name,
        probe,
        data,
        data_port,
    } = end;
    let spec = RelaySpec {
        data: SocketAddr::new(*data, data_port.unwrap_or(0)),
        lease: LEASE,
        rate: spec.rate,
        delay: spec.delay.unwrap_or_default(),
    };
    let started = probe.relay(&spec).await;
    let relay = started.with_context(|| {
        format!("cannot start a relay on host {name}, which must have the data address {data}")
    })?;
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(relay.clone());
    Ok((name.clone(), relay))
}
