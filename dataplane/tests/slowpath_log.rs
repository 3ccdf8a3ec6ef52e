//! What is logged of static neighbors: one line for all. One test, for a process has one logger.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod slowpath_common;

use std::sync::Mutex;

use dataplane::snapshot::neighbors::{Links, NeighborSpec};
use dataplane::types::{Mac, NeighborId};
use slowpath_common::*;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn logged() -> Vec<String> {
    std::mem::take(&mut LINES.lock().unwrap())
}

/// `count` neighbors of the lan port.
fn many(count: u8, fixed: Option<Mac>) -> Links {
    let spec = |n: u8| NeighborSpec {
        id: NeighborId(n.into()),
        address: std::net::Ipv4Addr::new(192, 168, 0, n + 20).into(),
        fixed,
        ..neighbor(0)
    };
    Links { neighbors: (0..count).map(spec).collect(), vips: vec![], ..links(0) }
}

#[test]
fn all_static_neighbors_have_one_line_together() {
    log::set_logger(&Keep).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut bench = Bench::empty();
    bench.configure(&many(60, Some(Mac([2, 0, 0, 0, 9, 9]))));
    assert_eq!(logged(), ["static neighbors: 60 new or changed"]);
    // Nothing is new.
    bench.configure(&many(60, Some(Mac([2, 0, 0, 0, 9, 9]))));
    assert_eq!(logged(), [""; 0]);
    bench.configure(&many(60, Some(Mac([2, 0, 0, 0, 9, 8]))));
    assert_eq!(logged(), ["static neighbors: 60 new or changed"]);
}
