//! One cache line of the index: twelve tags and the entries they stand for.
//!
//! Tags are compared all at once, by one vector instruction where there is one.

use crate::arch::equal_bytes;

/// Slots of a bucket: as many as fit in a line with their tags and the overflow count.
pub(super) const SLOTS: usize = 12;

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
    /// The tag of each slot; behind them, low byte first, how many keys whose primary bucket this
    /// is live in their alternate one.
    tags: [u8; SLOTS + 4],
    entries: [u32; SLOTS],
}

impl Bucket {
    pub(super) const NEW: Bucket = Bucket { tags: [0; SLOTS + 4], entries: [0; SLOTS] };

    /// The slots with this tag.
    #[inline(always)]
    pub(super) fn matches(&self, tag: u8) -> Slots {
        Slots(equal_bytes(&self.tags, tag) & ((1 << SLOTS) - 1))
    }

    /// The slots in use.
    pub(super) fn occupied(&self) -> impl Iterator<Item = usize> {
        (0..SLOTS).filter(|&slot| self.tag(slot) != EMPTY)
    }

    /// An empty slot.
    #[inline(always)]
    pub(super) fn vacancy(&self) -> Option<usize> {
        self.matches(EMPTY).next()
    }

    /// The entry of a slot in use; no entry at all for a slot that does not exist.
    #[inline(always)]
    pub(super) fn entry(&self, slot: usize) -> u32 {
        self.entries.get(slot).copied().unwrap_or(u32::MAX)
    }

    pub(super) fn fill(&mut self, slot: usize, tag: u8, entry: u32) {
        if let Some(place) = self.entries.get_mut(slot) {
            *place = entry;
            self.set_tag(slot, tag);
        }
    }

    pub(super) fn clear(&mut self, slot: usize) {
        self.set_tag(slot, EMPTY);
    }

    /// How many keys whose primary bucket this is live in their alternate one.
    #[inline(always)]
    pub(super) fn overflow(&self) -> u32 {
        let [.., a, b, c, d] = self.tags;
        u32::from_le_bytes([a, b, c, d])
    }

    pub(super) fn add_overflow(&mut self) {
        self.set_overflow(self.overflow().saturating_add(1));
    }

    pub(super) fn sub_overflow(&mut self) {
        self.set_overflow(self.overflow().saturating_sub(1));
    }

    fn set_overflow(&mut self, count: u32) {
        let [.., a, b, c, d] = &mut self.tags;
        [*a, *b, *c, *d] = count.to_le_bytes();
    }

    fn tag(&self, slot: usize) -> u8 {
        self.tags[slot % SLOTS]
    }

    fn set_tag(&mut self, slot: usize, tag: u8) {
        if slot < SLOTS {
            self.tags[slot] = tag;
        }
    }
}

/// A set of slots: bit n for slot n.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots(u32);

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
        let mut order = Vec::new();
        while let Some(slot) = bucket.vacancy() {
            bucket.fill(slot, 7, 100 + slot as u32);
            order.push(slot);
        }
        order.sort_unstable();
        assert_eq!(order, (0..SLOTS).collect::<Vec<_>>());
        for slot in 0..SLOTS {
            assert_eq!(bucket.entry(slot), 100 + slot as u32);
            bucket.clear(slot);
            assert_eq!(bucket.vacancy(), Some(slot));
            assert_eq!(bucket.occupied().count(), SLOTS - 1);
            assert_eq!(bucket.matches(7).count(), SLOTS - 1);
            assert!(bucket.matches(7).all(|s| s != slot));
            bucket.fill(slot, 7, 100 + slot as u32);
        }
        // What is no slot is nothing.
        bucket.fill(SLOTS, 9, 1);
        bucket.clear(SLOTS);
        assert_eq!(bucket.entry(SLOTS), u32::MAX);
        assert_eq!((bucket.matches(9).count(), bucket.matches(7).count()), (0, SLOTS));
    }

    #[test]
    fn comparison_is_exact_for_every_tag_beside_every_tag() {
        // Carries between bytes would show where a neighbour differs by one or by a top bit.
        for sought in 0..=255u8 {
            for other in 0..=255u8 {
                let mut bucket = Bucket::NEW;
                for slot in 0..SLOTS {
                    bucket.set_tag(slot, if slot % 3 == 1 { sought } else { other });
                }
                let mut found: Vec<_> = bucket.matches(sought).collect();
                found.sort_unstable();
                let expected: Vec<_> = (0..SLOTS).filter(|&s| bucket.tag(s) == sought).collect();
                assert_eq!(found, expected, "{sought} beside {other}");
            }
        }
    }

    #[test]
    fn the_overflow_count_is_no_tag() {
        let mut bucket = Bucket::NEW;
        for n in 1..=1000 {
            bucket.add_overflow();
            assert_eq!(bucket.overflow(), n);
        }
        assert_eq!(bucket.occupied().count(), 0);
        bucket.sub_overflow();
        assert_eq!(bucket.overflow(), 999);
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
