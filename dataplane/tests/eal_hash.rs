//! DPDK's hash table, which benchmarks compare with, under a real EAL.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

mod eal_common;

use dataplane::dpdk::{HashError, HashTable, RteHashKey};

fn key(n: u8) -> RteHashKey {
    RteHashKey(std::array::from_fn(|i| n.wrapping_mul(i as u8 + 1)))
}

#[test]
fn a_hash_table() {
    assert!(matches!(HashTable::new("early", 64), Err(HashError::EalNotRunning(_))));
    let eal = eal_common::start();
    let mut table = HashTable::new("table", 64).unwrap();
    assert!(table.memory_bytes() >= 64 * size_of::<RteHashKey>(), "room for its keys at least");
    for n in 1..=40 {
        table.add(&key(n), usize::from(n)).unwrap();
    }
    table.add(&key(7), 700).unwrap();

    let (mut words, absent) = ([0; 4], key(200));
    let hits = table.lookup_bulk(&[&key(1), &absent, &key(40), &key(7)], &mut words);
    assert_eq!(hits, 0b1101);
    assert_eq!((words[0], words[2], words[3]), (1, 40, 700));

    let error = HashTable::new("table", 64).unwrap_err();
    assert!(matches!(error, HashError::Create { .. }), "{error}");
    assert!(matches!(HashTable::new("a\0b", 64), Err(HashError::Name(_))));
    drop(table);
    // The name is free again.
    drop(HashTable::new("table", 64).unwrap());
    drop(eal);
}
