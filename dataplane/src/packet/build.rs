//! Packets to read in a test: `Build::eth(a, b).ipv4(src, dst).tcp(1024, 80, SYN, 1).finish()`.
//!
//! For tests, case tables and offline tools of all layers. This is the one module of the layer that
//! allocates; nothing on the packet path uses it. Lengths and checksums are right; what is to be
//! wrong is broken by the test in the bytes that come out.

use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;

use super::ethernet::{self, EtherType};
use super::ipv4::{self, FragmentBits, protocol};
use super::ipv6::{self, ext, next};
use super::tcp::{self, Flags};
use super::{arp, icmpv4, icmpv6, udp};
use crate::types::Mac;

/// A packet being built. Start with [`Build::eth`].
#[derive(Debug, Clone)]
pub struct Build {
    eth: ethernet::Header,
    ip: Option<Ip>,
    l4: Option<L4>,
    payload: Vec<u8>,
    pad_to: usize,
}

#[derive(Debug, Clone)]
enum Ip {
    V4(ipv4::Header),
    V6 {
        header: ipv6::Header,
        /// Extension headers, each with its number; the first byte of each is filled in.
        ext: Vec<(u8, Vec<u8>)>,
        /// What follows them.
        protocol: u8,
    },
}

#[derive(Debug, Clone)]
enum L4 {
    Tcp(tcp::Header),
    Udp(udp::Header),
    Icmp(icmpv4::Header),
    Icmp6(icmpv6::Header),
}

impl Build {
    /// A frame from `src` to `dst`; empty, of Ethernet type 0 until it is given content.
    pub fn eth(src: Mac, dst: Mac) -> Build {
        let eth = ethernet::Header { dst, src, ethertype: EtherType(0) };
        Build { eth, ip: None, l4: None, payload: Vec::new(), pad_to: 0 }
    }

    /// Sets the Ethernet type.
    #[must_use]
    pub fn ethertype(mut self, ethertype: EtherType) -> Build {
        self.eth.ethertype = ethertype;
        self
    }

    /// An ARP packet as content.
    #[must_use]
    pub fn arp(mut self, packet: &arp::Packet) -> Build {
        self.payload = vec![0; arp::LEN];
        let _ = packet.emit(&mut self.payload);
        self.ethertype(EtherType::ARP)
    }

    /// An IPv4 header: TTL 64, id 0, all else zero.
    #[must_use]
    pub fn ipv4(mut self, src: Ipv4Addr, dst: Ipv4Addr) -> Build {
        self.ip = Some(Ip::V4(ipv4::Header::new(src, dst, 0, 0)));
        self.ethertype(EtherType::IPV4)
    }

    /// An IPv6 header: hop limit 64, all else zero.
    #[must_use]
    pub fn ipv6(mut self, src: Ipv6Addr, dst: Ipv6Addr) -> Build {
        let header = ipv6::Header::new(src, dst, 0, 0);
        self.ip = Some(Ip::V6 { header, ext: Vec::new(), protocol: next::NONE });
        self.ethertype(EtherType::IPV6)
    }

    fn ip(mut self, change: impl FnOnce(&mut ipv4::Header)) -> Build {
        if let Some(Ip::V4(ip)) = &mut self.ip {
            change(ip);
        }
        self
    }

    fn ip6(mut self, change: impl FnOnce(&mut ipv6::Header)) -> Build {
        if let Some(Ip::V6 { header, .. }) = &mut self.ip {
            change(header);
        }
        self
    }

    /// Sets the TTL, or the hop limit.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Build {
        self.ip(|ip| ip.ttl = ttl).ip6(|ip| ip.hop_limit = ttl)
    }

    /// Sets DSCP and ECN.
    #[must_use]
    pub fn tos(self, tos: u8) -> Build {
        self.ip(|ip| ip.tos = tos).ip6(|ip| ip.traffic_class = tos)
    }

    /// Sets the flow label of IPv6.
    #[must_use]
    pub fn flow_label(self, label: u32) -> Build {
        self.ip6(|ip| ip.flow_label = label)
    }

    /// Appends an IPv6 extension header of the number `kind`, whose bytes are given but for the
    /// first, which tells what follows.
    #[must_use]
    pub fn ext(mut self, kind: u8, rest: &[u8]) -> Build {
        if let Some(Ip::V6 { ext, .. }) = &mut self.ip {
            ext.push((kind, [&[0], rest].concat()));
        }
        self
    }

    /// Appends an IPv6 fragment header; `offset` in bytes, a multiple of eight.
    #[must_use]
    pub fn fragment6(self, offset: u16, more: bool, id: u32) -> Build {
        let mut bytes = [0; ext::FRAGMENT_LEN];
        let _ = ext::Fragment { id, offset, more }.emit(&mut bytes, 0);
        self.ext(next::FRAGMENT, &bytes[1..])
    }

    /// Sets the identification.
    #[must_use]
    pub fn id(self, id: u16) -> Build {
        self.ip(|ip| ip.id = id)
    }

    /// Sets or clears DF.
    #[must_use]
    pub fn df(self, df: bool) -> Build {
        self.ip(|ip| {
            let rest = ip.fragment.0 & !FragmentBits::DF.0;
            ip.fragment = FragmentBits(rest | if df { FragmentBits::DF.0 } else { 0 });
        })
    }

    /// Makes it a fragment at `offset` (bytes, a multiple of eight).
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Build {
        self.ip(|ip| ip.fragment = ip.fragment.with(offset, more))
    }

    /// Sets IP options, padded with "end of options" to a multiple of four, 40 bytes at most.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Build {
        self.ip(|ip| {
            let padding = std::iter::repeat_n(&0, options.len().wrapping_neg() % 4);
            ip.options =
                options.iter().chain(padding).copied().take(40).collect::<ArrayVec<_, 40>>();
        })
    }

    /// Sets the IP protocol number; [`Build::tcp`] and the like do that by themselves.
    #[must_use]
    pub fn protocol(mut self, number: u8) -> Build {
        match &mut self.ip {
            Some(Ip::V4(ip)) => ip.protocol = number,
            Some(Ip::V6 { protocol, .. }) => *protocol = number,
            None => {}
        }
        self
    }

    /// A TCP header; its window is 65535.
    #[must_use]
    pub fn tcp(mut self, sport: u16, dport: u16, flags: Flags, seq: u32) -> Build {
        self.l4 = Some(L4::Tcp(tcp::Header {
            sport,
            dport,
            seq,
            flags,
            window: u16::MAX,
            ..tcp::Header::default()
        }));
        self.protocol(protocol::TCP)
    }

    /// Sets TCP's acknowledgment number.
    #[must_use]
    pub fn ack(mut self, ack: u32) -> Build {
        if let Some(L4::Tcp(tcp)) = &mut self.l4 {
            tcp.ack = ack;
        }
        self
    }

    /// A UDP header.
    #[must_use]
    pub fn udp(mut self, sport: u16, dport: u16) -> Build {
        self.l4 = Some(L4::Udp(udp::Header { sport, dport }));
        self.protocol(protocol::UDP)
    }

    /// An ICMP header; `rest` are the four bytes after the checksum.
    #[must_use]
    pub fn icmp(mut self, kind: u8, code: u8, rest: u32) -> Build {
        self.l4 = Some(L4::Icmp(icmpv4::Header { kind, code, rest }));
        self.protocol(protocol::ICMP)
    }

    /// An ICMPv6 header; `rest` are the four bytes after the checksum.
    #[must_use]
    pub fn icmp6(mut self, kind: u8, code: u8, rest: u32) -> Build {
        self.l4 = Some(L4::Icmp6(icmpv6::Header { kind, code, rest }));
        self.protocol(next::ICMPV6)
    }

    /// What follows the last header; later calls append.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Build {
        self.payload.extend_from_slice(payload);
        self
    }

    /// The IP packet of another frame as payload, RFC 2003, 2473 and 4213. Give it the frame
    /// without padding.
    #[must_use]
    pub fn ipip(self, inner: &[u8]) -> Build {
        let protocol = if is_ipv6(inner) { next::IPV6 } else { protocol::IPIP };
        self.protocol(protocol).payload(inner.get(ethernet::HEADER_LEN..).unwrap_or_default())
    }

    /// The IP packet of another frame as payload behind a plain GRE header, RFC 2784 and 7676.
    #[must_use]
    pub fn gre(self, inner: &[u8]) -> Build {
        let ethertype = if is_ipv6(inner) { EtherType::IPV6 } else { EtherType::IPV4 };
        self.protocol(protocol::GRE)
            .payload(&[0, 0])
            .payload(&ethertype.0.to_be_bytes())
            .payload(inner.get(ethernet::HEADER_LEN..).unwrap_or_default())
    }

    /// Pads the frame with 0xee to `len` bytes, 60 for what a NIC sends at least.
    #[must_use]
    pub fn pad(mut self, len: usize) -> Build {
        self.pad_to = len;
        self
    }

    /// The frame's bytes, with lengths and checksums filled in.
    ///
    /// # Panics
    /// When it does not fit: an IP packet is 65535 bytes long at most.
    pub fn finish(self) -> Vec<u8> {
        let ip_len = match &self.ip {
            Some(Ip::V4(ip)) => ip.len(),
            Some(Ip::V6 { ext, .. }) => {
                ipv6::HEADER_LEN + ext.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
            }
            None => 0,
        };
        let l4_len = match &self.l4 {
            Some(L4::Tcp(tcp)) => tcp.header_len(),
            Some(L4::Udp(_)) => udp::HEADER_LEN,
            Some(L4::Icmp(_)) => icmpv4::HEADER_LEN,
            Some(L4::Icmp6(_)) => icmpv6::HEADER_LEN,
            None => 0,
        };
        let l4_at = ethernet::HEADER_LEN + ip_len;
        let mut out = vec![0; l4_at + l4_len];
        out.extend_from_slice(&self.payload);
        let mut result = self.eth.emit(&mut out);
        match self.ip {
            Some(Ip::V4(mut ip)) => {
                ip.payload_len = u16::try_from(out.len() - l4_at).expect("fits an IPv4 packet");
                let l4 = &mut out[l4_at..];
                result = result.and(match &self.l4 {
                    Some(L4::Tcp(tcp)) => tcp.emit(l4, ip.src, ip.dst),
                    Some(L4::Udp(udp)) => udp.emit(l4, ip.src, ip.dst),
                    Some(L4::Icmp(icmp)) => icmp.emit(l4),
                    Some(L4::Icmp6(_)) | None => Ok(()),
                });
                result = result.and(ip.emit(&mut out[ethernet::HEADER_LEN..]));
            }
            Some(Ip::V6 { mut header, ext, protocol }) => {
                let ip_at = ethernet::HEADER_LEN;
                let payload_len = out.len() - ip_at - ipv6::HEADER_LEN;
                header.payload_len = u16::try_from(payload_len).expect("fits an IPv6 packet");
                // What each header stands before is the number of the one behind it.
                let numbers = ext.iter().map(|(kind, _)| *kind).chain([protocol]);
                let numbers = numbers.collect::<Vec<_>>();
                header.next_header = numbers[0];
                let mut at = ip_at + ipv6::HEADER_LEN;
                for ((_, bytes), next) in ext.iter().zip(&numbers[1..]) {
                    out[at..at + bytes.len()].copy_from_slice(bytes);
                    out[at] = *next;
                    at += bytes.len();
                }
                let (src, dst, l4) = (header.src, header.dst, &mut out[l4_at..]);
                result = result.and(match &self.l4 {
                    Some(L4::Tcp(tcp)) => tcp.emit6(l4, src, dst),
                    Some(L4::Udp(udp)) => udp.emit6(l4, src, dst),
                    Some(L4::Icmp6(icmp)) => icmp.emit(l4, src, dst),
                    Some(L4::Icmp(_)) | None => Ok(()),
                });
                result = result.and(header.emit(&mut out[ip_at..]));
            }
            None => {}
        }
        result.expect("headers that fit");
        out.resize(out.len().max(self.pad_to), 0xee);
        out
    }
}

/// Whether a frame's Ethernet type is IPv6's.
fn is_ipv6(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&EtherType::IPV6.0.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_golden_bytes() {
        let (a, b) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let (src, dst) = (Ipv4Addr::new(192, 168, 0, 31), Ipv4Addr::new(192, 168, 0, 30));
        let frame = Build::eth(a, b)
            .ipv4(src, dst)
            .ttl(63)
            .df(true)
            .id(7)
            .udp(1, 2)
            .payload(b"Hi\n")
            .pad(48);
        #[rustfmt::skip]
        assert_eq!(frame.finish(), [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
            0x45, 0, 0, 31, 0, 7, 0x40, 0, 63, 17, 0xba, 0x39, 192, 168, 0, 31, 192, 168, 0, 30,
            0, 1, 0, 2, 0, 11, 0x2b, 0xde, b'H', b'i', b'\n',
            0xee, 0xee, 0xee,
        ]);
    }

    #[test]
    fn options_are_padded() {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let frame =
            Build::eth(Mac::ZERO, Mac::ZERO).ipv4(ip, ip).options(&[1, 1, 1, 1, 1]).finish();
        assert_eq!(frame.len(), 14 + 28);
        assert_eq!(frame[34..], [1, 1, 1, 1, 1, 0, 0, 0]);
    }
}
