//! What a client is told when no real server takes its packet, by name: `reject`, `drop`.

use super::named::named;

named! {
    /// What a client is told whose packet no real server takes.
    NoServer, "answer" {
        /// ICMP port unreachable, as LVS does, or a reset in mid-connection.
        Reject = "reject",
        /// Nothing.
        Drop = "drop",
    }
}
