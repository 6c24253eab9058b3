//! Hosts that are network namespaces of this machine: the real kernel network, a real
//! OpenSSH server in each, and a wire between them that is ours.
//!
//! One process, `left-harness netns-init` ([`init`]), lives in a namespace of its own
//! that is the wire, and is parent of one process a host ([`host`]), which has its own
//! network, mounts, processes and name. There is no control network: the init connects
//! to each host's server from inside and passes the connected socket out, with the
//! packet socket at the wire's end of the host ([`message`]). Nothing has a name on
//! this machine, so that the end of the init is the end of everything.
//!
//! For root and for an ordinary user alike: an ordinary user is root of a user
//! namespace, and the server runs in one below it as the user again. Root has the
//! server run as an account that exists in the hosts only.

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

use self::message::{Account, HostOrder, Order, Reply};
use super::needs::{Hurt, Need};
use super::{HERE, Host, Lab, places, registry};
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

/// Its number where the harness is root: an unprivileged one in a range that neither
/// distributions nor systemd give away (60578 to 61183).
const ROOTS_ACCOUNT: u32 = 60_942;

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
    teardown: &mut Teardown,
) -> Result<Lab> {
    let [_, _] = hosts else {
        bail!(
            "the netns lab carries two hosts, the scenario has {}",
            hosts.len()
        );
    };
    let account = account()?;
    let client_key = Arc::new(keys::generate()?);
    let mut host_keys = Vec::new();
    let mut orders = Vec::new();
    let mut homes = Vec::new();
    for spec in hosts {
        let home = places::home(dir, &spec.name)?;
        if account.is_roots() {
            std::os::unix::fs::chown(&home, Some(account.uid), Some(account.gid))
                .with_context(|| format!("cannot give {} to the hosts", home.display()))?;
        }
        let key = keys::generate()?;
        orders.push(HostOrder {
            name: spec.name.clone(),
            home: home.clone(),
            disk_bytes: spec.share_bytes,
            address: address(orders.len()),
            host_key: pem(&key)?,
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
    let started = tokio::task::spawn_blocking(move || {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (init, sockets) = Init::start(&order, account, homes)?;
        *slot = Some(init);
        Ok::<_, anyhow::Error>(sockets)
    });
    let sockets = started.await??;

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
            machine: HERE.into(),
            probe: None,
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
    let link = PacketLink::up(ends, link)?;
    Ok(Lab {
        name: NAME,
        hosts: up,
        link: Arc::new(link),
        notes: Vec::new(),
    })
}

/// On the wire, which nobody else is on.
fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 1 + index as u8)
}

/// Who the program under test runs as: never root.
fn account() -> Result<Account> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        return Ok(Account {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            nested: true,
        });
    }
    // Who has become root by sudo finds files of their own afterwards.
    let number = |name: &str| -> Option<u32> {
        let number = std::env::var(name).ok()?.parse().ok()?;
        (number != 0).then_some(number)
    };
    let (uid, gid) = match (number("SUDO_UID"), number("SUDO_GID")) {
        (Some(uid), Some(gid)) => (uid, gid),
        _ => (ROOTS_ACCOUNT, ROOTS_ACCOUNT),
    };
    Ok(Account {
        uid,
        gid,
        nested: false,
    })
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
}

impl Init {
    fn start(
        order: &Order,
        account: Account,
        homes: Vec<registry::Home>,
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
        let registered = registry::register(NAME, Some(child.id()), homes)?;
        let init = Self {
            control,
            child,
            registered,
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
            Ok(None) => "its init ended without a word".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        // Also if it does not end: what counts is why it did not come up.
        let _ = init.end();
        bail!("cannot bring the namespaces up: {why}{}", said(complaints));
    }

    /// Ends all hosts and waits until they are gone.
    fn end(mut self) -> Result<()> {
        let _ = message::send(&self.control, &message::End {}, &[]);
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
