//! Two hosts that are network namespaces, and the packet link between them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use left_harness::link::packet::{PacketEnd, PacketLink, socket};
use left_harness::link::{Armed, Link};
use left_harness::scenario::LinkSpec;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Set in the process that runs in the namespace.
const INSIDE: &str = "LEFT_HARNESS_TEST_NAMESPACE";
/// Long enough for a busy machine, short enough to be waited for.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Runs `body` in a network namespace where this user may do everything, or says
/// why not. `name` is the test's own.
pub fn in_namespace(name: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    // Root may need no user namespace, or not be allowed one; others need one.
    let ways = [["-rn"], ["-n"]];
    let works = |way: &&[&str; 1]| {
        let ip = "ip link add left0 type veth peer name left1";
        let mut run = Command::new("unshare");
        run.args(*way).args(["sh", "-c", ip]);
        run.stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let Some(way) = ways.iter().find(works) else {
        eprintln!("skipped: {name}: no network namespace with a veth for this user");
        return;
    };
    let status = Command::new("unshare")
        .args(way)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} inside its namespace: {status}");
}

pub fn run(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {said}");
}

/// A host: a namespace, its address, and the wire's end.
pub struct Host {
    name: &'static str,
    pub number: u8,
    pub holder: Child,
}

impl Host {
    pub fn up(name: &'static str, number: u8) -> Self {
        let holder = Command::new("unshare")
            .args(["-n", "sleep", "120"])
            .spawn()
            .unwrap();
        let host = Self {
            name,
            number,
            holder,
        };
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait_until("a host has a namespace of its own", || {
            std::fs::read_link(host.namespace()).is_ok_and(|link| link != ours)
        });
        host
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    fn wire(&self) -> String {
        format!("wire-{}", self.name)
    }

    fn configure(&self) {
        let (pid, number) = (self.holder.id(), self.number);
        for line in [
            "link set lo up".to_string(),
            format!("address add 10.77.0.{number}/24 dev eth0"),
            format!("address add fd77::{number}/64 dev eth0 nodad"),
            "link set eth0 up".to_string(),
        ] {
            run("nsenter", &format!("-t {pid} -n ip {line}"));
        }
    }

    pub fn address(&self) -> IpAddr {
        format!("10.77.0.{}", self.number).parse().unwrap()
    }

    pub fn address_v6(&self) -> IpAddr {
        format!("fd77::{}", self.number).parse().unwrap()
    }

    /// Does something on a thread in this host's namespace.
    pub fn within<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.namespace()).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                deed()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // At once: with its namespace it would go some time later.
        let wire = self.wire();
        let delete = ["link", "delete", wire.as_str()];
        let _ = Command::new("ip").args(delete).output();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Two hosts with the packet link between them.
pub struct Net {
    pub a: Host,
    pub b: Host,
    pub link: PacketLink,
    pub runtime: tokio::runtime::Runtime,
}

impl Net {
    pub fn up(spec: &LinkSpec) -> Self {
        let (a, b) = (Host::up("a", 1), Host::up("b", 2));
        let end = |host: &Host| {
            let (wire, pid) = (host.wire(), host.holder.id());
            let peer = format!("type veth peer name eth0 netns {pid}");
            run("ip", &format!("link add {wire} {peer}"));
            // This side has nothing to say.
            let silent = format!("/proc/sys/net/ipv6/conf/{wire}/disable_ipv6");
            std::fs::write(silent, "1").unwrap();
            run("ip", &format!("link set {wire} up"));
            host.configure();
            PacketEnd {
                host: host.name.to_string(),
                fd: socket::open(&wire).unwrap(),
                vnet: true,
            }
        };
        let ends = vec![end(&a), end(&b)];
        let link = PacketLink::up(ends, spec).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self {
            a,
            b,
            link,
            runtime,
        }
    }

    /// A connection from a to b: a's side and b's side.
    pub fn connect(&self) -> (TcpStream, TcpStream) {
        self.connect_to(self.b.address())
    }

    pub fn connect_to(&self, address: IpAddr) -> (TcpStream, TcpStream) {
        let listener = self.b.within(|| TcpListener::bind((address, 0)).unwrap());
        let there = listener.local_addr().unwrap();
        let near = self.a.within(|| dial(there));
        let (far, _) = listener.accept().unwrap();
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        (near, far)
    }

    pub fn delivered(&self) -> u64 {
        self.runtime
            .block_on(self.link.delivered("a", "b"))
            .unwrap()
    }

    pub fn delivered_back(&self) -> u64 {
        self.runtime
            .block_on(self.link.delivered("b", "a"))
            .unwrap()
    }

    pub fn fired(&self, armed: &mut dyn Armed) -> u64 {
        let fired = async { tokio::time::timeout(PATIENCE, armed.fired()).await };
        self.runtime
            .block_on(fired)
            .expect("the point fires")
            .unwrap()
    }
}

pub fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, PATIENCE).unwrap()
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
