//! A way to a server that takes its time, for hosts that are far away.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A port that leads to `port`: bytes arrive there, and come back, each after `delay`.
/// It goes with the runtime.
pub async fn far(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback is there");
    let own = listener.local_addr().expect("it has an address").port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", port)).await;
            let far = far.expect("the server listens");
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::spawn(late(near_in, far_out, delay));
            tokio::spawn(late(far_in, near_out, delay));
        }
    });
    own
}

async fn late(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    let (queue, mut queued) = tokio::sync::mpsc::channel(1024);
    tokio::spawn(async move {
        loop {
            let mut bytes = vec![0; 64 << 10];
            match from.read(&mut bytes).await {
                Ok(length @ 1..) => bytes.truncate(length),
                _ => return,
            }
            let due = tokio::time::Instant::now() + delay;
            if queue.send((due, bytes)).await.is_err() {
                return;
            }
        }
    });
    while let Some((due, bytes)) = queued.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
