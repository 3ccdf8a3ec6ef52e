//! What was learned, over what is configured.

use super::*;

fn name(port: u16, n: u8) -> RealName {
    RealName { service: key(port), real: rip(n) }
}

fn says(name: RealName, standing: Standing, weight: Option<u32>) -> News {
    News::Real { name, cause: Cause::Health, effect: Effect { standing, weight } }
}

/// The next snapshot of the same specification, and what it took.
fn again(c: &mut Compiler, generation: u64, news: &[News]) -> Compiled {
    c.learn(news);
    let spec = c.spec().unwrap().clone();
    c.compile(&spec, generation, u64::MAX, |_| true).unwrap()
}

/// Of two services with three real servers each, one of which is behind a tunnel.
fn two(scheduler: SchedulerKind) -> Spec {
    let mut services = vec![service(80, &[1, 2, 3]), service(81, &[1, 2, 3])];
    for service in &mut services {
        service.scheduler = scheduler;
        service.reals[2].method = ForwardMethod::Ipip;
        service.reals.iter_mut().for_each(|real| real.weight = 7);
    }
    spec(services)
}

/// Whom the service's hash scheduler gives anything to.
fn takers(snapshot: &super::super::Snapshot) -> BTreeSet<u16> {
    let scheduler = &snapshot.service(ServiceId(0)).unwrap().scheduler;
    scheduler.table().unwrap().iter().copied().collect()
}

#[test]
fn an_event_compiles_what_it_is_about() {
    let mut c = compiler();
    c.compile(&two(SchedulerKind::Mh), 1, u64::MAX, |_| true).unwrap();
    let draining = again(&mut c, 2, &[says(name(80, 2), Standing::Draining, None)]);
    assert_eq!(draining.work, Work { services: 1, reals: 1 });
    assert_eq!(takers(&draining.snapshot), [0, 2].into());
    let real = draining.snapshot.real(RealId(1)).unwrap();
    assert!(real.quiescent, "as with weight 0");
    assert!(draining.new_reals.is_empty() && draining.departed.is_empty());
    assert_eq!(c.spec(), Some(&two(SchedulerKind::Mh)), "the configured weight is what it was");
    // The same again is no news, nor is what is said of strangers.
    let news = [
        says(name(80, 2), Standing::Draining, None),
        says(name(80, 9), Standing::Removed, None),
        says(name(99, 1), Standing::Removed, None),
    ];
    c.learn(&news);
    assert!(!c.has_news());
    assert_eq!(c.learned(&name(80, 9)), Effect::NONE, "nothing is kept of strangers");
    // Many at once.
    let news: Vec<_> = [(80, 1), (80, 3), (81, 1)]
        .iter()
        .map(|(port, n)| says(name(*port, *n), Standing::Up, Some(0)))
        .collect();
    let compiled = again(&mut c, 3, &news);
    assert_eq!(compiled.work, Work { services: 2, reals: 4 }, "and the one between");
    assert!(compiled.snapshot.service(ServiceId(0)).unwrap().scheduler.table().unwrap().is_empty());
    let compiled = again(&mut c, 4, &[says(name(80, 1), Standing::Up, Some(9))]);
    assert_eq!(takers(&compiled.snapshot), [0].into());
    assert_eq!(c.learned(&name(80, 1)).weight_of(7), 9);
}

#[test]
fn a_removed_real_server_keeps_its_slot_and_has_no_flow() {
    for flows_wait in [false, true] {
        let mut spec = two(SchedulerKind::Mh);
        spec.switches.expire_nodest_conn = !flows_wait;
        let mut c = compiler();
        let before = c.compile(&spec, 1, u64::MAX, |_| true).unwrap().snapshot;
        let gone = again(&mut c, 2, &[says(name(80, 3), Standing::Removed, None)]);
        let snapshot = &gone.snapshot;
        assert_eq!(takers(snapshot), [0, 1].into());
        assert!(snapshot.real(RealId(2)).is_none() && snapshot.adjacency(RealId(2)).is_none());
        assert_eq!(snapshot.absent(RealId(2)).is_some(), flows_wait);
        assert!(gone.departed.is_empty(), "it is configured, and its counters go on");
        // A probe goes as its packets would.
        assert_eq!(snapshot.configured(RealId(2)).unwrap().mtu, 1500);
        assert_eq!(snapshot.adjacency_of_configured(RealId(2)), before.adjacency(RealId(2)));
        assert_eq!(snapshot.rip(RealId(2)), Some(rip(3)));
        assert_eq!(snapshot.reals_at(rip(3)).collect::<BTreeSet<_>>(), [2, 5].map(RealId).into());
        assert!(Arc::ptr_eq(&snapshot.links, &before.links), "its neighbor stays a neighbor");
        // Nobody else gets the slot meanwhile, whoever has acknowledged what.
        at(&mut spec, 0).reals.push(service(80, &[9]).reals.remove(0));
        c.compile(&spec, 3, u64::MAX, |_| true).unwrap();
        assert_eq!(c.real_id(&key(80), rip(3)), Some(RealId(2)));
        assert_eq!(c.real_id(&key(80), rip(9)), Some(RealId(6)));
        let back = again(&mut c, 4, &[says(name(80, 3), Standing::Up, None)]);
        assert!(back.new_reals.is_empty() && back.revived.is_empty());
        assert_eq!(back.snapshot.adjacency(RealId(2)), before.adjacency(RealId(2)));
        assert!(back.snapshot.absent(RealId(2)).is_none());
        assert!(back.snapshot.removed(RealId(2)).is_none());
    }
}

#[test]
fn it_comes_back_where_there_is_no_room_for_another() {
    let mut c = Compiler::new(Limits { services: 2, reals: 6, neighbors: 6 });
    c.compile(&two(SchedulerKind::Rr), 1, u64::MAX, |_| false).unwrap();
    for (generation, standing) in [(2, Standing::Removed), (3, Standing::Up)] {
        let news: Vec<_> = (1..=3).map(|n| says(name(81, n), standing, None)).collect();
        let snapshot = again(&mut c, generation, &news).snapshot;
        assert_eq!(snapshot.real(RealId(4)).is_some(), standing == Standing::Up);
    }
}

#[test]
fn what_was_learned_ends_with_its_real_server_and_outlives_all_other_changes() {
    let mut spec = two(SchedulerKind::Mh);
    let mut c = compiler();
    c.compile(&spec, 1, u64::MAX, |_| true).unwrap();
    again(&mut c, 2, &[says(name(80, 2), Standing::Removed, Some(3))]);
    // What compiles everything, and an edit of the same real server.
    spec.hash_key = [9; 16];
    at(&mut spec, 0).reals[1].weight = 99;
    let snapshot = c.compile(&spec, 3, u64::MAX, |_| true).unwrap().snapshot;
    assert!(snapshot.removed(RealId(1)).is_some());
    let removed = at(&mut spec, 0).reals.remove(1);
    let snapshot = c.compile(&spec, 4, u64::MAX, |_| true).unwrap().snapshot;
    assert!(snapshot.removed(RealId(1)).is_none());
    at(&mut spec, 0).reals.push(removed);
    let snapshot = c.compile(&spec, 5, u64::MAX, |_| true).unwrap().snapshot;
    assert_eq!(c.learned(&name(80, 2)), Effect::NONE);
    let id = c.real_id(&key(80), rip(2)).unwrap();
    assert!(snapshot.real(id).is_some_and(|real| !real.quiescent), "a new one is up");
}

#[test]
fn a_path_mtu_compiles_the_real_servers_it_is_about() {
    let mut c = compiler();
    c.compile(&two(SchedulerKind::Rr), 1, u64::MAX, |_| true).unwrap();
    let learned = again(&mut c, 2, &[News::PathMtus([(rip(3), 1400)].into())]);
    assert_eq!(learned.work, Work { services: 2, reals: 2 });
    let mtu = |compiled: &Compiled, id| compiled.snapshot.real(RealId(id)).unwrap().mtu;
    assert_eq!((mtu(&learned, 2), mtu(&learned, 5), mtu(&learned, 0)), (1400, 1400, 1500));
    let same = again(&mut c, 3, &[News::PathMtus([(rip(3), 1400)].into())]);
    assert_eq!(same.work, Work::default());
    let forgotten = again(&mut c, 4, &[News::PathMtus(Default::default())]);
    assert_eq!((mtu(&forgotten, 2), mtu(&forgotten, 5)), (1500, 1500));
}
