//! The safe side of DPDK: EAL, mempools, mbufs, ports, queues and lcores.
//!
//! This is, beside [`crate::arch`], the only home of `unsafe`. Nothing here knows what a packet
//! means; everything above sees [`Mbuf`] through [`crate::packet::buf::PacketBuf`].
//!
//! # Threading
//! - [`Eal`] stays on the thread that started it.
//! - [`RxQueue`] and [`TxQueue`] move to the one thread that polls them.
//! - [`Mempool`] and [`Port`] are shared handles for any thread.
//! - [`Mbuf`] moves between threads and may be dropped on any.
//!
//! # Lifetimes
//! An mbuf carries no reference to its pool: that would be an atomic operation per packet.
//! Instead the memory of every pool lives until the EAL ends, and the EAL ends (see [`Eal`]) only
//! when no handle, no running lcore and no mbuf is left. A queue keeps its port open.
#![allow(unsafe_code)]

mod capability;
mod device;
mod eal;
mod errno;
mod field;
mod frame;
mod hash;
mod lcore;
mod log;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod quirk;
mod segment;
mod setup;

pub use capability::{CapabilityError, drop_capabilities};
pub use device::{DeviceError, attach, detach, devices};
pub use eal::{Eal, EalError, EalNotRunning, rdtsc, tsc_hz, version};
pub use errno::Errno;
pub use hash::{HashError, HashTable, RteHashKey};
pub use lcore::{
    LaunchError, LcoreHandle, RegisterError, RegisteredThread, current_lcore, launch,
    register_thread, socket_of_lcore,
};
pub use mbuf::{Mbuf, free_bulk};
pub use mempool::{Mempool, MempoolError};
pub use port::{LinkStatus, Port, PortConfig, PortError, PortFeatures, PortStats};
pub use queue::{RxQueue, TxQueue};
pub use quirk::Spread;
