//! Direct routing: the frame goes to the real server's own Ethernet address (LVS-DR).
//!
//! The IP packet stays but for its TTL, so the real server must have the VIP as an address of its
//! own and must not answer ARP for it.

use super::ForwardError;
use crate::packet::buf::PacketBuf;
use crate::packet::{ethernet, ipv4};
use crate::types::Mac;

/// Ethernet and IPv4 header without options.
const HEADERS: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;

/// Addresses the frame from `src_mac`, the port's, to `dst_mac`, the real server's, and takes one
/// hop off the TTL (RFC 1812 5.3.1). Ethernet padding stays: the frame is as long as it came.
#[inline]
pub fn forward<B: PacketBuf>(buf: &mut B, src_mac: Mac, dst_mac: Mac) -> Result<(), ForwardError> {
    let frame = buf.data_mut().first_chunk_mut::<HEADERS>().ok_or(ForwardError::NoIpHeader)?;
    frame[..6].copy_from_slice(&dst_mac.0);
    frame[6..12].copy_from_slice(&src_mac.0);
    ipv4::decrement_ttl(&mut frame[ethernet::HEADER_LEN..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::packet::buf::TestBuf;
    use crate::packet::build::Build;
    use crate::packet::tcp::Flags;

    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const REAL: Mac = Mac([2, 0, 0, 0, 0, 3]);

    fn packet(src: Mac, dst: Mac, ttl: u8) -> Vec<u8> {
        Build::eth(src, dst)
            .ipv4(Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(192, 0, 2, 80))
            .ttl(ttl)
            .options(&[148, 4, 0, 0])
            .tcp(1024, 80, Flags::SYN, 1)
            .pad(70)
            .finish()
    }

    #[test]
    fn changes_addresses_and_ttl_only() {
        let mut buf = TestBuf::new(&packet(CLIENT, PORT, 64));
        forward(&mut buf, PORT, REAL).unwrap();
        assert_eq!(buf.data(), packet(PORT, REAL, 63));
    }

    #[test]
    fn refuses_what_is_no_packet() {
        let mut buf = TestBuf::new(&[0; 33]);
        assert_eq!(forward(&mut buf, PORT, REAL), Err(ForwardError::NoIpHeader));
        assert_eq!(buf.data(), [0; 33]);
    }
}
