//! The words of one template.
//!
//! `owner` says whose the place is and how far that has come; whoever wants the place changes it
//! by compare-exchange. `bond` is the real server and the deadline, so that both change at once.
//! `flows` counts, and names the real server it counts for: flows of one that the network was
//! bound to before are none of the new one's.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::NetworkKey;
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

/// The word `owner`: client network, virtual service, version and stage, from the top. A version
/// grows by one with each claim, so that a word read twice means the same template both times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(pub(super) u64);

const VERSION_STEP: u64 = 4;
const VERSION_MASK: u64 = 0xfffc;

impl Owner {
    /// The bits that stand for a key.
    pub(super) fn key_bits(key: &NetworkKey) -> Option<u64> {
        let service = u16::try_from(key.service.0).ok()?;
        Some(u64::from(key.network.to_bits()) << 32 | u64::from(service) << 16)
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

    pub(super) const fn key(self) -> NetworkKey {
        NetworkKey {
            service: ServiceId((self.0 >> 16) as u16 as u32),
            network: Ipv4Addr::from_bits((self.0 >> 32) as u32),
        }
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

/// A place for a template.
#[derive(Debug, Default)]
pub(super) struct Entry {
    owner: AtomicU64,
    bond: AtomicU64,
    flows: AtomicU64,
}

impl Entry {
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

    /// Only by the worker that claimed it.
    pub(super) fn fill(&self, bond: Bond) {
        self.bond.store(bond.word(), SeqCst);
        self.flows.store(u64::from(bond.real.0) << 32, SeqCst);
    }

    /// Flows bound to `real`.
    pub(super) fn flows(&self, real: RealId) -> u32 {
        let word = self.flows.load(SeqCst);
        if (word >> 32) as u32 == real.0 { word as u32 } else { 0 }
    }

    /// One more; counting starts again with another real server.
    pub(super) fn add_flow(&self, real: RealId) {
        let _ = self.flows.fetch_update(SeqCst, SeqCst, |word| {
            let before = if (word >> 32) as u32 == real.0 { word as u32 } else { 0 };
            Some(u64::from(real.0) << 32 | u64::from(before.saturating_add(1)))
        });
    }

    /// One less; true when it was the last.
    pub(super) fn sub_flow(&self, real: RealId) -> bool {
        let before = self.flows.fetch_update(SeqCst, SeqCst, |word| {
            ((word >> 32) as u32 == real.0 && word as u32 > 0).then(|| word - 1)
        });
        before.is_ok_and(|word| word as u32 == 1)
    }

    /// Whether the template with this bond is over: its time is, and its flows are gone.
    pub(super) fn is_over(&self, bond: Bond, now: Tick) -> bool {
        bond.deadline.reached(now) && self.flows(bond.real) == 0
    }
}
