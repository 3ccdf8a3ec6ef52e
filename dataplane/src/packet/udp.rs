//! UDP, RFC 768.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::field::{get16, set16};
use super::{HeaderError, checksum, ipv4};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

mod at {
    pub(super) const SPORT: usize = 0;
    pub(super) const DPORT: usize = 2;
    pub(super) const LEN: usize = 4;
    pub(super) const CHECKSUM: usize = 6;
}

/// A view of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Datagram<T> {
    /// A view of `bytes`, an IP payload without Ethernet padding.
    #[inline]
    pub fn new(bytes: T) -> Result<Datagram<T>, HeaderError> {
        let b = bytes.as_ref();
        if b.len() < HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        let len = usize::from(get16(b, at::LEN));
        if len < HEADER_LEN {
            return Err(HeaderError::Malformed);
        }
        if len > b.len() {
            return Err(HeaderError::TooShort);
        }
        Ok(Datagram { bytes })
    }

    /// Source L4 port; 0 when no answer is expected.
    #[inline]
    pub fn sport(&self) -> u16 {
        get16(self.bytes.as_ref(), at::SPORT)
    }

    /// Destination L4 port.
    #[inline]
    pub fn dport(&self) -> u16 {
        get16(self.bytes.as_ref(), at::DPORT)
    }

    /// Length of header and data in bytes; 8 at least.
    #[inline]
    pub fn datagram_len(&self) -> u16 {
        get16(self.bytes.as_ref(), at::LEN)
    }

    /// Checksum as it stands; 0 when the sender made none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(self.bytes.as_ref(), at::CHECKSUM)
    }

    /// Data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..usize::from(self.datagram_len())]
    }

    /// Whether the checksum is right for these addresses, or absent.
    pub fn verify_checksum(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        let len = self.datagram_len();
        let pseudo = checksum::pseudo_header_v4(src, dst, ipv4::protocol::UDP, len);
        self.checksum() == 0
            || checksum::add(checksum::sum(&self.bytes.as_ref()[..usize::from(len)]), pseudo)
                == 0xffff
    }
}

impl<T: AsRef<[u8]>> fmt::Display for Datagram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp {} -> {} length {}", self.sport(), self.dport(), self.payload().len())
    }
}

/// The header as a value. Its length and checksum are computed when it is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source L4 port.
    pub sport: u16,
    /// Destination L4 port.
    pub dport: u16,
}

impl Header {
    /// Reads the header at the front of `bytes`. The checksum is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let datagram = Datagram::new(bytes)?;
        Ok(Header { sport: datagram.sport(), dport: datagram.dport() })
    }

    /// Writes the header to the front of `out`, the rest of which is the data already, and the
    /// checksum over both.
    pub fn emit(&self, out: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr) -> Result<(), HeaderError> {
        self.emit_with(out, |len| checksum::pseudo_header_v4(src, dst, ipv4::protocol::UDP, len))
    }

    /// The same over IPv6 (RFC 8200 8.1).
    pub fn emit6(&self, out: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), HeaderError> {
        let udp = ipv4::protocol::UDP;
        self.emit_with(out, |len| checksum::pseudo_header_v6(src, dst, udp, u32::from(len)))
    }

    /// `pseudo` gives the sum of the pseudo header for the length of the datagram in bytes.
    #[inline]
    fn emit_with(
        &self,
        out: &mut [u8],
        pseudo: impl FnOnce(u16) -> u16,
    ) -> Result<(), HeaderError> {
        if out.len() < HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        let len = u16::try_from(out.len()).map_err(|_| HeaderError::Malformed)?;
        set16(out, at::SPORT, self.sport);
        set16(out, at::DPORT, self.dport);
        set16(out, at::LEN, len);
        set16(out, at::CHECKSUM, 0);
        let check = !checksum::add(checksum::sum(out), pseudo(len));
        // "If the computed checksum is zero, it is transmitted as all ones."
        set16(out, at::CHECKSUM, if check == 0 { 0xffff } else { check });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 31);
    const DST: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 30);
    /// As scapy builds it: 192.168.0.31:1 -> 192.168.0.30:2, data "Hi\n".
    const BYTES: [u8; 11] = [0x00, 0x01, 0x00, 0x02, 0x00, 0x0b, 0x2b, 0xde, b'H', b'i', b'\n'];

    #[test]
    fn emits_golden_bytes() {
        let mut out = BYTES;
        out[..8].fill(0xee);
        Header { sport: 1, dport: 2 }.emit(&mut out, SRC, DST).unwrap();
        assert_eq!(out, BYTES);
    }

    #[test]
    fn reads_a_datagram() {
        let mut padded = BYTES.to_vec();
        padded.extend([0; 20]);
        let datagram = Datagram::new(&padded).unwrap();
        assert_eq!((datagram.sport(), datagram.dport(), datagram.datagram_len()), (1, 2, 11));
        assert_eq!(datagram.payload(), b"Hi\n");
        assert!(datagram.verify_checksum(SRC, DST));
        assert!(!datagram.verify_checksum(SRC, Ipv4Addr::LOCALHOST));
        assert_eq!(datagram.to_string(), "udp 1 -> 2 length 3");
    }

    #[test]
    fn no_checksum_is_right_and_zero_is_sent_as_ones() {
        let mut none = BYTES;
        none[6..8].fill(0);
        assert!(Datagram::new(none).unwrap().verify_checksum(SRC, DST));
        // A datagram whose sum is 0xffff without its checksum.
        let mut out = [0; 10];
        Header { sport: 0, dport: 0 }.emit(&mut out, SRC, DST).unwrap();
        let check = get16(&out, at::CHECKSUM);
        let mut out = [0, 0, 0, 0, 0, 0, 0, 0, (check >> 8) as u8, check as u8];
        Header { sport: 0, dport: 0 }.emit(&mut out, SRC, DST).unwrap();
        assert_eq!(get16(&out, at::CHECKSUM), 0xffff);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(mut bytes in proptest::collection::vec(any::<u8>(), 0..40),
                                               len in 0u16..48) {
            if let Some(field) = bytes.get_mut(4..6) {
                field.copy_from_slice(&len.to_be_bytes());
            }
            match Datagram::new(&bytes) {
                Err(HeaderError::Malformed) => prop_assert!(len < 8),
                Err(error) => {
                    prop_assert_eq!(error, HeaderError::TooShort);
                    prop_assert!(bytes.len() < 8 || bytes.len() < usize::from(len));
                }
                Ok(datagram) => {
                    let mut out = bytes[..usize::from(datagram.datagram_len())].to_vec();
                    Header::parse(&bytes).unwrap().emit(&mut out, SRC, DST).unwrap();
                    prop_assert!(Datagram::new(&out).unwrap().verify_checksum(SRC, DST));
                    out[6..8].copy_from_slice(&bytes[6..8]); // the checksum was arbitrary
                    prop_assert_eq!(&out[..], &bytes[..usize::from(len)]);
                }
            }
        }
    }
}
