//! What the harness and the init of the namespaces say to each other: one JSON text a
//! packet of a local socket, with descriptors beside it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Keys and paths of a few hosts are a tenth of it.
const BYTES_MAX: usize = 64 << 10;

/// Two for each host, of which there are two.
const DESCRIPTORS_MAX: usize = 8;

/// What the init is to make.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// In the scenario's order.
    pub hosts: Vec<HostOrder>,
}

/// A host that is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostOrder {
    /// `a`
    pub name: String,
    /// The folder of this machine that is the host's own.
    pub home: PathBuf,
    /// How large the share's own disk is, if it has one.
    pub disk_bytes: Option<u64>,
    /// On the wire.
    pub address: Ipv4Addr,
    /// The server's key, as OpenSSH keeps it.
    pub host_key: String,
    /// The server's program, which wants to be called by its full path.
    pub sshd: PathBuf,
    /// The one key that lets in.
    pub authorized: String,
    /// Who logs in.
    pub account: Account,
}

/// Who the server runs as, and everything that it runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Account {
    /// Never 0.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The init is root of a user namespace only: the server runs in one below it.
    pub nested: bool,
}

impl Account {
    /// Root has given it away.
    pub fn is_roots(self) -> bool {
        !self.nested
    }
}

/// What came of an order.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// All hosts are up; for each a socket to its server and its end of the wire.
    Up,
    /// One more connection to the server that was asked for, which comes with it.
    Dialled,
    /// It was not done, and why.
    Failed(String),
}

/// What is wanted of an init whose hosts are up.
#[derive(Debug, Serialize, Deserialize)]
pub enum Wish {
    /// One more connection to the server of the host with this place in the order.
    Dial(usize),
    /// The lab is not needed any more.
    End,
}

/// No answer takes longer than this.
///
/// # Errors
/// If it is no socket.
pub fn deadline(socket: &OwnedFd, within: Duration) -> Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(within)).context("cannot set a deadline")
}

/// Says something, and passes descriptors with it.
///
/// # Errors
/// If nobody hears it.
pub fn send<T: Serialize>(socket: &OwnedFd, what: &T, passed: &[BorrowedFd<'_>]) -> Result<()> {
    let text = serde_json::to_vec(what)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !passed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(passed)) {
        anyhow::bail!("too many descriptors for one message");
    }
    // Who has gone is an error, not a signal.
    let flags = SendFlags::NOSIGNAL;
    sendmsg(socket.as_fd(), &[IoSlice::new(&text)], &mut control, flags)
        .context("the other end is gone")?;
    Ok(())
}

/// Hears something, with the descriptors that came with it; `None` when the other end
/// is closed.
///
/// # Errors
/// If it takes too long, or makes no sense.
pub fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut text)];
    let received = recvmsg(
        socket.as_fd(),
        &mut slices,
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let received = match received {
        Err(rustix::io::Errno::AGAIN) => anyhow::bail!("no answer in time"),
        received => received.context("cannot hear the other end")?,
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut passed = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.extend(descriptors);
        }
    }
    let heard = serde_json::from_slice(&text[..received.bytes]);
    Ok(Some((
        heard.context("the other end talks nonsense")?,
        passed,
    )))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair")
    }

    #[test]
    fn descriptors_arrive_with_what_is_said_about_them() {
        let (near, far) = pair();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        send(&near, &Reply::Up, &[writer.as_fd()]).expect("sent");
        drop(writer);
        let (reply, passed) = receive::<Reply>(&far).expect("heard").expect("not closed");
        assert!(matches!(reply, Reply::Up));
        let [passed]: [OwnedFd; 1] = passed.try_into().expect("one descriptor");
        std::fs::File::from(passed)
            .write_all(b"through")
            .expect("it is the pipe");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }

    #[test]
    fn a_closed_end_silence_and_nonsense_are_told_apart() {
        let (near, far) = pair();
        deadline(&far, Duration::from_millis(10)).expect("set");
        let error = receive::<Reply>(&far).expect_err("silence");
        assert!(format!("{error:#}").contains("in time"), "{error:#}");
        rustix::io::write(&near, b"{").expect("written");
        let error = receive::<Reply>(&far).expect_err("nonsense");
        assert!(format!("{error:#}").contains("nonsense"), "{error:#}");
        drop(near);
        assert!(receive::<Reply>(&far).expect("an end").is_none());
    }
}
