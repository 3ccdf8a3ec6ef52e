//! IPv6 in the test network: clients behind a router on port 0, real servers of [`LAN_NET`] on-link
//! of port 1, others behind [`GATEWAY6`] of port 0.

use std::net::Ipv6Addr;

use dataplane::packet::build::Build;
use dataplane::packet::icmpv6::kind;
use dataplane::packet::tcp::Flags;
use dataplane::types::{FlowKey6, Protocol};

use crate::packets::{ROUTER_MAC, WAN_MAC, port_of};

const fn site(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host)
}

pub(crate) const WAN_DIP6: Ipv6Addr = site(0xc, 0x10);
pub(crate) const LAN_DIP6: Ipv6Addr = site(0xa, 0x10);
pub(crate) const LAN_NET: Ipv6Addr = site(0xa, 0);
pub(crate) const GATEWAY6: Ipv6Addr = site(0xc, 1);
pub(crate) const VIP6: Ipv6Addr = site(0x80, 0x80);

/// Real server `n` on-link of port 1.
pub(crate) const fn real6(n: u16) -> Ipv6Addr {
    site(0xa, n)
}

/// One behind the gateway.
pub(crate) const FAR6: Ipv6Addr = site(0xf, 9);

pub(crate) fn client6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, n, 0, 0, 0, 7)
}

pub(crate) fn key6(n: u16, protocol: Protocol, vip_port: u16) -> FlowKey6 {
    FlowKey6 { client: client6(n), vip: VIP6, client_port: port_of(n), vip_port, protocol }
}

/// An IPv6 packet from client `n` to the VIP, as the router sends it.
pub(crate) fn from6(n: u16) -> Build {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv6(client6(n), VIP6)
}

pub(crate) fn tcp6(n: u16, flags: Flags) -> Build {
    from6(n).tcp(port_of(n), 80, flags, 1)
}

pub(crate) fn syn6(n: u16) -> Vec<u8> {
    tcp6(n, Flags::SYN).finish()
}

pub(crate) fn ack6(n: u16) -> Vec<u8> {
    tcp6(n, Flags::ACK).payload(b"data").finish()
}

pub(crate) fn datagram6(n: u16, len: usize) -> Build {
    let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
    from6(n).udp(port_of(n), 53).payload(&payload)
}

pub(crate) fn udp6(n: u16) -> Vec<u8> {
    datagram6(n, 10).finish()
}

/// Cuts an IPv6 packet without extension headers into fragments of `part` bytes (a multiple of
/// eight): a sender's work, written independently.
pub(crate) fn cut6(frame: &[u8], id: u32, part: usize) -> Vec<Vec<u8>> {
    let (eth, ip, payload) = (&frame[..14], &frame[14..54], &frame[54..]);
    let count = payload.len().div_ceil(part);
    let pieces = payload.chunks(part).enumerate().map(|(i, chunk)| {
        let mut header = ip.to_vec();
        header[4..6].copy_from_slice(&((8 + chunk.len()) as u16).to_be_bytes());
        header[6] = 44;
        let offset = (i * part) as u16 | u16::from(i + 1 < count);
        let mut fragment = vec![ip[6], 0];
        fragment.extend(offset.to_be_bytes());
        fragment.extend(id.to_be_bytes());
        [eth, &header, &fragment, chunk].concat()
    });
    pieces.collect()
}

pub(crate) fn udp_fragments6(n: u16, id: u32, len: usize, part: usize) -> Vec<Vec<u8>> {
    cut6(&datagram6(n, len).finish(), id, part)
}

/// An ICMPv6 error from a router to the VIP, about the VIP's packet to client `n`.
pub(crate) fn icmp_error6(n: u16, protocol: Protocol, vip_port: u16) -> Vec<u8> {
    let reply = Build::eth(ROUTER_MAC, WAN_MAC).ipv6(VIP6, client6(n)).ttl(3);
    let reply = match protocol {
        Protocol::Tcp => reply.tcp(vip_port, port_of(n), Flags::ACK, 7),
        Protocol::Udp => reply.udp(vip_port, port_of(n)),
    };
    error6_quoting(&reply.payload(&[0; 100]).finish()[14..])
}

pub(crate) fn error6_quoting(quoted: &[u8]) -> Vec<u8> {
    let error = Build::eth(ROUTER_MAC, WAN_MAC).ipv6(site(0xfe, 1), VIP6);
    error.icmp6(kind::PACKET_TOO_BIG, 0, 1280).payload(quoted).finish()
}

/// Changes bytes of the IPv6 header.
pub(crate) fn with_ip6(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[14..]);
    frame
}

/// The packet as it must arrive: one hop less, nothing else.
pub(crate) fn one_hop_less6(frame: &[u8]) -> Vec<u8> {
    let total = 40 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    with_ip6(frame[..14 + total].to_vec(), |ip| ip[7] -= 1)[14..].to_vec()
}
