//! One cache line of the index: twelve tags and the entries they stand for.
//!
//! The tags and the overflow count share one 16-byte word, so that a single vector comparison
//! (SSE2 on x86-64, NEON on ARM, both in the baseline) tells which slots a key may be in. The
//! comparison is a plain loop that the compiler turns into three instructions.

/// Slots of a bucket: as many as fit in a line with their tags and the overflow count.
pub(super) const SLOTS: usize = 12;

/// The bits of the slots in a comparison of the whole head.
const SLOT_BITS: u16 = (1 << SLOTS) - 1;

/// The tag of an empty slot; [`tag`] never makes it.
const EMPTY: u8 = 0;

/// The tag of a hash: the bits that choose neither bucket.
#[inline(always)]
pub(super) const fn tag(hash: u64) -> u8 {
    let tag = hash as u8;
    if tag == EMPTY { 1 } else { tag }
}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    /// Bytes 0..12 are the slots' tags, 12..16 the overflow count, little endian.
    head: [u8; 16],
    entries: [u32; SLOTS],
}

impl Bucket {
    pub(super) const NEW: Bucket = Bucket { head: [EMPTY; 16], entries: [0; SLOTS] };

    #[inline(always)]
    fn compare(&self, tag: u8) -> u16 {
        let mut bits = 0;
        for (i, &byte) in self.head.iter().enumerate() {
            bits |= u16::from(byte == tag) << i;
        }
        bits & SLOT_BITS
    }

    /// The slots with this tag.
    #[inline(always)]
    pub(super) fn matches(&self, tag: u8) -> Slots {
        Slots(self.compare(tag))
    }

    /// The slots in use.
    pub(super) fn occupied(&self) -> Slots {
        Slots(!self.compare(EMPTY) & SLOT_BITS)
    }

    /// An empty slot.
    #[inline(always)]
    pub(super) fn vacancy(&self) -> Option<usize> {
        Slots(self.compare(EMPTY)).next()
    }

    /// The entry of a slot in use; no entry at all for a slot that does not exist.
    #[inline(always)]
    pub(super) fn entry(&self, slot: usize) -> u32 {
        self.entries.get(slot).copied().unwrap_or(u32::MAX)
    }

    pub(super) fn fill(&mut self, slot: usize, tag: u8, entry: u32) {
        if let Some(place) = self.entries.get_mut(slot) {
            *place = entry;
            self.head[slot] = tag;
        }
    }

    pub(super) fn clear(&mut self, slot: usize) {
        if slot < SLOTS {
            self.head[slot] = EMPTY;
        }
    }

    /// How many keys whose primary bucket this is live in their alternate one.
    #[inline(always)]
    pub(super) fn overflow(&self) -> u32 {
        let [.., a, b, c, d] = self.head;
        u32::from_le_bytes([a, b, c, d])
    }

    pub(super) fn add_overflow(&mut self) {
        self.set_overflow(self.overflow().saturating_add(1));
    }

    pub(super) fn sub_overflow(&mut self) {
        self.set_overflow(self.overflow().saturating_sub(1));
    }

    fn set_overflow(&mut self, count: u32) {
        let [.., a, b, c, d] = &mut self.head;
        [*a, *b, *c, *d] = count.to_le_bytes();
    }
}

/// A set of slots, iterated in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots(u16);

impl Iterator for Slots {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
        assert_eq!(align_of::<Bucket>(), 64);
    }

    #[test]
    fn slots_fill_and_clear() {
        let mut bucket = Bucket::NEW;
        for slot in 0..SLOTS {
            assert_eq!(bucket.vacancy(), Some(slot));
            bucket.fill(slot, 1 + slot as u8 % 3, 100 + slot as u32);
        }
        assert_eq!(bucket.vacancy(), None);
        assert_eq!(bucket.occupied().count(), SLOTS);
        assert_eq!(bucket.matches(2).collect::<Vec<_>>(), [1, 4, 7, 10]);
        assert_eq!(bucket.matches(9).count(), 0);
        assert_eq!(bucket.entry(7), 107);
        bucket.clear(7);
        assert_eq!(bucket.matches(2).collect::<Vec<_>>(), [1, 4, 10]);
        assert_eq!(bucket.vacancy(), Some(7));
    }

    #[test]
    fn the_overflow_count_is_no_tag() {
        let mut bucket = Bucket::NEW;
        for n in 1..=1000 {
            bucket.add_overflow();
            assert_eq!(bucket.overflow(), n);
        }
        // 1000 is 0x3e8.
        assert_eq!(bucket.matches(0xe8).count(), 0);
        assert_eq!(bucket.matches(0x03).count(), 0);
        assert_eq!(bucket.occupied().count(), 0);
        bucket.sub_overflow();
        assert_eq!(bucket.overflow(), 999);
        assert_eq!(Bucket::NEW.overflow(), 0);
        let mut empty = Bucket::NEW;
        empty.sub_overflow();
        assert_eq!(empty.overflow(), 0);
    }

    #[test]
    fn no_hash_has_the_empty_tag() {
        for low in 0..=255 {
            assert_ne!(tag(0xabcd_ef00 | low), EMPTY);
        }
    }
}
