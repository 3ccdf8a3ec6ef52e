//! Questions about the flow table that a worker answers between bursts, a bounded part at a time.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::family::{FlowTable, Key};
use super::{Env, Pipeline};
use crate::flow::{Flow, FlowFlags, Lookup, State};
use crate::packet::buf::PacketBuf;
use crate::persist::{NetworkKey, Template};
use crate::snapshot::{Service, Snapshot};
use crate::stats::Event;
use crate::types::{AnyFlowKey, FlowKey, FlowKey6, Protocol, RealId, ServiceId, Tick, Tuple};

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

    /// The key of the only flow that can match, if all parts of a key are given; in two families,
    /// none can.
    fn one(&self) -> Option<Option<AnyFlowKey>> {
        let ports = (self.client_port?, self.vip_port?);
        let protocol = self.protocol?;
        Some(match (self.client?, self.vip?) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                Some(AnyFlowKey::V4(FlowKey::new(client, vip, ports, protocol)))
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                Some(AnyFlowKey::V6(FlowKey6::new(client, vip, ports, protocol)))
            }
            _ => None,
        })
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

impl FlowRecord {
    fn of_flow<K: Key>(flow: &Flow<K>, now: Tick) -> FlowRecord {
        FlowRecord {
            key: flow.key.into(),
            real: flow.real,
            state: flow.state,
            remaining_ms: flow.deadline.remaining(now),
            replica: flow.flags.has(FlowFlags::REPLICA),
            template: false,
        }
    }

    /// `key` is of the network, with L4 port 0.
    fn of_template<K: Key>(key: K, template: &Template<K::Address>) -> FlowRecord {
        FlowRecord {
            key: key.into(),
            real: template.real,
            state: if template.assured { State::Established } else { State::Closed },
            remaining_ms: template.remaining_ms,
            replica: false,
            template: true,
        }
    }
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
    /// Table places to look at, at most [`SCAN_BUDGET`]. A question about one key is answered at
    /// once, by a look at its own places.
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
        match query.wanted.one() {
            None => {}
            Some(Some(AnyFlowKey::V4(key))) => return self.query_one(env, &key, query),
            Some(Some(AnyFlowKey::V6(key))) => return self.query_one(env, &key, query),
            Some(None) => return QueryReply { next: None, query },
        }
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

    /// A question with a whole key: that flow, and of L4 port 0, which no client has, the template
    /// of the client's network.
    fn query_one<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        key: &K,
        mut query: Query,
    ) -> QueryReply {
        let Query { kind, wanted, rows, .. } = &mut query;
        let room = rows.capacity();
        let hash = K::shard(self).hash(key);
        if let Some(flow) = K::shard(self).find(key, hash, env.now) {
            if wanted.has(flow.real) && rows.len() < room {
                rows.push(FlowRecord::of_flow(&flow, env.now));
                if *kind == QueryKind::Flush {
                    self.flush_flow(env, key);
                    self.count_flows();
                }
            }
        }
        if self.me.0 == 0 && key.client_port() == 0 && rows.len() < room {
            let network = network_of_query(env.snapshot, key);
            let template = network.and_then(|(network, ports)| {
                Some((K::templates(self).template(&network, env.now)?, ports))
            });
            if let Some((template, port)) = template.filter(|(t, _)| wanted.has(t.real)) {
                let address = template.key.network;
                if let Some(vip) = K::address(key.vip()) {
                    let key = K::new(address, vip, (0, port), key.protocol());
                    rows.push(FlowRecord::of_template(key, &template));
                }
                if *kind == QueryKind::Flush {
                    K::templates(self).remove(&template.key);
                }
            }
        }
        QueryReply { next: None, query }
    }

    fn flush_flow<K: Key, P, O>(&mut self, env: &Env<'_, P, O>, key: &K) {
        let hash = K::shard(self).hash(key);
        if let Lookup::Hit(flow) = K::shard_mut(self).lookup(key, hash, env.now) {
            if let Some(removed) = K::shard_mut(self).remove(flow) {
                self.settle(env, &removed);
                self.stats.event(Event::FlowsFlushed).add(1);
            }
        }
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
                rows.push(FlowRecord::of_flow(flow, env.now));
            }
        });
        if *kind == QueryKind::Flush {
            for key in &found {
                self.flush_flow(env, key);
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
            rows.push(FlowRecord::of_template(key, &template));
            if *kind == QueryKind::Flush {
                K::templates(self).remove(&template.key);
            }
        }
        (end < K::templates(self).places()).then_some(end as u32)
    }
}

/// The template's key of a client's network, and the first L4 port of its virtual service.
fn network_of_query<K: Key>(snapshot: &Snapshot, key: &K) -> Option<(NetworkKey<K::Address>, u16)> {
    let id = key.find_service(snapshot)?;
    let service = snapshot.service(id)?;
    let network = key.network(service.persistence.as_ref()?.netmask);
    Some((NetworkKey { service: id, network }, service.key.ports.first()))
}
