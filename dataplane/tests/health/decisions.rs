//! What is decided, and when: servers that die, return, flap, are slow; networks that lose, delay,
//! reorder and repeat.

use dataplane::health::{QUIET, Reason, State};
use dataplane::snapshot::check::CheckSpec;

use super::network::{Mode, Network, Weather, check};

const SERVES: Mode = Mode::Serves { greeting: 0 };

#[test]
fn a_server_that_dies_is_down_within_its_time_and_one_that_returns_is_up() {
    for six in [false, true] {
        for (death, reason, within) in [
            // Two probes two seconds and a bit apart; silence takes a second more to be sure of.
            (Mode::Closed, Reason::Refused, 2 * 2_125),
            (Mode::Silent, Reason::NoAnswer, 2 * 2_125 + 1_000),
        ] {
            let mut net = Network::new(1);
            let web = net.add(0, SERVES, &check(), six);
            assert_eq!(net.state(web), State::Unchecked);
            net.until(web, State::Up, 2_010);
            net.run(60_000);
            assert_eq!(net.told.len(), 2, "unchecked, then up, and nothing more");
            net.mode(0, death);
            net.until(web, State::Down, within + 10);
            assert_eq!(net.states[&web].reason(), reason);
            net.run(60_000);
            net.mode(0, SERVES);
            net.until(web, State::Up, 2 * 2_125 + 10);
        }
    }
}

#[test]
fn a_server_sees_each_probe_opened_and_politely_closed() {
    for (six, greeting) in [(false, 0), (true, 0), (false, 90), (true, 1_220)] {
        let mut net = Network::new(2);
        net.add(0, Mode::Serves { greeting }, &check(), six);
        net.run(20_500);
        let seen = net.seen(0);
        assert!((9..=11).contains(&seen.len()), "{}", seen.len());
        // The last one may be under way.
        for (port, seen) in &seen[..seen.len() - 1] {
            assert!(*port >= 49_152);
            assert!(seen.acknowledged && seen.fin_acknowledged && !seen.reset, "{seen:?}");
            assert_eq!((seen.syns, seen.fins), (1, 1));
        }
        net.mode(0, Mode::Silent);
        net.run(10_000);
        assert!(net.set.connections() <= 3, "nothing stays: {}", net.set.connections());
    }
}

#[test]
fn lost_and_repeated_packets_are_borne() {
    // A SYN or its answer is lost once in ten: the second SYN helps, and `fall` does.
    let fall = CheckSpec { fall: 3, ..check() };
    for seed in 0..4 {
        let mut net = Network::new(seed);
        let weather = Weather { delay: 20, jitter: 150, loss: 5, twice: 20 };
        net.weather = weather;
        let web = net.add(0, Mode::Serves { greeting: 10 }, &fall, seed % 2 == 1);
        net.until(web, State::Up, 10_000);
        net.run(600_000);
        assert_eq!(net.state(web), State::Up);
        assert_eq!(net.told.len(), 2, "never down: {:?}", net.told);
        let seen = net.seen(0);
        assert!(seen.len() > 250 && seen.iter().all(|(_, seen)| !seen.reset));
        let open = seen.iter().filter(|(_, seen)| seen.syns > 0 && seen.fins == 0).count();
        assert!(open < seen.len() / 50, "{open} of {} were never closed", seen.len());
        net.mode(0, Mode::Closed);
        net.until(web, State::Down, 60_000);
    }
}

#[test]
fn a_syn_is_repeated_once_and_then_no_more() {
    let mut net = Network::new(3);
    net.add(0, Mode::Silent, &check(), false);
    net.servers.clear();
    net.run(100_000);
    let probes = net.sent / 2;
    assert!((47..=51).contains(&probes), "{} packets", net.sent);
    assert_eq!(net.sent % 2, 0);
    assert_eq!(net.heard.len(), 0);
}

#[test]
fn an_answer_that_comes_late_fails_and_is_closed_all_the_same() {
    let mut net = Network::new(4);
    net.weather.delay = 600;
    let web = net.add(0, SERVES, &check(), false);
    net.run(20_000);
    assert_eq!(net.state(web), State::Down, "1.2 s are more than the second it has");
    assert_eq!(net.states[&web].reason(), Reason::NoAnswer);
    let (_, seen) = net.seen(0)[2];
    assert!(seen.acknowledged && seen.fins > 0 && !seen.reset, "{seen:?}");
    net.weather.delay = 400;
    net.until(web, State::Up, 10_000);
}

#[test]
fn a_server_that_goes_on_talking_is_reset_after_a_while() {
    let mut net = Network::new(5);
    let web = net.add(0, Mode::Serves { greeting: 5 }, &check(), false);
    net.until(web, State::Up, 5_000);
    let (port, _) = net.seen(0)[0];
    // It sends the same byte over and over, having seen everything.
    let (from, to) = ("203.0.113.80:80".parse().unwrap(), format!("192.0.2.1:{port}"));
    let to = to.parse().unwrap();
    let tuple = dataplane::health::Tuple { local: to, remote: from };
    let numbers = dataplane::health::Numbers::new(super::network::KEY);
    let ack = numbers.sequence(&tuple).wrapping_add(2);
    let flags = dataplane::packet::tcp::Flags::ACK;
    for _ in 0..100 {
        net.hear(&super::network::answer(from, to, flags, 9, ack, 1));
    }
    net.run(50);
    assert!(net.seen(0)[0].1.reset);
    assert_eq!(net.state(web), State::Up);
    assert!(net.sent < 3 + 2 * 16 + 1, "{} packets, not one for each", net.sent);
}

#[test]
fn one_that_flaps_is_kept_down_for_longer() {
    let dampened = CheckSpec { dampening: std::time::Duration::from_secs(40), ..check() };
    let mut net = Network::new(6);
    let web = net.add(0, SERVES, &dampened, false);
    net.until(web, State::Up, 3_000);
    let mut waits = Vec::new();
    for _ in 0..5 {
        net.mode(0, Mode::Closed);
        net.until(web, State::Down, 10_000);
        net.mode(0, SERVES);
        waits.push(net.until(web, State::Up, 60_000) / 1000);
    }
    assert!(waits[0] < 5, "{waits:?}");
    for (wait, least) in waits[1..].iter().zip([10, 20, 40, 40]) {
        assert!((least..least + 4).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_next_hop_that_fails_takes_down_what_is_behind_it_at_once() {
    let mut net = Network::new(7);
    let webs: Vec<_> = (0..20).map(|n| net.add(n, SERVES, &check(), n % 2 == 1)).collect();
    net.run(5_000);
    net.set.unreachable(dataplane::types::NeighborId(3), net.now);
    net.run(1);
    for (number, web) in webs.iter().enumerate() {
        let is_behind = number % 10 == 3;
        assert_eq!(net.state(*web) == State::Down, is_behind, "{number}");
        if is_behind {
            assert_eq!(net.states[web].reason(), Reason::Unreachable);
            net.set.unwatch(web);
        }
    }
    net.set.unreachable(dataplane::types::NeighborId(3), net.now);
    assert!(net.set.take_news().is_empty(), "nobody is behind it any more");
}

#[test]
fn when_workers_have_no_room_nothing_is_decided() {
    let mut net = Network::new(8);
    let web = net.add(0, SERVES, &check(), false);
    net.until(web, State::Up, 3_000);
    net.takes = false;
    net.run(60_000);
    assert_eq!(net.state(web), State::Up);
    net.takes = true;
    net.mode(0, Mode::Closed);
    net.until(web, State::Down, 4_300);
}

#[test]
fn a_late_poll_makes_no_flood() {
    let mut net = Network::new(9);
    net.add(0, SERVES, &check(), false);
    net.run(5_000);
    let before = net.seen(0).len();
    net.now = net.now.after(600_000);
    net.run(100);
    assert!(net.seen(0).len() <= before + 2, "{} probes", net.seen(0).len() - before);
}

#[test]
fn no_source_port_comes_again_within_two_minutes() {
    use std::time::Duration;
    let fast = Duration::from_millis(100);
    let fast = CheckSpec { interval: fast, timeout: fast, ..check() };
    let mut net = Network::new(10);
    net.weather.delay = 0;
    net.add(0, Mode::Closed, &fast, false);
    net.run(QUIET);
    let seen = net.seen(0);
    assert!(seen.len() > 1_100);
    assert!(seen.iter().all(|(_, seen)| seen.syns == 1), "a port came twice");
}
