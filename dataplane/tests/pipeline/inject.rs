//! Packets of the director's own to real servers: as clients' packets go, and with the accounts
//! right.

use std::net::IpAddr;

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::pipeline::Pipeline;
use dataplane::snapshot::Named;
use dataplane::snapshot::learned::Standing;
use dataplane::snapshot::neighbors::NextHop;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, PuntReason, RealId};

use crate::director::{Director, Outcome, Verdict};
use crate::packets::*;
use crate::packets6::*;

/// Services with one real server, by each method and pair of families.
const WAYS: [(&str, bool); 11] = [
    ("tcp 80 rr: 10.0.0.1 dr", false),
    ("tcp 80 rr: 10.0.0.1 ipip", false),
    ("tcp 80 rr: 10.0.0.1 gre", false),
    ("tcp 80 rr: 10.0.0.1 gre key=7 sum", false),
    ("tcp 80 rr: 10.8.0.9 ipip", false),
    ("tcp 80 rr: 2001:db8:a::1 ipip", false),
    ("tcp6 80 rr: 2001:db8:a::1 dr", true),
    ("tcp6 80 rr: 2001:db8:a::1 ipip", true),
    ("tcp6 80 rr: 2001:db8:a::1 gre", true),
    ("tcp6 80 rr: 10.0.0.1 gre key=9", true),
    ("tcp6 80 rr: 2001:db8:f::9 ipip", true),
];

/// A segment from the director's address on the LAN to the VIP.
fn probe(ipv6: bool) -> Build {
    let eth = Build::eth(Mac::ZERO, Mac::ZERO);
    let ip = if ipv6 { eth.ipv6(LAN_DIP6, VIP6) } else { eth.ipv4(LAN_DIP, VIP) };
    ip.ttl(2).tcp(40_000, 80, Flags::SYN, 1)
}

/// The slot of the one real server there is, named by this snapshot.
fn named(director: &Director) -> Named {
    let service = director.spec.services[0].key;
    let address = director.spec.services[0].reals[0].address;
    director.snapshot.name(director.compiler.real_id(&service, address).unwrap())
}

fn inject_as(director: &mut Director, real: Named, frame: &[u8]) -> Outcome {
    let frame = director.census.buffer(frame);
    director.received += 1;
    director.outcome(|d| {
        d.with(0, |p, env| {
            p.inject(env, real, frame);
            p.finish(env);
        });
    })
}

fn inject(director: &mut Director, frame: &[u8]) -> Outcome {
    let real = named(director);
    inject_as(director, real, frame)
}

#[test]
fn it_leaves_byte_for_byte_as_a_client_s_packet_does() {
    for (config, ipv6) in WAYS {
        for (df, len) in [(true, 0), (false, 0), (true, 5), (false, 1480), (false, 3000)] {
            if ipv6 && len > 1000 {
                // Nobody but its sender fragments IPv6.
                continue;
            }
            let packet = probe(ipv6).ttl(9).tos(0xb9).payload(&vec![7; len]);
            let packet = if ipv6 { packet } else { packet.df(df).id(77) };
            let frame = packet.finish();
            // The same packet as it would come from a client.
            let mut received = frame.clone();
            received[..6].copy_from_slice(&WAN_MAC.0);
            received[6..12].copy_from_slice(&ROUTER_MAC.0);
            let mut director = Director::new(&[config]);
            let outcome = director.receive_one(&received);
            assert_eq!(outcome.event(Event::Forwarded), 1, "{config} {df} {len}");
            let as_a_client = director.wire.sent.clone();

            let mut director = Director::new(&[config]);
            let outcome = inject(&mut director, &frame);
            assert_eq!(director.wire.sent, as_a_client, "{config} {df} {len}");
            assert_eq!((outcome.event(Event::Injected), outcome.event(Event::Forwarded)), (1, 1));
            assert_eq!(outcome.event(Event::RxPackets), 0);
        }
    }
}

#[test]
fn no_flow_and_no_client_s_counter_knows_of_it() {
    for (config, ipv6) in WAYS {
        let mut director = Director::new(&[config]);
        inject(&mut director, &probe(ipv6).finish());
        let worker = &director.workers[0];
        assert!(worker.shard().is_empty() && worker.shard6().is_empty(), "{config}");
        let traffic = director.real_traffic(named(&director).real);
        assert_eq!((traffic.connections, traffic.packets, traffic.bytes), (0, 0, 0), "{config}");
    }
}

#[test]
fn it_goes_to_the_real_server_it_is_for() {
    let reals = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    let mut director =
        Director::new(&["tcp 80 mh: 10.0.0.1 dr, 10.0.0.2 ipip w=0, 10.0.0.3 gre x=1"]);
    for real in reals {
        for _ in 0..3 {
            // Whatever the scheduler would say, its weight, and how many connections it may have.
            let id = director.snapshot.name(director.real_id(real));
            let outcome = inject_as(&mut director, id, &probe(false).finish());
            assert_eq!(outcome.verdict(), Verdict::Forwarded(real.parse().unwrap()));
        }
    }
}

#[test]
fn what_cannot_be_sent_has_one_verdict() {
    use DropReason::*;
    use Verdict::{Dropped, Punted};
    for (config, ipv6) in WAYS {
        let mut director = Director::new(&[config]);
        let hop: IpAddr = match config {
            _ if config.contains("10.8.0.9") => GATEWAY.into(),
            _ if config.contains("f::9") => GATEWAY6.into(),
            _ => director.spec.services[0].reals[0].address,
        };
        let neighbor = director.snapshot.links.neighbors.iter().find(|n| n.address == hop);
        let (neighbor, port) = neighbor.map(|n| (n.id, n.port)).unwrap();
        let good = probe(ipv6).finish();

        director.hop(hop, NextHop::Failed);
        assert_eq!(inject(&mut director, &good).verdict(), Dropped(NeighborFailed), "{config}");
        director.hop(hop, NextHop::Unknown);
        let resolve = PuntReason::Resolve { neighbor, port };
        assert_eq!(inject(&mut director, &good).verdict(), Punted(resolve), "{config}");
        director.wire.punt_room = 0;
        assert_eq!(inject(&mut director, &good).verdict(), Dropped(PuntFull), "{config}");
        director.hop(hop, NextHop::Known(mac_of(hop)));

        let full_size = probe(ipv6).payload(&[0; MTU]);
        let full_size = if ipv6 { full_size } else { full_size.df(true) };
        for (frame, reason) in [
            (probe(ipv6).ttl(1).finish(), ErrorSuppressed),
            (probe(ipv6).ttl(0).finish(), ErrorSuppressed),
            (full_size.finish(), TooLong),
            (good[..20].to_vec(), TooShort),
            (vec![], TooShort),
            (Build::eth(Mac::ZERO, Mac::ZERO).finish(), TooShort),
        ] {
            assert_eq!(inject(&mut director, &frame).verdict(), Dropped(reason), "{config}");
        }

        director.wire.tx_room = 0;
        assert_eq!(inject(&mut director, &good).verdict(), Dropped(TxFull), "{config}");
        director.wire.tx_room = usize::MAX;

        let nobody = Named { real: RealId(99_999), generation: u64::MAX };
        let gone = inject_as(&mut director, nobody, &good);
        assert_eq!(gone.verdict(), Dropped(RealServerGone), "{config}");
        // Its slot is another's by now.
        let real = named(&director);
        let before = Named { generation: real.generation - 1, ..real };
        let gone = inject_as(&mut director, before, &good);
        assert_eq!(gone.verdict(), Dropped(RealServerGone), "{config}");
        director.services(&[]);
        assert_eq!(inject_as(&mut director, real, &good).verdict(), Dropped(RealServerGone));
    }
}

#[test]
fn many_go_in_bursts_and_each_is_counted() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 ipip"]);
    let real = named(&director);
    let frames: Vec<_> =
        (0..1000).map(|_| director.census.buffer(&probe(false).finish())).collect();
    director.received += frames.len();
    director.wire.tx_room = 900;
    let outcome = director.outcome(|d| {
        d.with(0, |p, env| {
            frames.into_iter().for_each(|frame| p.inject(env, real, frame));
            Pipeline::finish(p, env);
        });
    });
    assert_eq!(outcome.event(Event::Injected), 1000);
    assert_eq!((outcome.event(Event::Forwarded), outcome.drops(DropReason::TxFull)), (900, 100));
}

#[test]
fn a_real_server_that_is_out_of_use_is_reached_all_the_same() {
    for (config, ipv6) in WAYS {
        let mut director = Director::new(&[config]);
        let address = director.spec.services[0].reals[0].address;
        for standing in [Standing::Draining, Standing::Removed] {
            director.hear(&address.to_string(), standing, None);
            let outcome = inject(&mut director, &probe(ipv6).finish());
            assert_eq!(outcome.reals_of_either(), [address], "{config} {standing:?}");
        }
    }
}
