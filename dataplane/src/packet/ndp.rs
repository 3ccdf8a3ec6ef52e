//! Neighbor discovery, RFC 4861: solicitations and advertisements, and the probes of duplicate
//! address detection, RFC 4862 5.4.
//!
//! Routers are not discovered: gateways are configured.

use std::fmt;
use std::net::Ipv6Addr;

use super::field::{get_ipv6, get_mac, set_ipv6, set_mac};
use super::icmpv6::{self, kind};
use super::ipv6::{self, next};
use super::{HeaderError, ethernet};
use crate::types::Mac;

/// Hop limit of all these messages: one that has crossed a router cannot have it any more
/// (RFC 4861 3.1).
pub const HOP_LIMIT: u8 = 255;
/// Length in bytes of a message without options.
pub const MIN_LEN: usize = 24;
/// Length in bytes of a message with an Ethernet address as option.
pub const MAX_LEN: usize = MIN_LEN + OPTION_LEN;
/// Length in bytes of the longest frame [`Message::emit_frame`] writes.
pub const MAX_FRAME_LEN: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + MAX_LEN;

/// Length of a link-layer address option for Ethernet, in bytes (RFC 2464 6).
const OPTION_LEN: usize = 8;
/// "Source Link-layer Address" (RFC 4861 4.6.1).
const SOURCE_OPTION: u8 = 1;
/// "Target Link-layer Address".
const TARGET_OPTION: u8 = 2;

mod at {
    pub(super) const TARGET: usize = 8;
    pub(super) const OPTIONS: usize = 24;
}

/// Flags in the first byte after the checksum of an advertisement.
mod flag {
    pub(super) const ROUTER: u32 = 1 << 31;
    pub(super) const SOLICITED: u32 = 1 << 30;
    pub(super) const OVERRIDE: u32 = 1 << 29;
}

/// A message's body as a value; it is small, so there is no view beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Body {
    /// Who has the target?
    Solicitation {
        /// Source link-layer address: the sender's, absent in duplicate address detection.
        mac: Option<Mac>,
    },
    /// The sender has it, or speaks for who has it.
    Advertisement {
        /// Target link-layer address.
        mac: Option<Mac>,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation, so the way to and fro is known to work.
        solicited: bool,
        /// What was known of the target is to be overwritten.
        overrides: bool,
    },
}

/// A message with the addresses of its IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Message {
    /// Source of the IPv6 header; unspecified in duplicate address detection.
    pub src: Ipv6Addr,
    /// Destination of the IPv6 header.
    pub dst: Ipv6Addr,
    /// The address it is about.
    pub target: Ipv6Addr,
    /// What it says of it.
    pub body: Body,
}

impl Message {
    /// Reads the message in an IPv6 packet without extension headers, validated as RFC 4861 7.1.1
    /// and 7.1.2 want: "A node MUST silently discard any received" message that fails.
    ///
    /// # Errors
    /// `Unsupported` for other messages, and for one behind extension headers (fragments must be
    /// discarded, RFC 6980 5; others have no use); `Checksum`; `Malformed` for all else.
    pub fn parse<T: AsRef<[u8]>>(ip: &ipv6::Packet<T>) -> Result<Message, HeaderError> {
        if ip.next_header() != next::ICMPV6 {
            return Err(HeaderError::Unsupported);
        }
        let bytes = ip.payload();
        if bytes.len() < usize::from(ip.payload_len()) {
            return Err(HeaderError::TooShort);
        }
        let icmp = icmpv6::Packet::new(bytes)?;
        let wanted = match icmp.kind() {
            kind::NEIGHBOR_SOLICITATION => SOURCE_OPTION,
            kind::NEIGHBOR_ADVERTISEMENT => TARGET_OPTION,
            _ => return Err(HeaderError::Unsupported),
        };
        let (src, dst) = (ip.src(), ip.dst());
        // "The IP Hop Limit field has a value of 255"; "ICMP Code is 0"; "ICMP length (derived
        // from the IP length) is 24 or more octets".
        if ip.hop_limit() != HOP_LIMIT || icmp.code() != 0 || bytes.len() < MIN_LEN {
            return Err(HeaderError::Malformed);
        }
        if !icmp.verify_checksum(src, dst) {
            return Err(HeaderError::Checksum);
        }
        let target = get_ipv6(bytes, at::TARGET);
        let mac = option(&bytes[at::OPTIONS..], wanted)?;
        // "Target Address is not a multicast address"; the other two no station can have.
        if ipv6::is_bad_source(target) || src.is_multicast() {
            return Err(HeaderError::Malformed);
        }
        let body = match icmp.kind() {
            kind::NEIGHBOR_SOLICITATION => {
                // "If the IP source address is the unspecified address, the IP destination address
                // is a solicited-node multicast address", and "there is no source link-layer
                // address option in the message".
                if src.is_unspecified() && (dst != ipv6::solicited_node(target) || mac.is_some()) {
                    return Err(HeaderError::Malformed);
                }
                Body::Solicitation { mac }
            }
            _ => {
                let has = |flag| icmp.rest() & flag != 0;
                // "If the IP Destination Address is a multicast address the Solicited flag is
                // zero." An advertisement always has a sender.
                if src.is_unspecified() || dst.is_multicast() && has(flag::SOLICITED) {
                    return Err(HeaderError::Malformed);
                }
                Body::Advertisement {
                    mac,
                    router: has(flag::ROUTER),
                    solicited: has(flag::SOLICITED),
                    overrides: has(flag::OVERRIDE),
                }
            }
        };
        Ok(Message { src, dst, target, body })
    }

    /// Asks everyone who has `target`; `src` and `mac` are the director's (RFC 4861 7.2.2).
    pub fn solicitation(mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Message {
        let body = Body::Solicitation { mac: Some(mac) };
        Message { src, dst: ipv6::solicited_node(target), target, body }
    }

    /// Asks `target` itself whether it is still there (RFC 4861 7.3.3, PROBE).
    pub fn probe(mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Message {
        Message { dst: target, ..Message::solicitation(mac, src, target) }
    }

    /// Asks whether anyone has `target` already, before it is used (RFC 4862 5.4.2): "The IP source
    /// is set to the unspecified address".
    pub fn duplicate_probe(target: Ipv6Addr) -> Message {
        let (src, dst) = (Ipv6Addr::UNSPECIFIED, ipv6::solicited_node(target));
        Message { src, dst, target, body: Body::Solicitation { mac: None } }
    }

    /// Tells everyone on the link that `mac` has `target` (RFC 4861 7.2.6), as gratuitous ARP does;
    /// `src` is an address of the director on that link.
    pub fn announcement(mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Message {
        let (mac, router) = (Some(mac), false);
        let body = Body::Advertisement { mac, router, solicited: false, overrides: true };
        Message { src, dst: ipv6::ALL_NODES, target, body }
    }

    /// The answer to this solicitation (RFC 4861 7.2.4): `mac` has the target. A probe of duplicate
    /// address detection is answered to all nodes. Of an advertisement it makes no sense.
    ///
    /// The answer's source is the target: "an address assigned to the interface from which the
    /// advertisement is sent".
    #[must_use]
    pub fn answer(&self, mac: Mac) -> Message {
        let solicited = !self.src.is_unspecified();
        let dst = if solicited { self.src } else { ipv6::ALL_NODES };
        let (mac, router) = (Some(mac), false);
        let body = Body::Advertisement { mac, router, solicited, overrides: true };
        Message { src: self.target, dst, target: self.target, body }
    }

    /// Whether someone asks whether the target is free, to use it (RFC 4862 5.4.3). Nothing is to
    /// be learnt from it. For an address the director itself is probing, it means that two want it.
    pub fn is_duplicate_probe(&self) -> bool {
        matches!(self.body, Body::Solicitation { .. }) && self.src.is_unspecified()
    }

    /// The neighbor that this message tells the Ethernet address of: the sender of a solicitation,
    /// the target of an advertisement. Whether to believe it is for the neighbor table to say.
    pub fn neighbor(&self) -> Option<(Ipv6Addr, Mac)> {
        match self.body {
            Body::Solicitation { mac } => Some((self.src, mac?)),
            Body::Advertisement { mac, .. } => Some((self.target, mac?)),
        }
    }

    fn mac(&self) -> Option<Mac> {
        match self.body {
            Body::Solicitation { mac } | Body::Advertisement { mac, .. } => mac,
        }
    }

    /// Writes the IPv6 packet to the front of `out` and gives its length in bytes.
    ///
    /// # Errors
    /// `TooShort` when `out` is.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, HeaderError> {
        let len = MIN_LEN + if self.mac().is_some() { OPTION_LEN } else { 0 };
        let total = ipv6::HEADER_LEN + len;
        let out = out.get_mut(..total).ok_or(HeaderError::TooShort)?;
        let header = ipv6::Header {
            hop_limit: HOP_LIMIT,
            ..ipv6::Header::new(self.src, self.dst, next::ICMPV6, len as u16)
        };
        header.emit(out)?;
        let (kind, rest, option) = match self.body {
            Body::Solicitation { .. } => (kind::NEIGHBOR_SOLICITATION, 0, SOURCE_OPTION),
            Body::Advertisement { router, solicited, overrides, .. } => {
                let set = |on: bool, flag: u32| if on { flag } else { 0 };
                let rest = set(router, flag::ROUTER)
                    | set(solicited, flag::SOLICITED)
                    | set(overrides, flag::OVERRIDE);
                (kind::NEIGHBOR_ADVERTISEMENT, rest, TARGET_OPTION)
            }
        };
        let icmp = &mut out[ipv6::HEADER_LEN..];
        set_ipv6(icmp, at::TARGET, self.target);
        if let Some(mac) = self.mac() {
            icmp[at::OPTIONS] = option;
            icmp[at::OPTIONS + 1] = 1; // "The length of the option ... in units of 8 octets".
            set_mac(icmp, at::OPTIONS + 2, mac);
        }
        icmpv6::Header { kind, code: 0, rest }.emit(icmp, self.src, self.dst)?;
        Ok(total)
    }

    /// Writes an Ethernet frame with the message in it and gives its length in bytes,
    /// [`MAX_FRAME_LEN`] at most. `neighbor` is the destination's Ethernet address, not looked at
    /// when the destination is a group.
    ///
    /// # Errors
    /// `TooShort` when `out` is.
    pub fn emit_frame(
        &self,
        src_mac: Mac,
        neighbor: Mac,
        out: &mut [u8],
    ) -> Result<usize, HeaderError> {
        let to_group = self.dst.is_multicast();
        let dst = if to_group { ipv6::group_mac(self.dst) } else { neighbor };
        let eth = ethernet::Header { dst, src: src_mac, ethertype: ethernet::EtherType::IPV6 };
        eth.emit(out)?;
        Ok(ethernet::HEADER_LEN + self.emit(&mut out[ethernet::HEADER_LEN..])?)
    }
}

/// The Ethernet address in the first option of the type `wanted`. RFC 4861 7.1.1: "All included
/// options have a length that is greater than zero." Unknown options are skipped.
fn option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, HeaderError> {
    let mut found = None;
    while let [kind, len, ..] = *options {
        let len = usize::from(len) * 8;
        if len == 0 || len > options.len() {
            return Err(HeaderError::Malformed);
        }
        if kind == wanted && found.is_none() {
            // RFC 2464 6: length 1. No station has a group's address or none.
            let mac = get_mac(options, 2);
            if len != OPTION_LEN || !mac.is_station() {
                return Err(HeaderError::Malformed);
            }
            found = Some(mac);
        }
        options = &options[len..];
    }
    if options.is_empty() { Ok(found) } else { Err(HeaderError::Malformed) }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target;
        match self.body {
            Body::Solicitation { .. } => write!(f, "ndp who-has {target} tell {}", self.src),
            Body::Advertisement { mac: Some(mac), .. } => write!(f, "ndp {target} is-at {mac}"),
            Body::Advertisement { mac: None, .. } => write!(f, "ndp {target} is there"),
        }
    }
}

#[cfg(test)]
mod tests;
