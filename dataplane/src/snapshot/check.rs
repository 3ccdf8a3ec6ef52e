//! Health checks as plain values: how the real servers of a virtual service are checked, and what
//! follows when one fails.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An enum whose variants have the names that configuration and listings write.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// The name as configuration and listings write it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

words! {
    /// How it is found out whether a real server serves.
    CheckKind {
        /// A TCP connection to the VIP, by the way of the clients' packets, opened and closed.
        Tcp = "tcp",
        /// Not at all: somebody else says so over the control socket.
        External = "external",
    }
}

words! {
    /// What holds of a real server that no check has decided on yet.
    Start {
        /// It serves.
        Up = "up",
        /// It does not.
        Down = "down",
    }
}

words! {
    /// What follows when a real server is down.
    OnFail {
        /// It gets no new flows, as with weight 0; its flows stay with it.
        Drain = "drain",
        /// It is as if it were not configured: its flows end, or go elsewhere.
        Remove = "remove",
        /// Nothing: it is shown.
        Ignore = "ignore",
    }
}

words! {
    /// What follows when all real servers of a virtual service are down.
    AllDown {
        /// They all serve, as if they were up: the check may be what is wrong.
        Serve = "serve",
        /// None does.
        Drain = "drain",
    }
}

/// One `[[check]]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckSpec {
    /// What services call it.
    pub name: String,
    /// How it is made.
    pub kind: CheckKind,
    /// L4 port to probe; the virtual service's own when absent.
    pub port: Option<u16>,
    /// Time between two probes of one real server.
    pub interval: Duration,
    /// How long an answer is waited for, at most `interval`.
    pub timeout: Duration,
    /// Probes in a row that must pass before a real server that is down is up.
    pub rise: u32,
    /// Probes in a row that must fail before a real server is down.
    pub fall: u32,
    /// What holds until the first decision.
    pub start: Start,
    /// Longest time that one which goes up and down is kept down; zero is not at all.
    pub dampening: Duration,
    /// What follows when one is down.
    pub on_fail: OnFail,
    /// What follows when all are.
    pub all_down: AllDown,
}
