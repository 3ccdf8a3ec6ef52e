//! Real servers that several virtual services share, and changes of what is checked.

use std::time::Duration;

use dataplane::health::{MAX_CONNECTIONS, Reason, State, Via};
use dataplane::snapshot::check::CheckSpec;
use dataplane::types::{NeighborId, Protocol, RealId, ServiceKey};

use super::network::{Mode, Network, check, rip, service};

const SERVES: Mode = Mode::Serves { greeting: 0 };

#[test]
fn what_two_services_share_is_probed_once_and_told_to_both() {
    let mut net = Network::new(30);
    let tcp = net.add(0, SERVES, &check(), false);
    let udp = (ServiceKey { protocol: Protocol::Udp, ..service(false) }, rip(0));
    net.until(tcp, State::Up, 3_000);
    net.watch(udp, 0, &check());
    assert_eq!(net.state(udp), State::Up, "what is known already is told at once");
    assert_eq!(net.set.len(), 1);
    let before = net.seen(0).len();
    net.run(20_000);
    assert!(net.seen(0).len() - before <= 11, "probed once");
    net.mode(0, Mode::Closed);
    net.until(tcp, State::Down, 5_000);
    assert_eq!(net.state(udp), State::Down);
    net.set.unwatch(&tcp);
    net.mode(0, SERVES);
    net.until(udp, State::Up, 5_000);
    assert_eq!(net.state(tcp), State::Down, "nobody is told of it any more");
    net.set.unwatch(&udp);
    assert!(net.set.is_empty() && net.set.connections() == 0);
    assert_eq!(net.set.next_deadline(), None);
    net.run(10_000);
}

#[test]
fn other_vips_ports_and_checks_are_probed_apart() {
    let mut net = Network::new(31);
    net.add(0, SERVES, &check(), false);
    for (number, check) in
        [CheckSpec { name: "other".to_owned(), ..check() }, CheckSpec { port: Some(81), ..check() }]
            .iter()
            .enumerate()
    {
        let key = ServiceKey { ports: (1000 + number as u16).into(), ..service(false) };
        net.watch((key, rip(0)), 0, check);
    }
    net.watch((service(true), rip(0)), 0, &check());
    net.watch((service(false), rip(1)), 1, &check());
    assert_eq!(net.set.len(), 5);
}

#[test]
fn another_pace_keeps_what_is_known_and_another_port_does_not() {
    let mut net = Network::new(32);
    let web = net.add(0, Mode::Closed, &check(), false);
    net.until(web, State::Down, 9_000);
    let slower = CheckSpec { interval: Duration::from_secs(7), ..check() };
    net.watch(web, 0, &slower);
    assert_eq!(net.state(web), State::Down);
    assert_eq!(net.states[&web].reason(), Reason::Refused);
    net.watch(web, 0, &CheckSpec { port: Some(81), ..slower });
    assert_eq!(net.state(web), State::Unchecked);
    assert_eq!(net.set.len(), 1);
}

#[test]
fn without_an_address_to_probe_from_nothing_is_decided() {
    let mut net = Network::new(33);
    let web = net.add(0, SERVES, &check(), true);
    let target = |port| dataplane::health::Target {
        check: std::sync::Arc::new(check()),
        real: web.1,
        method: dataplane::vocabulary::ForwardMethod::Dr,
        gre: (false, None),
        to: (web.0.vip, port).into(),
    };
    let via = Via { real: RealId(0), neighbor: NeighborId(0), from: None };
    net.set.watch(web, target(80), via, net.now);
    net.run(5_000);
    assert_eq!(net.state(web), State::Unchecked);
    assert_eq!(net.states[&web].reason(), Reason::NoSource);
    assert_eq!(net.sent, 0);
    let from = Some("2001:db8::1".parse().unwrap());
    net.set.watch(web, target(80), Via { from, ..via }, net.now);
    net.until(web, State::Up, 3_000);
}

#[test]
fn a_fast_check_of_a_server_that_closes_nothing_keeps_a_few_connections() {
    let mut net = Network::new(34);
    let fast = Duration::from_millis(100);
    let fast = CheckSpec { interval: fast, timeout: fast, ..check() };
    net.add(0, SERVES, &fast, false);
    net.weather.loss = 60;
    net.run(30_000);
    assert!(net.set.connections() <= MAX_CONNECTIONS);
}
