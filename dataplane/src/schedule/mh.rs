//! Maglev hashing: a client's place in the [Maglev table](super::maglev) decides.
//!
//! As in LVS, the client's address alone is hashed unless `hash_ports` (`mh-port`) adds its L4
//! port. A client so keeps its real server across connections, restarts and directors with the
//! same key and real servers.
//!
//! When the client's real server is full, its new flows have nobody, unless `fallback`
//! (`mh-fallback`) is set: then the owner of the next slot takes them that is not full, which is
//! another real server for each slot, so that the clients of a full one are spread.
//!
//! # Against LVS
//! The kernel hashes with a key known to all and, with `mh-port`, the mere sum of address and
//! port; its table has 4093 slots and rounds weights to a few bits. A drained member keeps its
//! slots there and its clients get no service unless `mh-fallback` is set. Here it has no slot,
//! and its clients' new flows go to the others, with the flag or without.

use super::hash::ClientHash;
use super::input::{Taker, in_order};
use super::maglev::Table;
use super::{BuildError, Loads, Member, Options};
use crate::types::Tuple;

/// Slots looked at for one that is not full, before all members are. Nearly all may be full, and
/// new flows come in floods then.
const MAX_PROBES: usize = 64;

#[derive(Debug)]
pub(super) struct Mh {
    table: Table,
    hash: ClientHash,
    fallback: bool,
    /// In the order configured.
    takers: Box<[Taker]>,
}

impl Mh {
    pub(super) fn build(members: &[Member], options: &Options) -> Result<Mh, BuildError> {
        Ok(Mh {
            table: Table::build(members, options)?,
            hash: ClientHash::new(options),
            fallback: options.fallback,
            takers: in_order(members),
        })
    }

    #[inline]
    pub(super) fn pick(&self, flow: &impl Tuple, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let hash = self.hash.of(flow);
        let owner = self.table.owner(hash)?;
        if !loads.is_full(owner) {
            return Some(owner);
        }
        if self.fallback { self.stand_in(hash, loads) } else { None }
    }

    #[inline(always)]
    pub(super) fn owner(&self, flow: &impl Tuple) -> Option<usize> {
        self.table.owner(self.hash.of(flow))
    }

    #[cold]
    fn stand_in(&self, hash: u64, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let is_free = |member: &usize| !loads.is_full(*member);
        let near = self.table.owners_from(hash).skip(1).take(MAX_PROBES).find(is_free);
        near.or_else(|| self.takers.iter().map(|taker| taker.index()).find(is_free))
    }

    pub(super) fn table(&self) -> &[u16] {
        self.table.slots()
    }
}
