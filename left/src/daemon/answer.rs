//! What the daemon answers to those who ask it through the control socket.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::drive::{Input, Word};
use crate::control::{Answer, Request, TrashItem};
use crate::engine::FORGOTTEN;
use crate::events::{REFUSED, Reporter};
use crate::index::{Change, Index, Store};
use crate::path::RelPath;
use crate::share::Share;
use crate::status::for_people;
use crate::trash;
use crate::watcher::Watcher;

/// The engine answers at once, unless it is ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// Enough for a person; a program can narrow it down no further either.
const TRASH_ITEMS_MAX: usize = 10_000;

/// What answers need.
pub(super) struct Answering {
    pub share: Arc<Share>,
    pub index: Arc<Index>,
    pub inputs: SyncSender<Input>,
    pub watcher: Arc<Watcher>,
    pub reporter: Arc<Reporter>,
}

impl Answering {
    pub(super) fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Confirm { set } => self.of_engine(Word::Confirm(set)),
            Request::Join { is_meant } => match self.reporter.problem_of(REFUSED) {
                Some(why) => Answer::Refused(why),
                None => self.of_engine(Word::Join { is_meant }),
            },
            Request::ForgetPeer => self.of_engine(Word::ForgetPeer),
            Request::Status => {
                let status = self.reporter.status();
                // Whoever asks may be in another folder.
                let share = std::path::absolute(self.share.path());
                let share = share.unwrap_or_else(|_| self.share.path().to_owned());
                match serde_json::to_string(&status) {
                    Ok(json) => Answer::Status {
                        json,
                        text: for_people(&status, &share),
                    },
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            other => {
                let answer = answer_from_disk(&self.share, &*self.index, other);
                self.watcher.ask();
                answer
            }
        }
    }

    fn of_engine(&self, word: Word) -> Answer {
        let (answer, answered) = sync_channel(1);
        let sent = self.inputs.send(Input::Asked { word, answer });
        match sent
            .ok()
            .and_then(|()| answered.recv_timeout(PATIENCE).ok())
        {
            Some(Ok(text)) => Answer::Done(text),
            Some(Err(text)) => Answer::Refused(text),
            None => Answer::Refused("the daemon is ending".to_owned()),
        }
    }
}

/// Answers what takes no engine; also where no daemon runs.
pub fn answer_from_disk(share: &Share, index: &impl Store, request: Request) -> Answer {
    match request {
        Request::Status => Answer::Refused("no left runs on the share".to_owned()),
        Request::Confirm { .. } => Answer::Refused(
            "no left runs on the share; start it, and deletions that are held back show in \
             `left status`"
                .to_owned(),
        ),
        Request::Join { .. } => Answer::Refused(
            "no left runs on the share; start it, and what is to be joined shows in `left status`"
                .to_owned(),
        ),
        Request::ForgetPeer => match index.commit(&[Change::Forgotten]) {
            Ok(()) => Answer::Done(FORGOTTEN.to_owned()),
            Err(error) => Answer::Refused(error.to_string()),
        },
        Request::Restore { path } => {
            let path = match RelPath::from_wire(&path) {
                Ok(path) => path,
                Err(error) => {
                    return Answer::Refused(format!(
                        "{} is no path in the share: {error}",
                        crate::path::shown(path.as_bytes())
                    ));
                }
            };
            match trash::restore(share, index, &path) {
                Ok(()) => Answer::Done(format!("{path} is back")),
                Err(error) => Answer::Refused(error.to_string()),
            }
        }
        Request::Trash => match trash::list(index) {
            Ok(all) => {
                let latest = all.into_iter().rev().take(TRASH_ITEMS_MAX);
                Answer::Trash(
                    latest
                        .map(|trashed| TrashItem {
                            path: trashed.path.to_wire(),
                            size: trashed.size,
                            removed: trashed.since,
                        })
                        .collect(),
                )
            }
            Err(error) => Answer::Refused(error.to_string()),
        },
    }
}
