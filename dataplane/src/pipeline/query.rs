//! Questions about the flow table that a worker answers between bursts, a bounded part at a time.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::family::{FlowTable, Key};
use super::{Env, Pipeline};
use crate::flow::{Flags, Lookup, State};
use crate::packet::buf::PacketBuf;
use crate::snapshot::{Service, Snapshot};
use crate::stats::Event;
use crate::types::{AnyFlowKey, FlowKey, FlowKey6, Protocol, RealId, ServiceId, Tuple};

/// Table places looked at for one query: a bound on the gap between two bursts.
pub const SCAN_BUDGET: usize = 256;

/// Query cursors tell by their first bits which table a place is of; each has fewer.
const TABLE: u32 = 1 << 30;
const SHARD6: u32 = TABLE;
const TEMPLATES: u32 = 2 * TABLE;
const TEMPLATES6: u32 = 3 * TABLE;

/// Which flows, and which templates of persistence: those that bind a wanted client. Absent fields
/// match all.
#[derive(Debug, Clone, Default)]
pub struct FlowMatch {
    /// Transport protocol.
    pub protocol: Option<Protocol>,
    /// CIP.
    pub client: Option<IpAddr>,
    /// The client's L4 port.
    pub client_port: Option<u16>,
    /// VIP.
    pub vip: Option<IpAddr>,
    /// The VIP's L4 port.
    pub vip_port: Option<u16>,
    /// Slots of the wanted real servers, sorted.
    pub reals: Option<Vec<RealId>>,
}

impl FlowMatch {
    fn matches(&self, key: &impl Tuple, real: RealId) -> bool {
        self.protocol.is_none_or(|p| p == key.protocol())
            && self.client.is_none_or(|a| a == key.client())
            && self.client_port.is_none_or(|p| p == key.client_port())
            && self.vip.is_none_or(|a| a == key.vip())
            && self.vip_port.is_none_or(|p| p == key.vip_port())
            && self.has(real)
    }

    /// Whether a template of persistence is wanted: one that binds the wanted client, of a virtual
    /// service that has the wanted L4 port. A template is of no one L4 port of a client.
    fn matches_template<K: Key>(
        &self,
        snapshot: &Snapshot,
        (id, service): (ServiceId, &Service),
        network: K::Address,
        real: RealId,
    ) -> bool {
        let netmask = service.persistence.map(|p| p.netmask);
        // One of fewer L4 ports takes theirs from one of more.
        let serves = |port| {
            let vip = K::address(service.key.vip);
            let key = vip.map(|vip| K::new(network, vip, (0, port), service.key.protocol));
            key.and_then(|key| key.find_service(snapshot)) == Some(id)
        };
        let binds = |client: IpAddr| {
            let client = K::address(client);
            client.is_some_and(|a| netmask.map_or(a, |mask| K::under(a, mask)) == network)
        };
        self.protocol.is_none_or(|p| p == service.key.protocol)
            && self.client.is_none_or(binds)
            && self.client_port.is_none_or(|p| p == 0)
            && self.vip.is_none_or(|a| a == service.key.vip)
            && self.vip_port.is_none_or(serves)
            && self.has(real)
    }

    fn has(&self, real: RealId) -> bool {
        self.reals.as_ref().is_none_or(|r| r.binary_search(&real).is_ok())
    }
}

/// One flow, copied out.
#[derive(Debug, Clone, Copy)]
pub struct FlowRecord {
    /// Its key.
    pub key: AnyFlowKey,
    /// Slot of its real server.
    pub real: RealId,
    /// Its state.
    pub state: State,
    /// Milliseconds until it expires if nothing more comes.
    pub remaining_ms: u32,
    /// Whether it is a copy of another worker's flow.
    pub replica: bool,
    /// Whether it is no flow but a template of persistence: `key` has the client network and L4
    /// port 0, and `state` is `Established` when a flow that it bound was, else `Closed`.
    pub template: bool,
}

/// What to do with the flows that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Copy them out.
    List,
    /// Copy them out and remove them.
    Flush,
}

/// A question. All memory the answer needs comes with it: a worker does not allocate.
#[derive(Debug)]
pub struct Query {
    /// Table place to start at, 0 first.
    pub cursor: u32,
    /// Table places to look at, at most [`SCAN_BUDGET`].
    pub budget: usize,
    /// What to do.
    pub kind: QueryKind,
    /// Which flows.
    pub wanted: FlowMatch,
    /// With room for `budget`.
    pub rows: Vec<FlowRecord>,
}

impl Query {
    /// Places to look at.
    fn places(&self) -> usize {
        SCAN_BUDGET.min(self.budget).min(self.rows.capacity())
    }
}

/// The answer; it carries the question's memory back to be freed.
#[derive(Debug)]
pub struct QueryReply {
    /// Where to go on, if there is more.
    pub next: Option<u32>,
    /// The question, with the matching flows in `rows`.
    pub query: Query,
}

impl<B: PacketBuf> Pipeline<B> {
    /// Answers a part of a query: its next `budget` places. After its shards, the first worker goes
    /// on with the templates, which are all workers'.
    pub fn query<P, O>(&mut self, env: &Env<'_, P, O>, mut query: Query) -> QueryReply {
        query.rows.clear();
        let (table, place) = (query.cursor / TABLE * TABLE, query.cursor % TABLE);
        let next = match table {
            TEMPLATES => self.query_templates::<FlowKey, P, O>(env, place, &mut query),
            TEMPLATES6 => self.query_templates::<FlowKey6, P, O>(env, place, &mut query),
            SHARD6 => self.query_shard::<FlowKey6, P, O>(env, place, &mut query),
            _ => self.query_shard::<FlowKey, P, O>(env, place, &mut query),
        };
        let first = self.me.0 == 0;
        let further = [
            (SHARD6, !self.shard6.is_empty()),
            (TEMPLATES, first && !self.templates.v4.is_empty()),
            (TEMPLATES6, first && !self.templates.v6.is_empty()),
        ];
        let after = further.into_iter().find(|(other, there)| *other > table && *there);
        let after = after.map(|(other, _)| other);
        QueryReply { next: next.map(|place| table + place).or(after), query }
    }

    fn query_shard<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        place: u32,
        query: &mut Query,
    ) -> Option<u32> {
        let places = query.places();
        let Query { kind, wanted, rows, .. } = query;
        let room = rows.capacity();
        let mut found = ArrayVec::<K, SCAN_BUDGET>::new();
        let next = K::shard(self).scan(place, places, |flow| {
            if rows.len() < room && !flow.expired(env.now) && wanted.matches(&flow.key, flow.real) {
                found.push(flow.key);
                rows.push(FlowRecord {
                    key: flow.key.into(),
                    real: flow.real,
                    state: flow.state,
                    remaining_ms: flow.deadline.remaining(env.now),
                    replica: flow.flags.has(Flags::REPLICA),
                    template: false,
                });
            }
        });
        if *kind == QueryKind::Flush {
            for key in &found {
                let hash = K::shard(self).hash(key);
                if let Lookup::Hit(flow) = K::shard_mut(self).lookup(key, hash, env.now) {
                    if let Some(removed) = K::shard_mut(self).remove(flow) {
                        self.settle(env, &removed);
                        self.stats.event(Event::FlowsFlushed).add(1);
                    }
                }
            }
            self.count_flows();
        }
        next
    }

    fn query_templates<K: Key, P, O>(
        &self,
        env: &Env<'_, P, O>,
        place: u32,
        query: &mut Query,
    ) -> Option<u32> {
        let (start, places) = (place as usize, query.places());
        let Query { kind, wanted, rows, .. } = query;
        let end = K::templates(self).places().min(start + places);
        for template in (start..end).filter_map(|place| K::templates(self).scan(place, env.now)) {
            let Some(service) = env.snapshot.service(template.key.service) else { continue };
            let Some(vip) = K::address(service.key.vip) else { continue };
            let ports = (0, service.key.ports.first());
            let network = template.key.network;
            let of = (template.key.service, service);
            if !wanted.matches_template::<K>(env.snapshot, of, network, template.real) {
                continue;
            }
            let key = K::new(network, vip, ports, service.key.protocol);
            rows.push(FlowRecord {
                key: key.into(),
                real: template.real,
                state: if template.assured { State::Established } else { State::Closed },
                remaining_ms: template.remaining_ms,
                replica: false,
                template: true,
            });
            if *kind == QueryKind::Flush {
                K::templates(self).remove(&template.key);
            }
        }
        (end < K::templates(self).places()).then_some(end as u32)
    }
}
