//! Where two lists differ.

/// Two lists without what they begin and end with alike. Of lists of `Arc`s of what is [`Eq`], what
/// is shared is not looked at.
pub fn differing<'a, 'b, T: PartialEq>(old: &'a [T], new: &'b [T]) -> (&'a [T], &'b [T]) {
    let first = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[first..], &new[first..]);
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    (&old[..old.len() - last], &new[..new.len() - last])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_at_both_ends_is_left_out() {
        assert_eq!(differing(&[1, 2, 3, 4], &[1, 9, 4]), (&[2, 3][..], &[9][..]));
        assert_eq!(differing(&[1, 1], &[1]), (&[1][..], &[][..]));
        assert_eq!(differing(&[1, 2], &[1, 2]), (&[][..], &[][..]));
        assert_eq!(differing(&[], &[1, 2]), (&[][..], &[1, 2][..]));
    }
}
