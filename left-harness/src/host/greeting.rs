//! What a server calls itself before anything else is said, overheard on the way to
//! those who talk with it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A greeting is a line of at most 255 bytes, which others may precede.
const GREETING_BYTES_MAX: usize = 1024;

/// A stream of which the first bytes are overheard.
pub(super) struct Overheard<S> {
    stream: S,
    greeting: Greeting,
}

/// The first bytes that came over a stream.
#[derive(Clone, Default)]
pub(super) struct Greeting(Arc<Mutex<Vec<u8>>>);

impl Greeting {
    /// Whether programs that run at the same time need a connection each.
    ///
    /// dropbear of the years 2022 to 2024 takes a channel that is only just open for one
    /// whose program has ended, if the program of another channel ends in that moment: it
    /// closes the new one, or breaks down over it.
    pub(super) fn is_of_one_program(&self) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&heard);
        let mut names = text
            .lines()
            .filter_map(|line| line.strip_prefix("SSH-2.0-"));
        let Some(rest) = names.next().and_then(|name| name.strip_prefix("dropbear")) else {
            return false;
        };
        let year = rest.trim_start_matches('_').split('.').next();
        // One that does not tell its year may be of any.
        let year = year.and_then(|year| year.parse::<u32>().ok());
        year.is_none_or(|year| (2022..2025).contains(&year))
    }
}

/// Overhears what a stream says first.
pub(super) fn overhear<S>(stream: S) -> (Overheard<S>, Greeting) {
    let greeting = Greeting::default();
    let overheard = Overheard {
        stream,
        greeting: greeting.clone(),
    };
    (overheard, greeting)
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let mut heard = (self.greeting.0.lock()).unwrap_or_else(PoisonError::into_inner);
        if heard.len() < GREETING_BYTES_MAX {
            let new = &buffer.filled()[before..];
            let room = GREETING_BYTES_MAX - heard.len();
            heard.extend_from_slice(&new[..new.len().min(room)]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_server_is_known_by_its_greeting() {
        for (says, is_of_one_program) in [
            ("SSH-2.0-dropbear_2022.83\r\n", true),
            ("hello\r\nSSH-2.0-dropbear_2024.86\r\n", true),
            ("SSH-2.0-dropbear\r\n", true),
            ("SSH-2.0-dropbear_2025.87\r\n", false),
            ("SSH-2.0-dropbear_2020.81\r\n", false),
            ("SSH-2.0-OpenSSH_9.2p1 dropbear\r\n", false),
            ("", false),
        ] {
            let (mut far, near) = tokio::io::duplex(64);
            let (mut near, greeting) = overhear(near);
            far.write_all(says.as_bytes()).await.expect("it is open");
            drop(far);
            let mut passed = String::new();
            near.read_to_string(&mut passed).await.expect("it is open");
            assert_eq!(passed, says);
            assert_eq!(greeting.is_of_one_program(), is_of_one_program, "{says}");
        }
    }
}
