//! TCP sockets as this program wants them: no delay for small messages, dead
//! peers noticed, and dialled from the address it listens on.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// How long dialling may take; a peer that is there answers within it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sent bytes that nobody acknowledges for this long end the connection.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// Listens; the caller accepts.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // The standard library sets SO_REUSEADDR, so a restart gets its port back.
    TcpListener::bind(address)
}

/// Dials. The source is the address this side listens on, if it is a certain
/// one, because that is where the peer expects us to come from.
pub fn dial(peer: SocketAddr, source: IpAddr) -> io::Result<TcpStream> {
    let family = match peer {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if !source.is_unspecified() && source.is_ipv4() == peer.is_ipv4() {
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    match rustix::net::connect(&socket, &peer) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => wait_connected(&socket)?,
        Err(errno) => return Err(errno.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    prepare(&stream)?;
    // On loopback a socket can meet itself when its source port is the one
    // it dials.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nobody listens there",
        ));
    }
    Ok(stream)
}

fn wait_connected(socket: &OwnedFd) -> io::Result<()> {
    let timeout = rustix::time::Timespec {
        tv_sec: CONNECT_TIMEOUT.as_secs() as i64,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    match poll(&mut polled, Some(&timeout)) {
        Ok(0) => {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer to dialling",
            ));
        }
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    sockopt::socket_error(socket)?.map_err(io::Error::from)
}

/// Sets what every connection has, dialled or accepted.
///
/// Buffers are left to the kernel's own tuning: the receiver never has more
/// than its window asked for, so they cannot hold more than that.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 2)?;
    sockopt::set_tcp_user_timeout(stream, DEAD_AFTER.as_millis() as u32)?;
    Ok(())
}
