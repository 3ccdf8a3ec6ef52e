//! Memory for a table, touched piece by piece.

use super::record::NewShardError;

/// Bytes touched between two words to whoever waits.
const PIECE: usize = 4 << 20;

/// Fills `empty`, which has reserved the room, with `count` times `value`. After each piece `step`
/// is told its bytes, and says whether to go on.
pub(super) fn fill<T: Copy>(
    empty: &mut Vec<T>,
    count: usize,
    value: T,
    step: &mut impl FnMut(usize) -> bool,
) -> Result<(), NewShardError> {
    let most = (PIECE / size_of::<T>()).max(1);
    while empty.len() < count {
        let more = most.min(count - empty.len());
        empty.resize(empty.len() + more, value);
        if !step(more * size_of::<T>()) {
            return Err(NewShardError::GivenUp);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Shard, Shard6};
    use crate::hash::Seed;

    #[test]
    fn tells_of_every_byte_and_stops_when_told_to() {
        const FLOWS: usize = 200_000;
        let (mut told, mut pieces) = (0, 0);
        let table = Shard::build(FLOWS, Seed::new(1), &mut |bytes| {
            (told, pieces) = (told + bytes, pieces + 1);
            true
        });
        assert_eq!(told as u64, Shard::bytes(FLOWS));
        assert!(pieces > 2);
        assert_eq!(table.map(|table| table.capacity()), Ok(FLOWS));
        let mut six = 0;
        Shard6::build(10, Seed::new(1), &mut |bytes| {
            six += bytes;
            true
        })
        .expect("a small table");
        assert_eq!(six as u64, Shard6::bytes(10));

        let mut left = 2;
        let given_up = Shard::build(FLOWS, Seed::new(1), &mut |_| {
            left -= 1;
            left > 0
        });
        assert_eq!((given_up.err(), left), (Some(NewShardError::GivenUp), 0));
    }
}
