//! The packet link between two network namespaces, each with a kernel's own TCP.
//!
//! The test runs itself again in a namespace of its own, as root or not, where
//! the wire's ends are; the hosts are two more, which live as long as a `sleep`.

mod net;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use left_harness::link::packet::{AtPoint, Faults};
use left_harness::link::{Hold, Link};
use left_harness::scenario::LinkSpec;

use net::{Net, PATIENCE, dial, in_namespace, run};

/// Bytes that do not repeat.
fn content(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new()
        .update(b"packet link")
        .finalize_xof()
        .fill(&mut content);
    content
}

/// Sends it all, ends the stream, and gives what came out on the other side.
fn transfer(near: TcpStream, mut far: TcpStream, content: &[u8]) -> Vec<u8> {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut near = near;
            near.write_all(content).unwrap();
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        got
    })
}

fn assert_same(got: &[u8], sent: &[u8]) {
    assert_eq!(got.len(), sent.len());
    assert_eq!(blake3::hash(got), blake3::hash(sent));
}

#[test]
fn content_arrives_whole_and_every_byte_is_counted_once() {
    in_namespace(
        "packet::content_arrives_whole_and_every_byte_is_counted_once",
        || {
            let net = Net::up(&LinkSpec::default());
            let sent = content(32 << 20);
            for address in [net.b.address(), net.b.address_v6()] {
                let before = net.delivered();
                let (near, far) = net.connect_to(address);
                assert_same(&transfer(near, far, &sent), &sent);
                assert_eq!(net.delivered() - before, sent.len() as u64, "{address}");
            }
            assert_eq!(net.delivered_back(), 0);
            let activity = net.runtime.block_on(net.link.activity()).unwrap();
            assert_eq!(activity, 2 * sent.len() as u64);
        },
    );
}

#[test]
fn a_hold_stands_at_exactly_its_byte_until_released() {
    in_namespace(
        "packet::a_hold_stands_at_exactly_its_byte_until_released",
        || {
            let net = Net::up(&LinkSpec::default());
            let sent = content(8 << 20);
            for point in [1, 1000, 1_234_567] {
                let before = net.delivered();
                let (near, mut far) = net.connect();
                let mut armed = net.link.arm_point("a", "b", point, AtPoint::Hold).unwrap();
                let got = std::thread::scope(|scope| {
                    scope.spawn(|| (&near).write_all(&sent).unwrap());
                    let mut got = vec![0; point as usize];
                    far.read_exact(&mut got).unwrap();
                    assert_eq!(net.fired(&mut armed), point);
                    // Not one byte more, though the sender tries.
                    far.set_read_timeout(Some(Duration::from_millis(300)))
                        .unwrap();
                    let more = far.read(&mut [0]).unwrap_err();
                    assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock);
                    assert_eq!(net.delivered() - before, point);
                    far.set_read_timeout(Some(PATIENCE)).unwrap();
                    armed.release();
                    let mut rest = vec![0; sent.len() - got.len()];
                    far.read_exact(&mut rest).unwrap();
                    got.extend(rest);
                    got
                });
                assert_same(&got, &sent);
                assert_eq!(net.delivered() - before, sent.len() as u64);
            }
        },
    );
}

#[test]
fn without_a_hold_a_point_fires_and_all_flows_on() {
    in_namespace(
        "packet::without_a_hold_a_point_fires_and_all_flows_on",
        || {
            let net = Net::up(&LinkSpec::default());
            let sent = content(8 << 20);
            let (near, far) = net.connect();
            let armed = net.link.arm("a", "b", 3_000_000, Hold::No);
            let mut armed = net.runtime.block_on(armed).unwrap();
            assert_same(&transfer(near, far, &sent), &sent);
            assert_eq!(net.fired(armed.as_mut()), 3_000_000);
        },
    );
}

#[test]
fn a_delay_is_what_was_asked_for() {
    in_namespace("packet::a_delay_is_what_was_asked_for", || {
        let delay = Duration::from_millis(40);
        let net = Net::up(&LinkSpec {
            delay: Some(delay),
            ..LinkSpec::default()
        });
        let (mut near, mut far) = net.connect();
        let begin = Instant::now();
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        far.write_all(b"y").unwrap();
        near.read_exact(&mut [0]).unwrap();
        let took = begin.elapsed();
        assert!(took >= 2 * delay, "{took:?}");
        assert!(took < 2 * delay + Duration::from_millis(500), "{took:?}");
    });
}

#[test]
fn a_rate_is_what_was_asked_for() {
    in_namespace("packet::a_rate_is_what_was_asked_for", || {
        for (rate, bytes) in [(2 << 20, 3 << 20), (20 << 20, 20 << 20)] {
            let net = Net::up(&LinkSpec {
                rate: Some(rate),
                ..LinkSpec::default()
            });
            let sent = content(bytes);
            let (near, far) = net.connect();
            let begin = Instant::now();
            assert_same(&transfer(near, far, &sent), &sent);
            let reached = bytes as f64 / begin.elapsed().as_secs_f64();
            let of_asked = reached / rate as f64;
            assert!((0.4..=1.05).contains(&of_asked), "{of_asked} of {rate}");
        }
    });
}

#[test]
fn what_is_lost_damaged_or_sent_twice_is_counted_once_and_arrives() {
    in_namespace(
        "packet::what_is_lost_damaged_or_sent_twice_is_counted_once_and_arrives",
        || {
            let faults = [
                Faults {
                    loss: 0.05,
                    ..Faults::default()
                },
                Faults {
                    flip: 0.02,
                    ..Faults::default()
                },
                Faults {
                    duplicate: 0.1,
                    reorder: 0.05,
                    ..Faults::default()
                },
            ];
            let net = Net::up(&LinkSpec {
                loss: Some(0.05),
                ..LinkSpec::default()
            });
            let sent = content(2 << 20);
            for faults in faults {
                net.link.faults("a", "b", faults.clone()).unwrap();
                let before = net.delivered();
                let (near, far) = net.connect();
                assert_same(&transfer(near, far, &sent), &sent);
                assert_eq!(net.delivered() - before, sent.len() as u64, "{faults:?}");
            }
        },
    );
}

#[test]
fn a_reset_ends_both_sides_and_refusing_lasts_until_healed() {
    in_namespace(
        "packet::a_reset_ends_both_sides_and_refusing_lasts_until_healed",
        || {
            let net = Net::up(&LinkSpec::default());
            let reset = std::io::ErrorKind::ConnectionReset;
            let (mut near, mut far) = net.connect();
            near.write_all(b"hello").unwrap();
            far.read_exact(&mut [0; 5]).unwrap();
            net.link.reset("a", "b").unwrap();
            assert_eq!(near.read(&mut [0]).unwrap_err().kind(), reset);
            assert_eq!(far.read(&mut [0]).unwrap_err().kind(), reset);

            let (mut near, _far) = net.connect();
            near.write_all(b"hello").unwrap();
            net.link.refuse("a", "b").unwrap();
            assert_eq!(near.read(&mut [0]).unwrap_err().kind(), reset);
            let listener = net
                .b
                .within(|| TcpListener::bind((net.b.address(), 0)).unwrap());
            let there = listener.local_addr().unwrap();
            let refused = net
                .a
                .within(|| TcpStream::connect_timeout(&there, PATIENCE));
            let refused = refused.unwrap_err().kind();
            assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
            net.link.heal("a", "b").unwrap();
            net.link.heal("b", "a").unwrap();
            net.a.within(|| dial(there));
        },
    );
}

#[test]
fn a_cut_at_a_byte_loses_the_rest_until_it_is_released() {
    in_namespace(
        "packet::a_cut_at_a_byte_loses_the_rest_until_it_is_released",
        || {
            let net = Net::up(&LinkSpec::default());
            let sent = content(1 << 20);
            let (near, mut far) = net.connect();
            let mut armed = net.link.arm_point("a", "b", 300_001, AtPoint::Cut).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| (&near).write_all(&sent).unwrap());
                let mut got = vec![0; sent.len()];
                far.read_exact(&mut got[..300_001]).unwrap();
                assert_eq!(net.fired(&mut armed), 300_001);
                far.set_read_timeout(Some(Duration::from_millis(300)))
                    .unwrap();
                assert!(far.read(&mut [0]).is_err());
                far.set_read_timeout(Some(PATIENCE)).unwrap();
                // The sender's kernel tries again by itself.
                armed.release();
                far.read_exact(&mut got[300_001..]).unwrap();
                assert_same(&got, &sent);
            });
            assert_eq!(net.delivered(), sent.len() as u64);
        },
    );
}

#[test]
fn a_receiver_that_dies_while_the_wire_stands_still_is_handed_next_to_nothing() {
    in_namespace(
        "packet::a_receiver_that_dies_while_the_wire_stands_still_is_handed_next_to_nothing",
        || {
            let net = Net::up(&LinkSpec::default());
            let sent = content(32 << 20);
            // Dying with everything read is another end than with something unread.
            for unread in [0, 1000] {
                let point = 4_000_000;
                let before = net.delivered();
                let (near, mut far) = net.connect();
                let mut armed = net.link.arm_point("a", "b", point, AtPoint::Hold).unwrap();
                std::thread::scope(|scope| {
                    let writing = scope.spawn(|| (&near).write_all(&sent));
                    let mut got = vec![0; point as usize - unread];
                    far.read_exact(&mut got).unwrap();
                    assert_eq!(net.fired(&mut armed), point);
                    // What the sender has in flight waits on the link meanwhile.
                    std::thread::sleep(Duration::from_millis(300));
                    drop(far);
                    std::thread::sleep(Duration::from_millis(100));
                    armed.release();
                    assert!(writing.join().unwrap().is_err(), "the sender is told");
                });
                let after = net.delivered() - before - point;
                assert!(after <= 128 << 10, "{after} with {unread} unread");
            }
        },
    );
}

#[test]
#[ignore = "a measurement: prints what the link carries beside a bare veth"]
fn speed_beside_a_bare_veth() {
    in_namespace("packet::speed_beside_a_bare_veth", || {
        let net = Net::up(&LinkSpec::default());
        // The same hosts, joined directly as well.
        let (a, b) = (net.a.holder.id(), net.b.holder.id());
        run(
            "ip",
            &format!("link add bare0 netns {a} type veth peer name bare0 netns {b}"),
        );
        for host in [&net.a, &net.b] {
            let (pid, number) = (host.holder.id(), host.number);
            let address = format!("address add 10.78.0.{number}/24 dev bare0");
            run("nsenter", &format!("-t {pid} -n ip {address}"));
            run("nsenter", &format!("-t {pid} -n ip link set bare0 up"));
        }
        for _ in 0..3 {
            let bare = gigabits(&net, "10.78.0.2".parse().unwrap());
            let linked = gigabits(&net, net.b.address());
            let ratio = linked / bare;
            println!("bare veth {bare:.1} Gbit/s, link {linked:.1} Gbit/s, ratio {ratio:.2}");
        }
    });
}

/// What gets through in two seconds.
fn gigabits(net: &Net, address: IpAddr) -> f64 {
    let (mut near, mut far) = net.connect_to(address);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let chunk = vec![7; 256 << 10];
            while begin.elapsed() < Duration::from_secs(2) {
                near.write_all(&chunk).unwrap();
            }
        });
        scope.spawn(|| println!("asked meanwhile, 99 % within {:?}", answers(net, begin)));
        let mut chunk = vec![0; 256 << 10];
        let mut sum = 0;
        loop {
            match far.read(&mut chunk).unwrap() {
                0 => break,
                read => sum += read,
            }
        }
        sum as f64 * 8.0 / begin.elapsed().as_secs_f64() / 1e9
    })
}

/// How long the link takes to say what it has delivered, while it is busy: 99 % of
/// the times it is asked.
fn answers(net: &Net, begin: Instant) -> Duration {
    let mut times = Vec::new();
    while begin.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        net.delivered();
        times.push(asked.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}
