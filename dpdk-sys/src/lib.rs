//! Raw bindings to DPDK (see README of the workspace). No logic.
