//! The table of one worker: buckets that lead to entries.
//!
//! # Layout
//!
//! A lookup touches one line of `buckets` and one of `entries`. A bucket holds twelve one-byte
//! tags and entry numbers; an entry is 32 bytes, two a line (64 for IPv6), and holds the whole
//! key, which is always compared. A table has a bucket for every four flows it can hold, so that at
//! most a third of the slots is in use: a full table still places new keys in their first bucket,
//! and a lookup compares a wrong key once in sixty times.
//!
//! # Placement
//!
//! The hash's upper half chooses the primary bucket, its lower half the alternate one, its low
//! byte the tag. A key goes to its primary bucket if there is room, else to its alternate, and
//! then the primary counts it, so that lookups of other keys read the alternate bucket only if
//! something overflowed. With both full, a key of either moves to its own other bucket.
//!
//! # Invariants
//!
//! - An entry is either in the list of free entries (`link` is its successor, `back` is [`FREE`])
//!   or live and in exactly one slot of one of its key's two buckets. No key is in the table twice.
//! - A live entry is in the list of half-open flows (`link` and `back` are its neighbors) if its
//!   state is `SynReceived`, and alone (`back` is [`ALONE`]) if it is not.
//! - A bucket's overflow count is the number of live keys whose primary it is and which are
//!   in their alternate.
//! - [`Counters::inserted`] = [`len`](Table::len) + the other counters but `moved`.

use super::bucket::{Bucket, tag};
use super::evict::Victims;
use super::half_open::HalfOpen;
use super::kept::{Cause, Counters, Flags, Flow, Inserted, Lookup, NewShardError, Removed};
use super::state::{Spans, Step};
use super::{Event, Key, Seed, State, Timeouts, Transition};
use crate::arch::{prefer_huge_pages, prefetch_at};
use crate::types::{FlowKey, FlowKey6, RealId, Tick};

/// The flow table of one worker, for IPv4.
pub type Shard = Table<FlowKey>;

/// The flow table of one worker, for IPv6: an entry is a whole cache line, 80 bytes a flow in all.
pub type Shard6 = Table<FlowKey6>;

/// Flows that one bucket is provided for.
const FLOWS_PER_BUCKET: usize = 4;

/// `link` of the last in a list, `back` of the first.
pub(super) const END: u32 = u32::MAX;
/// `back` of a free entry.
pub(super) const FREE: u32 = u32::MAX - 1;
/// `back` of a live entry that is in no list.
pub(super) const ALONE: u32 = u32::MAX - 2;

/// A place in the table, 32 bytes for IPv4, 64 for IPv6, and never across a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Entry<K: Key> {
    pub(super) flow: Flow<K>,
    /// The next in its list.
    pub(super) link: u32,
    /// The one before it there, or what it is.
    pub(super) back: u32,
    align: K::Align,
}

impl<K: Key> Entry<K> {
    #[inline(always)]
    pub(super) const fn live(&self) -> bool {
        self.back != FREE
    }
}

/// Names a flow of one shard until that flow is removed; a place, not a promise.
///
/// Any insertion may remove any flow, and the place is then used again. Keep one no longer than
/// the handling of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlowRef(u32);

/// Where [`Table::prefetch_entry`] expects a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Guess(u32);

impl Guess {
    /// No idea.
    pub const NONE: Guess = Guess(u32::MAX);
}

/// Where a key was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) bucket: usize,
    pub(super) slot: usize,
    pub(super) entry: u32,
}

/// A fixed-size hash table of flows; see the [module](super) for its use.
#[derive(Debug)]
pub struct Table<K: Key> {
    pub(super) buckets: Vec<Bucket>,
    pub(super) entries: Vec<Entry<K>>,
    /// First free entry, or [`END`].
    pub(super) free: u32,
    len: usize,
    /// Where the next sweep goes on.
    pub(super) cursor: usize,
    /// Where the search for a victim in a full table goes on.
    pub(super) hand: usize,
    /// What that search has found so far.
    pub(super) victims: Victims,
    /// The half-open flows, the oldest first.
    pub(super) half_open: HalfOpen,
    pub(super) seed: Seed,
    spans: Spans,
    pub(super) counters: Counters,
    /// What [`get`](Table::get) shows for a place that is not in this table.
    nobody: Flow<K>,
}

impl<K: Key> Table<K> {
    /// The most flows a table can hold.
    pub const MAX_CAPACITY: usize = 1 << 28;

    /// A table for exactly `capacity` flows, with LVS's timeouts. All its memory is allocated,
    /// and touched, here.
    pub fn new(capacity: usize, seed: Seed) -> Result<Table<K>, NewShardError> {
        if !(1..=Self::MAX_CAPACITY).contains(&capacity) {
            return Err(NewShardError::Capacity { capacity, max: Self::MAX_CAPACITY });
        }
        let out_of_memory = |_| NewShardError::OutOfMemory { capacity };
        let mut buckets = Vec::new();
        let count = capacity.div_ceil(FLOWS_PER_BUCKET);
        buckets.try_reserve_exact(count).map_err(out_of_memory)?;
        prefer_huge_pages(&mut buckets);
        buckets.resize(count, Bucket::NEW);

        let mut entries = Vec::new();
        entries.try_reserve_exact(capacity).map_err(out_of_memory)?;
        prefer_huge_pages(&mut entries);
        entries.extend((1..=capacity as u32).map(|link| Entry {
            flow: Flow::FILLER,
            link,
            back: FREE,
            align: K::Align::default(),
        }));
        if let Some(last) = entries.last_mut() {
            last.link = END;
        }

        Ok(Table {
            buckets,
            entries,
            free: 0,
            len: 0,
            cursor: 0,
            hand: 0,
            victims: Victims::default(),
            half_open: HalfOpen::NONE,
            seed,
            spans: Spans::new(&Timeouts::default()),
            counters: Counters::default(),
            nobody: Flow::FILLER,
        })
    }

    /// Sets the timeouts. A flow takes its new one up with its next packet, as in LVS.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) {
        self.spans = Spans::new(timeouts);
    }

    /// Flows in the table, among them expired ones not yet found.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Flows the table can hold.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of memory in use, from construction to the end.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.buckets.len() * size_of::<Bucket>()
            + self.entries.len() * size_of::<Entry<K>>()
    }

    /// Totals since construction.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The hash the other calls want. Tables with the same seed agree on it.
    #[inline(always)]
    pub fn hash(&self, key: &K) -> u64 {
        key.hash(&self.seed)
    }

    /// Stage one: asks for the bucket's cache line.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        prefetch_at(&self.buckets, self.primary(hash));
    }

    /// Stage two: reads the bucket and asks for the cache line of what may be the entry (or of
    /// the alternate bucket, where the key may have gone). The guess saves stage three the bucket.
    #[inline(always)]
    pub fn prefetch_entry(&self, hash: u64) -> Guess {
        let Some(bucket) = self.buckets.get(self.primary(hash)) else { return Guess::NONE };
        if let Some(slot) = bucket.matches(tag(hash)).next() {
            let entry = bucket.entry(slot);
            prefetch_at(&self.entries, entry as usize);
            return Guess(entry);
        }
        if bucket.overflow() > 0 {
            prefetch_at(&self.buckets, self.alternate(hash));
        }
        Guess::NONE
    }

    /// Stage three, first try: the flow of a key, if it is where stage two guessed and has not
    /// expired. `None` says nothing: [`lookup`](Table::lookup) decides. What was inserted or
    /// removed since the guess does no harm, as the whole key is compared.
    #[inline(always)]
    pub fn guessed(&self, guess: Guess, key: &K, now: Tick) -> Option<FlowRef> {
        let entry = self.entries.get(guess.0 as usize)?;
        let hit = entry.live() && entry.flow.key == *key && !entry.flow.expired(now);
        hit.then_some(FlowRef(guess.0))
    }

    /// Stage three: the flow of a key. One that has expired is removed and reported.
    #[inline]
    pub fn lookup(&mut self, key: &K, hash: u64, now: Tick) -> Lookup<K> {
        let Some(place) = self.locate(key, hash) else { return Lookup::Miss };
        let flow = FlowRef(place.entry);
        if !self.get(flow).expired(now) {
            return Lookup::Hit(flow);
        }
        match self.take(place.entry, Cause::Expired) {
            Some(removed) => Lookup::Expired(removed),
            None => Lookup::Miss,
        }
    }

    /// As [`lookup`](Table::lookup), for those who may only look: an expired flow is absent, and
    /// stays where it is.
    #[inline]
    pub fn find(&self, key: &K, hash: u64, now: Tick) -> Option<&Flow<K>> {
        let place = self.locate(key, hash)?;
        Some(self.get(FlowRef(place.entry))).filter(|flow| !flow.expired(now))
    }

    /// The flow itself.
    #[inline(always)]
    pub fn get(&self, flow: FlowRef) -> &Flow<K> {
        match self.entries.get(flow.0 as usize) {
            Some(entry) => &entry.flow,
            // Only with a reference from a larger shard.
            None => &self.nobody,
        }
    }

    /// Takes a packet of a flow into account: its state, and its deadline from `now`.
    #[inline]
    pub fn touch(&mut self, flow: FlowRef, event: Event, now: Tick) -> Transition {
        let number = flow.0;
        let Some(entry) = self.entries.get_mut(number as usize).filter(|e| e.live()) else {
            return Transition::Same;
        };
        let flow = &mut entry.flow;
        let from = flow.state;
        match from.step(event) {
            Step::To(to) => {
                flow.state = to;
                flow.deadline = now.after(self.spans.of(to));
                if from == to {
                    return Transition::Same;
                }
                self.relist(number, from, to);
                Transition::Changed { from, to }
            }
            Step::New => Transition::NewConnection { from },
            Step::Ignore => Transition::Same,
        }
    }

    /// Puts a flow into the table; `hash` is its key's. Always succeeds.
    ///
    /// A flow with the same key is replaced. A full table, or a full pair of buckets, loses
    /// a flow by policy: an expired one first, then one in SynReceived, then a closing or closed
    /// one, then UDP, then an established one; of equals the one nearest its deadline.
    ///
    /// In a full bucket pair the policy chooses among its 24 flows. In a full table of up to 128
    /// flows it chooses among all. In a larger one the oldest in SynReceived leaves, wherever it
    /// is, once it has been so for a second, or when more than one flow in 64 is in that state.
    /// Else those of the least class among the next 32 flows leave, eight at most, one for each
    /// new flow, before it goes on from there; a young SynReceived is worth more than UDP then,
    /// and it looks at up to 128 before an established one leaves. (The sweep finds the expired.)
    pub fn insert(
        &mut self,
        key: K,
        hash: u64,
        real: RealId,
        state: State,
        flags: Flags,
        now: Tick,
    ) -> Inserted<K> {
        debug_assert_eq!(hash, self.hash(&key), "not the key's hash");
        let flow = Flow { key, real, deadline: now.after(self.spans.of(state)), state, flags };
        self.counters.inserted += 1;
        if let Some(place) = self.locate(&key, hash) {
            return Inserted {
                flow: FlowRef(place.entry),
                evicted: self.replace(place.entry, flow, now),
            };
        }

        let (primary, alternate) = (self.primary(hash), self.alternate(hash));
        let (bucket, slot, made_room) = match self.vacancy(primary, alternate) {
            Some((bucket, slot)) => (bucket, slot, None),
            None => self.make_room(primary, alternate, now),
        };
        // A flow evicted from the buckets has left its entry free; so at most one flow leaves.
        let (entry, made_entry) = self.take_free(now);
        if let Some(place) = self.entries.get_mut(entry as usize) {
            let align = K::Align::default();
            *place = Entry { flow, link: END, back: ALONE, align };
            self.len += 1;
        }
        if state == State::SynReceived {
            self.list(entry);
        }
        if let Some(line) = self.buckets.get_mut(bucket) {
            line.fill(slot, tag(hash), entry);
        }
        if bucket != primary {
            if let Some(line) = self.buckets.get_mut(primary) {
                line.add_overflow();
            }
        }
        Inserted { flow: FlowRef(entry), evicted: made_room.or(made_entry) }
    }

    /// Takes a flow out. None if it is out already.
    pub fn remove(&mut self, flow: FlowRef) -> Option<Removed<K>> {
        self.take(flow.0, Cause::Removed)
    }

    /// How long a flow in this state lasts without a packet, in milliseconds.
    pub const fn span(&self, state: State) -> u32 {
        self.spans.of(state)
    }

    /// The flow's first bucket.
    #[inline(always)]
    pub(super) fn primary(&self, hash: u64) -> usize {
        // The upper half as a fraction of the number of buckets, which need be no power of two.
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    /// The flow's second bucket, another one if there are two.
    #[inline(always)]
    pub(super) fn alternate(&self, hash: u64) -> usize {
        let count = self.buckets.len();
        let bucket = (((hash & 0xffff_ffff) * count as u64) >> 32) as usize;
        if bucket != self.primary(hash) {
            bucket
        } else if bucket + 1 < count {
            bucket + 1
        } else {
            0
        }
    }

    #[inline(always)]
    fn locate(&self, key: &K, hash: u64) -> Option<Place> {
        let primary = self.primary(hash);
        let line = self.buckets.get(primary)?;
        let found = self.locate_in(primary, line, key, hash);
        if found.is_some() || line.overflow() == 0 {
            return found;
        }
        let alternate = self.alternate(hash);
        self.locate_in(alternate, self.buckets.get(alternate)?, key, hash)
    }

    #[inline(always)]
    fn locate_in(&self, bucket: usize, line: &Bucket, key: &K, hash: u64) -> Option<Place> {
        for slot in line.matches(tag(hash)) {
            let entry = line.entry(slot);
            match self.entries.get(entry as usize) {
                Some(found) if found.flow.key == *key => {
                    return Some(Place { bucket, slot, entry });
                }
                _ => {}
            }
        }
        None
    }

    /// An empty slot in one of two buckets, the first preferred.
    pub(super) fn vacancy(&self, first: usize, second: usize) -> Option<(usize, usize)> {
        [first, second].into_iter().find_map(|bucket| {
            let slot = self.buckets.get(bucket)?.vacancy()?;
            Some((bucket, slot))
        })
    }

    /// An entry to fill, by eviction if none is free.
    fn take_free(&mut self, now: Tick) -> (u32, Option<Removed<K>>) {
        let evicted = if self.free == END { self.evict_any(now) } else { None };
        let entry = self.free;
        if let Some(found) = self.entries.get(entry as usize) {
            self.free = found.link;
        }
        (entry, evicted)
    }

    /// Puts `flow` where one with the same key is.
    fn replace(&mut self, entry: u32, flow: Flow<K>, now: Tick) -> Option<Removed<K>> {
        let place = self.entries.get_mut(entry as usize)?;
        let old = std::mem::replace(&mut place.flow, flow);
        self.relist(entry, old.state, flow.state);
        let cause = if old.expired(now) { Cause::Expired } else { Cause::Replaced };
        Some(self.report(old, cause))
    }

    /// Takes the flow of an entry out; none if it has none.
    pub(super) fn take(&mut self, entry: u32, cause: Cause) -> Option<Removed<K>> {
        let place = self.entries.get(entry as usize).filter(|place| place.live())?;
        let flow = place.flow;
        if flow.state == State::SynReceived {
            self.unlist(entry);
        }
        if let Some(place) = self.entries.get_mut(entry as usize) {
            (place.link, place.back) = (self.free, FREE);
        }
        self.free = entry;
        self.len -= 1;

        let hash = self.hash(&flow.key);
        let primary = self.primary(hash);
        if !self.vacate(primary, tag(hash), entry) {
            self.vacate(self.alternate(hash), tag(hash), entry);
            if let Some(line) = self.buckets.get_mut(primary) {
                line.sub_overflow();
            }
        }
        Some(self.report(flow, cause))
    }

    /// Empties the slot that leads to `entry`; false if the bucket has none.
    pub(super) fn vacate(&mut self, bucket: usize, tag: u8, entry: u32) -> bool {
        let Some(line) = self.buckets.get_mut(bucket) else { return false };
        match line.matches(tag).find(|&slot| line.entry(slot) == entry) {
            Some(slot) => {
                line.clear(slot);
                true
            }
            None => false,
        }
    }

    fn report(&mut self, flow: Flow<K>, cause: Cause) -> Removed<K> {
        let Flow { key, real, state, flags, .. } = flow;
        let counter = match cause {
            Cause::Expired => &mut self.counters.expired,
            Cause::Evicted => &mut self.counters.evicted[state as usize],
            Cause::Replaced => &mut self.counters.replaced,
            Cause::Removed => &mut self.counters.removed,
        };
        *counter += 1;
        Removed { key, real, state, flags, cause }
    }
}

impl Table<FlowKey> {
    /// The hash of a key's [words](FlowKey::words).
    #[inline(always)]
    pub fn hash_words(&self, (addresses, ports): (u64, u64)) -> u64 {
        self.seed.hash(addresses, ports)
    }

    /// Stage three for nearly every packet: the flow that stage two guessed is that of the key of
    /// these [words](FlowKey::words), has not expired, and the packet leaves it in its state.
    /// Restarts its timer; its real server. `signal` is [`Event::of_signal`]'s.
    ///
    /// `None` says nothing, and nothing has changed: [`lookup`](Table::lookup) decides.
    #[inline(always)]
    pub fn pass(
        &mut self,
        guess: Guess,
        (addresses, ports): (u64, u64),
        signal: u8,
        now: Tick,
    ) -> Option<RealId> {
        let entry = self.entries.get_mut(guess.0 as usize)?;
        let flow = &mut entry.flow;
        let hit = flow.key.is(addresses, ports)
            && entry.back != FREE
            && !flow.deadline.reached(now)
            && flow.state.stays(signal);
        if !hit {
            return None;
        }
        flow.deadline = now.after(self.spans.of(flow.state));
        Some(flow.real)
    }
}
