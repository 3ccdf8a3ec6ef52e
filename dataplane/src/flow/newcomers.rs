//! Newcomers, the oldest first: flows that have not proven themselves, which leave when a full
//! table needs room.
//!
//! A flow begins as a newcomer, whatever its first packets were: anybody can send those. It is
//! proven by a packet that comes [`PROOF`] later. In a flood every packet evicts a newcomer, so
//! finding one must not be a search. For each kind of newcomers a ring has the places of the latest
//! ones. Flows that are none any more stay in it until their turn comes, and are passed by then.
//! Eviction waits for the cache line of the victim, so those of the next few are asked for ahead.

use std::collections::TryReserveError;

use super::record::Flow;
use super::table::Table;
use super::{State, TableKey};
use crate::types::Tick;

/// Victims whose cache lines are on the way: a few packets' time is a cache miss.
const AHEAD: usize = 8;
/// Places looked at for one victim: a bound on what a flow costs of which all before are gone.
const TRIES: usize = 8;

/// When more than one flow in so many of a full table is a newcomer of one kind, the oldest goes
/// however young it is: under a flood there is no telling which are honest, and what has proven
/// itself is worth more.
const FLOOD: usize = 64;
/// How long a newcomer has to prove itself before it may make room, milliseconds: a client to
/// answer a SYN-ACK, a flow to send more than once.
const PATIENCE: u32 = 1000;
/// How long after its flow was made a packet proves it, milliseconds.
const PROOF: u32 = 1000;

/// How long a newcomer has to prove itself, for a flow that lasts `span` milliseconds without a packet. Packets before that do not
/// restart its timer, so it is a small part of the span.
#[inline(always)]
pub(super) const fn proof(span: u32) -> u32 {
    if span / 4 < PROOF { span / 4 } else { PROOF }
}

/// What kinds of newcomers there are, in the order in which they make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Kind {
    /// A SYN came, nothing else.
    HalfOpen,
    /// Datagrams came, all at once.
    Udp,
    /// An ACK came, or several at once.
    Tcp,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::HalfOpen, Kind::Udp, Kind::Tcp];

    /// The ring of a kind has a place for one flow in so many: for more than [`FLOOD`] says. In
    /// that of half-open flows one waits as long as the ring lasts; of the others more than a ring
    /// holds are so frequent that a search finds old ones.
    const fn share(self) -> usize {
        match self {
            Kind::HalfOpen => 12,
            Kind::Udp | Kind::Tcp => 48,
        }
    }

    /// Of a flow in this state.
    #[inline(always)]
    pub(super) const fn of(state: State, proven: bool) -> Option<Kind> {
        match state {
            State::SynReceived => Some(Kind::HalfOpen),
            State::Established if !proven => Some(Kind::Tcp),
            State::Udp if !proven => Some(Kind::Udp),
            _ => None,
        }
    }
}

/// Where a newcomer was put, and some bits of its key's hash to know it by.
#[derive(Debug, Clone, Copy)]
struct Listed {
    place: u32,
    hash: u32,
}

/// The latest newcomers of a kind, and how many there are in all.
#[derive(Debug)]
struct Ring {
    ring: Vec<Listed>,
    /// The oldest in the ring.
    first: usize,
    /// How many are in the ring.
    listed: usize,
    /// How many flows of the table are of this kind.
    count: usize,
}

impl Ring {
    fn new(size: usize) -> Result<Ring, TryReserveError> {
        let mut ring = Vec::new();
        ring.try_reserve_exact(size)?;
        ring.resize(size, Listed { place: u32::MAX, hash: 0 });
        Ok(Ring { ring, first: 0, listed: 0, count: 0 })
    }

    /// Where in the ring the one is that is so many behind the oldest, less than its size.
    #[inline(always)]
    fn nth(&self, behind: usize) -> usize {
        let at = self.first + behind;
        if at < self.ring.len() { at } else { at - self.ring.len() }
    }

    /// Puts one behind the others. When the ring is full, it forgets the oldest.
    #[inline(always)]
    fn push(&mut self, newcomer: Listed) {
        if self.listed == self.ring.len() {
            self.drop_first();
        }
        let at = self.nth(self.listed);
        if let Some(last) = self.ring.get_mut(at) {
            *last = newcomer;
            self.listed += 1;
        }
    }

    #[inline(always)]
    fn drop_first(&mut self) {
        self.first = self.nth(1);
        self.listed = self.listed.saturating_sub(1);
    }
}

/// The newcomers of a table.
#[derive(Debug)]
pub(super) struct Newcomers([Ring; 3]);

impl Newcomers {
    /// Of a table for so many flows.
    pub(super) fn new(capacity: usize) -> Result<Newcomers, TryReserveError> {
        let ring = |kind: Kind| Ring::new((capacity / kind.share()).max(1));
        let [half_open, udp, tcp] = Kind::ALL;
        Ok(Newcomers([ring(half_open)?, ring(udp)?, ring(tcp)?]))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.0.iter().map(|ring| ring.ring.len() * size_of::<Listed>()).sum()
    }

    /// How many there are of a kind.
    #[inline(always)]
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.0[kind as usize].count
    }

    /// A newcomer has come.
    #[inline(always)]
    pub(super) fn list(&mut self, kind: Kind, place: u32, hash: u64) {
        let ring = &mut self.0[kind as usize];
        ring.count += 1;
        ring.push(Listed { place, hash: hash as u32 });
    }

    /// A newcomer is none any more.
    #[inline(always)]
    pub(super) fn forget_one(&mut self, kind: Kind) {
        let ring = &mut self.0[kind as usize];
        ring.count = ring.count.saturating_sub(1);
    }

    /// Whether the ring of a kind is where its oldest are found: all are in it, or nearly, or the
    /// latest are as good as any.
    #[inline(always)]
    fn is_ringed(&self, kind: Kind) -> bool {
        let ring = &self.0[kind as usize];
        matches!(kind, Kind::HalfOpen) || ring.count <= ring.ring.len()
    }
}

impl<K: TableKey, const N: usize> Table<K, N> {
    /// Whether so much of the table is of this kind that somebody floods it, once it is full.
    #[inline(always)]
    pub(super) fn is_flooding(&self, kind: Kind) -> bool {
        self.newcomers.count(kind) * FLOOD > self.capacity()
    }

    /// How long ago a newcomer came, milliseconds; for a half-open one, its latest SYN.
    #[inline(always)]
    pub(super) fn age(&self, place: usize, deadline: Tick, now: Tick) -> u32 {
        self.spans.at(place).saturating_sub(deadline.remaining(now))
    }

    /// Whether a newcomer may still be about to prove itself.
    #[inline(always)]
    pub(super) fn is_young(&self, place: usize, deadline: Tick, now: Tick) -> bool {
        self.age(place, deadline, now) < PATIENCE
    }

    /// Asks for the bucket of a victim some packets ahead, and for the first bucket of one that is
    /// nearer and elsewhere.
    #[inline(always)]
    fn ask_ahead(&self, kind: Kind) {
        let ring = &self.newcomers.0[kind as usize];
        if let Some(listed) = ring.ring.get(ring.nth(AHEAD)) {
            self.prefetch_nth(listed.place as usize >> 2);
        }
        let Some(listed) = ring.ring.get(ring.nth(AHEAD / 2)) else { return };
        if let Some((bucket, slot)) = self.at(listed.place) {
            if bucket.marks[slot].away() {
                if let Some(flow) = bucket.flow(slot) {
                    self.prefetch_bucket(self.hash(&flow.key));
                }
            }
        }
    }

    /// The oldest in the ring of a kind is listed no more; the next are asked for.
    #[inline(always)]
    pub(super) fn advance(&mut self, kind: Kind) {
        let ring = &mut self.newcomers.0[kind as usize];
        ring.drop_first();
        if ring.listed > AHEAD {
            self.ask_ahead(kind);
        }
    }

    /// The kind of newcomers whose ring has one for which it is time to go, and where that is: the
    /// first in its ring now. It has had its time, or there are so many that somebody floods; one
    /// whose owner has less than its share does not go if those are spared.
    #[inline(always)]
    pub(super) fn oldest_newcomer(&mut self, now: Tick, spares: bool) -> Option<(Kind, u32)> {
        for kind in Kind::ALL {
            if spares && !self.newcomers.is_ringed(kind) {
                return None;
            }
            if let Some(place) = self.oldest(kind, now, spares) {
                return Some((kind, place));
            }
        }
        None
    }

    #[inline(always)]
    fn oldest(&mut self, kind: Kind, now: Tick, spares: bool) -> Option<u32> {
        let flood = self.is_flooding(kind);
        for _ in 0..TRIES {
            let ring = &self.newcomers.0[kind as usize];
            if ring.listed == 0 {
                return None;
            }
            let first = *ring.ring.get(ring.first)?;
            let Some(flow) = self.listed(kind, first) else {
                self.advance(kind);
                continue;
            };
            if flow.expired(now) {
                return Some(first.place);
            }
            let place = flow.state.place(flow.proven).into();
            if !flood && self.is_young(place, flow.deadline, now) {
                return None;
            }
            if spares && self.shares.has_room(flow.real) {
                if !flood {
                    return None;
                }
                self.advance(kind);
                self.newcomers.0[kind as usize].push(first);
                continue;
            }
            return Some(first.place);
        }
        None
    }

    /// The newcomer that was listed so, if it is still one.
    #[inline(always)]
    fn listed(&self, kind: Kind, listed: Listed) -> Option<Flow<K>> {
        let (bucket, slot) = self.at(listed.place)?;
        let flow = bucket.flow(slot)?;
        let is = Kind::of(flow.state, flow.proven) == Some(kind);
        (is && self.hash(&flow.key) as u32 == listed.hash).then_some(flow)
    }
}
