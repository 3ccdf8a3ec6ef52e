//! The compiled configuration and its publication to workers.
#![forbid(unsafe_code)]

pub mod neighbors;
pub mod route;
pub mod spec;
