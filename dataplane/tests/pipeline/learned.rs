//! What was learned of real servers comes over the configuration, under live flows.

use std::net::Ipv4Addr;

use dataplane::snapshot::learned::Standing;
use dataplane::stats::Event;

use crate::director::Director;
use crate::packets::*;

const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn director(scheduler: &str) -> Director {
    Director::new(&[&format!("tcp 80 {scheduler}: 10.0.0.1 dr w=3, 10.0.0.2 ipip w=3")])
}

/// A flow that goes to `ONE`, established.
fn flow_to_one(director: &mut Director) -> u16 {
    let to_one = (0..100).find(|n| director.real_of(&syn(*n)) == ONE).unwrap();
    director.receive(&[ack(to_one)]);
    to_one
}

#[test]
fn effective_weight_zero_and_draining_take_new_flows_away_and_leave_the_others() {
    for scheduler in ["rr", "wrr", "wlc", "mh", "sh"] {
        for (standing, weight) in
            [(Standing::Up, Some(0)), (Standing::Draining, None), (Standing::Draining, Some(9))]
        {
            let mut director = director(scheduler);
            let old = flow_to_one(&mut director);
            director.hear("10.0.0.1", standing, weight);
            for n in 1000..1100 {
                assert_eq!(director.real_of(&syn(n)), TWO, "{scheduler}: a new flow");
            }
            assert_eq!(director.real_of(&ack(old)), ONE, "{scheduler}: one that was there");
            assert_eq!(director.spec.services[0].reals[0].weight, 3, "as configured");
            director.hear("10.0.0.1", Standing::Up, None);
            let again = (2000..2100).filter(|n| director.real_of(&syn(*n)) == ONE).count();
            assert!(again > 20, "{scheduler}: {again} of 100");
        }
    }
}

#[test]
fn flows_of_a_removed_real_server_end_and_those_that_were_silent_go_on_when_it_is_back() {
    let mut director = director("rr");
    let (spoke, silent) =
        (0..100).fold((None, None), |(a, b), n| match (director.real_of(&syn(n)) == ONE, a) {
            (true, None) => (Some(n), b),
            (true, Some(_)) => (a, Some(n)),
            _ => (a, b),
        });
    let (spoke, silent) = (spoke.unwrap(), silent.unwrap());
    director.receive(&[ack(spoke)]);
    director.receive(&[ack(silent)]);
    director.hear("10.0.0.1", Standing::Removed, None);
    assert!(director.receive(&[ack(spoke)]).sent.is_empty(), "it is reset");
    assert_eq!(director.counts().event(Event::FlowsOrphaned), 1);
    assert!((1000..1010).all(|n| director.real_of(&syn(n)) == TWO));
    director.hear("10.0.0.1", Standing::Up, None);
    assert_eq!(director.real_of(&ack(silent)), ONE);
    assert!(director.receive(&[ack(spoke)]).sent.is_empty());
}

#[test]
fn where_flows_wait_for_real_servers_they_wait_for_a_removed_one() {
    let mut spec = director("rr").spec.clone();
    spec.switches.expire_nodest_conn = false;
    let mut director = Director::of(1, 1000, spec);
    let old = flow_to_one(&mut director);
    director.hear("10.0.0.1", Standing::Removed, None);
    assert!(director.receive(&[ack(old)]).sent.is_empty());
    assert_eq!(director.counts().event(Event::FlowsOrphaned), 0, "it waits");
    director.hear("10.0.0.1", Standing::Up, None);
    assert_eq!(director.real_of(&ack(old)), ONE);
}
