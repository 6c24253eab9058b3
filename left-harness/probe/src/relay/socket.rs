//! Sockets as the wire needs them: their buffers small and fixed, their end a reset.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_linger, set_socket_recv_buffer_size, set_socket_reuseaddr,
    set_socket_send_buffer_size, set_tcp_nodelay, socket_error,
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// Towards the program. What waits in the one towards a killed receiver has been
/// counted, so it is as small as full speed allows. The kernel doubles it.
pub const PROGRAM_BUFFER_BYTES: usize = 64 << 10;
/// Between the relays. What waits here is not counted yet; it must cover a round trip.
pub const TUNNEL_BUFFER_BYTES: usize = 1 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens; what is accepted there has the same buffers and the same end.
pub fn listen(address: SocketAddr, buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = socket(address, buffer_bytes)?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Begins to connect, see [`connected`].
pub fn dial(source: IpAddr, address: SocketAddr, buffer_bytes: usize) -> io::Result<TcpStream> {
    let socket = socket(address, buffer_bytes)?;
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// What has come of [`dial`], once the socket can be written to.
pub fn connected(stream: &TcpStream) -> io::Result<()> {
    Ok(socket_error(stream)??)
}

/// What was accepted, made ready for use.
pub fn accepted(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)
}

/// From now on closing it is an end in order.
pub fn close_in_order(stream: &TcpStream) {
    // A socket that refuses is dead already, with nobody left to tell.
    let _ = set_socket_linger(stream, None);
}

/// What is known of whoever is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Nothing speaks against it being there.
    There,
    /// It has closed at least its sending half, and all that it sent has been read.
    Closed,
    /// It is gone. This is told only once: afterwards it looks closed.
    Gone,
}

/// Looks, and takes nothing.
pub fn other(stream: &TcpStream) -> Other {
    let mut byte = [0; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(stream, &mut byte, flags) {
        Ok((_, 0)) => Other::Closed,
        Ok(_) | Err(Errno::WOULDBLOCK | Errno::INTR) => Other::There,
        Err(_) => Other::Gone,
    }
}

fn socket(address: SocketAddr, buffer_bytes: usize) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Dropped is reset, for whatever reason, also when this process is killed.
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    // Before listening or dialling: TCP settles its window scale then.
    set_socket_send_buffer_size(&socket, buffer_bytes)?;
    set_socket_recv_buffer_size(&socket, buffer_bytes)?;
    set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}
