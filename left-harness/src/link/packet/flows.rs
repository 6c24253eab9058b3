//! Which bytes of a direction are new: the sequence space each connection has had.

use std::collections::HashMap;
use std::ops::Range;

use super::frame::{Key, Tcp, flag};

/// Connections remembered in one direction; a sync program has a handful.
const FLOWS_MAX: usize = 4096;
/// Islands beyond the first gap of a connection. When there are more, its first
/// gap is given up: what fills it later does not count.
const ISLANDS_MAX: usize = 1024;
/// The largest window of TCP: what lies further ahead is no receiver's.
const WINDOW_MAX: i64 = 1 << 30;

/// The connections of one direction.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: HashMap<Key, Flow>,
    /// Grows with every packet: the age of a flow.
    clock: u64,
}

/// One direction of one connection, from its SYN on.
#[derive(Debug)]
pub(super) struct Flow {
    /// Sequence number of position 0, the first payload byte.
    first: u32,
    /// All before this position went.
    next: u64,
    /// What went beyond: sorted, apart from each other and from `next`.
    islands: Vec<Range<u64>>,
    used: u64,
    is_closed: bool,
    /// Its receiver has reset it and takes nothing more.
    is_refused: bool,
    /// A frame of it, headers only; see [`super::reset`].
    pub sample: Vec<u8>,
}

impl Flows {
    /// How many bytes of this packet never went before.
    pub fn fresh(&self, tcp: &Tcp) -> u64 {
        match self.known(tcp) {
            Some(flow) => flow.gaps(tcp).map(|gap| gap.end - gap.start).sum(),
            None => tcp.payload_bytes() as u64,
        }
    }

    /// Where in its payload the packet must end to bring exactly `count` new bytes.
    pub fn cut(&self, tcp: &Tcp, mut count: u64) -> usize {
        let Some(flow) = self.known(tcp) else {
            return (count as usize).min(tcp.payload_bytes());
        };
        let start = flow.position(tcp.sequence);
        for gap in flow.gaps(tcp) {
            let bytes = gap.end - gap.start;
            if count <= bytes {
                let end = gap.start + count;
                return usize::try_from(end as i64 - start).unwrap_or(0);
            }
            count -= bytes;
        }
        tcp.payload_bytes()
    }

    /// This packet went: its new bytes. `frame` is what it was read from.
    pub fn take(&mut self, frame: &[u8], tcp: &Tcp) -> u64 {
        self.clock += 1;
        let fresh = self.fresh(tcp);
        if self.known(tcp).is_none() {
            if !self.flows.contains_key(&tcp.key) && self.flows.len() >= FLOWS_MAX {
                self.forget_one();
            }
            let flow = Flow::new(tcp, super::reset::sample(frame, tcp));
            self.flows.insert(tcp.key, flow);
        }
        if let Some(flow) = self.flows.get_mut(&tcp.key) {
            flow.used = self.clock;
            flow.is_closed |= tcp.has(flag::FIN | flag::RST);
            flow.take(tcp);
        }
        fresh
    }

    /// The sequence number this connection's receiver waits for.
    pub fn expected(&self, key: &Key) -> Option<u32> {
        self.flows.get(key).map(Flow::expected)
    }

    /// The receiver of these packets has reset the connection.
    pub fn refuse(&mut self, key: &Key) {
        if let Some(flow) = self.flows.get_mut(key) {
            (flow.is_refused, flow.is_closed) = (true, true);
        }
    }

    /// This packet is for a connection that its receiver has reset.
    pub fn is_refused(&self, tcp: &Tcp) -> bool {
        self.known(tcp).is_some_and(|flow| flow.is_refused)
    }

    /// Those that have not ended.
    pub fn living(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values().filter(|flow| !flow.is_closed)
    }

    /// The flow of this packet, unless the packet begins another one.
    fn known(&self, tcp: &Tcp) -> Option<&Flow> {
        let flow = self.flows.get(&tcp.key)?;
        let is_new = tcp.has(flag::SYN) && tcp.sequence != flow.first;
        (!is_new).then_some(flow)
    }

    /// The oldest that has ended goes first.
    fn forget_one(&mut self) {
        let oldest = self
            .flows
            .iter()
            .min_by_key(|(_, flow)| (!flow.is_closed, flow.used))
            .map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.flows.remove(&key);
        }
    }
}

impl Flow {
    fn new(tcp: &Tcp, sample: Vec<u8>) -> Self {
        Self {
            first: tcp.sequence,
            next: 0,
            islands: Vec::new(),
            used: 0,
            is_closed: false,
            is_refused: false,
            sample,
        }
    }

    pub fn expected(&self) -> u32 {
        // The numbers go round, as this cast does.
        self.first.wrapping_add(self.next as u32)
    }

    /// The position nearest to what is expected that has this number.
    fn position(&self, sequence: u32) -> i64 {
        let ahead = sequence.wrapping_sub(self.expected()) as i32;
        self.next as i64 + i64::from(ahead)
    }

    fn range(&self, tcp: &Tcp) -> Range<u64> {
        let start = self.position(tcp.sequence);
        if start - self.next as i64 > WINDOW_MAX {
            return self.next..self.next;
        }
        let end = start + tcp.payload_bytes() as i64;
        let next = self.next as i64;
        start.max(next) as u64..end.max(next) as u64
    }

    /// The parts of this packet that never went.
    fn gaps(&self, tcp: &Tcp) -> impl Iterator<Item = Range<u64>> {
        let range = self.range(tcp);
        let mut cursor = range.start;
        let first = self.islands.partition_point(|island| island.end <= cursor);
        let rest = range.end..range.end;
        self.islands[first..]
            .iter()
            .cloned()
            .take_while(move |island| island.start < range.end)
            .chain(std::iter::once(rest))
            .map(move |island| {
                let gap = cursor..island.start.max(cursor);
                cursor = cursor.max(island.end);
                gap
            })
            .filter(|gap| !gap.is_empty())
    }

    fn take(&mut self, tcp: &Tcp) {
        let Range { mut start, mut end } = self.range(tcp);
        if start >= end {
            return;
        }
        // All islands it touches become one with it.
        let from = self.islands.partition_point(|island| island.end < start);
        let to = self.islands.partition_point(|island| island.start <= end);
        if from < to {
            start = start.min(self.islands[from].start);
            end = end.max(self.islands[to - 1].end);
        }
        self.islands.splice(from..to, std::iter::once(start..end));
        let too_many = self.islands.len() > ISLANDS_MAX;
        if too_many || self.islands[0].start <= self.next {
            self.next = self.islands.remove(0).end;
        }
    }
}
