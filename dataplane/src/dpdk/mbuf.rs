//! The mbuf: one packet, owned.
//!
//! # Invariants
//! An [`Mbuf`] is the only reference to its chain of segments (reference count 1, no clone, no
//! attach anywhere in this crate), so its bytes may be handed out as `&mut`.
//! `data_off + data_len <= buf_len` holds for each segment, and `pkt_len` is the sum of `data_len`.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::segment::{Segment, SegmentMut};
use crate::packet::buf::{PacketBuf, RxChecksum};

/// One packet in DPDK's memory. Dropping it gives all its segments back to their pool.
///
/// Made by [`super::Mempool`] and [`super::RxQueue`], consumed by [`super::TxQueue`].
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<sys::rte_mbuf>,
}

// SAFETY: an Mbuf is the only reference to its segments, and mempools take buffers back from any
// thread. (NonNull makes it not Sync; nothing needs it to be.)
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes ownership of a chain.
    ///
    /// # Safety
    /// `raw` is a live mbuf with reference count 1 that nobody else refers to.
    #[inline(always)]
    pub(super) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Mbuf {
        Mbuf { raw }
    }

    /// DPDK's offload flags (`RTE_MBUF_F_*`).
    #[inline(always)]
    pub fn ol_flags(&self) -> u64 {
        self.head().ol_flags()
    }

    /// What the NIC takes the packet for (`RTE_PTYPE_*`); 0 = it did not look.
    #[inline(always)]
    pub fn packet_type(&self) -> u32 {
        self.head().packet_type()
    }

    /// DPDK's number of the port the packet came in on.
    #[inline(always)]
    pub fn ethdev_id(&self) -> u16 {
        self.head().port()
    }

    /// Number of segments.
    #[inline(always)]
    pub fn segments(&self) -> usize {
        usize::from(self.head().nb_segs())
    }

    /// Bytes free in front of the packet.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        usize::from(self.head().data_off())
    }

    /// Bytes free behind the packet, in its last segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.head().last().tailroom()
    }

    /// Appends the segments of `tail`; gives it back when the chain would be too long.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        let tail = ManuallyDrop::new(tail);
        // SAFETY: both chains are live and ours alone. On success the first one owns the second,
        // whose handle is then forgotten.
        match unsafe { sys::shim_pktmbuf_chain(self.raw.as_ptr(), tail.raw.as_ptr()) } {
            0 => Ok(()),
            _ => Err(ManuallyDrop::into_inner(tail)),
        }
    }

    #[inline(always)]
    fn head(&self) -> Segment<'_> {
        // SAFETY: an Mbuf's segments are live, and nobody writes them while it is borrowed.
        unsafe { Segment::new(self.raw) }
    }

    #[inline(always)]
    fn head_mut(&mut self) -> SegmentMut<'_> {
        // SAFETY: an Mbuf's segments are live, and ours alone while it is borrowed exclusively.
        unsafe { SegmentMut::new(self.raw) }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `raw` is live, and this was its only reference.
        unsafe { sys::shim_pktmbuf_free(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("segments", &self.segments())
            .field("ethdev_id", &self.ethdev_id())
            .finish()
    }
}

impl PacketBuf for Mbuf {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        self.head().bytes()
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        self.head_mut().into_bytes()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.head().pkt_len() as usize
    }

    #[inline(always)]
    fn prepend(&mut self, n: usize) -> bool {
        let mut head = self.head_mut();
        let (data_off, data_len) = (head.get().data_off(), head.get().data_len());
        if n > usize::from(data_off) {
            return false;
        }
        let pkt_len = head.get().pkt_len() + n as u32;
        head.set_data_off(data_off - n as u16);
        head.set_data_len(data_len + n as u16);
        head.set_pkt_len(pkt_len);
        true
    }

    #[inline(always)]
    fn trim_front(&mut self, n: usize) -> bool {
        let mut head = self.head_mut();
        let (data_off, data_len) = (head.get().data_off(), head.get().data_len());
        if n > usize::from(data_len) {
            return false;
        }
        let pkt_len = head.get().pkt_len() - n as u32;
        head.set_data_off(data_off + n as u16);
        head.set_data_len(data_len - n as u16);
        head.set_pkt_len(pkt_len);
        true
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> bool {
        let cut = match self.len().checked_sub(len) {
            None | Some(0) => return true,
            Some(cut) => cut,
        };
        let mut last = self.head_mut().into_last();
        let data_len = last.get().data_len();
        if cut > usize::from(data_len) {
            return false;
        }
        last.set_data_len(data_len - cut as u16);
        self.head_mut().set_pkt_len(len as u32);
        true
    }

    #[inline]
    fn append(&mut self, n: usize) -> bool {
        let mut last = self.head_mut().into_last();
        if n > last.get().tailroom() {
            return false;
        }
        let data_len = last.get().data_len();
        last.set_data_len(data_len + n as u16);
        let mut head = self.head_mut();
        let pkt_len = head.get().pkt_len() + n as u32;
        head.set_pkt_len(pkt_len);
        true
    }

    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        match self.len().checked_sub(offset) {
            Some(left) if left >= out.len() => {}
            _ => return false,
        }
        let (mut skip, mut out) = (offset, out);
        let mut segment = Some(self.head());
        while let Some(current) = segment {
            let bytes = current.bytes();
            let from = skip.min(bytes.len());
            skip -= from;
            let n = out.len().min(bytes.len() - from);
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&bytes[from..from + n]);
            if later.is_empty() {
                break;
            }
            out = later;
            segment = current.next();
        }
        true
    }

    #[inline(always)]
    fn rx_ip_checksum(&self) -> RxChecksum {
        // Both bits together (RTE_MBUF_F_RX_IP_CKSUM_NONE): the header is intact but its checksum
        // is not filled in, as from a virtual machine on the same host. Software decides.
        match self.ol_flags() & sys::SHIM_RX_IP_CKSUM_MASK {
            sys::SHIM_RX_IP_CKSUM_GOOD => RxChecksum::Good,
            sys::SHIM_RX_IP_CKSUM_BAD => RxChecksum::Bad,
            _ => RxChecksum::Unknown,
        }
    }
}

/// Gives back a whole burst at once, cheaper than dropping one by one. Leaves `mbufs` empty.
#[inline]
pub fn free_bulk<const N: usize>(mbufs: &mut ArrayVec<Mbuf, N>) {
    let count = mbufs.len();
    // SAFETY: the first `count` elements are mbufs, ours alone, and Mbuf has the representation
    // of a pointer. The vector is emptied first, so that nothing frees them again.
    unsafe {
        mbufs.set_len(0);
        sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr().cast(), count as u32);
    }
}
