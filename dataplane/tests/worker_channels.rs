//! The rings between workers: none drowns out another, and nothing said is missed.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

use dataplane::dpdk::Mbuf;
use dataplane::flow::Event;
use dataplane::pipeline::PeerMessage;
use dataplane::snapshot::Named;
use dataplane::types::{AnyFlowKey, FlowKey, Protocol, RealId, WorkerId};
use dataplane::worker::Channels;

/// Messages of this kind in a ring at once: a quarter of its 512 places is for those that matter
/// more.
const AT_ONCE: usize = 384;

/// A message that says who sent it.
fn message(from: u16) -> PeerMessage<Mbuf> {
    let key = FlowKey {
        client: [192, 0, 2, 1].into(),
        vip: [192, 0, 2, 2].into(),
        client_port: from,
        vip_port: 80,
        protocol: Protocol::Tcp,
    };
    let real = Named { real: RealId(0), generation: 1 };
    PeerMessage::Replica { key: AnyFlowKey::V4(key), event: Event::Syn, real }
}

fn sender(message: &PeerMessage<Mbuf>) -> u16 {
    match message {
        PeerMessage::Replica { key: AnyFlowKey::V4(key), .. } => key.client_port,
        _ => unreachable!("no other is sent"),
    }
}

#[test]
fn a_worker_that_says_much_does_not_drown_out_another() {
    let mut channels = Channels::new(3);
    let [listener, loud, quiet] = &mut channels.workers[..] else { unreachable!("three") };
    while loud.tell(WorkerId(0), message(1)).is_ok() {}
    for _ in 0..10 {
        quiet.tell(WorkerId(0), message(2)).expect("a ring of its own");
    }
    assert!(listener.is_wanted());
    assert!(!listener.is_wanted(), "said once");
    let heard: Vec<_> =
        (0..20).filter_map(|_| listener.next_message()).map(|m| sender(&m)).collect();
    assert_eq!(heard.iter().filter(|from| **from == 2).count(), 10);
    listener.leave_some();
    assert!(listener.is_wanted());
    assert_eq!(std::iter::from_fn(|| listener.next_message()).count(), AT_ONCE - 10);
    // None tells itself anything.
    assert!(loud.tell(WorkerId(1), message(1)).is_err());
    assert!(loud.tell(WorkerId(7), message(1)).is_err());
}

/// Packets that look for a flow go from each worker to the next; what all others had handed over may
/// come at once.
#[test]
fn the_next_worker_takes_all_that_may_be_handed_over_at_once() {
    for workers in [2, 3, 5, 16, 64] {
        let mut channels = Channels::new(workers);
        for from in [0, workers - 1] {
            let next = WorkerId(((from + 1) % workers) as u16);
            let taken =
                (0..).take_while(|_| channels.workers[from].tell(next, message(1)).is_ok()).count();
            assert_eq!(taken, AT_ONCE, "{workers} workers");
        }
        if workers > 2 {
            let told = channels.workers[0].tell(WorkerId(2), message(1));
            assert!(told.is_ok(), "a ring of its own");
        }
    }
}

#[test]
fn every_message_is_heard_whenever_the_bell_is_looked_at() {
    const MESSAGES: u16 = 20_000;
    let mut channels = Channels::new(2);
    let mut speaker = channels.workers.pop().unwrap();
    let mut listener = channels.workers.pop().unwrap();
    let speaks = std::thread::spawn(move || {
        for n in 0..MESSAGES {
            let mut next = message(n);
            while let Err(back) = speaker.tell(WorkerId(0), next) {
                next = back;
                std::thread::yield_now();
            }
        }
        speaker
    });
    let mut heard = 0;
    while heard < MESSAGES {
        if !listener.is_wanted() {
            std::thread::yield_now();
            continue;
        }
        while let Some(message) = listener.next_message() {
            assert_eq!(sender(&message), heard, "in order");
            heard += 1;
        }
    }
    drop(speaks.join().unwrap());
}
