//! Compilation: slots, limits, conflicts, ways, and a model for sequences of specs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::Local;
use super::compile::{CompileError, Compiled, Compiler, Limits, Work};
use super::learned::{Cause, Effect, News, RealName, Standing};
use super::neighbors::{Links, TunnelSpec};
use super::publish::Publisher;
use super::route::RouteError;
use super::spec::{Persistence, PortSpec, RealSpec, ServiceSpec, Spec, StaticNeighbor};
use crate::schedule::Thresholds;
use crate::types::{Mac, NeighborId, Netmask, PortId, Protocol, RealId, ServiceId, ServiceKey};
use crate::vocabulary::{ForwardMethod, SchedulerKind};

mod learned;
mod slots;

const LIMITS: Limits = Limits { services: 8, reals: 16, neighbors: 8 };

fn key(port: u16) -> ServiceKey {
    ServiceKey { protocol: Protocol::Tcp, vip: [192, 0, 2, 80].into(), ports: port.into() }
}

fn rip(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

/// A service on L4 port `port` with real servers `10.0.0.n` by `dr`.
fn service(port: u16, reals: &[u8]) -> ServiceSpec {
    let real = |n: &u8| RealSpec {
        address: rip(*n),
        weight: 1,
        method: ForwardMethod::Dr,
        gre: Default::default(),
        thresholds: Default::default(),
    };
    ServiceSpec {
        key: key(port),
        scheduler: SchedulerKind::Rr,
        options: Default::default(),
        reals: reals.iter().map(real).collect(),
    }
}

fn spec(services: Vec<ServiceSpec>) -> Spec {
    let port = |name: &str, mac, address: &str, gateway: &[&str]| PortSpec {
        name: name.into(),
        mac: Mac([2, 0, 0, 0, 0, mac]),
        mtu: 1500,
        addresses: vec![address.parse().unwrap()],
        gateways: gateway.iter().map(|g| g.parse().unwrap()).collect(),
    };
    Spec {
        ports: vec![
            port("wan", 1, "192.0.2.10/24", &["192.0.2.1", "192.0.2.2"]),
            port("lan", 2, "10.0.0.100/24", &[]),
        ],
        services: services.into_iter().map(Arc::new).collect(),
        maglev_size: 13,
        ..Spec::default()
    }
}

/// The `n`th virtual service, to be changed.
fn at(spec: &mut Spec, n: usize) -> &mut ServiceSpec {
    Arc::make_mut(&mut spec.services[n])
}

fn compiler() -> Compiler {
    Compiler::new(LIMITS)
}

fn compile(compiler: &mut Compiler, services: &[(u16, &[u8])]) -> Compiled {
    let services = services.iter().map(|(port, reals)| service(*port, reals)).collect();
    compiler.compile(&spec(services), 1, u64::MAX, |_| true).unwrap()
}

#[test]
fn a_change_compiles_what_it_touches() {
    let limits = Limits { services: 64, reals: 512, neighbors: 64 };
    let mut c = Compiler::new(limits);
    let mut services: Vec<_> = (0..50).map(|port| service(port, &[1, 2, 3, 4, 5, 6])).collect();
    let mut generation = 0;
    let mut change = |services: &[ServiceSpec], wanted: (usize, usize)| {
        generation += 1;
        let compiled = c.compile(&spec(services.to_vec()), generation, u64::MAX, |_| true).unwrap();
        let work = Work { services: wanted.0, reals: wanted.1 };
        assert_eq!(compiled.work, work, "generation {generation}");
        compiled.snapshot
    };
    let first = change(&services, (50, 300));
    let again = change(&services, (0, 0));
    assert!(Arc::ptr_eq(&first.links, &again.links));
    services[7].reals[2].weight = 9;
    let next = change(&services, (1, 1));
    assert!(Arc::ptr_eq(&first.links, &next.links), "nothing for the slow path to do");
    let kept = |port| {
        let of = |s: &super::Snapshot| {
            Arc::clone(&s.service(s.find(&key(port)).unwrap()).unwrap().reals)
        };
        Arc::ptr_eq(&of(&first), &of(&next))
    };
    assert!(kept(8) && !kept(7));
    services[7].reals.remove(0);
    change(&services, (1, 1));
    let first = services[8].reals[0].clone();
    services[7].reals.push(first);
    change(&services, (1, 1));
    services[7].reals.swap(0, 4);
    change(&services, (1, 5));
    services[9].scheduler = SchedulerKind::Wlc;
    let counted = change(&services, (1, 0)).counted;
    assert_eq!(counted.len(), 6, "all of its real servers");
    services.remove(9);
    assert!(change(&services, (1, 6)).counted.is_empty());
    services.push(service(99, &[7]));
    change(&services, (1, 1));
    services.reverse();
    change(&services, (0, 0));
}

#[test]
fn limits_are_named() {
    let full = |spec: &Spec| match compiler().compile(spec, 1, u64::MAX, |_| true) {
        Err(CompileError::Full { what, limit, key }) => (what, limit, key),
        other => panic!("{other:?}"),
    };
    let many: Vec<_> = (0..9).map(|port| service(port, &[])).collect();
    assert_eq!(full(&spec(many)), ("virtual services", 8, "dataplane.max_services"));
    let shared: Vec<_> = (0..3).map(|port| service(port, &[1, 2, 3, 4, 5, 6])).collect();
    assert_eq!(full(&spec(shared)), ("real servers", 16, "dataplane.max_real_servers"));
    let apart = spec(vec![service(80, &[1, 2, 3, 4, 5, 6, 7, 8, 9])]);
    assert_eq!(full(&apart), ("neighbors", 8, "dataplane.max_neighbors"));
    let just =
        spec(vec![service(80, &[1, 2, 3, 4, 5, 6, 7, 8]), service(81, &[1, 2, 3, 4, 5, 6, 7, 8])]);
    assert!(compiler().compile(&just, 1, u64::MAX, |_| true).is_ok());
}

#[test]
fn a_failed_compilation_changes_nothing() {
    let mut c = compiler();
    compile(&mut c, &[(80, &[1, 2]), (81, &[1])]);
    compile(&mut c, &[(80, &[1])]);
    let before = format!("{c:?}");
    let mut unreachable = service(82, &[1]);
    unreachable.reals[0].address = [10, 9, 9, 9].into();
    let mut heavy = service(82, &[1]);
    heavy.reals[0].weight = 65_536;
    for bad in [
        vec![service(79, &[7]), unreachable],
        vec![service(79, &[7]), heavy],
        vec![service(79, &[7, 7])],
        vec![service(79, &[7]), service(79, &[8])],
        (0..9).map(|port| service(port, &[])).collect(),
    ] {
        assert!(c.compile(&spec(bad), 2, u64::MAX, |_| true).is_err());
        assert_eq!(format!("{c:?}"), before);
    }
}

#[test]
fn conflicts_are_told() {
    let told = |spec: &Spec| match compiler().compile(spec, 1, u64::MAX, |_| true) {
        Err(CompileError::Conflict(text)) => text,
        other => panic!("{other:?}"),
    };
    let twice = told(&spec(vec![service(80, &[]), service(80, &[1])]));
    assert_eq!(twice, "virtual service tcp 192.0.2.80:80 is configured twice");
    let twice = told(&spec(vec![service(80, &[1, 2, 1])]));
    assert_eq!(
        twice,
        "virtual service tcp 192.0.2.80:80: real server 10.0.0.1 is configured twice"
    );
    let mut own = spec(vec![service(80, &[])]);
    own.ports[1].addresses.push("192.0.2.80/32".parse().unwrap());
    assert!(told(&own).contains("the VIP is also a port's own address"));
    let mut vip_as_real = spec(vec![service(80, &[1]), service(81, &[2])]);
    at(&mut vip_as_real, 0).key.vip = rip(2);
    assert!(told(&vip_as_real).contains("real server 10.0.0.2 is a VIP"));
    // The same L4 port of another protocol or VIP is another service.
    let mut three = vec![service(80, &[1]), service(80, &[1]), service(80, &[1])];
    three[1].key.protocol = Protocol::Udp;
    three[2].key.vip = [192, 0, 2, 81].into();
    assert!(compiler().compile(&spec(three), 1, u64::MAX, |_| true).is_ok());
}

#[test]
fn schedulers_are_checked_with_their_service_named() {
    let mut mh = service(80, &[1, 2]);
    mh.scheduler = SchedulerKind::Mh;
    let mut bad = spec(vec![mh]);
    bad.maglev_size = 10;
    let error = compiler().compile(&bad, 1, u64::MAX, |_| true).unwrap_err();
    assert!(matches!(error, CompileError::Schedule(k, _) if k == key(80)));
    assert!(error.to_string().starts_with("virtual service tcp 192.0.2.80:80: maglev_size 10"));
}

#[test]
fn a_scheduler_is_built_again_only_for_other_members_or_options() {
    let mut c = compiler();
    let mut mh = service(80, &[1, 2]);
    mh.scheduler = SchedulerKind::Mh;
    let mut spec = spec(vec![mh]);
    let mut built = |spec: &Spec| {
        let snapshot = c.compile(spec, 1, u64::MAX, |_| true).unwrap().snapshot;
        let id = snapshot.find_service([192, 0, 2, 80].into(), 80, Protocol::Tcp).unwrap();
        Arc::clone(&snapshot.service(id).unwrap().scheduler)
    };
    let mut last = built(&spec);
    at(&mut spec, 0).reals[1].method = ForwardMethod::Gre;
    spec.services.push(service(81, &[1]).into());
    assert!(Arc::ptr_eq(&last, &built(&spec)), "a method is no matter of the scheduler");
    let changes: [fn(&mut Spec); 6] = [
        |s| at(s, 0).reals[0].weight = 9,
        |s| at(s, 0).reals.swap(0, 1),
        |s| at(s, 0).reals.truncate(1),
        |s| at(s, 0).scheduler = SchedulerKind::Sh,
        |s| s.maglev_size = 17,
        |s| s.hash_key = [3; 16],
    ];
    for (i, change) in changes.into_iter().enumerate() {
        change(&mut spec);
        let next = built(&spec);
        assert!(!Arc::ptr_eq(&last, &next), "change {i}");
        assert_eq!(next.kind(), spec.services[0].scheduler);
        last = next;
    }
}

#[test]
fn each_real_server_has_its_way() {
    let mut far = service(80, &[1, 2]);
    far.reals[1].address = [198, 51, 100, 9].into();
    far.reals[1].method = ForwardMethod::Ipip;
    let compiled = compiler().compile(&spec(vec![far.clone()]), 1, u64::MAX, |_| true).unwrap();
    let links = &compiled.snapshot.links;
    let hop = |id: NeighborId| {
        let found = links.neighbors.iter().find(|n| n.id == id).unwrap();
        (found.port, found.address)
    };
    let near = compiled.snapshot.real(RealId(0)).unwrap();
    assert_eq!((near.port, near.src_mac), (PortId(1), Mac([2, 0, 0, 0, 0, 2])));
    assert_eq!(hop(near.neighbor), (PortId(1), rip(1)));
    assert!(near.tunnel.is_none());
    let real = compiled.snapshot.real(RealId(1)).unwrap();
    assert_eq!((real.port, real.src_mac), (PortId(0), Mac([2, 0, 0, 0, 0, 1])));
    assert_eq!(hop(real.neighbor), (PortId(0), [192, 0, 2, 1].into()), "the first gateway");
    far.reals[1].method = ForwardMethod::Dr;
    let error = compiler().compile(&spec(vec![far]), 1, u64::MAX, |_| true).unwrap_err();
    assert!(matches!(error, CompileError::Route(k, RouteError::NotOnLink(..)) if k == key(80)));
}

#[test]
fn a_learned_path_mtu_is_gone_by_within_bounds() {
    let far = |n: u8| IpAddr::from([198, 51, 100, n]);
    let mut spec = spec(vec![service(80, &[1, 2, 3]), service(81, &[1])]);
    for (n, method) in [(1, ForwardMethod::Ipip), (2, ForwardMethod::Gre)] {
        at(&mut spec, 0).reals[n].address = far(n as u8);
        at(&mut spec, 0).reals[n].method = method;
    }
    spec.ports[0].addresses.push("2001:db8:2::10/64".parse().unwrap());
    spec.ports[0].gateways.push("2001:db8:2::1".parse().unwrap());
    let rip6: IpAddr = "2001:db8:9::9".parse().unwrap();
    let far6 = RealSpec { address: rip6, ..spec.services[0].reals[1].clone() };
    at(&mut spec, 1).key.vip = "2001:db8:80::80".parse().unwrap();
    at(&mut spec, 1).reals = vec![far6];
    let mut compiler = compiler();
    let mut compile = |learned: &[(IpAddr, u16)]| {
        compiler.learn(&[News::PathMtus(learned.iter().copied().collect())]);
        let snapshot = compiler.compile(&spec, 1, u64::MAX, |_| true).unwrap().snapshot;
        let ids = (0..4).map(RealId);
        // A way of the short way through the pipeline, which is not for IPv6, knows it too.
        let limits: Vec<_> = ids.clone().map(|r| snapshot.adjacency(r).unwrap().limit).collect();
        (ids.map(|r| snapshot.real(r).unwrap().mtu).collect::<Vec<_>>(), limits)
    };
    let plain = (vec![1500; 4], vec![1500, 1480, 1476, 0]);
    assert_eq!(compile(&[]), plain);
    // By `dr`, and of strangers, nothing is learned.
    assert_eq!(compile(&[(rip(1), 1400), (far(9), 1400)]), plain);
    let learned = compile(&[(far(1), 1400), (far(2), 576), (rip6, 1400)]);
    assert_eq!(learned, (vec![1500, 1400, 576, 1400], vec![1500, 1380, 552, 0]));
    // Never more than the port sends, nor less than IPv6 in IPv6 needs: 1280 bytes and 40.
    let learned = compile(&[(far(1), 9000), (rip6, 1300)]);
    assert_eq!(learned.0, [1500, 1500, 1500, 1320]);
    assert_eq!(compile(&[]), plain, "forgotten");
}

#[test]
fn persistence_is_compiled() {
    let mut services = vec![service(80, &[1, 2]), service(81, &[1])];
    let netmask = Netmask::V4([255, 255, 255, 0].into());
    let timeout = std::time::Duration::from_secs(300);
    services[0].options.persistence = Some(Persistence { timeout, netmask });
    services[0].reals[1].weight = 0;
    let mut spec = spec(services);
    spec.switches.expire_quiescent_template = true;
    let mut compiler = compiler();
    let snapshot = compiler.compile(&spec, 1, u64::MAX, |_| true).unwrap().snapshot;
    let service = |port| snapshot.service(compiler.service_id(&key(port)).unwrap()).unwrap();
    let wanted = super::Persistence { span: 300_000, netmask, expire_quiescent: true };
    assert_eq!((service(80).persistence, service(81).persistence), (Some(wanted), None));
    let quiescent = |n: usize| snapshot.real(service(80).reals[n]).unwrap().quiescent;
    assert_eq!((quiescent(0), quiescent(1)), (false, true));
}

#[test]
fn slots_that_follow_one_another_are_told() {
    let mut c = compiler();
    let mut first = |reals: &[u8]| {
        let compiled = compile(&mut c, &[(80, reals)]);
        compiled.snapshot.service(ServiceId(0)).unwrap().first
    };
    assert_eq!(first(&[1, 2, 3]), Some(RealId(0)));
    assert_eq!(first(&[2, 3]), Some(RealId(1)));
    assert_eq!(first(&[3, 2]), None);
    assert_eq!(first(&[2, 3, 4]), None, "slot 0 is used again");
    assert_eq!(first(&[4, 2, 3]), Some(RealId(0)));
    assert_eq!(first(&[]), None);
}

#[test]
fn real_servers_with_thresholds_are_counted_whatever_the_scheduler() {
    let mut services = vec![service(80, &[1, 2]), service(81, &[1, 2])];
    let thresholds = Thresholds { upper: 9, lower: 3 };
    services[1].reals[1].thresholds = thresholds;
    let snapshot = compiler().compile(&spec(services), 1, u64::MAX, |_| true).unwrap().snapshot;
    let none = Thresholds::default();
    assert_eq!(*snapshot.counted, [(RealId(2), none), (RealId(3), thresholds)]);
    assert!(snapshot.service(ServiceId(0)).unwrap().thresholds.is_empty());
    assert_eq!(*snapshot.service(ServiceId(1)).unwrap().thresholds, [none, thresholds]);
}

#[test]
fn neighbors_are_shared_and_static_ones_kept() {
    let mut services = vec![service(80, &[1, 2]), service(81, &[1, 2])];
    for (n, service) in (9u8..).zip(&mut services) {
        service.reals.push(RealSpec {
            address: [198, 51, 100, n].into(),
            method: ForwardMethod::Ipip,
            ..service.reals[0].clone()
        });
    }
    let mut spec = spec(services);
    let fixed = |port: &str, n| StaticNeighbor {
        port: port.into(),
        address: rip(n),
        mac: Mac([2, 2, 2, 2, 2, n]),
    };
    // One that is needed, one that is not, one of a port that is not there.
    spec.neighbors = vec![fixed("lan", 2), fixed("lan", 50), fixed("dmz", 3)];
    let mut c = compiler();
    let compiled = c.compile(&spec, 1, u64::MAX, |_| true).unwrap();
    let neighbors = &compiled.snapshot.links.neighbors;
    let seen: Vec<_> = neighbors.iter().map(|n| (n.port.0, n.address, n.fixed)).collect();
    assert_eq!(
        seen,
        [
            (0, [192, 0, 2, 1].into(), None),
            (1, rip(1), None),
            (1, rip(2), Some(Mac([2, 2, 2, 2, 2, 2]))),
            (1, rip(50), Some(Mac([2, 2, 2, 2, 2, 50]))),
        ]
    );
    let ids: BTreeSet<_> = neighbors.iter().map(|n| n.id).collect();
    assert_eq!(ids.len(), 4);
    // They keep their slots, and a new one gets none that was in use a moment ago.
    let kept = neighbors.iter().find(|n| n.address == rip(2)).unwrap().id;
    spec.services = vec![service(80, &[2, 3]).into()];
    let next = c.compile(&spec, 2, u64::MAX, |_| true).unwrap();
    let find = |n| next.snapshot.links.neighbors.iter().find(|x| x.address == rip(n)).unwrap().id;
    assert_eq!(find(2), kept);
    assert!(!ids.contains(&find(3)));
}

#[test]
fn the_slow_path_gets_its_lists() {
    let mut services = vec![service(80, &[3, 1]), service(81, &[2]), service(82, &[1])];
    services[0].scheduler = SchedulerKind::Wlc;
    services[2].scheduler = SchedulerKind::Lc;
    services[1].key.vip = [192, 0, 2, 7].into();
    let snapshot = compiler().compile(&spec(services), 1, u64::MAX, |_| true).unwrap().snapshot;
    assert_eq!(snapshot.links.vips, [[192, 0, 2, 7], [192, 0, 2, 80]].map(IpAddr::from));
    assert_eq!(snapshot.links.ports.len(), 2);
    assert_eq!(*snapshot.counted, [0, 1, 3].map(|n| (RealId(n), Thresholds::default())));
    assert_eq!(snapshot.local([192, 0, 2, 7].into()), Some(Local::Vip));
    assert_eq!(snapshot.local([10, 0, 0, 100].into()), Some(Local::Dip(PortId(1))));
    assert_eq!(snapshot.local([10, 0, 0, 1].into()), None);
    assert_eq!(snapshot.reals_at(rip(1)).collect::<Vec<_>>(), [1, 3].map(RealId));
}

#[test]
fn the_slow_path_gets_each_tunnel_once() {
    let mut services = vec![service(80, &[3, 1]), service(81, &[3, 2]), service(82, &[3])];
    services[0].reals[0].method = ForwardMethod::Ipip;
    services[1].reals[0].method = ForwardMethod::Ipip;
    services[1].reals[1].address = [198, 51, 100, 9].into();
    services[1].reals[1].method = ForwardMethod::Gre;
    services[2].reals[0].method = ForwardMethod::Gre;
    let snapshot = compiler().compile(&spec(services), 1, u64::MAX, |_| true).unwrap().snapshot;
    let tunnel = |real: IpAddr, dip: [u8; 4], gre| TunnelSpec { real, dip: dip.into(), gre };
    let far = [198, 51, 100, 9].into();
    let all = [
        tunnel(rip(3), [10, 0, 0, 100], false),
        tunnel(rip(3), [10, 0, 0, 100], true),
        tunnel(far, [192, 0, 2, 10], true),
    ];
    assert_eq!(snapshot.links.tunnels, all);
}

/// Specs of few services and real servers, so that they come and go.
fn any_spec() -> impl Strategy<Value = Spec> {
    let real = (any::<bool>(), 0..3u32);
    let one = |port: u16| {
        let scheduler = select(SchedulerKind::ALL);
        let which = subsequence((1..=8u8).collect::<Vec<_>>(), 0..=8);
        let options = proptest::collection::vec(real.clone(), 8);
        (scheduler, which, options).prop_map(move |(scheduler, which, options)| {
            let mut service = service(port, &which);
            service.scheduler = scheduler;
            for (real, (tunnel, weight)) in service.reals.iter_mut().zip(options) {
                real.method = if tunnel { ForwardMethod::Ipip } else { ForwardMethod::Dr };
                real.weight = weight;
            }
            service
        })
    };
    let all = (one(80), one(81), one(82)).prop_map(|(a, b, c)| vec![a, b, c]);
    (all, subsequence(vec![0usize, 1, 2], 0..=3)).prop_map(|(all, which)| {
        spec(
            all.into_iter()
                .enumerate()
                .filter(|(i, _)| which.contains(i))
                .map(|(_, s)| s)
                .collect(),
        )
    })
}

/// News of some of them, and of strangers.
fn any_news() -> impl Strategy<Value = Vec<News>> {
    let standing = select(&[Standing::Up, Standing::Draining, Standing::Removed][..]);
    let effect = (standing, proptest::option::of(0..3u32))
        .prop_map(|(standing, weight)| Effect { standing, weight });
    let real = (80..84u16, 1..=9u8, effect).prop_map(|(port, n, effect)| {
        let name = RealName { service: key(port), real: rip(n) };
        News::Real { name, cause: Cause::Health, effect }
    });
    let path_mtus = proptest::collection::btree_map((1..=9u8).prop_map(rip), 1300..1500u16, 0..4)
        .prop_map(News::PathMtus);
    proptest::collection::vec(prop_oneof![4 => real, 1 => path_mtus], 0..4)
}

proptest! {
    #[test]
    fn sequences_of_specs_keep_the_promises(
        steps in proptest::collection::vec((any_spec(), any::<u16>(), any_news()), 1..20),
    ) {
        let limits = Limits { services: 6, reals: 30, neighbors: 16 };
        let mut c = Compiler::new(limits);
        // What each slot stood for last, and what stood where in the snapshot before.
        let mut tenants: BTreeMap<RealId, (ServiceKey, IpAddr)> = BTreeMap::new();
        let mut before: BTreeMap<(ServiceKey, IpAddr), RealId> = BTreeMap::new();
        // Given up earlier, and found unused since: no new flow can name them.
        let mut released: BTreeSet<RealId> = BTreeSet::new();
        for (step, (spec, used, news)) in steps.iter().enumerate() {
            c.learn(news);
            // Flows name some slots.
            let unused = |real: RealId| used >> (real.0 % 16) & 1 == 0;
            let compiled = match c.compile(spec, step as u64, u64::MAX, unused) {
                Ok(compiled) => compiled,
                Err(CompileError::Full { .. }) => continue,
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            let snapshot = &compiled.snapshot;
            let was_there = |id: &RealId| before.values().any(|old| old == id);
            released.extend(tenants.keys().filter(|id| !was_there(id) && unused(**id)));
            let mut now = BTreeMap::new();
            for service in &spec.services {
                let key = service.key;
                let id = snapshot.find(&key);
                prop_assert_eq!(id, c.service_id(&key));
                let compiled_service = snapshot.service(id.unwrap()).unwrap();
                prop_assert_eq!(compiled_service.key, key);
                prop_assert_eq!(compiled_service.scheduler.kind(), service.scheduler);
                prop_assert_eq!(compiled_service.reals.len(), service.reals.len());
                for (id, want) in compiled_service.reals.iter().zip(&service.reals) {
                    let real = snapshot.configured(*id).unwrap();
                    prop_assert_eq!((real.address, real.method), (want.address, want.method));
                    prop_assert_eq!(real.tunnel.is_some(), want.method != ForwardMethod::Dr);
                    let hop = snapshot.links.neighbors.iter().find(|n| n.id == real.neighbor);
                    prop_assert_eq!(hop.unwrap().address, want.address);
                    prop_assert!(now.insert((key, want.address), *id).is_none());
                }
            }
            prop_assert_eq!(now.values().collect::<BTreeSet<_>>().len(), now.len(), "own slots");
            for (what, id) in &now {
                let is_new = compiled.new_reals.contains(id);
                match before.get(what) {
                    Some(old) => prop_assert!(old == id && !is_new),
                    None => {
                        prop_assert!(is_new);
                        prop_assert!(!tenants.contains_key(id) || released.remove(id));
                    }
                }
                tenants.insert(*id, *what);
            }
            // All that is kept from one to the next is as if compiled afresh.
            let mut fresh = Compiler::new(limits);
            fresh.compile(spec, 0, u64::MAX, |_| true).unwrap();
            let learned: Vec<_> = now
                .keys()
                .map(|(service, real)| {
                    let name = RealName { service: *service, real: *real };
                    News::Real { name, cause: Cause::Health, effect: c.learned(&name) }
                })
                .collect();
            fresh.learn(&learned);
            fresh.learn(&[News::PathMtus(c.path_mtus().clone())]);
            let fresh_snapshot = fresh.compile(spec, 1, u64::MAX, |_| true).unwrap().snapshot;
            let (links, fresh_links) = (&snapshot.links, &fresh_snapshot.links);
            prop_assert_eq!(&links.ports, &fresh_links.ports);
            prop_assert_eq!(&links.vips, &fresh_links.vips);
            prop_assert_eq!(&links.tunnels, &fresh_links.tunnels);
            let hops = |links: &Links| -> Vec<_> {
                links.neighbors.iter().map(|n| (n.port, n.address, n.fixed)).collect()
            };
            prop_assert_eq!(hops(links), hops(fresh_links));
            let slots: BTreeSet<_> = links.neighbors.iter().map(|n| n.id).collect();
            prop_assert_eq!(slots.len(), links.neighbors.len(), "own slots");
            for ((key, address), id) in &now {
                let other = fresh.real_id(key, *address).unwrap();
                let (way, fresh_way) = (
                    snapshot.adjacency_of_configured(*id).unwrap(),
                    fresh_snapshot.adjacency_of_configured(other).unwrap(),
                );
                prop_assert_eq!(way.rewrite, fresh_way.rewrite);
                prop_assert_eq!((way.port, way.limit), (fresh_way.port, fresh_way.limit));
                let real = snapshot.configured(*id).unwrap();
                prop_assert_eq!(way.neighbor, real.neighbor);
                let fresh_real = fresh_snapshot.configured(other).unwrap();
                prop_assert_eq!((real.quiescent, real.mtu), (fresh_real.quiescent, fresh_real.mtu));
                let name = RealName { service: *key, real: *address };
                let is_removed = c.learned(&name).standing == Standing::Removed;
                prop_assert_eq!(snapshot.removed(*id).is_some(), is_removed);
                prop_assert_eq!(fresh_snapshot.removed(other).is_some(), is_removed);
                let IpAddr::V4(vip) = key.vip else { continue };
                let found = snapshot.find_service(vip, key.ports.first(), key.protocol);
                prop_assert_eq!(found, c.service_id(key));
                prop_assert_eq!(Some(real.service), found);
                prop_assert_eq!(snapshot.local(vip), Some(Local::Vip));
            }
            let departed: BTreeSet<_> = compiled.departed.iter().map(|(_, id)| *id).collect();
            let left: BTreeSet<_> =
                before.values().filter(|id| !now.values().any(|n| n == *id)).copied().collect();
            prop_assert_eq!(departed, left);
            for slot in (0..limits.reals).map(RealId) {
                prop_assert_eq!(snapshot.adjacency(slot).is_some(), snapshot.real(slot).is_some());
            }
            let again = c.clone().compile(spec, step as u64, u64::MAX, unused).unwrap();
            prop_assert_eq!(again.work, Work::default());
            let gone = |id: &RealId| !now.values().any(|n| n == id);
            prop_assert!(tenants.keys().filter(|id| gone(id)).all(|id| snapshot.real(*id).is_none()));
            let counted: Vec<_> = now
                .iter()
                .filter(|((key, _), _)| {
                    let service = spec.services.iter().find(|s| s.key == *key).unwrap();
                    service.scheduler.counts_connections()
                })
                .map(|(_, id)| *id)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let summed: Vec<_> = snapshot.counted.iter().map(|(real, _)| *real).collect();
            prop_assert_eq!(summed, counted);
            before = now;
        }
    }
}
