//! Packet buffers: a pool on each NUMA node that has a port.
//!
//! A NIC writes what it receives into buffers of its own node, so each port takes them from the
//! pool of its node. Fragments, and what the slow path makes, come from a pool as near as there is
//! to who makes them.

use anyhow::{Context, Result};

use crate::config::{Config, LCORE_CACHE};
use crate::dpdk::{Mempool, MempoolError, Port, socket_of_lcore};

/// All pools.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    /// The NUMA node of each pool; `None` is any.
    nodes: Vec<Option<u32>>,
    /// In the same order.
    pools: Vec<Mempool>,
}

impl Pools {
    /// Makes the pools that these ports need, each with all of `dataplane.mbufs`. A frame up to the
    /// largest configured MTU fits one buffer.
    pub(super) fn new(config: &Config, devices: &[String]) -> Result<Pools> {
        let plane = &config.dataplane;
        let ports =
            devices.iter().map(|device| Port::socket(device)).collect::<Result<Vec<_>, _>>();
        let ports = ports.context("cannot tell the NUMA nodes of the ports")?;
        let home = plane.workers.first().and_then(|lcore| socket_of_lcore(*lcore));
        let nodes = nodes(&ports, home);
        let mtu = config.ports.iter().map(|p| p.mtu).max().unwrap_or(1500);
        let room = Mempool::room_for(mtu);
        let make = |name: &str, node| Mempool::new(name, plane.mbufs, LCORE_CACHE, room, node);
        let mut pools = Vec::with_capacity(nodes.len());
        for (nth, node) in nodes.iter().enumerate() {
            let name = if nth == 0 { "shunt".to_owned() } else { format!("shunt{nth}") };
            let pool = match (make(&name, *node), node) {
                // Memory may be reserved on other nodes only.
                (Err(MempoolError::NoMemory { .. }), Some(node)) => {
                    let pool = make(&name, None);
                    if pool.is_ok() {
                        log::warn!(
                            "NUMA node {node} has no memory for packet buffers, so those of its \
                             ports lie on another, and every packet crosses over; reserve \
                             hugepages on node {node}"
                        );
                    }
                    pool
                }
                (pool, _) => pool,
            };
            pools.push(pool.with_context(|| {
                format!(
                    "cannot allocate dataplane.mbufs = {} packet buffers of {room} bytes; lower \
                     it, reserve more hugepages (scripts/hugepages), or raise -m in dataplane.eal",
                    plane.mbufs
                )
            })?);
        }
        Ok(Pools { nodes, pools })
    }

    /// The pool for a port.
    pub(super) fn of_port(&self, device: &str) -> &Mempool {
        self.nearest(Port::socket(device).ok().flatten())
    }

    /// The pool for what runs on an lcore.
    pub(super) fn of_lcore(&self, lcore: u32) -> &Mempool {
        self.nearest(socket_of_lcore(lcore))
    }

    /// Each of them.
    pub(super) fn all(&self) -> &[Mempool] {
        &self.pools
    }

    fn nearest(&self, node: Option<u32>) -> &Mempool {
        &self.pools[nearest(&self.nodes, node)]
    }

    /// Buffers there are.
    pub(super) fn size(&self) -> u64 {
        self.pools.iter().map(|pool| u64::from(pool.size())).sum()
    }

    /// Buffers not free now.
    pub(super) fn in_use(&self) -> u64 {
        self.pools.iter().map(|pool| u64::from(pool.in_use())).sum()
    }
}

/// The nodes that need a pool, each once, by the ports' nodes. A port of no node, as virtual
/// devices are, is served by `home`, the first worker's.
fn nodes(ports: &[Option<u32>], home: Option<u32>) -> Vec<Option<u32>> {
    let mut nodes: Vec<Option<u32>> = Vec::new();
    for port in ports {
        let node = port.or(home);
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        nodes.push(home);
    }
    // Any node's is where a known one's can be.
    if nodes.len() > 1 {
        nodes.retain(Option::is_some);
    }
    nodes
}

/// Which of the pools on `nodes` is for who is on `node`: its own, or the first.
fn nearest(nodes: &[Option<u32>], node: Option<u32>) -> usize {
    nodes.iter().position(|pool| node.is_some() && *pool == node).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_with_a_port_has_a_pool() {
        for (ports, home, expected) in [
            // One node, as the ports or the workers tell; or nobody does.
            (&[Some(0)][..], Some(0), &[Some(0)][..]),
            (&[Some(0), Some(0)], Some(0), &[Some(0)]),
            (&[None], Some(0), &[Some(0)]),
            (&[None, None], None, &[None]),
            (&[], None, &[None]),
            // Two nodes: where the ports are counts, not where workers are.
            (&[Some(1)], Some(0), &[Some(1)]),
            (&[Some(1), Some(0), Some(1)], Some(0), &[Some(1), Some(0)]),
            (&[None, Some(1)], Some(0), &[Some(0), Some(1)]),
            (&[None, Some(1)], None, &[Some(1)]),
        ] {
            assert_eq!(nodes(ports, home), expected, "{ports:?} {home:?}");
        }
    }

    #[test]
    fn everybody_is_served_by_the_nearest() {
        let both = [Some(1), Some(0)];
        assert_eq!(nearest(&both, Some(1)), 0);
        assert_eq!(nearest(&both, Some(0)), 1);
        assert_eq!(nearest(&both, Some(7)), 0, "a node without ports");
        assert_eq!(nearest(&both, None), 0);
        assert_eq!(nearest(&[None], Some(1)), 0);
    }
}
