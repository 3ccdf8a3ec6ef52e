//! Flows of both protocols between the same addresses and L4 ports: the pipeline's quick look finds
//! each by its own packets only.
#![allow(clippy::unwrap_used)]

use dataplane::flow::{Event, FlowFlags, Passed, Shard, State, Transition};
use dataplane::hash::Seed;
use dataplane::packet::fast::Head;
use dataplane::packet::tcp;
use dataplane::types::{FlowKey, Protocol, RealId, Tick};

const NOW: Tick = Tick(1_000_000);
const SEED: Seed = Seed::new(0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978);

/// The `n`th client's flow to one virtual service.
fn key(n: u32) -> FlowKey {
    FlowKey {
        client: (0x0a00_0000 + n / 60_000).into(),
        vip: [192, 0, 2, 1].into(),
        client_port: (1024 + n % 60_000) as u16,
        vip_port: 443,
        protocol: Protocol::Tcp,
    }
}

fn shard(capacity: usize) -> Shard {
    Shard::new(capacity, SEED).unwrap()
}

#[test]
fn twins_of_tcp_and_udp_pass_as_their_own_only() {
    let tcp = (Protocol::Tcp, tcp::Flags::ACK.0, State::Established);
    let udp = (Protocol::Udp, Head::DATAGRAM, State::Udp);
    let (mut alone, mut together) = (0, 0);
    for n in 0..100 {
        for (one, other) in [(tcp, udp), (udp, tcp)] {
            // Three buckets: the twins, which differ in their protocol alone, often share one.
            let mut shard = shard(3);
            let pass = |shard: &mut Shard, (protocol, signal, _): (Protocol, u8, State)| {
                let key = FlowKey { protocol, ..key(n) };
                let ((addresses, ports), hash) = (key.words(), shard.hash(&key));
                shard.pass(hash, &addresses, ports as u32, signal, NOW.after(9))
            };
            let add = |shard: &mut Shard, (protocol, signal, state): (Protocol, u8, State)| {
                let key = FlowKey { protocol, ..key(n) };
                let (hash, real) = (shard.hash(&key), RealId(protocol as u32));
                let earlier = Tick(NOW.0 - 2000);
                let flow = shard.insert(key, hash, real, state, FlowFlags::NONE, earlier).flow;
                // The quick look passes by what has not proven itself.
                let event = Event::of_signal(signal);
                assert_eq!(shard.touch(flow, event, NOW), Transition::Proven);
            };
            add(&mut shard, one);
            let none = pass(&mut shard, other);
            assert!(!matches!(none, Passed::Real(_)), "there is no such flow");
            let key = FlowKey { protocol: one.0, ..key(n) };
            let found = shard.find(&key, shard.hash(&key), NOW).unwrap();
            assert_eq!(found.deadline, NOW.after(shard.span(one.2)), "its timer is not restarted");
            alone += u32::from(matches!(pass(&mut shard, one), Passed::Real(_)));
            add(&mut shard, other);
            for kind in [one, other] {
                match pass(&mut shard, kind) {
                    Passed::Real(real) => assert_eq!(real, RealId(kind.0 as u32)),
                    // Left to `lookup`.
                    Passed::Unknown => together += 1,
                    Passed::Absent => panic!("it is there"),
                }
            }
        }
    }
    assert_eq!(alone, 200);
    assert!(together > 30, "{together} of 400: twins shared buckets");
}
