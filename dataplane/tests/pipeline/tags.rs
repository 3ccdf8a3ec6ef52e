//! VLAN tags: one with VLAN 0 tells a priority and no VLAN (IEEE 802.1Q), and is taken off.

use dataplane::packet::arp;
use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::snapshot::neighbors::NextHop;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, PuntReason};

use crate::director::{Director, Verdict};
use crate::packets::*;
use crate::packets6::*;

const SERVICES: &[&str] = &[
    "tcp 80 rr: 10.0.0.1 dr",
    "udp 53 rr: 10.8.0.9 ipip",
    "tcp6 80 rr: 2001:db8:a::1 dr",
    "udp6 53 rr: 10.8.0.9 gre key=7 sum",
];

/// The frame with a tag in front of its Ethernet type.
fn tagged(frame: &[u8], ethertype: u16, tci: u16) -> Vec<u8> {
    let tag = [ethertype.to_be_bytes(), tci.to_be_bytes()].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}

fn arp_request() -> Vec<u8> {
    let packet = arp::Packet {
        operation: arp::Operation::Request,
        sha: ROUTER_MAC,
        spa: GATEWAY,
        tha: Mac::ZERO,
        tpa: VIP,
    };
    Build::eth(ROUTER_MAC, Mac::BROADCAST).arp(&packet).pad(60).finish()
}

/// Packets of all kinds.
fn all() -> Vec<Vec<u8>> {
    let mut all = vec![
        syn(1),
        ack(1),
        ack(1),
        tcp(1, Flags::ACK).pad(60).finish(),
        tcp(1, Flags::ACK).options(&[1; 8]).payload(b"x").finish(),
        udp(1),
        datagram(2, 1472).finish(),
        icmp_error(1, dataplane::types::Protocol::Tcp, 80),
        from(1).icmp(8, 0, 1).payload(b"ping").finish(),
        tcp(3, Flags::SYN).ttl(1).finish(),
        ack(4),
        arp_request(),
        syn6(1),
        ack6(1),
        udp6(1),
        from6(1).icmp6(128, 0, 1).payload(b"ping").finish(),
        icmp_error6(1, dataplane::types::Protocol::Tcp, 80),
        tcp6(1, Flags::ACK).ext(60, &[0, 1, 4, 0, 0, 0, 0]).finish(),
        from(1).tcp(1, 8080, Flags::SYN, 1).finish(),
        syn(1)[..40].to_vec(),
    ];
    all.extend(udp_fragments(5, 3, 300, 104));
    all.extend(udp_fragments6(5, 3, 300, 104));
    all
}

#[test]
fn a_priority_tag_is_as_none() {
    // Priority, "drop eligible", and a tag of a provider's bridge (802.1ad), alone and before one
    // of 802.1Q: Linux takes off all of these.
    let tags: [&[(u16, u16)]; 5] = [
        &[(0x8100, 0)],
        &[(0x8100, 0xf000)],
        &[(0x8100, 0x1000)],
        &[(0x88a8, 0xe000)],
        &[(0x88a8, 0x2000), (0x8100, 0)],
    ];
    for workers in [1, 2] {
        for tags in tags {
            let mut plain = Director::with_workers(workers, SERVICES);
            let mut other = Director::with_workers(workers, SERVICES);
            for packet in all() {
                let mut frame = packet.clone();
                for (ethertype, tci) in tags.iter().rev() {
                    frame = tagged(&frame, *ethertype, *tci);
                }
                let (expected, found) = (plain.receive_one(&packet), other.receive_one(&frame));
                // The packet leaves untagged, whole or in a tunnel, and is punted untagged.
                assert_eq!((&found.sent, &found.punted), (&expected.sent, &expected.punted));
                for reason in DropReason::ALL {
                    assert_eq!(found.drops(*reason), expected.drops(*reason), "{frame:02x?}");
                }
                for event in [Event::Forwarded, Event::Punted, Event::FlowsCreated, Event::Held] {
                    assert_eq!(found.event(event), expected.event(event), "{frame:02x?}");
                }
                let tags = 4 * tags.len() as u64;
                assert_eq!(found.event(Event::RxBytes), expected.event(Event::RxBytes) + tags);
            }
        }
    }
}

#[test]
fn tagged_and_untagged_packets_are_of_one_flow_and_go_in_one_burst() {
    let mut director = Director::new(SERVICES);
    let burst = [syn(1), tagged(&ack(1), 0x8100, 0xa000), ack(1), tagged(&syn(2), 0x8100, 0)];
    let outcome = director.receive(&burst);
    assert_eq!(outcome.reals(), [std::net::Ipv4Addr::new(10, 0, 0, 1); 4]);
    assert_eq!(outcome.event(Event::FlowsCreated), 2);
    let lan = director.stats[0].port(LAN).unwrap();
    assert_eq!(lan.tx_bytes.get(), (syn(1).len() * 2 + ack(1).len() * 2) as u64);
}

#[test]
fn a_frame_that_waits_for_its_neighbor_is_untagged() {
    let mut director = Director::new(SERVICES);
    director.hop(std::net::Ipv4Addr::new(10, 0, 0, 1), NextHop::Unknown);
    let outcome = director.receive_one(&tagged(&syn(1), 0x8100, 0xe000));
    assert!(matches!(outcome.punted[0].reason, PuntReason::Resolve { .. }));
    assert_eq!(outcome.punted[0].bytes[12..16], [8, 0, 0x45, 0]);
    assert_eq!(outcome.punted[0].bytes.len(), syn(1).len());
}

/// As they were found to be dropped: an ARP request and a SYN with a priority tag.
#[rustfmt::skip]
const ARP: [u8; 64] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01,
    0x81, 0x00, 0xa0, 0x00, 0x08, 0x06,
    0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
    0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 192, 0, 2, 1,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 203, 0, 113, 80,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
#[rustfmt::skip]
const SYN: [u8; 58] = [
    0x02, 0x00, 0x00, 0x00, 0x00, 0x10, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01,
    0x81, 0x00, 0x60, 0x00, 0x08, 0x00,
    0x45, 0x00, 0x00, 0x28, 0x00, 0x01, 0x00, 0x00, 0x40, 0x06, 0x39, 0x3c,
    198, 51, 100, 7, 203, 0, 113, 80,
    0x04, 0x00, 0x00, 0x50, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00,
    0x50, 0x02, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00,
];

#[test]
fn golden_frames_with_a_priority_tag() {
    let mut director = Director::new(SERVICES);
    let outcome = director.receive_one(&ARP);
    assert_eq!(outcome.verdict(), Verdict::Punted(PuntReason::Arp));
    assert_eq!(outcome.punted[0].bytes, [&ARP[..12], &ARP[16..]].concat());
    let mut syn = SYN.to_vec();
    fix_ip_checksum(&mut syn[18..38]);
    let outcome = director.receive_one(&syn);
    assert_eq!(outcome.reals(), [std::net::Ipv4Addr::new(10, 0, 0, 1)]);
    assert_eq!(outcome.sent[0].dst_mac, mac_of(std::net::Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn other_tags_are_a_counted_drop() {
    let mut director = Director::new(SERVICES);
    let priority = |frame: &[u8]| tagged(frame, 0x8100, 0x8000);
    for frame in [syn(1), syn6(1), arp_request()] {
        for (frame, reason) in [
            (tagged(&frame, 0x8100, 100), DropReason::Vlan),
            (tagged(&frame, 0x8100, 1), DropReason::Vlan),
            (tagged(&frame, 0x8100, 0xffff), DropReason::Vlan),
            (tagged(&frame, 0x88a8, 100), DropReason::Vlan),
            (priority(&tagged(&frame, 0x8100, 100)), DropReason::Vlan),
            (priority(&priority(&priority(&frame))), DropReason::Vlan),
            (frame[..12].iter().copied().chain([0x81, 0, 0, 0]).collect(), DropReason::TooShort),
            (frame[..12].iter().copied().chain([0x81, 0, 0]).collect(), DropReason::TooShort),
            (tagged(&frame, 0x8100, 0)[..17].to_vec(), DropReason::TooShort),
        ] {
            let verdict = director.verdict(&frame);
            assert_eq!(verdict, Verdict::Dropped(reason), "{frame:02x?}");
        }
    }
    // Other stations' are no business of ours.
    let mut stranger = priority(&syn(1));
    stranger[5] ^= 1;
    assert_eq!(director.verdict(&stranger), Verdict::Dropped(DropReason::NotOurMac));
    let mut lldp = priority(&syn(1));
    lldp[16..18].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(director.verdict(&lldp), Verdict::Dropped(DropReason::EtherType));
}
