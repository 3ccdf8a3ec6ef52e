//! What a wire tap sees: sent frames, read by etherparse and checked for what must always hold.

use std::net::Ipv4Addr;

use dataplane::types::{Mac, PortId};
use etherparse::{Ethernet2Slice, Ipv4HeaderSlice};

/// One sent frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) port: PortId,
    pub(crate) src_mac: Mac,
    pub(crate) dst_mac: Mac,
    /// The outer packet of a tunnel.
    pub(crate) outer: Option<Outer>,
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

impl Seen {
    pub(crate) fn read(port: PortId, frame: &[u8]) -> Seen {
        let eth = Ethernet2Slice::from_slice_without_fcs(frame).expect("an Ethernet header");
        assert_eq!(eth.ether_type(), etherparse::EtherType::IPV4);
        let ip = header(eth.payload_slice());
        let total = usize::from(ip.total_len());
        let bytes = &eth.payload_slice()[..total];
        let (outer, inner) = match ip.protocol().0 {
            4 => (Some(Outer::read(&ip, None)), bytes[20..].to_vec()),
            47 if ip.fragments_offset().value() > 0 => {
                (Some(Outer::read(&ip, None)), bytes[20..].to_vec())
            }
            47 => {
                let (gre, inner) = Gre::read(&bytes[20..], ip.more_fragments());
                (Some(Outer::read(&ip, Some(gre))), inner)
            }
            _ => (None, bytes.to_vec()),
        };
        if outer.as_ref().is_none_or(|o| o.fragment == (0, false)) {
            assert_eq!(usize::from(header(&inner).total_len()), inner.len());
        }
        Seen {
            port,
            src_mac: Mac(eth.source()),
            dst_mac: Mac(eth.destination()),
            outer,
            inner,
            padding: eth.payload_slice().len() - total,
        }
    }

    pub(crate) fn ip(&self) -> Ipv4HeaderSlice<'_> {
        header(&self.inner)
    }

    /// The real server: where the tunnel ends, or whose Ethernet address it is.
    pub(crate) fn real(&self) -> Ipv4Addr {
        match &self.outer {
            Some(outer) => outer.dst,
            None => Ipv4Addr::from(*self.dst_mac.0.last_chunk::<4>().unwrap()),
        }
    }

    /// Length of the IP packet on the wire.
    pub(crate) fn ip_len(&self) -> usize {
        self.inner.len()
            + self.outer.as_ref().map_or(0, |o| 20 + o.gre.as_ref().map_or(0, Gre::len))
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

impl Gre {
    fn len(&self) -> usize {
        4 + 4 * usize::from(self.checksum) + 4 * usize::from(self.key.is_some())
    }

    fn read(bytes: &[u8], fragment: bool) -> (Gre, Vec<u8>) {
        let flags = u16::from_be_bytes([bytes[0], bytes[1]]);
        assert_eq!(flags & !0xa000, 0, "only checksum and key; version 0");
        assert_eq!(bytes[2..4], [0x08, 0x00], "protocol type IPv4");
        let checksum = flags & 0x8000 != 0;
        if checksum && !fragment {
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(bytes);
            assert_eq!(sum.ones_complement(), 0, "GRE checksum");
        }
        let at = if checksum { 8 } else { 4 };
        let key = (flags & 0x2000 != 0)
            .then(|| u32::from_be_bytes(*bytes[at..].first_chunk::<4>().unwrap()));
        let gre = Gre { checksum, key };
        let inner = bytes[gre.len()..].to_vec();
        (gre, inner)
    }
}
