//! The neighbor table: configured next hops, their timers, and the packets that wait for them.
//!
//! The table holds what the configuration needs and nothing else: no message from the wire adds
//! an entry, so it cannot be filled from outside.

pub(super) mod state;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::limit::{Gate, News, Pace};
use super::output::{Context, Outcome};
use super::own::Source;
use super::timers::Timers;
use state::{Advertised, Ask, Heard, Neighbor};

use crate::hash::Random;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::{arp, ethernet, ndp};
use crate::snapshot::differing;
use crate::snapshot::neighbors::{NeighborSpec, NextHop, NextHops};
use crate::stats::{DropReason, Event, Stats};
use crate::types::{Mac, Millis, NeighborId, PortId};
use crate::vocabulary::NeighborState;

/// Packets that wait for one neighbor at most. RFC 1122 2.3.2.2 asks for one, the latest.
pub const MAX_WAITING: usize = 3;
/// How long a packet waits at most, in milliseconds.
pub const MAX_WAIT: u64 = 3_000;
/// Until a request that found no buffer, or no address to ask from yet, is tried again, in
/// milliseconds.
const RETRY: u64 = 100;

/// A neighbor as listings show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborView {
    /// Its slot.
    pub id: NeighborId,
    /// Port it is behind.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// The Ethernet address frames for it are sent to now.
    pub mac: Option<Mac>,
    /// Its state.
    pub state: NeighborState,
    /// When it last answered.
    pub confirmed: Option<Millis>,
    /// Packets waiting for it now.
    pub waiting: usize,
}

struct Waiting<B> {
    since: Millis,
    port: PortId,
    frame: B,
}

struct Entry<B> {
    port: PortId,
    address: IpAddr,
    neighbor: Neighbor,
    waiting: ArrayVec<Waiting<B>, MAX_WAITING>,
    published: Option<NextHop>,
    /// The last address that worked, to tell a change.
    last_mac: Option<Mac>,
}

impl<B> Entry<B> {
    fn new(spec: &NeighborSpec, now: Millis) -> Entry<B> {
        Entry {
            port: spec.port,
            address: spec.address,
            neighbor: spec.fixed.map_or_else(|| Neighbor::new(now), Neighbor::fixed),
            waiting: ArrayVec::new(),
            published: None,
            last_mac: None,
        }
    }

    fn is(&self, spec: &NeighborSpec) -> bool {
        self.port == spec.port && self.address == spec.address
    }

    fn deadline(&self) -> Option<Millis> {
        let expiry = self.waiting.first().map(|w| w.since.after(MAX_WAIT));
        [self.neighbor.due(), expiry].into_iter().flatten().min()
    }
}

/// All configured next hops.
pub(super) struct Neighbors<B> {
    entries: BTreeMap<NeighborId, Entry<B>>,
    by_address: HashMap<(PortId, IpAddr), NeighborId>,
    /// What it was configured with last.
    specs: Vec<NeighborSpec>,
    timers: Timers<NeighborId>,
    next_hops: Arc<NextHops>,
    random: Random,
    pace: Pace,
    waiting: usize,
    changes: Gate,
    news: News,
}

impl<B: PacketBuf> Neighbors<B> {
    pub(super) fn new(next_hops: Arc<NextHops>, random: Random) -> Neighbors<B> {
        Neighbors {
            entries: BTreeMap::new(),
            by_address: HashMap::new(),
            specs: Vec::new(),
            timers: Timers::new(),
            next_hops,
            random,
            pace: Pace::new(),
            waiting: 0,
            changes: Gate::new(1_000),
            news: News::new(),
        }
    }

    /// Packets waiting now, all neighbors together.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn views(&self) -> Vec<NeighborView> {
        let view = |(id, entry): (&NeighborId, &Entry<B>)| NeighborView {
            id: *id,
            port: entry.port,
            address: entry.address,
            mac: entry.neighbor.mac(),
            state: entry.neighbor.state(),
            confirmed: entry.neighbor.confirmed(),
            waiting: entry.waiting.len(),
        };
        self.entries.iter().map(view).collect()
    }

    /// The address of the neighbor on a port that has this Ethernet address.
    pub(super) fn with_mac(&self, port: PortId, mac: Mac) -> Option<IpAddr> {
        let is_it = |e: &&Entry<B>| e.port == port && e.neighbor.mac() == Some(mac);
        self.entries.values().find(is_it).map(|entry| entry.address)
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.timers.first().map(|due| self.pace.opens(due))
    }

    /// Takes up a new set of next hops, by what differs. Those that stay keep their state.
    pub(super) fn configure<P: BufPool<B>>(
        &mut self,
        specs: &[NeighborSpec],
        cx: &mut Context<'_, B, P>,
    ) {
        let (old, new) = differing(&self.specs, specs);
        let wanted: HashMap<NeighborId, &NeighborSpec> = new.iter().map(|s| (s.id, s)).collect();
        let stays = |id: &NeighborId| {
            let entry = self.entries.get(id);
            wanted.get(id).is_some_and(|spec| entry.is_some_and(|e| e.is(spec)))
        };
        let gone: Vec<_> = old.iter().map(|spec| spec.id).filter(|id| !stays(id)).collect();
        for id in gone {
            self.remove(id, cx);
        }
        let mut fixed = 0;
        for spec in wanted.into_values() {
            self.by_address.insert((spec.port, spec.address), spec.id);
            let entry = self.entries.entry(spec.id).or_insert_with(|| Entry::new(spec, cx.now));
            match (spec.fixed, entry.neighbor.state()) {
                (Some(mac), _) => {
                    fixed += usize::from(entry.published != Some(NextHop::Known(mac)));
                    entry.neighbor = Neighbor::fixed(mac);
                }
                (None, NeighborState::Static) => entry.neighbor = Neighbor::new(cx.now),
                (None, _) => {}
            }
            self.settle(spec.id, cx);
        }
        self.specs.clear();
        self.specs.extend_from_slice(specs);
        if fixed > 0 {
            log::info!("static neighbors: {fixed} new or changed");
        }
    }

    fn remove<P: BufPool<B>>(&mut self, id: NeighborId, cx: &mut Context<'_, B, P>) {
        let Some(mut entry) = self.entries.remove(&id) else { return };
        if self.by_address.get(&(entry.port, entry.address)) == Some(&id) {
            self.by_address.remove(&(entry.port, entry.address));
        }
        self.timers.set(id, None);
        self.waiting -= drop_all(&mut entry, DropReason::NeighborUnresolved, cx.stats);
        // The slot may come to stand for another neighbor.
        self.next_hops.set(id, NextHop::Unknown);
    }

    /// The link of a port came up: what was known of neighbors behind it is in doubt.
    pub(super) fn link_up<P: BufPool<B>>(&mut self, port: PortId, cx: &mut Context<'_, B, P>) {
        self.doubt(|entry| entry.port == port, cx);
    }

    /// There are IPv6 addresses to ask from that there were not: asks the neighbors that failed.
    pub(super) fn addresses_ready<P: BufPool<B>>(&mut self, cx: &mut Context<'_, B, P>) {
        let failed =
            |e: &Entry<B>| e.address.is_ipv6() && e.neighbor.state() == NeighborState::Failed;
        self.doubt(failed, cx);
    }

    /// There are other addresses to ask from: asks the neighbors that failed.
    pub(super) fn addresses_changed<P: BufPool<B>>(&mut self, cx: &mut Context<'_, B, P>) {
        self.doubt(|entry| entry.neighbor.state() == NeighborState::Failed, cx);
    }

    fn doubt<P: BufPool<B>>(
        &mut self,
        which: impl Fn(&Entry<B>) -> bool,
        cx: &mut Context<'_, B, P>,
    ) {
        let ids: Vec<_> = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| which(entry))
            .map(|(id, entry)| {
                entry.neighbor.doubt(cx.now);
                *id
            })
            .collect();
        for id in ids {
            self.settle(id, cx);
        }
    }

    /// A finished frame for a neighbor that the worker did not know.
    pub(super) fn resolve<P: BufPool<B>>(
        &mut self,
        id: NeighborId,
        port: PortId,
        mut frame: B,
        cx: &mut Context<'_, B, P>,
    ) -> Outcome {
        // One of an earlier configuration, or no frame at all.
        let Some(entry) = self.entries.get_mut(&id).filter(|e| e.port == port) else {
            return Outcome::Dropped(DropReason::SlowPathUnknown);
        };
        if frame.data().len() < ethernet::HEADER_LEN {
            return Outcome::Dropped(DropReason::SlowPathUnknown);
        }
        match entry.neighbor.next_hop() {
            // Resolved since the worker looked.
            NextHop::Known(mac) => {
                address_to(&mut frame, mac);
                cx.send(port, frame);
                Outcome::Done(Event::NeighborForwarded)
            }
            NextHop::Failed => {
                entry.neighbor.nudge(cx.now);
                self.settle(id, cx);
                Outcome::Dropped(DropReason::NeighborFailed)
            }
            NextHop::Unknown => {
                if entry.waiting.is_full() {
                    // RFC 1122 2.3.2.2: "save (rather than discard) at least one (the latest)".
                    entry.waiting.remove(0);
                    self.waiting -= 1;
                    cx.stats.dropped(DropReason::NeighborUnresolved).add(1);
                }
                entry.waiting.push(Waiting { since: cx.now, port, frame });
                self.waiting += 1;
                cx.stats.event(Event::NeighborQueued).add(1);
                self.settle(id, cx);
                Outcome::Waits
            }
        }
    }

    /// A station on `port` was heard to have `address` at `mac`. Whether that taught or confirmed
    /// a neighbor.
    pub(super) fn hear<P: BufPool<B>>(
        &mut self,
        port: PortId,
        address: IpAddr,
        mac: Mac,
        how: Heard,
        cx: &mut Context<'_, B, P>,
    ) -> bool {
        let Some(&id) = self.by_address.get(&(port, address)) else { return false };
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let taught = entry.neighbor.hear(mac, how, cx.now, &mut self.random);
        if taught {
            self.settle(id, cx);
        }
        taught
    }

    /// A station on `port` advertises `address`. Whether that taught or confirmed a neighbor.
    pub(super) fn advertised<P: BufPool<B>>(
        &mut self,
        port: PortId,
        address: Ipv6Addr,
        what: Advertised,
        cx: &mut Context<'_, B, P>,
    ) -> bool {
        let Some(&id) = self.by_address.get(&(port, address.into())) else { return false };
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let taught = entry.neighbor.advertised(what, cx.now, &mut self.random);
        if taught {
            self.settle(id, cx);
        }
        taught
    }

    /// Takes the steps that are due.
    pub(super) fn poll<P: BufPool<B>>(&mut self, cx: &mut Context<'_, B, P>) {
        while self.pace.is_open(cx.now) {
            let Some(id) = self.timers.take_due(cx.now) else { return };
            self.fire(id, cx);
            self.settle(id, cx);
        }
    }

    fn fire<P: BufPool<B>>(&mut self, id: NeighborId, cx: &mut Context<'_, B, P>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(ask) = entry.neighbor.fire(cx.now) else { return };
        let (port, address) = (entry.port, entry.address);
        match send_ask(port, address, ask, cx) {
            Source::Ready(true) => {
                self.pace.count();
                entry.neighbor.asked(cx.now);
            }
            Source::Ready(false) | Source::Later => {
                entry.neighbor.postpone(cx.now.after(RETRY));
            }
            Source::None => {
                let name = cx.own.port_name(port);
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                if self.news.may_tell(cx.now) {
                    log::warn!(
                        "neighbor {address}: port {name} has no {family} or Ethernet address to \
                         ask from; give it an address of the neighbor's network, or configure a \
                         static neighbor"
                    );
                }
                entry.neighbor.give_up();
            }
        }
    }

    /// After anything happened to a neighbor: publishes its state, sends or drops what waits, and
    /// sets its timer.
    fn settle<P: BufPool<B>>(&mut self, id: NeighborId, cx: &mut Context<'_, B, P>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let hop = entry.neighbor.next_hop();
        if entry.published != Some(hop) {
            self.next_hops.set(id, hop);
            report(entry, hop, (&mut self.changes, &mut self.news), cx);
            entry.published = Some(hop);
        }
        let before = entry.waiting.len();
        expire(entry, cx);
        match hop {
            NextHop::Known(mac) => send_all(entry, mac, cx),
            NextHop::Failed => {
                drop_all(entry, DropReason::NeighborFailed, cx.stats);
            }
            NextHop::Unknown => {}
        }
        self.waiting -= before - entry.waiting.len();

        self.timers.set(id, entry.deadline());
    }

    /// Drops every waiting packet.
    pub(super) fn shutdown(&mut self, stats: &Stats) {
        // Timers that were set for their expiry find nothing to do.
        for entry in self.entries.values_mut() {
            self.waiting -= drop_all(entry, DropReason::Shutdown, stats);
        }
    }
}

/// Asks a neighbor for its Ethernet address; whether there was a buffer for it.
fn send_ask<B: PacketBuf, P: BufPool<B>>(
    port: PortId,
    address: IpAddr,
    ask: Ask,
    cx: &mut Context<'_, B, P>,
) -> Source<bool> {
    let Some(mac) = cx.own.mac(port) else { return Source::None };
    // A question tells its sender's addresses; the answer goes there.
    match address {
        IpAddr::V4(address) => cx.own.source4(port, address).map(|own| {
            let dst = match ask {
                Ask::Broadcast => Mac::BROADCAST,
                Ask::Unicast(neighbor) => neighbor,
            };
            cx.send_arp(port, dst, &arp::Packet::request(mac, own, address))
        }),
        IpAddr::V6(address) => cx.own.source6(port, address).map(|own| match ask {
            Ask::Broadcast => {
                let question = ndp::Message::solicitation(mac, own, address);
                cx.send_ndp(port, mac, Mac::ZERO, &question)
            }
            Ask::Unicast(neighbor) => {
                cx.send_ndp(port, mac, neighbor, &ndp::Message::probe(mac, own, address))
            }
        }),
    }
}

fn address_to<B: PacketBuf>(frame: &mut B, mac: Mac) {
    if let Some(dst) = frame.data_mut().first_chunk_mut::<6>() {
        *dst = mac.0;
    }
}

fn expire<B: PacketBuf, P>(entry: &mut Entry<B>, cx: &Context<'_, B, P>) {
    while entry.waiting.first().is_some_and(|w| cx.now.since(w.since) >= MAX_WAIT) {
        entry.waiting.remove(0);
        cx.stats.dropped(DropReason::NeighborUnresolved).add(1);
    }
}

fn send_all<B: PacketBuf, P: BufPool<B>>(
    entry: &mut Entry<B>,
    mac: Mac,
    cx: &mut Context<'_, B, P>,
) {
    for Waiting { port, mut frame, .. } in entry.waiting.drain(..) {
        address_to(&mut frame, mac);
        cx.stats.event(Event::NeighborForwarded).add(1);
        cx.send(port, frame);
    }
}

/// How many there were.
fn drop_all<B>(entry: &mut Entry<B>, reason: DropReason, stats: &Stats) -> usize {
    let count = entry.waiting.len();
    stats.dropped(reason).add(count as u64);
    entry.waiting.clear();
    count
}

/// Tells people, but not of each static neighbor, of which the configuration tells, nor of each of
/// thousands at once. Failures and recoveries take seconds each; changes of the address can be forged
/// as fast as the wire, so they pass a gate.
fn report<B, P>(
    entry: &mut Entry<B>,
    hop: NextHop,
    (changes, news): (&mut Gate, &mut News),
    cx: &Context<'_, B, P>,
) {
    let (address, port) = (entry.address, cx.own.port_name(entry.port));
    match hop {
        NextHop::Unknown => {}
        NextHop::Failed => {
            if news.may_tell(cx.now) {
                log::warn!("neighbor {address} on port {port} does not answer");
            }
        }
        NextHop::Known(mac) => {
            match entry.last_mac {
                _ if entry.neighbor.state() == NeighborState::Static => {}
                Some(old) if old != mac => {
                    if let Some(missed) = changes.pass(cx.now) {
                        log::warn!(
                            "neighbor {address} on port {port} moved from {old} to {mac} \
                             ({missed} such changes not logged)"
                        );
                    }
                }
                _ if news.may_tell(cx.now) => {
                    log::info!("neighbor {address} on port {port} is at {mac}");
                }
                _ => {}
            }
            entry.last_mac = Some(mac);
        }
    }
}
