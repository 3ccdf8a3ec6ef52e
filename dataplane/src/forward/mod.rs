//! Forwarding methods: rewriting a packet's bytes on its way to a real server. One file each.
//!
//! The caller has parsed the packet ([`crate::packet::parse`]), has decided on TTL 1 or less, on
//! the egress MTU ([`needs_fragmentation`]) and on the next hop. What is left cannot fail but for
//! want of room, and then the buffer is as it was.
//!
//! # Invariants
//! The inner packet changes in its TTL and header checksum only. Ethernet padding never ends up in
//! a tunnel: lengths come from the IP header.
#![forbid(unsafe_code)]

pub mod dr;
pub mod dr6;
pub mod dual;
mod fast;
pub mod fragment;
pub mod gre;
pub mod ipip;
pub mod label;
mod outer;
pub mod tunnel;

pub use dual::{DualTunnel, Fit, Inner};
pub use fast::FastRewrite;
pub use fragment::{FragmentError, fragment, needs_fragmentation};
pub use gre::GreOptions;
pub use label::Labels;
pub use tunnel::TunnelTemplate;

/// Why a packet was not forwarded; the buffer is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ForwardError {
    /// No room in front of the packet for the outer header.
    #[error("no headroom for the outer header")]
    NoHeadroom,
    /// The outer packet would be longer than 65535 bytes.
    #[error("outer packet longer than 65535 bytes")]
    TooLong,
    /// The first segment does not hold Ethernet and IP header, of IPv4 or IPv6: the packet was not
    /// parsed.
    #[error("first segment without an IP header")]
    NoIpHeader,
}
