//! Slots of real servers that went, and who may still name them: workers that forward by an earlier
//! configuration, notes on fragments, and messages under way.

use std::net::IpAddr;

use dataplane::pipeline::PeerMessage;
use dataplane::stats::Event;
use dataplane::types::RealId;

use crate::director::{Director, Outcome};
use crate::packets::*;
use crate::packets6::*;

/// What differs between the families.
struct Family {
    /// Of the protocol's name.
    suffix: &'static str,
    network: &'static str,
    syn: Vec<u8>,
    ack: Vec<u8>,
    /// A datagram in four fragments.
    fragments: Vec<Vec<u8>>,
}

fn families() -> [Family; 2] {
    let v4 = Family {
        suffix: "",
        network: "10.0.0.",
        syn: syn(1),
        ack: ack(1),
        fragments: udp_fragments(1, 7, 200, 64),
    };
    let v6 = Family {
        suffix: "6",
        network: "2001:db8:a::",
        syn: syn6(1),
        ack: ack6(1),
        fragments: udp_fragments6(1, 7, 200, 64),
    };
    [v4, v6]
}

impl Family {
    fn real(&self, n: u8) -> IpAddr {
        format!("{}{n}", self.network).parse().unwrap()
    }

    /// One virtual service with these real servers.
    fn configure(&self, director: &mut Director, head: &str, reals: &[u8]) {
        let reals: Vec<_> = reals.iter().map(|n| format!("{} dr", self.real(*n))).collect();
        let (protocol, port) = head.split_once(' ').unwrap();
        let service = format!("{protocol}{} {port} rr: {}", self.suffix, reals.join(", "));
        director.services(&[&service]);
    }

    fn slot(&self, director: &Director, n: u8) -> RealId {
        director.real_id(&self.real(n).to_string())
    }

    /// So many others that one of them has this slot.
    fn give_away(&self, director: &mut Director, head: &str, slot: RealId) -> IpAddr {
        let others: Vec<_> = (30..60).collect();
        self.configure(director, head, &others);
        let found = others.into_iter().find(|n| self.slot(director, *n) == slot);
        self.real(found.expect("it is somebody's"))
    }
}

fn went_to(outcome: &Outcome, real: IpAddr) -> bool {
    outcome.sent.iter().any(|seen| seen.dst_mac == mac_of(real))
}

#[test]
fn a_slot_waits_for_those_who_may_still_forward_by_it() {
    for family in families() {
        for late in [0, 1] {
            let mut director = Director::with_workers(2, &[]);
            family.configure(&mut director, "tcp 80", &[1]);
            let slot = family.slot(&director, 1);
            director.lag(late);
            // Nobody has a flow to the first real server, but the late one may make one yet.
            for reals in [&[2][..], &[2, 3], &[2, 3, 4], &[2, 3, 4, 5]] {
                family.configure(&mut director, "tcp 80", reals);
                let taken = reals.iter().any(|n| family.slot(&director, *n) == slot);
                assert!(!taken, "{reals:?}");
            }
            let outcome = director.receive_at(late, std::slice::from_ref(&family.syn));
            assert!(went_to(&outcome, family.real(1)), "it knows no other");
            director.catch_up(late);
            family.configure(&mut director, "tcp 80", &[2, 3, 4, 5, 6]);
            assert_ne!(family.slot(&director, 6), slot, "it has a flow");
            let outcome = director.receive_at(late, std::slice::from_ref(&family.ack));
            assert_eq!(outcome.sent.len(), 0, "its real server is gone");
            // Once it has caught up, and has no such flow, the slot may be another's.
            director.wait(10_000);
            family.give_away(&mut director, "tcp 80", slot);
        }
    }
}

#[test]
fn a_note_on_fragments_is_of_a_real_server_and_not_of_its_slot() {
    for family in families() {
        let mut director = Director::new(&[]);
        family.configure(&mut director, "udp 53", &[1]);
        let slot = family.slot(&director, 1);
        assert!(went_to(&director.receive_one(&family.fragments[0]), family.real(1)));
        assert!(went_to(&director.receive_one(&family.fragments[1]), family.real(1)));
        family.configure(&mut director, "udp 53", &[2]);
        // The flow is gone then, and the note is not.
        director.wait(10_000);
        let other = family.give_away(&mut director, "udp 53", slot);
        let outcome = director.receive_one(&family.fragments[2]);
        assert!(!went_to(&outcome, other));
        assert_eq!(outcome.event(Event::Held), 1, "as one without a note");
    }
}

#[test]
fn a_message_under_way_is_of_a_real_server_and_not_of_its_slot() {
    for family in families() {
        // Of a new flow, and of one that another worker has.
        for known in [false, true] {
            let mut director = Director::with_workers(2, &[]);
            family.configure(&mut director, "udp 53", &[1]);
            let slot = family.slot(&director, 1);
            let first = vec![director.census.buffer(&family.fragments[0])];
            if known {
                let first = vec![director.census.buffer(&family.fragments[0])];
                director.burst(0, WAN, first);
                while !told(&director) {
                    assert!(director.deliver_one());
                }
                director.wire.mail.clear();
            }
            director.burst(if known { 1 } else { 0 }, WAN, first);
            while !told(&director) {
                assert!(director.deliver_one());
            }
            // What it tells of is over before the other has read it.
            let mail = std::mem::take(&mut director.wire.mail);
            family.configure(&mut director, "udp 53", &[2]);
            director.wait(10_000);
            let other = family.give_away(&mut director, "udp 53", slot);
            let waiting = family.fragments[1].clone();
            let reader = mail[0].0.index();
            assert_eq!(director.receive_at(reader, &[waiting]).event(Event::Held), 1);
            director.wire.mail = mail;
            let outcome = director.outcome(Director::deliver);
            assert!(!went_to(&outcome, other), "known: {known}");
            let flows = director.workers.iter().map(|w| w.shard().len() + w.shard6().len());
            assert_eq!(flows.sum::<usize>(), 0, "known: {known}");
        }
    }
}

/// Whether a message that names a real server is under way.
fn told(director: &Director) -> bool {
    let names = |message: &PeerMessage<_>| !matches!(message, PeerMessage::Seek(_));
    director.wire.mail.front().is_some_and(|(_, message)| names(message))
}
