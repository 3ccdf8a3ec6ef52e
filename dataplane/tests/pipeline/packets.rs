//! The network around the director, and packets in it.
//!
//! Clients reach VIPs by a router on port 0, network 192.0.2.0/24. Real servers on 10.0.0.0/24 are
//! on-link of port 1; others are behind the gateway 192.0.2.1 of port 0.

use std::net::{IpAddr, Ipv4Addr};

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::types::{FlowKey, Mac, PortId, Protocol};

pub(crate) const WAN: PortId = PortId(0);
pub(crate) const LAN: PortId = PortId(1);
pub(crate) const WAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
pub(crate) const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x11]);
pub(crate) const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const WAN_DIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const LAN_DIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
pub(crate) const MTU: usize = 1500;

/// The Ethernet address of a neighbor.
pub(crate) fn mac_of(address: impl Into<IpAddr>) -> Mac {
    match address.into() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            Mac([2, 1, a, b, c, d])
        }
        IpAddr::V6(address) => {
            let [a, b, c, d] = (address.to_bits() as u32).to_be_bytes();
            Mac([2, 6, a, b, c, d])
        }
    }
}

pub(crate) fn client(n: u16) -> Ipv4Addr {
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(198, 51, high, low)
}

/// Client `n`'s L4 port.
pub(crate) fn port_of(n: u16) -> u16 {
    20_000 + n
}

pub(crate) fn key(n: u16, protocol: Protocol, vip_port: u16) -> FlowKey {
    FlowKey { client: client(n), vip: VIP, client_port: port_of(n), vip_port, protocol }
}

/// An IPv4 packet from client `n` to the VIP, as the router sends it.
pub(crate) fn from(n: u16) -> Build {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv4(client(n), VIP)
}

/// A TCP segment to L4 port 80.
pub(crate) fn tcp(n: u16, flags: Flags) -> Build {
    from(n).tcp(port_of(n), 80, flags, 1)
}

pub(crate) fn syn(n: u16) -> Vec<u8> {
    tcp(n, Flags::SYN).finish()
}

pub(crate) fn ack(n: u16) -> Vec<u8> {
    tcp(n, Flags::ACK).payload(b"data").finish()
}

pub(crate) fn fin(n: u16) -> Vec<u8> {
    tcp(n, Flags(Flags::FIN.0 | Flags::ACK.0)).finish()
}

pub(crate) fn rst(n: u16) -> Vec<u8> {
    tcp(n, Flags::RST).finish()
}

pub(crate) fn syn_ack(n: u16) -> Vec<u8> {
    tcp(n, Flags(Flags::SYN.0 | Flags::ACK.0)).finish()
}

/// A datagram to L4 port 53 with `len` bytes of payload.
pub(crate) fn datagram(n: u16, len: usize) -> Build {
    let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
    from(n).udp(port_of(n), 53).payload(&payload)
}

pub(crate) fn udp(n: u16) -> Vec<u8> {
    datagram(n, 10).finish()
}

/// A UDP datagram to L4 port 53 in fragments of `part` bytes (a multiple of eight).
pub(crate) fn udp_fragments(n: u16, id: u16, len: usize, part: usize) -> Vec<Vec<u8>> {
    cut(&datagram(n, len).finish(), id, part)
}

/// Cuts an IPv4 packet without options into fragments: a sender's work, written independently.
pub(crate) fn cut(frame: &[u8], id: u16, part: usize) -> Vec<Vec<u8>> {
    let (eth, ip, payload) = (&frame[..14], &frame[14..34], &frame[34..]);
    let count = payload.len().div_ceil(part);
    let chunks = payload.chunks(part).enumerate();
    chunks
        .map(|(i, chunk)| {
            let mut header = ip.to_vec();
            let total = (20 + chunk.len()) as u16;
            let offset = (i * part / 8) as u16 | if i + 1 < count { 0x2000 } else { 0 };
            header[2..4].copy_from_slice(&total.to_be_bytes());
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[6..8].copy_from_slice(&offset.to_be_bytes());
            fix_ip_checksum(&mut header);
            [eth, &header, chunk].concat()
        })
        .collect()
}

/// Computes the checksum of a header of 20 bytes, plainly.
pub(crate) fn fix_ip_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let mut sum: u32 =
        header[..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Changes bytes of the IPv4 header and sets its checksum right again.
pub(crate) fn with_ip(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[14..]);
    fix_ip_checksum(&mut frame[14..34]);
    frame
}

/// An ICMP error from a router to the VIP, about the VIP's packet to client `n` (quoted by its
/// IP header and eight bytes).
pub(crate) fn icmp_error(n: u16, protocol: Protocol, vip_port: u16) -> Vec<u8> {
    icmp_error_quoting(VIP, n, protocol, vip_port)
}

pub(crate) fn icmp_error_quoting(
    src: Ipv4Addr,
    n: u16,
    protocol: Protocol,
    vip_port: u16,
) -> Vec<u8> {
    let reply = Build::eth(ROUTER_MAC, WAN_MAC).ipv4(src, client(n)).ttl(3);
    let reply = match protocol {
        Protocol::Tcp => reply.tcp(vip_port, port_of(n), Flags::ACK, 7),
        Protocol::Udp => reply.udp(vip_port, port_of(n)),
    };
    let quoted = &reply.payload(&[0; 100]).finish()[14..14 + 28];
    Build::eth(ROUTER_MAC, WAN_MAC)
        .ipv4(Ipv4Addr::new(198, 18, 0, 1), VIP)
        .icmp(3, 4, 1280)
        .payload(quoted)
        .finish()
}
