//! Making room: which flow leaves when there is none.

use arrayvec::ArrayVec;

use super::bucket::Mark;
use super::newcomers::Kind;
use super::record::{Cause, FlowFlags, Removed};
use super::table::{Table, join};
use super::{Event, State, TableKey};
use crate::types::{RealId, Tick};

/// Up to so many flows a full table is judged as a whole.
const SMALL: usize = 128;
/// Buckets looked at in a larger one where no ring of newcomers has the victim: neighbours, which
/// the processor prefetches. There are as many as flows, nearly.
const SOME: usize = 32;
/// How often it looks at so many more, for something worth less than what has proven itself, or has
/// an owner with less than its share.
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

/// A place (30 bits) below what the flow there was worth, but for its lowest bit.
type Victim = u64;

/// Bits of a [`Victim`] that are its place.
const PLACE: u32 = 30;

#[inline(always)]
const fn class(victim: Victim) -> u64 {
    victim >> (LEFT - 1 + PLACE)
}

#[inline(always)]
const fn place(victim: Victim) -> u32 {
    victim as u32 & ((1 << PLACE) - 1)
}

/// How long newcomers must last for one more to be welcome that does without a flow, milliseconds:
/// so that one that sends every few seconds can prove itself.
const LASTING: u32 = 10_000;

/// How much a flow is worth keeping; the least goes. Class above 31 bits: of newcomers, how young
/// they are, of others, milliseconds left.
type Worth = u64;

/// Bits of a [`Worth`] below its class.
const LEFT: u32 = 31;
/// The class of a half-open flow, and of a copy that has not proven itself.
const HALF_OPEN: Worth = 1;
const OVER: Worth = 2;
const NEW_UDP: Worth = 3;
const NEW_TCP: Worth = 4;
/// The class of any newcomer whose owner has less than its share, but for those of TCP.
const PROTECTED_NEW: Worth = 5;
/// Above the class of any other whose owner has less than its share.
const PROTECTED: Worth = 2;
const PROVEN_UDP: Worth = 7;
const PROVEN_TCP: Worth = 8;
/// The class of a newcomer that has its time to prove itself, for no flood is on.
const YOUNG: Worth = 11;

/// The class of a flow that has not expired, by its place.
const CLASSES: [Worth; 8] = {
    let mut classes = [0; 8];
    classes[State::SynReceived.place(false) as usize] = HALF_OPEN;
    classes[State::Closing.place(false) as usize] = OVER;
    classes[State::Closed.place(false) as usize] = OVER;
    classes[State::Udp.place(false) as usize] = NEW_UDP;
    classes[State::Established.place(false) as usize] = NEW_TCP;
    classes[State::Udp.place(true) as usize] = PROVEN_UDP;
    classes[State::Established.place(true) as usize] = PROVEN_TCP;
    classes
};

/// An empty slot and its `nth` bucket for a key, and the flow that left it.
pub(super) type Room<K> = ((usize, usize, usize), Option<Removed<K>>);

impl<K: TableKey, const N: usize> Table<K, N> {
    /// Whether a flow that begins with such a packet would only push out another that is worth as
    /// much: in a full table that is flooded. Whoever finds the real server again by hash does
    /// better without a flow then.
    ///
    /// A SYN's flow would while more than one flow in 64 is half-open. One of an ACK or a datagram
    /// would while as many are newcomers of its kind and the one that had to leave for it has not
    /// lasted ten seconds; found once, that holds for the rest of the millisecond. One of a FIN
    /// would in any full table.
    #[inline(always)]
    pub fn is_flooded(&mut self, event: Event, now: Tick) -> bool {
        if self.len() < self.capacity() {
            return false;
        }
        match event {
            Event::Syn => self.is_flooding(Kind::HalfOpen),
            Event::Fin => true,
            Event::Ack => self.is_flooding(Kind::Tcp) && self.is_pushing(Kind::Tcp, now),
            Event::Datagram => self.is_flooding(Kind::Udp) && self.is_pushing(Kind::Udp, now),
            Event::Rst | Event::Other => false,
        }
    }

    /// A flood asks for each packet, and must not have a victim searched for each.
    #[inline(always)]
    fn is_pushing(&mut self, kind: Kind, now: Tick) -> bool {
        if self.pushing[kind as usize] == Some(now) {
            return true;
        }
        let pushing = self.would_push(kind, now);
        if pushing {
            self.pushing[kind as usize] = Some(now);
        }
        pushing
    }

    #[inline(never)]
    fn would_push(&mut self, kind: Kind, now: Tick) -> bool {
        let victim = self.choose(now).and_then(|(_, place)| self.at(place));
        let Some((bucket, slot)) = victim else { return false };
        let (mark, deadline) = (bucket.marks[slot], bucket.deadlines[slot]);
        match Kind::of(mark.state(), mark.proven()) {
            _ if deadline.reached(now) => false,
            Some(victim) => victim >= kind && self.age(mark.place(), deadline, now) < LASTING,
            None => mark.proven(),
        }
    }

    #[inline(always)]
    fn worth(&self, mark: Mark, real: RealId, deadline: Tick, now: Tick) -> Worth {
        let left = Worth::from(deadline.remaining(now));
        if left == 0 {
            return 0;
        }
        let class = CLASSES[mark.place()];
        let protected = || PROTECTED * Worth::from(self.shares.has_room(real));
        match class {
            HALF_OPEN if self.shares.has_room(real) => return PROTECTED_NEW << LEFT | left,
            HALF_OPEN | OVER => return class << LEFT | left,
            PROVEN_UDP | PROVEN_TCP => return (class + protected()) << LEFT | left,
            _ => {}
        }
        let young = (1 << LEFT) - 1 - Worth::from(self.age(mark.place(), deadline, now));
        match mark.flags().has(FlowFlags::REPLICA) {
            true => HALF_OPEN << LEFT | young,
            false => (class + protected()) << LEFT | young,
        }
    }

    /// Frees a slot in one of the buckets of a hash, which are full. Rare, so it may read all 24
    /// flows.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(&mut self, hash: u64, now: Tick) -> Room<K> {
        let this = &*self;
        let buckets = (0..Self::BUCKETS).map(|nth| (nth, this.bucket(hash, nth)));
        let flows = buckets.flat_map(|(nth, at)| {
            this.buckets.get(at).into_iter().flat_map(move |bucket| {
                bucket.occupied().map(move |slot| {
                    let (mark, real) = (bucket.marks[slot], bucket.real(slot));
                    (this.worth(mark, real, bucket.deadlines[slot], now), (nth, at, slot))
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
        let (from, victim) = self.choose(now)?;
        match from {
            Source::Ring(kind) => self.advance(kind),
            Source::Search => {
                self.victims.0.pop();
                // The next search's flows are on the way meanwhile.
                for next in 0..SHARE {
                    self.prefetch_nth(self.hand + self.victims.0.len() * SHARE + next);
                }
            }
            Source::Survey => {}
        }
        self.evict(victim, now)
    }

    /// The flow that leaves next, if a full table must have room now.
    #[inline(always)]
    fn choose(&mut self, now: Tick) -> Option<(Source, u32)> {
        if self.capacity() <= SMALL {
            return Some((Source::Survey, self.survey(now)?));
        }
        let mut newcomer = self.oldest_newcomer(now, true);
        if let Some((kind, place)) = newcomer.filter(|(kind, _)| self.is_flooding(*kind)) {
            return Some((Source::Ring(kind), place));
        }
        let victim = self.next_victim(now, true).or_else(|| {
            self.look_around(now);
            self.next_victim(now, false)
        });
        let least = victim.map_or(u64::MAX, class);
        // What a search has missed is no reason to lose what has proven itself.
        if newcomer.is_none() && least >= PROVEN_UDP {
            newcomer = self.oldest_newcomer(now, false);
        }
        match newcomer {
            // Of equals the oldest.
            Some((kind, place)) if self.class_at(place, now) <= least => {
                Some((Source::Ring(kind), place))
            }
            _ => victim.map(|victim| (Source::Search, place(victim))),
        }
    }

    /// The class of the flow at a place that has had its time to prove itself.
    fn class_at(&self, place: u32, now: Tick) -> Worth {
        self.at(place).map_or(0, |(bucket, slot)| {
            let (mark, deadline) = (bucket.marks[slot], bucket.deadlines[slot]);
            self.worth(mark, bucket.real(slot), deadline, now) >> LEFT
        })
    }

    /// The next victim of the last search, unless a packet has come for it meanwhile. Of an `old`
    /// search what has proven itself is no victim while newcomers flood: there was no flood then.
    #[inline(always)]
    fn next_victim(&mut self, now: Tick, old: bool) -> Option<Victim> {
        while let Some(&victim) = self.victims.0.last() {
            if let Some((bucket, slot)) = self.at(place(victim)) {
                let (mark, deadline) = (bucket.marks[slot], bucket.deadlines[slot]);
                let worth = self.worth_in_a_crowd(mark, bucket.real(slot), deadline, now);
                let late = old
                    && class(victim) >= PROVEN_UDP
                    && (self.is_flooding(Kind::Udp) || self.is_flooding(Kind::Tcp));
                if mark.live() && worth >> 1 <= victim >> PLACE && !late {
                    return Some(victim);
                }
            }
            self.victims.0.pop();
        }
        None
    }

    /// As [`worth`](Table::worth), but a newcomer gets the time to prove itself while no flood of
    /// its kind is on: else a full table, whatever fills it, would make new connections impossible.
    #[inline(always)]
    fn worth_in_a_crowd(&self, mark: Mark, real: RealId, deadline: Tick, now: Tick) -> Worth {
        let worth = self.worth(mark, real, deadline, now);
        let spared = Kind::of(mark.state(), mark.proven()).is_some_and(|kind| {
            worth >> LEFT != 0
                && !self.is_flooding(kind)
                && self.is_young(mark.place(), deadline, now)
        });
        if spared { worth & ((1 << LEFT) - 1) | YOUNG << LEFT } else { worth }
    }

    /// Makes the least worth of some flows victims, a few, all of one class. Looks further while
    /// there are none but those that have proven themselves or whose owner has less than its share.
    fn look_around(&mut self, now: Tick) {
        let mut found = ArrayVec::new();
        let start = self.hand;
        let enough = if self.is_flooding(Kind::Udp) { NEW_UDP } else { NEW_TCP };
        for _ in 0..TRIES {
            let before = found.len();
            self.hand = self.neighbours(self.hand, false, now, &mut found);
            let latest = found.get(before..).unwrap_or_default();
            if latest.iter().any(|victim| class(*victim) <= enough) {
                break;
            }
        }
        let mut few = FEW;
        if found.iter().all(|victim| class(*victim) > PROVEN_UDP) {
            // What has been looked at is close.
            found.clear();
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

    /// The flows of some buckets that are not established and proven, or all of them; the bucket
    /// behind. Where nearly all buckets have none, their marks tell at once.
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
                    let worth = self.worth_in_a_crowd(mark, bucket.real(slot), deadline, now);
                    found.push(worth >> 1 << PLACE | Victim::from(join(start + at, slot)));
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
                let (mark, real) = (bucket.marks[slot], bucket.real(slot));
                (self.worth(mark, real, bucket.deadlines[slot], now), join(at, slot))
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

/// Where a victim was found.
#[derive(Clone, Copy)]
enum Source {
    /// First in the ring of its kind.
    Ring(Kind),
    /// Last of the [`Victims`].
    Search,
    /// Among all.
    Survey,
}
