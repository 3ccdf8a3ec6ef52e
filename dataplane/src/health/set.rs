//! All checks at once: which probe is due, whose answer came, and what there is to tell.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrayvec::ArrayVec;
use slab::Slab;

use super::connection::{Connection, Told};
use super::machine::{Machine, Pace, Reason};
use super::numbers::{Numbers, Tuple};
use super::segment::{Out, Segment};
use super::source_ports::SourcePorts;
use super::target::{News, Subject, Target, Via};
use super::timers::Timers;
use crate::hash::Random;
use crate::types::{Millis, NeighborId, RealId};

/// Connections a target has at most: one that is asked, and others that are being closed.
pub const MAX_CONNECTIONS: usize = 4;
/// Things that are due which one call does at most, so that ARP never waits for all of them.
pub const PER_POLL: usize = 256;
/// When nobody took a probe, it is tried again after this time in milliseconds.
const AGAIN: u64 = 10;
/// Source ports that are tried for one probe; any is taken only while another target's connection
/// to the same VIP has it.
const TRIES: usize = 8;

/// What became of a packet that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It belongs to a probe.
    Answer,
    /// It may have belonged to one that is over.
    Late,
    /// It was forged, or is no TCP segment to begin with.
    Forged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    /// A probe of a target.
    Probe(usize),
    /// A connection's timer.
    Connection(usize),
}

#[derive(Debug)]
struct Entry {
    target: Arc<Target>,
    pace: Pace,
    machine: Machine,
    due: Millis,
    ports: SourcePorts,
    connections: ArrayVec<usize, MAX_CONNECTIONS>,
    /// Who wants to know, at least one; the probe goes by the first one's way.
    subjects: Vec<(Subject, Via)>,
}

#[derive(Debug)]
struct Open {
    entry: usize,
    connection: Connection,
}

/// The checks of all real servers.
///
/// `send(real, packet)` in its calls takes an IP packet that is to leave as a client's packet to
/// `real` would; false when it cannot be taken now.
///
/// Answers that are there are to be handed in before [`Set::poll`] is called, or they come late.
#[derive(Debug)]
pub struct Set {
    numbers: Numbers,
    random: Random,
    entries: Slab<Entry>,
    by_target: HashMap<Arc<Target>, usize>,
    by_subject: HashMap<Subject, usize>,
    by_neighbor: HashMap<NeighborId, BTreeSet<Subject>>,
    open: Slab<Open>,
    by_tuple: HashMap<Tuple, usize>,
    timers: Timers<Job>,
    news: Vec<News>,
}

impl Set {
    /// No checks. `numbers` are the secret of its probes; `seed` spreads them over time and source
    /// ports, and should be secret too.
    pub fn new(numbers: Numbers, seed: u64) -> Set {
        Set {
            numbers,
            random: Random::new(seed),
            entries: Slab::new(),
            by_target: HashMap::new(),
            by_subject: HashMap::new(),
            by_neighbor: HashMap::new(),
            open: Slab::new(),
            by_tuple: HashMap::new(),
            timers: Timers::new(),
            news: Vec::new(),
        }
    }

    /// Checks a real server from now on, or by another target or another way than before.
    ///
    /// What is known of the target, or of a like one that only had another pace, holds.
    pub fn watch(&mut self, subject: Subject, target: Target, via: Via, now: Millis) {
        let before = self.by_subject.get(&subject).copied();
        if let Some(entry) = before.and_then(|at| self.entries.get_mut(at)) {
            if *entry.target == target {
                let had = entry.subjects.iter_mut().find(|(other, _)| *other == subject);
                if let Some((_, had)) = had {
                    let before = std::mem::replace(had, via).neighbor;
                    self.leave(before, &subject);
                    self.by_neighbor.entry(via.neighbor).or_default().insert(subject);
                }
                return;
            }
        }
        let like = before.and_then(|at| self.entries.get(at)).filter(|e| e.target.is_like(&target));
        let machine = like.map_or(Machine::new(now), |entry| entry.machine);
        let at = match self.by_target.get(&target) {
            Some(at) => *at,
            None => self.add(target, machine, now),
        };
        self.unwatch(&subject);
        self.by_subject.insert(subject, at);
        self.by_neighbor.entry(via.neighbor).or_default().insert(subject);
        if let Some(entry) = self.entries.get_mut(at) {
            entry.subjects.push((subject, via));
            self.news.push(News { subject, machine: entry.machine });
        }
    }

    /// Checks a real server no more.
    pub fn unwatch(&mut self, subject: &Subject) {
        let Some(at) = self.by_subject.remove(subject) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        let place = entry.subjects.iter().position(|(other, _)| other == subject);
        let via = place.map(|place| entry.subjects.remove(place).1);
        let is_last = entry.subjects.is_empty();
        if let Some(via) = via {
            self.leave(via.neighbor, subject);
        }
        if is_last {
            self.remove(at);
        }
    }

    /// A real server is not behind a neighbor any more.
    fn leave(&mut self, neighbor: NeighborId, subject: &Subject) {
        if let Some(behind) = self.by_neighbor.get_mut(&neighbor) {
            behind.remove(subject);
            if behind.is_empty() {
                self.by_neighbor.remove(&neighbor);
            }
        }
    }

    /// Nobody wants to know of a target any more.
    fn remove(&mut self, at: usize) {
        if let Some(mut entry) = self.entries.try_remove(at) {
            self.timers.unset(entry.due, Job::Probe(at));
            for connection in entry.connections.take() {
                self.close(connection);
            }
            self.by_target.remove(&entry.target);
        }
    }

    fn add(&mut self, target: Target, machine: Machine, now: Millis) -> usize {
        let target = Arc::new(target);
        let pace = Pace::of(&target.check);
        // What is configured at once is not probed at once.
        let due = now.after(self.random.between(0, pace.interval - 1));
        let at = self.entries.insert(Entry {
            target: Arc::clone(&target),
            pace,
            machine,
            due,
            ports: SourcePorts::new(self.random.draw()),
            connections: ArrayVec::new(),
            subjects: Vec::new(),
        });
        self.by_target.insert(target, at);
        self.timers.set(due, Job::Probe(at));
        at
    }

    /// How many targets are probed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many connections there are, those that are being closed included.
    pub fn connections(&self) -> usize {
        self.open.len()
    }

    /// When [`Set::poll`] next has something to do.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// What is new since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Does what is due, [`PER_POLL`] things at most: probes, repetitions, the end of waiting.
    pub fn poll(&mut self, now: Millis, send: &mut impl FnMut(RealId, &[u8]) -> bool) {
        for _ in 0..PER_POLL {
            match self.timers.due(now) {
                Some((due, Job::Probe(at))) => self.probe(at, due, now, send),
                Some((_, Job::Connection(at))) => self.expire(at, now, send),
                None => break,
            }
        }
    }

    /// A packet came to an L4 port that probes come from.
    pub fn receive(
        &mut self,
        packet: &[u8],
        now: Millis,
        send: &mut impl FnMut(RealId, &[u8]) -> bool,
    ) -> Heard {
        let Ok(segment) = Segment::read(packet) else { return Heard::Forged };
        if !segment.flags.ack() || !self.numbers.is_answer(&segment.tuple, segment.ack) {
            return Heard::Forged;
        }
        let Some(at) = self.by_tuple.get(&segment.tuple).copied() else { return Heard::Late };
        self.event(at, now, send, |connection, say| connection.receive(&segment, now, say));
        Heard::Answer
    }

    /// A next hop does not answer: whatever is behind it cannot be reached.
    pub fn unreachable(&mut self, neighbor: NeighborId, now: Millis) {
        let behind = self.by_neighbor.get(&neighbor).into_iter().flatten();
        let behind: Vec<_> = behind.filter_map(|s| self.by_subject.get(s).copied()).collect();
        for at in behind {
            self.judge(at, |machine, pace| machine.lost(Reason::Unreachable, pace, now));
        }
    }

    /// Changes a target's state, and tells of it.
    fn judge(&mut self, at: usize, change: impl FnOnce(&mut Machine, &Pace) -> bool) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        if change(&mut entry.machine, &entry.pace) {
            let machine = entry.machine;
            self.news.extend(
                entry.subjects.iter().map(|(subject, _)| News { subject: *subject, machine }),
            );
        }
    }

    /// Begins a probe that was due at `due`.
    fn probe(
        &mut self,
        at: usize,
        due: Millis,
        now: Millis,
        send: &mut impl FnMut(RealId, &[u8]) -> bool,
    ) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        // From when it was due, so that the pace is kept; but what was missed is not made up for.
        let step = entry.pace.interval - entry.pace.interval / 16
            + self.random.between(0, entry.pace.interval / 8);
        let mut next = due.after(step);
        if next <= now {
            next = now.after(step);
        }
        let via = entry.subjects.first().map(|(_, via)| *via);
        let from = via.and_then(|via| via.from);
        let free = from.and_then(|dip| {
            let mut tuples =
                (0..TRIES).map(|_| Tuple::new(dip, entry.ports.draw(), entry.target.to));
            tuples.find(|tuple| !self.by_tuple.contains_key(tuple))
        });
        let is_sent = match (via, free) {
            (Some(via), Some(tuple)) => {
                let sequence = self.numbers.sequence(&tuple);
                let connection = Connection::new(tuple, sequence, entry.pace.timeout, now);
                let sent = emit(&connection.syn(), &tuple, via.real, send);
                if sent {
                    self.open(at, connection);
                }
                sent
            }
            (_, None) if from.is_none() => {
                self.judge(at, |machine, _| machine.unknowable(Reason::NoSource));
                true
            }
            _ => false,
        };
        if let Some(entry) = self.entries.get_mut(at) {
            entry.due = if is_sent { next } else { now.after(AGAIN) };
            self.timers.set(entry.due, Job::Probe(at));
        }
    }

    fn open(&mut self, entry: usize, connection: Connection) {
        let oldest = self
            .entries
            .get_mut(entry)
            .and_then(|entry| entry.connections.is_full().then(|| entry.connections.remove(0)));
        if let Some(oldest) = oldest {
            self.close(oldest);
        }
        let (tuple, due) = (connection.tuple, connection.due);
        let at = self.open.insert(Open { entry, connection });
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.connections.push(at);
        }
        self.by_tuple.insert(tuple, at);
        self.timers.set(due, Job::Connection(at));
    }

    /// Forgets a connection, which its target no longer names.
    fn close(&mut self, at: usize) {
        if let Some(open) = self.open.try_remove(at) {
            self.by_tuple.remove(&open.connection.tuple);
            self.timers.unset(open.connection.due, Job::Connection(at));
        }
    }

    fn expire(&mut self, at: usize, now: Millis, send: &mut impl FnMut(RealId, &[u8]) -> bool) {
        self.event(at, now, send, |connection, say| connection.timer(say));
    }

    /// Something happens to a connection.
    fn event<S: FnMut(RealId, &[u8]) -> bool>(
        &mut self,
        at: usize,
        now: Millis,
        send: &mut S,
        happen: impl FnOnce(&mut Connection, &mut dyn FnMut(Out)) -> Told,
    ) {
        let Some(open) = self.open.get_mut(at) else { return };
        let target = open.entry;
        let Some(entry) = self.entries.get(target) else { return };
        let Some(via) = entry.subjects.first().map(|(_, via)| *via) else { return };
        let (tuple, before) = (open.connection.tuple, open.connection.due);
        let told = happen(&mut open.connection, &mut |out| {
            // One that is not taken is as one that is lost.
            emit(&out, &tuple, via.real, send);
        });
        self.timers.unset(before, Job::Connection(at));
        self.timers.set(open.connection.due, Job::Connection(at));
        match told {
            Told::Nothing => {}
            Told::Passed => self.judge(target, |machine, pace| machine.passed(pace, now)),
            Told::Failed(reason) => {
                self.judge(target, |machine, pace| machine.failed(reason, pace, now));
            }
            Told::Refused => {
                self.judge(target, |machine, pace| machine.failed(Reason::Refused, pace, now));
                self.forget(target, at);
            }
            Told::Over => self.forget(target, at),
        }
    }

    fn forget(&mut self, entry: usize, connection: usize) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.connections.retain(|other| *other != connection);
        }
        self.close(connection);
    }
}

/// Hands a segment over. Whether it was taken.
fn emit(
    out: &Out,
    tuple: &Tuple,
    via: RealId,
    send: &mut impl FnMut(RealId, &[u8]) -> bool,
) -> bool {
    // A target's addresses are of one family.
    out.emit(tuple).is_ok_and(|packet| send(via, &packet))
}
