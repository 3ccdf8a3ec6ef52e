//! Reading and writing big-endian fields at fixed places.
//!
//! The caller has checked the length; the optimizer then drops the bounds checks in here.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::types::Mac;

/// The 16-bit field at `at`.
#[inline(always)]
pub(crate) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit field at `at`.
#[inline(always)]
pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The IPv4 address at `at`.
#[inline(always)]
pub(crate) fn get_ipv4(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(get32(bytes, at))
}

/// The IPv6 address at `at`.
#[inline(always)]
pub(crate) fn get_ipv6(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// The Ethernet address at `at`.
#[inline(always)]
pub(crate) fn get_mac(bytes: &[u8], at: usize) -> Mac {
    let b = &bytes[at..at + 6];
    Mac([b[0], b[1], b[2], b[3], b[4], b[5]])
}

/// Writes the 16-bit field at `at`.
#[inline(always)]
pub(crate) fn set16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes the 32-bit field at `at`.
#[inline(always)]
pub(crate) fn set32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Writes the IPv4 address at `at`.
#[inline(always)]
pub(crate) fn set_ipv4(bytes: &mut [u8], at: usize, value: Ipv4Addr) {
    set32(bytes, at, value.to_bits());
}

/// Writes the IPv6 address at `at`.
#[inline(always)]
pub(crate) fn set_ipv6(bytes: &mut [u8], at: usize, value: Ipv6Addr) {
    bytes[at..at + 16].copy_from_slice(&value.octets());
}

/// Writes the Ethernet address at `at`.
#[inline(always)]
pub(crate) fn set_mac(bytes: &mut [u8], at: usize, value: Mac) {
    bytes[at..at + 6].copy_from_slice(&value.0);
}
