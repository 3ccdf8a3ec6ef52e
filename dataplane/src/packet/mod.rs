//! Header views and builders over byte slices, and checksums. No clock, no I/O.
//!
//! Every protocol file has the same parts in the same order: the view over bytes with its checked
//! constructor, field ranges, getters, setters where a forwarder needs them, a value type with
//! parse and emit, Display, tests. Getters give host byte order; bytes are in network order.
//!
//! # Invariants
//! A view exists only over bytes its constructor has checked, so its getters cannot run out of
//! them. Nothing here panics on any input, allocates (but [`build`], for tests and tables) or logs.
//!
//! # Limits
//! IPv4 and IPv6 over untagged Ethernet II. VLAN tags are recognised and refused by name; [`tag`]
//! takes those off that name no VLAN.
//! [`parse`] reads IPv4 and tells IPv6 by name; [`parse6`] reads that.
#![forbid(unsafe_code)]

pub mod arp;
pub mod buf;
pub mod build;
pub mod checksum;
pub mod ethernet;
pub mod fast;
pub mod fast6;
pub(crate) mod field;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod parse;
pub mod parse6;
pub mod tag;
pub mod tcp;
pub mod udp;

/// Why bytes are not the header they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than the header has, or says it has.
    #[error("fewer bytes than the header has")]
    TooShort,
    /// A field has a value that the protocol does not allow.
    #[error("a header field has a value the protocol does not allow")]
    Malformed,
    /// The checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// Well formed, but of a kind that is not spoken here.
    #[error("a kind of message that is not supported")]
    Unsupported,
}
