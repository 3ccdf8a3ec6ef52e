//! What goes into the table and what comes out of it.

use super::State;
use crate::types::{FlowKey, RealId, Tick};

/// Caller's marks on a flow, three at most, kept and handed back; the table gives them no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct FlowFlags(u8);

impl FlowFlags {
    /// No mark.
    pub const NONE: FlowFlags = FlowFlags(0);
    /// A copy of another worker's flow; it is not counted as a connection.
    pub const REPLICA: FlowFlags = FlowFlags(1);
    /// Bound by a template of persistence, which counts it.
    pub const BOUND: FlowFlags = FlowFlags(2);
    /// All that there is room for.
    pub const ALL: FlowFlags = FlowFlags(7);

    /// The marks of these bits, of which the low three count.
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> FlowFlags {
        FlowFlags(bits & FlowFlags::ALL.0)
    }

    /// A bit for each mark.
    #[inline(always)]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all marks of `other` are set.
    #[inline(always)]
    pub const fn has(self, other: FlowFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The marks of both.
    #[inline(always)]
    pub const fn with(self, other: FlowFlags) -> FlowFlags {
        FlowFlags(self.0 | other.0)
    }
}

/// A flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow<K = FlowKey> {
    /// Its key.
    pub key: K,
    /// The real server it is bound to.
    pub real: RealId,
    /// When it expires.
    pub deadline: Tick,
    /// How far it has come.
    pub state: State,
    /// Whether packets of it, established or of UDP, have come over time.
    pub proven: bool,
    /// The caller's marks.
    pub flags: FlowFlags,
}

impl<K> Flow<K> {
    /// Whether its time is over. Such a flow is still in the table until something meets it.
    #[inline(always)]
    pub const fn expired(&self, now: Tick) -> bool {
        self.deadline.reached(now)
    }
}

/// Names a flow of one shard until that flow is removed; a place, not a promise.
///
/// Any insertion may remove any flow, and the place is then used again. Keep one no longer than
/// the handling of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlowRef(pub(super) u32);

/// Why a flow left the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its deadline passed.
    Expired,
    /// It made room for another.
    Evicted,
    /// A flow with the same key was inserted.
    Replaced,
    /// The caller removed it, or did not keep it in a sweep.
    Removed,
}

/// A flow that has left the table. Each flow inserted is handed back so once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "connection counts must follow"]
pub struct Removed<K = FlowKey> {
    /// Its key.
    pub key: K,
    /// The real server it was bound to.
    pub real: RealId,
    /// Its last state.
    pub state: State,
    /// Whether it had proven itself in that.
    pub proven: bool,
    /// The caller's marks.
    pub flags: FlowFlags,
    /// Why it left.
    pub cause: Cause,
}

/// What a first look found, by [`Table::pass`](super::Table::pass).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Passed {
    /// The flow's real server. Its timer is restarted.
    Real(RealId),
    /// No flow.
    Absent,
    /// Nothing that could be told at a glance; nothing has changed.
    Unknown,
}

/// What a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Lookup<K = FlowKey> {
    /// The flow, not expired.
    Hit(FlowRef),
    /// No flow.
    Miss,
    /// No flow any more: it had expired, and this lookup removed it.
    Expired(Removed<K>),
}

/// What an insertion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Inserted<K = FlowKey> {
    /// The new flow.
    pub flow: FlowRef,
    /// The flow that left for it, if any: the one with the same key, or the one in its place.
    pub evicted: Option<Removed<K>>,
}

/// Totals since construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Flows inserted.
    pub inserted: u64,
    /// Flows that left because their deadline passed, however that was found.
    pub expired: u64,
    /// Flows that left because another with the same key was inserted.
    pub replaced: u64,
    /// Flows that the caller removed or did not keep in a sweep.
    pub removed: u64,
    /// Flows that made room for another while not expired, by [`State`] as index.
    pub evicted: [u64; State::COUNT],
    /// Those of them that had proven themselves.
    pub evicted_proven: u64,
    /// Flows that found their first bucket full and went to another: one in ten that come to a full
    /// table, one in a hundred when it is half full. When there are many more, somebody aims keys.
    pub away: u64,
}

/// Why no table could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NewShardError {
    /// Outside 1 to [`Table::MAX_CAPACITY`](super::Table::MAX_CAPACITY).
    #[error("a flow table holds 1 to {max} flows, not {capacity}")]
    Capacity {
        /// What was asked for.
        capacity: usize,
        /// The most there can be.
        max: usize,
    },
    /// The system refused.
    #[error("no memory for a flow table of {capacity} flows")]
    OutOfMemory {
        /// What was asked for.
        capacity: usize,
    },
    /// Whoever waited for it did not want it any more.
    #[error("given up")]
    GivenUp,
}
