//! `left-harness netns-init`: the process in which a netns lab lives. Its network
//! namespace is the wire; each host is a child with namespaces of its own.
//!
//! It has one thread and needs no runtime, so that it may move between namespaces. It
//! ends when it is told to, or when the harness is gone: then it leaves the guards in
//! the hosts their time to take the run's folders away.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::host::{self, SSH_PORT};
use super::message::{self, HostOrder, Order, Reply, Wish};
use crate::lab::{registry, run_folder};
use crate::link::packet::socket;

/// The servers listen already when they are dialled.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The last lease of an orphaned run has lapsed, and what it guarded is removed.
const ORPHAN_TIME: Duration = run_folder::LEASE.saturating_add(Duration::from_secs(5));

/// Does what is ordered on `control`; returns when the lab is to end.
///
/// # Errors
/// If the harness cannot be heard at all; all other trouble is told to it.
pub fn run(control: &OwnedFd) -> Result<()> {
    let Some((order, _)) = message::receive::<Order>(control)? else {
        return Ok(());
    };
    let own = std::fs::File::open("/proc/self/ns/net").context("cannot open a namespace")?;
    let up = bring_up(&order, &own);
    let hosts = match up {
        Ok((hosts, sockets)) => {
            let passed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            message::send(control, &Reply::Up, &passed)?;
            hosts
        }
        Err(error) => return message::send(control, &Reply::Failed(format!("{error:#}")), &[]),
    };
    loop {
        match message::receive::<Wish>(control)? {
            Some((Wish::Dial(index), _)) => dial_for(control, hosts.get(index), &own),
            Some((Wish::End, _)) => break,
            None => {
                outlive_guards(&order);
                break;
            }
        }
    }
    for host in hosts {
        host.end();
    }
    Ok(())
}

/// A host's process. Its end of input ends it, with everything in it.
struct Running {
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

fn bring_up(order: &Order, own: &std::fs::File) -> Result<(Vec<Running>, Vec<OwnedFd>)> {
    let mut hosts = Vec::new();
    for spec in &order.hosts {
        hosts.push(Running::start(spec)?);
    }
    // No address on the wire's ends: nothing there answers for a host. A kernel that has
    // no IPv6 has nothing to be told.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let mut batch = String::new();
    for (index, (spec, host)) in order.hosts.iter().zip(&mut hosts).enumerate() {
        host.hears("here")
            .with_context(|| format!("cannot make the namespaces of host {}", spec.name))?;
        let pid = host.child.id();
        let end = wire_end(index);
        batch += &format!(
            "link add {end} type veth peer name {} netns {pid}\nlink set {end} up\n",
            host::INTERFACE
        );
    }
    ip(&batch)?;
    for host in &mut hosts {
        host.orders.write_all(b"go\n").context("a host is gone")?;
    }
    let mut sockets = Vec::new();
    for (index, (spec, host)) in order.hosts.iter().zip(&mut hosts).enumerate() {
        host.hears("up")
            .with_context(|| format!("host {} does not come up", spec.name))?;
        sockets.push(dial(host.child.id(), own)?);
        sockets.push(socket::open(&wire_end(index))?);
    }
    Ok((hosts, sockets))
}

impl Running {
    fn start(spec: &HostOrder) -> Result<Self> {
        let this = std::env::current_exe().context("cannot find this program's file")?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]);
        command.args(["--kill-child", "--propagation", "private", "--mount-proc"]);
        command.arg("--").arg(this).arg("netns-host");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot run `unshare`")?;
        let (Some(mut orders), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a child has no pipes");
        };
        let mut text = serde_json::to_vec(spec)?;
        text.push(b'\n');
        orders
            .write_all(&text)
            .context("cannot tell a host what it is")?;
        Ok(Self {
            child,
            orders,
            said: BufReader::new(said),
        })
    }

    fn hears(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        match line.trim_end() {
            line if line == word => Ok(()),
            "" => bail!("its first process has ended"),
            line => bail!("{line}"),
        }
    }

    fn end(mut self) {
        drop(self.orders);
        // It is ours and dies of it; there is nothing to be done if it does not.
        let _ = self.child.wait();
    }
}

/// Passes one more connection out.
fn dial_for(control: &OwnedFd, host: Option<&Running>, own: &std::fs::File) {
    let dialled = host.context("there is no such host");
    let dialled = dialled.and_then(|host| dial(host.child.id(), own));
    // If it is not heard, nobody is there any more, which is noticed next.
    let _ = match dialled {
        Ok(stream) => message::send(control, &Reply::Dialled, &[stream.as_fd()]),
        Err(error) => message::send(control, &Reply::Failed(format!("{error:#}")), &[]),
    };
}

/// Connects to the server of a host, from inside.
fn dial(pid: u32, own: &std::fs::File) -> Result<OwnedFd> {
    let kind = Some(LinkNameSpaceType::Network);
    let path = format!("/proc/{pid}/ns/net");
    let theirs = std::fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
    move_into_link_name_space(theirs.as_fd(), kind).context("cannot enter a host's network")?;
    let address = SocketAddr::from(([127, 0, 0, 1], SSH_PORT));
    let dialled = TcpStream::connect_timeout(&address, DIAL_TIMEOUT);
    move_into_link_name_space(own.as_fd(), kind).context("cannot come back to the wire")?;
    let stream = dialled.context("cannot connect to a host's SSH server")?;
    Ok(stream.into())
}

/// Has `ip` do several things.
pub(super) fn ip(batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run `ip` (apt-get install iproute2)")?;
    let input = child.stdin.take();
    input
        .context("a child has no pipe")?
        .write_all(batch.as_bytes())?;
    match child.wait()?.success() {
        true => Ok(()),
        false => bail!("`ip` failed"),
    }
}

fn wire_end(index: usize) -> String {
    format!("wire{index}")
}

/// Waits until no guard has anything left to do. A folder that is kept, or that nobody
/// guards, is not waited for: it stays anyway.
fn outlive_guards(order: &Order) {
    let deadline = Instant::now() + ORPHAN_TIME;
    while Instant::now() < deadline
        && order
            .hosts
            .iter()
            .any(|host| registry::awaits_guard(&host.home))
    {
        std::thread::sleep(Duration::from_millis(100));
    }
}
