//! Virtual services whose datagrams are scheduled one by one (`ipvsadm --ops`).

use dataplane::stats::Event;
use dataplane::types::ServiceId;

use crate::director::Director;
use crate::packets::*;

const TWO: &str = "10.0.0.1 dr, 10.0.0.2 dr";

#[test]
fn every_datagram_is_a_connection_of_its_own() {
    let mut director = Director::new(&[&format!("udp 53 rr ops: {TWO}")]);
    let reals: Vec<_> = (0..6).map(|_| director.real_of(&udp(1)).to_string()).collect();
    assert_eq!(reals, ["10.0.0.1", "10.0.0.2"].repeat(3));
    assert_eq!(director.counts().event(Event::FlowsCreated), 0);
    assert_eq!(director.connections("10.0.0.1"), (0, 0));
    assert_eq!(director.gauge("10.0.0.1", |s| s.connections.get()), 3);
    let service = director.stats[0].service(ServiceId(0)).unwrap();
    assert_eq!(service.connections.get(), 6);
}

#[test]
fn flows_there_are_when_it_is_set_go_on() {
    let mut director = Director::new(&[&format!("udp 53 rr: {TWO}")]);
    let real = director.real_of(&udp(1));
    director.services(&[&format!("udp 53 rr ops: {TWO}")]);
    for _ in 0..4 {
        assert_eq!(director.real_of(&udp(1)), real);
    }
    director.wait(400_000);
    let reals: std::collections::BTreeSet<_> = (0..4).map(|_| director.real_of(&udp(1))).collect();
    assert_eq!(reals.len(), 2);
    assert_eq!(director.connections(&real.to_string()), (0, 0));
}

#[test]
fn a_datagram_in_fragments_is_one() {
    let mut director = Director::with_workers(3, &[&format!("udp 53 rr ops: {TWO}")]);
    for id in 1..=6 {
        let outcome = director.receive_at(1, &udp_fragments(1, id, 3000, 1480));
        let reals: std::collections::BTreeSet<_> = outcome.reals().into_iter().collect();
        assert_eq!((outcome.sent.len(), reals.len()), (3, 1), "all fragments of it go one way");
    }
    assert_eq!(director.counts().event(Event::FlowsCreated), 0, "no flow, and no replica");
    let connections = |real| director.gauge(real, |s| s.connections.get());
    assert_eq!((connections("10.0.0.1"), connections("10.0.0.2")), (3, 3));
}
