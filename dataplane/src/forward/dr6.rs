//! Direct routing for IPv6: the frame goes to the real server's own Ethernet address (LVS-DR).
//!
//! The IP packet stays but for its hop limit, so the real server must have the VIP as an address of
//! its own and must not answer neighbor solicitations for it. A packet too long for the egress MTU is answered with
//! "packet too big" (RFC 4443 3.2), whatever it is: routers do not fragment IPv6 (RFC 8200 5).

use super::ForwardError;
use crate::packet::buf::PacketBuf;
use crate::packet::{ethernet, ipv6};
use crate::types::Mac;

/// Ethernet and IPv6 header.
const HEADERS: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;

/// Addresses the frame from `src_mac`, the port's, to `dst_mac`, the real server's, and takes one
/// hop off the hop limit (RFC 8200 3). Ethernet padding stays: the frame is as long as it came.
#[inline]
pub fn forward<B: PacketBuf>(buf: &mut B, src_mac: Mac, dst_mac: Mac) -> Result<(), ForwardError> {
    let frame = buf.data_mut().first_chunk_mut::<HEADERS>().ok_or(ForwardError::NoIpHeader)?;
    frame[..6].copy_from_slice(&dst_mac.0);
    frame[6..12].copy_from_slice(&src_mac.0);
    ipv6::decrement_hop_limit(&mut frame[ethernet::HEADER_LEN..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buf::TestBuf;
    use crate::packet::build::Build;

    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const REAL: Mac = Mac([2, 0, 0, 0, 0, 3]);

    fn packet(src: Mac, dst: Mac, hop_limit: u8) -> Vec<u8> {
        Build::eth(src, dst)
            .ipv6(
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into(),
            )
            .ttl(hop_limit)
            .tos(0xb9)
            .flow_label(7)
            .ext(60, &[0, 1, 4, 0, 0, 0, 0])
            .udp(1024, 53)
            .pad(90)
            .finish()
    }

    #[test]
    fn changes_addresses_and_hop_limit_only() {
        for (before, after) in [(64, 63), (1, 0), (0, 0)] {
            let mut buf = TestBuf::new(&packet(CLIENT, PORT, before));
            forward(&mut buf, PORT, REAL).unwrap();
            assert_eq!(buf.data(), packet(PORT, REAL, after));
        }
    }

    #[test]
    fn refuses_what_is_no_packet() {
        let mut buf = TestBuf::new(&[0; 53]);
        assert_eq!(forward(&mut buf, PORT, REAL), Err(ForwardError::NoIpHeader));
        assert_eq!(buf.data(), [0; 53]);
    }
}
