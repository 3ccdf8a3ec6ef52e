//! Making room: which flow leaves when there is none.

use arrayvec::ArrayVec;

use super::bucket::tag;
use super::kept::{Cause, Flow, Removed};
use super::table::{Place, Table};
use super::{Key, State};
use crate::arch::prefetch_at;
use crate::types::Tick;

/// Up to so many flows a full table is judged as a whole.
const SMALL: usize = 128;
/// Flows looked at in a larger one for want of a half-open flow: 16 neighbouring cache lines, which
/// the processor prefetches.
const SOME: usize = 32;
/// How many of them leave at most, one for each flow that comes, before the next are looked at. What
/// an eviction costs is reading those lines, so it is shared.
const FEW: usize = 8;
/// How often it looks further for something else than an established flow.
const TRIES: usize = 4;

/// The flows of such a search that are to leave next, the first one last, with what they were worth.
#[derive(Debug, Default)]
pub(super) struct Victims(ArrayVec<(Worth, u32), FEW>);

/// How much a flow is worth keeping: the least goes first. Class in the upper half, milliseconds
/// left in the lower.
type Worth = u64;

/// The class of an established flow; those below are worth less.
const ESTABLISHED: Worth = 5;
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
        State::Established => ESTABLISHED,
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
    #[inline(never)]
    pub(super) fn evict_any(&mut self, now: Tick) -> Option<Removed<K>> {
        let count = self.entries.len();
        let victim = if count <= SMALL {
            self.survey(now)?
        } else if let Some(oldest) = self.oldest_half_open(now) {
            oldest
        } else {
            match self.next_victim(now) {
                Some(entry) => entry,
                None => {
                    for _ in 0..TRIES {
                        if self.look_around(now) < ESTABLISHED {
                            break;
                        }
                    }
                    self.next_victim(now)?
                }
            }
        };
        self.evict(victim, now)
    }

    /// The next victim, unless a packet has come for it meanwhile.
    #[inline(always)]
    fn next_victim(&mut self, now: Tick) -> Option<u32> {
        while let Some((then, entry)) = self.victims.0.pop() {
            let found = self.entries.get(entry as usize);
            if found.is_some_and(|e| e.live() && self.worth_in_a_crowd(&e.flow, now) <= then) {
                return Some(entry);
            }
        }
        None
    }

    /// As [`worth`], but a client gets the time to answer before its half-open flow counts for little:
    /// else a full table, whatever fills it, would make new connections impossible.
    #[inline(always)]
    fn worth_in_a_crowd(&self, flow: &Flow<K>, now: Tick) -> Worth {
        if self.is_young(flow, now) {
            return (ESTABLISHED - 1) << 32 | Worth::from(flow.deadline.remaining(now));
        }
        worth(flow, now)
    }

    /// Makes the least worth of some flows victims, a few, all of one class, and asks for their
    /// buckets. Their class.
    fn look_around(&mut self, now: Tick) -> Worth {
        let mut found: ArrayVec<(Worth, u32), SOME> = ArrayVec::new();
        for _ in 0..SOME {
            if let Some(entry) = self.entries.get(self.hand) {
                found.push((self.worth_in_a_crowd(&entry.flow, now), self.hand as u32));
            }
            self.hand = if self.hand + 1 < self.entries.len() { self.hand + 1 } else { 0 };
        }
        if found.len() > FEW {
            found.select_nth_unstable(FEW);
            found.truncate(FEW);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        let class = found.last().map_or(ESTABLISHED, |(worth, _)| worth >> 32);
        found.retain(|(worth, _)| *worth >> 32 == class);
        for &(_, entry) in &found {
            if let Some(entry) = self.entries.get(entry as usize) {
                self.prefetch_bucket(self.hash(&entry.flow.key));
            }
        }
        self.victims.0 = found.into_iter().collect();
        // The next search's flows are on the way meanwhile.
        for line in 0..SOME / 2 {
            prefetch_at(&self.entries, self.hand + 2 * line);
        }
        class
    }

    /// The one least worth among all.
    fn survey(&self, now: Tick) -> Option<u32> {
        let all = self.entries.iter().enumerate();
        let least = all.min_by_key(|(_, entry)| worth(&entry.flow, now));
        least.map(|(at, _)| at as u32)
    }

    fn evict(&mut self, entry: u32, now: Tick) -> Option<Removed<K>> {
        let expired = self.entries.get(entry as usize)?.flow.expired(now);
        self.take(entry, if expired { Cause::Expired } else { Cause::Evicted })
    }
}
