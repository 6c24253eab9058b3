//! Writes that are on their way to the host.

use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::task::Poll;

use russh_sftp::client::error::Error;

/// Writes that are not answered yet. They are no tasks: whoever sends them takes their
/// answers, and what is dropped with it is asked for no more.
pub(super) struct Writes<'a>(Vec<Write<'a>>);

/// Done with the number of its bytes.
type Write<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

impl<'a> Writes<'a> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sends one more, and waits for nothing.
    pub(super) async fn send(
        &mut self,
        write: impl Future<Output = Result<u64, Error>> + Send + 'a,
    ) {
        let mut write: Write = Box::pin(write);
        // It is sent by the first look at it.
        let looked = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
        self.0.push(match looked {
            Poll::Ready(done) => Box::pin(ready(done)),
            Poll::Pending => write,
        });
    }

    /// The answer that comes first, which need not be the one to the oldest. There must
    /// be something to wait for.
    pub(super) async fn answered(&mut self) -> Result<u64, Error> {
        let (at, answer) = poll_fn(|context| {
            let looked = self.0.iter_mut().enumerate().find_map(|(at, write)| {
                match write.as_mut().poll(context) {
                    Poll::Ready(answer) => Some((at, answer)),
                    Poll::Pending => None,
                }
            });
            looked.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        drop(self.0.remove(at));
        answer
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A write whose answer comes when it is given, and whether it was sent.
    fn write() -> (
        oneshot::Sender<u64>,
        oneshot::Receiver<()>,
        impl Future<Output = Result<u64, Error>>,
    ) {
        let (answer, answered) = oneshot::channel();
        let (sent, was_sent) = oneshot::channel();
        let write = async move {
            sent.send(()).unwrap();
            answered.await.map_err(|_| Error::UnexpectedPacket)
        };
        (answer, was_sent, write)
    }

    #[tokio::test]
    async fn a_write_is_sent_before_anybody_waits_for_it() {
        let mut writes = Writes::new();
        let (_answer, mut was_sent, write) = write();
        assert!(was_sent.try_recv().is_err());
        writes.send(write).await;
        assert!(was_sent.try_recv().is_ok());
        assert_eq!(writes.len(), 1);
    }

    #[tokio::test]
    async fn answers_count_in_the_order_they_come_in() {
        let mut writes = Writes::new();
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (answer, _sent, write) = write();
            writes.send(write).await;
            answers.push(answer);
        }
        let (last, second) = (answers.pop().unwrap(), answers.pop().unwrap());
        last.send(3).unwrap();
        assert_eq!(writes.answered().await.unwrap(), 3);
        // Also one that comes only while somebody waits.
        let waiting = async { writes.answered().await.unwrap() };
        let late = async {
            tokio::task::yield_now().await;
            second.send(2).unwrap();
        };
        assert_eq!(tokio::join!(waiting, late).0, 2);
        drop(answers);
        assert!(writes.answered().await.is_err());
        assert_eq!(writes.len(), 0);
    }

    #[tokio::test]
    async fn a_write_that_is_done_at_once_is_waited_for_like_any_other() {
        let mut writes = Writes::new();
        writes.send(ready(Ok(7))).await;
        assert_eq!(writes.len(), 1);
        assert_eq!(writes.answered().await.unwrap(), 7);
    }
}
