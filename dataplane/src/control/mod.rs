//! The control plane's server and protocol. It speaks to workers only through [`plane::Plane`].
#![forbid(unsafe_code)]

pub mod plane;
