//! What the steps of a run act on: the hosts with what runs there, the link, and
//! the model of what was written.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::leases::Leases;
use super::site::Site;
use crate::event::{EventKind, Figure};
use crate::lab::Lab;
use crate::report::EventSink;
use crate::sut::adapter::Adapter;
use crate::workload::Model;

/// Everything that the steps of one run share.
pub struct World {
    /// `20261122-140512-k3f9`
    pub run: String,
    /// Of all generated content.
    pub seed: u64,
    /// How the program is started and what its files look like.
    pub adapter: Adapter,
    /// The hosts' connections and the link.
    pub lab: Lab,
    /// One for each host, in the scenario's order.
    pub sites: Vec<Site>,
    /// What is there only as long as it is renewed.
    pub leases: Arc<Leases>,
    /// Who is told.
    pub sink: EventSink,
    /// What was written so far; see [`World::model`].
    pub model: Mutex<Model>,
    /// The paths that are being written right now.
    pub injecting: watch::Sender<Vec<String>>,
}

impl World {
    /// The host with this name; scenarios name only hosts that there are.
    ///
    /// # Panics
    /// If there is none.
    pub fn site(&self, name: &str) -> &Site {
        self.sites
            .iter()
            .find(|site| site.name == name)
            .unwrap_or_else(|| panic!("the run has no host {name}"))
    }

    /// What was written so far.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Something is about to be written to a path.
    pub fn injection_begins(&self, path: &str) {
        self.injecting
            .send_modify(|paths| paths.push(path.to_owned()));
    }

    /// And is written.
    pub fn injection_ended(&self, path: &str) {
        self.injecting.send_modify(|paths| {
            if let Some(index) = paths.iter().position(|known| known == path) {
                paths.remove(index);
            }
        });
    }

    /// Whether anything is being written.
    pub fn is_injecting(&self) -> bool {
        !self.injecting.borrow().is_empty()
    }

    /// Ends when nothing is being written to a path, above it or below it.
    pub async fn injected(&self, path: &str) {
        let touches = |other: &String| {
            let below = |inner: &str, outer: &str| {
                let rest = inner.strip_prefix(outer);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            below(other, path) || below(path, other)
        };
        let mut injecting = self.injecting.subscribe();
        // It only fails when the sender is gone, and that is `self`.
        let _ = injecting.wait_for(|paths| !paths.iter().any(touches)).await;
    }

    /// A figure worth quoting.
    pub fn figure(&self, name: impl Into<String>, value: f64, unit: &str, text: impl Into<String>) {
        self.sink.send(EventKind::Figure(Figure {
            name: name.into(),
            value,
            unit: unit.into(),
            text: text.into(),
        }));
    }

    /// Ordered pairs of hosts: every direction that bytes can take.
    pub fn directions(&self) -> Vec<(&str, &str)> {
        let names: Vec<&str> = self.sites.iter().map(|site| site.name.as_str()).collect();
        let mut pairs = Vec::new();
        for from in &names {
            pairs.extend(names.iter().filter(|to| *to != from).map(|to| (*from, *to)));
        }
        pairs
    }
}
