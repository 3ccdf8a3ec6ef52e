//! Fragmentation of a packet too long for the egress MTU, RFC 791 3.2.
//!
//! A packet whose DF is clear is cut after it has been rewritten: for a tunnel that is the outer
//! packet, put together again by the real server before it looks inside. This is a rare path: it
//! copies, and takes its buffers from the pool.
//!
//! # Limits
//! At most [`MAX_FRAGMENTS`] a packet. A fragment must fit one buffer of the pool.

use arrayvec::ArrayVec;

use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::{HeaderError, ethernet, ipv4};

/// Most fragments one packet is cut into: a full 64 KiB at an MTU of 1064 bytes.
pub const MAX_FRAGMENTS: usize = 64;

/// Why a packet was not fragmented; nothing was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FragmentError {
    /// DF is set: the packet must not be fragmented.
    #[error("don't fragment is set")]
    DontFragment,
    /// It would take more than [`MAX_FRAGMENTS`], or the MTU is below RFC 791's 68 bytes.
    #[error("too many fragments")]
    TooManyFragments,
    /// The pool has no buffer left.
    #[error("no buffer left")]
    NoBuffer,
    /// A buffer of the pool is shorter than a fragment.
    #[error("buffer shorter than a fragment")]
    BufferTooSmall,
    /// The frame does not hold the IPv4 packet its header tells of.
    #[error("bad IPv4 packet")]
    BadPacket,
}

/// Whether `inner_len` bytes of IP packet, with `overhead` bytes of tunnel in front, are too long
/// for `mtu`. All in bytes, from the IP header on.
#[inline(always)]
pub const fn needs_fragmentation(inner_len: u16, overhead: u16, mtu: u16) -> bool {
    inner_len as u32 + overhead as u32 > mtu as u32
}

/// Cuts the IPv4 packet in the frame `buf` into fragments of at most `mtu` bytes of IP packet and
/// hands the frames to `emit`, in order. Gives their number.
///
/// All buffers are taken before the first is emitted: on an error nothing has been. `buf` is left
/// as it is, for the caller to free. A fragment may be fragmented again.
pub fn fragment<B: PacketBuf, P: BufPool<B> + ?Sized>(
    buf: &B,
    pool: &P,
    mtu: u16,
    emit: impl FnMut(B),
) -> Result<usize, FragmentError> {
    let first = buf.data();
    let (Some(eth), Some(bytes)) =
        (first.first_chunk::<{ ethernet::HEADER_LEN }>(), first.get(ethernet::HEADER_LEN..))
    else {
        return Err(FragmentError::BadPacket);
    };
    let ip = ipv4::Packet::new_in(bytes, buf.len() - ethernet::HEADER_LEN)
        .map_err(|_: HeaderError| FragmentError::BadPacket)?;
    let bits = ip.fragment();
    if bits.df() {
        return Err(FragmentError::DontFragment);
    }
    let payload_len = usize::from(ip.total_len()) - ip.header_len();
    if usize::from(bits.offset()) + payload_len > usize::from(u16::MAX) {
        return Err(FragmentError::BadPacket);
    }
    let later_options = copied_options(ip.options());
    let mut header = ipv4::Header {
        tos: ip.tos(),
        payload_len: 0,
        id: ip.id(),
        fragment: bits,
        ttl: ip.ttl(),
        protocol: ip.protocol(),
        src: ip.src(),
        dst: ip.dst(),
        options: ip.options().iter().copied().collect(),
    };
    if mtu < ipv4::MIN_MTU {
        return Err(FragmentError::TooManyFragments);
    }

    let mut fragments = ArrayVec::<B, MAX_FRAGMENTS>::new();
    let mut done = 0;
    loop {
        let left = payload_len - done;
        let room = usize::from(mtu) - header.len();
        // "The first portion of the data is ... on an 8 octet (64 bit) boundary."
        let part = if left <= room { left } else { room & !7 };
        let last = part == left;
        header.payload_len = part as u16;
        header.fragment = bits.with(bits.offset() + done as u16, !last || bits.more());
        let frame = one(buf, pool, eth, &header, ethernet::HEADER_LEN + ip.header_len() + done)?;
        fragments.try_push(frame).map_err(|_| FragmentError::TooManyFragments)?;
        done += part;
        if last {
            break;
        }
        header.options.clone_from(&later_options);
    }
    let n = fragments.len();
    fragments.into_iter().for_each(emit);
    Ok(n)
}

/// One fragment: the headers, and the bytes of `buf` at `from`.
fn one<B: PacketBuf, P: BufPool<B> + ?Sized>(
    buf: &B,
    pool: &P,
    eth: &[u8; ethernet::HEADER_LEN],
    header: &ipv4::Header,
    from: usize,
) -> Result<B, FragmentError> {
    let headers = eth.len() + header.len();
    let mut new = pool.alloc().ok_or(FragmentError::NoBuffer)?;
    if !new.append(headers + usize::from(header.payload_len)) {
        return Err(FragmentError::BufferTooSmall);
    }
    let Some((front, data)) = new.data_mut().split_at_mut_checked(headers) else {
        return Err(FragmentError::BufferTooSmall);
    };
    front[..eth.len()].copy_from_slice(eth);
    header.emit(&mut front[eth.len()..]).map_err(|_| FragmentError::BadPacket)?;
    if !buf.copy_to(from, data) {
        return Err(FragmentError::BadPacket);
    }
    Ok(new)
}

/// The options that go into every fragment: those with the copied flag (RFC 791 3.1), padded with
/// "end of options" to a multiple of four. What cannot be read ends the chain.
fn copied_options(mut options: &[u8]) -> ArrayVec<u8, { ipv4::MAX_OPTIONS_LEN }> {
    const COPIED: u8 = 0x80;
    let mut copied = ArrayVec::new();
    while let [kind, rest @ ..] = options {
        let len = match *kind {
            0 => break, // End of options.
            1 => 1,     // No operation: only aligns.
            _ => match rest.first() {
                Some(&len) if len >= 2 && usize::from(len) <= options.len() => usize::from(len),
                _ => break,
            },
        };
        let (option, rest) = options.split_at(len);
        if kind & COPIED != 0 {
            let _ = copied.try_extend_from_slice(option);
        }
        options = rest;
    }
    while copied.len() % 4 != 0 {
        copied.push(0);
    }
    copied
}

#[cfg(test)]
mod tests;
