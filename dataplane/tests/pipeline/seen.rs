//! What a wire tap sees: sent frames, read by etherparse and checked for what must always hold.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::types::{Mac, PortId};
use etherparse::{Ethernet2Slice, Ipv4HeaderSlice, Ipv6HeaderSlice};

use crate::packets6::LAN_NET;

/// One sent frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) port: PortId,
    pub(crate) src_mac: Mac,
    pub(crate) dst_mac: Mac,
    /// The outer packet of a tunnel over IPv4.
    pub(crate) outer: Option<Outer>,
    /// The outer packet of a tunnel over IPv6.
    pub(crate) outer6: Option<Outer6>,
    /// The client's packet, from its IP header on, without padding; a part of it when the outer
    /// packet is a fragment.
    pub(crate) inner: Vec<u8>,
    pub(crate) padding: usize,
}

/// An outer IPv4 header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u16,
    pub(crate) df: bool,
    /// Offset in bytes, and whether more fragments follow.
    pub(crate) fragment: (usize, bool),
    pub(crate) gre: Option<Gre>,
}

/// An outer IPv6 header, which extension headers never follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outer6 {
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) label: u32,
    pub(crate) gre: Option<Gre>,
}

/// A GRE header, RFC 2784 and 2890.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gre {
    pub(crate) checksum: bool,
    pub(crate) key: Option<u32>,
}

fn header(bytes: &[u8]) -> Ipv4HeaderSlice<'_> {
    let header = Ipv4HeaderSlice::from_slice(bytes).expect("an IPv4 header");
    assert_eq!(
        header.to_header().calc_header_checksum(),
        header.header_checksum(),
        "IPv4 header checksum"
    );
    header
}

/// Length of an IP packet by its header.
fn total_len(ip: &[u8]) -> usize {
    match ip[0] >> 4 {
        4 => header(ip).total_len().into(),
        6 => 40 + usize::from(Ipv6HeaderSlice::from_slice(ip).unwrap().payload_length()),
        version => panic!("IP version {version}"),
    }
}

impl Seen {
    pub(crate) fn read(port: PortId, frame: &[u8]) -> Seen {
        let eth = Ethernet2Slice::from_slice_without_fcs(frame).expect("an Ethernet header");
        let payload = eth.payload_slice();
        let total = total_len(payload);
        let bytes = &payload[..total];
        let (mut outer, mut outer6) = (None, None);
        let inner = if eth.ether_type() == etherparse::EtherType::IPV4 {
            let ip = header(payload);
            let later = ip.fragments_offset().value() > 0;
            let (gre, at) = match ip.protocol().0 {
                4 | 41 => (None, 20),
                47 if later => (None, 20),
                47 => {
                    let gre = Gre::read(&bytes[20..], ip.more_fragments());
                    let len = gre.len();
                    (Some(gre), 20 + len)
                }
                _ => (None, 0),
            };
            if at > 0 {
                outer = Some(Outer::read(&ip, gre));
            }
            &bytes[at..]
        } else {
            assert_eq!(eth.ether_type(), etherparse::EtherType::IPV6);
            let ip = Ipv6HeaderSlice::from_slice(payload).expect("an IPv6 header");
            let (gre, at) = match ip.next_header().0 {
                4 | 41 => (None, 40),
                47 => {
                    let gre = Gre::read(&bytes[40..], false);
                    let len = gre.len();
                    (Some(gre), 40 + len)
                }
                _ => (None, 0),
            };
            if at > 0 {
                outer6 = Some(Outer6::read(&ip, gre));
            }
            &bytes[at..]
        };
        if outer.as_ref().is_none_or(|o: &Outer| o.fragment == (0, false)) {
            assert_eq!(total_len(inner), inner.len());
        }
        Seen {
            port,
            src_mac: Mac(eth.source()),
            dst_mac: Mac(eth.destination()),
            outer,
            outer6,
            inner: inner.to_vec(),
            padding: payload.len() - total,
        }
    }

    pub(crate) fn ip(&self) -> Ipv4HeaderSlice<'_> {
        header(&self.inner)
    }

    /// The real server: where the tunnel ends, or whose Ethernet address it is.
    pub(crate) fn real_of_either(&self) -> IpAddr {
        let last = u32::from_be_bytes(*self.dst_mac.0.last_chunk::<4>().unwrap());
        match (&self.outer, &self.outer6) {
            (Some(outer), _) => outer.dst.into(),
            (_, Some(outer)) => outer.dst.into(),
            (None, None) if self.inner[0] >> 4 == 4 => Ipv4Addr::from(last).into(),
            (None, None) => Ipv6Addr::from_bits(LAN_NET.to_bits() | u128::from(last)).into(),
        }
    }

    /// The same, of IPv4.
    pub(crate) fn real(&self) -> Ipv4Addr {
        match self.real_of_either() {
            IpAddr::V4(real) => real,
            IpAddr::V6(real) => panic!("to {real}"),
        }
    }

    /// Length of the IP packet on the wire.
    pub(crate) fn ip_len(&self) -> usize {
        self.inner.len()
            + self.outer.as_ref().map_or(0, |o| 20 + o.gre.as_ref().map_or(0, Gre::len))
            + self.outer6.as_ref().map_or(0, |o| 40 + o.gre.as_ref().map_or(0, Gre::len))
    }
}

impl Outer {
    fn read(ip: &Ipv4HeaderSlice<'_>, gre: Option<Gre>) -> Outer {
        assert_eq!(ip.ihl(), 5);
        Outer {
            src: ip.source_addr(),
            dst: ip.destination_addr(),
            tos: ip.dcp().value() << 2 | ip.ecn().value(),
            ttl: ip.ttl(),
            id: ip.identification(),
            df: ip.dont_fragment(),
            fragment: (usize::from(ip.fragments_offset().value()) * 8, ip.more_fragments()),
            gre,
        }
    }
}

impl Outer6 {
    fn read(ip: &Ipv6HeaderSlice<'_>, gre: Option<Gre>) -> Outer6 {
        Outer6 {
            src: ip.source_addr(),
            dst: ip.destination_addr(),
            tos: ip.traffic_class(),
            ttl: ip.hop_limit(),
            label: ip.flow_label().value(),
            gre,
        }
    }
}

impl Gre {
    fn len(&self) -> usize {
        4 + 4 * usize::from(self.checksum) + 4 * usize::from(self.key.is_some())
    }

    fn read(bytes: &[u8], fragment: bool) -> Gre {
        let flags = u16::from_be_bytes([bytes[0], bytes[1]]);
        assert_eq!(flags & !0xa000, 0, "only checksum and key; version 0");
        let checksum = flags & 0x8000 != 0;
        if checksum && !fragment {
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(bytes);
            assert_eq!(sum.ones_complement(), 0, "GRE checksum");
        }
        let at = if checksum { 8 } else { 4 };
        let key = (flags & 0x2000 != 0)
            .then(|| u32::from_be_bytes(*bytes[at..].first_chunk::<4>().unwrap()));
        let gre = Gre { checksum, key };
        let kind = if bytes[gre.len()] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        assert_eq!(bytes[2..4], kind, "protocol type");
        gre
    }
}
