//! (layer dpdk)
