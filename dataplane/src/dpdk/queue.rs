//! RX and TX queues of a port: bursts of packets in and out.
//!
//! # Threading
//! A queue is for one thread at a time: it can be moved (`Send`) but neither shared nor cloned,
//! and [`super::Port::configure`] hands each one out once.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::mbuf::Mbuf;
use super::port::PortInner;

/// One RX queue, polled by its owner.
#[derive(Debug)]
pub struct RxQueue {
    ethdev: u16,
    queue: u16,
    /// The port is stopped and closed only after all of its queues are gone.
    _port: Arc<PortInner>,
    _not_sync: PhantomData<Cell<()>>,
}

/// One TX queue, filled by its owner.
#[derive(Debug)]
pub struct TxQueue {
    ethdev: u16,
    queue: u16,
    _port: Arc<PortInner>,
    _not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    /// The queue `queue` of a started port; must be made once only.
    pub(super) fn new(port: &Arc<PortInner>, queue: u16) -> RxQueue {
        RxQueue { ethdev: port.ethdev(), queue, _port: port.clone(), _not_sync: PhantomData }
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// DPDK's number of the port.
    pub fn ethdev_id(&self) -> u16 {
        self.ethdev
    }

    /// Receives what has arrived, up to the capacity `out` has left; returns how many were added.
    ///
    /// Leave room for 32 or more: some drivers work in groups of 4 to 32 and give nothing for
    /// less.
    #[inline(always)]
    pub fn burst<const N: usize>(&mut self, out: &mut ArrayVec<Mbuf, N>) -> usize {
        let len = out.len();
        let room = (N - len).min(u16::MAX as usize) as u16;
        if room == 0 {
            return 0;
        }
        // SAFETY: the port is started and stays so while `_port` is held; this is the queue's
        // only user (`&mut self`, made once). There is room for `room` elements past the length,
        // and Mbuf has the representation of a pointer. DPDK sets the first `received` of them to
        // mbufs that nobody else refers to.
        unsafe {
            let spare = out.as_mut_ptr().add(len).cast();
            let received = sys::shim_eth_rx_burst(self.ethdev, self.queue, spare, room);
            debug_assert!(received <= room);
            out.set_len(len + usize::from(received));
            usize::from(received)
        }
    }
}

impl TxQueue {
    /// Queue `queue` of an open port; made once for each queue.
    pub(super) fn new(port: &Arc<PortInner>, queue: u16) -> TxQueue {
        TxQueue { ethdev: port.ethdev(), queue, _port: port.clone(), _not_sync: PhantomData }
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// DPDK's number of the port.
    pub fn ethdev_id(&self) -> u16 {
        self.ethdev
    }

    /// Sends from the front of `mbufs` as many as the queue has room for; returns how many. Those
    /// not sent stay, in order; the caller retries, or drops them and counts.
    #[inline(always)]
    pub fn burst<const N: usize>(&mut self, mbufs: &mut ArrayVec<Mbuf, N>) -> usize {
        let len = mbufs.len();
        let ask = len.min(u16::MAX as usize) as u16;
        if ask == 0 {
            return 0;
        }
        // SAFETY: the port is started and stays so while `_port` is held; this is the queue's
        // only user. The first `ask` elements are mbufs, ours alone, and Mbuf has the
        // representation of a pointer. DPDK takes over the first `sent` of them; they leave the
        // vector without being dropped, and the rest moves to the front.
        unsafe {
            let first = mbufs.as_mut_ptr();
            let sent =
                usize::from(sys::shim_eth_tx_burst(self.ethdev, self.queue, first.cast(), ask));
            debug_assert!(sent <= len);
            mbufs.set_len(len - sent);
            if sent < len {
                std::ptr::copy(first.add(sent), first, len - sent);
            }
            sent
        }
    }
}
