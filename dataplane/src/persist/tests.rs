//! Templates one by one, and many threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

const SPAN: u32 = 300_000;

fn key(network: u32) -> NetworkKey {
    NetworkKey { service: ServiceId(3), network: Ipv4Addr::from_bits(network) }
}

fn any_real(_: RealId) -> bool {
    true
}

fn bind(table: &Templates, network: u32, real: u32, now: Tick) -> Bound {
    table.bind(&key(network), RealId(real), SPAN, now, any_real)
}

#[test]
fn a_template_lives_for_its_span_and_restarts() {
    let table = Templates::new(100, 1);
    let now = Tick(u32::MAX - 1000);
    assert_eq!(table.bound(&key(1), now), None);
    assert_eq!(bind(&table, 1, 7, now), Bound::New { evicted: false });
    assert_eq!(bind(&table, 1, 8, now), Bound::Kept(RealId(7)));
    let late = now.after(SPAN - 1);
    assert_eq!(table.bound(&key(1), late), Some(RealId(7)));
    assert_eq!(table.bound(&key(1), late.after(1)), None);
    assert_eq!(table.restart(&key(1), SPAN, late, any_real), Some(RealId(7)));
    assert_eq!(table.bound(&key(1), late.after(SPAN - 1)), Some(RealId(7)));
    assert_eq!(table.restart(&key(1), SPAN, late, |real| real != RealId(7)), None);
    assert_eq!(table.len(), 1);
    table.sweep(late.after(SPAN), table.places());
    assert!(table.is_empty());
}

#[test]
fn templates_are_counted_by_real_server_until_they_are_over() {
    let table = Templates::new(100, 1);
    assert!(table.count(Tick(0)).is_empty());
    for network in 0..9 {
        let _ = bind(&table, network, network % 2, Tick(network));
    }
    // Bound to another, it is the other's.
    let moved = table.bind(&key(0), RealId(1), SPAN, Tick(9), |real| real != RealId(0));
    assert_eq!(moved, Bound::New { evicted: false });
    assert_eq!(table.count(Tick(9)), HashMap::from([(RealId(0), 4), (RealId(1), 5)]));
    // One that is not swept yet does not count; one that a flow extends does.
    table.hold(&key(2), RealId(0));
    assert_eq!(table.count(Tick(4).after(SPAN)), HashMap::from([(RealId(0), 3), (RealId(1), 3)]));
}

#[test]
fn it_is_assured_by_an_established_flow_until_it_begins_again() {
    let table = Templates::new(100, 1);
    let only = |now| {
        let mut found = (0..table.places()).filter_map(|place| table.scan(place, now));
        let template = found.next().unwrap();
        assert!(found.next().is_none());
        (template.assured, template.flows)
    };
    let now = Tick(5);
    assert_eq!(bind(&table, 1, 7, now), Bound::New { evicted: false });
    for flows in 1..4 {
        table.hold(&key(1), RealId(7));
        assert_eq!(only(now), (false, flows));
    }
    table.assure(&key(2), RealId(7));
    table.assure(&key(1), RealId(8));
    assert_eq!(only(now), (false, 3));
    for _ in 0..2 {
        table.assure(&key(1), RealId(7));
        assert_eq!(only(now), (true, 3));
    }
    table.hold(&key(1), RealId(7));
    for _ in 0..9 {
        table.release(&key(1), RealId(7), now);
    }
    assert_eq!(only(now), (true, 0), "as long as it lives");
    assert_eq!(bind(&table, 1, 7, now), Bound::Kept(RealId(7)));
    assert_eq!(only(now), (true, 0));
    let later = now.after(SPAN);
    assert_eq!(bind(&table, 1, 7, later), Bound::New { evicted: false });
    table.hold(&key(1), RealId(7));
    assert_eq!(only(later), (false, 1), "another, to the same real server");
    table.assure(&key(1), RealId(7));
    let moved = table.bind(&key(1), RealId(9), SPAN, later, |real| real != RealId(7));
    assert_eq!(moved, Bound::New { evicted: false });
    assert_eq!(only(later), (false, 0));
    table.hold(&key(1), RealId(9));
    assert_eq!(only(later), (false, 1));
}

#[test]
fn it_is_extended_while_flows_live() {
    let table = Templates::new(100, 1);
    let now = Tick(5);
    let _ = bind(&table, 1, 7, now);
    table.hold(&key(1), RealId(7));
    table.hold(&key(1), RealId(7));
    let later = now.after(SPAN + 3 * EXTENSION_MS + 1000);
    assert_eq!(table.bound(&key(1), later), Some(RealId(7)));
    table.release(&key(1), RealId(9), later);
    table.release(&key(1), RealId(7), later);
    assert_eq!(table.bound(&key(1), later), Some(RealId(7)));
    table.release(&key(1), RealId(7), later);
    let end = now.after(SPAN + 4 * EXTENSION_MS);
    assert_eq!(table.bound(&key(1), end.after(u32::MAX)), Some(RealId(7)));
    assert_eq!(table.bound(&key(1), end), None, "the minute that had begun ends");
    table.release(&key(1), RealId(7), later);
}

#[test]
fn a_full_bucket_gives_up_what_would_end_first() {
    let table = Templates::new(8, 1);
    assert_eq!(table.places(), 16);
    for n in 0..16 {
        assert_eq!(bind(&table, n, n, Tick(n)), Bound::New { evicted: false });
    }
    assert_eq!(bind(&table, 16, 16, Tick(20)), Bound::New { evicted: true });
    assert_eq!(table.bound(&key(0), Tick(20)), None);
    assert_eq!(bind(&table, 17, 17, Tick(SPAN + 1)), Bound::New { evicted: false }, "1 is over");
    assert_eq!(table.len(), 16);
    assert_eq!(table.forget(|key, _| key.network.to_bits() > 10), 7);
    assert_eq!(table.len(), 9);
    let all = (0..16).filter_map(|place| table.scan(place, Tick(20)));
    assert!(all.map(|t| t.real.0).eq(2..=10u32));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Workers that bind the same networks at once end at the same real servers.
    #[test]
    fn workers_agree(seed in any::<u64>(), workers in 2..5usize, networks in 1..9u32) {
        let table = Templates::new(64, seed);
        let barrier = Barrier::new(workers);
        let chosen: Vec<_> = (0..networks).map(|_| AtomicU32::new(u32::MAX)).collect();
        let agreed = std::thread::scope(|scope| {
            let work = |me: u32| {
                let (table, barrier, chosen) = (&table, &barrier, &chosen);
                move || {
                    barrier.wait();
                    let mut agreed = true;
                    for round in 0..200 {
                        let network = (round + me * round) % networks;
                        let own = RealId(me);
                        let real = match bind(table, network, me, Tick(round)) {
                            Bound::Kept(real) => real,
                            Bound::New { evicted: false } => own,
                            Bound::New { evicted: true } | Bound::Failed => return false,
                        };
                        table.hold(&key(network), real);
                        let first = chosen[network as usize].compare_exchange(
                            u32::MAX, real.0, Ordering::SeqCst, Ordering::SeqCst);
                        agreed &= first.is_ok() || first == Err(real.0);
                    }
                    agreed
                }
            };
            let threads: Vec<_> = (0..workers as u32).map(|me| scope.spawn(work(me))).collect();
            threads.into_iter().all(|thread| thread.join().unwrap_or(false))
        });
        prop_assert!(agreed);
        let flows: u32 = (0..table.places())
            .filter_map(|place| table.scan(place, Tick(300))).map(|t| t.flows).sum();
        prop_assert_eq!(flows as usize, workers * 200);
        let bound = chosen.iter().filter(|real| real.load(Ordering::SeqCst) != u32::MAX).count();
        prop_assert_eq!(table.len(), bound);
    }

    /// With more networks than there is room for, nothing is found under another's key.
    #[test]
    fn nobody_gets_anothers(seed in any::<u64>()) {
        let table = Templates::new(8, seed);
        let right = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4u32).map(|me| {
                let table = &table;
                scope.spawn(move || (0..2000u32).all(|round| {
                    let network = (round * 7 + me) % 40;
                    let real = RealId(network);
                    let kept = match bind(table, network, network, Tick(round)) {
                        Bound::Kept(kept) => kept == real,
                        _ => true,
                    };
                    kept && table.restart(&key(network), SPAN, Tick(round), any_real)
                        .is_none_or(|bound| bound == real)
                }))
            }).collect();
            threads.into_iter().all(|thread| thread.join().unwrap_or(false))
        });
        prop_assert!(right);
        prop_assert!(table.len() <= table.places());
    }
}

#[test]
fn ipv6_networks_are_told_apart_and_listed() {
    let table = Templates::<Ipv6Addr>::new(100, 1);
    let key = |bits: u128| NetworkKey { service: ServiceId(3), network: Ipv6Addr::from_bits(bits) };
    // The first five have the same bits, for half of their address is the seed.
    let networks =
        (0..5).map(|n| 1 << 64 | n).chain((0..40).map(|n| (0x2001_0db8 << 32 | n) << 64));
    let networks: Vec<u128> = networks.collect();
    for (n, network) in (0..).zip(&networks) {
        let bound = table.bind(&key(*network), RealId(n), SPAN, Tick(1), any_real);
        assert_eq!(bound, Bound::New { evicted: false });
        table.hold(&key(*network), RealId(n));
    }
    for (n, network) in (0..).zip(&networks) {
        let key = key(*network);
        assert_eq!(table.bound(&key, Tick(2)), Some(RealId(n)));
        assert_eq!(table.restart(&key, SPAN, Tick(2), any_real), Some(RealId(n)));
        assert_eq!(table.bound(&NetworkKey { service: ServiceId(4), ..key }, Tick(2)), None);
    }
    let listed = (0..table.places()).filter_map(|place| table.scan(place, Tick(3)));
    let mut listed: Vec<_> = listed.map(|t| (t.key.network.to_bits(), t.flows)).collect();
    listed.sort_unstable();
    assert_eq!(listed, networks.iter().map(|network| (*network, 1)).collect::<Vec<_>>());
    table.remove(&key(networks[1]));
    assert_eq!(table.bound(&key(networks[1]), Tick(3)), None);
    assert_eq!(table.bound(&key(networks[2]), Tick(3)), Some(RealId(2)));
    assert_eq!(table.forget(|key, _| key.network.segments()[0] == 0x2001), 40);
    assert_eq!(table.len(), 4);
}
