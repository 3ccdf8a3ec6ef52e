//! Answers that no real server has sent.

use std::net::SocketAddr;

use dataplane::hash::Random;
use dataplane::health::{FIRST_SOURCE_PORT, LAST_SOURCE_PORT, Numbers, State, Tuple};
use dataplane::packet::tcp::Flags;
use proptest::prelude::*;

use super::network::{KEY, Mode, Network, answer, check};

fn ends(six: bool) -> (SocketAddr, std::net::IpAddr) {
    let (vip, dip) =
        if six { ("[2001:db8:f::80]:80", "2001:db8::1") } else { ("203.0.113.80:80", "192.0.2.1") };
    (vip.parse().unwrap(), dip.parse().unwrap())
}

#[test]
fn a_flood_of_forged_answers_neither_raises_a_dead_server_nor_fells_a_live_one() {
    for six in [false, true] {
        let mut net = Network::new(20);
        let dead = net.add(0, Mode::Silent, &check(), six);
        let live = net.add(1, Mode::Serves { greeting: 0 }, &check(), six);
        net.run(10_000);
        assert_eq!((net.state(dead), net.state(live)), (State::Down, State::Up));
        let (sent, told) = (net.sent, net.told.len());
        let (vip, dip) = ends(six);
        let mut random = Random::new(21);
        // Every source port, with both kinds of answer, and guessed numbers.
        for port in FIRST_SOURCE_PORT..=LAST_SOURCE_PORT {
            for flags in [Flags::SYN | Flags::ACK, Flags::RST | Flags::ACK, Flags::RST] {
                let [seq, ack] = [(); 2].map(|()| random.draw() as u32);
                net.hear(&answer(vip, (dip, port).into(), flags, seq, ack, 0));
            }
        }
        assert_eq!(net.heard["forged"], 3 * 16_384);
        assert_eq!((net.sent, net.told.len()), (sent, told), "nothing was said or decided");
        assert_eq!((net.state(dead), net.state(live)), (State::Down, State::Up));
    }
}

/// Whoever sees the probes of another director, or old ones, knows right numbers of those alone.
#[test]
fn an_answer_to_a_probe_that_is_over_is_late_and_does_nothing() {
    let mut net = Network::new(22);
    let web = net.add(0, Mode::Silent, &check(), false);
    net.run(10_000);
    let (vip, dip) = ends(false);
    let numbers = Numbers::new(KEY);
    let (sent, told) = (net.sent, net.told.len());
    for port in FIRST_SOURCE_PORT..=LAST_SOURCE_PORT {
        let tuple = Tuple::new(dip, port, vip);
        let ack = numbers.sequence(&tuple).wrapping_add(3);
        net.hear(&answer(vip, (dip, port).into(), Flags::SYN | Flags::ACK, 1, ack, 0));
    }
    assert_eq!(net.heard["forged"], 16_384, "acknowledges what was never sent");
    net.set.unwatch(&web);
    for port in FIRST_SOURCE_PORT..=LAST_SOURCE_PORT {
        let tuple = Tuple::new(dip, port, vip);
        let ack = numbers.sequence(&tuple).wrapping_add(1);
        net.hear(&answer(vip, (dip, port).into(), Flags::SYN | Flags::ACK, 1, ack, 0));
    }
    assert_eq!(net.heard["late"], 16_384);
    assert_eq!((net.sent, net.told.len()), (sent, told));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any bytes, and any change of an answer, at any time.
    #[test]
    fn spoilt_answers_do_no_harm(
        seed in any::<u64>(),
        spoils in proptest::collection::vec((0u64..300, 0usize..60, any::<u8>()), 1..40),
        six in any::<bool>(),
    ) {
        let mut net = Network::new(seed);
        net.add(0, Mode::Serves { greeting: 3 }, &check(), six);
        let (vip, dip) = ends(six);
        let numbers = Numbers::new(KEY);
        for (wait, at, with) in spoils {
            net.run(wait);
            let port = net.seen(0).last().map_or(50_000, |(port, _)| *port);
            let ack = numbers.sequence(&Tuple::new(dip, port, vip)).wrapping_add(1);
            let mut packet = answer(vip, (dip, port).into(), Flags::ACK, 1, ack, 2);
            let at = at % packet.len();
            packet[at] = with;
            net.hear(&packet);
        }
        net.run(10_000);
        prop_assert!(net.set.connections() <= 4);
    }
}
