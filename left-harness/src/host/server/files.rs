//! The SFTP side of the embedded server: one thread a channel.
//!
//! The channel's task cuts the stream into requests, a thread answers them with
//! plain file calls, and the task sends the answers: so a slow disk never holds
//! up the connection. Paths are the host's real ones, absolute or relative to its
//! home. Version 3 with the extensions that a safe upload needs.

mod answer;

use bytes::{Buf, Bytes, BytesMut};
use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf};
use russh_sftp::protocol::{Packet, StatusCode};
use tokio::sync::mpsc;

use super::{Shared, exec::farewell, stopped};
use answer::Files;

/// A request with 256 KiB of data and a path; OpenSSH takes as much.
const REQUEST_BYTES_MAX: usize = (256 << 10) + 1024;

/// Requests and answers between the task and the thread.
const QUEUE_MAX: usize = 64;

/// Serves one file channel to its end.
pub(super) async fn serve(shared: &Shared, channel: Channel<Msg>) {
    let (read, write) = channel.split();
    let (requests, to_answer) = mpsc::channel(QUEUE_MAX);
    let (answers, mut answered) = mpsc::channel(QUEUE_MAX);
    let files = Files::new(shared.spec.home.clone());
    let thread = tokio::task::spawn_blocking(move || answer_all(files, to_answer, answers));

    let sending = async {
        while let Some(answer) = answered.recv().await {
            if write.data_bytes(answer).await.is_err() {
                return;
            }
        }
    };
    let mut stopping = shared.stopping.clone();
    tokio::select! {
        () = sending => {}
        () = cut(read, requests) => {}
        () = stopped(&mut stopping) => {}
    }
    // Both ends of its queues are gone, so the thread ends after this request.
    drop(answered);
    let _ = thread.await;
    // Without a status OpenSSH's scp would report a failure.
    farewell(&write, Some(0)).await;
}

/// Cuts the stream into requests until the channel is gone or it is no SFTP.
async fn cut(mut read: ChannelReadHalf, requests: mpsc::Sender<Bytes>) {
    let mut requests = Some(requests);
    let mut stream = BytesMut::new();
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => stream.extend_from_slice(&data),
            // What was asked is still answered; then the other side ends it all.
            Some(ChannelMsg::Eof) => requests = None,
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
        while let Some(length) = stream.first_chunk().map(|head| u32::from_be_bytes(*head)) {
            let length = length as usize;
            if length == 0 || length > REQUEST_BYTES_MAX {
                return;
            }
            if stream.len() < 4 + length {
                break;
            }
            stream.advance(4);
            let request = stream.split_to(length).freeze();
            if let Some(requests) = &requests
                && requests.send(request).await.is_err()
            {
                return;
            }
        }
    }
}

fn answer_all(mut files: Files, mut requests: mpsc::Receiver<Bytes>, answers: mpsc::Sender<Bytes>) {
    while let Some(mut request) = requests.blocking_recv() {
        // The number of the request, wherever the rest of it turns out broken.
        let id = request.get(1..5).and_then(|id| id.try_into().ok());
        let id = id.map_or(0, u32::from_be_bytes);
        let answer = if names_are_text(&request) {
            match Packet::try_from(&mut request) {
                Ok(request) => files.answer(request),
                Err(_) => Packet::error(id, StatusCode::BadMessage),
            }
        } else {
            // The crate would replace what is not text, and name another file.
            let text = "names that are not UTF-8 cannot be addressed here";
            Packet::status(id, StatusCode::Failure, text, "en")
        };
        let Ok(answer) = Bytes::try_from(answer) else {
            return;
        };
        if answers.blocking_send(answer).is_err() {
            return;
        }
    }
}

/// Whether the one or two names in a request are UTF-8.
fn names_are_text(request: &[u8]) -> bool {
    const RENAME: u8 = 18;
    const SYMLINK: u8 = 20;
    let names = match request.first() {
        Some(&(RENAME | SYMLINK)) => 2,
        // OPEN, LSTAT, SETSTAT, OPENDIR, REMOVE … READLINK begin with a name.
        Some(&(3 | 7 | 9 | 11 | 13..=17 | 19)) => 1,
        _ => 0,
    };
    let mut rest = request.get(5..).unwrap_or_default();
    for _ in 0..names {
        let Some((length, after)) = rest.split_first_chunk() else {
            return true;
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((name, after)) = after.split_at_checked(length) else {
            return true;
        };
        if std::str::from_utf8(name).is_err() {
            return false;
        }
        rest = after;
    }
    true
}
