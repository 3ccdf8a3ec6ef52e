//! Mempools: where mbufs come from and go back to.
//!
//! # Lifetime
//! The memory of a pool is freed with the EAL, not with the last handle, because mbufs hold no
//! reference to it. Make pools at start (one per socket, say) and share them; a name is taken
//! until the EAL ends.
//!
//! # Threading
//! Any thread may allocate and free. An EAL lcore (or a [`super::RegisteredThread`]) has its own
//! cache in each pool; other threads go to the shared ring for each buffer. The ring's producers
//! wait for one another, so a thread that loses its processor in the middle of a put or get holds
//! up the others until it runs again: keep that traffic low.

use std::ffi::CString;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::eal::{EalNotRunning, EalUser, in_use};
use super::errno::Errno;
use super::mbuf::Mbuf;
use crate::packet::buf::BufPool;

/// Why a mempool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// Pools live in the EAL's memory.
    #[error(transparent)]
    EalNotRunning(#[from] EalNotRunning),
    /// A name with a NUL byte in it.
    #[error("mempool name {0:?} has a NUL byte in it")]
    Name(String),
    /// Names are unique until the EAL ends.
    #[error("a mempool named {0:?} exists already")]
    Exists(String),
    /// Not enough memory reserved.
    #[error(
        "mempool {name:?}: no room for {mbufs} mbufs (about {mib} MiB, contiguous, on socket \
         {socket}); reserve more hugepages, or with --no-huge raise -m"
    )]
    NoMemory {
        /// The pool.
        name: String,
        /// Buffers asked for.
        mbufs: u32,
        /// What they take.
        mib: u64,
        /// NUMA socket; -1 = any.
        socket: i32,
    },
    /// Anything else DPDK objects to.
    #[error(
        "mempool {name:?}: {mbufs} mbufs with {cache} cached per lcore (at most 512, and at most \
         two thirds of the mbufs): {errno}"
    )]
    Create {
        /// The pool.
        name: String,
        /// Buffers asked for.
        mbufs: u32,
        /// Cache asked for.
        cache: u32,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// A handle on a pool of mbufs; clones are the same pool.
#[derive(Clone)]
pub struct Mempool {
    raw: NonNull<sys::rte_mempool>,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    mbufs: u32,
    data_room: u16,
    /// Keeps the EAL, and with it the pool's memory, for as long as a handle exists.
    _eal: EalUser,
}

// SAFETY: rte_mempool's operations used here are safe from several threads at once (its default
// ring is multi-producer and multi-consumer, caches belong to one lcore each).
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Bytes in front of a fresh packet (`RTE_PKTMBUF_HEADROOM`).
    pub const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;
    /// Usual room for packet bytes in one mbuf.
    pub const DATA_ROOM: u16 = 2048;

    /// Room for packet bytes in one mbuf, so that a frame fits it whose IP packet is this long, by
    /// the count of every driver that can receive it in one; [`Mempool::DATA_ROOM`] at least.
    pub fn room_for(mtu: u16) -> u16 {
        super::frame::room(mtu).max(Self::DATA_ROOM)
    }

    /// Makes a pool of `mbufs` buffers, each with [`Mempool::HEADROOM`] and `data_room` bytes.
    ///
    /// `mbufs` is best one less than a power of two; `cache` is the number of free buffers each
    /// lcore keeps for itself (0 to 512). `socket` is a NUMA socket, or `None` for any.
    pub fn new(
        name: &str,
        mbufs: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<Mempool, MempoolError> {
        let eal = EalUser::new()?;
        let c_name = CString::new(name).map_err(|_| MempoolError::Name(name.into()))?;
        let socket = socket.map_or(sys::SHIM_SOCKET_ID_ANY, |id| id as i32);
        let room = data_room.saturating_add(Self::HEADROOM);
        // SAFETY: the EAL is running (`eal` keeps it so) and the name is NUL-terminated; DPDK
        // checks the numbers.
        let raw =
            unsafe { sys::rte_pktmbuf_pool_create(c_name.as_ptr(), mbufs, cache, 0, room, socket) };
        let Some(raw) = NonNull::new(raw) else {
            let name = name.to_owned();
            return Err(match Errno::last() {
                Errno::EEXIST => MempoolError::Exists(name),
                Errno::ENOMEM => {
                    // An mbuf, its header in the pool, and rounding to cache lines.
                    let bytes = u64::from(mbufs) * (u64::from(room) + 256);
                    MempoolError::NoMemory { name, mbufs, mib: bytes.div_ceil(1 << 20), socket }
                }
                errno => MempoolError::Create { name, mbufs, cache, errno },
            });
        };
        eal.remember_pool(raw);
        let shared = Shared { name: name.to_owned(), mbufs, data_room, _eal: eal };
        Ok(Mempool { raw, shared: Arc::new(shared) })
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Number of buffers the pool has in all.
    pub fn size(&self) -> u32 {
        self.shared.mbufs
    }

    /// Bytes for a packet in one buffer, headroom not counted.
    pub fn data_room(&self) -> u16 {
        self.shared.data_room
    }

    /// Buffers free now, those in lcores' caches included. Slow, and exact only when nobody
    /// allocates or frees meanwhile.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is live: the EAL is, while a handle exists.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Buffers not free now: in programs' hands, in rings, and waiting in NICs. As exact as
    /// [`Mempool::available`].
    pub fn in_use(&self) -> u32 {
        in_use(self.raw)
    }

    /// Adds `n` empty mbufs to `out`: all of them, or none and false when the pool has fewer or
    /// `out` has less room.
    #[must_use]
    pub fn alloc_bulk<const N: usize>(&self, out: &mut ArrayVec<Mbuf, N>, n: usize) -> bool {
        let len = out.len();
        if n > N - len {
            return false;
        }
        // SAFETY: the pool is live; there is room for `n` elements past the length, and Mbuf has
        // the representation of a pointer. On success all `n` are set to mbufs that nobody else
        // refers to.
        unsafe {
            let spare = out.as_mut_ptr().add(len).cast();
            let ok = sys::shim_pktmbuf_alloc_bulk(self.raw.as_ptr(), spare, n as u32) == 0;
            if ok {
                out.set_len(len + n);
            }
            ok
        }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl BufPool<Mbuf> for Mempool {
    #[inline]
    fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is live; a non-null result is a fresh mbuf with reference count 1.
        unsafe { Some(Mbuf::from_raw(NonNull::new(sys::shim_pktmbuf_alloc(self.raw.as_ptr()))?)) }
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("name", &self.shared.name)
            .field("size", &self.shared.mbufs)
            .finish_non_exhaustive()
    }
}
