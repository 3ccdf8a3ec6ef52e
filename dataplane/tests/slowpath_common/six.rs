//! The same network over IPv6.

use std::net::Ipv6Addr;

use dataplane::packet::ipv6;
use dataplane::packet::ndp::{Body, Message};
use dataplane::vocabulary::AddressState;

use etherparse::{SlicedPacket, TransportSlice};

use super::*;

pub const DIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub const WAN_DIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// In the network of the LAN.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
/// In no port's network.
pub const FAR_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x80);
pub const CIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7);
pub const LAN_LOCAL: Ipv6Addr = ipv6::link_local(LAN_MAC);
pub const WAN_LOCAL: Ipv6Addr = ipv6::link_local(WAN_MAC);

/// The n-th real server.
pub const fn rip6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200 + n as u16)
}

pub fn neighbor6(n: u8) -> NeighborSpec {
    NeighborSpec { address: rip6(n).into(), ..neighbor(n) }
}

/// Two ports, two VIPs, and so many real servers, without any IPv4.
pub fn links6(reals: u8) -> Links {
    let port = |port: PortSpec, dip: Ipv6Addr| PortSpec {
        addresses: vec![format!("{dip}/64").parse().unwrap()],
        gateways: vec![],
        ..port
    };
    Links {
        ports: vec![port(lan(), DIP6), port(wan(), WAN_DIP6)],
        vips: vec![VIP6.into(), FAR_VIP6.into()],
        neighbors: (0..reals).map(neighbor6).collect(),
        tunnels: vec![],
    }
}

/// What a report says: its port, source, record type and groups.
pub type Report = (PortId, Ipv6Addr, u8, Vec<Ipv6Addr>);

impl Bench {
    /// [`links6`] configured, and what that sends over and forgotten.
    pub fn with6(reals: u8) -> Bench {
        let mut bench = Bench::empty();
        bench.configure(&links6(reals));
        bench.run(1_100);
        for n in 0..reals {
            bench.answer6(n);
        }
        bench.run(4_000);
        bench.sent.clear();
        bench
    }

    pub fn view6(&self, n: u8) -> NeighborView {
        *self.slow.neighbors().iter().find(|v| v.address == rip6(n)).unwrap()
    }

    pub fn state6(&self, n: u8) -> NeighborState {
        self.view6(n).state
    }

    pub fn address(&self, port: PortId, address: Ipv6Addr) -> Option<AddressState> {
        let all = self.slow.addresses();
        all.iter().find(|v| v.port == port && v.address == address).map(|v| v.state)
    }

    /// The messages of neighbor discovery that came out since last asked: port, frame's
    /// destination, message. Others stay.
    pub fn ndps(&mut self) -> Vec<(PortId, Mac, Message)> {
        let sent = std::mem::take(&mut self.sent);
        let (ndp, rest) =
            sent.into_iter().partition(|(_, f)| f[20] == 58 && (133..=137).contains(&f[54]));
        self.sent = rest;
        let ndp: Vec<(PortId, Vec<u8>)> = ndp;
        ndp.iter().map(|(port, frame)| (*port, dst(frame), read_ndp(*port, frame))).collect()
    }

    /// The listener reports that came out since last asked. Others stay.
    pub fn reports(&mut self) -> Vec<Report> {
        let sent = std::mem::take(&mut self.sent);
        let (mld, rest) = sent.into_iter().partition(|(_, f)| f[20] == 0);
        self.sent = rest;
        let mld: Vec<(PortId, Vec<u8>)> = mld;
        mld.iter().map(|(port, frame)| read_report(*port, frame)).collect()
    }

    pub fn ndp(&mut self, port: PortId, src: Mac, dst: Mac, message: &Message) {
        let mut frame = [0; 100];
        let len = message.emit_frame(src, dst, &mut frame).unwrap();
        self.punt(port, PuntReason::Ndp, &frame[..len]);
    }

    /// Real server n answers the director.
    pub fn answer6(&mut self, n: u8) {
        self.ndp(LAN, real_mac(n), LAN_MAC, &advertisement(n));
    }

    /// A frame for real server n.
    pub fn resolve6(&mut self, n: u8, mark: u8) {
        let reason = PuntReason::Resolve { neighbor: neighbor6(n).id, port: LAN };
        self.punt(WAN, reason, &frame_to_real6(mark));
    }
}

fn port_mac(port: PortId) -> Mac {
    if port == LAN { LAN_MAC } else { WAN_MAC }
}

pub fn read_ndp(port: PortId, frame: &[u8]) -> Message {
    assert_eq!(frame[6..12], port_mac(port).0);
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    check_sum(frame);
    let message = Message::parse(&ipv6::Packet::new(&frame[14..]).unwrap()).unwrap();
    let group = message.dst.is_multicast().then(|| ipv6::group_mac(message.dst));
    assert!(group.is_none_or(|group| dst(frame) == group), "{message:?}");
    message
}

/// By hand, from RFC 3810 5.2 and RFC 2711.
pub fn read_report(port: PortId, frame: &[u8]) -> Report {
    let at = |i: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[i..i + 16]).unwrap());
    assert_eq!(dst(frame), Mac([0x33, 0x33, 0, 0, 0, 0x16]));
    assert_eq!(frame[6..12], port_mac(port).0);
    assert_eq!((frame[20], frame[21]), (0, 1), "hop-by-hop options, hop limit 1");
    assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0], "router alert");
    assert_eq!((frame[62], frame[63]), (143, 0));
    let count = usize::from(frame[69]);
    let record = frame[70];
    let groups = (0..count).map(|n| 70 + 20 * n);
    let groups = groups.map(|i| {
        assert_eq!(frame[i..i + 4], [record, 0, 0, 0]);
        at(i + 4)
    });
    check_sum(frame);
    (port, at(22), record, groups.collect())
}

/// The ICMPv6 checksum, as another implementation computes it.
fn check_sum(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ip = packet.net.as_ref().unwrap().ipv6_ref().unwrap().header().to_header();
    let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("{packet:?}") };
    assert!(icmp.is_checksum_valid(ip.source, ip.destination));
}

/// Real server n answers the director.
pub fn advertisement(n: u8) -> Message {
    let (src, target) = (rip6(n), rip6(n));
    Message { src, dst: DIP6, target, body: advertised(Some(real_mac(n)), true, true) }
}

pub fn advertised(mac: Option<Mac>, solicited: bool, overrides: bool) -> Body {
    Body::Advertisement { mac, router: false, solicited, overrides }
}

/// A finished frame but for its destination; `mark` tells it apart.
pub fn frame_to_real6(mark: u8) -> Vec<u8> {
    Build::eth(LAN_MAC, Mac::ZERO).ipv6(CIP6, VIP6).udp(1024, 53).payload(&[mark; 20]).finish()
}

pub fn syn6() -> Build {
    Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, VIP6).tcp(40_000, 80, Flags::SYN, 1_000)
}
