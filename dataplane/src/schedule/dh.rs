//! Destination hashing: the VIP decides.
//!
//! As in `ip_vs_dh.c`, weights do not matter but for 0, and when the real server is full, new flows
//! have nobody. It was made for clusters of caches behind an LVS service by firewall mark; with
//! direct server return a virtual service has one VIP, and so one of its real servers takes all.
//!
//! # Against LVS
//! The kernel fills 256 buckets with the members in list order, so that any change moves most
//! addresses, and a drained member keeps its buckets and serves nobody. Here it is a
//! [Maglev table](super::maglev) of equal shares under the configured key, which drained members
//! are not in.

use super::hash::DestinationHash;
use super::maglev::Table;
use super::{BuildError, Loads, Member, Options};
use crate::types::Tuple;

#[derive(Debug)]
pub(super) struct Dh {
    table: Table,
    hash: DestinationHash,
}

impl Dh {
    pub(super) fn build(members: &[Member], options: &Options) -> Result<Dh, BuildError> {
        let equal = |m: &Member| Member { weight: m.weight.min(1), ..*m };
        let equals: Vec<_> = members.iter().map(equal).collect();
        Ok(Dh { table: Table::build(&equals, options)?, hash: DestinationHash::new(options) })
    }

    #[inline(always)]
    pub(super) fn owner(&self, flow: &impl Tuple) -> Option<usize> {
        self.table.owner(self.hash.of(flow))
    }

    #[inline]
    pub(super) fn pick(&self, flow: &impl Tuple, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let owner = self.owner(flow)?;
        (!loads.is_full(owner)).then_some(owner)
    }

    pub(super) fn table(&self) -> &[u16] {
        self.table.slots()
    }
}
