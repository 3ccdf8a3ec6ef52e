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

/// The four secrets of a key.
fn secrets(key: [u8; 16]) -> [u64; 4] {
    let [low, high] = [&key[..8], &key[8..]].map(|k| u64::from_le_bytes(k.try_into().unwrap()));
    let (low, high) = (low ^ 0x3f84d5b5b5470917, high ^ 0xc0ac29b7c97c50dd);
    // Fractions of pi, 64 bits each: the first to the fourth.
    let third = folded(low ^ 0x243f6a8885a308d3, high ^ 0x13198a2e03707344);
    let fourth = folded(high ^ 0xa4093822299f31d0, low ^ 0x082efa98ec4e6c89);
    [low, high, third, fourth]
}

/// Two words under a key: a product, and its halves' product, both with secrets before.
fn hash(key: [u8; 16], a: u64, b: u64) -> u64 {
    let [first, second, third, fourth] = secrets(key);
    let [a, b] = halves(a ^ first, b ^ second);
    folded(a ^ third, b ^ fourth)
}

/// Five words under a key: two pairs are folded, the second with other secrets, and what is left
/// goes as above.
fn hash_wide(key: [u8; 16], [a, b, c, d, e]: [u64; 5]) -> u64 {
    let [first, second, third, fourth] = secrets(key);
    let halves_swapped = |word: u64| word.rotate_left(32);
    let pair = folded(a ^ third, b ^ fourth);
    let other = folded(c ^ halves_swapped(fourth), d ^ halves_swapped(third));
    let [a, b] = halves(pair ^ first, other ^ e ^ second);
    folded(a ^ third, b ^ fourth)
}

/// A client's IPv6 address.
#[allow(dead_code)] // The histories have IPv4 clients only.
pub(crate) fn client6(key: [u8; 16], address: u128) -> u64 {
    let words = [(address / (1 << 64)) as u64, (address % (1 << 64)) as u64, 0, 0];
    let [a, b, c, d] = words;
    hash_wide(key, [a, b, c, d, 0x452821e638d00000])
}

/// A client's address, and L4 port where that counts (else 0).
pub(crate) fn client(key: [u8; 16], address: [u8; 4], port: u16) -> u64 {
    hash(key, u32::from_be_bytes(address).into(), 0x452821e638d00000 + u64::from(port))
}

/// A VIP.
#[allow(dead_code)] // The oracles look no VIP up.
pub(crate) fn vip(key: [u8; 16], address: [u8; 4]) -> u64 {
    hash(key, u32::from_be_bytes(address).into(), 0x1377be5466cf0000)
}
