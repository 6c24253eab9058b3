//! Hands events to reporters without ever holding up who sends them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::event::{Event, EventKind};

/// While so many events wait, further progress is dropped: it is stale before
/// it is shown. Everything else is few and never dropped.
const WAITING_MAX: usize = 1024;

/// Sees every event, in order.
pub trait Reporter: Send {
    /// Something happened. An error becomes a warning to all reporters; whoever
    /// cannot go on is silent from then on.
    fn event(&mut self, event: &Event) -> Result<(), String>;

    /// Nothing more will happen.
    fn finish(&mut self) {}
}

/// Where the run tells what happens. Clones go to the same reporters.
#[derive(Debug, Clone)]
pub struct EventSink {
    messages: mpsc::Sender<Message>,
    waiting: Arc<AtomicUsize>,
    began: Arc<Mutex<Instant>>,
}

#[derive(Debug)]
enum Message {
    Event(Box<Event>),
    Finish,
}

impl EventSink {
    /// Tells it, stamped with the time since the last [`EventKind::RunStarted`].
    /// Never waits; after [`Hub::finish`] nobody hears it.
    pub fn send(&self, kind: EventKind) {
        let is_progress = matches!(kind, EventKind::Progress { .. });
        if is_progress && self.waiting.load(Ordering::Relaxed) >= WAITING_MAX {
            return;
        }
        let now = Instant::now();
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(kind, EventKind::RunStarted { .. }) {
            *began = now;
        }
        let at = now.saturating_duration_since(*began).as_secs_f64();
        // To the millisecond: more is noise.
        let at = (at * 1000.0).round() / 1000.0;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Still under the lock, so that the order is that of the stamps.
        let _ = self
            .messages
            .send(Message::Event(Box::new(Event { at, kind })));
    }

    /// A warning in so many words.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(EventKind::Warning { text: text.into() });
    }

    /// Nobody listens: for parts that are used outside of a run.
    pub fn nobody() -> Self {
        let (messages, _) = mpsc::channel();
        Self {
            messages,
            waiting: Arc::default(),
            began: Arc::new(Mutex::new(Instant::now())),
        }
    }
}

/// The thread on which the reporters work.
#[derive(Debug)]
#[must_use = "dropping it ends the reports"]
pub struct Hub {
    messages: mpsc::Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to hand events to `reporters`, each event to all in this order.
pub fn start(reporters: Vec<Box<dyn Reporter>>) -> (EventSink, Hub) {
    let (messages, inbox) = mpsc::channel();
    let sink = EventSink {
        messages: messages.clone(),
        waiting: Arc::default(),
        began: Arc::new(Mutex::new(Instant::now())),
    };
    let waiting = sink.waiting.clone();
    let thread = std::thread::spawn(move || work(reporters, &inbox, &waiting));
    let hub = Hub {
        messages,
        thread: Some(thread),
    };
    (sink, hub)
}

impl Hub {
    /// Reports all that was sent so far and lets the reporters finish.
    pub fn finish(self) {}
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Finish);
        if let Some(thread) = self.thread.take() {
            // A reporter that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn work(
    mut reporters: Vec<Box<dyn Reporter>>,
    inbox: &mpsc::Receiver<Message>,
    waiting: &AtomicUsize,
) {
    while let Ok(Message::Event(event)) = inbox.recv() {
        waiting.fetch_sub(1, Ordering::Relaxed);
        for text in tell(&mut reporters, &event) {
            let kind = EventKind::Warning { text };
            // Trouble with a warning about trouble ends here.
            let _ = tell(&mut reporters, &Event { at: event.at, kind });
        }
    }
    for reporter in &mut reporters {
        reporter.finish();
    }
}

fn tell(reporters: &mut [Box<dyn Reporter>], event: &Event) -> Vec<String> {
    let results = reporters.iter_mut().map(|reporter| reporter.event(event));
    results.filter_map(Result::err).collect()
}
