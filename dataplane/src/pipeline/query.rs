//! Questions about the flow table that a worker answers between bursts, a bounded part at a time.

use super::{Env, Pipeline};
use crate::flow::{Flags, Lookup, State};
use crate::packet::buf::PacketBuf;
use crate::stats::Event;
use crate::types::{FlowKey, Protocol, RealId, Tuple};
use std::net::IpAddr;

/// Table places looked at for one query: a bound on the gap between two bursts.
pub const SCAN_BUDGET: usize = 256;

/// Query cursors from here on are places of templates; a shard has fewer.
const TEMPLATES: u32 = 1 << 31;

/// Which flows; absent fields match all.
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
            && self.reals.as_ref().is_none_or(|r| r.binary_search(&real).is_ok())
    }
}

/// One flow, copied out.
#[derive(Debug, Clone, Copy)]
pub struct FlowRecord {
    /// Its key.
    pub key: FlowKey,
    /// Slot of its real server.
    pub real: RealId,
    /// Its state.
    pub state: State,
    /// Milliseconds until it expires if nothing more comes.
    pub remaining_ms: u32,
    /// Whether it is a copy of another worker's flow.
    pub replica: bool,
    /// Whether it is no flow but a template of persistence: `key` has the client network and L4
    /// port 0, and `state` means nothing.
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

/// The answer; it carries the question's memory back to be freed.
#[derive(Debug)]
pub struct QueryReply {
    /// Where to go on, if there is more.
    pub next: Option<u32>,
    /// The question, with the matching flows in `rows`.
    pub query: Query,
}

impl<B: PacketBuf> Pipeline<B> {
    /// Answers a part of a query: its next `budget` places. After its shard, the first worker goes
    /// on with the templates, which are all workers'.
    pub fn query<P, O>(&mut self, env: &Env<'_, P, O>, mut query: Query) -> QueryReply {
        let Query { cursor, budget, kind, wanted, rows } = &mut query;
        rows.clear();
        let room = rows.capacity();
        let places = SCAN_BUDGET.min(*budget).min(room);
        if let Some(place) = cursor.checked_sub(TEMPLATES) {
            let next = self.query_templates(env, place as usize, places, *kind, wanted, rows);
            return QueryReply { next: next.map(|place| TEMPLATES + place), query };
        }
        let next = self.shard.scan(*cursor, places, |flow| {
            if rows.len() < room && !flow.expired(env.now) && wanted.matches(&flow.key, flow.real) {
                rows.push(FlowRecord {
                    key: flow.key,
                    real: flow.real,
                    state: flow.state,
                    remaining_ms: flow.deadline.remaining(env.now),
                    replica: flow.flags.has(Flags::REPLICA),
                    template: false,
                });
            }
        });
        if *kind == QueryKind::Flush {
            for row in rows.iter() {
                let hash = self.shard.hash(&row.key);
                if let Lookup::Hit(flow) = self.shard.lookup(&row.key, hash, env.now) {
                    if let Some(removed) = self.shard.remove(flow) {
                        self.settle(env, &removed);
                        self.stats.event(Event::FlowsFlushed).add(1);
                    }
                }
            }
        }
        let next = next.or((self.me.0 == 0 && !self.templates.is_empty()).then_some(TEMPLATES));
        QueryReply { next, query }
    }

    fn query_templates<P, O>(
        &self,
        env: &Env<'_, P, O>,
        start: usize,
        places: usize,
        kind: QueryKind,
        wanted: &FlowMatch,
        rows: &mut Vec<FlowRecord>,
    ) -> Option<u32> {
        let end = self.templates.places().min(start + places);
        for template in (start..end).filter_map(|place| self.templates.scan(place, env.now)) {
            let Some(service) = env.snapshot.service(template.key.service) else { continue };
            let IpAddr::V4(vip) = service.key.vip else { continue };
            let key = FlowKey {
                client: template.key.network,
                vip,
                client_port: 0,
                vip_port: service.key.port,
                protocol: service.key.protocol,
            };
            if !wanted.matches(&key, template.real) {
                continue;
            }
            rows.push(FlowRecord {
                key,
                real: template.real,
                state: State::Closed,
                remaining_ms: template.remaining_ms,
                replica: false,
                template: true,
            });
            if kind == QueryKind::Flush {
                self.templates.remove(&template.key);
            }
        }
        (end < self.templates.places()).then_some(end as u32)
    }
}
