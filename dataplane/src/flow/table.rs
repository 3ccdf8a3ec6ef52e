//! The table of one worker: buckets that hold the flows.
//!
//! # Layout
//!
//! For IPv4 a bucket is one cache line and holds three flows ([`Bucket`]); the table has nearly as
//! many buckets as it can hold flows, so that a third of the slots of a full table is in use. Nine
//! flows in ten are in their first bucket then, 99 of 100 when it is half full. The address of that
//! bucket follows from the hash, so a lookup waits for one cache line. The whole key is always
//! compared.
//!
//! # Placement
//!
//! A hash stands for a sequence of buckets, [`Table::bucket`]. A key goes to the first of them with
//! an empty slot, and each that it passes over counts it, so that a lookup goes on to the next
//! only from a bucket that a key was passed over. No flow ever moves.
//!
//! # Invariants
//!
//! - A live flow is in exactly one slot, of a bucket of its key's sequence. No key is in the table
//!   twice.
//! - A bucket's count (`beyond`) is the number of live keys that have it earlier in their sequence
//!   than the bucket they are in; once it has been 255 it stays.
//! - Newcomers of each kind are counted, and each owner's flows.
//! - [`Counters::inserted`] = [`len`](Table::len) + the other counters but `away` and
//!   `evicted_proven`.

use super::bucket::Bucket;
use super::evict::Victims;
use super::fill::fill;
use super::hash::{Packed, next_hash};
use super::newcomers::{Kind, Newcomers};
use super::record::{
    Cause, Counters, Flow, FlowFlags, FlowRef, Inserted, Lookup, NewShardError, Passed, Removed,
};
use super::shares::Shares;
use super::state::{Spans, stays};
use super::{State, TableKey, Timeouts};
use crate::arch::{prefer_huge_pages, prefetch_at};
use crate::hash::Seed;
use crate::types::{FlowKey, FlowKey6, RealId, Tick};

/// The flow table of one worker, for IPv4: 64 bytes a flow.
pub type Shard = Table<FlowKey>;

/// The flow table of one worker, for IPv6: 128 bytes a flow, two a bucket of two cache lines.
pub type Shard6 = Table<FlowKey6, 2>;

/// Slots that a key may be in.
const CHOICE: usize = 24;

/// One bucket in so many is left out, and pays for the lists of newcomers.
const LEFT_OUT: usize = 64;

/// A fixed-size hash table of flows, `N` a bucket; see the [module](super) for its use.
#[derive(Debug)]
pub struct Table<K: TableKey, const N: usize = 3> {
    pub(super) buckets: Vec<Bucket<K, N>>,
    capacity: usize,
    len: usize,
    /// Where the next sweep goes on.
    pub(super) cursor: usize,
    /// Where the search for a victim in a full table goes on.
    pub(super) hand: usize,
    /// What that search has found so far.
    pub(super) victims: Victims,
    /// Flows that have not proven themselves, the oldest first.
    pub(super) newcomers: Newcomers,
    /// When a newcomer of each kind was last found to push out what is worth as much.
    pub(super) pushing: [Option<Tick>; 3],
    pub(super) shares: Shares,
    pub(super) seed: Seed,
    pub(super) spans: Spans,
    pub(super) counters: Counters,
}

impl<K: TableKey, const N: usize> Table<K, N> {
    /// The most flows a table can hold.
    pub const MAX_CAPACITY: usize = 1 << 28;

    /// Flows at most that a place of a [`sweep`](Table::sweep) holds.
    pub const PLACE: usize = N;

    /// Buckets that a key may be in: as many as hold 24 flows.
    pub(super) const BUCKETS: usize = CHOICE / N;

    /// A table for exactly `capacity` flows, with LVS's timeouts. All its memory is allocated,
    /// and touched, here.
    pub fn new(capacity: usize, seed: Seed) -> Result<Self, NewShardError> {
        Self::build(capacity, seed, &mut |_| true)
    }

    /// [`Table::new`] for those who want to know how far it is: `step` is told how many bytes of
    /// [`Table::bytes`] have been touched since it was last, and says whether to go on.
    pub fn build(
        capacity: usize,
        seed: Seed,
        step: &mut impl FnMut(usize) -> bool,
    ) -> Result<Self, NewShardError> {
        const { assert!(N >= 1 && N <= 4) };
        if !(1..=Self::MAX_CAPACITY).contains(&capacity) {
            return Err(NewShardError::Capacity { capacity, max: Self::MAX_CAPACITY });
        }
        let out_of_memory = |_| NewShardError::OutOfMemory { capacity };
        let mut buckets = Vec::new();
        let count = Self::buckets_for(capacity);
        buckets.try_reserve_exact(count).map_err(out_of_memory)?;
        prefer_huge_pages(&mut buckets);
        fill(&mut buckets, count, Bucket::new(), step)?;
        Ok(Table {
            buckets,
            capacity,
            len: 0,
            cursor: 0,
            hand: 0,
            victims: Victims::default(),
            newcomers: Newcomers::new(capacity).map_err(out_of_memory)?,
            pushing: [None; 3],
            shares: Shares::default(),
            seed,
            spans: Spans::new(&Timeouts::default()),
            counters: Counters::default(),
        })
    }

    const fn buckets_for(capacity: usize) -> usize {
        capacity - capacity / LEFT_OUT
    }

    /// Bytes of the buckets of a table for `capacity` flows: nearly all of its memory.
    pub const fn bytes(capacity: usize) -> u64 {
        Self::buckets_for(capacity) as u64 * size_of::<Bucket<K, N>>() as u64
    }

    /// Gives each of so many owners of real servers an equal share of the table, of those that have
    /// flows. Whoever has less loses nothing to those that have more. Allocates; to be called
    /// before the first flow.
    pub fn divide(&mut self, reals: usize, owners: usize) {
        self.shares = Shares::new(reals, owners, self.capacity);
    }

    /// Tells whose flows those of a real server are, those that are there too.
    #[inline(always)]
    pub fn assign(&mut self, real: RealId, owner: u32) {
        self.shares.assign(real, owner);
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
        self.capacity
    }

    /// Bytes of memory in use, from construction to the end.
    pub fn memory_bytes(&self) -> usize {
        let buckets = self.buckets.len() * size_of::<Bucket<K, N>>();
        size_of::<Self>() + buckets + self.newcomers.memory_bytes() + self.shares.memory_bytes()
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

    /// Stage one: asks for the first bucket's cache line (both of an IPv6 one).
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.prefetch_nth(self.bucket(hash, 0));
    }

    /// Whether many buckets are full, so that [`prefetch_next`](Table::prefetch_next) is worth its
    /// while before new flows come.
    #[inline(always)]
    pub fn is_crowded(&self) -> bool {
        self.len > self.capacity / 8 * 7
    }

    /// Between the stages, in a crowded table: reads the first bucket, and asks for the second
    /// if a flow may have to go, or may have gone, there.
    #[inline(always)]
    pub fn prefetch_next(&self, hash: u64) {
        let first = self.bucket(hash, 0);
        let Some(bucket) = self.buckets.get(first) else { return };
        // Without a branch, which one packet in ten would take.
        let goes_on = bucket.beyond() > 0 || bucket.marks.iter().all(|mark| mark.live());
        let second = self.bucket(hash, 1);
        prefetch_at(&self.buckets, if goes_on { second } else { first });
    }

    #[inline(always)]
    pub(super) fn prefetch_nth(&self, bucket: usize) {
        prefetch_at(&self.buckets, bucket);
        if size_of::<Bucket<K, N>>() > 64 {
            if let Some(bucket) = self.buckets.get(bucket) {
                crate::arch::prefetch(&bucket.marks);
            }
        }
    }

    /// Stage two for nearly every packet: the flow of this key is in its first bucket, has not
    /// expired, and the packet leaves it in its state. Restarts its timer; its real server.
    /// `signal` is [`Event::of_signal`](super::Event::of_signal)'s, of a packet of the key's protocol.
    ///
    /// [`Passed::Unknown`] says nothing: [`lookup`](Table::lookup) decides.
    #[inline(always)]
    pub fn pass(
        &mut self,
        hash: u64,
        addresses: &K::Addresses,
        ports: u32,
        signal: u8,
        now: Tick,
    ) -> Passed {
        let bucket = self.bucket(hash, 0);
        let Some(bucket) = self.buckets.get_mut(bucket) else { return Passed::Unknown };
        let slot = bucket.likely(addresses, ports);
        if !bucket.has(slot, addresses, ports) {
            return if bucket.beyond() == 0 { Passed::Absent } else { Passed::Unknown };
        }
        let mark = bucket.marks[slot];
        // The protocol need not be asked for: no packet of one leaves a state of the other as it is.
        if !stays(mark.place(), signal) || bucket.deadlines[slot].reached(now) {
            return Passed::Unknown;
        }
        bucket.deadlines[slot] = now.after(self.spans.at(mark.place()));
        Passed::Real(bucket.real(slot))
    }

    /// Stage two: whether there is no such flow at all, as far as the first bucket tells. False
    /// says nothing.
    #[inline(always)]
    pub fn lacks(&self, hash: u64, key: &Packed<K::Addresses>) -> bool {
        let bucket = self.buckets.get(self.bucket(hash, 0));
        bucket.is_some_and(|bucket| {
            let slot = bucket.likely(&key.addresses, key.ports);
            !bucket.has(slot, &key.addresses, key.ports) && bucket.beyond() == 0
        })
    }

    /// Stage two: the flow of a key. One that has expired is removed and reported.
    #[inline]
    pub fn lookup(&mut self, key: &K, hash: u64, now: Tick) -> Lookup<K> {
        let Some(place) = self.locate(key, hash) else { return Lookup::Miss };
        let expired = match self.at(place) {
            Some((bucket, slot)) => bucket.deadlines[slot].reached(now),
            None => false,
        };
        if !expired {
            return Lookup::Hit(FlowRef(place));
        }
        match self.take(place, Cause::Expired) {
            Some(removed) => Lookup::Expired(removed),
            None => Lookup::Miss,
        }
    }

    /// As [`lookup`](Table::lookup), for those who may only look: an expired flow is absent, and
    /// stays where it is.
    #[inline]
    pub fn find(&self, key: &K, hash: u64, now: Tick) -> Option<Flow<K>> {
        let (bucket, slot) = self.at(self.locate(key, hash)?)?;
        bucket.flow(slot).filter(|flow| !flow.expired(now))
    }

    /// The flow itself; a closed one of nobody if there is none.
    #[inline(always)]
    pub fn get(&self, flow: FlowRef) -> Flow<K> {
        let found = self.at(flow.0).and_then(|(bucket, slot)| bucket.flow(slot));
        found.unwrap_or_else(|| Flow {
            key: K::unpack(Packed { addresses: K::Addresses::default(), ports: 0, bit: false }),
            real: RealId(0),
            deadline: Tick(0),
            state: State::Closed,
            proven: false,
            flags: FlowFlags::NONE,
        })
    }

    /// Puts a flow into the table, a newcomer; `hash` is its key's. Always succeeds.
    ///
    /// A flow with the same key is replaced. A full table, or full buckets, lose a flow by policy:
    /// an expired one first, then one in SynReceived, then a closing or closed one, then a newcomer
    /// of UDP, then one of TCP, then UDP that has proven itself, then TCP that has. Of newcomers the
    /// oldest goes, of others the one nearest its deadline; one whose owner has less than its share
    /// after all others that have proven themselves as much.
    ///
    /// Where all buckets of the key are full the policy chooses among their 24 flows. In a full
    /// table of up to 128 flows it chooses among all. In a larger one a newcomer has a second to
    /// prove itself; after that the oldest leaves, wherever it is, if a search finds nothing that is
    /// worth less. When more than one flow in 64 is
    /// a newcomer of its kind (SynReceived, UDP, TCP), one of these leaves however young it is.
    /// While they are less than one flow in 48 the oldest is known, else it is searched: those of
    /// the least class in the next 32 buckets leave, eight at most, one for each new flow, before
    /// it goes on from there. It looks at up to 128 buckets, nearly as many flows, before one that
    /// has proven itself leaves (of these up to 32, those nearest their deadline). The sweep finds
    /// the expired.
    pub fn insert(
        &mut self,
        key: K,
        hash: u64,
        real: RealId,
        state: State,
        flags: FlowFlags,
        now: Tick,
    ) -> Inserted<K> {
        debug_assert_eq!(hash, self.hash(&key), "not the key's hash");
        let deadline = now.after(self.spans.of(state));
        let flow = Flow { key, real, deadline, state, proven: false, flags };
        let packed = key.pack();
        self.counters.inserted += 1;

        // Nearly always there is room in the first bucket, and no such flow in the table.
        let at = self.bucket(hash, 0);
        match self.buckets.get_mut(at).filter(|bucket| bucket.beyond() == 0) {
            Some(bucket) if self.len < self.capacity && bucket.find(&packed).is_none() => {
                if let Some(slot) = bucket.vacancy() {
                    bucket.put(slot, &packed, &flow, false);
                    self.len += 1;
                    self.enlist(&flow, join(at, slot), hash);
                    return Inserted { flow: FlowRef(join(at, slot)), evicted: None };
                }
            }
            _ => {}
        }
        self.insert_anywhere(&packed, hash, &flow, now)
    }

    /// The same, wherever there is room, or can be made.
    #[inline(never)]
    fn insert_anywhere(
        &mut self,
        packed: &Packed<K::Addresses>,
        hash: u64,
        flow: &Flow<K>,
        now: Tick,
    ) -> Inserted<K> {
        let (mut vacancy, mut may_be_here) = (None, true);
        for nth in 0..Self::BUCKETS {
            let at = self.bucket(hash, nth);
            let Some(bucket) = self.buckets.get(at) else { break };
            if may_be_here {
                if let Some(slot) = bucket.find(packed) {
                    return self.replace(join(at, slot), hash, flow, now);
                }
                may_be_here = bucket.beyond() > 0;
            }
            if vacancy.is_none() {
                vacancy = bucket.vacancy().map(|slot| (nth, at, slot));
            }
            if vacancy.is_some() && !may_be_here {
                break;
            }
        }
        // At most one flow leaves: one that leaves a bucket leaves the table too.
        let ((nth, at, slot), evicted) = match vacancy {
            Some(vacancy) if self.len < self.capacity => (vacancy, None),
            Some(vacancy) => (vacancy, self.evict_any(now)),
            None => self.make_room(hash, now),
        };
        if nth > 0 {
            self.pass_over(hash, nth);
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.put(slot, packed, flow, nth > 0);
            self.len += 1;
        }
        self.enlist(flow, join(at, slot), hash);
        Inserted { flow: FlowRef(join(at, slot)), evicted }
    }

    /// Whether a new flow of this hash would evict no other.
    pub fn has_room(&self, hash: u64) -> bool {
        let is_vacant =
            |at| self.buckets.get(at).is_some_and(|b: &Bucket<K, N>| b.vacancy().is_some());
        self.len < self.capacity && (0..Self::BUCKETS).any(|nth| is_vacant(self.bucket(hash, nth)))
    }

    /// Takes note of a flow that has come.
    #[inline(always)]
    fn enlist(&mut self, flow: &Flow<K>, place: u32, hash: u64) {
        self.shares.add(flow.real);
        if let Some(kind) = Kind::of(flow.state, flow.proven) {
            self.newcomers.list(kind, place, hash);
        }
    }

    /// Takes note of a flow that has gone.
    #[inline(always)]
    fn delist(&mut self, flow: &Flow<K>) {
        self.shares.sub(flow.real);
        if let Some(kind) = Kind::of(flow.state, flow.proven) {
            self.newcomers.forget_one(kind);
        }
    }

    /// Takes a flow out. None if it is out already.
    pub fn remove(&mut self, flow: FlowRef) -> Option<Removed<K>> {
        self.take(flow.0, Cause::Removed)
    }

    /// How long a flow in this state lasts without a packet, in milliseconds.
    pub const fn span(&self, state: State) -> u32 {
        self.spans.of(state)
    }

    /// The `nth` bucket that a key of this hash may be in.
    #[inline(always)]
    pub(super) fn bucket(&self, hash: u64, nth: usize) -> usize {
        // The upper half as a fraction of the number of buckets, which need be no power of two.
        let nth_bucket = |hash: u64| (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize;
        let count = self.buckets.len();
        if nth == 0 {
            nth_bucket(hash)
        } else if count > CHOICE {
            nth_bucket(next_hash(hash, nth as u64))
        } else {
            // Neighbours: as many slots as there are, or more than there can be flows.
            (nth_bucket(hash) + nth) % count
        }
    }

    /// The bucket and slot of a place.
    #[inline(always)]
    pub(super) fn at(&self, place: u32) -> Option<(&Bucket<K, N>, usize)> {
        let (bucket, slot) = split(place);
        if slot < N { Some((self.buckets.get(bucket)?, slot)) } else { None }
    }

    #[inline(always)]
    fn locate(&self, key: &K, hash: u64) -> Option<u32> {
        let (packed, at) = (key.pack(), self.bucket(hash, 0));
        let bucket = self.buckets.get(at)?;
        match bucket.find(&packed) {
            Some(slot) => Some(join(at, slot)),
            None if bucket.beyond() == 0 => None,
            None => self.locate_beyond(&packed, hash),
        }
    }

    #[cold]
    fn locate_beyond(&self, key: &Packed<K::Addresses>, hash: u64) -> Option<u32> {
        for nth in 1..Self::BUCKETS {
            let at = self.bucket(hash, nth);
            let bucket = self.buckets.get(at)?;
            if let Some(slot) = bucket.find(key) {
                return Some(join(at, slot));
            }
            if bucket.beyond() == 0 {
                break;
            }
        }
        None
    }

    /// A key goes to the `nth` of its buckets: the others count it.
    #[cold]
    fn pass_over(&mut self, hash: u64, nth: usize) {
        self.counters.away += 1;
        for nth in 0..nth {
            let at = self.bucket(hash, nth);
            if let Some(bucket) = self.buckets.get_mut(at) {
                bucket.pass_over();
            }
        }
    }

    /// A key leaves a bucket that is not its first: those before count it no more.
    #[cold]
    fn come_back(&mut self, hash: u64, from: usize) {
        for nth in 0..Self::BUCKETS {
            let at = self.bucket(hash, nth);
            if at == from {
                break;
            }
            if let Some(bucket) = self.buckets.get_mut(at) {
                bucket.come_back();
            }
        }
    }

    /// Puts `flow` where one with the same key is.
    #[cold]
    fn replace(&mut self, place: u32, hash: u64, flow: &Flow<K>, now: Tick) -> Inserted<K> {
        let (at, slot) = split(place);
        let mut evicted = None;
        if let Some(bucket) = self.buckets.get_mut(at) {
            let old = bucket.flow(slot);
            let away = bucket.marks.get(slot).is_some_and(|mark| mark.away());
            bucket.put(slot, &flow.key.pack(), flow, away);
            if let Some(old) = old {
                // Another connection under the same key: the last, not the first to go.
                self.delist(&old);
                self.enlist(flow, place, hash);
                let cause = if old.expired(now) { Cause::Expired } else { Cause::Replaced };
                evicted = Some(self.report(old, cause));
            }
        }
        Inserted { flow: FlowRef(place), evicted }
    }

    /// Takes the flow of a place out; none if it has none.
    #[inline]
    pub(super) fn take(&mut self, place: u32, cause: Cause) -> Option<Removed<K>> {
        let (at, slot) = split(place);
        let bucket = self.buckets.get_mut(at)?;
        let flow = bucket.flow(slot)?;
        let away = bucket.marks[slot].away();
        bucket.clear(slot);
        self.len -= 1;
        if away {
            self.come_back(self.hash(&flow.key), at);
        }
        self.delist(&flow);
        Some(self.report(flow, cause))
    }

    #[inline]
    fn report(&mut self, flow: Flow<K>, cause: Cause) -> Removed<K> {
        let Flow { key, real, state, proven, flags, .. } = flow;
        let lost = matches!(cause, Cause::Evicted) && proven;
        self.counters.evicted_proven += u64::from(lost);
        let counter = match cause {
            Cause::Expired => &mut self.counters.expired,
            Cause::Evicted => &mut self.counters.evicted[state as usize],
            Cause::Replaced => &mut self.counters.replaced,
            Cause::Removed => &mut self.counters.removed,
        };
        *counter += 1;
        Removed { key, real, state, proven, flags, cause }
    }
}

impl Table<FlowKey> {
    /// The hash of a key's [words](FlowKey::words).
    #[inline(always)]
    pub fn hash_words(&self, (addresses, ports): (u64, u64)) -> u64 {
        self.seed.hash(addresses, ports)
    }
}

impl<const N: usize> Table<FlowKey6, N> {
    /// The hash of a key's [words](FlowKey6::words).
    #[inline(always)]
    pub fn hash_words(&self, words: &[u64; 5]) -> u64 {
        self.seed.hash_wide(words)
    }
}

/// A place: bucket and slot in one number.
#[inline(always)]
pub(super) const fn join(bucket: usize, slot: usize) -> u32 {
    (bucket as u32) << 2 | slot as u32
}

/// The bucket and slot of a place.
#[inline(always)]
pub(super) const fn split(place: u32) -> (usize, usize) {
    ((place >> 2) as usize, (place & 3) as usize)
}
