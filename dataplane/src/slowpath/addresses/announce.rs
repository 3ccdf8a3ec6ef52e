//! Telling everyone which addresses are ours: gratuitous ARP, or an unsolicited neighbor
//! advertisement, when an address or a link is new, and when another station claims one.
//!
//! # RFCs
//! RFC 5227 2.3 announces twice, two seconds apart; three times, one second apart, is told as fast
//! and survives one more loss. RFC 5227 2.4 (c), for hosts that must keep their address: defend
//! it, but no more often than once in DEFEND_INTERVAL. RFC 4861 7.2.6 allows as many
//! (MAX_NEIGHBOR_ADVERTISEMENT), RETRANS_TIMER apart, to all nodes. The advertisement's source is
//! the address itself: a real server may not know any other of the director's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::conflict::{Conflict, Station, Warnings};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::{arp, ndp};
use crate::slowpath::limit::{Gate, Pace};
use crate::slowpath::output::Context;
use crate::slowpath::timers::Timers;
use crate::types::{Mac, Millis, PortId};

/// How often an address is announced.
const ANNOUNCE_NUM: u8 = 3;
/// Time between two announcements of one address, in milliseconds.
const ANNOUNCE_INTERVAL: u64 = 1_000;
/// RFC 5227 1.1, DEFEND_INTERVAL, in milliseconds.
const DEFEND_INTERVAL: u64 = 10_000;

type Key = (PortId, IpAddr);

#[derive(Debug)]
struct Announced {
    mac: Mac,
    left: u8,
}

#[derive(Debug)]
struct Claim {
    defend: Gate,
    warn: Gate,
}

/// Announcements that are due, and addresses in dispute. Both are about own addresses only, so
/// their number is bounded by the configuration.
#[derive(Debug)]
pub(super) struct Announcer {
    known: BTreeMap<Key, Announced>,
    timers: Timers<Key>,
    claims: BTreeMap<Key, Claim>,
    warnings: Warnings,
    pace: Pace,
}

impl Announcer {
    pub(super) fn new() -> Announcer {
        Announcer {
            known: BTreeMap::new(),
            timers: Timers::new(),
            claims: BTreeMap::new(),
            warnings: Warnings::new(),
            pace: Pace::new(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.timers.first().map(|due| self.pace.opens(due))
    }

    /// Takes up what `cx.own` announces; new addresses, and those of a port whose Ethernet address
    /// changed, are announced.
    pub(super) fn configure<B, P>(&mut self, cx: &Context<'_, B, P>) {
        let wanted = cx.own.announced();
        self.claims.retain(|(port, address), _| cx.own.answers_for(*port, *address));
        let gone: Vec<_> = self.known.keys().filter(|k| !wanted.contains_key(k)).copied().collect();
        for key in gone {
            self.known.remove(&key);
            self.timers.set(key, None);
        }
        for (key, mac) in wanted {
            if self.known.get(&key).is_none_or(|old| old.mac != mac) {
                self.start(key, mac, cx.now);
            }
        }
    }

    /// Announces all addresses on a port again.
    pub(super) fn link_up(&mut self, port: PortId, now: Millis) {
        let on_port = self.known.iter().filter(|((p, _), _)| *p == port);
        let all: Vec<_> = on_port.map(|(key, a)| (*key, a.mac)).collect();
        for (key, mac) in all {
            self.start(key, mac, now);
        }
    }

    fn start(&mut self, key: Key, mac: Mac, now: Millis) {
        self.known.insert(key, Announced { mac, left: ANNOUNCE_NUM });
        self.timers.set(key, Some(now));
    }

    /// Sends the announcements that are due, as many as the pace allows.
    pub(super) fn poll<B: PacketBuf, P: BufPool<B>>(&mut self, cx: &mut Context<'_, B, P>) {
        while self.pace.is_open(cx.now) {
            let Some(key) = self.timers.take_due(cx.now) else { return };
            self.pace.count();
            let Some(entry) = self.known.get_mut(&key) else { continue };
            // One that finds no buffer is lost; that is what the repetitions are for.
            announce(key, entry.mac, cx);
            entry.left = entry.left.saturating_sub(1);
            if entry.left > 0 {
                self.timers.set(key, Some(cx.now.after(ANNOUNCE_INTERVAL)));
            }
        }
    }

    /// Another station, `mac`, uses `address`, which is ours on `port`. `neighbor` finds the address
    /// of the neighbor on that port with an Ethernet address.
    pub(super) fn claimed<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        port: PortId,
        address: IpAddr,
        mac: Mac,
        neighbor: impl FnOnce(PortId, Mac) -> Option<IpAddr>,
        cx: &mut Context<'_, B, P>,
    ) {
        let claim = self.claims.entry((port, address)).or_insert_with(|| Claim {
            defend: Gate::new(DEFEND_INTERVAL),
            warn: Warnings::gate(),
        });
        if let Some(missed) = self.warnings.pass(&mut claim.warn, cx.now) {
            let is_gateway = |a| cx.own.port(port).is_some_and(|p| p.gateways.contains(&a));
            let station = match neighbor(port, mac) {
                Some(address) if is_gateway(address) => Station::Gateway(address),
                Some(address) => Station::Real(address),
                None => Station::Other,
            };
            let (name, is_vip) = (cx.own.port_name(port), cx.own.is_vip(address));
            let conflict = Conflict { port: name, address, is_vip, mac, station };
            log::warn!("{conflict} ({missed} such messages not logged)");
        }
        if claim.defend.pass(cx.now).is_some() {
            if let Some(own) = cx.own.mac(port) {
                announce((port, address), own, cx);
            }
        }
    }
}

fn announce<B: PacketBuf, P: BufPool<B>>(
    (port, address): Key,
    mac: Mac,
    cx: &mut Context<'_, B, P>,
) {
    match address {
        IpAddr::V4(a) => cx.send_arp(port, Mac::BROADCAST, &arp::Packet::announcement(mac, a)),
        IpAddr::V6(a) => cx.send_ndp(port, mac, Mac::ZERO, &ndp::Message::announcement(mac, a, a)),
    };
}
