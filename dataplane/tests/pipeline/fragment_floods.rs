//! Floods of fragments and of what else workers ask one another about: honest ones arrive all the
//! same, and no flow is lost. A clock that goes on by a millisecond stands for time.

use std::collections::HashMap;
use std::net::IpAddr;

use dataplane::flow::FlowFlags;
use dataplane::stats::{DropReason, Event};
use dataplane::types::Protocol;

use crate::director::{Director, spec};
use crate::packets::*;
use crate::packets6::*;
use crate::seen::Seen;

const RR: [&str; 2] = [
    "udp 53 rr: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr",
    "udp6 53 rr: 2001:db8:a::1 dr, 2001:db8:a::2 dr, 2001:db8:a::3 dr",
];
const MH: [&str; 2] = [
    "udp 53 mh: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr",
    "udp6 53 mh: 2001:db8:a::1 dr, 2001:db8:a::2 dr, 2001:db8:a::3 dr",
];

/// Where a flood says it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Anywhere,
    /// 198.19.7.0/24, or 2001:db8:7::/48.
    OneNetwork,
}

/// Packets of a flood, one after the other, no two of one source.
struct Flood {
    from: From,
    six: bool,
    sent: u32,
    /// The packet, whoever it is from.
    packet: Vec<u8>,
}

impl Flood {
    fn of(from: From, packet: Vec<u8>) -> Flood {
        Flood { from, six: packet[12] == 0x86, sent: 0, packet }
    }

    fn next(&mut self) -> Vec<u8> {
        self.sent += 1;
        let mixed = self.sent.wrapping_mul(0x9e37_79b1);
        let [a, b, c, d] = mixed.to_be_bytes();
        match (self.from, self.six) {
            (From::Anywhere, false) => with_ip(self.packet.clone(), |ip| {
                ip[12..16].copy_from_slice(&[20 + a % 64, b, c, d]);
                ip[4..6].copy_from_slice(&[c, a]);
            }),
            (From::OneNetwork, false) => with_ip(self.packet.clone(), |ip| {
                ip[12..16].copy_from_slice(&[198, 19, 7, a]);
                ip[4..6].copy_from_slice(&[c, b]);
                // Another L4 port, where there is one.
                if ip[9] == 17 {
                    ip[20..22].copy_from_slice(&[c, b]);
                }
            }),
            (From::Anywhere, true) => with_ip6(self.packet.clone(), |ip| {
                ip[8..16].copy_from_slice(&[0x20, 1, a, b, c, d, 0, 0]);
            }),
            (From::OneNetwork, true) => with_ip6(self.packet.clone(), |ip| {
                ip[8..16].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 7, a, b]);
                ip[16..18].copy_from_slice(&[c, d]);
            }),
        }
    }

    /// Sends so many to the first worker, in bursts.
    fn send(&mut self, director: &mut Director, count: u32) {
        let mut left = count;
        while left > 0 {
            let some = left.min(32);
            let buffers = (0..some).map(|_| director.census.buffer(&self.next())).collect();
            director.burst(0, WAN, buffers);
            left -= some;
        }
    }
}

fn fragments(n: u16, six: bool) -> Vec<Vec<u8>> {
    match six {
        false => udp_fragments(n, n, 160, 64),
        true => udp_fragments6(n, n.into(), 160, 64),
    }
}

fn whole(n: u16, six: bool) -> Vec<u8> {
    if six { udp6(n) } else { udp(n) }
}

fn source(seen: &Seen) -> IpAddr {
    match seen.inner[0] >> 4 {
        4 => <[u8; 4]>::try_from(&seen.inner[12..16]).unwrap().into(),
        _ => <[u8; 16]>::try_from(&seen.inner[8..24]).unwrap().into(),
    }
}

/// Where packets went, by their source.
type Went = HashMap<IpAddr, Vec<IpAddr>>;

fn address(n: u16, six: bool) -> IpAddr {
    if six { client6(n).into() } else { client(n).into() }
}

/// A millisecond in which these packets come to the first worker one by one, each followed by a
/// part of the flood, before workers hear of one another.
fn millisecond(
    director: &mut Director,
    packets: &[Vec<u8>],
    flood: &mut Flood,
    count: u32,
    went: &mut Went,
) {
    director.wait(1);
    let outcome = director.outcome(|d| {
        for packet in packets {
            let buffer = d.census.buffer(packet);
            d.burst(0, WAN, vec![buffer]);
            flood.send(d, count / packets.len() as u32);
            // More than a queue takes is not waited with.
            if d.wire.mail.len() > 256 {
                d.deliver();
            }
        }
        flood.send(d, if packets.is_empty() { count } else { 0 });
        d.deliver();
    });
    for seen in &outcome.sent {
        went.entry(source(seen)).or_default().push(seen.real_of_either());
    }
}

/// Honest datagrams in three fragments, one in four milliseconds, while `count` packets of a flood
/// come in each millisecond, or one in so many (`pause`). The flows of every second one are another
/// worker's.
fn honest_ones_arrive(director: &mut Director, flood: &mut Flood, (count, pause): (u32, u32)) {
    let (six, mut went, home) = (flood.six, Went::new(), director.workers.len() - 1);
    let mut homes: HashMap<u16, IpAddr> = HashMap::new();
    for n in (2..160).step_by(2) {
        let outcome = director.receive_at(home, &[whole(n, six)]);
        homes.insert(n, outcome.reals_of_either()[0]);
    }
    for n in 1..160u16 {
        let [a, b, c] = <[_; 3]>::try_from(fragments(n, six)).unwrap();
        // In order, or the first one last.
        let by_time = match n / 2 % 2 {
            0 => [vec![a, b], vec![c], vec![]],
            _ => [vec![c], vec![b], vec![a]],
        };
        for packets in &by_time {
            let now = if flood_is_due(director.now.0, pause) { count } else { 0 };
            millisecond(director, packets, flood, now, &mut went);
        }
        let to = went.remove(&address(n, six)).unwrap_or_default();
        assert_eq!(to.len(), 3, "datagram {n} of {:?}, six {six}", flood.from);
        let real = homes.get(&n).copied().unwrap_or(to[0]);
        assert!(to.iter().all(|to| *to == real), "datagram {n}: {to:?}, not {real}");
    }
}

fn flood_is_due(now: u32, pause: u32) -> bool {
    now % pause == 0
}

/// A fragment that is none's first: offset 16.
fn later(six: bool) -> Vec<u8> {
    match six {
        false => udp_fragments(9999, 1, 64, 16).swap_remove(1),
        true => udp_fragments6(9999, 1, 64, 16).swap_remove(1),
    }
}

#[test]
fn strangers_fragments_do_not_take_the_place_of_honest_ones() {
    for workers in [1, 2, 3] {
        for six in [false, true] {
            // 200 and 20,000 a second.
            for rate in [(1, 5), (20, 1)] {
                let mut director = Director::with_workers(workers, &[RR[usize::from(six)]]);
                // The room is full when the first honest one comes.
                let mut flood = Flood::of(From::Anywhere, later(six));
                for _ in 0..600 {
                    let now = if flood_is_due(director.now.0, rate.1) { rate.0 } else { 0 };
                    millisecond(&mut director, &[], &mut flood, now, &mut Went::new());
                }
                honest_ones_arrive(&mut director, &mut flood, rate);
            }
        }
    }
}

#[test]
fn one_network_fills_no_room_but_its_own() {
    for workers in [1, 2] {
        for six in [false, true] {
            let mut director = Director::with_workers(workers, &[RR[usize::from(six)]]);
            let mut flood = Flood::of(From::OneNetwork, later(six));
            honest_ones_arrive(&mut director, &mut flood, (500, 1));
        }
    }
}

fn first(six: bool) -> Vec<u8> {
    fragments(9999, six).swap_remove(0)
}

fn with_extension() -> Vec<u8> {
    from6(9999).ext(60, &[0, 1, 4, 0, 0, 0, 0]).udp(port_of(9999), 53).payload(&[7; 20]).finish()
}

/// What makes flows, and is asked round about.
fn beginnings() -> [Vec<u8>; 3] {
    [first(false), first(true), with_extension()]
}

#[test]
fn honest_fragments_arrive_in_a_flood_of_first_ones() {
    for packet in beginnings() {
        let six = usize::from(packet[12] == 0x86);
        for (service, from, count) in [
            (MH[six], From::Anywhere, 500),
            (RR[six], From::OneNetwork, 500),
            (RR[six], From::Anywhere, 100),
        ] {
            // Flows of the first worker's own table are another matter.
            let mut director = Director::of(2, 8000, spec(&[service]));
            let mut flood = Flood::of(from, packet.clone());
            honest_ones_arrive(&mut director, &mut flood, (count, 1));
        }
    }
}

/// 300,000 a second on one queue, at two workers: the other one's flows all stay.
#[test]
fn a_flood_of_first_fragments_takes_no_flow_of_another_worker() {
    const FLOWS: usize = 1600;
    for packet in beginnings() {
        let six = packet[12] == 0x86;
        for services in [RR, MH] {
            let mut director = Director::of(2, FLOWS, spec(&[services[usize::from(six)]]));
            let mut reals = vec![];
            for n in 0..1500 {
                reals.push(director.receive_at(1, &[whole(n, six)]).reals_of_either()[0]);
            }
            let mut flood = Flood::of(From::Anywhere, packet.clone());
            for _ in 0..100 {
                millisecond(&mut director, &[], &mut flood, 300, &mut Went::new());
            }
            let (mut replicas, mut own) = (0, 0);
            let mut count = |flags: FlowFlags| {
                *(if flags.has(FlowFlags::REPLICA) { &mut replicas } else { &mut own }) += 1;
            };
            director.workers[1].shard().scan(0, usize::MAX, |f| count(f.flags));
            director.workers[1].shard6().scan(0, usize::MAX, |f| count(f.flags));
            assert_eq!(own, 1500);
            assert!(replicas > 0 && replicas <= FLOWS / 16, "{replicas}");
            for (n, real) in reals.into_iter().enumerate().step_by(7) {
                let outcome = director.receive_at(1, &[whole(n as u16, six)]);
                assert_eq!(outcome.reals_of_either(), [real]);
            }
        }
    }
}

#[test]
fn a_replica_that_is_used_outlives_a_flood_of_others() {
    for six in [false, true] {
        let mut director = Director::of(2, 16_000, spec(&[RR[usize::from(six)]]));
        // The other worker's rotation points elsewhere.
        director.receive_at(1, &[whole(7, six), whole(8, six)]);
        let real = director.receive(&fragments(1, six)).reals_of_either()[0];
        let mut flood = Flood::of(From::Anywhere, first(six));
        for _ in 0..100 {
            for _ in 0..10 {
                millisecond(&mut director, &[], &mut flood, 60, &mut Went::new());
            }
            assert_eq!(director.receive_at(1, &[whole(1, six)]).reals_of_either(), [real]);
        }
        let evicted = director.stats[1].event(Event::FlowsEvicted).get();
        assert!(evicted > 10_000, "{evicted} of the others left");
    }
}

#[test]
fn what_others_are_asked_about_is_bounded() {
    let error = |six| {
        if six { icmp_error6(1, Protocol::Udp, 53) } else { icmp_error(1, Protocol::Udp, 53) }
    };
    let floods = beginnings().into_iter().chain([error(false), error(true)]);
    for packet in floods {
        let six = packet[12] == 0x86;
        for (from, depth, rate) in [(From::Anywhere, 512, 128), (From::OneNetwork, 256, 32)] {
            let mut director = Director::of(2, 4000, spec(&[RR[usize::from(six)]]));
            let mut flood = Flood::of(from, packet.clone());
            for _ in 0..50 {
                millisecond(&mut director, &[], &mut flood, 1000, &mut Went::new());
            }
            let asked = director.stats[0].event(Event::HandedOver).get();
            assert!(asked <= depth + 51 * rate, "{asked} of {from:?}");
            assert!(asked >= 50 * rate, "{asked} of {from:?}");
            let dropped = director.counts().drops(DropReason::HandoffFull);
            // But for a few that meet the flow of one before.
            assert!((49_000..=50_000).contains(&(dropped + asked)), "all others, at once");
        }
    }
}

#[test]
fn errors_about_flows_arrive_while_one_network_makes_some_up() {
    for six in [false, true] {
        let mut director = Director::with_workers(2, &[RR[usize::from(six)]]);
        let error = |n| match six {
            false => icmp_error(n, Protocol::Udp, 53),
            true => icmp_error6(n, Protocol::Udp, 53),
        };
        let mut flood = Flood::of(From::OneNetwork, error(9999));
        for n in 1..100 {
            let real = director.receive_at(1, &[whole(n, six)]).reals_of_either()[0];
            let mut went = Went::new();
            millisecond(&mut director, &[error(n)], &mut flood, 1000, &mut went);
            assert_eq!(went.into_values().collect::<Vec<_>>(), [[real]]);
        }
    }
}

/// Where nobody may be asked any more, a hash tells; else the packet is dropped.
#[test]
fn a_full_queue_is_no_loss_where_a_hash_tells() {
    for six in [false, true] {
        let six_or_four = usize::from(six);
        let mut director = Director::with_workers(2, &[MH[six_or_four]]);
        let real = director.receive(&[whole(1, six)]).reals_of_either()[0];
        let mut director = Director::with_workers(2, &[MH[six_or_four]]);
        director.wire.mail_room = 0;
        let outcome = director.receive(&fragments(1, six));
        assert_eq!(outcome.reals_of_either(), [real; 3]);
        let mut director = Director::with_workers(2, &[RR[six_or_four]]);
        director.wire.mail_room = 0;
        let outcome = director.receive(&fragments(1, six));
        assert_eq!((outcome.drops(DropReason::HandoffFull), outcome.event(Event::Held)), (1, 2));
    }
}

/// The next packet with an identification that was used before waits for its own first fragment.
#[test]
fn an_old_note_is_not_followed_while_the_first_fragment_is_under_way() {
    let mut director = Director::with_workers(2, &[RR[0]]);
    let to_53 = |port: u16| {
        let whole = from(1).udp(port, 53).payload(&[7; 100]).finish();
        cut(&whole, 5, 64)
    };
    let old = director.receive(&to_53(1000)).reals();
    let outcome = director.receive(&to_53(1001));
    let new = outcome.reals();
    assert_eq!((old.len(), new.len()), (2, 2));
    assert!(old[0] == old[1] && new[0] == new[1] && old[0] != new[0], "{old:?} {new:?}");
}
