//! Several pieces of work at once, in the task of who wants them done: a host that is far
//! away answers many questions in the time of one.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Ends when all have ended; what they came to, in their order.
pub async fn all<F: Future>(work: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Option<Pin<Box<F>>>> =
        work.into_iter().map(|one| Some(Box::pin(one))).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (slot, result) in waiting.iter_mut().zip(&mut done) {
            if let Some(one) = slot
                && let Poll::Ready(output) = one.as_mut().poll(context)
            {
                *result = Some(output);
                *slot = None;
            }
        }
        match waiting.iter().all(Option::is_none) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// The same for work that can fail. None of it is given up for the failure of another;
/// the first failure in their order is told.
///
/// # Errors
/// If one of them fails.
pub async fn all_good<F, T, E>(work: impl IntoIterator<Item = F>) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    all(work).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_waits_for_one_another_comes_to_its_end_in_its_own_order() {
        let barrier = tokio::sync::Barrier::new(3);
        let work = (0..3).map(|number| {
            let barrier = &barrier;
            async move {
                barrier.wait().await;
                number
            }
        });
        assert_eq!(all(work).await, [0, 1, 2]);
        let none: [std::future::Ready<()>; 0] = [];
        assert_eq!(all(none).await, []);
    }

    #[tokio::test]
    async fn a_failure_gives_nothing_else_up_and_the_first_one_is_told() {
        let ended = AtomicU32::new(0);
        let work = [Ok(1), Err("first"), Err("second"), Ok(2)].map(|result| {
            let ended = &ended;
            async move {
                tokio::task::yield_now().await;
                ended.fetch_add(1, Ordering::Relaxed);
                result
            }
        });
        assert_eq!(all_good(work).await, Err("first"));
        assert_eq!(ended.load(Ordering::Relaxed), 4);
    }
}
