//! Any course of events: nothing panics, every packet has one outcome, what waits is bounded.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod slowpath_common;

use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane::packet::arp::{Operation, Packet};
use dataplane::packet::build::Build;
use dataplane::packet::ipv6;
use dataplane::packet::ndp::{Body, Message};
use dataplane::packet::tcp::Flags;
use dataplane::slowpath::MAX_WAITING;
use dataplane::snapshot::neighbors::{Links, NeighborSpec};
use dataplane::stats::DropReason;
use dataplane::types::{Mac, NeighborId, PortId, PuntReason};
use proptest::prelude::*;
use slowpath_common::six::*;
use slowpath_common::*;

#[derive(Debug, Clone)]
enum Op {
    Punt(u16, PuntReason, Vec<u8>),
    Poll,
    Wait(u64),
    Back(u64),
    Run(u64),
    Configure(Links),
    LinkUp(u16),
    Buffers(usize),
    Shutdown,
}

fn reason() -> impl Strategy<Value = PuntReason> {
    prop_oneof![
        3 => Just(PuntReason::Arp),
        3 => Just(PuntReason::Ndp),
        1 => Just(PuntReason::Mld),
        1 => Just(PuntReason::Echo),
        1 => Just(PuntReason::IcmpToDirector),
        4 => (0u32..7, 0u16..2).prop_map(|(n, port)| PuntReason::Resolve {
            neighbor: NeighborId(n),
            port: PortId(port),
        }),
        1 => Just(PuntReason::TtlExceeded),
        1 => any::<u16>().prop_map(|mtu| PuntReason::FragmentationNeeded { mtu }),
        1 => Just(PuntReason::TcpReset),
    ]
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        6 => (0u8..5).prop_map(rip),
        2 => Just(DIP),
        2 => Just(VIP),
        1 => Just(FAR_VIP),
        1 => Just(WAN_DIP),
        1 => Just(CIP),
        1 => Just(Ipv4Addr::UNSPECIFIED),
        1 => Just(Ipv4Addr::new(192, 168, 0, 255)),
        1 => any::<u32>().prop_map(Ipv4Addr::from),
    ]
}

fn mac() -> impl Strategy<Value = Mac> {
    prop_oneof![
        8 => (0u8..5).prop_map(real_mac),
        2 => Just(LAN_MAC),
        2 => Just(WAN_MAC),
        2 => Just(ROUTER),
        1 => Just(Mac::BROADCAST),
        1 => Just(Mac::ZERO),
    ]
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), mac(), address(), mac(), address()).prop_map(|(op, sha, spa, tha, tpa)| {
        let operation = if op { Operation::Request } else { Operation::Reply };
        Build::eth(sha, tha).arp(&Packet { operation, sha, spa, tha, tpa }).finish()
    })
}

/// What real servers say when they work as they should.
fn honest() -> impl Strategy<Value = Vec<u8>> {
    (0u8..5).prop_map(|n| Build::eth(real_mac(n), LAN_MAC).arp(&reply(n)).finish())
}

fn honest6() -> impl Strategy<Value = Vec<u8>> {
    (0u8..5).prop_map(|n| {
        let mut frame = vec![0; 100];
        let len = advertisement(n).emit_frame(real_mac(n), LAN_MAC, &mut frame).unwrap();
        frame.truncate(len);
        frame
    })
}

fn address6() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        6 => (0u8..5).prop_map(rip6),
        2 => Just(DIP6),
        2 => Just(VIP6),
        1 => Just(FAR_VIP6),
        1 => Just(WAN_DIP6),
        1 => Just(LAN_LOCAL),
        1 => Just(WAN_LOCAL),
        1 => Just(CIP6),
        1 => Just(ipv6::link_local(ROUTER)),
        1 => Just(ipv6::ALL_NODES),
        1 => Just(ipv6::solicited_node(DIP6)),
        1 => Just(Ipv6Addr::UNSPECIFIED),
        1 => any::<u128>().prop_map(Ipv6Addr::from_bits),
    ]
}

fn ndp() -> impl Strategy<Value = Vec<u8>> {
    let told = prop::option::of(mac());
    let addresses = (address6(), address6(), address6());
    (addresses, mac(), mac(), told, any::<[bool; 4]>()).prop_map(
        |((src, dst, target), from, to, mac, [asks, probes, solicited, overrides])| {
            let body = if asks {
                Body::Solicitation { mac }
            } else {
                Body::Advertisement { mac, router: probes, solicited, overrides }
            };
            let message = if asks && probes {
                Message::duplicate_probe(target)
            } else {
                Message { src, dst, target, body }
            };
            let mut frame = vec![0; 100];
            let len = message.emit_frame(from, to, &mut frame).unwrap();
            frame.truncate(len);
            frame
        },
    )
}

fn query() -> impl Strategy<Value = Vec<u8>> {
    (address6(), address6(), any::<u16>(), 0u8..3).prop_map(|(src, group, time, ttl)| {
        Build::eth(ROUTER, LAN_MAC)
            .ipv6(src, ipv6::ALL_NODES)
            .ttl(ttl)
            .icmp6(130, 0, u32::from(time) << 16)
            .payload(&group.octets())
            .payload(&[0; 4])
            .finish()
    })
}

fn ip6() -> impl Strategy<Value = Vec<u8>> {
    (mac(), address6(), address6(), 0u8..4, any::<[u8; 4]>(), 0usize..1500, any::<bool>()).prop_map(
        |(mac, src, dst, kind, bytes, len, fragment)| {
            let [a, b, c, d] = bytes;
            let mut build = Build::eth(mac, LAN_MAC).ipv6(src, dst).ttl(a);
            if fragment {
                build = build.fragment6(0, true, 1);
            }
            match kind {
                0 => build.tcp(u16::from(a), 80, Flags(b), u32::from(c)),
                1 => build.udp(u16::from(a), u16::from(d)),
                2 => build.icmp6(128, 0, u32::from(c)),
                _ => build.icmp6(a, b % 8, u32::from(c)),
            }
            .payload(&vec![d; len])
            .finish()
        },
    )
}

fn ip() -> impl Strategy<Value = Vec<u8>> {
    (mac(), address(), address(), 0u8..4, any::<[u8; 4]>(), 0usize..1500, any::<bool>()).prop_map(
        |(mac, src, dst, kind, bytes, len, fragment)| {
            let [a, b, c, d] = bytes;
            let build = Build::eth(mac, LAN_MAC).ipv4(src, dst).ttl(a).fragment(0, fragment);
            match kind {
                0 => build.tcp(u16::from(a), 80, Flags(b), u32::from(c)),
                1 => build.udp(u16::from(a), u16::from(d)),
                2 => build.icmp(8, 0, u32::from(c)),
                _ => build.icmp(a % 16, b % 8, u32::from(c)),
            }
            .payload(&vec![d; len])
            .finish()
        },
    )
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        4 => honest(),
        4 => arp(),
        4 => ip(),
        4 => ndp(),
        1 => query(),
        4 => ip6(),
        1 => proptest::collection::vec(any::<u8>(), 0..1600),
    ];
    // Some cut short, some damaged.
    (
        whole,
        prop::option::weighted(0.1, 0usize..200),
        prop::option::weighted(0.1, any::<(u16, u8)>()),
    )
        .prop_map(|(mut frame, cut, damage)| {
            frame.truncate(cut.unwrap_or(usize::MAX));
            if let Some((at, by)) = damage {
                let len = frame.len().max(1);
                if let Some(byte) = frame.get_mut(usize::from(at) % len) {
                    *byte ^= by;
                }
            }
            frame
        })
}

fn configuration() -> impl Strategy<Value = Links> {
    let one = (0u8..5, 0u16..2, 0u8..6, any::<bool>());
    let neighbors = proptest::collection::btree_map(0u32..5, one, 0..5);
    let flags = any::<[bool; 4]>();
    (neighbors, flags).prop_map(|(all, [vips, bare, ready, six])| {
        let mut links = if six { links6(0) } else { links(0) };
        for (id, (n, port, fixed, six)) in all {
            let fixed = (fixed == 0).then_some(real_mac(n));
            let address = if six { rip6(n).into() } else { rip(n).into() };
            links.neighbors.push(NeighborSpec {
                id: NeighborId(id),
                port: PortId(port),
                address,
                fixed,
            });
        }
        if !vips {
            links.vips.clear();
        }
        if bare {
            links.ports[1].addresses.clear();
        }
        if !ready {
            links.ports[1].mac = Mac::ZERO;
        }
        links
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0u16..3, reason(), frame()).prop_map(|(port, why, frame)| Op::Punt(port, why, frame)),
        6 => honest().prop_map(|frame| Op::Punt(0, PuntReason::Arp, frame)),
        6 => honest6().prop_map(|frame| Op::Punt(0, PuntReason::Ndp, frame)),
        4 => Just(Op::Poll),
        4 => (0u64..4_000).prop_map(Op::Wait),
        1 => (0u64..4_000).prop_map(Op::Back),
        4 => (0u64..60_000).prop_map(Op::Run),
        2 => configuration().prop_map(Op::Configure),
        1 => (0u16..3).prop_map(Op::LinkUp),
        1 => (0usize..4).prop_map(Op::Buffers),
        1 => Just(Op::Buffers(usize::MAX)),
        1 => Just(Op::Shutdown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// [`Bench`] checks after every call that the books balance, that the gauges are right and
    /// that workers see the neighbors' state.
    #[test]
    fn every_packet_has_one_outcome(ops in proptest::collection::vec(op(), 1..120)) {
        let mut bench = Bench::empty();
        bench.configure(&links(3));
        for op in ops {
            match op {
                Op::Punt(port, reason, frame) => bench.punt(PortId(port), reason, &frame),
                Op::Poll => bench.poll(),
                Op::Wait(ms) => bench.now += ms,
                Op::Back(ms) => bench.now = bench.now.saturating_sub(ms),
                Op::Run(ms) => bench.run(ms),
                Op::Configure(links) => bench.configure(&links),
                Op::LinkUp(port) => bench.link_up(PortId(port)),
                Op::Buffers(n) => bench.buffers.set(n),
                Op::Shutdown => bench.slow.shutdown(),
            }
            prop_assert!(bench.slow.neighbors().len() <= 5);
            prop_assert!(bench.slow.neighbors().iter().all(|n| n.waiting <= MAX_WAITING));
            for (port, frame) in bench.sent.drain(..) {
                prop_assert!(port.0 < 2 && frame.len() >= 14);
                prop_assert!(dst(&frame) != Mac::ZERO);
                let six = dst(&frame).0[..2] == [0x33, 0x33] && frame[12..14] == [0x86, 0xdd];
                prop_assert!(!dst(&frame).is_group() || frame[12..14] == [8, 6] || six);
            }
        }
        bench.slow.shutdown();
        prop_assert_eq!(bench.slow.waiting(), 0);
        bench.check();
    }

    /// Garbage of any kind, for every reason.
    #[test]
    fn any_bytes_end_somewhere(
        port in 0u16..3,
        reason in reason(),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ethertype in prop_oneof![Just([8u8, 0]), Just([8, 6]), Just([0x86, 0xdd])],
        patch: bool,
    ) {
        let six = ethertype[0] == 0x86;
        let mut bench = if six { Bench::with6(1) } else { Bench::with(1) };
        let mut frame = bytes;
        if patch && frame.len() > 20 {
            frame[12..14].copy_from_slice(&ethertype);
            frame[14] = if six { 0x60 } else { 0x45 };
        }
        bench.punt(PortId(port), reason, &frame);
        bench.run(5_000);
        bench.check();
    }

    /// However the frames are cut.
    #[test]
    fn every_truncation_ends_somewhere(
        reason in reason(),
        frame in prop_oneof![ip(), ip6(), ndp(), query()],
    ) {
        let mut bench = if frame[12] == 0x86 { Bench::with6(1) } else { Bench::with(1) };
        for len in 0..frame.len().min(120) {
            bench.punt(LAN, reason, &frame[..len]);
        }
        prop_assert_eq!(bench.dropped(DropReason::InboxFull), 0);
    }
}
