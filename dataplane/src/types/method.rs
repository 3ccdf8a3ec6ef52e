//! Forwarding methods, schedulers and other choices by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All of them, in the order they are documented.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name as configuration, command line and listings write it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(s: &str) -> Result<$name, String> {
                Self::ALL.iter().copied().find(|v| v.name() == s).ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|v| v.name()).collect();
                    format!(concat!("unknown ", $what, " {:?} (expected {})"), s, names.join(", "))
                })
            }
        }
    };
}

named! {
    /// How a packet reaches its real server.
    ForwardMethod, "forwarding method" {
        /// MAC rewrite on the director's own segment (LVS-DR).
        Dr = "dr",
        /// IPv4 in IPv4, RFC 2003 (LVS-TUN).
        Ipip = "ipip",
        /// GRE, RFC 2784.
        Gre = "gre",
    }
}

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

named! {
    /// What a client is told whose packet no real server takes.
    NoServer, "answer" {
        /// ICMP port unreachable, as LVS does, or a reset in mid-connection.
        Reject = "reject",
        /// Nothing.
        Drop = "drop",
    }
}

named! {
    /// What a worker does when no packet is there.
    IdleMode, "idle mode" {
        /// Polls on: least latency, one processor busy.
        Poll = "poll",
        /// Polls on with pause instructions in between: leaves more to a hyper-thread.
        Pause = "pause",
        /// Sleeps up to half a millisecond: for machines that have other things to do.
        Sleep = "sleep",
    }
}
