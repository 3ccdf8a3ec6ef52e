//! Raw bindings to the parts of DPDK that Shunt uses: bindgen over an allow-list, and a C shim
//! for what DPDK has as static inline functions. No logic; `dataplane::dpdk` is the safe side.
//!
//! `rte_mbuf` is opaque. Its fields are at the offsets `SHIM_MBUF_*`, taken from the C headers at
//! build time, because they move between DPDK releases.
//!
//! Builds against DPDK 22.11, 23.11 and 24.11 (pkg-config `libdpdk`). Drivers are shared objects
//! that the EAL loads by itself from DPDK's plugin directory; nothing links against them.

#[allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#[allow(dead_code, unreachable_pub, unnecessary_transmutes, unsafe_op_in_unsafe_fn)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::cast_lossless)]
#[allow(clippy::semicolon_if_nothing_returned, clippy::missing_safety_doc)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
