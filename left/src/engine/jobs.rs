//! What is done about the wants, and what comes of it.

use super::again::{RETRY_MAX, RETRY_SOON_MAX};
use super::listing::doom_if_theirs;
use super::removals::Inside;
use super::{Action, Engine, IN_FLIGHT_MAX, News, PAGE_WANTS, Stage};
use crate::apply::{Elsewhere, How, Job, Outcome, Source};
use crate::entry::{Body, ContentId};
use crate::index::{Change, IndexError, Store, Trashed};
use crate::merge::changed_here;
use crate::path::RelPath;
use crate::plan::{Decision, plan};
use crate::planted::{Bug, makes};
use crate::transfer::blocks::BLOCK_BYTES_MIN;
use crate::transfer::receive::Missed;

impl<S: Store> Engine<S> {
    /// Starts what can be started for the wants, in the order of paths, so
    /// that folders come before what is in them.
    pub(super) fn dispatch(&mut self) -> Result<(), IndexError> {
        loop {
            self.wants_pass()?;
            // Where only some may be on their way, a walk goes to its end before the next.
            let once_more = self.slow.is_some() && self.wants.is_to_begin_again();
            if std::mem::take(&mut self.revived) {
                self.look_at_all_wants();
            } else if !once_more {
                return Ok(());
            }
        }
    }

    fn wants_pass(&mut self) -> Result<(), IndexError> {
        // Before the first look is complete, what lies here is not known yet.
        let session = self.joined().filter(|session| session.receives);
        let Some(session) = session.map(|session| session.id).filter(|_| self.scanned) else {
            return Ok(());
        };
        let index = self.store.clone();
        let mut changes = Vec::new();
        if self.slow.is_none() || self.wants.at_end {
            self.wants.begin_again(self.now, self.in_flight.is_empty());
        }
        let (mut looked_at, before) = (0, self.in_flight.len());
        let most = self.in_flight_max();
        'pages: while !self.wants.at_end && self.in_flight.len() < most {
            let page = index.wants_after(self.wants.cursor.as_ref(), PAGE_WANTS)?;
            if page.is_empty() {
                self.wants.at_end = true;
                break;
            }
            for (path, theirs) in page {
                if self.in_flight.len() >= most {
                    break 'pages;
                }
                looked_at += 1;
                self.wants.cursor = Some(path.clone());
                if self.in_flight.contains_key(&path) || self.is_delayed(&path) {
                    continue;
                }
                let known = index.get(&path)?;
                let decision = plan(known.as_ref().map(|record| &record.entry), &theirs);
                let (how, target) = match decision {
                    Decision::Nothing => {
                        changes.push(Change::Unwant { path });
                        continue;
                    }
                    Decision::Record(entry) => {
                        self.record(&mut changes, &path, known, entry);
                        changes.push(Change::Unwant { path });
                        self.unlisted = true;
                        continue;
                    }
                    // A want that is no tombstone removes nothing.
                    Decision::Wait | Decision::Remove(_) => continue,
                    Decision::SetMetadata(entry) | Decision::Blend(entry) => {
                        (How::SetMetadata, entry)
                    }
                    Decision::Install(entry) => (How::Install, entry),
                    Decision::InstallKeepingOurs(entry) => (How::InstallKeepingOurs, entry),
                };
                if known
                    .as_ref()
                    .is_some_and(|known| known.entry.body == Body::Dir)
                    && target.body != Body::Dir
                {
                    match self.inside(&path)? {
                        Inside::Nothing => {}
                        Inside::Leaving | Inside::OnItsWay => continue,
                        Inside::Stays => {
                            if let Some(known) = known {
                                self.revive(&mut changes, path, known)?;
                            }
                            continue;
                        }
                    }
                }
                let mut job = Job {
                    path: path.clone(),
                    known,
                    theirs,
                    target,
                    how,
                    slot: 0,
                    source: None,
                };
                let content = job.content();
                if content.is_some_and(|(_, size)| size <= BLOCK_BYTES_MIN) {
                    job.slot = self.next_slot();
                }
                let owned = owned_content(&job);
                if owned.is_some_and(|id| self.contents.contains(&id)) {
                    // The same content is on its way for another path, and
                    // this part has one owner.
                    continue;
                }
                if let Some((id, size)) = content.filter(|(_, size)| *size > 0) {
                    match self.source_here(&path, id, size)? {
                        Here::Soon => continue,
                        Here::At(source) => job.source = Some(source),
                        Here::Nowhere => {}
                    }
                }
                let is_long_copy = is_long_copy(&job);
                if is_long_copy && self.copies() >= COPIES_MAX {
                    // Its turn comes; others need not wait for it.
                    continue;
                }
                self.contents.extend(owned);
                match content {
                    _ if is_long_copy => {
                        self.in_flight.insert(path, Stage::Copying(owned));
                        self.actions.push(Action::Copy(Box::new(job)));
                    }
                    Some((_, size)) if size > 0 && job.source.is_none() => {
                        self.in_flight.insert(path, Stage::Fetching(owned));
                        let job = Box::new(job);
                        self.actions.push(Action::Fetch { session, job });
                    }
                    // Nothing has to be received.
                    _ => self.hand_to_applier(job, 0),
                }
            }
            index.commit(&std::mem::take(&mut changes))?;
        }
        self.wants.count(looked_at, self.in_flight.len() - before);
        self.unlisted |= self.revived;
        index.commit(&changes)
    }

    /// Where this side has a content already: renamed, copied, or thrown away.
    fn source_here(&self, path: &RelPath, id: ContentId, size: u64) -> Result<Here, IndexError> {
        let failed = self.not_here.get(path).copied().unwrap_or(0);
        if failed >= SOURCE_TRIES {
            return Ok(Here::Nowhere);
        }
        if let Some((name, trashed)) = self.store.trashed_as(id)? {
            return Ok(Here::At(Source::Trash(name, trashed)));
        }
        for other in self.store.paths_of(id, SOURCES_MAX)? {
            let Some(record) = self.store.get(&other)?.filter(|_| other != *path) else {
                continue;
            };
            let same = matches!(&record.entry.body, Body::File { id: had, size: len, .. }
                if *had == id && *len == size);
            if !same {
                continue;
            }
            let may_go = !self.guard.holds() && !self.is_delayed(&other);
            if may_go && self.is_to_go(&other, &record.entry)? {
                // From the trash it need not be copied.
                return Ok(Here::Soon);
            }
            if let Some(stamp) = record
                .stamp
                .filter(|_| !self.in_flight.contains_key(&other))
            {
                return Ok(Here::At(Source::Path(other, stamp)));
            }
        }
        Ok(Here::Nowhere)
    }

    pub(super) fn next_slot(&mut self) -> u32 {
        self.last_slot = self.last_slot.checked_add(1).unwrap_or(1);
        self.last_slot
    }

    /// Lets the job be done; so much was received for it.
    pub(super) fn hand_to_applier(&mut self, job: Job, landing_bytes: u64) {
        self.landing_bytes += landing_bytes;
        let stage = Stage::Applying {
            content: owned_content(&job),
            landing_bytes,
        };
        self.in_flight.insert(job.path.clone(), stage);
        self.actions.push(Action::Apply(Box::new(job)));
    }

    pub(super) fn take_fetched(
        &mut self,
        session: u64,
        job: Job,
        result: Result<(), Missed>,
    ) -> Result<(), IndexError> {
        if !matches!(self.in_flight.get(&job.path), Some(Stage::Fetching(_))) {
            return Ok(());
        }
        let here = self
            .session
            .as_ref()
            .is_some_and(|known| known.id == session);
        match result {
            Ok(()) => self.take_complete(job)?,
            Err(missed) => {
                self.finish(&job);
                if !self.is_wanted(&job.path)? {
                    self.look_at_all_removals();
                }
                let small = job.part().filter(|id| id.slot != 0);
                self.actions.extend(small.map(Action::RemovePart));
                if !here {
                    return Ok(());
                }
                match missed {
                    // Whatever it has instead it lists; what it ignores now it does not.
                    Missed::Gone => {
                        let path = job.path;
                        if self.store.want(&path)?.as_ref() == Some(&job.theirs) {
                            self.store
                                .commit(&[Change::Unwant { path: path.clone() }])?;
                        }
                        self.undelay(&path);
                        self.look_at_all_wants();
                        self.look_at_all_removals();
                    }
                    // A newer version is listed as soon as the peer has seen it.
                    Missed::Superseded => drop(self.delay(&job.path, RETRY_SOON_MAX)),
                    Missed::Unsound => {
                        let text = format!(
                            "what the peer sent for {} is not what it offered; it is tried again",
                            job.path
                        );
                        self.tell_problem(job.path.as_bytes(), text);
                        self.delay(&job.path, RETRY_MAX);
                    }
                    Missed::Disk(error) => self.fail(&job, &error),
                }
            }
        }
        Ok(())
    }

    fn copies(&self) -> usize {
        let stages = self.in_flight.values();
        stages
            .filter(|stage| matches!(stage, Stage::Copying(_)))
            .count()
    }

    pub(super) fn take_copied(&mut self, job: Job) -> Result<(), IndexError> {
        if !matches!(self.in_flight.get(&job.path), Some(Stage::Copying(_))) {
            return Ok(());
        }
        let Some(Source::Trash(name, trashed)) = job.source else {
            // Nothing is left to be had from there.
            let job = Job {
                source: None,
                ..job
            };
            return self.take_complete(job);
        };
        // Also if nobody wants it any more: from its path it comes back to the trash.
        let job = Job {
            source: Some(Source::Moved(name, trashed)),
            ..job
        };
        self.hand_to_applier(job, 0);
        Ok(())
    }

    /// The part of a job is complete.
    fn take_complete(&mut self, job: Job) -> Result<(), IndexError> {
        // The peer deleted it meanwhile; a version that was only replaced is whole
        // and comes first, so that a busy file does arrive.
        if self.is_wanted(&job.path)? {
            // Whether received or copied: it need not come any more.
            let size = job.content().map_or(0, |(_, size)| size);
            self.hand_to_applier(job, size);
            return Ok(());
        }
        self.actions.extend(job.part().map(Action::RemovePart));
        self.finish(&job);
        self.look_at_all_removals();
        Ok(())
    }

    pub(super) fn is_wanted(&self, path: &RelPath) -> Result<bool, IndexError> {
        let want = self.store.want(path)?;
        Ok(want.is_some_and(|want| !want.is_deleted()))
    }

    pub(super) fn take_applied(&mut self, results: Vec<(Job, Outcome)>) -> Result<(), IndexError> {
        let index = self.store.clone();
        let mut changes = Vec::new();
        let mut completed = Vec::new();
        let (mut removals, mut removed) = (false, false);
        for (job, outcome) in results {
            removed |= matches!(outcome, Outcome::Removed(_));
            let dropped = self
                .is_ignored_after(&job, &outcome)
                .then(|| job.path.clone());
            // It may have become one that is to go while its job was under way.
            removals |= match job.how {
                How::Remove => !matches!(outcome, Outcome::Removed(_)),
                _ => !self.is_wanted(&job.path)?,
            };
            let stage = self.finish(&job);
            if matches!(stage, Some(Stage::Removing { counts: true }))
                && !matches!(outcome, Outcome::Removed(_))
            {
                // It will be counted when it is tried again.
                self.guard.count_back();
            }
            if let Some(id) = job.part() {
                changes.push(Change::Forget { id });
            }
            // What stands in the way may be what an earlier attempt, of which there is no
            // record, has put there.
            if !matches!(outcome, Outcome::Changed) {
                changes.push(Change::Ended {
                    path: job.path.clone(),
                });
            }
            if let Some(Source::Trash(name, trashed) | Source::Moved(name, trashed)) = &job.source {
                let name = name.clone();
                changes.push(Change::Untrash { name: name.clone() });
                if matches!(outcome, Outcome::NotHere(Elsewhere::Another)) {
                    // What lies there is kept, but it is not what it seemed to be.
                    let trashed = Trashed {
                        id: None,
                        ..trashed.clone()
                    };
                    changes.push(Change::Trash { name, trashed });
                }
                if matches!(outcome, Outcome::Done { .. }) {
                    // What seemed to be removed was renamed.
                    self.guard.count_back();
                }
            }
            match outcome {
                Outcome::NotHere(_) => {
                    // What was moved meanwhile is elsewhere now.
                    *self.not_here.entry(job.path.clone()).or_default() += 1;
                }
                Outcome::NotEmpty(name) => self.take_not_empty(&mut changes, &job, name)?,
                Outcome::Removed(trashed) => {
                    self.undelay(&job.path);
                    if let Some((name, trashed)) = trashed {
                        changes.push(Change::Removed { name: name.clone() });
                        changes.push(Change::Trash { name, trashed });
                    }
                    let mut entry = job.target.clone();
                    if job.is_change_of_ours() {
                        let number = self.next_number(&changes)?;
                        entry.version = entry.version.raised(index.replica(), number);
                    }
                    changes.push(Change::Put {
                        path: job.path.clone(),
                        entry,
                        stamp: None,
                    });
                    // Not if the peer, who listed it, has lost its index since then: it
                    // may not know of the tombstone, and has to hear of it.
                    if index.want(&job.path)?.as_ref() == Some(&job.theirs) {
                        doom_if_theirs(&mut changes, &job.path, &job.theirs);
                        changes.push(Change::Unwant {
                            path: job.path.clone(),
                        });
                    }
                    completed.push((job, None));
                }
                Outcome::Done { stamp, copy } => {
                    self.undelay(&job.path);
                    self.not_here.remove(&job.path);
                    let mut entry = job.target.clone();
                    if job.is_change_of_ours() {
                        let number = self.next_number(&changes)?;
                        entry.version = entry.version.raised(index.replica(), number);
                    } else if makes(Bug::AdoptsNoVector) {
                        let known = job.known.as_ref().map(|known| &known.entry);
                        let (here, number) = (index.replica(), index.seq()? + 1000);
                        entry = changed_here(known, entry.body, entry.mode, here, number);
                    }
                    changes.push(Change::Put {
                        path: job.path.clone(),
                        entry,
                        stamp: Some(stamp),
                    });
                    // Unless the peer listed another version meanwhile.
                    if index
                        .want(&job.path)?
                        .is_some_and(|want| want == job.theirs)
                    {
                        changes.push(Change::Unwant {
                            path: job.path.clone(),
                        });
                    }
                    completed.push((job, copy));
                }
                Outcome::Changed => self.take_changed(&job),
                Outcome::Failed(error) => self.fail(&job, &error),
            }
            if let Some(path) = dropped {
                self.undelay(&path);
                changes.push(Change::Drop { path });
            }
        }
        index.commit(&changes)?;
        if !completed.is_empty() {
            self.speed_up();
        }
        for (job, copy) in completed {
            let path = job.path;
            self.tell(News::Solved(path.clone()));
            if let Some(copy) = copy {
                let path = path.clone();
                self.tell(News::Conflict { path, copy });
                self.actions.push(Action::LookAgain);
            }
            let size = match &job.target.body {
                Body::File { size, .. } => *size,
                _ => 0,
            };
            self.tell(News::Complete { path, size });
        }
        self.unlisted = true;
        self.look_at_all_wants();
        if removals {
            self.look_at_all_removals();
        } else if removed {
            self.go_on_with_removals();
        }
        Ok(())
    }

    /// Whether what a job was at work on has become ignored meanwhile.
    fn is_ignored_after(&self, job: &Job, outcome: &Outcome) -> bool {
        // A tombstone is of the kind of what it removed.
        let is_done = matches!(outcome, Outcome::Done { .. });
        let entry = match is_done {
            true => Some(&job.target),
            false => job.known.as_ref().map(|known| &known.entry),
        };
        entry.is_some_and(|entry| self.ignores(&job.path, entry))
    }

    /// The path is free for something else. Answers how far it was.
    pub(super) fn finish(&mut self, job: &Job) -> Option<Stage> {
        let stage = self.in_flight.remove(&job.path);
        self.wants.count_job();
        if let Some(Stage::Applying { landing_bytes, .. }) = &stage {
            self.landing_bytes -= landing_bytes;
        }
        if let Some(
            Stage::Fetching(Some(id))
            | Stage::Copying(Some(id))
            | Stage::Applying {
                content: Some(id), ..
            },
        ) = &stage
        {
            self.contents.remove(id);
        }
        self.cleaned = false;
        stage
    }
}

/// Other paths with the same content that are looked at.
pub(super) const SOURCES_MAX: usize = 8;

/// How often a content is looked for on this side before it is asked for.
const SOURCE_TRIES: u32 = 3;

/// Copies under way at once, so that there is room for others.
const COPIES_MAX: usize = IN_FLIGHT_MAX / 2;

/// Above this copying or hashing would hold others up. In the simulator, which has no long files,
/// all that is longer than some.
const LONG_COPY_BYTES: u64 = if cfg!(test) { 4 } else { 4 * 1024 * 1024 };

fn is_long_copy(job: &Job) -> bool {
    let size = job.content().map_or(0, |(_, size)| size);
    job.source.is_some() && size > LONG_COPY_BYTES
}

/// Whether a content is on this side.
enum Here {
    /// There.
    At(Source),
    /// In the trash before long.
    Soon,
    /// As far as is known.
    Nowhere,
}

/// The content of a job whose part no other job may have.
fn owned_content(job: &Job) -> Option<ContentId> {
    let part = job.part().filter(|part| part.slot == 0)?;
    Some(part.content)
}
