//! Which real server takes a new flow: rr, wrr, lc, wlc, sh, mh.
//!
//! (layer schedule: imports types only)
//!
//! # Threading
//! A [`Scheduler`] is built off-path by [`Scheduler::build`] (it may allocate and takes up to a
//! few milliseconds) and never changes afterwards, so any number of workers may share one.
//! [`Scheduler::pick`] runs on the packet path: no allocation, lock, clock or log line. All that
//! changes between two picks is the worker's own [`Cursor`] and what [`Loads`] reports.
//!
//! # Invariants
//! A member of weight 0 is never picked: it drains. The weight of a hash scheduler's member is
//! its share of the clients; of `wrr` its share of the picks; of `wlc` its share of the
//! connections; `rr` and `lc` know only zero and not zero.
//!
//! # Adding a scheduler
//! One file with a type that has `build` and `pick`, one line in each `match` of this file. `sed`
//! and `nq` are another `load::Cost`; `dh` is `sh` with another hash; `fo` and `ovf` need an
//! ordered list and [`Loads`].
//!
//! # Sources
//! Behaviour follows Linux 6.x `net/netfilter/ipvs/ip_vs_{rr,wrr,lc,wlc,sh,mh}.c` where the files
//! here do not say otherwise, and Eisenbud et al., "Maglev: A Fast and Reliable Software Network
//! Load Balancer", NSDI 2016.
#![forbid(unsafe_code)]

mod cursor;
mod hash;
mod input;
mod lc;
mod load;
mod maglev;
mod mh;
mod prime;
mod rr;
mod sh;
mod threshold;
mod wlc;
mod wrr;

pub use cursor::Cursor;
pub use hash::HashKey;
pub use input::{
    BuildError, DEFAULT_MAGLEV_SIZE, MAX_MAGLEV_SIZE, MAX_MEMBERS, MAX_WEIGHT, Member, Options,
};
pub use load::{Load, Loads};
pub use threshold::Thresholds;

use crate::types::{FlowKey, SchedulerKind};

/// A virtual service's scheduler, compiled for its real servers. Immutable; see the module.
#[derive(Debug)]
pub struct Scheduler(Algorithm);

#[derive(Debug)]
enum Algorithm {
    Rr(rr::Rr),
    Wrr(wrr::Wrr),
    Lc(lc::Lc),
    Wlc(wlc::Wlc),
    Sh(sh::Sh),
    Mh(mh::Mh),
}

impl Scheduler {
    /// Compiles `kind` for `members`. Off-path: allocates, and for the hash schedulers takes time
    /// in proportion to the table (benches/maglev.rs), so keep the object while its input stays.
    ///
    /// No members, or only members of weight 0, is a valid service that takes no new flows.
    pub fn build(
        kind: SchedulerKind,
        members: &[Member],
        options: &Options,
    ) -> Result<Scheduler, BuildError> {
        input::check_members(members)?;
        Ok(Scheduler(match kind {
            SchedulerKind::Rr => Algorithm::Rr(rr::Rr::build(members)),
            SchedulerKind::Wrr => Algorithm::Wrr(wrr::Wrr::build(members)),
            SchedulerKind::Lc => Algorithm::Lc(lc::Lc::build(members)),
            SchedulerKind::Wlc => Algorithm::Wlc(wlc::Wlc::build(members)),
            SchedulerKind::Sh => Algorithm::Sh(sh::Sh::build(members, options)?),
            SchedulerKind::Mh => Algorithm::Mh(mh::Mh::build(members, options)?),
        }))
    }

    /// The member a new flow goes to, as an index into the `members` it was built for, or `None`
    /// when no member takes new flows.
    ///
    /// Only a hash scheduler reads `key`, only `rr`, `wrr`, `lc` and `wlc` use `cursor`, and only
    /// `lc` and `wlc` ask `loads` (once for each member that takes new flows).
    #[inline]
    pub fn pick(
        &self,
        key: &FlowKey,
        cursor: &mut Cursor,
        loads: &(impl Loads + ?Sized),
    ) -> Option<usize> {
        match &self.0 {
            Algorithm::Rr(s) => s.pick(cursor),
            Algorithm::Wrr(s) => s.pick(cursor),
            Algorithm::Lc(s) => s.pick(cursor, loads),
            Algorithm::Wlc(s) => s.pick(cursor, loads),
            Algorithm::Sh(s) => s.pick(key),
            Algorithm::Mh(s) => s.pick(key),
        }
    }

    /// What it was built as.
    pub const fn kind(&self) -> SchedulerKind {
        match self.0 {
            Algorithm::Rr(_) => SchedulerKind::Rr,
            Algorithm::Wrr(_) => SchedulerKind::Wrr,
            Algorithm::Lc(_) => SchedulerKind::Lc,
            Algorithm::Wlc(_) => SchedulerKind::Wlc,
            Algorithm::Sh(_) => SchedulerKind::Sh,
            Algorithm::Mh(_) => SchedulerKind::Mh,
        }
    }

    /// The lookup table of a hash scheduler, slot by slot the index of the member that owns it
    /// (empty when no member takes new flows); `None` for the others. To explain a pick, or to
    /// count what a change of members moves.
    pub fn table(&self) -> Option<&[u16]> {
        match &self.0 {
            Algorithm::Sh(s) => Some(s.table()),
            Algorithm::Mh(s) => Some(s.table()),
            _ => None,
        }
    }
}
