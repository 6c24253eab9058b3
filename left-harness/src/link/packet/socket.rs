//! The socket at the wire's end of a host: every frame of one interface.
//!
//! Plain blocking system calls and no runtime, so that whatever lives in the
//! right network namespace can open it and pass it on.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// What may wait on either side of the socket. Some hundred of the largest
/// frames: a moment in which this process does not get a processor.
const BUFFER_BYTES: usize = 16 << 20;

/// Opens what the wire's end of a host is made of: a non-blocking packet socket
/// that gets and sends whole frames of `interface`, in the network namespace of
/// the calling thread, each behind a header that says how far its checksum and
/// its segments are done (`PACKET_VNET_HDR`). Its own frames it does not see.
///
/// # Errors
/// If there is no such interface, or `CAP_NET_RAW` is missing in this namespace.
pub fn open(interface: &str) -> anyhow::Result<OwnedFd> {
    open_raw(interface).with_context(|| format!("cannot open a packet socket on {interface}"))
}

fn open_raw(interface: &str) -> io::Result<OwnedFd> {
    // Protocol 0 receives nothing: no frame of another interface gets in before
    // it is bound, and none without its header.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    switch_on(socket.as_fd(), libc::PACKET_VNET_HDR)?;
    switch_on(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING)?;
    // Beyond the system's limit where that is allowed, else as far as it goes.
    if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    }
    bind(socket.as_fd(), index)?;
    Ok(socket)
}

/// Sets an option of packet sockets to 1.
#[allow(unsafe_code, reason = "rustix does not know these options")]
fn switch_on(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads
    // as many bytes from `on` as it has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Binds to all protocols of the interface with this index.
#[allow(unsafe_code, reason = "rustix does not know this kind of address")]
fn bind(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads
    // as many bytes from `address` as it has.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of_val(&address) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
