//! Questions about the flow table, a part at a time.

use dataplane::flow::State;
use dataplane::pipeline::{FlowMatch, FlowRecord, Query, QueryKind, SCAN_BUDGET};
use dataplane::stats::Event;
use dataplane::types::{AnyFlowKey, Protocol, Tuple};

use crate::director::{Director, spec};
use crate::packets::*;

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
