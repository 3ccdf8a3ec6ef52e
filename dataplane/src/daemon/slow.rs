//! The slow path's thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::plane::{AddressRow, NeighborRow};
use crate::dpdk::{self, Mbuf, Mempool, Port};
use crate::pipeline::{Lane, LoadBoard};
use crate::slowpath::{AddressView, Millis, SlowPath};
use crate::snapshot::Snapshot;
use crate::snapshot::learned::PathMtus;
use crate::snapshot::neighbors::Links;
use crate::snapshot::publish::Reader;
use crate::stats::{DropReason, Event, Stats};
use crate::types::PortId;
use crate::worker::SlowEnd;

/// Packets of a lane handled before others, timers and counts are looked at again.
const BATCH: usize = 32;
/// Sleep when there is nothing to do: adds at most this to a ping.
const NAP: Duration = Duration::from_micros(500);
/// Connection counts are summed this often, or as soon as all are summed where that takes longer:
/// between two pieces ([`LoadBoard::piece`]) ARP has its turn. With a nap, or batches, in between,
/// workers use sums up to 5 ms old.
const LOADS_EVERY: Duration = Duration::from_millis(4);
/// The listing of addresses and path MTUs is brought up to date this often; that of neighbors, which
/// may be tens of thousands, when somebody asks for it.
const LIST_EVERY: Duration = Duration::from_millis(100);
/// Links are looked at this often.
const LINKS_EVERY: Duration = Duration::from_secs(1);

/// What the slow path tells of itself.
#[derive(Debug, Default)]
struct Listing {
    addresses: Vec<AddressView>,
    path_mtus: PathMtus,
}

/// The slow path as last listed.
#[derive(Debug, Default)]
pub(super) struct SlowBoard {
    listing: Mutex<Listing>,
    neighbors: Mutex<Neighbors>,
    listed: Condvar,
    /// Whether somebody waits for a listing of neighbors.
    asked: AtomicBool,
}

#[derive(Debug, Default)]
struct Neighbors {
    rows: Arc<[NeighborRow]>,
    /// Grows with each listing.
    number: u64,
}

/// How long the slow path may take to list its neighbors, which it does between two batches.
const PATIENCE: Duration = Duration::from_secs(1);

impl SlowBoard {
    /// All neighbors as they are now; as they were last listed if the slow path is late.
    pub(super) fn neighbors(&self) -> Vec<NeighborRow> {
        let listed = self.neighbors.lock().unwrap_or_else(PoisonError::into_inner);
        let before = listed.number;
        self.asked.store(true, Ordering::Release);
        let waits = |listed: &mut Neighbors| listed.number == before;
        let waited = self.listed.wait_timeout_while(listed, PATIENCE, waits);
        let (listed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let rows = Arc::clone(&listed.rows);
        drop(listed);
        rows.to_vec()
    }

    /// Whether somebody waits for a listing of neighbors. The slow path asks, and lists them.
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Acquire)
    }

    fn write_neighbors(&self, rows: Arc<[NeighborRow]>) {
        let mut listed = self.neighbors.lock().unwrap_or_else(PoisonError::into_inner);
        *listed = Neighbors { rows, number: listed.number + 1 };
        drop(listed);
        self.listed.notify_all();
    }

    /// The IPv6 addresses of a port.
    pub(super) fn addresses(&self, port: PortId) -> Vec<AddressRow> {
        let listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |v: &AddressView| AddressRow { address: v.address, state: v.state };
        listing.addresses.iter().filter(|v| v.port == port).map(row).collect()
    }

    /// What routers have told of the ways to real servers.
    pub(super) fn path_mtus(&self) -> PathMtus {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner).path_mtus.clone()
    }

    fn write(&self, listing: Listing) {
        *self.listing.lock().unwrap_or_else(PoisonError::into_inner) = listing;
    }
}

/// What the thread owns.
pub(super) struct SlowThread {
    pub(super) slow: SlowPath<Mbuf, Mempool>,
    pub(super) channels: SlowEnd,
    pub(super) reader: Reader<Snapshot>,
    pub(super) stats: Arc<Stats>,
    pub(super) workers: Vec<Arc<Stats>>,
    pub(super) loads: Arc<LoadBoard>,
    pub(super) board: Arc<SlowBoard>,
    pub(super) ports: Vec<Port>,
    /// What the slow path was last configured with.
    pub(super) links: Option<Arc<Links>>,
    pub(super) started: Instant,
    pub(super) stop: Arc<AtomicBool>,
}

impl SlowThread {
    /// Runs until told to stop, which must be after the workers have stopped.
    pub(super) fn run(mut self) {
        let mut links = vec![false; self.ports.len()];
        let (mut loads_at, mut list_at, mut links_at) = (self.started, self.started, self.started);
        let registered = dpdk::register_thread();
        if let Err(error) = &registered {
            log::warn!("{error}; the slow path frees packet buffers one by one");
        }
        // How many counts of this round are summed; none between two rounds.
        let mut summed = 0;
        self.configure();
        while !self.stop.load(Ordering::Relaxed) {
            if self.reader.take() {
                // Next hops that are no longer configured are unset before their slots may be
                // given to others.
                let changed = self.configure();
                self.reader.acknowledge();
                if changed {
                    list_at = self.started;
                }
            }
            let handled = self.punts();
            let now = Instant::now();
            self.timers();
            if summed > 0 || now >= loads_at {
                if summed == 0 {
                    loads_at = now + LOADS_EVERY;
                }
                summed = self.sum_some(summed);
            }
            if now >= links_at {
                self.watch_links(&mut links);
                links_at = now + LINKS_EVERY;
            }
            if now >= list_at {
                self.list();
                list_at = now + LIST_EVERY;
            }
            if self.board.is_asked() {
                self.list_neighbors();
            }
            if handled == 0 && summed == 0 {
                std::thread::sleep(NAP);
            }
        }
        self.finish();
        // What is left of this is dropped before the thread is none of DPDK's any more.
        drop(self);
        drop(registered);
    }

    /// Sums the next piece of the connection counts, from number `from` on; where the next one
    /// begins, 0 after the last.
    fn sum_some(&self, from: usize) -> usize {
        let rest = self.reader.current().counted.get(from..).unwrap_or_default();
        let piece = &rest[..rest.len().min(self.loads.piece())];
        self.loads.refresh(&self.workers, piece);
        if piece.len() < rest.len() { from + piece.len() } else { 0 }
    }

    fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    /// Takes up addresses, ports and next hops; whether any has changed.
    fn configure(&mut self) -> bool {
        // Nearly all changes, a learned path MTU among them, are none to the slow path.
        let links = &self.reader.current().links;
        if self.links.as_ref().is_some_and(|had| Arc::ptr_eq(had, links)) {
            return false;
        }
        self.links = Some(Arc::clone(links));
        let now = self.now();
        let mut send = sender(&mut self.channels, &self.stats);
        self.slow.configure(&self.reader.current().links, now, &mut send);
        true
    }

    fn timers(&mut self) {
        let now = self.now();
        let mut send = sender(&mut self.channels, &self.stats);
        self.slow.poll(now, &mut send);
    }

    /// A batch of each lane, ARP and neighbor discovery first. What answers strangers waits while
    /// workers have no room for the answers: then it is dropped before it costs anything.
    fn punts(&mut self) -> usize {
        let now = self.now();
        let mut handled = 0;
        for lane in Lane::ALL {
            for _ in 0..BATCH {
                if !lane.is_vital() && !self.channels.has_room() {
                    break;
                }
                let Some(punt) = self.channels.next_punt(lane) else { break };
                let mut send = sender(&mut self.channels, &self.stats);
                self.slow.punt(punt, now, &mut send);
                handled += 1;
            }
        }
        handled
    }

    /// VIPs are announced again when a link comes up: switches have forgotten, or are new.
    fn watch_links(&mut self, links: &mut [bool]) {
        let now = self.now();
        for (index, (was_up, port)) in links.iter_mut().zip(&self.ports).enumerate() {
            let up = port.link().is_ok_and(|link| link.up);
            if up && !*was_up {
                let mut send = sender(&mut self.channels, &self.stats);
                self.slow.link_up(PortId(index as u16), now, &mut send);
            }
            if up != *was_up {
                let name = self.reader.current().links.ports.get(index);
                let name = name.map_or(port.name(), |p| &p.name);
                log::info!("port {name}: link {}", if up { "up" } else { "down" });
            }
            *was_up = up;
        }
    }

    fn list_neighbors(&self) {
        let now = self.now();
        let names = &self.reader.current().links.ports;
        let neighbors = self.slow.neighbors().into_iter().map(|n| NeighborRow {
            port: names.get(n.port.index()).map(|p| p.name.clone()).unwrap_or_default(),
            address: n.address,
            mac: n.mac,
            state: n.state,
            confirmed_ms: n.confirmed.map(|at| now.since(at)),
            waiting: n.waiting as u32,
        });
        self.board.write_neighbors(neighbors.collect());
    }

    fn list(&self) {
        let addresses = self.slow.addresses();
        let path_mtus = self.slow.path_mtus().into_iter().map(|p| (p.real, p.mtu)).collect();
        self.board.write(Listing { addresses, path_mtus });
    }

    fn finish(&mut self) {
        for lane in Lane::ALL {
            while let Some(punt) = self.channels.next_punt(lane) {
                self.stats.event(Event::SlowPathTaken).add(1);
                self.stats.dropped(DropReason::Shutdown).add(1);
                drop(punt);
            }
        }
        self.slow.shutdown();
    }
}

fn sender<'a>(channels: &'a mut SlowEnd, stats: &'a Stats) -> impl FnMut(PortId, Mbuf) + 'a {
    move |port, frame| {
        if channels.send(port, frame).is_err() {
            stats.dropped(DropReason::InboxFull).add(1);
        }
    }
}
