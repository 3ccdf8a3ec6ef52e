//! `twos` in numbers: who is drawn, who of two is taken, and what that does to the most loaded.
//! All random numbers are fixed, so that a test passes or fails always.
#![expect(clippy::unwrap_used, reason = "a test fails by panic, its helpers too")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::hash::Random;
use dataplane::schedule::{Cursor, Load, Loads, Member, Options, Scheduler};
use dataplane::types::{FlowKey, Protocol, WorkerId};
use dataplane::vocabulary::SchedulerKind;

const PICKS: u32 = 200_000;

fn flow() -> FlowKey {
    FlowKey {
        client: Ipv4Addr::new(198, 51, 100, 1),
        vip: Ipv4Addr::new(192, 0, 2, 80),
        client_port: 5,
        vip_port: 80,
        protocol: Protocol::Tcp,
    }
}

fn twos(weights: &[u32]) -> Scheduler {
    let address = |i: usize| match i % 2 {
        0 => IpAddr::from(Ipv4Addr::from_bits(0x0a00_0001 + i as u32)),
        _ => Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + i as u128).into(),
    };
    let members: Vec<_> = weights
        .iter()
        .enumerate()
        .map(|(i, &weight)| Member { address: address(i), weight })
        .collect();
    Scheduler::build(SchedulerKind::Twos, &members, &Options::default()).unwrap()
}

/// Loads that stay as they are, and who is full.
struct Still<'a>(&'a [u32], &'a [bool]);

impl Loads for Still<'_> {
    fn load(&self, member: usize) -> Load {
        Load { active: self.0[member], inactive: 0 }
    }

    fn is_full(&self, member: usize) -> bool {
        self.1[member]
    }
}

/// How often each is picked, and how often it should be: drawn twice, or drawn with one that costs
/// more for its weight. All costs differ.
fn counts_and_shares(weights: &[u32], active: &[u32], full: &[bool]) -> Vec<(f64, f64)> {
    let scheduler = twos(weights);
    let mut cursor = Cursor::for_worker(WorkerId(3), Random::new(2026));
    let mut counts = vec![0_u32; weights.len()];
    for _ in 0..PICKS {
        counts[scheduler.pick(&flow(), &mut cursor, &Still(active, full)).unwrap()] += 1;
    }
    let weight = |i: usize| if full[i] { 0.0 } else { f64::from(weights[i]) };
    let sum: f64 = (0..weights.len()).map(weight).sum();
    let share = |i: usize| weight(i) / sum;
    let cost = |i: usize| f64::from(active[i]) / f64::from(weights[i]);
    let worse =
        |i: usize| (0..weights.len()).filter(|&j| cost(j) > cost(i)).map(share).sum::<f64>();
    (0..weights.len())
        .map(|i| (f64::from(counts[i]), share(i) * (share(i) + 2.0 * worse(i)) * f64::from(PICKS)))
        .collect()
}

fn chi(pairs: &[(f64, f64)]) -> f64 {
    pairs
        .iter()
        .filter(|(_, wanted)| *wanted > 0.0)
        .map(|(got, want)| (got - want).powi(2) / want)
        .sum()
}

#[test]
fn each_is_taken_as_often_as_two_draws_by_weight_say() {
    let weights = [1, 2, 3, 4, 5, 10, 0];
    let nobody = [false; 7];
    let some = [false, true, false, false, false, true, false];
    let nearly_all = [true, true, false, true, true, true, true];
    for active in [[6, 5, 4, 3, 2, 1, 0], [1, 3, 5, 8, 20, 99, 0]] {
        for full in [nobody, some] {
            let pairs = counts_and_shares(&weights, &active, &full);
            assert!(pairs.iter().zip(full).all(|((got, _), full)| !full || *got == 0.0));
            assert_eq!(pairs[6].0, 0.0, "weight 0 drains");
            // 99.9 % of five degrees of freedom.
            assert!(chi(&pairs) < 20.5, "{active:?} {full:?}: {pairs:?}");
        }
        let pairs = counts_and_shares(&weights, &active, &nearly_all);
        assert_eq!(pairs[2].0, f64::from(PICKS));
    }
}

/// While none has a connection, the first drawn is taken: the weights alone decide.
#[test]
fn idle_ones_are_taken_by_weight() {
    let weights = [1, 2, 3, 4, 5, 10];
    let scheduler = twos(&weights);
    let mut cursor = Cursor::for_worker(WorkerId(0), Random::new(1));
    let mut counts = [0_u32; 6];
    for _ in 0..PICKS {
        counts[scheduler.pick(&flow(), &mut cursor, &[][..]).unwrap()] += 1;
    }
    let wanted = |i: usize| f64::from(PICKS) * f64::from(weights[i]) / 25.0;
    let pairs: Vec<_> = (0..6).map(|i| (f64::from(counts[i]), wanted(i))).collect();
    assert!(chi(&pairs) < 20.5, "{pairs:?}");
}

/// One in 65,536 has room, so that draws fail and all are looked at: shares are the same.
#[test]
fn the_few_with_room_are_found_and_shared_among_by_weight() {
    let mut weights = vec![65_535; 1000];
    weights.splice(400..403, [1, 2, 3]);
    let full: Vec<_> = weights.iter().map(|&w| w == 65_535).collect();
    let (scheduler, active) = (twos(&weights), vec![0; 1000]);
    let mut cursor = Cursor::default();
    let mut counts = [0_u32; 3];
    for _ in 0..6000 {
        let picked = scheduler.pick(&flow(), &mut cursor, &Still(&active, &full)).unwrap();
        counts[picked - 400] += 1;
    }
    // Standard deviations are 29 to 39.
    assert!([1000, 2000, 3000].iter().zip(counts).all(|(w, n)| n.abs_diff(*w) < 120), "{counts:?}");
    assert_eq!(scheduler.pick(&flow(), &mut cursor, &Still(&active, &[true; 1000])), None);
}

/// What it is for: the most loaded of 1000 has hardly more than the mean, where one random choice
/// leaves it some twelve more.
#[test]
fn two_choices_keep_the_most_loaded_near_the_mean() {
    for worker in 0..4 {
        let scheduler = twos(&[7; 1000]);
        let mut cursor = Cursor::for_worker(WorkerId(worker), Random::new(worker.into()));
        let mut loads = vec![Load::default(); 1000];
        for _ in 0..10_000 {
            let picked = scheduler.pick(&flow(), &mut cursor, loads.as_slice()).unwrap();
            loads[picked].active += 1;
        }
        let most = loads.iter().map(|l| l.active).max().unwrap();
        assert!((11..=13).contains(&most), "{most}, the mean being 10");
    }
}

/// Streams of two services, or of two workers, have nothing to do with each other.
#[test]
fn those_who_draw_differently_pick_differently() {
    let scheduler = twos(&[1; 100]);
    let picks = |random| -> Vec<_> {
        let mut cursor = Cursor::for_worker(WorkerId(0), Random::new(random));
        (0..100).map(|_| scheduler.pick(&flow(), &mut cursor, &[][..]).unwrap()).collect()
    };
    let (one, other) = (picks(1), picks(2));
    assert_eq!(one, picks(1));
    assert!(one.iter().zip(&other).filter(|(a, b)| a == b).count() < 8);
}
