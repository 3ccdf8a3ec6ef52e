//! The key of a flow of either family, where memory and time do not matter.

use std::fmt;
use std::net::IpAddr;

use super::{FlowKey, FlowKey6, Protocol, Tuple};

/// A flow over IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnyFlowKey {
    /// Over IPv4.
    V4(FlowKey),
    /// Over IPv6.
    V6(FlowKey6),
}

macro_rules! either {
    ($name:ident, $kind:ty) => {
        fn $name(&self) -> $kind {
            match self {
                AnyFlowKey::V4(key) => Tuple::$name(key),
                AnyFlowKey::V6(key) => Tuple::$name(key),
            }
        }
    };
}

impl Tuple for AnyFlowKey {
    either!(client, IpAddr);
    either!(vip, IpAddr);
    either!(client_port, u16);
    either!(vip_port, u16);
    either!(protocol, Protocol);
}

impl From<FlowKey> for AnyFlowKey {
    fn from(key: FlowKey) -> AnyFlowKey {
        AnyFlowKey::V4(key)
    }
}

impl From<FlowKey6> for AnyFlowKey {
    fn from(key: FlowKey6) -> AnyFlowKey {
        AnyFlowKey::V6(key)
    }
}

impl fmt::Display for AnyFlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyFlowKey::V4(key) => key.fmt(f),
            AnyFlowKey::V6(key) => key.fmt(f),
        }
    }
}
