//! The words of one template.
//!
//! `owner` says whose the place is and how far that has come; whoever wants the place changes it
//! by compare-exchange. `bond` is the real server and the deadline, so that both change at once.
//! `flows` counts, and names the real server it counts for: flows of one that the network was
//! bound to before are none of the new one's. Its bit 31 says that one of them was established, bit 30
//! that the client has come over time.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::NetworkKey;
use crate::hash::mix::PI;
use crate::types::{RealId, ServiceId, Tick};

/// How far a place has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody's.
    Empty = 0,
    /// Being filled by one worker; not found yet.
    Claimed = 1,
    /// A template.
    Live = 2,
    /// Was claimed, and another worker was first. Only the one that claimed it may empty it, for
    /// that one may still write to it.
    Lost = 3,
}

/// A client network: an address under a netmask.
pub trait Network: Copy + Eq + fmt::Debug {
    /// What of it does not fit the word `owner`.
    type Rest: Default + fmt::Debug;

    /// All of its 32 bits, or as many of a hash of it under `seed`.
    fn bits(self, seed: u64) -> u32;
    /// Whether a place whose word has these bits is of this network.
    fn is_in(self, rest: &Self::Rest) -> bool;
    /// Writes what does not fit the word.
    fn put(self, rest: &Self::Rest);
    /// The network of a place whose word has `bits`.
    fn of(bits: u32, rest: &Self::Rest) -> Self;
}

impl Network for Ipv4Addr {
    type Rest = ();

    fn bits(self, _: u64) -> u32 {
        self.to_bits()
    }

    fn is_in(self, (): &()) -> bool {
        true
    }

    fn put(self, (): &()) {}

    fn of(bits: u32, (): &()) -> Ipv4Addr {
        Ipv4Addr::from_bits(bits)
    }
}

/// Two networks of one bucket may have the same bits: then one is told from the other by the rest,
/// and while both are being claimed at once, one starts again.
impl Network for Ipv6Addr {
    type Rest = [AtomicU64; 2];

    fn bits(self, seed: u64) -> u32 {
        let (high, low) = ((self.to_bits() >> 64) as u64, self.to_bits() as u64);
        let product = u128::from(high ^ seed) * u128::from(low ^ seed.rotate_left(32) ^ PI[0]);
        (product as u64 ^ (product >> 64) as u64) as u32
    }

    fn is_in(self, rest: &[AtomicU64; 2]) -> bool {
        Self::of(0, rest) == self
    }

    fn put(self, [high, low]: &[AtomicU64; 2]) {
        high.store((self.to_bits() >> 64) as u64, SeqCst);
        low.store(self.to_bits() as u64, SeqCst);
    }

    fn of(_: u32, [high, low]: &[AtomicU64; 2]) -> Ipv6Addr {
        let (high, low) = (high.load(SeqCst), low.load(SeqCst));
        Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))
    }
}

/// The word `owner`: client network (or a hash of it), virtual service, version and stage, from the
/// top. A version grows by one with each claim, so that a word read twice means the same template
/// both times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(pub(super) u64);

const VERSION_STEP: u64 = 4;
const VERSION_MASK: u64 = 0xfffc;

impl Owner {
    /// The bits that stand for a key.
    pub(super) fn key_bits<A: Network>(key: &NetworkKey<A>, seed: u64) -> Option<u64> {
        let service = u16::try_from(key.service.0).ok()?;
        Some(u64::from(key.network.bits(seed)) << 32 | u64::from(service) << 16)
    }

    pub(super) const fn stage(self) -> Stage {
        match self.0 & 3 {
            0 => Stage::Empty,
            1 => Stage::Claimed,
            2 => Stage::Live,
            _ => Stage::Lost,
        }
    }

    /// Whether it is in this stage, of the key with these bits.
    pub(super) fn is(self, key_bits: u64, stage: Stage) -> bool {
        self.0 & !VERSION_MASK == key_bits | stage as u64
    }

    /// The same place at another stage.
    pub(super) const fn at(self, stage: Stage) -> Owner {
        Owner(self.0 & !3 | stage as u64)
    }

    /// The next one to have the place.
    pub(super) const fn claimed_by(self, key_bits: u64) -> Owner {
        let version = self.0.wrapping_add(VERSION_STEP) & VERSION_MASK;
        Owner(key_bits | version | Stage::Claimed as u64)
    }

    pub(super) const fn service(self) -> ServiceId {
        ServiceId((self.0 >> 16) as u16 as u32)
    }
}

/// The word `bond`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bond {
    pub(super) real: RealId,
    pub(super) deadline: Tick,
}

impl Bond {
    pub(super) const fn word(self) -> u64 {
        (self.real.0 as u64) << 32 | self.deadline.0 as u64
    }

    pub(super) const fn of(word: u64) -> Bond {
        Bond { real: RealId((word >> 32) as u32), deadline: Tick(word as u32) }
    }
}

/// The bit of the word `flows` that says that a flow was established.
const ASSURED: u64 = 1 << 31;
/// The bit that says that the client has come over time.
const PROVEN: u64 = 1 << 30;
/// The bits that count.
const COUNT: u64 = PROVEN - 1;

/// A place for a template.
#[derive(Debug)]
pub(super) struct Entry<A: Network> {
    owner: AtomicU64,
    bond: AtomicU64,
    flows: AtomicU64,
    rest: A::Rest,
}

impl<A: Network> Default for Entry<A> {
    fn default() -> Entry<A> {
        let word = || AtomicU64::new(0);
        Entry { owner: word(), bond: word(), flows: word(), rest: A::Rest::default() }
    }
}

impl<A: Network> Entry<A> {
    pub(super) fn owner(&self) -> Owner {
        Owner(self.owner.load(SeqCst))
    }

    /// Changes whose it is, if nobody has since it was `from`.
    pub(super) fn pass(&self, from: Owner, to: Owner) -> bool {
        self.owner.compare_exchange(from.0, to.0, SeqCst, SeqCst).is_ok()
    }

    pub(super) fn bond(&self) -> Bond {
        Bond::of(self.bond.load(SeqCst))
    }

    pub(super) fn rebind(&self, from: Bond, to: Bond) -> bool {
        self.bond.compare_exchange(from.word(), to.word(), SeqCst, SeqCst).is_ok()
    }

    /// Whether it is in this stage, of this key, whose bits are `key_bits`.
    pub(super) fn is(
        &self,
        owner: Owner,
        key: &NetworkKey<A>,
        key_bits: u64,
        stage: Stage,
    ) -> bool {
        owner.is(key_bits, stage) && key.network.is_in(&self.rest)
    }

    /// Whose it is. What is read is of one template if `owner` is the word before and after.
    pub(super) fn key(&self, owner: Owner) -> NetworkKey<A> {
        NetworkKey { service: owner.service(), network: A::of((owner.0 >> 32) as u32, &self.rest) }
    }

    /// Only by the worker that claimed it.
    pub(super) fn fill(&self, key: &NetworkKey<A>, bond: Bond) {
        key.network.put(&self.rest);
        self.bond.store(bond.word(), SeqCst);
        self.flows.store(u64::from(bond.real.0) << 32, SeqCst);
    }

    /// Flows bound to `real`.
    pub(super) fn flows(&self, real: RealId) -> u32 {
        let word = self.flows.load(SeqCst);
        if (word >> 32) as u32 == real.0 { (word & COUNT) as u32 } else { 0 }
    }

    /// Whether a flow to `real` was established.
    pub(super) fn is_assured(&self, real: RealId) -> bool {
        let word = self.flows.load(SeqCst);
        (word >> 32) as u32 == real.0 && word & ASSURED != 0
    }

    /// A flow to `real` is established.
    pub(super) fn assure(&self, real: RealId) {
        let _ = self.flows.fetch_update(SeqCst, SeqCst, |word| {
            ((word >> 32) as u32 == real.0 && word & ASSURED == 0).then_some(word | ASSURED)
        });
    }

    /// Whether a client bound to `real` has come over time.
    pub(super) fn is_proven(&self, real: RealId) -> bool {
        let word = self.flows.load(SeqCst);
        (word >> 32) as u32 == real.0 && word & PROVEN != 0
    }

    /// A client bound to `real` has come over time.
    pub(super) fn prove(&self, real: RealId) {
        let _ = self.flows.fetch_update(SeqCst, SeqCst, |word| {
            ((word >> 32) as u32 == real.0 && word & PROVEN == 0).then_some(word | PROVEN)
        });
    }

    /// Begins again, as no template of before.
    pub(super) fn begin_again(&self) {
        self.flows.fetch_and(!(ASSURED | PROVEN), SeqCst);
    }

    /// One more; counting starts again with another real server.
    pub(super) fn add_flow(&self, real: RealId) {
        let _ = self.flows.fetch_update(SeqCst, SeqCst, |word| {
            let before = if (word >> 32) as u32 == real.0 { word } else { 0 };
            let count = ((before & COUNT) + 1).min(COUNT);
            Some(u64::from(real.0) << 32 | before & (ASSURED | PROVEN) | count)
        });
    }

    /// One less; true when it was the last.
    pub(super) fn sub_flow(&self, real: RealId) -> bool {
        let before = self.flows.fetch_update(SeqCst, SeqCst, |word| {
            ((word >> 32) as u32 == real.0 && word & COUNT > 0).then(|| word - 1)
        });
        before.is_ok_and(|word| word & COUNT == 1)
    }

    /// Whether the template with this bond is over: its time is, and its flows are gone.
    pub(super) fn is_over(&self, bond: Bond, now: Tick) -> bool {
        bond.deadline.reached(now) && self.flows(bond.real) == 0
    }
}
