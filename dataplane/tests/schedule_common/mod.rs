//! The hash of clients and VIPs, written as the documents have it, in whole numbers.

/// Both halves of a product of 128 bits.
fn halves(a: u64, b: u64) -> [u64; 2] {
    let product = u128::from(a).checked_mul(u128::from(b)).expect("128 bits hold it");
    [(product % (1 << 64)) as u64, (product / (1 << 64)) as u64]
}

fn folded(a: u64, b: u64) -> u64 {
    let [low, high] = halves(a, b);
    low ^ high
}

/// Two words under a key: a product, and its halves' product, both with secrets before.
fn hash(key: [u8; 16], a: u64, b: u64) -> u64 {
    let [low, high] = [&key[..8], &key[8..]].map(|k| u64::from_le_bytes(k.try_into().unwrap()));
    let (low, high) = (low ^ 0x3f84d5b5b5470917, high ^ 0xc0ac29b7c97c50dd);
    // Fractions of pi, 64 bits each: the first to the fourth.
    let third = folded(low ^ 0x243f6a8885a308d3, high ^ 0x13198a2e03707344);
    let fourth = folded(high ^ 0xa4093822299f31d0, low ^ 0x082efa98ec4e6c89);
    let [a, b] = halves(a ^ low, b ^ high);
    folded(a ^ third, b ^ fourth)
}

/// A client's address, and L4 port where that counts (else 0).
pub(crate) fn client(key: [u8; 16], address: [u8; 4], port: u16) -> u64 {
    hash(key, u32::from_be_bytes(address).into(), 0x452821e638d00000 + u64::from(port))
}

/// A VIP.
#[allow(dead_code)] // Not every test that looks clients up looks VIPs up.
pub(crate) fn vip(key: [u8; 16], address: [u8; 4]) -> u64 {
    hash(key, u32::from_be_bytes(address).into(), 0x1377be5466cf0000)
}
