//! The relay link as the programs of two hosts see it, with real probes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Armed, Hold, Link, RelayEnd, RelayLink};
use crate::host::local_remote::{LocalRemote, probe_binary};
use crate::host::probe::{Probe, RelaySpec};
use crate::scenario::LinkSpec;
use crate::teardown::Teardown;

const MIB: usize = 1 << 20;
const QUIET: Duration = Duration::from_millis(100);

fn probe() -> Probe {
    Probe::new(Arc::new(LocalRemote), probe_binary())
}

/// Two hosts with a relay on each.
struct Wired {
    link: RelayLink,
    a: TcpListener,
    b: TcpListener,
    /// Where each finds its peer.
    peers: [SocketAddr; 2],
    teardown: Teardown,
}

impl Wired {
    async fn up() -> Self {
        Self::with(LinkSpec::default(), ["127.0.0.1", "127.0.0.1"]).await
    }

    async fn with(spec: LinkSpec, data: [&str; 2]) -> Self {
        let mut teardown = Teardown::new();
        let end = |index: usize| RelayEnd {
            name: ["a", "b"][index].into(),
            probe: probe(),
            data: data[index].parse().unwrap(),
            data_port: None,
        };
        let up = RelayLink::up([end(0), end(1)], &spec, &mut teardown).await;
        let (link, addresses) = up.unwrap();
        let [(a, to_b), (b, to_a)] = addresses[..] else {
            panic!("two addresses a host");
        };
        Self {
            link,
            a: TcpListener::bind(a).await.unwrap(),
            b: TcpListener::bind(b).await.unwrap(),
            peers: [to_b, to_a],
            teardown,
        }
    }

    /// A connection that a has dialled, as a and as b have it.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(self.peers[0]).await.unwrap();
        let (far, _) = soon(self.b.accept()).await.unwrap();
        (near, far)
    }

    async fn there(&self) -> u64 {
        self.link.delivered("a", "b").await.unwrap()
    }

    async fn back(&self) -> u64 {
        self.link.delivered("b", "a").await.unwrap()
    }

    async fn arm(&self, from: &str, to: &str, bytes: u64, hold: Hold) -> Box<dyn Armed> {
        self.link.arm(from, to, bytes, hold).await.unwrap()
    }
}

/// Far more than anything takes, and still an end for a test that hangs.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, work).await.expect("in time")
}

fn content(seed: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn send(mut to: TcpStream, bytes: Vec<u8>) -> tokio::task::JoinHandle<io::Result<TcpStream>> {
    tokio::spawn(async move {
        to.write_all(&bytes).await?;
        Ok(to)
    })
}

async fn receive(from: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    soon(from.read_exact(&mut bytes)).await.unwrap();
    bytes
}

fn is_reset<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_both_dialling_directions_are_carried_and_counted() {
    let wired = Wired::with(LinkSpec::default(), ["127.66.1.1", "127.66.1.2"]).await;
    let (mut near, mut far) = wired.connect().await;
    let sent = content(1, 8 * MIB + 123);
    let sending = send(far, sent.clone());
    assert!(receive(&mut near, sent.len()).await == sent);
    far = soon(sending).await.unwrap().unwrap();
    far.write_all(b"!").await.unwrap();
    receive(&mut near, 1).await;
    assert_eq!(
        (wired.there().await, wired.back().await),
        (0, 8 * MIB as u64 + 124)
    );

    let mut near = TcpStream::connect(wired.peers[1]).await.unwrap();
    let (mut far, caller) = soon(wired.a.accept()).await.unwrap();
    assert_eq!(caller.ip(), wired.peers[0].ip(), "a sees b at its stand-in");
    near.write_all(b"question").await.unwrap();
    assert_eq!(receive(&mut far, 8).await, b"question");
    far.write_all(b"answer").await.unwrap();
    assert_eq!(receive(&mut near, 6).await, b"answer");
    assert_eq!(
        (wired.there().await, wired.back().await),
        (6, 8 * MIB as u64 + 132)
    );
    assert_eq!(wired.link.activity().await.unwrap(), 8 * MIB as u64 + 138);
    assert_eq!(wired.link.connections("a").await.unwrap(), 1);
    assert_eq!(wired.link.connections("b").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialler_is_reset_when_nobody_listens() {
    let Wired { link, b, peers, .. } = Wired::up().await;
    drop(b);
    let seen = match TcpStream::connect(peers[0]).await {
        Ok(mut near) => soon(near.read(&mut [0; 1])).await,
        Err(error) => Err(error),
    };
    assert!(is_reset(seen));
    assert_eq!(link.delivered("a", "b").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_and_resets_are_passed_on() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut question = Vec::new();
    soon(far.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    let answer = content(3, 2 * MIB);
    let sending = send(far, answer.clone());
    assert!(receive(&mut near, answer.len()).await == answer);
    drop(soon(sending).await.unwrap());
    assert_eq!(soon(near.read(&mut [0; 1])).await.unwrap(), 0);

    let (near, mut far) = wired.connect().await;
    near.set_zero_linger().unwrap();
    drop(near);
    assert!(is_reset(soon(far.read(&mut [0; 1])).await));
    let (mut near, far) = wired.connect().await;
    far.set_zero_linger().unwrap();
    drop(far);
    assert!(is_reset(soon(near.read(&mut [0; 1])).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_stops_at_exactly_the_byte_over_all_connections_and_both_ways() {
    let wired = Wired::up().await;
    let bytes = 5 * MIB as u64 + 12_345;
    let mut pairs = Vec::new();
    for _ in 0..4 {
        pairs.push(wired.connect().await);
    }
    let (mut idle_near, mut idle_far) = wired.connect().await;
    let mut armed = wired.arm("a", "b", bytes, Hold::UntilReleased).await;
    let size = 3 * MIB;
    let mut receivers = Vec::new();
    let mut senders = Vec::new();
    for (seed, (near, mut far)) in pairs.into_iter().enumerate() {
        let sent = content(seed as u8, size);
        senders.push(send(near, sent.clone()));
        receivers.push(tokio::spawn(async move {
            assert!(receive(&mut far, size).await == sent, "lost or reordered");
            far
        }));
    }
    assert_eq!(soon(armed.fired()).await.unwrap(), bytes);
    // It stands still: also the other way, also for new connections of both sides.
    let mut late = TcpStream::connect(wired.peers[0]).await.unwrap();
    late.write_all(b"late").await.unwrap();
    let _other = TcpStream::connect(wired.peers[1]).await.unwrap();
    idle_far.write_all(b"back").await.unwrap();
    let early = tokio::time::timeout(QUIET, idle_near.read(&mut [0; 4])).await;
    assert!(early.is_err(), "a byte came back over a held wire");
    for _ in 0..20 {
        assert_eq!(armed.delivered().await.unwrap(), bytes);
        assert_eq!((wired.there().await, wired.back().await), (bytes, 0));
    }
    let other = tokio::time::timeout(QUIET, wired.a.accept()).await;
    assert!(other.is_err(), "a connection came through a held wire");
    assert_eq!(
        soon(armed.fired()).await.unwrap(),
        bytes,
        "it says so again"
    );
    drop(armed);
    for receiver in receivers {
        soon(receiver).await.unwrap();
    }
    assert_eq!(receive(&mut idle_near, 4).await, b"back");
    let (mut far, _) = soon(wired.b.accept()).await.unwrap();
    assert_eq!(receive(&mut far, 4).await, b"late");
    soon(wired.a.accept()).await.unwrap();
    assert_eq!(wired.there().await, 4 * size as u64 + 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_on_a_held_wire_is_sent_no_bufferful() {
    let wired = Wired::up().await;
    let (near, mut far) = wired.connect().await;
    let mut armed = wired.arm("a", "b", 1000, Hold::UntilReleased).await;
    let sending = send(near, content(5, 32 * MIB));
    assert_eq!(soon(armed.fired()).await.unwrap(), 1000);
    receive(&mut far, 1000).await;
    drop(far);
    drop(armed);
    assert!(soon(sending).await.unwrap().is_err(), "the sender sees it");
    assert!(wired.there().await <= 1001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_hold_it_fires_at_the_byte_and_flows_on() {
    let wired = Wired::up().await;
    let (near, mut far) = wired.connect().await;
    let mut first = wired.arm("a", "b", MIB as u64 + 1, Hold::No).await;
    let unheard = wired.arm("a", "b", 2 * MIB as u64 + 2, Hold::No).await;
    let never = wired.arm("b", "a", 1, Hold::No).await;
    let mut nothing = wired.arm("a", "b", 0, Hold::No).await;
    assert_eq!(soon(nothing.fired()).await.unwrap(), 0);
    let size = 4 * MIB;
    let sending = send(near, content(6, size));
    receive(&mut far, size).await;
    assert_eq!(soon(first.fired()).await.unwrap(), MIB as u64 + 1);
    assert_eq!(never.delivered().await.unwrap(), 0);
    assert_eq!(unheard.delivered().await.unwrap(), size as u64);
    soon(sending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disarmed_points_stop_nothing_and_two_holds_are_both_to_be_released() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    drop(wired.arm("a", "b", 2, Hold::UntilReleased).await);
    let mut one = wired.arm("a", "b", 5, Hold::UntilReleased).await;
    let mut other = wired.arm("a", "b", 5, Hold::UntilReleased).await;
    near.write_all(b"0123456789").await.unwrap();
    assert_eq!(soon(one.fired()).await.unwrap(), 5);
    assert_eq!(soon(other.fired()).await.unwrap(), 5);
    drop(one);
    tokio::time::sleep(QUIET).await;
    assert_eq!(wired.there().await, 5, "the second hold still stands");
    drop(other);
    assert_eq!(receive(&mut far, 10).await, b"0123456789");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_wire_is_silent_until_healed_and_loses_nothing() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    let (mut reset_near, reset_far) = wired.connect().await;
    wired.link.cut().await.unwrap();
    near.write_all(b"before").await.unwrap();
    near.shutdown().await.unwrap();
    reset_far.set_zero_linger().unwrap();
    drop(reset_far);
    drop(TcpStream::connect(wired.peers[0]).await.unwrap());
    let early = tokio::time::timeout(QUIET, far.read(&mut [0; 8])).await;
    assert!(early.is_err(), "something came over a cut wire: {early:?}");
    let early = tokio::time::timeout(QUIET, reset_near.read(&mut [0; 1])).await;
    assert!(early.is_err(), "the reset came over a cut wire: {early:?}");
    wired.link.heal().await.unwrap();
    let mut got = Vec::new();
    soon(far.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"before");
    assert!(is_reset(soon(reset_near.read(&mut [0; 1])).await));
    let other = tokio::time::timeout(QUIET, wired.b.accept()).await;
    assert!(other.is_err(), "the one that gave up was dialled on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_and_delay_are_kept() {
    let rate = 4 * MIB as u64;
    let delay = Duration::from_millis(20);
    let spec = LinkSpec {
        rate: Some(rate),
        delay: Some(delay),
        ..LinkSpec::default()
    };
    let wired = Wired::with(spec, ["127.0.0.1", "127.0.0.1"]).await;
    let begun = std::time::Instant::now();
    let (near, mut far) = wired.connect().await;
    let sent = content(7, 2 * MIB);
    let sending = send(near, sent.clone());
    assert!(receive(&mut far, sent.len()).await == sent);
    assert!(begun.elapsed() >= 2 * delay);
    // Only never too fast: a busy machine may make it slower.
    let allowed = begun.elapsed().as_secs_f64() * rate as f64 + rate as f64 / 100.0;
    assert!(wired.there().await as f64 <= allowed, "over {allowed}");
    let mut near = soon(sending).await.unwrap().unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(soon(far.read(&mut [0; 1])).await.unwrap(), 0);
    far.set_zero_linger().unwrap();
    drop(far);
    assert!(is_reset(soon(near.read(&mut [0; 1])).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_is_refused_with_a_reason_to_skip() {
    let spec = LinkSpec {
        loss: Some(0.05),
        ..LinkSpec::default()
    };
    let end = |name: &str| RelayEnd {
        name: name.into(),
        probe: probe(),
        data: "127.0.0.1".parse().unwrap(),
        data_port: None,
    };
    let refused = RelayLink::up([end("a"), end("b")], &spec, &mut Teardown::new()).await;
    let refused = refused.err().expect("it cannot").to_string();
    assert!(
        refused.contains("loss needs a link that carries packets"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_that_is_not_of_the_host_is_an_error_that_names_it() {
    let end = RelayEnd {
        name: "a".into(),
        probe: probe(),
        data: "192.0.2.7".parse().unwrap(),
        data_port: Some(2100),
    };
    let b = RelayEnd {
        name: "b".into(),
        probe: probe(),
        data: "127.0.0.1".parse().unwrap(),
        data_port: None,
    };
    let up = RelayLink::up([end, b], &LinkSpec::default(), &mut Teardown::new()).await;
    let error = format!("{:#}", up.err().expect("it cannot"));
    assert!(
        error.contains("host a") && error.contains("192.0.2.7:2100"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stranger_without_the_token_is_refused_and_keeps_nobody_out() {
    let spec = RelaySpec {
        data: "127.0.0.1:0".parse().unwrap(),
        lease: Duration::from_secs(5),
        rate: None,
        delay: Duration::ZERO,
    };
    let relay = probe().relay(&spec).await.unwrap();
    let program = TcpListener::bind(relay.places.listen).await.unwrap();
    let elsewhere = "127.0.0.1:1".parse().unwrap();
    relay.join(&[7; 32], elsewhere).await.unwrap();
    // As many silent ones as it takes to be in the way.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(relay.places.data).await.unwrap());
    }
    let mut wrong = TcpStream::connect(relay.places.data).await.unwrap();
    wrong.write_all(&[8; 40]).await.unwrap();
    let mut nothing = [0; 1];
    assert!(!matches!(soon(wrong.read(&mut nothing)).await, Ok(1..)));
    let came = tokio::time::timeout(QUIET, program.accept()).await;
    assert!(came.is_err(), "a stranger came through");
    // In two pieces, as a network may bring it.
    let mut right = TcpStream::connect(relay.places.data).await.unwrap();
    right.write_all(&[7; 20]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    right.write_all(&[7; 12]).await.unwrap();
    right.write_all(b"hello").await.unwrap();
    let (mut far, _) = soon(program.accept()).await.unwrap();
    assert_eq!(receive(&mut far, 5).await, b"hello");
    assert_eq!(relay.count().await.unwrap().delivered, 5);
    // Who stays silent goes.
    let mut last = silent.pop().unwrap();
    assert!(!matches!(soon(last.read(&mut nothing)).await, Ok(1..)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_ends_with_its_last_handle_and_resets_what_it_carries() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    let Wired {
        link,
        peers,
        teardown,
        ..
    } = wired;
    assert_eq!(teardown.run().await, Vec::<String>::new());
    assert!(is_reset(soon(near.read(&mut [0; 1])).await));
    assert!(is_reset(soon(far.read(&mut [0; 1])).await));
    let again = TcpSocket::new_v4().unwrap();
    again.set_reuseaddr(true).unwrap();
    again.bind(peers[0]).unwrap();
    let error = link.delivered("a", "b").await.unwrap_err();
    assert!(
        format!("{error:#}").contains("carrying the link"),
        "{error:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn armed_point_of_a_relay_that_is_gone_is_an_error() {
    let wired = Wired::up().await;
    let mut armed = wired.arm("a", "b", 5, Hold::UntilReleased).await;
    let (fired, _) = tokio::join!(soon(armed.fired()), wired.teardown.run());
    assert!(fired.is_err());
}
