//! What fails is told, waits, and goes on by itself.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::tests::{HAVE, Place, file, place};
use super::*;
use crate::apply::{Job, Outcome};
use crate::record::Stamp;
use crate::transfer::receive::Missed;

/// A disk, to which each content comes; or it says why not.
struct Desk {
    place: Place,
    now: Instant,
    events: Vec<Event>,
    told: Vec<News>,
    made_room: usize,
    /// How often which path was tried.
    tried: Vec<String>,
}

impl Desk {
    /// The peer has these files, which are wanted here.
    fn wanting(names: impl Iterator<Item = String>) -> Self {
        let place = place();
        let wants: Vec<Change> = names
            .map(|name| Change::Want {
                path: RelPath::parse(name.as_bytes()).unwrap(),
                entry: file(&name, 0, 1),
            })
            .collect();
        // The peer is known: it does not list all of it again.
        let heard = Heard {
            replica: 2,
            epoch: 3,
            run: 1,
            upto: 9,
            partial: false,
            joined: true,
        };
        place.index.commit(&[Change::Heard(heard)]).unwrap();
        place.index.commit(&wants).unwrap();
        let (session, have) = (1, HAVE);
        let up = Event::SessionUp {
            session,
            peer_replica: 2,
            peer_epoch: 3,
            peer_run: 1,
            peer_share: None,
            have,
            told_upto: 9,
        };
        Self {
            place,
            now: Instant::now(),
            events: vec![up, Event::ReceiverUp { session }, Event::Scanned],
            told: Vec::new(),
            made_room: 0,
            tried: Vec::new(),
        }
    }

    /// One step, with all that is asked for answered. `refuse` says what stands in
    /// the way of a path.
    fn step(&mut self, refuse: &dyn Fn(&RelPath) -> Option<Errno>) {
        let events = std::mem::take(&mut self.events);
        let mut applied = Vec::new();
        for action in self.place.engine.step(self.now, events).unwrap() {
            match action {
                Action::Fetch { session, job } => {
                    self.tried.push(job.path.to_string());
                    let result = match refuse(&job.path) {
                        Some(errno) => Err(Missed::Disk(io::Error::from(errno))),
                        None => Ok(()),
                    };
                    self.events.push(Event::Fetched {
                        session,
                        job,
                        result,
                    });
                }
                Action::Apply(job) => applied.push(done(*job)),
                Action::MakeRoom => self.made_room += 1,
                Action::Tell(news) => self.told.push(news),
                _ => {}
            }
        }
        if !applied.is_empty() {
            self.events.push(Event::Applied(applied));
        }
    }

    /// Lets this time pass. Answers how many steps that took.
    fn pass(&mut self, time: Duration, refuse: &dyn Fn(&RelPath) -> Option<Errno>) -> usize {
        let end = self.now + time;
        let mut steps = 0;
        loop {
            self.step(refuse);
            steps += 1;
            if !self.events.is_empty() {
                continue;
            }
            match self.place.engine.wakes_at().filter(|at| *at <= end) {
                Some(at) => self.now = at,
                None => break,
            }
        }
        self.now = end;
        steps
    }

    fn problems(&self) -> Vec<&str> {
        let told = self.told.iter();
        told.filter_map(|news| match news {
            News::Problem { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
    }

    fn is_solved(&self, name: &str) -> bool {
        let told = self.told.iter();
        let mut solved =
            told.filter(|news| matches!(news, News::Solved(path) if path.to_string() == name));
        solved.next().is_some()
    }

    fn left(&self) -> u64 {
        self.place.index.counts().unwrap().1
    }
}

fn done(job: Job) -> (Job, Outcome) {
    let stamp = Stamp {
        ino: 1,
        size: 1,
        mtime: crate::entry::Mtime::default(),
        ctime: crate::entry::Mtime::default(),
        mode: 0o100_644,
        trusted: true,
    };
    (job, Outcome::Done { stamp, copy: None })
}

#[test]
fn a_name_that_cannot_be_is_told_and_tried_again_seldom_while_others_go_on() {
    for errno in [Errno::NAMETOOLONG, Errno::ILSEQ, Errno::INVAL] {
        let mut desk = Desk::wanting(["bad", "good"].map(str::to_owned).into_iter());
        let refuse = |path: &RelPath| (path.as_bytes() == b"bad").then_some(errno);
        desk.pass(Duration::from_secs(1), &refuse);
        assert_eq!(desk.left(), 1);
        let problems = desk.problems();
        assert!(
            problems[0].starts_with("cannot put bad in place: "),
            "{problems:?}"
        );
        assert!(
            problems[0].contains("cannot hold such a name"),
            "{problems:?}"
        );
        let tried = desk.tried.len();
        desk.pass(Duration::from_secs(600), &refuse);
        let tried = desk.tried.len() - tried;
        assert!((18..40).contains(&tried), "{tried} times in ten minutes");
        assert!(!desk.is_solved("bad"));
        desk.pass(Duration::from_secs(31), &|_| None);
        assert!(desk.is_solved("bad"));
        assert_eq!((desk.left(), desk.place.engine.wakes_at()), (0, None));
    }
}

#[test]
fn disk_full_pauses_all_and_goes_on_by_itself_when_there_is_room() {
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::MFILE] {
        let mut desk = Desk::wanting((0..700).map(|n| format!("f{n:04}")));
        let full = |_: &RelPath| Some(errno);
        desk.pass(Duration::from_millis(100), &full);
        assert_eq!(desk.tried.len(), IN_FLIGHT_MAX);
        let lacks_room = matches!(errno, Errno::NOSPC | Errno::DQUOT);
        assert_eq!(desk.made_room > 0, lacks_room, "{errno}");
        let tried = desk.tried.len();
        let steps = desk.pass(Duration::from_secs(600), &full);
        let tried = desk.tried.len() - tried;
        // Now and then one shows that there still is no room.
        assert!(
            (50..200).contains(&tried),
            "{errno}: {tried} in ten minutes"
        );
        assert!(steps < 50_000, "{errno}: {steps}");
        desk.pass(Duration::from_secs(60), &|_| None);
        assert_eq!((desk.left(), desk.place.engine.wakes_at()), (0, None));
    }
}

#[test]
fn a_file_that_does_not_fit_leaves_the_way_to_those_that_do() {
    let mut desk = Desk::wanting((0..700).map(|n| format!("f{n:04}")));
    let refuse = |path: &RelPath| path.as_bytes().ends_with(b"7").then_some(Errno::NOSPC);
    desk.pass(Duration::from_secs(120), &refuse);
    assert_eq!(desk.left(), 70);
}

#[test]
fn more_paths_than_are_remembered_that_fail_leave_the_way_to_others() {
    let names = (0..5000).map(|n| format!("no/{n:04}"));
    let mut desk = Desk::wanting(names.chain(["yes".to_owned()]));
    let refuse = |path: &RelPath| path.as_bytes().starts_with(b"no").then_some(Errno::ACCESS);
    desk.pass(Duration::from_secs(90), &refuse);
    assert_eq!(desk.left(), 5000);
    // And it stays affordable.
    desk.pass(Duration::from_secs(600), &refuse);
    let tried = desk.tried.len();
    desk.pass(Duration::from_secs(600), &refuse);
    let tried = desk.tried.len() - tried;
    assert!(tried < 600 * 30, "{tried} in ten minutes");
}

#[test]
fn a_problem_goes_when_the_peer_takes_its_offer_back() {
    let mut desk = Desk::wanting(["bad".to_owned()].into_iter());
    let refuse = |_: &RelPath| Some(Errno::ACCESS);
    desk.pass(Duration::from_secs(1), &refuse);
    assert_eq!(desk.problems().len(), 3);
    let path = RelPath::parse(b"bad").unwrap();
    desk.place.index.commit(&[Change::Unwant { path }]).unwrap();
    desk.pass(Duration::from_secs(10), &refuse);
    assert!(desk.is_solved("bad"));
    assert_eq!(desk.place.engine.wakes_at(), None);
}
