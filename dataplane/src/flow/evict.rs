//! Making room: which flow leaves when there is none.

use super::bucket::tag;
use super::table::{Cause, Flow, Place, Removed, Table};
use super::{Key, State};
use crate::types::Tick;

/// Flows looked at in a full table before the best so far is judged.
const CHUNK: usize = 16;
/// Such steps at most: 128 flows lie in 64 neighbouring cache lines, which the processor
/// prefetches, so a search takes well under a microsecond.
const CHUNKS: usize = 8;

/// How much a flow is worth keeping: the least goes first. Class in the upper half, milliseconds
/// left in the lower.
type Worth = u64;

/// The first [`Worth`] that is neither expired nor half-open.
const CONNECTED: Worth = 2 << 32;
/// The first [`Worth`] that is not expired.
const ALIVE: Worth = 1 << 32;

#[inline]
fn worth<K>(flow: &Flow<K>, now: Tick) -> Worth {
    if flow.expired(now) {
        return 0;
    }
    let class: Worth = match flow.state {
        State::SynReceived => 1,
        State::Closing | State::Closed => 2,
        State::Udp => 3,
        State::Established => 4,
    };
    class << 32 | Worth::from(flow.deadline.remaining(now))
}

impl<K: Key> Table<K> {
    /// Frees a slot in one of two full buckets: by an expired flow, by moving a flow to its other
    /// bucket, or by eviction. Rare, so it may read all 24 flows.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(
        &mut self,
        primary: usize,
        alternate: usize,
        now: Tick,
    ) -> (usize, usize, Option<Removed<K>>) {
        let victim = self
            .residents(primary, alternate)
            .filter_map(|place| {
                let flow = &self.entries.get(place.entry as usize)?.flow;
                Some((worth(flow, now), place))
            })
            .min_by_key(|&(worth, _)| worth);
        // The buckets are full, so there is one.
        let Some((worth, Place { bucket, slot, entry })) = victim else {
            return (primary, 0, None);
        };
        if worth >= ALIVE {
            if let Some((bucket, slot)) = self.displace(primary, alternate) {
                return (bucket, slot, None);
            }
        }
        (bucket, slot, self.evict(entry, now))
    }

    /// Moves the first flow that can to its other bucket; the slot it leaves.
    fn displace(&mut self, primary: usize, alternate: usize) -> Option<(usize, usize)> {
        let (from, hash, to) = self.residents(primary, alternate).find_map(|place| {
            let hash = self.hash(&self.entries.get(place.entry as usize)?.flow.key);
            let home = self.primary(hash);
            let other = if place.bucket == home { self.alternate(hash) } else { home };
            let slot = self.buckets.get(other)?.vacancy()?;
            Some((place, hash, (other, slot)))
        })?;
        self.buckets.get_mut(from.bucket)?.clear(from.slot);
        self.buckets.get_mut(to.0)?.fill(to.1, tag(hash), from.entry);
        let home = self.primary(hash);
        let line = self.buckets.get_mut(home)?;
        if to.0 == home {
            line.sub_overflow();
        } else {
            line.add_overflow();
        }
        self.counters.moved += 1;
        Some((from.bucket, from.slot))
    }

    /// The flows of two buckets.
    fn residents(&self, first: usize, second: usize) -> impl Iterator<Item = Place> {
        let second = if first == second { None } else { Some(second) };
        std::iter::once(first).chain(second).flat_map(move |bucket| {
            self.buckets.get(bucket).into_iter().flat_map(move |line| {
                line.occupied().map(move |slot| Place { bucket, slot, entry: line.entry(slot) })
            })
        })
    }

    /// Frees an entry of a table that has none free.
    #[cold]
    #[inline(never)]
    pub(super) fn evict_any(&mut self, now: Tick) -> Option<Removed<K>> {
        let mut best: Option<(Worth, usize)> = None;
        let mut at = self.hand;
        let mut left = self.entries.len();
        for _ in 0..CHUNKS {
            for _ in 0..CHUNK.min(left) {
                if let Some(entry) = self.entries.get(at) {
                    let worth = worth(&entry.flow, now);
                    if best.is_none_or(|(least, _)| worth < least) {
                        best = Some((worth, at));
                    }
                }
                at = if at + 1 < self.entries.len() { at + 1 } else { 0 };
            }
            left = left.saturating_sub(CHUNK);
            if best.is_some_and(|(least, _)| least < CONNECTED) {
                break;
            }
        }
        self.hand = at;
        self.evict(best?.1 as u32, now)
    }

    fn evict(&mut self, entry: u32, now: Tick) -> Option<Removed<K>> {
        let expired = self.entries.get(entry as usize)?.flow.expired(now);
        self.take(entry, if expired { Cause::Expired } else { Cause::Evicted })
    }
}
