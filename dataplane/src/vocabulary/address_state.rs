//! The states of one of the director's own IPv6 addresses, by name.

use super::named::named;

named! {
    /// Whether an IPv6 address of a port may be used, RFC 4862 section 5.4.
    AddressState, "state of an address" {
        /// Not yet: others are being asked whether they have it.
        Tentative = "tentative",
        /// It is used.
        Ready = "ready",
        /// Another station has it: not used.
        Duplicate = "duplicate",
    }
}
