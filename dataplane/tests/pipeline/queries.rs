//! Questions about the flow table, a part at a time.

use std::net::IpAddr;

use dataplane::flow::State;
use dataplane::pipeline::{FlowMatch, FlowRecord, Query, QueryKind, SCAN_BUDGET};
use dataplane::stats::Event;
use dataplane::types::{AnyFlowKey, Protocol, Tuple};

use crate::director::{Director, spec};
use crate::packets::*;
use crate::packets6::*;

const FLOWS: u16 = 700;

/// TCP clients 0..700 (every third one closing) on two real servers, UDP clients 0..10.
fn director() -> Director {
    let services = ["tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr", "udp 53 rr: 10.0.0.1 dr"];
    let mut director = Director::of(1, 2000, spec(&services));
    for n in 0..FLOWS {
        director.receive(&[syn(n), ack(n)]);
        if n % 3 == 0 {
            director.receive(&[fin(n)]);
        }
    }
    for n in 0..10 {
        director.receive(&[udp(n)]);
    }
    director
}

/// All pages with their sizes.
fn ask(d: &mut Director, kind: QueryKind, wanted: &FlowMatch) -> (Vec<FlowRecord>, usize) {
    let (mut all, mut pages) = (Vec::new(), 0);
    let mut cursor = Some(0);
    let mut rows = Vec::with_capacity(SCAN_BUDGET);
    while let Some(at) = cursor {
        let query = Query { cursor: at, budget: SCAN_BUDGET, kind, wanted: wanted.clone(), rows };
        let reply = d.query(0, query);
        d.check();
        all.extend_from_slice(&reply.query.rows);
        (rows, cursor) = (reply.query.rows, reply.next);
        assert!(rows.len() <= SCAN_BUDGET && rows.capacity() < 2 * SCAN_BUDGET);
        pages += 1;
    }
    (all, pages)
}

#[test]
fn a_listing_shows_each_flow_once() {
    let mut director = director();
    let (rows, pages) = ask(&mut director, QueryKind::List, &FlowMatch::default());
    assert_eq!(pages, 2000usize.div_ceil(SCAN_BUDGET));
    let mut keys: Vec<_> = rows.iter().map(|r| r.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((rows.len(), keys.len()), (710, 710));
    for row in &rows {
        let closing =
            row.key.protocol() == Protocol::Tcp && (row.key.client_port() - 20_000) % 3 == 0;
        let (state, remaining) = match row.key.protocol() {
            Protocol::Udp => (State::Udp, 300_000),
            Protocol::Tcp if closing => (State::Closing, 120_000),
            Protocol::Tcp => (State::Established, 900_000),
        };
        assert_eq!((row.state, row.remaining_ms), (state, remaining));
    }
    // What has expired is not shown, though not yet swept.
    director.now = director.now.after(120_000);
    let (rows, _) = ask(&mut director, QueryKind::List, &FlowMatch::default());
    assert_eq!(rows.len(), 710 - usize::from(FLOWS.div_ceil(3)));
}

#[test]
fn filters_narrow_a_listing_and_a_flush() {
    let first = director().real_id("10.0.0.1");
    let cases: [(FlowMatch, usize); 8] = [
        (FlowMatch { protocol: Some(Protocol::Udp), ..FlowMatch::default() }, 10),
        (FlowMatch { client: Some(client(5).into()), ..FlowMatch::default() }, 2),
        (FlowMatch { client_port: Some(port_of(20)), ..FlowMatch::default() }, 1),
        (FlowMatch { vip: Some(VIP.into()), ..FlowMatch::default() }, 710),
        (FlowMatch { vip: Some(WAN_DIP.into()), ..FlowMatch::default() }, 0),
        (FlowMatch { vip_port: Some(80), ..FlowMatch::default() }, 700),
        (FlowMatch { reals: Some(vec![first]), ..FlowMatch::default() }, 350),
        (FlowMatch { reals: Some(vec![]), ..FlowMatch::default() }, 0),
    ];
    for (wanted, count) in cases {
        let mut director = director();
        assert_eq!(ask(&mut director, QueryKind::List, &wanted).0.len(), count, "{wanted:?}");
        assert_eq!(director.workers[0].shard().len(), 710, "a listing changes nothing");
        assert_eq!(ask(&mut director, QueryKind::Flush, &wanted).0.len(), count);
        assert_eq!(director.counts().event(Event::FlowsFlushed), count as u64);
        assert_eq!(director.workers[0].shard().len(), 710 - count);
        assert_eq!(ask(&mut director, QueryKind::List, &wanted).0.len(), 0);
    }
}

/// All five parts of a key.
fn one(client: impl Into<IpAddr>, ports: (u16, u16), vip: impl Into<IpAddr>) -> FlowMatch {
    FlowMatch {
        protocol: Some(Protocol::Tcp),
        client: Some(client.into()),
        client_port: Some(ports.0),
        vip: Some(vip.into()),
        vip_port: Some(ports.1),
        reals: None,
    }
}

#[test]
fn a_question_about_one_key_is_one_look_whatever_the_table_holds() {
    let mut director = director();
    let wanted = one(client(5), (port_of(5), 80), VIP);
    let (rows, pages) = ask(&mut director, QueryKind::List, &wanted);
    assert_eq!((rows.len(), pages), (1, 1));
    assert_eq!(rows[0].key, AnyFlowKey::V4(key(5, Protocol::Tcp, 80)));
    // Of another real server, another L4 port, another VIP, another family.
    let other = director.real_id(if rows[0].real == director.real_id("10.0.0.1") {
        "10.0.0.2"
    } else {
        "10.0.0.1"
    });
    for nobody in [
        FlowMatch { reals: Some(vec![other]), ..wanted.clone() },
        one(client(5), (port_of(6), 80), VIP),
        one(client(5), (port_of(5), 80), WAN_DIP),
        one(client(5), (port_of(5), 80), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    ] {
        for kind in [QueryKind::List, QueryKind::Flush] {
            let (rows, pages) = ask(&mut director, kind, &nobody);
            assert_eq!((rows.len(), pages), (0, 1), "{nobody:?}");
        }
    }
    assert_eq!(director.workers[0].shard().len(), 710);
    assert_eq!(ask(&mut director, QueryKind::Flush, &wanted).0.len(), 1);
    assert_eq!(director.workers[0].shard().len(), 709);
    assert_eq!(director.counts().event(Event::FlowsFlushed), 1);
    assert_eq!(director.counts().event(Event::Flows), 709);
    assert_eq!(ask(&mut director, QueryKind::List, &wanted).0.len(), 0);
    // One that has expired and is not swept yet.
    let closing = one(client(6), (port_of(6), 80), VIP);
    director.now = director.now.after(120_000);
    assert_eq!(ask(&mut director, QueryKind::List, &closing).0.len(), 0);
}

#[test]
fn a_question_about_one_ipv6_key_is_one_look_too() {
    let mut director = Director::new(&["tcp6 80 rr: 2001:db8:a::1 dr"]);
    for n in 0..600 {
        director.receive(&[syn6(n)]);
    }
    let (all, _) = ask(&mut director, QueryKind::List, &FlowMatch::default());
    assert_eq!(all.len(), 600);
    let key = all[77].key;
    let wanted = one(key.client(), (key.client_port(), 80), key.vip());
    for (kind, left) in [(QueryKind::List, 600), (QueryKind::Flush, 599)] {
        let (rows, pages) = ask(&mut director, kind, &wanted);
        assert_eq!((rows.len(), pages), (1, 1));
        assert_eq!(rows[0].key, key);
        assert_eq!(director.workers[0].shard6().len(), left);
    }
}

/// L4 port 0, which no client has, is what a template is listed with.
#[test]
fn a_template_is_found_by_its_network() {
    let mut director = Director::new(&["tcp 80 rr p=300: 10.0.0.1 dr, 10.0.0.2 dr"]);
    for n in 0..50 {
        director.receive(&[syn(n)]);
    }
    let wanted = one(client(7), (0, 80), VIP);
    let (rows, pages) = ask(&mut director, QueryKind::List, &wanted);
    assert_eq!((rows.len(), pages), (1, 1));
    assert!(rows[0].template && rows[0].key.client() == IpAddr::from(client(7)));
    let listed = ask(&mut director, QueryKind::List, &FlowMatch::default()).0;
    let same = listed.iter().find(|row| row.template && row.key == rows[0].key).unwrap();
    assert_eq!(
        (same.real, same.remaining_ms, same.state),
        (rows[0].real, rows[0].remaining_ms, rows[0].state)
    );
    assert_eq!(ask(&mut director, QueryKind::Flush, &wanted).0.len(), 1);
    assert_eq!(ask(&mut director, QueryKind::List, &wanted).0.len(), 0);
}

#[test]
fn an_answer_looks_no_further_and_needs_no_more_memory_than_the_question_says() {
    let mut director = director();
    for (budget, room, most) in
        [(SCAN_BUDGET, 10, 10), (20, SCAN_BUDGET, 20), (usize::MAX, 1000, SCAN_BUDGET)]
    {
        let rows = Vec::with_capacity(room);
        let room = rows.capacity();
        let (kind, wanted) = (QueryKind::List, FlowMatch::default());
        let reply = director.query(0, Query { cursor: 0, budget, kind, wanted, rows });
        assert_eq!(reply.query.rows.capacity(), room);
        let next = reply.next.unwrap() as usize;
        let rows = reply.query.rows.len();
        assert!(rows > 0 && rows <= most.min(room), "{rows} rows");
        // Four cursors a place.
        assert!(next > 0 && next <= 4 * most.min(room), "{next}");
    }
}

#[test]
fn a_flow_that_lives_through_the_walk_is_shown_whatever_comes_and_goes() {
    let mut director = director();
    let mut seen = Vec::new();
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let rows = Vec::with_capacity(SCAN_BUDGET);
        let kind = QueryKind::List;
        let reply = director.query(
            0,
            Query { cursor: at, budget: SCAN_BUDGET, kind, wanted: FlowMatch::default(), rows },
        );
        seen.extend(reply.query.rows.iter().map(|r| r.key));
        cursor = reply.next;
        director.wait(10_000);
        director.receive(&(1000..1032).map(syn).collect::<Vec<_>>());
    }
    for n in (0..FLOWS).filter(|n| n % 3 != 0) {
        let one = AnyFlowKey::V4(key(n, Protocol::Tcp, 80));
        assert_eq!(seen.iter().filter(|k| **k == one).count(), 1);
    }
}
