//! The link as two hosts see it, on loopback.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::stream::LinkError;
use super::{Hold, Route, StreamLink};
use crate::scenario::LinkSpec;

const MIB: usize = 1 << 20;

/// Two hosts, `a` that dials and `b` that listens, with the link between them.
struct Wired {
    link: StreamLink,
    b: TcpListener,
    routes: Vec<Route>,
}

impl Wired {
    async fn up() -> Self {
        Self::with(LinkSpec::default()).await
    }

    async fn with(spec: LinkSpec) -> Self {
        let b = TcpListener::bind("127.77.0.4:0").await.unwrap();
        let routes = vec![Route {
            from: "a".into(),
            to: "b".into(),
            listen: free("127.77.0.2"),
            dial: b.local_addr().unwrap(),
            source: "127.77.0.1".parse().unwrap(),
        }];
        let link = StreamLink::up(routes.clone(), &spec).await.unwrap();
        Self { link, b, routes }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.routes[0].listen).await.unwrap()
    }

    /// A connection, as `a` and as `b` have it.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let near = self.dial().await;
        let (far, _) = soon(self.b.accept()).await.unwrap();
        (near, far)
    }

    fn there(&self) -> u64 {
        self.link.delivered("a", "b")
    }

    fn back(&self) -> u64 {
        self.link.delivered("b", "a")
    }
}

/// A free port: one that was just given to us and given back.
fn free(ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap();
    let socket = std::net::TcpListener::bind((ip, 0)).unwrap();
    socket.local_addr().unwrap()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what)
        .await
        .expect("it did not happen within 30 s")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(holds(), "{what}");
}

/// Bytes that differ at every place of a stream.
fn content(seed: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Sends all of it in the background and gives the socket back, still open.
fn send(mut socket: TcpStream, bytes: Vec<u8>) -> JoinHandle<io::Result<TcpStream>> {
    tokio::spawn(async move {
        socket.write_all(&bytes).await?;
        Ok(socket)
    })
}

async fn receive(socket: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    soon(socket.read_exact(&mut bytes)).await.unwrap();
    bytes
}

fn is_reset(result: io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_and_are_counted() {
    let wired = Wired::up().await;
    let (near, mut far) = wired.connect().await;
    let there = content(1, 3 * MIB + 17);
    let sending = send(near, there.clone());
    assert_eq!(receive(&mut far, there.len()).await, there);
    let mut near = soon(sending).await.unwrap().unwrap();
    let back = content(2, MIB + 3);
    let sending = send(far, back.clone());
    assert_eq!(receive(&mut near, back.len()).await, back);
    let far = soon(sending).await.unwrap().unwrap();
    drop((near, far));
    assert_eq!(wired.there(), there.len() as u64);
    assert_eq!(wired.back(), back.len() as u64);
    assert_eq!(wired.link.activity(), (there.len() + back.len()) as u64);
    assert_eq!(wired.link.connections("a", "b"), 1);
    assert_eq!(wired.link.connections("b", "a"), 0);
    wired.link.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn count_goes_on_over_later_connections() {
    let wired = Wired::up().await;
    for round in 1..=3 {
        let (near, mut far) = wired.connect().await;
        let sending = send(near, content(round, 1000));
        receive(&mut far, 1000).await;
        drop(soon(sending).await.unwrap());
        assert_eq!(wired.there(), u64::from(round) * 1000);
        assert_eq!(wired.link.connections("a", "b"), u64::from(round));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialled_side_sees_the_stand_in_of_the_caller() {
    let wired = Wired::up().await;
    let _near = wired.dial().await;
    let (_far, caller) = soon(wired.b.accept()).await.unwrap();
    assert_eq!(caller.ip(), wired.routes[0].source);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialler_is_reset_when_nobody_listens() {
    let Wired { link, b, routes } = Wired::up().await;
    drop(b);
    // The reset may be faster than the dialler's own kernel says "connected".
    let seen = match TcpStream::connect(routes[0].listen).await {
        Ok(mut near) => soon(near.read(&mut [0; 1])).await,
        Err(error) => Err(error),
    };
    assert!(is_reset(seen));
    assert_eq!(link.delivered("a", "b"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_is_passed_on_and_the_other_half_lives() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut question = Vec::new();
    soon(far.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    let answer = content(3, 2 * MIB);
    let sending = send(far, answer.clone());
    assert_eq!(receive(&mut near, answer.len()).await, answer);
    drop(soon(sending).await.unwrap());
    assert_eq!(soon(near.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_of_either_side_reaches_the_other() {
    let wired = Wired::up().await;
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
async fn what_was_not_written_out_to_a_dead_receiver_is_not_counted() {
    let wired = Wired::up().await;
    let (near, mut far) = wired.connect().await;
    let sending = send(near, content(4, 64 * MIB));
    receive(&mut far, MIB).await;
    // Full on the way: nothing moves any more.
    let mut last = 0;
    soon(async {
        loop {
            let now = wired.there();
            if now == last && now > 0 {
                break;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    far.set_zero_linger().unwrap();
    drop(far);
    assert!(soon(sending).await.unwrap().is_err(), "the sender sees it");
    let counted = wired.there();
    assert!(counted >= MIB as u64);
    assert!(counted < 60 * MIB as u64, "{counted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_stops_at_exactly_the_byte_over_all_connections() {
    let wired = Wired::up().await;
    let bytes = 5 * MIB as u64 + 12_345;
    let mut pairs = Vec::new();
    for _ in 0..4 {
        pairs.push(wired.connect().await);
    }
    let mut armed = wired.link.arm("a", "b", bytes, Hold::UntilReleased);
    let size = 3 * MIB;
    let mut receivers = Vec::new();
    let mut senders = Vec::new();
    for (seed, (near, far)) in pairs.into_iter().enumerate() {
        let sent = content(seed as u8, size);
        senders.push(send(near, sent.clone()));
        receivers.push(tokio::spawn(async move {
            let mut far = far;
            let got = receive(&mut far, size).await;
            assert!(got == sent, "lost or reordered");
            far
        }));
    }
    assert_eq!(soon(armed.fired()).await, bytes);
    // It stands still: also the other way, also for new connections.
    let mut late = wired.dial().await;
    late.write_all(b"late").await.unwrap();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(armed.delivered(), bytes);
        assert_eq!(wired.there(), bytes);
    }
    assert_eq!(soon(armed.fired()).await, bytes, "it says so again");
    armed.release();
    for receiver in receivers {
        soon(receiver).await.unwrap();
    }
    let (mut far, _) = soon(wired.b.accept()).await.unwrap();
    assert_eq!(receive(&mut far, 4).await, b"late");
    assert_eq!(wired.there(), 4 * size as u64 + 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_stops_the_other_direction_too() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    let mut armed = wired.link.arm("a", "b", 10, Hold::UntilReleased);
    near.write_all(&[7; 20]).await.unwrap();
    assert_eq!(soon(armed.fired()).await, 10);
    assert_eq!(receive(&mut far, 10).await, [7; 10]);
    far.write_all(b"back").await.unwrap();
    let quiet = Duration::from_millis(50);
    let early = tokio::time::timeout(quiet, near.read(&mut [0; 4])).await;
    assert!(early.is_err(), "a byte came back over a held wire");
    assert_eq!(wired.back(), 0);
    drop(armed);
    assert_eq!(receive(&mut near, 4).await, b"back");
    assert_eq!(receive(&mut far, 10).await, [7; 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_on_a_held_wire_is_sent_no_bufferful() {
    let wired = Wired::up().await;
    let (near, mut far) = wired.connect().await;
    let mut armed = wired.link.arm("a", "b", 1000, Hold::UntilReleased);
    let sending = send(near, content(5, 32 * MIB));
    assert_eq!(soon(armed.fired()).await, 1000);
    // It has read all that came, so its death is a mere end of stream.
    receive(&mut far, 1000).await;
    drop(far);
    armed.release();
    assert!(soon(sending).await.unwrap().is_err(), "the sender sees it");
    assert!(wired.there() <= 1001, "{}", wired.there());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_hold_it_fires_at_the_byte_and_flows_on() {
    let wired = Wired::up().await;
    let (near, mut far) = wired.connect().await;
    let mut first = wired.link.arm("a", "b", MIB as u64 + 1, Hold::No);
    let mut second = wired.link.arm("a", "b", 2 * MIB as u64 + 2, Hold::No);
    let never = wired.link.arm("b", "a", 1, Hold::No);
    let mut nothing = wired.link.arm("a", "b", 0, Hold::No);
    assert_eq!(soon(nothing.fired()).await, 0);
    let size = 4 * MIB;
    let sending = send(near, content(6, size));
    receive(&mut far, size).await;
    assert_eq!(soon(first.fired()).await, MIB as u64 + 1);
    assert_eq!(soon(second.fired()).await, 2 * MIB as u64 + 2);
    assert_eq!(never.delivered(), 0);
    assert_eq!(first.delivered(), size as u64);
    soon(sending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_holds_at_the_same_byte_are_both_to_be_released() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    let mut one = wired.link.arm("a", "b", 5, Hold::UntilReleased);
    let mut other = wired.link.arm("a", "b", 5, Hold::UntilReleased);
    near.write_all(b"0123456789").await.unwrap();
    assert_eq!(soon(one.fired()).await, 5);
    assert_eq!(soon(other.fired()).await, 5);
    one.release();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(wired.there(), 5, "the second hold still stands");
    other.release();
    assert_eq!(receive(&mut far, 10).await, b"0123456789");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disarmed_points_stop_nothing() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    drop(wired.link.arm("a", "b", 5, Hold::UntilReleased));
    near.write_all(b"0123456789").await.unwrap();
    assert_eq!(receive(&mut far, 10).await, b"0123456789");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_wire_is_silent_until_healed_and_loses_nothing() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    wired.link.cut("b", "a");
    wired.link.cut("a", "b");
    near.write_all(b"before").await.unwrap();
    near.shutdown().await.unwrap();
    let quiet = Duration::from_millis(50);
    let early = tokio::time::timeout(quiet, far.read(&mut [0; 8])).await;
    assert!(early.is_err(), "something came over a cut wire: {early:?}");
    // Who gives up while it is cut is never heard of.
    drop(wired.dial().await);
    until("both are accepted", || {
        wired.link.connections("a", "b") == 2
    })
    .await;
    wired.link.heal("a", "b");
    let mut got = Vec::new();
    soon(far.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"before");
    let other = tokio::time::timeout(quiet, wired.b.accept()).await;
    assert!(other.is_err(), "the one that gave up was dialled on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_wire_hides_a_reset_until_healed() {
    let wired = Wired::up().await;
    let (mut near, far) = wired.connect().await;
    wired.link.cut("a", "b");
    far.set_zero_linger().unwrap();
    drop(far);
    let quiet = Duration::from_millis(50);
    let early = tokio::time::timeout(quiet, near.read(&mut [0; 1])).await;
    assert!(early.is_err(), "the reset came over a cut wire: {early:?}");
    wired.link.heal("a", "b");
    assert!(is_reset(soon(near.read(&mut [0; 1])).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_wire_hides_a_refusal_until_healed() {
    let delay = Duration::from_millis(100);
    let spec = LinkSpec {
        delay: Some(delay),
        ..LinkSpec::default()
    };
    let Wired { link, b, routes } = Wired::with(spec).await;
    drop(b);
    let mut near = TcpStream::connect(routes[0].listen).await.unwrap();
    until("it is accepted", || link.connections("a", "b") == 1).await;
    // On its way, with nobody there to take it.
    link.cut("a", "b");
    let early = tokio::time::timeout(3 * delay, near.read(&mut [0; 1])).await;
    assert!(
        early.is_err(),
        "the refusal came over a cut wire: {early:?}"
    );
    link.heal("a", "b");
    assert!(is_reset(soon(near.read(&mut [0; 1])).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn point_that_nobody_looks_at_does_not_stop_the_bytes() {
    let wired = Wired::up().await;
    let (near, mut far) = wired.connect().await;
    let mut armed = wired.link.arm("a", "b", 1000, Hold::No);
    let sending = send(near, content(9, MIB));
    receive(&mut far, MIB).await;
    assert_eq!(soon(armed.fired()).await, 1000);
    soon(sending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_link_keeps_its_rate_for_each_direction() {
    let rate = 4 * MIB as u64;
    let spec = LinkSpec {
        rate: Some(rate),
        ..LinkSpec::default()
    };
    let wired = Wired::with(spec).await;
    let (near, mut far) = wired.connect().await;
    let begun = std::time::Instant::now();
    let sent = content(7, 2 * MIB);
    let sending = send(near, sent.clone());
    assert_eq!(receive(&mut far, sent.len()).await, sent);
    // Only never too fast: a busy machine may make it slower.
    let allowed = begun.elapsed().as_secs_f64() * rate as f64 + rate as f64 / 100.0;
    assert!(wired.there() as f64 <= allowed, "over {allowed}");
    soon(sending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_link_keeps_order_and_end() {
    let spec = LinkSpec {
        delay: Some(Duration::from_millis(20)),
        ..LinkSpec::default()
    };
    let wired = Wired::with(spec).await;
    let begun = std::time::Instant::now();
    let (near, mut far) = wired.connect().await;
    let sent = content(8, 40 * MIB);
    let sending = send(near, sent.clone());
    assert!(receive(&mut far, sent.len()).await == sent);
    assert!(begun.elapsed() >= Duration::from_millis(40));
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
    let refused = StreamLink::up(Vec::new(), &spec).await.unwrap_err();
    assert!(matches!(refused, LinkError::Unsupported { what: "loss" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_address_is_an_error_that_names_it() {
    let wired = Wired::up().await;
    let taken = wired.routes[0].listen;
    let error = StreamLink::up(wired.routes.clone(), &LinkSpec::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_resets_connections_and_frees_the_addresses() {
    let wired = Wired::up().await;
    let (mut near, mut far) = wired.connect().await;
    let _held = wired.link.arm("a", "b", 0, Hold::UntilReleased);
    let address = wired.routes[0].listen;
    soon(wired.link.down()).await;
    assert!(is_reset(soon(near.read(&mut [0; 1])).await));
    assert!(is_reset(soon(far.read(&mut [0; 1])).await));
    assert!(TcpStream::connect(address).await.is_err());
    let again = TcpSocket::new_v4().unwrap();
    again.bind(address).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_link_goes_down_by_itself() {
    let Wired { link, b, routes } = Wired::up().await;
    drop(link);
    soon(async {
        while TcpStream::connect(routes[0].listen).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(b);
}
