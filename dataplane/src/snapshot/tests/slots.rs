//! Which slot is whose, and when it is given away.

use super::*;

#[test]
fn what_stays_keeps_its_slot() {
    let mut c = compiler();
    let first = compile(&mut c, &[(80, &[1, 2]), (81, &[2, 3])]);
    assert_eq!(first.new_services, [ServiceId(0), ServiceId(1)]);
    assert_eq!(first.new_reals, [0, 1, 2, 3].map(RealId));
    let (s81, r2, r3) =
        (c.service_id(&key(81)), c.real_id(&key(81), rip(2)), c.real_id(&key(81), rip(3)));
    for services in
        [&[(81, &[2, 3][..])][..], &[(81, &[3, 4, 2]), (79, &[9])], &[(70, &[]), (81, &[3, 2])]]
    {
        let next = compile(&mut c, services);
        assert_eq!((c.service_id(&key(81)), c.real_id(&key(81), rip(2))), (s81, r2));
        assert_eq!(c.real_id(&key(81), rip(3)), r3);
        assert!(!next.new_reals.contains(&r2.unwrap()));
        assert!(!next.new_services.contains(&s81.unwrap()));
        let service = next.snapshot.service(s81.unwrap()).unwrap();
        let order: Vec<_> =
            service.reals.iter().map(|r| next.snapshot.real(*r).unwrap().address).collect();
        let wanted = services.iter().find(|s| s.0 == 81).unwrap().1.iter().map(|n| rip(*n));
        assert_eq!(order, wanted.collect::<Vec<_>>(), "as the scheduler's members");
    }
    assert_eq!(c.service_id(&key(80)), None);
    assert_eq!(c.real_id(&key(80), rip(2)), None);
}

#[test]
fn everything_else_about_a_real_server_may_change() {
    let mut c = compiler();
    compile(&mut c, &[(80, &[1])]);
    let mut other = service(80, &[1]);
    other.scheduler = SchedulerKind::Mh;
    other.reals[0].method = ForwardMethod::Gre;
    other.reals[0].weight = 7;
    other.reals[0].gre.key = Some(5);
    let next = c.compile(&spec(vec![other]), 2, u64::MAX, |_| false).unwrap();
    assert!(next.new_reals.is_empty() && next.new_services.is_empty());
    let real = next.snapshot.real(RealId(0)).unwrap();
    assert_eq!((real.method, real.tunnel.unwrap().overhead()), (ForwardMethod::Gre, 28));
    assert_eq!(next.snapshot.generation, 2);
}

#[test]
fn a_slot_is_reused_only_when_unused_and_never_at_once() {
    let mut c = compiler();
    compile(&mut c, &[(80, &[1])]);
    // Replaced in one go: workers may still go by the old snapshot.
    compile(&mut c, &[(80, &[2])]);
    assert_eq!(c.real_id(&key(80), rip(2)), Some(RealId(1)));
    // While flows name slot 0 it is given to nobody, not even to the same RIP.
    for n in [3, 1] {
        let two = spec(vec![service(80, &[2, n])]);
        let next = c.compile(&two, 1, u64::MAX, |real| real != RealId(0)).unwrap();
        assert_ne!(c.real_id(&key(80), rip(n)), Some(RealId(0)));
        assert!(next.snapshot.real(RealId(0)).is_none());
    }
    let next = compile(&mut c, &[(80, &[2, 1, 5, 6])]);
    let ids: BTreeSet<_> = [2, 1, 5, 6].map(|n| c.real_id(&key(80), rip(n)).unwrap()).into();
    assert!(ids.contains(&RealId(0)));
    assert_eq!(ids.len(), 4);
    assert!(next.new_reals.contains(&RealId(0)), "its counters start anew");
}

#[test]
fn a_slot_is_reused_only_when_everybody_has_acknowledged_its_loss() {
    let mut c = compiler();
    let first = Arc::new(compile(&mut c, &[(80, &[1])]).snapshot);
    let (publisher, mut readers) = Publisher::new(2, 1, &first);
    let mut late = readers.pop().unwrap();
    let mut publish = |c: &mut Compiler, generation, reals: &[u8]| {
        let spec = spec(vec![service(80, reals)]);
        let compiled = c.compile(&spec, generation, publisher.acknowledged(), |_| true).unwrap();
        let (service, neighbors) =
            (c.service_id(&key(80)), compiled.snapshot.links.neighbors.clone());
        let snapshot = Arc::new(compiled.snapshot);
        let _ = publisher.publish(generation, &snapshot, std::time::Duration::ZERO);
        readers[0].refresh();
        let reals: Vec<_> = reals.iter().map(|n| c.real_id(&key(80), rip(*n)).unwrap()).collect();
        (service, reals, neighbors.iter().map(|n| n.id).collect::<Vec<_>>())
    };
    // The late one forwards by the first snapshot: nothing of that is given away.
    for (generation, reals) in [(2, &[2][..]), (3, &[2, 3]), (4, &[2, 3, 4])] {
        let (_, slots, neighbors) = publish(&mut c, generation, reals);
        assert!(!slots.contains(&RealId(0)), "generation {generation}: {slots:?}");
        assert!(!neighbors.contains(&NeighborId(0)), "generation {generation}");
    }
    assert!(late.refresh());
    let (_, slots, neighbors) = publish(&mut c, 5, &[2, 3, 4, 5]);
    assert!(slots.contains(&RealId(0)) && neighbors.contains(&NeighborId(0)));
}

#[test]
fn a_service_slot_is_reused_only_when_everybody_has_acknowledged_its_loss() {
    let mut c = compiler();
    compile(&mut c, &[(80, &[]), (81, &[])]);
    let mut of = |generation, acknowledged, ports: &[u16]| {
        let services = ports.iter().map(|port| service(*port, &[])).collect();
        c.compile(&spec(services), generation, acknowledged, |_| true).unwrap();
        ports.iter().map(|port| c.service_id(&key(*port)).unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(of(2, 1, &[81]), [1]);
    assert_eq!(of(3, 1, &[81, 82]), [1, 2], "generation 1 has slot 0 for another");
    assert_eq!(of(4, 2, &[81, 82, 83]), [1, 2, 0]);
}

#[test]
fn a_name_is_of_a_real_server_and_not_of_its_slot() {
    let mut c = compiler();
    let mut at = |generation, reals: &[u8]| {
        let spec = spec(vec![service(80, reals)]);
        c.compile(&spec, generation, u64::MAX, |_| true).unwrap().snapshot
    };
    let name = at(1, &[1]).name(RealId(0));
    assert!(at(2, &[1, 2]).real_named(name).is_some());
    assert!(at(3, &[2]).real_named(name).is_none());
    let next = at(4, &[2, 3]);
    assert_eq!(next.real(RealId(0)).map(|real| real.address), Some(rip(3)));
    assert!(next.real_named(name).is_none(), "another has its slot");
    assert!(next.real_named(next.name(RealId(0))).is_some());
}
