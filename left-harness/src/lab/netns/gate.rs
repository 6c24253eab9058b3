//! A host's door on this machine's loopback, for the user's own client: it has no
//! address that anything out here could reach. Each caller is joined to a connection
//! that the init makes inside; all of them end with the harness.

use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Callers at once.
const CALLERS_MAX: usize = 64;

/// What is on its way in each direction.
const PIECE_BYTES: usize = 64 << 10;

/// Connects to the server of a host, from inside.
pub(super) type Dial = Arc<dyn Fn() -> Result<OwnedFd> + Send + Sync>;

/// Opens a door for each host, in their order: the ports. Whoever drops the tasks
/// closes all doors and ends what goes through them.
pub(super) async fn open(dials: Vec<Dial>) -> Result<(Vec<u16>, JoinSet<()>)> {
    let mut ports = Vec::new();
    let mut tasks = JoinSet::new();
    for dial in dials {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("cannot listen on loopback")?;
        ports.push(listener.local_addr().context("cannot see the port")?.port());
        tasks.spawn(accept(listener, dial));
    }
    Ok((ports, tasks))
}

async fn accept(listener: TcpListener, dial: Dial) {
    let mut callers = JoinSet::new();
    loop {
        let room = callers.len() < CALLERS_MAX;
        tokio::select! {
            accepted = listener.accept(), if room => match accepted {
                Ok((caller, _)) => {
                    callers.spawn(join(caller, dial.clone()));
                }
                // Out of descriptors, most likely: others give theirs back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            _ = callers.join_next(), if !callers.is_empty() => {}
        }
    }
}

/// Carries one connection. A host that cannot be dialled hangs up on its caller, who
/// says so better than anybody here.
async fn join(mut caller: tokio::net::TcpStream, dial: Dial) {
    let dialled = tokio::task::spawn_blocking(move || dial()).await;
    let Ok(Ok(host)) = dialled else { return };
    let host = TcpStream::from(host);
    let host = host
        .set_nonblocking(true)
        .and_then(|()| host.set_nodelay(true))
        .map(|()| host);
    let Ok(mut host) = host.and_then(tokio::net::TcpStream::from_std) else {
        return;
    };
    let _ = caller.set_nodelay(true);
    // An error is the end of one of them.
    let _ = copy_bidirectional_with_sizes(&mut caller, &mut host, PIECE_BYTES, PIECE_BYTES).await;
}
