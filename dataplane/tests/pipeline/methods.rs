//! The table of design "Forwarding methods": the bytes that leave.

use std::net::Ipv4Addr;

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;

use crate::director::Director;
use crate::packets::*;
use crate::seen::{Gre, Outer};

/// The packet as it must arrive: one hop less, nothing else.
fn one_hop_less(frame: &[u8]) -> Vec<u8> {
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    with_ip(frame[..14 + total].to_vec(), |ip| ip[8] -= 1)[14..].to_vec()
}

fn inner() -> Build {
    tcp(1, Flags::SYN).ttl(9).tos(0xb9).id(77).payload(b"odd")
}

#[test]
fn each_method_sends_its_bytes() {
    let outer = Outer {
        src: LAN_DIP,
        dst: Ipv4Addr::new(10, 0, 0, 1),
        tos: 0xb9,
        ttl: 8,
        id: 1,
        df: false,
        fragment: (0, false),
        gre: None,
    };
    let gre = |checksum, key| Some(Outer { gre: Some(Gre { checksum, key }), ..outer.clone() });
    let far = Outer { src: WAN_DIP, dst: Ipv4Addr::new(10, 8, 0, 9), ..outer.clone() };
    let (lan, real) = ((LAN, LAN_MAC), mac_of([10, 0, 0, 1]));
    let (wan, gateway) = ((WAN, WAN_MAC), mac_of(GATEWAY));
    for (config, (port, src_mac), dst_mac, outer) in [
        ("10.0.0.1 dr", lan, real, None),
        ("10.0.0.1 ipip", lan, real, Some(outer.clone())),
        ("10.0.0.1 gre", lan, real, gre(false, None)),
        ("10.0.0.1 gre sum", lan, real, gre(true, None)),
        ("10.0.0.1 gre key=305419896", lan, real, gre(false, Some(0x1234_5678))),
        ("10.0.0.1 gre key=7 sum", lan, real, gre(true, Some(7))),
        ("10.8.0.9 ipip", wan, gateway, Some(far.clone())),
        ("10.8.0.9 gre", wan, gateway, Some(Outer { gre: Some(Gre::default()), ..far })),
    ] {
        for df in [false, true] {
            for pad in [0, 90] {
                let mut director = Director::new(&[&format!("tcp 80 rr: {config}")]);
                let frame = inner().df(df).pad(pad).finish();
                let outcome = director.receive_one(&frame);
                assert_eq!(outcome.sent.len(), 1, "{config}");
                let seen = &outcome.sent[0];
                assert_eq!((seen.port, seen.src_mac, seen.dst_mac), (port, src_mac, dst_mac));
                assert_eq!(seen.inner, one_hop_less(&frame), "{config}: inner untouched but TTL");
                let id = if df { 0 } else { 1 };
                let want = outer.clone().map(|o| Outer { df, id, ..o });
                assert_eq!(seen.outer, want, "{config}");
                // Padding never ends up inside a tunnel; dr leaves the frame as long as it came.
                let kept = if outer.is_none() { frame.len() - 14 - seen.inner.len() } else { 0 };
                assert_eq!(seen.padding, kept, "{config}");
            }
        }
    }
}

#[test]
fn ids_are_fresh_and_workers_start_apart() {
    let mut director = Director::with_workers(4, &["tcp 80 rr: 10.0.0.1 ipip"]);
    let mut ids = Vec::new();
    for worker in 0..4 {
        let with_df = tcp(9, Flags::SYN).df(true).finish();
        let outcome = director.receive_at(worker, &[syn(1), with_df, syn(2), syn(3)]);
        let seen: Vec<_> = outcome.sent.iter().map(|s| s.outer.as_ref().unwrap().id).collect();
        assert_eq!((seen[1], seen[2] - seen[0], seen[3] - seen[2]), (0, 1, 1));
        ids.push(seen[0]);
    }
    assert!(ids.windows(2).all(|w| w[1] - w[0] > 10_000), "{ids:?}");
}

#[test]
fn options_and_later_fragments_go_into_a_tunnel_whole() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 gre"]);
    let options = tcp(1, Flags::SYN).options(&[148, 4, 0, 0]).finish();
    let outcome = director.receive_one(&options);
    assert_eq!(outcome.sent[0].inner[24..], options[14 + 24..], "behind the options");
    assert_eq!(outcome.sent[0].ip().options(), [148, 4, 0, 0]);

    let mut director = Director::new(&["udp 53 rr: 10.0.0.1 ipip"]);
    let parts = udp_fragments(1, 5, 300, 128);
    let outcome = director.receive(&parts);
    assert_eq!(outcome.sent.len(), 3);
    for (seen, part) in outcome.sent.iter().zip(&parts) {
        assert_eq!(seen.inner, one_hop_less(part));
        assert_eq!(seen.outer.as_ref().unwrap().fragment, (0, false), "the outer packet is whole");
    }
}
