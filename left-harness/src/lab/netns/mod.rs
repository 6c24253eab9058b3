//! Hosts that are network namespaces of this machine: the real kernel network, a real
//! OpenSSH server in each, and a wire between them that is ours.
//!
//! One process, `left-harness netns-init` ([`init`]), lives in a namespace of its own
//! that is the wire, and is parent of one process a host ([`host`]), which has its own
//! network, mounts, processes and name. There is no control network: the init connects
//! to each host's server from inside and passes the connected socket out, with the
//! packet socket at the wire's end of the host ([`message`]). Nothing has a name on
//! this machine, so that the end of the init is the end of everything. For the user's own
//! `ssh` the harness keeps a port on loopback for each host ([`gate`]).
//!
//! For root and for an ordinary user alike: an ordinary user is root of a user
//! namespace, and the server runs in one below it as the user again. Root has the
//! server run as an account that exists in the hosts only.

mod account;
mod gate;
pub mod host;
pub mod init;
pub mod message;
pub mod needs;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use self::gate::Dial;
use self::message::{Account, HostOrder, Order, Reply, Wish};
use super::needs::{Hurt, Need};
use super::{Host, Lab, places, registry};
use crate::host::client_config::ClientHost;
use crate::host::keys::{self, PrivateKey};
use crate::host::remote::Remote;
use crate::host::ssh::{Credential, Door, HostKey, Ssh, Way};
use crate::link::packet::{PacketEnd, PacketLink};
use crate::scenario::{HostSpec, LinkSpec};
use crate::teardown::Teardown;

/// What it is called.
pub const NAME: &str = "netns";

/// The account in the hosts. The name is the host's own affair.
pub const USER: &str = "left-harness";

/// Where the program under test listens; each host has all ports to itself.
const PORT: u16 = 21_000;

/// Programs at once on one connection; the server is told the same.
const SESSIONS_MAX: usize = 64;

/// From the start of the init to connected sockets: milliseconds, on a machine that is
/// busy with other things.
const UP_DEADLINE: Duration = Duration::from_secs(20);

/// How long the lab may take to go away.
const DOWN_DEADLINE: Duration = Duration::from_secs(5);

/// Why this lab cannot carry something, if so.
pub fn lacks(need: &Need) -> Option<String> {
    match need {
        // Its hosts have the clock of this machine.
        Need::Fault(Hurt::Clock, host) => {
            Some(format!("the netns lab cannot set the clock of {host}"))
        }
        Need::Fault(..)
        | Need::Loss
        | Need::LimitedShare(_)
        | Need::Rate
        | Need::Delay
        | Need::Count
        | Need::Hold => None,
    }
}

/// Brings the hosts and the wire between them up.
///
/// # Errors
/// If this machine does not let it.
pub async fn up(
    dir: &Path,
    hosts: &[HostSpec],
    link: &LinkSpec,
    run: Option<&str>,
    teardown: &mut Teardown,
) -> Result<Lab> {
    let [_, _] = hosts else {
        bail!(
            "the netns lab carries two hosts, the scenario has {}",
            hosts.len()
        );
    };
    let account = account::choose()?;
    let sshd = needs::sshd();
    let sshd = sshd.context("there is no sshd (apt-get install openssh-server)")?;
    let client_key = Arc::new(keys::generate()?);
    let mut host_keys = Vec::new();
    let mut orders = Vec::new();
    let mut homes = Vec::new();
    for spec in hosts {
        let home = places::home(dir, &spec.name)?;
        if account.is_roots() {
            account::give(&home, account)?;
        }
        let key = keys::generate()?;
        orders.push(HostOrder {
            name: spec.name.clone(),
            home: home.clone(),
            disk_bytes: spec.share_bytes,
            address: address(orders.len()),
            host_key: pem(&key)?,
            sshd: sshd.clone(),
            authorized: client_key.public_key().to_openssh()?,
            account,
        });
        host_keys.push(key);
        homes.push(registry::Home {
            host: spec.name.clone(),
            dir: home,
        });
    }

    let slot: Arc<Mutex<Option<Init>>> = Arc::default();
    let ending = slot.clone();
    teardown.push("end the namespaces", DOWN_DEADLINE, async move {
        let end = move || match ending.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(init) => init.end(),
            None => Ok(()),
        };
        tokio::task::spawn_blocking(end).await?
    });
    let order = Order { hosts: orders };
    // The slot is filled in there: who is interrupted here undoes it all the same, and
    // waits for it by its lock.
    let (filling, run) = (slot.clone(), run.map(str::to_owned));
    let started = tokio::task::spawn_blocking(move || {
        let mut slot = filling.lock().unwrap_or_else(PoisonError::into_inner);
        let (init, sockets) = Init::start(&order, account, homes, run.as_deref())?;
        let (id, entrances) = (init.registered.id(), init.registered.entrances());
        *slot = Some(init);
        Ok::<_, anyhow::Error>((sockets, id, entrances))
    });
    let (sockets, id, entrances) = started.await??;
    let dial = |index| -> Dial {
        let slot = slot.clone();
        Arc::new(move || {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.as_mut().context("the lab is gone")?.dial(index)
        })
    };
    let (ports, mut doors) = gate::open((0..hosts.len()).map(dial).collect()).await?;
    teardown.push("close the doors of the hosts", DOWN_DEADLINE, async move {
        doors.shutdown().await;
        Ok(())
    });

    let mut up = Vec::new();
    let mut ends = Vec::new();
    for (index, (spec, Sockets { ssh, packets })) in hosts.iter().zip(sockets).enumerate() {
        let door = Door::new(
            &spec.name,
            Way::Connected(ssh.into(), format!("the namespace of host {}", spec.name)),
            USER,
            Credential::Key(client_key.clone()),
            HostKey::Pinned(host_keys[index].public_key().clone()),
        )
        .sessions_max(SESSIONS_MAX);
        let remote: Arc<dyn Remote> = Arc::new(Ssh::connect(door).await?);
        let closing = remote.clone();
        let what = format!("close the connection to host {}", spec.name);
        teardown.push(what, DOWN_DEADLINE, async move {
            closing.close().await;
            Ok(())
        });
        up.push(Host {
            name: spec.name.clone(),
            remote,
            home: PathBuf::from(host::HOME),
            disk: spec.share_bytes.map(|_| PathBuf::from(host::DISK)),
            listen: SocketAddr::new(address(index).into(), PORT),
            peer: SocketAddr::new(address(1 - index).into(), PORT),
        });
        ends.push(PacketEnd {
            host: spec.name.clone(),
            fd: packets,
            vnet: true,
        });
    }
    let clients = hosts.iter().zip(ports).zip(&host_keys);
    let clients = clients.map(|((spec, port), key)| ClientHost {
        name: &spec.name,
        address: "127.0.0.1",
        port,
        user: USER,
        key: &client_key,
        host_key: key.public_key(),
    });
    let opened = entrances.open(&Vec::from_iter(clients));
    let link = PacketLink::up(ends, link)?;
    Ok(Lab {
        name: NAME,
        id,
        hosts: up,
        link: Arc::new(link),
        notes: Vec::from_iter(registry::closed(opened)),
    })
}

/// On the wire, which nobody else is on.
fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 1 + index as u8)
}

fn pem(key: &PrivateKey) -> Result<String> {
    let pem = key.to_openssh(russh::keys::ssh_key::LineEnding::LF);
    Ok(pem.context("cannot write a host key")?.to_string())
}

/// What came out of a host.
struct Sockets {
    /// Connected to its server.
    ssh: OwnedFd,
    /// The wire's end of it.
    packets: OwnedFd,
}

/// The process in which the lab lives.
struct Init {
    control: OwnedFd,
    child: Child,
    registered: registry::Registered,
    /// An answer that did not come may still come, and would be taken for another one.
    has_hung: bool,
}

impl Init {
    fn start(
        order: &Order,
        account: Account,
        homes: Vec<registry::Home>,
        run: Option<&str>,
    ) -> Result<(Self, Vec<Sockets>)> {
        let (control, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("cannot make a socket for the namespaces' init")?;
        let this = std::env::current_exe().context("cannot find this program's file")?;
        let mut command = Command::new("unshare");
        if account.nested {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--"]).arg(&this).arg("netns-init");
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
        // What the tools that it runs complain about.
        let complaints = tempfile()?;
        command.stderr(Stdio::from(complaints.try_clone()?));
        // Ctrl-C is for the harness, which then ends the lab in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .spawn()
            .context("cannot run `unshare` (apt-get install util-linux)")?;
        drop(command);
        let registered = registry::register(registry::Coming {
            kind: NAME,
            run,
            init: Some(child.id()),
            homes,
        })?;
        let init = Self {
            control,
            child,
            registered,
            has_hung: false,
        };
        message::deadline(&init.control, UP_DEADLINE)?;
        let answered = message::send(&init.control, order, &[])
            .and_then(|()| message::receive::<Reply>(&init.control));
        let why = match answered {
            Ok(Some((Reply::Up, sockets))) => {
                let sockets = pairs(sockets);
                if sockets.len() == order.hosts.len() {
                    return Ok((init, sockets));
                }
                "its init passed too few sockets".to_owned()
            }
            Ok(Some((Reply::Failed(why), _))) => why,
            Ok(Some((Reply::Dialled, _))) => "its init talks nonsense".to_owned(),
            Ok(None) => "its init ended without a word".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        // Also if it does not end: what counts is why it did not come up.
        let _ = init.end();
        bail!("cannot bring the namespaces up: {why}{}", said(complaints));
    }

    /// One more connection to the server of a host.
    fn dial(&mut self, index: usize) -> Result<OwnedFd> {
        if self.has_hung {
            bail!("the namespaces' init does not answer");
        }
        message::send(&self.control, &Wish::Dial(index), &[])?;
        let answer = message::receive::<Reply>(&self.control);
        self.has_hung = answer.is_err();
        match answer? {
            Some((Reply::Dialled, sockets)) => {
                let socket = sockets.into_iter().next();
                socket.context("the namespaces' init passed no socket")
            }
            Some((Reply::Failed(why), _)) => bail!("{why}"),
            Some((Reply::Up, _)) | None => bail!("the namespaces' init is gone"),
        }
    }

    /// Ends all hosts and waits until they are gone.
    fn end(mut self) -> Result<()> {
        let _ = message::send(&self.control, &Wish::End, &[]);
        drop(self.control);
        let deadline = Instant::now() + DOWN_DEADLINE / 2;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                // Its hosts see the end of their input and go.
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.registered.remove()
    }
}

fn pairs(sockets: Vec<OwnedFd>) -> Vec<Sockets> {
    let mut sockets = sockets.into_iter();
    let mut pairs = Vec::new();
    while let (Some(ssh), Some(packets)) = (sockets.next(), sockets.next()) {
        pairs.push(Sockets { ssh, packets });
    }
    pairs
}

/// A file without a name.
fn tempfile() -> Result<std::fs::File> {
    let file = rustix::fs::memfd_create("complaints", rustix::fs::MemfdFlags::CLOEXEC);
    Ok(std::fs::File::from(
        file.context("cannot make a file in memory")?,
    ))
}

/// The last that the init and its tools complained about, in brackets.
fn said(mut complaints: std::fs::File) -> String {
    use std::io::{Read, Seek};
    const BYTES_MAX: u64 = 64 << 10;
    const LINES_MAX: usize = 5;
    let mut text = Vec::new();
    let read = complaints
        .rewind()
        .and_then(|()| complaints.take(BYTES_MAX).read_to_end(&mut text));
    let lines: Vec<String> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(crate::check::text::escaped)
        .collect();
    match read {
        Ok(_) if !lines.is_empty() => {
            let last = &lines[lines.len().saturating_sub(LINES_MAX)..];
            format!(" ({})", last.join("; "))
        }
        _ => String::new(),
    }
}
