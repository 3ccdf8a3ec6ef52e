//! Making room: which flow leaves when there is none.

use arrayvec::ArrayVec;

use super::bucket::Mark;
use super::record::{Cause, Removed};
use super::table::{Table, join};
use super::{Key, State};
use crate::types::Tick;

/// Up to so many flows a full table is judged as a whole.
const SMALL: usize = 128;
/// Buckets looked at in a larger one for want of a half-open flow: neighbours, which the processor
/// prefetches. There are as many as flows, nearly.
const SOME: usize = 32;
/// How often it looks at so many more, for something worth less than a young flow.
const TRIES: usize = 4;
/// Flows that all those buckets have at most.
const MOST: usize = SOME * TRIES * 4;
/// How many of the flows of `SOME` leave at most, one for each flow that comes, before the next are
/// looked at. What an eviction costs is reading them, so it is shared.
const FEW: usize = SOME / SHARE;
/// The same where all had to be looked at.
const MANY: usize = TRIES * FEW;
/// One in so many of them.
const SHARE: usize = 4;

/// The flows of such a search that are to leave next, the first one last.
#[derive(Debug, Default)]
pub(super) struct Victims(ArrayVec<Victim, MANY>);

/// A place (30 bits) below what the flow there was worth.
type Victim = u64;

/// Bits of a [`Victim`] that are its place.
const PLACE: u32 = 30;

#[inline(always)]
const fn class(victim: Victim) -> u64 {
    victim >> (LEFT + PLACE)
}

/// How much a flow is worth keeping; the least goes. Class above 31 bits of milliseconds left.
type Worth = u64;

/// Bits of a [`Worth`] below its class.
const LEFT: u32 = 31;
/// The class of a half-open flow.
const HALF_OPEN: Worth = 1;
/// The class of a flow whose client may still be about to answer.
const YOUNG: Worth = 4;

/// The class of a flow that has not expired, by its state counted from one.
const CLASSES: [u8; 8] = {
    let mut classes = [0; 8];
    classes[State::SynReceived as usize + 1] = HALF_OPEN as u8;
    classes[State::Closing as usize + 1] = 2;
    classes[State::Closed as usize + 1] = 2;
    classes[State::Udp as usize + 1] = 3;
    classes[State::Established as usize + 1] = YOUNG as u8 + 1;
    classes
};

#[inline(always)]
fn worth(mark: Mark, deadline: Tick, now: Tick) -> Worth {
    let left = Worth::from(deadline.remaining(now));
    if left == 0 { 0 } else { Worth::from(CLASSES[mark.place()]) << LEFT | left }
}

/// An empty slot and its `nth` bucket for a key, and the flow that left it.
pub(super) type Room<K> = ((usize, usize, usize), Option<Removed<K>>);

impl<K: Key, const N: usize> Table<K, N> {
    /// Frees a slot in one of the buckets of a hash, which are full. Rare, so it may read all 24
    /// flows.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(&mut self, hash: u64, now: Tick) -> Room<K> {
        let buckets = (0..Self::BUCKETS).map(|nth| (nth, self.bucket(hash, nth)));
        let flows = buckets.flat_map(|(nth, at)| {
            self.buckets.get(at).into_iter().flat_map(move |bucket| {
                bucket.occupied().map(move |slot| {
                    (worth(bucket.marks[slot], bucket.deadlines[slot], now), (nth, at, slot))
                })
            })
        });
        // The first of equals, so that a bucket that comes twice is the earlier one.
        match flows.min_by_key(|&(worth, _)| worth) {
            Some((_, room)) => (room, self.evict(join(room.1, room.2), now)),
            // Never: full buckets have flows.
            None => ((0, self.bucket(hash, 0), 0), None),
        }
    }

    /// Takes one flow out of a full table.
    #[inline(never)]
    pub(super) fn evict_any(&mut self, now: Tick) -> Option<Removed<K>> {
        if self.capacity() <= SMALL {
            let victim = self.survey(now)?;
            return self.evict(victim, now);
        }
        if let Some((place, flow)) = self.oldest_half_open(now) {
            return self
                .take(place, if flow.expired(now) { Cause::Expired } else { Cause::Evicted });
        }
        let victim = match self.next_victim(now) {
            Some(place) => place,
            None => {
                self.look_around(now);
                self.next_victim(now)?
            }
        };
        self.evict(victim, now)
    }

    /// The next victim, unless a packet has come for it meanwhile.
    #[inline(always)]
    fn next_victim(&mut self, now: Tick) -> Option<u32> {
        while let Some(victim) = self.victims.0.pop() {
            // The next search's flows are on the way meanwhile.
            for next in 0..SHARE {
                self.prefetch_nth(self.hand + self.victims.0.len() * SHARE + next);
            }
            let place = victim as u32 & ((1 << PLACE) - 1);
            let Some((bucket, slot)) = self.at(place) else { continue };
            let (mark, deadline) = (bucket.marks[slot], bucket.deadlines[slot]);
            if mark.live() && self.worth_in_a_crowd(mark, deadline, now) <= victim >> PLACE {
                return Some(place);
            }
        }
        None
    }

    /// As [`worth`], but a client gets the time to answer before its half-open flow counts for
    /// little: else a full table, whatever fills it, would make new connections impossible.
    #[inline(always)]
    fn worth_in_a_crowd(&self, mark: Mark, deadline: Tick, now: Tick) -> Worth {
        let worth = worth(mark, deadline, now);
        let young = worth >> LEFT == HALF_OPEN && self.is_young(State::SynReceived, deadline, now);
        if young { worth + ((YOUNG - HALF_OPEN) << LEFT) } else { worth }
    }

    /// Makes the least worth of some flows victims, a few, all of one class. Looks further while
    /// there are none but young and established ones.
    fn look_around(&mut self, now: Tick) {
        let mut found = ArrayVec::new();
        let start = self.hand;
        for _ in 0..TRIES {
            found.clear();
            self.hand = self.neighbours(self.hand, false, now, &mut found);
            if found.iter().any(|victim| class(*victim) < YOUNG) {
                break;
            }
        }
        let mut few = FEW;
        if found.is_empty() {
            // What has been looked at is close.
            let mut at = start;
            for _ in 0..TRIES {
                at = self.neighbours(at, true, now, &mut found);
            }
            few = MANY;
        }
        let least = found.iter().map(|victim| class(*victim)).min();
        found.retain(|victim| Some(class(*victim)) == least);
        if found.len() > few {
            found.select_nth_unstable(few);
            found.truncate(few);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        self.victims.0 = found.into_iter().take(MANY).collect();
    }

    /// The flows of some buckets that are worth less than established ones, or all of them; the
    /// bucket behind. Nearly all buckets have none, which their marks tell at once.
    #[inline(always)]
    fn neighbours(
        &self,
        start: usize,
        all: bool,
        now: Tick,
        found: &mut ArrayVec<Victim, MOST>,
    ) -> usize {
        let here = self.buckets.get(start..).unwrap_or_default();
        let here = here.get(..SOME).unwrap_or(here);
        for (at, bucket) in here.iter().enumerate().filter(|(_, b)| all || b.has_cheap()) {
            for slot in bucket.occupied() {
                let (mark, deadline) = (bucket.marks[slot], bucket.deadlines[slot]);
                if all || mark.is_cheap() {
                    let worth = self.worth_in_a_crowd(mark, deadline, now);
                    found.push(worth << PLACE | Victim::from(join(start + at, slot)));
                }
            }
        }
        let end = start + here.len();
        if end < self.buckets.len() { end } else { 0 }
    }

    /// The one least worth among all.
    fn survey(&self, now: Tick) -> Option<u32> {
        let all = self.buckets.iter().enumerate().flat_map(|(at, bucket)| {
            bucket.occupied().map(move |slot| {
                (worth(bucket.marks[slot], bucket.deadlines[slot], now), join(at, slot))
            })
        });
        all.min_by_key(|&(worth, _)| worth).map(|(_, place)| place)
    }

    fn evict(&mut self, place: u32, now: Tick) -> Option<Removed<K>> {
        let (bucket, slot) = self.at(place)?;
        let expired = bucket.deadlines[slot].reached(now);
        self.take(place, if expired { Cause::Expired } else { Cause::Evicted })
    }
}
