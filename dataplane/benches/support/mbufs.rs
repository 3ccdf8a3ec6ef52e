//! Mbufs from a source that writes their headers in place, and what is done to a burst of them.

use arrayvec::ArrayVec;
use dataplane::dpdk::{Mbuf, Mempool, free_bulk};
use dataplane::packet::buf::PacketBuf;
use dataplane::pipeline::{BURST, Output, PeerMessage};
use dataplane::types::{PortId, Punt, WorkerId};
use dataplane::worker::Clock;

use super::rig::Director;
use super::traffic::{PORT_MAC, Template, Visits};

/// A burst on its way.
pub type Burst = ArrayVec<Mbuf, BURST>;

/// A port that takes all and sends nothing.
struct Sink;

impl Output<Mbuf> for Sink {
    #[inline(always)]
    fn transmit(&mut self, _: PortId, frames: &mut Burst) {
        free_bulk(frames);
    }
    #[inline(always)]
    fn discard(&mut self, frames: &mut ArrayVec<Mbuf, BURST>) {
        free_bulk(frames);
    }
    fn punt(&mut self, punt: Punt<Mbuf>) -> Result<(), Punt<Mbuf>> {
        Err(punt)
    }
    fn tell(&mut self, _: WorkerId, message: PeerMessage<Mbuf>) -> Result<(), PeerMessage<Mbuf>> {
        Err(message)
    }
}

/// Where packets come from: fresh mbufs, 60 bytes written into each.
pub struct Source {
    pub pool: Mempool,
    pub template: Template,
    pub visits: Visits,
}

impl Source {
    #[inline(always)]
    pub fn burst(&mut self, out: &mut Burst) {
        assert!(self.pool.alloc_bulk(out, BURST), "mbufs are lost");
        for mbuf in out {
            let _ = mbuf.append(60);
            if let Some(frame) = mbuf.data_mut().first_chunk_mut::<60>() {
                self.template.write(self.visits.next(), frame);
            }
        }
    }
}

/// One worker: all that it does in a round but messages. What it sends is freed.
pub struct Shunt {
    pub director: Director<Mbuf>,
    pub pool: Mempool,
    pub clock: Clock,
}

impl Shunt {
    #[inline(always)]
    pub fn round(&mut self, burst: &mut Burst) {
        let mut out = Sink;
        let now = self.clock.now();
        let (pipeline, mut env) = self.director.parts(&self.pool, &mut out, now);
        pipeline.burst(&mut env, PortId(0), burst);
        pipeline.maintain(&mut env);
        pipeline.sweep(&env);
    }
}

/// The least that can be done to a packet, as `dpdk-testpmd --forward-mode=mac` does it.
#[inline(always)]
pub fn rewrite_addresses(burst: &mut Burst) {
    for mbuf in burst {
        if let Some(addresses) = mbuf.data_mut().first_chunk_mut::<12>() {
            addresses[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
            addresses[6..].copy_from_slice(&PORT_MAC.0);
        }
    }
}
