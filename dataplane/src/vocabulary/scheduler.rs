//! Schedulers by name, and what sets one apart from another without running it.

use super::named::named;

named! {
    /// How a virtual service picks the real server of a new flow.
    SchedulerKind, "scheduler" {
        /// Round robin.
        Rr = "rr",
        /// Weighted round robin.
        Wrr = "wrr",
        /// Least connections.
        Lc = "lc",
        /// Weighted least connections.
        Wlc = "wlc",
        /// Locality-based least connections.
        Lblc = "lblc",
        /// Locality-based least connections with replication.
        Lblcr = "lblcr",
        /// Source hashing.
        Sh = "sh",
        /// Destination hashing.
        Dh = "dh",
        /// Shortest expected delay.
        Sed = "sed",
        /// Never queue.
        Nq = "nq",
        /// Weighted failover.
        Fo = "fo",
        /// Weighted overflow.
        Ovf = "ovf",
        /// Maglev hashing.
        Mh = "mh",
        /// Weighted random choice of two, of which the less loaded takes the flow.
        Twos = "twos",
    }
}

impl SchedulerKind {
    /// Whether the pick depends on the packet's addresses only, so that another director, or a
    /// restarted one, picks the same real server.
    pub const fn is_hash(self) -> bool {
        matches!(self, SchedulerKind::Sh | SchedulerKind::Dh | SchedulerKind::Mh)
    }

    /// Whether the pick depends on the connection counts of the real servers.
    pub const fn counts_connections(self) -> bool {
        match self {
            SchedulerKind::Lc
            | SchedulerKind::Wlc
            | SchedulerKind::Lblc
            | SchedulerKind::Lblcr
            | SchedulerKind::Sed
            | SchedulerKind::Nq
            | SchedulerKind::Ovf
            | SchedulerKind::Twos => true,
            SchedulerKind::Rr
            | SchedulerKind::Wrr
            | SchedulerKind::Sh
            | SchedulerKind::Dh
            | SchedulerKind::Fo
            | SchedulerKind::Mh => false,
        }
    }
}
