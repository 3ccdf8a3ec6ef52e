//! Header views and builders over byte slices, and checksums. No clock, no I/O.
#![forbid(unsafe_code)]

pub mod buf;
