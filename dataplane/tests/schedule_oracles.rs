//! Each scheduler against a plain re-implementation of what it is meant to do.
#![expect(clippy::unwrap_used, reason = "a test fails by panic, its helpers too")]

mod schedule_common;

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};

use dataplane::schedule::{Cursor, HashKey, Load, Member, Options, Scheduler};
use dataplane::types::{FlowKey, FlowKey6, Protocol};
use dataplane::vocabulary::SchedulerKind;
use proptest::collection::vec;
use proptest::prelude::*;
use siphasher::sip::SipHasher24;

const IDLE: &[Load] = &[];

fn members(weights: &[u32]) -> Vec<Member> {
    let address = |i: usize| Ipv4Addr::from(0x0a00_0001 + (i as u32 * 7919) % 65536).into();
    weights.iter().enumerate().map(|(i, &weight)| Member { address: address(i), weight }).collect()
}

fn flow(client: u32, client_port: u16) -> FlowKey {
    FlowKey {
        client: client.into(),
        vip: Ipv4Addr::new(192, 0, 2, 80),
        client_port,
        vip_port: 80,
        protocol: Protocol::Tcp,
    }
}

fn build(kind: SchedulerKind, weights: &[u32]) -> Scheduler {
    Scheduler::build(kind, &members(weights), &Options::default()).unwrap()
}

/// Few or many members, equal, small, large and extreme weights, and drained ones.
fn weights(max: usize) -> impl Strategy<Value = Vec<u32>> {
    vec(prop_oneof![0..=3_u32, 0..=40_u32, 0..=65_535_u32, Just(1), Just(65_535)], 0..=max)
}

#[test]
fn rr_goes_round() {
    let rr = build(SchedulerKind::Rr, &[1, 0, 9, 1]);
    let mut cursor = Cursor::default();
    let picks: Vec<_> = (0..7).map(|_| rr.pick(&flow(1, 1), &mut cursor, IDLE).unwrap()).collect();
    assert_eq!(picks, [0, 2, 3, 0, 2, 3, 0]);
}

#[test]
fn wrr_interleaves() {
    let wrr = build(SchedulerKind::Wrr, &[2, 4, 0, 6]);
    let mut cursor = Cursor::default();
    let picks: Vec<_> =
        (0..12).map(|_| wrr.pick(&flow(1, 1), &mut cursor, IDLE).unwrap()).collect();
    assert_eq!(picks, [3, 3, 1, 3, 1, 0, 3, 3, 1, 3, 1, 0]);
}

/// The classic algorithm: walk the list, skip who is below the current weight, lower that by the
/// gcd at each wrap. The picks of one cycle, pass by pass.
fn classic_wrr(weights: &[u32]) -> Vec<Vec<usize>> {
    let gcd = (1..=65_535).rev().find(|d| weights.iter().all(|w| w % d == 0)).unwrap();
    let mut passes = Vec::new();
    let mut current = *weights.iter().max().unwrap();
    while current > 0 {
        passes.push((0..weights.len()).filter(|&i| weights[i] >= current).collect());
        current -= gcd;
    }
    passes
}

proptest! {
    #[test]
    fn wrr_passes_are_the_classic_ones(
        weights in vec(prop_oneof![0..=5_u32, (0..=20_u32).prop_map(|w| w * 6), 0..=500_u32], 1..12),
    ) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let wrr = build(SchedulerKind::Wrr, &weights);
        let mut cursor = Cursor::default();
        for _ in 0..2 {
            let mut count = vec![0_u32; weights.len()];
            for pass in classic_wrr(&weights) {
                let mut picks: Vec<_> = pass
                    .iter()
                    .map(|_| wrr.pick(&flow(1, 1), &mut cursor, IDLE).unwrap())
                    .collect();
                picks.sort_unstable();
                prop_assert_eq!(&picks, &pass);
                picks.iter().for_each(|&i| count[i] += 1);
            }
            // Exact proportions over the cycle.
            for (i, j) in (0..weights.len()).zip(1..weights.len()) {
                prop_assert_eq!(count[i] * weights[j], count[j] * weights[i]);
            }
        }
    }

    #[test]
    fn lc_and_wlc_take_the_least(
        servers in vec((prop_oneof![0..=4_u32, 0..=65_535_u32], any::<u32>(), any::<u32>()), 0..20),
        small in any::<bool>(),
        start in 0..20_u32,
    ) {
        let cut = |n: u32| if small { n % 4 } else { n };
        let weights: Vec<_> = servers.iter().map(|s| s.0).collect();
        let loads: Vec<_> =
            servers.iter().map(|s| Load { active: cut(s.1), inactive: cut(s.2) }).collect();
        // In u128, with no thought of overflow.
        let overhead = |i: usize| u128::from(loads[i].active) * 256 + u128::from(loads[i].inactive);
        for kind in [SchedulerKind::Lc, SchedulerKind::Wlc] {
            let weight =
                |i: usize| if kind == SchedulerKind::Lc { 1 } else { u128::from(weights[i]) };
            let takers: Vec<_> = (0..weights.len()).filter(|&i| weights[i] > 0).collect();
            let least = |i: usize| {
                takers.iter().all(|&j| overhead(i) * weight(j) <= overhead(j) * weight(i))
            };
            // Of several, the first at or after the cursor among those that take new flows.
            let from = if takers.is_empty() { 0 } else { start as usize % takers.len() };
            let wanted =
                takers[from..].iter().chain(&takers[..from]).copied().find(|&i| least(i));
            let mut cursor = Cursor::at(start, 0);
            let picked = build(kind, &weights).pick(&flow(1, 1), &mut cursor, loads.as_slice());
            prop_assert_eq!(picked, wanted);
        }
    }
}

#[test]
fn one_active_connection_weighs_256_inactive_ones() {
    let pick = |kind, weights: &[u32], loads: &[(u32, u32)]| {
        let loads: Vec<_> =
            loads.iter().map(|&(active, inactive)| Load { active, inactive }).collect();
        build(kind, weights).pick(&flow(1, 1), &mut Cursor::default(), loads.as_slice())
    };
    assert_eq!(pick(SchedulerKind::Lc, &[1, 1], &[(1, 0), (0, 255)]), Some(1));
    assert_eq!(pick(SchedulerKind::Lc, &[1, 1], &[(1, 0), (0, 257)]), Some(0));
    assert_eq!(pick(SchedulerKind::Lc, &[1, 9], &[(1, 0), (2, 0)]), Some(0));
    assert_eq!(pick(SchedulerKind::Wlc, &[1, 9], &[(1, 0), (2, 0)]), Some(1));
    assert_eq!(pick(SchedulerKind::Wlc, &[1, 3], &[(2, 0), (6, 1)]), Some(0));
}

#[test]
fn equals_are_taken_in_turn() {
    for kind in [SchedulerKind::Lc, SchedulerKind::Wlc] {
        let (scheduler, mut cursor) = (build(kind, &[5, 0, 5, 5]), Cursor::default());
        let picks: Vec<_> =
            (0..5).map(|_| scheduler.pick(&flow(1, 1), &mut cursor, IDLE).unwrap()).collect();
        assert_eq!(picks, [0, 2, 3, 0, 2], "{kind}");
    }
}

fn sip(key: [u8; 16], bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&key);
    hasher.write(bytes);
    hasher.finish()
}

/// The paper's algorithm, word by word: whole permutations first, then turns, with katran's sums
/// of weights begun one turn early.
fn plain_maglev(members: &[Member], key: [u8; 16], size: u64) -> Vec<u16> {
    let mut order: Vec<usize> = (0..members.len()).filter(|&i| members[i].weight > 0).collect();
    order.sort_by_key(|&i| members[i].address);
    let heaviest = members.iter().map(|m| m.weight).max().unwrap_or(0);
    if heaviest == 0 {
        return Vec::new();
    }
    let permutation = |i: usize| -> Vec<usize> {
        let IpAddr::V4(address) = members[i].address else { unreachable!() };
        let tagged = |tag: u8| [&[tag], &address.octets()[..]].concat();
        let offset = sip(key, &tagged(b'o')) % size;
        let skip = sip(key, &tagged(b's')) % (size - 1) + 1;
        (0..size).map(|j| ((offset + j * skip) % size) as usize).collect()
    };
    let permutations: Vec<_> = order.iter().map(|&i| permutation(i)).collect();
    let mut next = vec![0; order.len()];
    let mut sum: Vec<u32> = order.iter().map(|&i| heaviest - members[i].weight).collect();
    let mut entry = vec![None; size as usize];
    let mut filled = 0;
    loop {
        for (n, &i) in order.iter().enumerate() {
            sum[n] += members[i].weight;
            if sum[n] < heaviest {
                continue;
            }
            sum[n] -= heaviest;
            while entry[permutations[n][next[n]]].is_some() {
                next[n] += 1;
            }
            entry[permutations[n][next[n]]] = Some(i as u16);
            filled += 1;
            if filled == size {
                return entry.into_iter().map(Option::unwrap).collect();
            }
        }
    }
}

fn maglev(members: &[Member], key: [u8; 16], size: u32) -> Scheduler {
    let options = Options {
        hash_key: HashKey::new(key),
        maglev_size: size,
        hash_ports: false,
        fallback: false,
    };
    Scheduler::build(SchedulerKind::Mh, members, &options).unwrap()
}

proptest! {
    #[test]
    fn mh_table_is_maglevs(
        weights in weights(40),
        key in any::<[u8; 16]>(),
        size in prop::sample::select(vec![41_u32, 251, 509, 1021, 4093]),
    ) {
        let members = members(&weights);
        let plain = plain_maglev(&members, key, u64::from(size));
        let mh = maglev(&members, key, size);
        prop_assert_eq!(mh.table().unwrap(), plain.as_slice());
    }

    #[test]
    fn mh_and_sh_look_the_client_up(
        key in any::<[u8; 16]>(),
        client in any::<u32>(),
        port in any::<u16>(),
        hash_ports in any::<bool>(),
    ) {
        let options = Options { hash_key: key.into(), hash_ports, fallback: false, maglev_size: 251 };
        for kind in [SchedulerKind::Mh, SchedulerKind::Sh] {
            let scheduler = Scheduler::build(kind, &members(&[3, 1, 2, 0, 2]), &options).unwrap();
            let port_or_none = if hash_ports { port } else { 0 };
            let hash = schedule_common::client(key, client.to_be_bytes(), port_or_none);
            let slot = (u128::from(hash) * 251) >> 64;
            let wanted = usize::from(scheduler.table().unwrap()[slot as usize]);
            let picked = scheduler.pick(&flow(client, port), &mut Cursor::default(), IDLE);
            prop_assert_eq!(picked, Some(wanted));
        }
    }
}

fn flow6(client: u128) -> FlowKey6 {
    FlowKey6 {
        client: client.into(),
        vip: 1.into(),
        client_port: 1,
        vip_port: 80,
        protocol: Protocol::Tcp,
    }
}

proptest! {
    #[test]
    fn clients_over_ipv6_are_looked_up(key in any::<[u8; 16]>(), client in any::<u128>()) {
        let scheduler = maglev(&members(&[3, 1, 2, 0, 2]), key, 251);
        let slot = (u128::from(schedule_common::client6(key, client)) * 251) >> 64;
        let wanted = usize::from(scheduler.table().unwrap()[slot as usize]);
        let picked = scheduler.pick(&flow6(client), &mut Cursor::default(), IDLE);
        prop_assert_eq!(picked, Some(wanted));
    }
}

#[test]
fn mh_table_of_the_default_size_is_maglevs() {
    let mixed: Vec<_> = (0..60).map(|i| [1, 65_535, 100, 0, 32_768, 7][i % 6]).collect();
    for weights in [vec![1; 50], vec![65_535, 1], mixed] {
        let members = members(&weights);
        let plain = plain_maglev(&members, *b"0123456789abcdef", 65_537);
        assert_eq!(maglev(&members, *b"0123456789abcdef", 65_537).table().unwrap(), plain);
    }
}

/// A change here would part directors of different versions.
#[test]
fn the_hash_is_a_contract() {
    let mh = maglev(&members(&[1, 2, 3]), *b"0123456789abcdef", 65_537);
    let picks: String = (0..32_u32)
        .map(|i| mh.pick(&flow(0xc633_6400 + i, 1), &mut Cursor::default(), IDLE).unwrap())
        .map(|member| member.to_string())
        .collect();
    assert_eq!(picks, "12110220022000112111011221222221");
    let picks: String = (0..32_u128)
        .map(|i| 0x2001_0db8 << 96 | i)
        .map(|client| mh.pick(&flow6(client), &mut Cursor::default(), IDLE).unwrap())
        .map(|member| member.to_string())
        .collect();
    assert_eq!(picks, "22202111122220121012021222222121");
}
