//! What the pipeline's benchmarks share: packet buffers that cost nothing to recycle, traffic, a
//! pipeline with everything around it, and the named scenarios.

#![allow(dead_code)] // each benchmark uses a part of it

pub mod buffer;
#[cfg(feature = "dpdk")]
pub mod mbufs;
pub mod rig;
pub mod scenario;
pub mod traffic;
