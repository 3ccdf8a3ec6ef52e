//! ARP for IPv4 over Ethernet: RFC 826, with the probes and announcements of RFC 5227.

use std::fmt;
use std::net::Ipv4Addr;

use super::HeaderError;
use super::ethernet::{self, EtherType};
use super::field::{get_ipv4, get_mac, get16, set_ipv4, set_mac, set16};
use crate::types::Mac;

/// Length in bytes of an ARP packet for IPv4 over Ethernet, without padding.
pub const LEN: usize = 28;
/// Length in bytes of the frame [`Packet::emit_frame`] writes.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + LEN;

mod at {
    pub(super) const HARDWARE: usize = 0;
    pub(super) const PROTOCOL: usize = 2;
    pub(super) const HARDWARE_LEN: usize = 4;
    pub(super) const PROTOCOL_LEN: usize = 5;
    pub(super) const OPERATION: usize = 6;
    pub(super) const SHA: usize = 8;
    pub(super) const SPA: usize = 14;
    pub(super) const THA: usize = 18;
    pub(super) const TPA: usize = 24;
}

/// "ar$hrd: Ethernet".
const ETHERNET: u16 = 1;

/// What an ARP packet asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Operation {
    /// Who has the target address?
    Request = 1,
    /// The sender has it.
    Reply = 2,
}

/// An ARP packet as a value; it is small, so there is no view beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// Sender's Ethernet address.
    pub sha: Mac,
    /// Sender's IPv4 address; 0.0.0.0 in a probe.
    pub spa: Ipv4Addr,
    /// Target's Ethernet address; of no meaning in a request.
    pub tha: Mac,
    /// Target's IPv4 address.
    pub tpa: Ipv4Addr,
}

impl Packet {
    /// Reads the packet at the front of `bytes`, an Ethernet payload; padding may follow.
    ///
    /// # Errors
    /// `Unsupported` for other hardware, protocols and operations than those above.
    pub fn parse(bytes: &[u8]) -> Result<Packet, HeaderError> {
        let b = bytes.get(..LEN).ok_or(HeaderError::TooShort)?;
        // RFC 826, "Packet Reception": "Do I have the hardware type in ar$hrd? [optionally check
        // the hardware length ar$hln] Do I speak the protocol in ar$pro?"
        if get16(b, at::HARDWARE) != ETHERNET || get16(b, at::PROTOCOL) != EtherType::IPV4.0 {
            return Err(HeaderError::Unsupported);
        }
        if b[at::HARDWARE_LEN] != 6 || b[at::PROTOCOL_LEN] != 4 {
            return Err(HeaderError::Malformed);
        }
        let operation = match get16(b, at::OPERATION) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(HeaderError::Unsupported),
        };
        Ok(Packet {
            operation,
            sha: get_mac(b, at::SHA),
            spa: get_ipv4(b, at::SPA),
            tha: get_mac(b, at::THA),
            tpa: get_ipv4(b, at::TPA),
        })
    }

    /// Writes the packet to the front of `out`.
    pub fn emit(&self, out: &mut [u8]) -> Result<(), HeaderError> {
        let out = out.get_mut(..LEN).ok_or(HeaderError::TooShort)?;
        set16(out, at::HARDWARE, ETHERNET);
        set16(out, at::PROTOCOL, EtherType::IPV4.0);
        out[at::HARDWARE_LEN] = 6;
        out[at::PROTOCOL_LEN] = 4;
        set16(out, at::OPERATION, self.operation as u16);
        set_mac(out, at::SHA, self.sha);
        set_ipv4(out, at::SPA, self.spa);
        set_mac(out, at::THA, self.tha);
        set_ipv4(out, at::TPA, self.tpa);
        Ok(())
    }

    /// Writes an Ethernet frame from the sender to `dst` with the packet in it, and gives its
    /// length, [`FRAME_LEN`].
    pub fn emit_frame(&self, dst: Mac, out: &mut [u8]) -> Result<usize, HeaderError> {
        let out = out.get_mut(..FRAME_LEN).ok_or(HeaderError::TooShort)?;
        ethernet::Header { dst, src: self.sha, ethertype: EtherType::ARP }.emit(out)?;
        self.emit(&mut out[ethernet::HEADER_LEN..])?;
        Ok(FRAME_LEN)
    }

    /// Asks who has `tpa`.
    pub fn request(sha: Mac, spa: Ipv4Addr, tpa: Ipv4Addr) -> Packet {
        Packet { operation: Operation::Request, sha, spa, tha: Mac::ZERO, tpa }
    }

    /// Asks whether anyone has `tpa` already (RFC 5227 2.1.1): "The 'sender IP address' field MUST
    /// be set to all zeroes".
    pub fn probe(sha: Mac, tpa: Ipv4Addr) -> Packet {
        Packet::request(sha, Ipv4Addr::UNSPECIFIED, tpa)
    }

    /// Tells everyone that `sha` has `address` (gratuitous ARP, RFC 5227 2.3): a request with
    /// "sender and target IP addresses both set to the host's newly selected IPv4 address".
    pub fn announcement(sha: Mac, address: Ipv4Addr) -> Packet {
        Packet::request(sha, address, address)
    }

    /// The reply to this request: `sha` has the address asked for. A probe is answered alike.
    pub fn reply(&self, sha: Mac) -> Packet {
        Packet { operation: Operation::Reply, sha, spa: self.tpa, tha: self.sha, tpa: self.spa }
    }

    /// Whether this is a probe: a request without a sender's address. Nothing is to be learnt
    /// from it (RFC 5227 1.1: "to avoid polluting ARP caches").
    pub fn is_probe(&self) -> bool {
        self.operation == Operation::Request && self.spa.is_unspecified()
    }

    /// Whether the sender speaks of its own address, as an announcement or a gratuitous reply.
    pub fn is_gratuitous(&self) -> bool {
        self.spa == self.tpa && !self.spa.is_unspecified()
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            Operation::Request => write!(f, "arp who-has {} tell {}", self.tpa, self.spa),
            Operation::Reply => write!(f, "arp {} is-at {}", self.spa, self.sha),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const IP_A: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
    const IP_B: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 11);

    #[rustfmt::skip]
    const REQUEST: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0a, 0x08, 0x06,
        0, 1, 0x08, 0, 6, 4, 0, 1,
        2, 0, 0, 0, 0, 0x0a, 192, 168, 0, 10,
        0, 0, 0, 0, 0, 0, 192, 168, 0, 11,
    ];

    #[test]
    fn emits_golden_bytes() {
        let mut out = [0xee; 60];
        let n = Packet::request(A, IP_A, IP_B).emit_frame(Mac::BROADCAST, &mut out).unwrap();
        assert_eq!(out[..n], REQUEST);
        assert!(Packet::request(A, IP_A, IP_B).emit_frame(A, &mut out[..41]).is_err());
    }

    #[test]
    fn a_request_is_answered() {
        let request = Packet::parse(&REQUEST[14..]).unwrap();
        assert_eq!(request.to_string(), "arp who-has 192.168.0.11 tell 192.168.0.10");
        let reply = request.reply(B);
        assert_eq!(
            reply,
            Packet { operation: Operation::Reply, sha: B, spa: IP_B, tha: A, tpa: IP_A }
        );
        assert_eq!(reply.to_string(), "arp 192.168.0.11 is-at 02:00:00:00:00:0b");
    }

    #[test]
    fn tells_probes_and_announcements() {
        let probe = Packet::probe(A, IP_A);
        assert!(probe.is_probe() && !probe.is_gratuitous());
        let announcement = Packet::announcement(A, IP_A);
        assert!(!announcement.is_probe() && announcement.is_gratuitous());
        assert!(!Packet::request(A, IP_A, IP_B).is_gratuitous());
        // A probe's reply goes to 0.0.0.0 at the prober's Ethernet address.
        assert_eq!(probe.reply(B).tpa, Ipv4Addr::UNSPECIFIED);
        assert!(!probe.reply(B).is_probe());
    }

    #[test]
    fn refuses_what_it_does_not_speak() {
        let with = |at: usize, value: u8| {
            let mut bytes = REQUEST;
            bytes[14 + at] = value;
            Packet::parse(&bytes[14..])
        };
        assert_eq!(with(1, 6), Err(HeaderError::Unsupported));
        assert_eq!(with(2, 0x86), Err(HeaderError::Unsupported));
        assert_eq!(with(4, 8), Err(HeaderError::Malformed));
        assert_eq!(with(5, 16), Err(HeaderError::Malformed));
        assert_eq!(with(7, 3), Err(HeaderError::Unsupported));
        assert_eq!(with(7, 0), Err(HeaderError::Unsupported));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(start in 0usize..8, len in 20usize..50, tail: [u8; 50]) {
            // Often a right prefix: random bytes are hardly ever ARP.
            let mut bytes = tail;
            bytes[..start].copy_from_slice(&REQUEST[14..14 + start]);
            if let Ok(packet) = Packet::parse(&bytes[..len]) {
                let mut out = [0; LEN];
                packet.emit(&mut out).unwrap();
                prop_assert_eq!(&out, &bytes[..LEN]);
                prop_assert!(packet.emit(&mut out[1..]).is_err());
            } else {
                prop_assert!(start < 8 || len < LEN || !matches!(bytes[7], 1 | 2));
            }
        }

        #[test]
        fn values_round_trip(op: bool, sha: [u8; 6], spa: [u8; 4], tha: [u8; 6], tpa: [u8; 4]) {
            let packet = Packet {
                operation: if op { Operation::Request } else { Operation::Reply },
                sha: Mac(sha),
                spa: spa.into(),
                tha: Mac(tha),
                tpa: tpa.into(),
            };
            let mut out = [0; LEN];
            packet.emit(&mut out).unwrap();
            prop_assert_eq!(Packet::parse(&out), Ok(packet));
        }
    }
}
