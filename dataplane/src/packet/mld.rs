//! Multicast listener discovery, version 2, RFC 3810: what the director says to be sent the
//! solicitations of its addresses by switches that look at it (RFC 4541), and the queries it hears.

use std::net::Ipv6Addr;

use super::field::{get_ipv6, get16, set_ipv6, set16};
use super::icmpv6::{self, kind};
use super::ipv6::{self, next};
use super::{HeaderError, ethernet};
use crate::types::Mac;

/// All MLDv2-capable routers, where reports go (RFC 3810 5.2.14).
pub const ALL_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Hop limit of all these messages (RFC 3810 5).
pub const HOP_LIMIT: u8 = 1;
/// Most groups of one report: more would be longer than the least MTU.
pub const MAX_GROUPS: usize =
    (ipv6::MIN_MTU as usize - ipv6::HEADER_LEN - ROUTER_ALERT.len() - icmpv6::HEADER_LEN)
        / RECORD_LEN;

/// Length of a record without sources, in bytes.
const RECORD_LEN: usize = 20;
/// The hop-by-hop header before ICMPv6: router alert, value 0 "Datagram contains a Multicast
/// Listener Discovery message" (RFC 2711 2.1), and a PadN to eight bytes.
const ROUTER_ALERT: [u8; 8] = [next::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// Length in bytes of a version 1 query; a version 2 query has [`QUERY_V2_LEN`] at least
/// (RFC 3810 8.1).
const QUERY_V1_LEN: usize = 24;
const QUERY_V2_LEN: usize = 28;

/// What a report says of its groups (RFC 3810 5.2.12). The director listens to all sources of a
/// group or to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Record {
    /// It listens, said when asked: MODE_IS_EXCLUDE without sources.
    Listening = 2,
    /// It stops: CHANGE_TO_INCLUDE_MODE without sources.
    Leave = 3,
    /// It begins: CHANGE_TO_EXCLUDE_MODE without sources.
    Join = 4,
}

/// Writes to `out` the frame that reports `record` for `groups`, and gives its length in bytes.
/// `src` is a link-local address, or unspecified before the port has one (RFC 3810 5.2.13).
///
/// # Errors
/// `Malformed` for another source, no group, one that is none, or more than [`MAX_GROUPS`];
/// `TooShort` when `out` is.
pub fn emit_report(
    out: &mut [u8],
    src_mac: Mac,
    src: Ipv6Addr,
    record: Record,
    groups: &[Ipv6Addr],
) -> Result<usize, HeaderError> {
    let source = src.is_unspecified() || ipv6::is_link_local(src);
    let count = (1..=MAX_GROUPS).contains(&groups.len());
    if !source || !count || groups.iter().any(|group| !group.is_multicast()) {
        return Err(HeaderError::Malformed);
    }
    let icmp_len = icmpv6::HEADER_LEN + groups.len() * RECORD_LEN;
    let payload_len = ROUTER_ALERT.len() + icmp_len;
    let total = ethernet::HEADER_LEN + ipv6::HEADER_LEN + payload_len;
    let out = out.get_mut(..total).ok_or(HeaderError::TooShort)?;
    let dst_mac = ipv6::group_mac(ALL_V2_ROUTERS);
    let ethertype = ethernet::EtherType::IPV6;
    ethernet::Header { dst: dst_mac, src: src_mac, ethertype }.emit(out)?;
    let ip = &mut out[ethernet::HEADER_LEN..];
    let header = ipv6::Header {
        hop_limit: HOP_LIMIT,
        ..ipv6::Header::new(src, ALL_V2_ROUTERS, next::HOP_BY_HOP, payload_len as u16)
    };
    header.emit(ip)?;
    let (alert, icmp) = ip[ipv6::HEADER_LEN..].split_at_mut(ROUTER_ALERT.len());
    alert.copy_from_slice(&ROUTER_ALERT);
    for (group, out) in groups.iter().zip(icmp[icmpv6::HEADER_LEN..].chunks_mut(RECORD_LEN)) {
        out[0] = record as u8;
        out[1] = 0; // No auxiliary data.
        set16(out, 2, 0); // No sources.
        set_ipv6(out, 4, *group);
    }
    // RFC 3810 5.2: two reserved bytes, then the number of records.
    let rest = groups.len() as u32;
    let kind = kind::LISTENER_REPORT_V2;
    icmpv6::Header { kind, code: 0, rest }.emit(icmp, src, ALL_V2_ROUTERS)?;
    Ok(total)
}

/// What a router asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Query {
    /// The group asked about; unspecified when it is about all.
    pub group: Ipv6Addr,
    /// Within how long to answer, in milliseconds, at a random time (RFC 3810 5.1.3).
    pub max_response_ms: u32,
    /// Whether it is of version 2. A version 1 router understands version 1 reports only
    /// (RFC 3810 8.2), which are not made here: switches that snoop understand both.
    pub v2: bool,
}

/// Reads a query. `icmp` is the message from the ICMPv6 header on, `src`, `dst` and `hop_limit`
/// those of the IPv6 header. The router alert is not asked for.
///
/// # Errors
/// `Unsupported` when it is no query; `Malformed` when it comes from no link-local address or with
/// another hop limit (RFC 3810 5.1.14, 6.2), or its length is between the versions'; `Checksum`.
pub fn parse_query(
    icmp: &[u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
) -> Result<Query, HeaderError> {
    let packet = icmpv6::Packet::new(icmp)?;
    if packet.kind() != kind::LISTENER_QUERY {
        return Err(HeaderError::Unsupported);
    }
    let v2 = match icmp.len() {
        QUERY_V1_LEN => false,
        QUERY_V2_LEN.. => true,
        // RFC 3810 8.1: others "MUST be silently ignored".
        _ => return Err(HeaderError::Malformed),
    };
    let group = get_ipv6(icmp, 8);
    let about = group.is_unspecified() || group.is_multicast();
    if hop_limit != HOP_LIMIT || !ipv6::is_link_local(src) || !about {
        return Err(HeaderError::Malformed);
    }
    if !packet.verify_checksum(src, dst) {
        return Err(HeaderError::Checksum);
    }
    let code = get16(icmp, 4);
    let max_response_ms = match code {
        // RFC 3810 5.1.3: "a floating-point value" of 3 bits of exponent and 12 of mantissa.
        0x8000.. if v2 => u32::from(code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
        _ => u32::from(code),
    };
    Ok(Query { group, max_response_ms, v2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn group() -> Ipv6Addr {
        ipv6::solicited_node("2001:db8::80".parse().unwrap())
    }

    /// As scapy builds it.
    #[test]
    fn emits_golden_bytes() {
        let mut out = [0xee; 100];
        let n = emit_report(&mut out, MAC, ipv6::link_local(MAC), Record::Join, &[group()]);
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0, 0, 0, 0x16, 2, 0, 0, 0, 0, 2, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 36, 0, 1,
            0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 2,
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16,
            58, 0, 5, 2, 0, 0, 1, 0,
            143, 0, 0x71, 0x87, 0, 0, 0, 1,
            4, 0, 0, 0,
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0x80,
        ];
        assert_eq!(&out[..n.unwrap()], expected);
    }

    #[test]
    fn a_report_fits_the_least_mtu() {
        let mut out = [0; 1400];
        let groups = vec![group(); MAX_GROUPS + 1];
        let src = Ipv6Addr::UNSPECIFIED;
        let n = emit_report(&mut out, MAC, src, Record::Listening, &groups[1..]).unwrap();
        assert!(n - 14 <= 1280 && n - 14 + RECORD_LEN > 1280);
        let bad: [(Ipv6Addr, &[Ipv6Addr]); 4] = [
            (src, &groups),
            (src, &[]),
            (src, &[Ipv6Addr::LOCALHOST]),
            ("2001:db8::1".parse().unwrap(), &groups[..1]),
        ];
        for (src, groups) in bad {
            let result = emit_report(&mut out, MAC, src, Record::Leave, groups);
            assert_eq!(result, Err(HeaderError::Malformed));
        }
        let result = emit_report(&mut out[..89], MAC, src, Record::Leave, &groups[..1]);
        assert_eq!(result, Err(HeaderError::TooShort));
    }

    fn query(len: usize, code: u16) -> Result<Query, HeaderError> {
        let (src, dst) = (ipv6::link_local(MAC), ipv6::ALL_NODES);
        let mut icmp = vec![0; len];
        let header =
            icmpv6::Header { kind: kind::LISTENER_QUERY, code: 0, rest: u32::from(code) << 16 };
        header.emit(&mut icmp, src, dst).unwrap();
        assert!(parse_query(&icmp, src, dst, 2).is_err());
        assert!(parse_query(&icmp, "2001:db8::1".parse().unwrap(), dst, 1).is_err());
        let mut bad = icmp.clone();
        bad[2] ^= 1;
        assert!(parse_query(&bad, src, dst, 1).is_err());
        parse_query(&icmp, src, dst, 1)
    }

    #[test]
    fn reads_queries_of_both_versions() {
        let group = Ipv6Addr::UNSPECIFIED;
        let v1 = Query { group, max_response_ms: 0x8001, v2: false };
        assert_eq!(query(24, 0x8001), Ok(v1));
        assert_eq!(query(28, 10_000), Ok(Query { group, max_response_ms: 10_000, v2: true }));
        // The least and the greatest of the floating-point values.
        assert_eq!(query(28, 0x8000).unwrap().max_response_ms, 32_768);
        assert_eq!(query(28, 0xffff).unwrap().max_response_ms, 8_387_584);
        for len in [8, 23, 25, 27] {
            assert_eq!(query(len, 1), Err(HeaderError::Malformed), "{len}");
        }
    }
}
