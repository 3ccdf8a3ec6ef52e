//! The half-open flows, the oldest first: those that leave when a full table needs room.
//!
//! Under a SYN flood every packet evicts one, so finding it must not be a search. A ring has the
//! places of the latest SYNs' flows, as many as an eighth of the table. Flows that are half-open no
//! more stay in it until their turn comes, and are passed by then. Eviction waits for the cache
//! line of the victim, so those of the next few are asked for ahead.

use std::collections::TryReserveError;

use super::record::Flow;
use super::table::Table;
use super::{Key, State};
use crate::types::Tick;

/// The ring has a place for one flow in so many.
const SHARE: usize = 8;
/// Victims whose cache lines are on the way: a few packets' time is a cache miss.
const AHEAD: usize = 8;
/// Places looked at for one victim: a bound on what a flow costs of which all before are gone.
const TRIES: usize = 8;

/// When more than one flow in so many is half-open in a full table, the oldest goes however young
/// it is: under a flood there is no telling which are honest, and connections are worth more.
const FLOOD: usize = 64;
/// How long a client has to answer a SYN-ACK before its flow may make room, milliseconds.
const PATIENCE: u32 = 1000;

/// Where a half-open flow was put, and some bits of its key's hash to know it by.
#[derive(Debug, Clone, Copy)]
struct Opened {
    place: u32,
    hash: u32,
}

/// The latest SYNs' flows, and how many are half-open in all.
#[derive(Debug)]
pub(super) struct HalfOpen {
    ring: Vec<Opened>,
    /// The oldest in the ring.
    first: usize,
    /// How many are in the ring.
    listed: usize,
    /// How many flows of the table are half-open.
    pub(super) count: usize,
}

impl HalfOpen {
    /// The list of a table for so many flows.
    pub(super) fn new(capacity: usize) -> Result<HalfOpen, TryReserveError> {
        let size = (capacity / SHARE).max(1);
        let mut ring = Vec::new();
        ring.try_reserve_exact(size)?;
        ring.resize(size, Opened { place: u32::MAX, hash: 0 });
        Ok(HalfOpen { ring, first: 0, listed: 0, count: 0 })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.ring.len() * size_of::<Opened>()
    }

    /// A flow has become half-open. When the ring is full, it forgets the oldest.
    #[inline(always)]
    pub(super) fn list(&mut self, place: u32, hash: u64) {
        self.count += 1;
        if self.listed == self.ring.len() {
            self.drop_first();
        }
        let at = self.nth(self.listed);
        if let Some(last) = self.ring.get_mut(at) {
            *last = Opened { place, hash: hash as u32 };
            self.listed += 1;
        }
    }

    /// A half-open flow is no more.
    #[inline(always)]
    pub(super) fn forget_one(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// A flow has changed its state; one that has become half-open is still to be listed.
    #[inline(always)]
    pub(super) fn change(&mut self, from: State, to: State) {
        self.count += usize::from(to == State::SynReceived);
        self.count = self.count.saturating_sub(usize::from(from == State::SynReceived));
    }

    /// Where in the ring the one is that is so many behind the oldest, less than its size.
    #[inline(always)]
    fn nth(&self, behind: usize) -> usize {
        let at = self.first + behind;
        if at < self.ring.len() { at } else { at - self.ring.len() }
    }

    #[inline(always)]
    fn drop_first(&mut self) {
        self.first = self.nth(1);
        self.listed = self.listed.saturating_sub(1);
    }
}

impl<K: Key, const N: usize> Table<K, N> {
    /// Whether the table is full, and so much of it half-open that somebody floods it.
    #[inline(always)]
    pub fn is_flooded(&self) -> bool {
        self.len() >= self.capacity() && self.half_open.count * FLOOD > self.capacity()
    }

    /// Whether a half-open flow's client may still be about to answer.
    #[inline(always)]
    pub(super) fn is_young(&self, state: State, deadline: Tick, now: Tick) -> bool {
        let span = self.span(State::SynReceived);
        state == State::SynReceived && deadline.remaining(now).saturating_add(PATIENCE) > span
    }

    /// Asks for the bucket of a victim some packets ahead, and for the first bucket of one that is
    /// nearer and elsewhere.
    #[inline(always)]
    fn ask_ahead(&self) {
        let HalfOpen { ring, .. } = &self.half_open;
        if let Some(opened) = ring.get(self.half_open.nth(AHEAD)) {
            self.prefetch_nth(opened.place as usize >> 2);
        }
        let Some(opened) = ring.get(self.half_open.nth(AHEAD / 2)) else { return };
        if let Some((bucket, slot)) = self.at(opened.place) {
            if bucket.marks[slot].away() {
                if let Some(flow) = bucket.flow(slot) {
                    self.prefetch_bucket(self.hash(&flow.key));
                }
            }
        }
    }

    /// The flow that has been half-open for longest, if it is time for it to go: there are so many
    /// that somebody floods, or it has had its time to answer. It is listed no more then, and the
    /// next are asked for.
    #[inline(always)]
    pub(super) fn oldest_half_open(&mut self, now: Tick) -> Option<(u32, Flow<K>)> {
        let flood = self.is_flooded();
        for _ in 0..TRIES {
            if self.half_open.listed == 0 {
                return None;
            }
            let opened = *self.half_open.ring.get(self.half_open.first)?;
            let found = self.at(opened.place).and_then(|(bucket, slot)| bucket.flow(slot));
            let found = found.filter(|flow| {
                flow.state == State::SynReceived && self.hash(&flow.key) as u32 == opened.hash
            });
            if found.is_some_and(|f| !flood && self.is_young(f.state, f.deadline, now)) {
                return None;
            }
            self.half_open.drop_first();
            if self.half_open.listed > AHEAD {
                self.ask_ahead();
            }
            if let Some(flow) = found {
                return Some((opened.place, flow));
            }
        }
        None
    }
}
