//! Clients that stay with their real server.

use std::net::{IpAddr, Ipv4Addr};

use dataplane::flow::State;
use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::pipeline::{FlowMatch, Query, QueryKind};
use dataplane::stats::Event;
use dataplane::types::{PuntReason, Tuple};

use crate::director::{Director, Verdict, spec};
use crate::packets::*;

const THREE: &str = "tcp 80 rr p=300: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr";

/// A segment from any address and L4 port.
fn segment(client: [u8; 4], sport: u16, flags: Flags) -> Vec<u8> {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv4(client.into(), VIP).tcp(sport, 80, flags, 1).finish()
}

fn open(director: &mut Director, client: [u8; 4], sport: u16) -> Ipv4Addr {
    director.real_of(&segment(client, sport, Flags::SYN))
}

/// The real servers of connections from other clients, so that the rotation has gone on.
fn others(director: &mut Director) {
    for n in 100..102 {
        director.real_of(&syn(n));
    }
}

const CLIENT: [u8; 4] = [198, 51, 100, 7];

#[test]
fn a_client_stays() {
    let mut director = Director::new(&[THREE]);
    let real = open(&mut director, CLIENT, 1000);
    for sport in 1001..1010 {
        assert_eq!(open(&mut director, CLIENT, sport), real);
    }
    assert_ne!(open(&mut director, [198, 51, 100, 8], 1000), real, "another client");
    assert_eq!(director.counts().event(Event::TemplatesCreated), 2);
    director.wait(1);
    assert_eq!(director.counts().event(Event::Templates), 2);
}

#[test]
fn a_netmask_makes_clients_one() {
    let service = THREE.replace("p=300", "p=300/255.255.255.0");
    let mut director = Director::new(&[&service]);
    let real = open(&mut director, CLIENT, 1000);
    for host in [0, 1, 8, 255] {
        assert_eq!(open(&mut director, [198, 51, 100, host], 1000), real);
    }
    assert_ne!(open(&mut director, [198, 51, 101, 7], 1000), real);
}

/// Ends a client's connection, so that the flow is gone eleven seconds later.
fn end(director: &mut Director, sport: u16) {
    director.receive(&[segment(CLIENT, sport, Flags::RST)]);
}

#[test]
fn the_timer_starts_again_with_each_connection() {
    let mut director = Director::new(&[THREE]);
    let real = open(&mut director, CLIENT, 1000);
    end(&mut director, 1000);
    for sport in 1001..1004 {
        director.wait(20_000);
        director.wait(279_000);
        assert_eq!(open(&mut director, CLIENT, sport), real);
        end(&mut director, sport);
    }
    director.wait(20_000);
    director.wait(280_000);
    assert_ne!(open(&mut director, CLIENT, 1010), real, "scheduled afresh");
}

#[test]
fn it_goes_on_while_connections_live() {
    let mut director = Director::new(&[THREE]);
    let real = open(&mut director, CLIENT, 1000);
    // Twenty minutes, with a packet every five.
    for _ in 0..4 {
        director.receive(&[segment(CLIENT, 1000, Flags::ACK)]);
        director.wait(300_000);
        others(&mut director);
    }
    assert_eq!(open(&mut director, CLIENT, 1001), real);
    end(&mut director, 1001);
    director.wait(310_000);
    director.receive(&[segment(CLIENT, 1000, Flags::ACK)]);
    // The last connection ends ten seconds into an extension of sixty.
    end(&mut director, 1000);
    director.wait(20_000);
    director.wait(29_000);
    assert!(is_listed(&mut director));
    director.wait(1_000);
    assert!(!is_listed(&mut director));
}

#[test]
fn a_real_server_of_weight_0_keeps_its_clients() {
    let mut director = Director::new(&[THREE]);
    let real = open(&mut director, CLIENT, 1000);
    let quiescent = THREE.replace(&format!("{real} dr"), &format!("{real} dr w=0"));
    director.services(&[&quiescent]);
    assert_eq!(open(&mut director, CLIENT, 1001), real);
    // Unless told otherwise: then the next connection moves, and those there are stay.
    let mut spec = spec(&[&quiescent]);
    spec.switches.expire_quiescent_template = true;
    director.configure(spec).unwrap();
    let moved = open(&mut director, CLIENT, 1002);
    assert_ne!(moved, real);
    assert_eq!(open(&mut director, CLIENT, 1003), moved);
    assert_eq!(director.real_of(&segment(CLIENT, 1000, Flags::ACK)), real);
}

#[test]
fn a_full_real_server_keeps_its_clients() {
    let mut director = Director::new(&["tcp 80 rr p=300: 10.0.0.1 dr x=2"]);
    for sport in 1000..1005 {
        open(&mut director, CLIENT, sport);
    }
    let other = director.verdict(&segment([198, 51, 100, 8], 1, Flags::SYN));
    assert_eq!(other, Verdict::Punted(PuntReason::NoRealServer));
}

#[test]
fn a_real_server_that_is_gone_loses_its_clients() {
    let mut director = Director::new(&[THREE]);
    let real = open(&mut director, CLIENT, 1000);
    let left = THREE.replace(&format!("{real} dr,"), "");
    director.services(&[&left]);
    let moved = open(&mut director, CLIENT, 1001);
    assert_ne!(moved, real);
    director.services(&[THREE]);
    assert_eq!(open(&mut director, CLIENT, 1002), moved);
    // The service is taken away, and its slot given to another: no template is left.
    director.services(&[]);
    director.services(&[]);
    director.services(&[&THREE.replace("tcp 80", "udp 53")]);
    assert!(director.templates.is_empty());
}

#[test]
fn without_persistence_there_are_no_templates() {
    let mut director = Director::new(&[&THREE.replace(" p=300", "")]);
    let first = open(&mut director, CLIENT, 1000);
    assert_ne!(open(&mut director, CLIENT, 1001), first);
    assert!(director.templates.is_empty());
    // It may come and go.
    director.services(&[THREE]);
    let real = open(&mut director, CLIENT, 1002);
    assert_eq!(open(&mut director, CLIENT, 1003), real);
    // With another netmask, templates begin anew: flows would not find those there are.
    director.services(&[&THREE.replace("p=300", "p=60")]);
    assert_eq!(director.templates.len(), 1);
    director.services(&[&THREE.replace("p=300", "p=60/255.255.255.0")]);
    assert!(director.templates.is_empty());
    open(&mut director, CLIENT, 1006);
    director.services(&[&THREE.replace(" p=300", "")]);
    assert!(director.templates.is_empty());
    assert_ne!(open(&mut director, CLIENT, 1004), open(&mut director, CLIENT, 1005));
}

#[test]
fn a_full_table_gives_up_what_would_end_first() {
    let mut director = Director::new(&[THREE]);
    for n in 0..17 {
        director.wait(10);
        director.real_of(&syn(n));
    }
    let counts = director.counts();
    assert_eq!(counts.event(Event::TemplatesCreated), 17);
    assert_eq!(counts.event(Event::TemplatesEvicted), 1);
    let clients: Vec<_> = listed(&mut director).into_iter().map(|(client, ..)| client).collect();
    assert!(!clients.contains(&client(0)) && clients.contains(&client(16)));
}

/// The states of the templates as listed, by client.
fn states(director: &mut Director) -> Vec<(Ipv4Addr, State)> {
    let mut cursor = Some(0);
    let mut found = vec![];
    while let Some(at) = cursor {
        let (wanted, rows) = (FlowMatch::default(), Vec::with_capacity(256));
        let query = Query { cursor: at, budget: 256, kind: QueryKind::List, wanted, rows };
        let reply = director.query(0, query);
        let templates = reply.query.rows.iter().filter(|row| row.template);
        found.extend(templates.map(|row| (v4(row.key.client()), row.state)));
        cursor = reply.next;
    }
    found.sort_by_key(|(client, _)| *client);
    found
}

#[test]
fn a_template_is_assured_once_a_client_has_confirmed_a_connection() {
    let other = [198, 51, 100, 8];
    let (one, two) = (Ipv4Addr::from(CLIENT), Ipv4Addr::from(other));
    let mut director = Director::new(&[THREE]);
    open(&mut director, CLIENT, 1000);
    open(&mut director, other, 1000);
    open(&mut director, CLIENT, 1001);
    director.receive(&[segment(other, 1000, Flags::FIN)]);
    assert_eq!(states(&mut director), [(one, State::Closed), (two, State::Closed)]);
    director.receive(&[segment(CLIENT, 1001, Flags::ACK)]);
    assert_eq!(states(&mut director), [(one, State::Established), (two, State::Closed)]);
    end(&mut director, 1001);
    end(&mut director, 1000);
    director.wait(60_000);
    assert_eq!(states(&mut director)[0], (one, State::Established), "for good");
    // A connection taken up in the middle is one.
    let mut spec = spec(&[THREE]);
    spec.switches.sloppy_tcp = true;
    director.configure(spec).unwrap();
    director.receive(&[segment([198, 51, 100, 9], 1000, Flags::ACK)]);
    assert_eq!(states(&mut director)[2].1, State::Established);
    // Nothing assures a client of UDP: replies do with LVS, and they come by another way.
    let mut director = Director::new(&["udp 53 rr p=300: 10.0.0.1 dr"]);
    director.receive(&[udp(1), udp(1)]);
    assert_eq!(states(&mut director), [(client(1), State::Closed)]);
}

#[test]
fn workers_share_templates() {
    let mut director = Director::with_workers(2, &[THREE]);
    for n in 0..9 {
        let host = [198, 51, 100, n];
        let at = |d: &mut Director, worker, sport| {
            d.receive_at(worker, &[segment(host, sport, Flags::SYN)]).verdict()
        };
        let first = at(&mut director, usize::from(n) % 2, 1000);
        assert_eq!(at(&mut director, usize::from(n + 1) % 2, 1001), first);
    }
    assert_eq!(director.templates.len(), 9);
}

#[test]
fn datagrams_scheduled_alone_stay_too() {
    let mut director = Director::new(&["udp 53 rr ops p=300: 10.0.0.1 dr, 10.0.0.2 dr"]);
    let real = director.real_of(&udp(1));
    assert_eq!(director.real_of(&udp(1)), real);
    assert_eq!(director.counts().event(Event::Flows), 0);
    assert_eq!(listed(&mut director).len(), 1);
}

/// The templates as listed: client network, its L4 port, real server's slot, time left.
fn listed(director: &mut Director) -> Vec<(Ipv4Addr, u16, usize, u32)> {
    let (mut found, mut cursor) = (vec![], 0);
    loop {
        let query = Query {
            cursor,
            budget: 256,
            kind: QueryKind::List,
            wanted: FlowMatch::default(),
            rows: Vec::with_capacity(256),
        };
        let reply = director.query(0, query);
        let rows = reply.query.rows.iter().filter(|row| row.template);
        found.extend(rows.map(|row| {
            (v4(row.key.client()), row.key.client_port(), row.real.index(), row.remaining_ms)
        }));
        match reply.next {
            Some(next) => cursor = next,
            None => return found,
        }
    }
}

fn v4(address: IpAddr) -> Ipv4Addr {
    if let IpAddr::V4(address) = address { address } else { panic!("{address}") }
}

/// Whether the client has a template.
fn is_listed(director: &mut Director) -> bool {
    let address = Ipv4Addr::from(CLIENT);
    listed(director).iter().any(|(client, ..)| *client == address)
}

#[test]
fn templates_are_listed_and_flushed() {
    let service = THREE.replace("p=300", "p=300/255.255.0.0");
    let mut director = Director::new(&[&service]);
    let real = open(&mut director, CLIENT, 1000);
    director.wait(1000);
    let slot = director.real_id(&real.to_string()).index();
    let wanted = (Ipv4Addr::new(198, 51, 0, 0), 0, slot, 299_000);
    assert_eq!(listed(&mut director), [wanted]);
    flush(&mut director, &FlowMatch::default());
    assert_eq!(listed(&mut director), []);
    assert_ne!(open(&mut director, CLIENT, 1001), real);
}

fn flush(director: &mut Director, wanted: &FlowMatch) {
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let (kind, wanted) = (QueryKind::Flush, wanted.clone());
        let rows = Vec::with_capacity(256);
        cursor = director.query(0, Query { cursor: at, budget: 256, kind, wanted, rows }).next;
    }
}

#[test]
fn a_flush_finds_the_template_that_binds_a_client() {
    let ip = |text: &str| -> Option<IpAddr> { Some(text.parse().unwrap()) };
    let all = FlowMatch::default;
    for (left, wanted) in [
        (0, FlowMatch { client: ip("198.51.100.7"), ..all() }),
        (0, FlowMatch { client: ip("198.51.100.99"), ..all() }),
        (0, FlowMatch { client: ip("198.51.100.0"), vip: Some(VIP.into()), ..all() }),
        (1, FlowMatch { client: ip("198.51.101.7"), ..all() }),
        (1, FlowMatch { client: ip("::ffff:198.51.100.7"), ..all() }),
        (0, FlowMatch { vip_port: Some(79), ..all() }),
        (0, FlowMatch { vip_port: Some(80), ..all() }),
        (0, FlowMatch { vip_port: Some(89), client: ip("198.51.100.1"), ..all() }),
        (1, FlowMatch { vip_port: Some(90), ..all() }),
        (1, FlowMatch { vip_port: Some(78), ..all() }),
        (1, FlowMatch { client_port: Some(1000), ..all() }),
    ] {
        let service = "tcp 79-89 rr p=300/255.255.255.0: 10.0.0.1 dr, 10.0.0.2 dr";
        let mut director = Director::new(&[service]);
        open(&mut director, CLIENT, 1000);
        flush(&mut director, &wanted);
        assert_eq!(listed(&mut director).len(), left, "{wanted:?}");
    }
    // All L4 ports, and no netmask.
    let mut director = Director::new(&[&THREE.replace("tcp 80", "tcp 0")]);
    open(&mut director, CLIENT, 1000);
    flush(&mut director, &FlowMatch { client: ip("198.51.100.8"), ..all() });
    assert!(is_listed(&mut director));
    flush(&mut director, &FlowMatch { vip_port: Some(443), client: ip("198.51.100.7"), ..all() });
    assert!(!is_listed(&mut director));
    // An L4 port that another virtual service has is not this one's.
    let one = THREE.replace("tcp 80", "tcp 443");
    let mut director = Director::new(&[&THREE.replace("tcp 80", "tcp 0"), &one]);
    open(&mut director, CLIENT, 1000);
    flush(&mut director, &FlowMatch { vip_port: Some(443), ..all() });
    assert!(is_listed(&mut director));
    flush(&mut director, &FlowMatch { vip_port: Some(444), ..all() });
    assert!(!is_listed(&mut director));
}
