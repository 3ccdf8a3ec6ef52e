//! Packets to the director itself that somebody awaits: they and no others are punted.

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, Protocol, PuntReason};

use crate::director::{Director, Verdict};
use crate::packets::*;
use crate::packets6::*;

const SERVICES: [&str; 2] = ["tcp 80 rr: 10.0.0.1 dr", "tcp6 80 rr: 2001:db8:a::1 dr"];
const AWAITED: u16 = 40_000;

/// An answer from the VIP to the director.
fn answer() -> Build {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv4(VIP, WAN_DIP)
}

fn answer6() -> Build {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv6(VIP6, WAN_DIP6)
}

fn syn_ack_to(answer: Build, port: u16) -> Build {
    answer.tcp(80, port, Flags(Flags::SYN.0 | Flags::ACK.0), 1)
}

/// A director with two workers at which TCP to [`AWAITED`] and UDP to the L4 port after it is awaited.
fn director() -> Director {
    let director = Director::with_workers(2, &SERVICES);
    director.snapshot.awaited.expect(Protocol::Tcp, AWAITED);
    director.snapshot.awaited.expect(Protocol::Udp, AWAITED + 1);
    director
}

#[test]
fn what_is_awaited_is_punted_and_nothing_else() {
    use Verdict::{Dropped, Punted};
    let (punted, dropped) = (Punted(PuntReason::Awaited), Dropped(DropReason::ToDirector));
    let link_local = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x10);
    let neighbor = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let with = |mut frame: Vec<u8>, mac: Mac| {
        frame[..6].copy_from_slice(&mac.0);
        frame
    };
    let part = |build: Build| build.fragment(0, true).payload(&[0; 64]).finish();
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("tcp", syn_ack_to(answer(), AWAITED).finish(), punted),
        ("tcp with options", syn_ack_to(answer().options(&[1; 4]), AWAITED).finish(), punted),
        ("a reset", answer().tcp(80, AWAITED, Flags::RST, 1).finish(), punted),
        ("with payload", answer().tcp(80, AWAITED, Flags::ACK, 1).payload(&[1; 900]).finish(), punted),
        ("from a real server", Build::eth(ROUTER_MAC, WAN_MAC).ipv4([10, 0, 0, 1].into(), WAN_DIP).udp(53, AWAITED + 1).finish(), punted),
        ("to the other DIP", Build::eth(ROUTER_MAC, WAN_MAC).ipv4(VIP, LAN_DIP).udp(53, AWAITED + 1).finish(), punted),
        ("with the last hop used up", syn_ack_to(answer().ttl(1), AWAITED).finish(), punted),
        ("udp to tcp's", answer().udp(80, AWAITED).finish(), dropped),
        ("tcp to udp's", syn_ack_to(answer(), AWAITED + 1).finish(), dropped),
        ("another L4 port", syn_ack_to(answer(), AWAITED - 1).finish(), dropped),
        ("from an awaited L4 port", answer().tcp(AWAITED, 80, Flags::ACK, 1).finish(), dropped),
        ("another protocol", answer().protocol(132).payload(&[0; 20]).finish(), dropped),
        ("a first fragment", part(syn_ack_to(answer(), AWAITED)), dropped),
        ("to the VIP", Build::eth(ROUTER_MAC, WAN_MAC).ipv4(client(1), VIP).tcp(1, AWAITED, Flags::SYN, 1).finish(), Dropped(DropReason::NoService)),
        ("to another host", Build::eth(ROUTER_MAC, WAN_MAC).ipv4(VIP, client(1)).tcp(80, AWAITED, Flags::ACK, 1).finish(), Dropped(DropReason::NotLocal)),
        ("from no host", Build::eth(ROUTER_MAC, WAN_MAC).ipv4([127, 0, 0, 1].into(), WAN_DIP).tcp(80, AWAITED, Flags::ACK, 1).finish(), Dropped(DropReason::BadSource)),
        ("in a broadcast", with(syn_ack_to(answer(), AWAITED).finish(), Mac::BROADCAST), Dropped(DropReason::L2Group)),
        ("to another station", with(syn_ack_to(answer(), AWAITED).finish(), LAN_MAC), Dropped(DropReason::NotOurMac)),
        ("cut", syn_ack_to(answer(), AWAITED).finish()[..44].to_vec(), Dropped(DropReason::TooShort)),

        ("tcp, IPv6", syn_ack_to(answer6(), AWAITED).finish(), punted),
        ("udp, IPv6", answer6().udp(53, AWAITED + 1).finish(), punted),
        ("to the other DIP, IPv6", Build::eth(ROUTER_MAC, WAN_MAC).ipv6(VIP6, LAN_DIP6).udp(53, AWAITED + 1).finish(), punted),
        ("to the link-local address", Build::eth(ROUTER_MAC, WAN_MAC).ipv6(neighbor, link_local).udp(53, AWAITED + 1).finish(), punted),
        ("behind an extension header", syn_ack_to(answer6().ext(60, &[0, 1, 4, 0, 0, 0, 0]), AWAITED).finish(), punted),
        ("udp to tcp's, IPv6", answer6().udp(53, AWAITED).finish(), dropped),
        ("another L4 port, IPv6", syn_ack_to(answer6(), AWAITED + 2).finish(), dropped),
        ("a first fragment, IPv6", syn_ack_to(answer6().fragment6(0, true, 9), AWAITED).payload(&[0; 68]).finish(), dropped),
        ("to the VIP, IPv6", Build::eth(ROUTER_MAC, WAN_MAC).ipv6(client6(1), VIP6).tcp(1, AWAITED, Flags::SYN, 1).finish(), Dropped(DropReason::NoService)),
    ];
    for (name, frame, verdict) in table {
        for worker in [0, 1] {
            let mut director = director();
            let outcome = director.receive_at(worker, std::slice::from_ref(&frame));
            assert_eq!(outcome.verdict(), verdict, "{name}");
            if verdict == punted {
                assert_eq!(outcome.punted[0].bytes, frame, "{name}: as received");
            }
        }
    }
}

#[test]
fn it_is_awaited_from_the_call_on_until_it_is_forgotten() {
    let mut director = Director::new(&SERVICES);
    let frames = [syn_ack_to(answer(), AWAITED).finish(), syn_ack_to(answer6(), AWAITED).finish()];
    let awaited = std::sync::Arc::clone(director.compiler.awaited());
    for frame in &frames {
        let dropped = Verdict::Dropped(DropReason::ToDirector);
        assert_eq!(director.verdict(frame), dropped);
        awaited.expect(Protocol::Tcp, AWAITED);
        assert_eq!(director.verdict(frame), Verdict::Punted(PuntReason::Awaited));
        // A configuration changes nothing about it.
        director.services(&SERVICES[..1]);
        assert_eq!(director.verdict(frame), Verdict::Punted(PuntReason::Awaited));
        director.services(&SERVICES);
        awaited.forget(Protocol::Tcp, AWAITED);
        assert_eq!(director.verdict(frame), dropped);
    }
}

#[test]
fn a_flood_of_forged_ones_is_bounded_and_takes_nothing_from_others() {
    for frame in [syn_ack_to(answer(), AWAITED).finish(), syn_ack_to(answer6(), AWAITED).finish()] {
        let mut director = director();
        let mut punted = 0;
        for ms in 1..=20 {
            director.now = director.now.after(1);
            for _ in 0..20 {
                let outcome = director.receive(&vec![frame.clone(); 32]);
                let [ours, late] =
                    [outcome.event(Event::Punted), outcome.drops(DropReason::RateLimited)];
                assert_eq!(ours + late, 32);
                punted += ours;
            }
            if ms % 5 == 0 {
                let ping =
                    Build::eth(ROUTER_MAC, WAN_MAC).ipv4(VIP, WAN_DIP).icmp(8, 0, 1).finish();
                assert_eq!(director.verdict(&ping), Verdict::Punted(PuntReason::Echo));
            }
        }
        // Of 12,800: a burst, and what this worker's half of the rate gives in 20 ms.
        assert!((1_300..=1_000 + 16 + 20 * 21).contains(&punted), "{punted}");
        // Strangers' guesses cost a counter.
        let guess = syn_ack_to(answer(), AWAITED + 7).finish();
        let outcome = director.receive(&vec![guess; 32]);
        assert_eq!(outcome.drops(DropReason::ToDirector), 32);
    }
}
