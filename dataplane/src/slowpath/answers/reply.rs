//! How an answer leaves: where it goes, and how many there may be.

use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::checksum;
use crate::packet::ethernet::{self, EtherType};
use crate::slowpath::limit::TokenBucket;
use crate::slowpath::output::Context;
use crate::stats::DropReason;
use crate::types::{Mac, PortId};

const PER_SECOND: u32 = 1000;
const BURST: u32 = 50;

/// Which kinds of answer are limited apart, for one address family.
pub(super) struct Limits {
    /// Fragmentation needed, packet too big.
    pub(super) too_long: TokenBucket,
    pub(super) other_errors: TokenBucket,
    pub(super) resets: TokenBucket,
    /// Port unreachable, where a virtual service has no real server.
    pub(super) unserved: TokenBucket,
}

impl Limits {
    pub(super) fn new() -> Limits {
        let bucket = || TokenBucket::new(PER_SECOND, BURST);
        let (too_long, other_errors) = (bucket(), bucket());
        Limits { too_long, other_errors, resets: bucket(), unserved: bucket() }
    }
}

/// Where the IP packet of an answer is written.
pub(super) fn ip_part(frame: &mut [u8]) -> &mut [u8] {
    &mut frame[ethernet::HEADER_LEN..]
}

/// The one an answer goes to, by the port its packet came in on.
#[derive(Debug, Clone, Copy)]
pub(super) struct To {
    pub(super) port: PortId,
    pub(super) mac: Mac,
    pub(super) ethertype: EtherType,
}

/// Sends an answer, `len` bytes of IP packet in `frame`, if the bucket has a token. What is not to
/// be answered takes none.
pub(super) fn send_back<B: PacketBuf, P: BufPool<B>>(
    frame: &mut [u8],
    len: usize,
    to: To,
    bucket: &mut TokenBucket,
    buf: B,
    cx: &mut Context<'_, B, P>,
) -> Result<(), DropReason> {
    let src = cx.own.mac(to.port).ok_or(DropReason::SlowPathUnknown)?;
    let eth = ethernet::Header { dst: to.mac, src, ethertype: to.ethertype };
    eth.emit(frame).map_err(|_| DropReason::SlowPathUnknown)?;
    if !bucket.take(cx.now) {
        return Err(DropReason::RateLimited);
    }
    // `frame` is all zeroes after the packet: the padding of one too short for Ethernet.
    let len = (ethernet::HEADER_LEN + len).max(ethernet::MIN_FRAME_LEN).min(frame.len());
    let buf = cx.refill(buf, &frame[..len]).ok_or(DropReason::NoBuffer)?;
    cx.send(to.port, buf);
    Ok(())
}

/// Whether `buf`'s bytes from `at` to `end`, across segments, and what was summed already make a
/// right Internet checksum.
pub(super) fn verify_checksum<B: PacketBuf>(
    buf: &B,
    mut at: usize,
    end: usize,
    mut sum: u16,
) -> Result<(), DropReason> {
    // Chunks of an even length but for the last, so that their sums add up.
    let mut chunk = [0; 512];
    while at < end {
        let part = &mut chunk[..(end - at).min(512)];
        if !buf.copy_to(at, part) {
            return Err(DropReason::SlowPathUnknown);
        }
        sum = checksum::add(sum, checksum::sum(part));
        at += part.len();
    }
    if sum == 0xffff { Ok(()) } else { Err(DropReason::BadIcmpChecksum) }
}
