//! What holds for every scheduler, and what makes a good Maglev table.
#![expect(clippy::unwrap_used, reason = "a test fails by panic, its helpers too")]

use std::net::{IpAddr, Ipv4Addr};

use dataplane::hash::Random;
use dataplane::schedule::{
    BuildError, Cursor, HashKey, Load, MAX_MAGLEV_SIZE, Member, Options, Scheduler,
};
use dataplane::types::{FlowKey, Protocol, WorkerId};
use dataplane::vocabulary::SchedulerKind;
use proptest::collection::vec;
use proptest::prelude::*;

const IDLE: &[Load] = &[];

fn members(weights: &[u32]) -> Vec<Member> {
    let address = |i: usize| Ipv4Addr::from(0x0a00_0001 + i as u32);
    weights
        .iter()
        .enumerate()
        .map(|(i, &weight)| Member { address: address(i).into(), weight })
        .collect()
}

fn flow(client: u32, client_port: u16) -> FlowKey {
    FlowKey {
        client: client.into(),
        vip: Ipv4Addr::new(192, 0, 2, 80),
        client_port,
        vip_port: 80,
        protocol: Protocol::Udp,
    }
}

fn small() -> Options {
    Options { maglev_size: 1021, ..Options::default() }
}

fn mh(members: &[Member]) -> Scheduler {
    Scheduler::build(SchedulerKind::Mh, members, &Options::default()).unwrap()
}

/// The owner of each slot, by address.
fn owners(scheduler: &Scheduler, members: &[Member]) -> Vec<IpAddr> {
    scheduler.table().unwrap().iter().map(|&i| members[usize::from(i)].address).collect()
}

fn counts(scheduler: &Scheduler, members: &[Member]) -> Vec<usize> {
    let mut counts = vec![0; members.len()];
    scheduler.table().unwrap().iter().for_each(|&i| counts[usize::from(i)] += 1);
    counts
}

proptest! {
    /// Whatever the weights, the clients, the loads and what the cursor holds.
    #[test]
    fn picks_only_who_takes_new_flows(
        weights in vec(prop_oneof![Just(0_u32), 1..=3_u32, 1..=65_535_u32], 0..20),
        clients in vec((any::<u32>(), any::<u16>()), 1..20),
        (place, pass) in (any::<u32>(), any::<u32>()),
        load in vec((any::<u32>(), any::<u32>()), 0..20),
        hash_ports in any::<bool>(),
    ) {
        let load: Vec<_> =
            load.iter().map(|&(active, inactive)| Load { active, inactive }).collect();
        let options = Options { hash_ports, ..small() };
        for &kind in SchedulerKind::ALL {
            let scheduler = Scheduler::build(kind, &members(&weights), &options).unwrap();
            prop_assert_eq!(scheduler.kind(), kind);
            let mut cursor = Cursor::at(place, pass);
            for &(client, port) in &clients {
                match scheduler.pick(&flow(client, port), &mut cursor, load.as_slice()) {
                    Some(i) => prop_assert!(weights[i] > 0, "{} picked {}", kind, i),
                    None => {
                        let has_room = |i: usize| {
                            let active = load.get(i).map_or(0, |l| l.active);
                            kind != SchedulerKind::Ovf || active <= weights[i]
                        };
                        let nobody = (0..weights.len()).all(|i| weights[i] == 0 || !has_room(i));
                        prop_assert!(nobody, "{}", kind);
                    }
                }
            }
        }
    }

    /// The members change under the cursor at every pick, and then no more.
    #[test]
    fn a_cursor_survives_rebuilds(
        sets in vec(vec(0..=3_u32, 1..8), 1..6),
        (place, pass) in (any::<u32>(), any::<u32>()),
    ) {
        for kind in [SchedulerKind::Rr, SchedulerKind::Wrr, SchedulerKind::Lc, SchedulerKind::Wlc] {
            let mut cursor = Cursor::at(place, pass);
            for weights in sets.iter().cycle().take(100) {
                let scheduler = Scheduler::build(kind, &members(weights), &small()).unwrap();
                let picked = scheduler.pick(&flow(1, 1), &mut cursor, IDLE);
                prop_assert_eq!(picked.is_some(), weights.iter().any(|&w| w > 0));
                prop_assert!(picked.is_none_or(|i| weights[i] > 0));
            }
            // From wherever the cursor is now, any whole number of cycles is exact.
            let last = Scheduler::build(kind, &members(&[3, 0, 1, 2]), &small()).unwrap();
            last.pick(&flow(1, 1), &mut cursor, IDLE);
            let mut count = [0; 4];
            for _ in 0..60 {
                count[last.pick(&flow(1, 1), &mut cursor, IDLE).unwrap()] += 1;
            }
            let wanted =
                if kind == SchedulerKind::Wrr { [30, 0, 10, 20] } else { [20, 0, 20, 20] };
            prop_assert_eq!(count, wanted, "{}", kind);
        }
    }

    #[test]
    fn mh_shares_follow_weights(
        weights in vec(prop_oneof![4 => 1..=65_535_u32, 1 => Just(1), 1 => 1..=100_u32], 1..150),
        key in any::<[u8; 16]>(),
    ) {
        let members = members(&weights);
        let options = Options { hash_key: key.into(), ..Options::default() };
        let table = Scheduler::build(SchedulerKind::Mh, &members, &options).unwrap();
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        for (i, slots) in counts(&table, &members).into_iter().enumerate() {
            let share = 65_537.0 * f64::from(weights[i]) / total;
            let allowed = (share * 0.01).max(2.0);
            prop_assert!((slots as f64 - share).abs() <= allowed, "{} for {}", slots, share);
            prop_assert!(slots >= 1);
        }
    }

    #[test]
    fn mh_ignores_the_order_of_members(
        (ordered, shuffled) in vec(prop_oneof![0..=3_u32, 0..=65_535_u32], 1..60)
            .prop_map(|weights| members(&weights))
            .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
    ) {
        for kind in [SchedulerKind::Mh, SchedulerKind::Sh] {
            let one = Scheduler::build(kind, &ordered, &small()).unwrap();
            let other = Scheduler::build(kind, &shuffled, &small()).unwrap();
            prop_assert_eq!(owners(&one, &ordered), owners(&other, &shuffled));
        }
    }
}

#[test]
fn nobody_to_pick() {
    for &kind in SchedulerKind::ALL {
        for weights in [&[][..], &[0], &[0, 0, 0]] {
            let scheduler = Scheduler::build(kind, &members(weights), &small()).unwrap();
            for cursor in [0, 1, u32::MAX] {
                let mut cursor = Cursor::at(cursor, cursor);
                assert_eq!(scheduler.pick(&flow(1, 1), &mut cursor, IDLE), None, "{kind}");
            }
        }
    }
}

#[test]
fn workers_start_apart() {
    let rr = Scheduler::build(SchedulerKind::Rr, &members(&[1; 4]), &small()).unwrap();
    let first = |worker| {
        rr.pick(&flow(1, 1), &mut Cursor::for_worker(WorkerId(worker), Random::new(0)), IDLE)
    };
    assert_eq!([0, 1, 2, 3, 4].map(first), [0, 1, 2, 3, 0].map(Some));
    assert_eq!(Cursor::for_worker(WorkerId(0), Random::new(0)), Cursor::default());
}

/// A rotation goes on where it was when a weight is edited or a member is added.
#[test]
fn rr_does_not_start_over() {
    let mut cursor = Cursor::default();
    let mut pick = |weights: &[u32]| {
        let rr = Scheduler::build(SchedulerKind::Rr, &members(weights), &small()).unwrap();
        rr.pick(&flow(1, 1), &mut cursor, IDLE).unwrap()
    };
    assert_eq!([pick(&[1; 3]), pick(&[1; 3]), pick(&[5, 1, 1, 1]), pick(&[1; 4])], [0, 1, 2, 3]);
}

/// The share of all slots that change owner although their owner stays, when `gone` goes.
fn churn(members: &[Member], gone: usize) -> f64 {
    let mut rest = members.to_vec();
    let gone = rest.remove(gone).address;
    let (before, after) = (owners(&mh(members), members), owners(&mh(&rest), &rest));
    let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && b != a).count();
    moved as f64 / before.len() as f64
}

#[test]
fn mh_moves_few_when_one_of_equals_goes() {
    for gone in [0, 50, 99] {
        let churn = churn(&members(&[100; 100]), gone);
        assert!(churn < 0.015, "{:.2} % of the slots moved needlessly", churn * 100.0);
    }
}

/// Also when the heaviest goes, by which all rounds are counted.
#[test]
fn mh_moves_few_when_a_heavy_one_goes() {
    let mut weights: Vec<_> = (1..=100).map(|i| i * 37 % 101 + 50).collect();
    weights[7] = 333;
    for gone in [7, 8] {
        let churn = churn(&members(&weights), gone);
        assert!(churn < 0.015, "{:.2} % of the slots moved needlessly", churn * 100.0);
    }
}

/// Draining is as good as removing.
#[test]
fn mh_knows_no_drained_member() {
    let mut members = members(&[4; 20]);
    members[19].weight = 0;
    assert_eq!(mh(&members).table(), mh(&members[..19]).table());
}

#[test]
fn mh_gives_the_least_weight_a_slot() {
    let mut weights = vec![65_535; 200];
    weights[100] = 1;
    let heavy_and_light = members(&weights);
    assert_eq!(counts(&mh(&heavy_and_light), &heavy_and_light)[100], 1);
    // As many members as slots: one each.
    let options = Options { maglev_size: 211, ..Options::default() };
    let full: Vec<_> = (0..211).map(|i| i * i % 1000 + 1).collect();
    let members = members(&full);
    let table = Scheduler::build(SchedulerKind::Mh, &members, &options).unwrap();
    assert_eq!(counts(&table, &members), vec![1; 211]);
}

#[test]
fn mh_table_depends_on_the_key() {
    let members = members(&[1; 10]);
    let table = |key| {
        let options = Options { hash_key: HashKey::new(key), ..Options::default() };
        Scheduler::build(SchedulerKind::Mh, &members, &options).unwrap()
    };
    let (one, other) = (table([1; 16]), table([2; 16]));
    let pairs = one.table().unwrap().iter().zip(other.table().unwrap());
    let same = pairs.filter(|(a, b)| a == b).count();
    assert!((5_000..8_000).contains(&same), "{same} of 65537 slots are the same, not a tenth");
}

/// Chi-squared under a fixed key, so that it passes or fails always.
#[test]
fn hash_schedulers_spread_clients_by_weight() {
    let weights = [1, 2, 3, 4, 5, 10, 0];
    let members = members(&weights);
    for (kind, hash_ports) in [
        (SchedulerKind::Sh, false),
        (SchedulerKind::Mh, false),
        (SchedulerKind::Sh, true),
        (SchedulerKind::Mh, true),
    ] {
        let options = Options { hash_key: HashKey::new([7; 16]), hash_ports, ..Options::default() };
        let scheduler = Scheduler::build(kind, &members, &options).unwrap();
        let mut count = [0.0; 7];
        for i in 0..=u16::MAX {
            // One network of clients; with ports, one client.
            let key = if hash_ports { flow(1, i) } else { flow(0x0a00_0000 + u32::from(i), 5) };
            count[scheduler.pick(&key, &mut Cursor::default(), IDLE).unwrap()] += 1.0;
        }
        let chi: f64 = (0..6)
            .map(|i| (count[i], 65_536.0 * f64::from(weights[i]) / 25.0))
            .map(|(got, wanted)| (got - wanted) * (got - wanted) / wanted)
            .sum();
        // 99.9 % of five degrees of freedom.
        assert!(chi < 20.5, "{kind}: chi squared {chi}");
    }
}

#[test]
fn a_client_keeps_its_real_server() {
    let members = members(&[1; 10]);
    for kind in [SchedulerKind::Sh, SchedulerKind::Mh] {
        let pick = |hash_ports, port| {
            let options = Options { hash_ports, ..small() };
            let scheduler = Scheduler::build(kind, &members, &options).unwrap();
            scheduler.pick(&flow(0xc000_0207, port), &mut Cursor::default(), IDLE)
        };
        assert!((1..50).all(|port| pick(false, port) == pick(false, 0)));
        assert!((1..50).any(|port| pick(true, port) != pick(true, 0)));
    }
}

#[test]
fn errors_say_what_is_allowed() {
    let error = |kind, members: &[Member], maglev_size| {
        let options = Options { maglev_size, ..Options::default() };
        Scheduler::build(kind, members, &options).map(|_| ()).unwrap_err().to_string()
    };
    let two = members(&[1, 1]);
    assert_eq!(
        error(SchedulerKind::Mh, &two, 65_536),
        "maglev_size 65536 is not allowed: it must be a prime from 2 to 16777213; \
         the nearest is 65537"
    );
    assert!(error(SchedulerKind::Sh, &two, u32::MAX).ends_with("the nearest is 16777213"));
    assert!(error(SchedulerKind::Mh, &two, 0).ends_with("the nearest is 2"));
    assert_eq!(
        error(SchedulerKind::Mh, &members(&[0; 252]), 251),
        "maglev_size 251 is too small for 252 real servers (drained ones count): it must be a \
         prime of at least 252; 25189 gives shares within about 1 %"
    );
    assert_eq!(
        error(SchedulerKind::Rr, &members(&[1, 65_536]), 251),
        "real server 10.0.0.2 has weight 65536; allowed are 0 (drain) to 65535"
    );
    assert_eq!(
        error(SchedulerKind::Wlc, &[two[0], two[1], two[0]], 251),
        "real server 10.0.0.1 is listed twice; each address is allowed once in a service"
    );
    assert_eq!(
        error(SchedulerKind::Wrr, &members(&vec![1; 65_536]), 251),
        "65536 real servers in one virtual service; at most 65535 are allowed"
    );
}

/// Where no hash scheduler is built, the size of its table is not looked at; `check` does that.
#[test]
fn options_can_be_checked_alone() {
    let wrong = Options { maglev_size: 100, ..Options::default() };
    assert!(Scheduler::build(SchedulerKind::Rr, &members(&[1]), &wrong).is_ok());
    assert_eq!(wrong.check(), Err(BuildError::MaglevSize { size: 100, nearest: 101 }));
    assert_eq!(Options::default().check(), Ok(()));
    assert_eq!(Options { maglev_size: MAX_MAGLEV_SIZE, ..wrong }.check(), Ok(()));
}

#[test]
fn the_key_is_not_shown() {
    let options = Options { hash_key: HashKey::new([0x41; 16]), ..Options::default() };
    assert!(format!("{options:?}").contains("HashKey(..)"));
}

/// As many members as there can be.
#[test]
fn the_largest_service() {
    let members = members(&vec![1; 65_535]);
    let by_chance = |kind: SchedulerKind| kind.is_hash() || kind == SchedulerKind::Twos;
    for &kind in SchedulerKind::ALL {
        let scheduler = Scheduler::build(kind, &members, &Options::default()).unwrap();
        let mut cursor = Cursor::at(65_534, 0);
        let picked = scheduler.pick(&flow(1, 1), &mut cursor, IDLE);
        let in_turn = [SchedulerKind::Rr, SchedulerKind::Wrr, SchedulerKind::Lc]
            .into_iter()
            .chain([SchedulerKind::Wlc, SchedulerKind::Sed, SchedulerKind::Nq])
            .any(|k| k == kind);
        let wanted = if in_turn { 65_534 } else { 0 };
        assert!(picked.is_some_and(|i| by_chance(kind) || i == wanted), "{kind}");
    }
}
