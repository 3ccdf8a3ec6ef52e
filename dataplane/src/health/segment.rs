//! The segments of probes: IP packets without Ethernet header, made and read.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::numbers::Tuple;
use crate::packet::tcp::{self, Flags};
use crate::packet::{HeaderError, ipv4, ipv6};

/// Hops a probe may take, the director's own among them. It reaches the real server with one left,
/// on which no router forwards: a real server that lacks the VIP cannot send it back to the
/// director, who would forward it to one that has it.
pub const HOPS: u8 = 2;
/// Longest packet a probe consists of, in bytes.
pub const MAX_PACKET_LEN: usize = ipv6::HEADER_LEN + tcp::MIN_HEADER_LEN + OPTIONS.len();
/// Of a SYN: longest segment taken, 1,220 bytes, which fits every path (RFC 9293 3.7.1).
const OPTIONS: [u8; 4] = [2, 4, 4, 0xc4];
/// Bytes taken before more is acknowledged. Nothing is wanted of a real server.
const WINDOW: u16 = 4096;

/// A segment of a probe's connection, without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) flags: Flags,
    pub(super) seq: u32,
    pub(super) ack: u32,
}

impl Out {
    /// The IP packet that carries it from the DIP to the VIP.
    ///
    /// # Errors
    /// `Malformed` when the addresses are of two families.
    pub(super) fn emit(&self, tuple: &Tuple) -> Result<ArrayVec<u8, MAX_PACKET_LEN>, HeaderError> {
        let mut tcp = tcp::Header {
            sport: tuple.local.port(),
            dport: tuple.remote.port(),
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: WINDOW,
            ..tcp::Header::default()
        };
        if self.flags.syn() {
            tcp.options.extend(OPTIONS);
        }
        let len = tcp.header_len();
        let mut packet = ArrayVec::from([0; MAX_PACKET_LEN]);
        match (tuple.local.ip(), tuple.remote.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                packet.truncate(ipv4::MIN_HEADER_LEN + len);
                let mut ip = ipv4::Header::new(src, dst, ipv4::protocol::TCP, len as u16);
                ip.ttl = HOPS;
                // RFC 6864 4.1: what cannot be fragmented needs no identification.
                ip.fragment = ipv4::FragmentBits::DF;
                ip.emit(&mut packet)?;
                tcp.emit(&mut packet[ipv4::MIN_HEADER_LEN..], src, dst)?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                packet.truncate(ipv6::HEADER_LEN + len);
                let mut ip = ipv6::Header::new(src, dst, ipv6::next::TCP, len as u16);
                ip.hop_limit = HOPS;
                ip.emit(&mut packet)?;
                tcp.emit6(&mut packet[ipv6::HEADER_LEN..], src, dst)?;
            }
            _ => return Err(HeaderError::Malformed),
        }
        Ok(packet)
    }
}

/// A segment that came to a DIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Whose connection it claims to belong to, as the director sees it.
    pub tuple: Tuple,
    /// Control bits.
    pub flags: Flags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Bytes of data.
    pub data: u32,
}

impl Segment {
    /// Reads an IP packet, which may have Ethernet padding behind it. Extension headers of IPv6 are
    /// not looked behind: no stack answers a plain SYN with any.
    ///
    /// # Errors
    /// When it is malformed, a fragment, no TCP, or has a wrong checksum.
    pub fn read(packet: &[u8]) -> Result<Segment, HeaderError> {
        if packet.first().is_some_and(|first| first >> 4 == 6) {
            let ip = ipv6::Packet::new(packet)?;
            if ip.next_header() != ipv6::next::TCP {
                return Err(HeaderError::Unsupported);
            }
            let tcp = tcp::Segment::new(ip.payload())?;
            if !tcp.verify_checksum6(ip.src(), ip.dst()) {
                return Err(HeaderError::Checksum);
            }
            return Ok(Segment::of(ip.src().into(), ip.dst().into(), &tcp));
        }
        let ip = ipv4::Packet::new(packet)?;
        if ip.protocol() != ipv4::protocol::TCP || ip.fragment().is_fragment() {
            return Err(HeaderError::Unsupported);
        }
        let tcp = tcp::Segment::new(ip.payload())?;
        if !tcp.verify_checksum(ip.src(), ip.dst()) {
            return Err(HeaderError::Checksum);
        }
        Ok(Segment::of(ip.src().into(), ip.dst().into(), &tcp))
    }

    fn of(src: IpAddr, dst: IpAddr, tcp: &tcp::Segment<&[u8]>) -> Segment {
        Segment {
            tuple: Tuple::new(dst, tcp.dport(), (src, tcp.sport()).into()),
            flags: tcp.flags(),
            seq: tcp.seq(),
            ack: tcp.ack(),
            data: tcp.payload().len() as u32,
        }
    }
}

#[cfg(test)]
mod tests;
