//! Capture files for net_pcap to serve.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

/// The Ethernet address that net_pcap gives its first port.
pub(crate) const PORT_MAC: [u8; 6] = [0x02, 0x70, 0x63, 0x61, 0x70, 0x00];
/// VIP of the first service.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 0, 0);

/// A capture shorter than this repeats itself: its source is as fast as that of the next size.
const LEAST_PACKETS: usize = 1024;

/// What is in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) tcp: bool,
    /// Flows, one packet each.
    pub(crate) flows: usize,
    /// Virtual services they go to, in turn.
    pub(crate) services: usize,
    /// Bytes of a frame with its frame check sequence, which is not in the file.
    pub(crate) frame: usize,
}

impl Traffic {
    /// Packets in the file.
    pub(crate) fn packets(&self) -> usize {
        self.flows.max(LEAST_PACKETS)
    }

    /// The services' L4 port.
    pub(crate) fn port(&self) -> u16 {
        if self.tcp { 80 } else { 443 }
    }

    /// Writes the capture, flows in random order.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut order: Vec<usize> = (0..self.flows).collect();
        let mut x = 0x2545_f491_4f6c_dd1d_u64;
        for i in (1..order.len()).rev() {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            order.swap(i, (x % (i as u64 + 1)) as usize);
        }
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
            file.write_all(&word.to_ne_bytes())?;
        }
        for flow in order.iter().cycle().take(self.packets()) {
            let frame = self.frame(*flow);
            for word in [0, 0, frame.len() as u32, frame.len() as u32] {
                file.write_all(&u32::to_ne_bytes(word))?;
            }
            file.write_all(&frame)?;
        }
        Ok(file.flush()?)
    }

    fn frame(&self, flow: usize) -> Vec<u8> {
        let src = 0x0a00_0001 + (flow / 50_000) as u32;
        let dst = VIP.to_bits() + (flow % self.services) as u32;
        let sport = 10_000 + (flow % 50_000) as u16;
        let mut out = Vec::with_capacity(self.frame);
        out.extend(PORT_MAC);
        out.extend([2, 0, 0, 0, 0, 1, 8, 0]);
        // The shortest frame holds more than TCP needs; UDP fills it.
        let total = match (self.frame - 18, self.tcp) {
            (46, true) => 40,
            (len, _) => len,
        } as u16;
        out.extend([0x45, 0]);
        out.extend(total.to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, if self.tcp { 6 } else { 17 }, 0, 0]);
        out.extend(src.to_be_bytes());
        out.extend(dst.to_be_bytes());
        let sum = out[14..34].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let mut sum: u32 = sum.sum();
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        out[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        out.extend(sport.to_be_bytes());
        out.extend(self.port().to_be_bytes());
        if self.tcp {
            // Sequence numbers, header length, ACK, window.
            out.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff]);
        } else {
            out.extend((total - 20).to_be_bytes());
        }
        out.resize(self.frame - 4, 0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_long_as_they_say() {
        for tcp in [false, true] {
            for frame in [64, 512, 1500] {
                let traffic = Traffic { tcp, flows: 9, services: 3, frame };
                let bytes = traffic.frame(5);
                assert_eq!(bytes.len(), frame - 4);
                let total = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
                assert!(total + 14 <= bytes.len());
                assert_eq!(bytes[30..34], [203, 0, 0, 2]);
            }
        }
    }
}
