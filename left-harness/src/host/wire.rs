//! The socket below a connection, made so that writing to it never waits.
//!
//! russh serves a connection by one loop, which does not read while it writes.
//! If both ends do so, and both send much at once, each waits for the other to
//! read, for ever. So what is to be sent goes into a queue here, a task of its
//! own writes it out, and the loop always comes back to reading. The queue stays
//! small: SSH's windows allow 2 MiB a channel on their way, replies come on top.
//! What the stream takes at once does not go through the queue at all.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

/// More than all windows of a connection allow; beyond it something is broken.
const QUEUED_BYTES_MAX: usize = 512 << 20;

/// How long the rest of the queue may take once the connection has ended.
const REST_DEADLINE: Duration = Duration::from_secs(2);

/// A stream that takes every write at once.
pub struct Wire<S> {
    read: ReadHalf<S>,
    out: Out<S>,
    queue: Option<mpsc::UnboundedSender<Vec<u8>>>,
    queued_bytes: Arc<AtomicUsize>,
    /// `None` once it was cut.
    cut: Option<oneshot::Receiver<()>>,
}

/// The writing side. Only one end uses it at a time: the queue's task while something
/// is queued, else the wire itself; so nobody waits for the lock.
type Out<S> = Arc<Mutex<WriteHalf<S>>>;

/// Dropping it cuts the wire, whatever is going on.
pub struct Cut {
    _reader: oneshot::Sender<()>,
    _writer: oneshot::Sender<()>,
}

/// Puts a queue in front of a stream.
pub fn wire<S>(stream: S) -> (Wire<S>, Cut)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let (queue, queued) = mpsc::unbounded_channel();
    let (cut_reader, reader_cut) = oneshot::channel();
    let (cut_writer, writer_cut) = oneshot::channel();
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let out = Arc::new(Mutex::new(write));
    let writing = write_out(out.clone(), queued, queued_bytes.clone(), writer_cut);
    tokio::spawn(writing);
    let wire = Wire {
        read,
        out,
        queue: Some(queue),
        queued_bytes,
        cut: Some(reader_cut),
    };
    let cut = Cut {
        _reader: cut_reader,
        _writer: cut_writer,
    };
    (wire, cut)
}

async fn write_out<S: AsyncWrite>(
    out: Out<S>,
    mut queued: mpsc::UnboundedReceiver<Vec<u8>>,
    queued_bytes: Arc<AtomicUsize>,
    mut cut: oneshot::Receiver<()>,
) {
    let writing = async {
        while let Some(bytes) = queued.recv().await {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let written = poll_fn(|context| match out.lock() {
                    Ok(mut out) => Pin::new(&mut *out).poll_write(context, rest),
                    Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                });
                match written.await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    length => rest = &rest[length..],
                }
            }
            // Behind this line the wire may write by itself.
            queued_bytes.fetch_sub(bytes.len(), Ordering::Release);
        }
        poll_fn(|context| match out.lock() {
            Ok(mut out) => Pin::new(&mut *out).poll_shutdown(context),
            Err(_) => Poll::Ready(Ok(())),
        })
        .await
    };
    tokio::pin!(writing);
    tokio::select! {
        // An error here is seen by the reader as the end of the stream.
        _ = &mut writing => return,
        _ = &mut cut => {}
    }
    // Cut: the farewell may still go out, nothing waits for it.
    let _ = tokio::time::timeout(REST_DEADLINE, writing).await;
}

impl<S: AsyncRead> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let cut = match &mut self.cut {
            Some(cut) => Pin::new(cut).poll(context).is_ready(),
            None => true,
        };
        if cut {
            self.cut = None;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.read).poll_read(context, into)
    }
}

impl<S: AsyncWrite> Wire<S> {
    /// What the stream takes right now, if nothing waits in front of it.
    fn write_at_once(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        if self.queue.is_none() || self.queued_bytes.load(Ordering::Acquire) > 0 {
            return None;
        }
        // Nobody is to be woken: what is not taken now goes into the queue.
        let mut context = Context::from_waker(Waker::noop());
        let mut out = self.out.try_lock().ok()?;
        match Pin::new(&mut *out).poll_write(&mut context, bytes) {
            Poll::Ready(Ok(0)) | Poll::Pending => None,
            Poll::Ready(written) => Some(written),
        }
    }
}

impl<S: AsyncWrite> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(written) = self.write_at_once(bytes) {
            return Poll::Ready(written);
        }
        let sent = match &self.queue {
            Some(queue) if self.queued_bytes.load(Ordering::Relaxed) < QUEUED_BYTES_MAX => {
                self.queued_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
                queue.send(bytes.to_vec()).is_ok()
            }
            Some(_) => return Poll::Ready(Err(io::Error::other("the host takes nothing in"))),
            None => false,
        };
        Poll::Ready(if sent {
            Ok(bytes.len())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The writer never holds anything back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue = None;
        Poll::Ready(Ok(()))
    }
}
