//! Which real server takes a new flow: rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, fo, ovf, mh,
//! twos.
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
//! connections; `rr`, `lc` and `dh` know only zero and not zero. A member that is full, as
//! [`Loads::is_full`] says, is never picked either, by any of them.
//!
//! # Adding a scheduler
//! One file with a type that has `build` and `pick`, one line in each `match` of this file, and a
//! section in `docs/schedulers.md`.
//!
//! # Sources
//! Behaviour follows Linux 6.x `net/netfilter/ipvs/ip_vs_*.c` where the files here do not say
//! otherwise, and Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016.
#![forbid(unsafe_code)]

mod cursor;
mod dh;
mod fo;
mod hash;
mod input;
mod lc;
mod load;
mod locality;
mod maglev;
mod mh;
mod nq;
mod ovf;
mod prime;
mod rr;
mod sed;
mod sh;
mod threshold;
mod twos;
mod wlc;
mod wrr;

pub use cursor::Cursor;
pub use hash::HashKey;
pub use input::{
    BuildError, DEFAULT_MAGLEV_SIZE, MAX_MAGLEV_SIZE, MAX_MEMBERS, MAX_WEIGHT, Member, Options,
};
pub use load::{Load, Loads};
pub use threshold::Thresholds;

use crate::types::Tuple;
use crate::vocabulary::SchedulerKind;

/// A virtual service's scheduler, compiled for its real servers. Immutable; see the module.
#[derive(Debug)]
pub struct Scheduler(Algorithm);

#[derive(Debug)]
enum Algorithm {
    Rr(rr::Rr),
    Wrr(wrr::Wrr),
    Lc(lc::Lc),
    Wlc(wlc::Wlc),
    Lblc(locality::Lblc),
    Lblcr(locality::Lblcr),
    Sh(sh::Sh),
    Dh(dh::Dh),
    Sed(sed::Sed),
    Nq(nq::Nq),
    Fo(fo::Fo),
    Ovf(ovf::Ovf),
    Mh(mh::Mh),
    Twos(twos::Twos),
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
            SchedulerKind::Lblc => Algorithm::Lblc(locality::Lblc::build(members)),
            SchedulerKind::Lblcr => Algorithm::Lblcr(locality::Lblcr::build(members)),
            SchedulerKind::Sh => Algorithm::Sh(sh::Sh::build(members, options)?),
            SchedulerKind::Dh => Algorithm::Dh(dh::Dh::build(members, options)?),
            SchedulerKind::Sed => Algorithm::Sed(sed::Sed::build(members)),
            SchedulerKind::Nq => Algorithm::Nq(nq::Nq::build(members)),
            SchedulerKind::Fo => Algorithm::Fo(fo::Fo::build(members)),
            SchedulerKind::Ovf => Algorithm::Ovf(ovf::Ovf::build(members)),
            SchedulerKind::Mh => Algorithm::Mh(mh::Mh::build(members, options)?),
            SchedulerKind::Twos => Algorithm::Twos(twos::Twos::build(members)),
        }))
    }

    /// The member a new flow goes to, as an index into the `members` it was built for, or `None`
    /// when no member takes new flows.
    ///
    /// Only a hash scheduler reads `key`; all others but `fo` and `ovf` use `cursor`; those of
    /// [`SchedulerKind::counts_connections`] ask `loads` for connections (`twos` of two members, the
    /// others of each that takes new flows), and all ask who is full.
    #[inline]
    pub fn pick(
        &self,
        key: &impl Tuple,
        cursor: &mut Cursor,
        loads: &(impl Loads + ?Sized),
    ) -> Option<usize> {
        match &self.0 {
            Algorithm::Rr(s) => s.pick(cursor, loads),
            Algorithm::Wrr(s) => s.pick(cursor, loads),
            Algorithm::Lc(s) => s.pick(cursor, loads),
            Algorithm::Wlc(s) => s.pick(cursor, loads),
            Algorithm::Lblc(s) => s.pick(cursor, loads),
            Algorithm::Lblcr(s) => s.pick(cursor, loads),
            Algorithm::Sh(s) => s.pick(key, loads),
            Algorithm::Dh(s) => s.pick(key, loads),
            Algorithm::Sed(s) => s.pick(cursor, loads),
            Algorithm::Nq(s) => s.pick(cursor, loads),
            Algorithm::Fo(s) => s.pick(loads),
            Algorithm::Ovf(s) => s.pick(loads),
            Algorithm::Mh(s) => s.pick(key, loads),
            Algorithm::Twos(s) => s.pick(cursor, loads),
        }
    }

    /// The member a hash scheduler picks when nobody is full; `None` also for all others.
    #[inline(always)]
    pub fn owner(&self, key: &impl Tuple) -> Option<usize> {
        match &self.0 {
            Algorithm::Mh(s) => s.owner(key),
            Algorithm::Sh(s) => s.owner(key),
            Algorithm::Dh(s) => s.owner(key),
            _ => None,
        }
    }

    /// What it was built as.
    pub const fn kind(&self) -> SchedulerKind {
        match self.0 {
            Algorithm::Rr(_) => SchedulerKind::Rr,
            Algorithm::Wrr(_) => SchedulerKind::Wrr,
            Algorithm::Lc(_) => SchedulerKind::Lc,
            Algorithm::Wlc(_) => SchedulerKind::Wlc,
            Algorithm::Lblc(_) => SchedulerKind::Lblc,
            Algorithm::Lblcr(_) => SchedulerKind::Lblcr,
            Algorithm::Sh(_) => SchedulerKind::Sh,
            Algorithm::Dh(_) => SchedulerKind::Dh,
            Algorithm::Sed(_) => SchedulerKind::Sed,
            Algorithm::Nq(_) => SchedulerKind::Nq,
            Algorithm::Fo(_) => SchedulerKind::Fo,
            Algorithm::Ovf(_) => SchedulerKind::Ovf,
            Algorithm::Mh(_) => SchedulerKind::Mh,
            Algorithm::Twos(_) => SchedulerKind::Twos,
        }
    }

    /// The lookup table of a hash scheduler, slot by slot the index of the member that owns it
    /// (empty when no member takes new flows); `None` for the others. To explain a pick, or to
    /// count what a change of members moves.
    pub fn table(&self) -> Option<&[u16]> {
        match &self.0 {
            Algorithm::Sh(s) => Some(s.table()),
            Algorithm::Dh(s) => Some(s.table()),
            Algorithm::Mh(s) => Some(s.table()),
            _ => None,
        }
    }
}
