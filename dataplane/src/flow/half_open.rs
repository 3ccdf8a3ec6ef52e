//! The half-open flows, the oldest first: those that leave when a full table needs room.
//!
//! Under a SYN flood every packet evicts one, so finding it must not be a search. The list runs
//! through the entries themselves; it costs no memory, a store or two for a SYN, and as much for
//! the packet that makes the flow a connection. What eviction waits for is the cache line of the
//! victim's bucket, so the next few victims' are asked for ahead.

use super::kept::Flow;
use super::table::{ALONE, END, Table};
use super::{Key, State};
use crate::types::Tick;

/// Victims whose buckets are on the way: a few packets' time is a cache miss.
const AHEAD: u32 = 8;

/// When more than one flow in so many is half-open in a full table, the oldest goes however young it
/// is: under a flood there is no telling which are honest, and connections are worth more.
const FLOOD: usize = 64;
/// How long a client has to answer a SYN-ACK before its flow may make room, milliseconds.
const PATIENCE: u32 = 1000;

/// Both ends of the list, and how far ahead of the first one buckets have been asked for.
#[derive(Debug)]
pub(super) struct HalfOpen {
    pub(super) first: u32,
    pub(super) last: u32,
    /// How many there are.
    pub(super) count: usize,
    scout: u32,
    ahead: u32,
}

impl HalfOpen {
    pub(super) const NONE: HalfOpen =
        HalfOpen { first: END, last: END, count: 0, scout: END, ahead: 0 };
}

impl<K: Key> Table<K> {
    /// Whether a half-open flow's client may still be about to answer.
    pub(super) fn is_young(&self, flow: &Flow<K>, now: Tick) -> bool {
        let span = self.span(State::SynReceived);
        flow.state == State::SynReceived
            && flow.deadline.remaining(now).saturating_add(PATIENCE) > span
    }

    /// Puts a live entry that is in no list at the end.
    #[inline(always)]
    pub(super) fn list(&mut self, entry: u32) {
        let last = self.half_open.last;
        if let Some(place) = self.entries.get_mut(entry as usize) {
            (place.link, place.back) = (END, last);
        }
        match self.entries.get_mut(last as usize) {
            Some(before) => before.link = entry,
            None => self.half_open.first = entry,
        }
        self.half_open.last = entry;
        self.half_open.count += 1;
    }

    /// Takes an entry that is in the list out.
    #[inline(always)]
    pub(super) fn unlist(&mut self, entry: u32) {
        let Some(place) = self.entries.get_mut(entry as usize) else { return };
        let (link, back) = (place.link, place.back);
        (place.link, place.back) = (END, ALONE);
        self.half_open.count = self.half_open.count.saturating_sub(1);
        match self.entries.get_mut(back as usize) {
            Some(before) => before.link = link,
            None => self.half_open.first = link,
        }
        match self.entries.get_mut(link as usize) {
            Some(after) => after.back = back,
            None => self.half_open.last = back,
        }
        if back == END {
            self.half_open.ahead = self.half_open.ahead.saturating_sub(1);
        }
        if self.half_open.scout == entry {
            (self.half_open.scout, self.half_open.ahead) = (END, 0);
        }
    }

    /// Keeps the list right when a flow's state changes.
    #[inline]
    pub(super) fn relist(&mut self, entry: u32, from: State, to: State) {
        match (from == State::SynReceived, to == State::SynReceived) {
            (true, false) => self.unlist(entry),
            (false, true) => self.list(entry),
            // Another connection under the same key: the last, not the first to go.
            (true, true) => {
                self.unlist(entry);
                self.list(entry);
            }
            (false, false) => {}
        }
    }

    /// The flow that has been half-open for longest, if it is time for it to go: there are so many
    /// that somebody floods, or it has had its time to answer. Asks for the buckets of the next.
    #[inline(always)]
    pub(super) fn oldest_half_open(&mut self, now: Tick) -> Option<u32> {
        let first = self.half_open.first;
        let oldest = self.entries.get(first as usize)?;
        let flood = self.half_open.count * FLOOD > self.entries.len();
        if !flood && self.is_young(&oldest.flow, now) {
            return None;
        }
        if self.half_open.scout == END {
            (self.half_open.scout, self.half_open.ahead) = (first, 0);
        }
        while self.half_open.ahead < AHEAD {
            let Some(scout) = self.entries.get(self.half_open.scout as usize) else { break };
            let Some(next) = self.entries.get(scout.link as usize) else { break };
            self.prefetch_bucket(self.hash(&next.flow.key));
            crate::arch::prefetch_at(&self.entries, next.link as usize);
            self.half_open.scout = scout.link;
            self.half_open.ahead += 1;
        }
        Some(first)
    }
}
