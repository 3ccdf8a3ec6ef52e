//! Source hashing: the client's address decides.
//!
//! # Against LVS
//! The kernel fills 256 buckets with the members in list order, each as many times in a row as
//! its weight: any change moves most clients, and weights beyond 256 buckets are lost. It hashes
//! without a key, and drops a client whose bucket belongs to a drained member unless `sh-fallback`
//! is set. What an administrator wants of `sh` is that a client keeps its real server, so here it
//! is `mh` by its older name: the same [Maglev table](super::maglev) and the same hash, few clients
//! moved by a change, exact weights, drained members without buckets. `hash_ports` (`sh-port`)
//! adds the client's L4 port, and `fallback` (`sh-fallback`) lets another real server stand in for
//! one that is full.

use super::mh::Mh;
use super::{BuildError, Loads, Member, Options};
use crate::types::Tuple;

#[derive(Debug)]
pub(super) struct Sh(Mh);

impl Sh {
    pub(super) fn build(members: &[Member], options: &Options) -> Result<Sh, BuildError> {
        Mh::build(members, options).map(Sh)
    }

    #[inline]
    pub(super) fn pick(&self, flow: &impl Tuple, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        self.0.pick(flow, loads)
    }

    #[inline(always)]
    pub(super) fn owner(&self, flow: &impl Tuple) -> Option<usize> {
        self.0.owner(flow)
    }

    pub(super) fn table(&self) -> &[u16] {
        self.0.table()
    }
}
