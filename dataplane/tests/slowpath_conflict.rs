//! What the log says of stations that use the director's addresses.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod slowpath_common;

use std::cell::RefCell;

use dataplane::packet::arp::Packet;
use dataplane::packet::ndp::Message;
use dataplane::types::Mac;
use log::{Log, Metadata, Record};
use slowpath_common::six::*;
use slowpath_common::*;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the warnings of each thread.
struct Kept;

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        if record.level() == log::Level::Warn {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }
    fn flush(&self) {}
}

/// The warnings while `act` runs.
fn warnings(act: impl FnOnce()) -> Vec<String> {
    let _ = log::set_logger(&Kept);
    log::set_max_level(log::LevelFilter::Warn);
    LINES.take();
    act();
    LINES.take()
}

const STRANGER: Mac = Mac([2, 0, 0, 0, 7, 7]);

#[test]
fn a_second_director_is_not_called_a_real_server() {
    let mut bench = Bench::with(2);
    // What the other director of the pair sends: an announcement, and an answer to a client.
    let said = warnings(|| {
        bench.arp(LAN, Mac::BROADCAST, &Packet::announcement(STRANGER, VIP));
        let asked = Packet::request(ROUTER, CIP, VIP);
        bench.arp(WAN, WAN_MAC, &asked.reply(STRANGER));
    });
    assert_eq!(said.len(), 2, "{said:?}");
    for line in &said {
        assert!(line.starts_with("another station, 02:00:00:00:07:07 on port"), "{line}");
        assert!(line.contains("a second director with the same virtual service"), "{line}");
        assert!(!line.contains("a real server must not"), "{line}");
    }
}

#[test]
fn a_real_server_is_called_by_its_name() {
    let mut bench = Bench::with(2);
    let said = warnings(|| {
        bench.arp(LAN, LAN_MAC, &Packet::announcement(real_mac(1), VIP));
    });
    let address = rip(1);
    assert!(said[0].starts_with(&format!("real server {address} ({})", real_mac(1))), "{said:?}");
    assert!(said[0].contains("it must not; set arp_ignore = 1"), "{said:?}");
    // Its Ethernet address on another port is somebody else's.
    let said = warnings(|| bench.arp(WAN, WAN_MAC, &Packet::announcement(real_mac(1), VIP)));
    assert!(said[0].starts_with("another station"), "{said:?}");
}

#[test]
fn so_it_is_over_ipv6() {
    let mut bench = Bench::with6(2);
    let said = warnings(|| {
        bench.ndp(LAN, STRANGER, Mac::ZERO, &Message::announcement(STRANGER, VIP6, VIP6));
        let real = Message::announcement(real_mac(1), FAR_VIP6, FAR_VIP6);
        bench.ndp(LAN, real_mac(1), Mac::ZERO, &real);
    });
    assert!(said[0].starts_with("another station, 02:00:00:00:07:07"), "{said:?}");
    assert!(said[1].starts_with("real server "), "{said:?}");
    assert!(said[1].contains("give it the VIP on lo only"), "{said:?}");
}

#[test]
fn the_log_is_not_filled() {
    let mut bench = Bench::empty();
    let mut many = links(0);
    many.vips = (0..1000u32).map(|n| std::net::Ipv4Addr::from(0xc633_6400 + n).into()).collect();
    bench.configure(&many);
    let said = warnings(|| {
        for round in 0..50 {
            for vip in &many.vips {
                let std::net::IpAddr::V4(vip) = *vip else { continue };
                bench.arp(LAN, Mac::BROADCAST, &Packet::announcement(STRANGER, vip));
            }
            bench.now += 1000 * (round % 2);
        }
    });
    assert!((10..=40).contains(&said.len()), "{}", said.len());
}
