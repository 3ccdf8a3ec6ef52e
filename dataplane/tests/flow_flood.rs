//! Floods at the flow table alone: what has proven itself outlives them, in tables of any size.
#![allow(clippy::unwrap_used)]

use dataplane::flow::{
    Cause, Event, FlowFlags, FlowRef, Inserted, Lookup, Shard, Shard6, State, Table, TableKey,
    Transition,
};
use dataplane::hash::Seed;
use dataplane::types::{FlowKey, FlowKey6, Protocol, RealId, Tick};

const NOW: Tick = Tick(u32::MAX - 20_000);
const SEED: Seed = Seed::new(0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978);
/// Real server of the virtual service under attack, and of another.
const ATTACKED: RealId = RealId(0);
const OTHER: RealId = RealId(1);

trait Client: TableKey {
    fn nth(n: u32, protocol: Protocol) -> Self;
}

impl Client for FlowKey {
    fn nth(n: u32, protocol: Protocol) -> FlowKey {
        let vip = [192, 0, 2, 1].into();
        FlowKey { client: n.into(), vip, client_port: 1024, vip_port: 443, protocol }
    }
}

impl Client for FlowKey6 {
    fn nth(n: u32, protocol: Protocol) -> FlowKey6 {
        let client = ((0x2001_0db8_u128 << 96) | u128::from(n)).into();
        let vip = "2001:db8:80::1".parse().unwrap();
        FlowKey6 { client, vip, client_port: 1024, vip_port: 443, protocol }
    }
}

/// What one packet, or pair of packets, of each client makes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flood {
    Syn,
    Ack,
    SynAndAck,
    Fin,
    Whole,
    Udp,
}

impl Flood {
    const ALL: [Flood; 6] =
        [Flood::Syn, Flood::Ack, Flood::SynAndAck, Flood::Fin, Flood::Whole, Flood::Udp];

    fn events(self) -> &'static [Event] {
        match self {
            Flood::Syn => &[Event::Syn],
            Flood::Ack => &[Event::Ack],
            Flood::SynAndAck => &[Event::Syn, Event::Ack],
            Flood::Fin => &[Event::Fin],
            Flood::Whole => &[Event::Syn, Event::Ack, Event::Fin],
            Flood::Udp => &[Event::Datagram],
        }
    }
}

/// A table of two owners, who have a real server each.
fn table<K: Client, const N: usize>(capacity: usize) -> Table<K, N> {
    let mut table = Table::new(capacity, SEED).unwrap();
    table.divide(2, 2);
    table.assign(ATTACKED, 0);
    table.assign(OTHER, 1);
    table
}

/// A client's packets, of a flow to `real` if they make one.
fn send<K: Client, const N: usize>(
    table: &mut Table<K, N>,
    n: u32,
    events: &[Event],
    real: RealId,
    now: Tick,
) -> Option<Inserted<K>> {
    let udp = events.contains(&Event::Datagram);
    let key = K::nth(n, if udp { Protocol::Udp } else { Protocol::Tcp });
    let hash = table.hash(&key);
    let mut made = None;
    for event in events {
        match table.lookup(&key, hash, now) {
            Lookup::Hit(flow) => {
                let _ = table.touch(flow, *event, now);
            }
            _ => {
                let state = State::opening(*event);
                made = Some(table.insert(key, hash, real, state, FlowFlags::NONE, now));
            }
        }
    }
    made
}

fn is_there<K: Client, const N: usize>(
    table: &Table<K, N>,
    n: u32,
    protocol: Protocol,
    now: Tick,
) -> bool {
    let key = K::nth(n, protocol);
    table.find(&key, table.hash(&key), now).is_some()
}

/// So many flows of each protocol that have proven themselves; the time after that.
fn settle<K: Client, const N: usize>(table: &mut Table<K, N>, flows: u32, real: RealId) -> Tick {
    let later = NOW.after(1200);
    for (now, tcp) in [(NOW, &[Event::Syn, Event::Ack][..]), (later, &[Event::Ack])] {
        for n in 0..flows {
            send(table, n, tcp, real, now);
            send(table, n, &[Event::Datagram], real, now);
        }
    }
    later
}

/// A flood for ten seconds at a table some of whose flows have proven themselves; how many of these
/// are gone then.
fn survivors<K: Client, const N: usize>(
    capacity: usize,
    proven: u32,
    flood: Flood,
    real: RealId,
) -> u32 {
    let mut table = table::<K, N>(capacity);
    let start = settle(&mut table, proven, real);
    let clients = (3 * capacity as u32).max(20_000);
    for n in 0..clients {
        let now = start.after((u64::from(n) * 10_000 / u64::from(clients)) as u32);
        send(&mut table, 1 << 24 | n, flood.events(), ATTACKED, now);
    }
    let end = start.after(10_000);
    (0..proven)
        .map(|n| {
            u32::from(is_there(&table, n, Protocol::Tcp, end))
                + u32::from(is_there(&table, n, Protocol::Udp, end))
        })
        .sum()
}

#[test]
fn what_has_proven_itself_outlives_any_flood() {
    for flood in Flood::ALL {
        // Of the same virtual service, and of another.
        for real in [ATTACKED, OTHER] {
            for capacity in [128, 1000, 10_000] {
                for proven in [capacity as u32 / 100 + 1, capacity as u32 * 2 / 5] {
                    let left = survivors::<FlowKey, 3>(capacity, proven, flood, real);
                    assert_eq!(left, 2 * proven, "{flood:?} at {capacity}");
                    let left = survivors::<FlowKey6, 2>(capacity, proven, flood, real);
                    assert_eq!(left, 2 * proven, "{flood:?} at {capacity}, IPv6");
                }
            }
        }
    }
}

#[test]
fn packets_that_all_come_at_once_prove_nothing() {
    let mut shard = Shard::new(1000, SEED).unwrap();
    for events in [&[Event::Syn, Event::Ack][..], &[Event::Ack], &[Event::Datagram]] {
        let flow = send(&mut shard, 1, events, OTHER, NOW).unwrap().flow;
        let (span, event) = (shard.span(shard.get(flow).state), events[events.len() - 1]);
        for ago in 0..1000 {
            assert_eq!(shard.touch(flow, event, NOW.after(ago)), Transition::Same);
        }
        let kept = shard.get(flow);
        assert!(!kept.proven);
        assert_eq!(kept.deadline, NOW.after(span), "its timer tells when it began");
        if event != Event::Datagram {
            // Nor does what a client in a connection does not send.
            assert_eq!(shard.touch(flow, Event::Syn, NOW.after(1000)), Transition::Same);
            assert_eq!(shard.touch(flow, Event::Other, NOW.after(1000)), Transition::Same);
        }
        assert_eq!(shard.touch(flow, event, NOW.after(1000)), Transition::Proven);
        let kept = shard.get(flow);
        assert!(kept.proven);
        assert_eq!(kept.deadline, NOW.after(1000 + span));
        assert_eq!(shard.touch(flow, event, NOW.after(1001)), Transition::Same);
        assert_eq!(shard.get(flow).deadline, NOW.after(1001 + span));
        let _ = shard.remove(flow);
    }
}

#[test]
fn a_short_timer_is_proof_sooner() {
    let mut shard = Shard::new(10, SEED).unwrap();
    let udp = std::time::Duration::from_millis(400);
    shard.set_timeouts(&dataplane::flow::Timeouts { udp, ..Default::default() });
    let flow = send(&mut shard, 1, &[Event::Datagram], OTHER, NOW).unwrap().flow;
    assert_eq!(shard.touch(flow, Event::Datagram, NOW.after(99)), Transition::Same);
    assert_eq!(shard.touch(flow, Event::Datagram, NOW.after(100)), Transition::Proven);
}

#[test]
fn a_glance_at_a_newcomer_is_as_good_as_a_look() {
    let mut shard = Shard::new(10, SEED).unwrap();
    send(&mut shard, 1, &[Event::Datagram], OTHER, NOW);
    let key = FlowKey::nth(1, Protocol::Udp);
    let ((addresses, ports), hash) = (key.words(), shard.hash(&key));
    let glance = |shard: &Shard, signal, ago| {
        shard.pass_new(hash, &addresses, ports as u32, signal, NOW.after(ago))
    };
    assert_eq!(glance(&shard, Event::DATAGRAM_SIGNAL, 999), Some(OTHER));
    assert_eq!(glance(&shard, 0x10, 999), None, "TCP");
    assert_eq!(glance(&shard, Event::DATAGRAM_SIGNAL, 1000), None, "it proves the flow");
    let Lookup::Hit(flow) = shard.lookup(&key, hash, NOW.after(1000)) else { panic!() };
    assert_eq!(shard.touch(flow, Event::Datagram, NOW.after(1000)), Transition::Proven);
    assert_eq!(glance(&shard, Event::DATAGRAM_SIGNAL, 1000), None, "no newcomer");
}

/// Newcomers of one owner are safe from those of another that has more than its share.
fn others_newcomers<K: Client, const N: usize>(flood: Flood) {
    let mut table = table::<K, N>(10_000);
    for n in 0..10_000 {
        send(&mut table, 1 << 24 | n, flood.events(), ATTACKED, NOW);
    }
    for n in 0..100 {
        send(&mut table, n, &[Event::Syn, Event::Ack], OTHER, NOW);
        send(&mut table, n, &[Event::Datagram], OTHER, NOW);
    }
    for n in 10_000..100_000 {
        send(&mut table, 1 << 24 | n, flood.events(), ATTACKED, NOW.after(n / 10));
    }
    let late = NOW.after(10_000);
    for n in 0..100 {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert!(is_there(&table, n, protocol, late), "{flood:?} {n} {protocol}");
        }
    }
}

#[test]
fn a_flood_competes_with_its_own_virtual_service() {
    for flood in Flood::ALL {
        others_newcomers::<FlowKey, 3>(flood);
        others_newcomers::<FlowKey6, 2>(flood);
    }
}

/// All flows have proven themselves: newcomers get a part, and all else stays.
#[test]
fn a_table_full_of_the_proven_lets_newcomers_in_and_loses_a_part_at_most() {
    for flood in [Flood::Syn, Flood::Ack, Flood::SynAndAck, Flood::Udp] {
        let capacity = 20_000;
        let mut table = table::<FlowKey, 3>(capacity);
        let start = settle(&mut table, capacity as u32 / 2, OTHER);
        assert_eq!(table.len(), capacity);
        // A few clients come, take their time, and stay.
        let mut made: Vec<FlowRef> = vec![];
        for n in 0..100 {
            let now = start.after(n);
            made.push(send(&mut table, 1 << 23 | n, &[Event::Syn], ATTACKED, now).unwrap().flow);
        }
        let mut proven = 0;
        for n in 0..100 {
            send(&mut table, 1 << 23 | n, &[Event::Ack], ATTACKED, start.after(300));
            let key = FlowKey::nth(1 << 23 | n, Protocol::Tcp);
            let hash = table.hash(&key);
            let Lookup::Hit(flow) = table.lookup(&key, hash, start.after(1400)) else { panic!() };
            proven +=
                u32::from(table.touch(flow, Event::Ack, start.after(1400)) == Transition::Proven);
        }
        assert_eq!(proven, 100);
        assert_eq!(table.counters().evicted_proven, 100, "each at the expense of one");
        // A flood takes one flow in 64 of each kind at most.
        for n in 0..200_000 {
            send(&mut table, 1 << 24 | n, flood.events(), ATTACKED, start.after(1400 + n / 20));
        }
        let lost = table.counters().evicted_proven - 100;
        assert!(lost <= 3 * capacity as u64 / 64 + 3, "{flood:?} {lost}");
    }
}

/// A flood whose sources come back: it has proven itself, and still takes no more than its share.
#[test]
fn those_that_prove_themselves_take_their_share_only() {
    let capacity = 10_000;
    let mut table = table::<FlowKey, 3>(capacity);
    let mut now = settle(&mut table, 2000, OTHER);
    for round in 0..200 {
        for step in 0..2 {
            for n in 0..100 {
                let client = 1 << 24 | (round * 100 + n);
                send(&mut table, client, &[Event::Datagram], ATTACKED, now.after(step * 1100));
            }
        }
        now = now.after(1200);
    }
    assert!(table.counters().evicted_proven > 1000);
    for n in 0..2000 {
        assert!(is_there(&table, n, Protocol::Tcp, now) && is_there(&table, n, Protocol::Udp, now));
    }
}

#[test]
fn it_is_told_when_a_flow_would_only_push_out_another() {
    let mut shard = Shard::new(1000, SEED).unwrap();
    let all = [Event::Syn, Event::Ack, Event::Fin, Event::Datagram, Event::Rst, Event::Other];
    let told = |shard: &mut Shard, now| all.map(|event| shard.is_flooded(event, now));
    for n in 0..1000 {
        assert_eq!(told(&mut shard, NOW), [false; 6]);
        send(&mut shard, n, &[Event::Datagram], OTHER, NOW);
    }
    // Datagrams push out datagrams; the rest pushes those out, too.
    let at = |ago| NOW.after(ago);
    assert_eq!(told(&mut shard, at(5)), [false, false, true, true, false, false]);
    // What has not proven itself in ten seconds may go.
    assert_eq!(told(&mut shard, at(9_999)), [false, false, true, true, false, false]);
    assert_eq!(told(&mut shard, at(10_000)), [false, false, true, false, false, false]);
    for n in 1000..1300 {
        let evicted = send(&mut shard, n, &[Event::Ack], OTHER, at(10_000)).unwrap().evicted;
        assert_eq!(evicted.map(|r| (r.state, r.cause)), Some((State::Udp, Cause::Evicted)));
    }
    assert_eq!(told(&mut shard, at(10_005)), [false, false, true, false, false, false]);

    let mut shard = Shard::new(1000, SEED).unwrap();
    for n in 0..1000 {
        send(&mut shard, n, &[Event::Ack], OTHER, NOW);
    }
    assert_eq!(told(&mut shard, at(5)), [false, true, true, false, false, false]);
    for n in 2000..2100 {
        send(&mut shard, n, &[Event::Syn], OTHER, at(5));
    }
    // One of those would make room for an ACK. That is found in the next millisecond.
    assert_eq!(told(&mut shard, at(5)), [true, true, true, false, false, false]);
    assert_eq!(told(&mut shard, at(6)), [true, false, true, false, false, false]);
}

#[test]
fn a_copy_is_worth_least() {
    let mut shard6 = Shard6::new(100, SEED).unwrap();
    let mut shard = Shard::new(100, SEED).unwrap();
    for n in 0..100 {
        let flags = if n < 50 { FlowFlags::NONE } else { FlowFlags::REPLICA };
        let (key, key6) = (FlowKey::nth(n, Protocol::Udp), FlowKey6::nth(n, Protocol::Udp));
        let (hash, hash6) = (shard.hash(&key), shard6.hash(&key6));
        let _ = shard.insert(key, hash, OTHER, State::Udp, flags, NOW.after(n));
        let _ = shard6.insert(key6, hash6, OTHER, State::Udp, flags, NOW.after(n));
    }
    for n in 100..150 {
        let now = NOW.after(n);
        let one = send(&mut shard, n, &[Event::Datagram], OTHER, now).unwrap().evicted.unwrap();
        let two = send(&mut shard6, n, &[Event::Datagram], OTHER, now).unwrap().evicted.unwrap();
        assert!(one.flags.has(FlowFlags::REPLICA) && two.flags.has(FlowFlags::REPLICA));
    }
}

/// Newcomers of an owner below its share, so many in a thousand, among what another has proven.
fn never_overfull<K: Client, const N: usize>(capacity: usize, newcomers: usize, spread: u32) {
    let mut table = table::<K, N>(capacity);
    let proven = (capacity - capacity * newcomers / 1000) as u32 / 2;
    let start = settle(&mut table, proven, OTHER);
    for n in 0..10 * capacity as u32 {
        let now = start.after(1 + n / spread);
        let events = [&[Event::Ack][..], &[Event::Datagram]][n as usize / 7 % 2];
        let _ = table.is_flooded(events[0], now);
        send(&mut table, 1 << 24 | n, events, ATTACKED, now);
        assert!(table.len() <= capacity, "{} of {capacity} after {n}", table.len());
    }
}

#[test]
fn a_full_table_always_finds_one_that_leaves() {
    for newcomers in [0, 10, 18, 25, 40, 80] {
        for spread in [1, 100] {
            never_overfull::<FlowKey, 3>(3000, newcomers, spread);
            never_overfull::<FlowKey6, 2>(3000, newcomers, spread);
        }
    }
}
