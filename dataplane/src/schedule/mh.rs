//! Maglev hashing: a client's place in the [Maglev table](super::maglev) decides.
//!
//! As in LVS, the client's address alone is hashed unless `hash_ports` (`mh-port`) adds its L4
//! port. A client so keeps its real server across connections, restarts and directors with the
//! same key and real servers.
//!
//! # Against LVS
//! The kernel hashes with a key known to all and, with `mh-port`, the mere sum of address and
//! port; its table has 4093 slots and rounds weights to a few bits. A drained member keeps its
//! slots there and its clients get no service unless `mh-fallback` is set. Here it has no slot,
//! and its clients' new flows go to the others.

use super::hash::ClientHash;
use super::maglev::Table;
use super::{BuildError, Member, Options};
use crate::types::FlowKey;

#[derive(Debug)]
pub(super) struct Mh {
    table: Table,
    hash: ClientHash,
}

impl Mh {
    pub(super) fn build(members: &[Member], options: &Options) -> Result<Mh, BuildError> {
        Ok(Mh { table: Table::build(members, options)?, hash: ClientHash::new(options) })
    }

    #[inline]
    pub(super) fn pick(&self, flow: &FlowKey) -> Option<usize> {
        self.table.owner(self.hash.of(flow))
    }

    pub(super) fn table(&self) -> &[u16] {
        self.table.slots()
    }
}
