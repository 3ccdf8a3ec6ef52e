//! Questions about the flow table that a worker answers between bursts, a bounded part at a time.

use super::{Env, Pipeline};
use crate::flow::{Flags, Flow, Lookup, State};
use crate::packet::buf::PacketBuf;
use crate::stats::Event;
use crate::types::{FlowKey, Protocol, RealId};
use std::net::Ipv4Addr;

/// Table places looked at for one query: a bound on the gap between two bursts.
pub const SCAN_BUDGET: usize = 256;

/// Which flows; absent fields match all.
#[derive(Debug, Clone, Default)]
pub struct FlowMatch {
    /// Transport protocol.
    pub protocol: Option<Protocol>,
    /// CIP.
    pub client: Option<Ipv4Addr>,
    /// The client's L4 port.
    pub client_port: Option<u16>,
    /// VIP.
    pub vip: Option<Ipv4Addr>,
    /// The VIP's L4 port.
    pub vip_port: Option<u16>,
    /// Slots of the wanted real servers, sorted.
    pub reals: Option<Vec<RealId>>,
}

impl FlowMatch {
    fn matches(&self, flow: &Flow) -> bool {
        let key = &flow.key;
        self.protocol.is_none_or(|p| p == key.protocol)
            && self.client.is_none_or(|a| a == key.client)
            && self.client_port.is_none_or(|p| p == key.client_port)
            && self.vip.is_none_or(|a| a == key.vip)
            && self.vip_port.is_none_or(|p| p == key.vip_port)
            && self.reals.as_ref().is_none_or(|r| r.binary_search(&flow.real).is_ok())
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
    /// Answers a part of a query: its next `budget` places.
    pub fn query<P, O>(&mut self, env: &Env<'_, P, O>, mut query: Query) -> QueryReply {
        let Query { cursor, budget, kind, wanted, rows } = &mut query;
        rows.clear();
        let room = rows.capacity();
        let places = SCAN_BUDGET.min(*budget).min(room);
        let next = self.shard.scan(*cursor, places, |flow| {
            if rows.len() < room && !flow.expired(env.now) && wanted.matches(flow) {
                rows.push(FlowRecord {
                    key: flow.key,
                    real: flow.real,
                    state: flow.state,
                    remaining_ms: flow.deadline.remaining(env.now),
                    replica: flow.flags.has(Flags::REPLICA),
                });
            }
        });
        if *kind == QueryKind::Flush {
            for row in rows.iter() {
                let hash = self.shard.hash(&row.key);
                if let Lookup::Hit(flow) = self.shard.lookup(&row.key, hash, env.now) {
                    if let Some(removed) = self.shard.remove(flow) {
                        self.settle(&removed);
                        self.stats.event(Event::FlowsFlushed).add(1);
                    }
                }
            }
        }
        QueryReply { next, query }
    }
}
