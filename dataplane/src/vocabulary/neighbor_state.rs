//! The states of a neighbor, by name.

use super::named::named;

named! {
    /// A neighbor's state, RFC 4861 section 7.3.2 (its timers are used for ARP too).
    NeighborState, "state of a neighbor" {
        /// Asked for, no answer yet.
        Incomplete = "incomplete",
        /// Confirmed lately.
        Reachable = "reachable",
        /// Not confirmed lately; used, and about to be probed.
        Stale = "stale",
        /// Being asked again, by unicast; used meanwhile.
        Probe = "probe",
        /// Does not answer; asked again now and then.
        Failed = "failed",
        /// Configured.
        Static = "static",
    }
}
