//! ICMP errors about a flow: to that flow's real server, whichever worker they came to.

use std::net::Ipv4Addr;

use dataplane::packet::build::Build;
use dataplane::stats::{DropReason, Event};
use dataplane::types::Protocol::{Tcp, Udp};

use crate::director::{Director, Verdict};
use crate::packets::*;
use crate::packets6::{VIP6, ack6, client6, icmp_error6, syn6};

const RR: &[&str] =
    &["tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 ipip, 10.0.0.3 gre", "udp 53 rr: 10.0.0.4 dr"];

#[test]
fn at_the_worker_that_has_the_flow() {
    let mut director = Director::new(RR);
    for n in 1..=3 {
        let real = director.real_of(&syn(n));
        let error = icmp_error(n, Tcp, 80);
        let outcome = director.receive_one(&error);
        assert_eq!(outcome.reals(), [real]);
        assert_eq!(outcome.sent[0].inner, with_ip(error, |ip| ip[8] -= 1)[14..]);
    }
    let real = director.real_of(&udp(1));
    assert_eq!(director.real_of(&icmp_error(1, Udp, 53)), real);
    assert_eq!(director.counts().event(Event::FlowsCreated), 4, "an error makes no flow");
}

#[test]
fn at_another_worker() {
    for (workers, home, at) in [(2, 1, 0), (2, 0, 1), (4, 2, 3), (4, 3, 0), (4, 0, 1)] {
        let mut director = Director::with_workers(workers, RR);
        let real = director.receive_at(home, &[syn(1)]).reals();
        let outcome = director.receive_at(at, &[icmp_error(1, Tcp, 80)]);
        assert_eq!(outcome.reals(), real);
        let hops = (usize::from(workers) + home - at) % usize::from(workers);
        assert_eq!(outcome.event(Event::HandedOver), hops as u64);
    }
}

#[test]
fn when_no_worker_has_the_flow() {
    for workers in [1, 2, 3] {
        for (scheduler, is_hash) in [("rr", false), ("wlc", false), ("sh", true), ("mh", true)] {
            let service = format!("tcp 80 {scheduler}: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr");
            let mut director = Director::with_workers(workers, &[&service]);
            let outcome = director.receive(&[icmp_error(1, Tcp, 80)]);
            assert_eq!(outcome.event(Event::HandedOver), u64::from(workers) - 1, "all asked once");
            if is_hash {
                assert_eq!(outcome.reals(), [director.real_of(&syn(1))], "as its flow would");
            } else {
                assert_eq!(outcome.drops(DropReason::IcmpUnknownFlow), 1);
            }
        }
    }
}

#[test]
fn made_up_quotations() {
    let mut director = Director::new(RR);
    director.receive(&[syn(1)]);
    let sound = icmp_error(1, Tcp, 80);
    assert!(matches!(director.verdict(&sound), Verdict::Forwarded(_)));
    let quote = &sound[42..];
    let error = |kind, quote: &[u8]| {
        Build::eth(ROUTER_MAC, WAN_MAC)
            .ipv4(Ipv4Addr::new(198, 18, 0, 1), VIP)
            .icmp(kind, 0, 0)
            .payload(quote)
            .finish()
    };
    let edit = |at: usize, value: u8| {
        let mut quote = quote.to_vec();
        quote[at] = value;
        quote
    };
    let another = Ipv4Addr::new(203, 0, 113, 81);
    for (name, packet) in [
        ("another source than the VIP", icmp_error_quoting(another, 1, Tcp, 80)),
        ("another client", icmp_error(2, Tcp, 80)),
        ("another protocol", icmp_error(1, Udp, 80)),
        ("no service", icmp_error(1, Tcp, 81)),
        ("a later fragment", error(3, &edit(7, 9))),
        ("gre", error(3, &edit(9, 47))),
        ("icmp", error(3, &edit(9, 1))),
        ("ipv6", error(3, &edit(0, 0x65))),
        ("a cut quote", error(3, &quote[..24])),
        ("nothing", error(11, &[])),
        ("a fragment of an error", with_ip(error(3, quote), |ip| ip[6] = 0x20)),
        ("a quote behind the IP length", with_ip(sound.clone(), |ip| ip[3] -= 8)),
    ] {
        assert_eq!(
            director.verdict(&packet),
            Verdict::Dropped(DropReason::IcmpUnknownFlow),
            "{name}"
        );
    }
    // `ip_vs_in_icmp` of LVS hands these on, and no others: a redirect would tell the real server,
    // in anybody's name, by which router it reaches its client.
    for kind in [3, 4, 11] {
        assert!(matches!(director.verdict(&error(kind, quote)), Verdict::Forwarded(_)), "{kind}");
    }
    for kind in (0..=255).filter(|kind| ![3, 4, 8, 11].contains(kind)) {
        let reason = if kind == 5 { DropReason::IcmpRedirect } else { DropReason::IcmpType };
        assert_eq!(director.verdict(&error(kind, quote)), Verdict::Dropped(reason), "{kind}");
    }
}

/// A redirect as it was found to pass: forged in the router's name, it quotes what the VIP would
/// have sent.
#[rustfmt::skip]
const REDIRECT: [u8; 70] = [
    0x02, 0x00, 0x00, 0x00, 0x00, 0x10, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00,
    0x45, 0x00, 0x00, 0x38, 0x00, 0x01, 0x00, 0x00, 0x40, 0x01, 0x7b, 0x37,
    192, 0, 2, 1, 203, 0, 113, 80,
    0x05, 0x01, 0x00, 0x00, 192, 0, 2, 66,
    0x45, 0x00, 0x00, 0x28, 0x00, 0x00, 0x00, 0x00, 0x40, 0x06, 0x00, 0x00,
    203, 0, 113, 80, 198, 51, 0, 1,
    0x00, 0x50, 0x4e, 0x21, 0x00, 0x00, 0x00, 0x07,
];

#[test]
fn a_redirect_reaches_no_real_server() {
    let redirect = with_ip(REDIRECT.to_vec(), |_| {});
    for service in
        ["tcp 80 mh: 10.0.0.1 dr", "tcp 80 wlc: 10.0.0.1 ipip", "tcp 80 rr: 10.0.0.1 gre"]
    {
        for workers in [1, 2] {
            let mut director = Director::with_workers(workers, &[service]);
            let ports: [u8; 4] = redirect[62..66].try_into().unwrap();
            assert_eq!(ports, [0, 80, 0x4e, 0x21], "it quotes client 1's connection");
            assert_eq!(port_of(1), 0x4e21);
            director.receive(&[syn(1), ack(1)]);
            let verdict = director.verdict(&redirect);
            assert_eq!(verdict, Verdict::Dropped(DropReason::IcmpRedirect), "{service}");
        }
    }
}

#[test]
fn all_errors_over_ipv6_are_handed_on_and_no_redirect() {
    // `ip_vs_in_icmp_v6` hands on all errors, and RFC 4443 2.4 (a) wants unknown ones passed on.
    let mut director = Director::new(&["tcp6 80 rr: 2001:db8:a::1 dr"]);
    director.receive(&[syn6(1), ack6(1)]);
    let error = icmp_error6(1, Tcp, 80);
    let quote = &error[62..];
    let of_kind = |kind| {
        let error = Build::eth(ROUTER_MAC, WAN_MAC).ipv6(client6(200), VIP6);
        error.ttl(255).icmp6(kind, 0, 0).payload(quote).finish()
    };
    for kind in 0..128 {
        let verdict = director.verdict(&of_kind(kind));
        assert!(matches!(verdict, Verdict::Forwarded6(_)), "{kind}: {verdict:?}");
    }
    let redirect = director.verdict(&of_kind(137));
    assert_eq!(redirect, Verdict::Dropped(DropReason::NdpRouter));
}

#[test]
fn an_error_to_one_vip_about_the_flow_of_another() {
    let other = Ipv4Addr::new(203, 0, 113, 81);
    let mut spec = crate::director::spec(RR);
    std::sync::Arc::make_mut(&mut spec.services[0]).key.vip = other.into();
    let mut director = Director::of(1, 10, spec);
    director.real_of(&with_ip(syn(1), |ip| ip[16..20].copy_from_slice(&other.octets())));
    let error = icmp_error_quoting(other, 1, Tcp, 80);
    assert_eq!(director.verdict(&error), Verdict::Dropped(DropReason::IcmpUnknownFlow));
    let readdressed = with_ip(error, |ip| ip[16..20].copy_from_slice(&other.octets()));
    assert!(matches!(director.verdict(&readdressed), Verdict::Forwarded(_)));
}

#[test]
fn when_the_real_server_is_gone() {
    let mut director = Director::with_workers(2, &["tcp 80 mh: 10.0.0.1 dr, 10.0.0.2 dr"]);
    let real = director.real_of(&syn(1));
    let other = if real.octets()[3] == 1 { "10.0.0.2" } else { "10.0.0.1" };
    director.services(&[&format!("tcp 80 mh: {other} dr")]);
    assert_eq!(director.real_of(&icmp_error(1, Tcp, 80)).to_string(), other);
    director.services(&[&format!("tcp 80 rr: {other} dr")]);
    let verdict = director.verdict(&icmp_error(1, Tcp, 80));
    assert_eq!(verdict, Verdict::Dropped(DropReason::IcmpUnknownFlow));
}

#[test]
fn an_error_keeps_no_flow_alive() {
    let mut director = Director::new(RR);
    director.receive(&[syn(1)]);
    director.now = director.now.after(59_999);
    assert!(matches!(director.verdict(&icmp_error(1, Tcp, 80)), Verdict::Forwarded(_)));
    director.now = director.now.after(1);
    let verdict = director.verdict(&icmp_error(1, Tcp, 80));
    assert_eq!(verdict, Verdict::Dropped(DropReason::IcmpUnknownFlow));
}
