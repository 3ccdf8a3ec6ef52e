//! Mempools and mbufs under a real EAL: exhaustion, give-back, and the laws of `PacketBuf`, with
//! `TestBuf` as the model.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

mod eal_common;

use arrayvec::ArrayVec;
use dataplane::dpdk::{Mbuf, Mempool, MempoolError, free_bulk};
use dataplane::packet::buf::{BufPool, PacketBuf, RxChecksum, TestBuf};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[test]
fn mempools_and_mbufs() {
    let eal = eal_common::start();
    let pool = Mempool::new("mbufs", 255, 32, 2048, None).unwrap();
    runs_dry_and_recovers(&pool);
    bulk_is_all_or_nothing(&pool);
    says_why_a_pool_cannot_be();
    crosses_threads(&pool);
    fresh_mbufs_are_plain(&pool);
    behaves_like_the_model(&pool);
    behaves_like_the_model_in_segments(&pool);
    assert_eq!(pool.in_use(), 0, "mbufs lost");
    drop((pool, eal));
}

fn runs_dry_and_recovers(pool: &Mempool) {
    let mut all = Vec::new();
    while let Some(mbuf) = pool.alloc() {
        all.push(mbuf);
    }
    assert_eq!(all.len(), 255);
    assert_eq!((pool.in_use(), pool.available()), (255, 0));
    all.truncate(100);
    assert_eq!((pool.in_use(), pool.available()), (100, 155));
    all.push(pool.alloc().unwrap());
    drop(all);
    assert_eq!((pool.in_use(), pool.available()), (0, 255));
}

fn bulk_is_all_or_nothing(pool: &Mempool) {
    let mut mbufs = ArrayVec::<Mbuf, 300>::new();
    assert!(!pool.alloc_bulk(&mut mbufs, 256), "more than there are");
    assert!(!pool.alloc_bulk(&mut mbufs, 301), "more than fit");
    assert!(mbufs.is_empty());
    assert!(pool.alloc_bulk(&mut mbufs, 200));
    assert!(pool.alloc_bulk(&mut mbufs, 55));
    assert_eq!((mbufs.len(), pool.in_use()), (255, 255));
    free_bulk(&mut mbufs);
    assert_eq!((mbufs.len(), pool.in_use()), (0, 0));
    free_bulk(&mut mbufs);
}

fn says_why_a_pool_cannot_be() {
    let error = Mempool::new("mbufs", 255, 32, 2048, None).unwrap_err();
    assert!(matches!(error, MempoolError::Exists(_)), "{error}");
    let error = Mempool::new("huge", 1 << 20, 256, 2048, None).unwrap_err();
    assert!(error.to_string().contains("MiB"), "{error}");
    let error = Mempool::new("cache", 63, 63, 2048, None).unwrap_err();
    assert!(error.to_string().contains("two thirds"), "{error}");
}

fn crosses_threads(pool: &Mempool) {
    let here: Vec<Mbuf> = (0..100).filter_map(|_| pool.alloc()).collect();
    let there = std::thread::scope(|scope| {
        let ordinary = scope.spawn(|| {
            drop(here);
            (0..100).filter_map(|_| pool.alloc()).collect::<Vec<_>>()
        });
        ordinary.join().unwrap()
    });
    assert_eq!((there.len(), pool.in_use()), (100, 100));
    drop(there);
    assert_eq!(pool.in_use(), 0);
}

fn fresh_mbufs_are_plain(pool: &Mempool) {
    let mbuf = pool.alloc().unwrap();
    assert!(mbuf.is_empty() && mbuf.data().is_empty());
    assert_eq!((mbuf.segments(), mbuf.headroom(), mbuf.tailroom()), (1, 128, 2048));
    assert_eq!(mbuf.rx_ip_checksum(), RxChecksum::Unknown);
    assert_eq!(size_of::<Option<Mbuf>>(), size_of::<usize>());
    let again = mbuf;
    drop(again);
    let reused = pool.alloc().unwrap();
    assert_eq!(reused.ol_flags(), 0, "flags of an earlier life");
}

#[derive(Debug, Clone)]
enum Op {
    Prepend(usize),
    TrimFront(usize),
    Truncate(usize),
    Append(usize),
    Fill(u8),
    CopyTo(usize, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let size = prop_oneof![0..40usize, 0..2300usize];
    let op = prop_oneof![
        size.clone().prop_map(Op::Prepend),
        size.clone().prop_map(Op::TrimFront),
        size.clone().prop_map(Op::Truncate),
        size.clone().prop_map(Op::Append),
        any::<u8>().prop_map(Op::Fill),
        (size.clone(), size).prop_map(|(offset, len)| Op::CopyTo(offset, len)),
    ];
    prop::collection::vec(op, 0..24)
}

/// Does one thing, and returns all that can be seen of its outcome. Bytes that come into being
/// unspecified are given a value here.
fn step<B: PacketBuf>(buf: &mut B, op: &Op) -> (bool, Vec<u8>) {
    let done = match *op {
        Op::Prepend(n) => {
            let done = buf.prepend(n);
            if done {
                buf.data_mut()[..n].fill(0xaa);
            }
            done
        }
        Op::TrimFront(n) => buf.trim_front(n),
        Op::Truncate(len) => buf.truncate(len),
        Op::Append(n) => {
            let done = buf.append(n);
            if done {
                let len = buf.data().len();
                buf.data_mut()[len - n..].fill(0xbb);
            }
            done
        }
        Op::Fill(byte) => {
            for (at, slot) in buf.data_mut().iter_mut().enumerate() {
                *slot = byte.wrapping_add(at as u8);
            }
            true
        }
        Op::CopyTo(offset, len) => {
            let mut out = vec![0; len];
            let done = buf.copy_to(offset, &mut out);
            return (done, if done { out } else { Vec::new() });
        }
    };
    (done, buf.data().to_vec())
}

fn filled<B: PacketBuf>(mut buf: B, bytes: &[u8]) -> B {
    assert!(buf.append(bytes.len()));
    buf.data_mut().copy_from_slice(bytes);
    buf
}

fn runner() -> TestRunner {
    TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() })
}

fn behaves_like_the_model(pool: &Mempool) {
    let input = (prop::collection::vec(any::<u8>(), 0..1600), ops());
    let outcome = runner().run(&input, |(bytes, ops)| {
        let mut mbuf = filled(pool.alloc().unwrap(), &bytes);
        let mut model = TestBuf::new(&bytes);
        prop_assert_eq!(mbuf.data(), model.data());
        for op in &ops {
            prop_assert_eq!(step(&mut mbuf, op), step(&mut model, op), "{:?}", op);
            prop_assert_eq!(mbuf.len(), model.len());
            prop_assert_eq!(mbuf.is_empty(), model.is_empty());
        }
        Ok(())
    });
    outcome.unwrap();
}

/// A chain is modelled by its segments' bytes, front to back.
fn behaves_like_the_model_in_segments(pool: &Mempool) {
    let segment = prop::collection::vec(any::<u8>(), 0..200);
    let input = (prop::collection::vec(segment, 2..5), ops());
    let outcome = runner().run(&input, |(mut model, ops)| {
        let mut mbuf = filled(pool.alloc().unwrap(), &model[0]);
        for bytes in &model[1..] {
            prop_assert!(mbuf.chain(filled(pool.alloc().unwrap(), bytes)).is_ok());
        }
        prop_assert_eq!(mbuf.segments(), model.len());
        prop_assert_eq!(pool.in_use() as usize, model.len());
        for op in &ops {
            let total = model.iter().map(Vec::len).sum::<usize>();
            let last = model.len() - 1;
            match *op {
                Op::Prepend(n) => {
                    let fits = n <= mbuf.headroom();
                    prop_assert_eq!(mbuf.prepend(n), fits);
                    if fits {
                        mbuf.data_mut()[..n].fill(0xaa);
                        model[0].splice(..0, std::iter::repeat_n(0xaa, n));
                    }
                }
                Op::TrimFront(n) => {
                    let fits = n <= model[0].len();
                    prop_assert_eq!(mbuf.trim_front(n), fits);
                    if fits {
                        model[0].drain(..n);
                    }
                }
                Op::Truncate(len) => {
                    let cut = total.saturating_sub(len);
                    let fits = cut <= model[last].len();
                    prop_assert_eq!(mbuf.truncate(len), fits);
                    if fits {
                        let keep = model[last].len() - cut;
                        model[last].truncate(keep);
                    }
                }
                Op::Append(n) => {
                    let fits = n <= mbuf.tailroom();
                    prop_assert_eq!(mbuf.append(n), fits);
                    if fits {
                        // Unspecified bytes: taken as they are.
                        let mut new = vec![0; n];
                        prop_assert!(mbuf.copy_to(total, &mut new));
                        model[last].extend(new);
                    }
                }
                Op::Fill(byte) => {
                    mbuf.data_mut().fill(byte);
                    model[0].fill(byte);
                }
                Op::CopyTo(offset, len) => {
                    let flat = model.concat();
                    let mut out = vec![0; len];
                    let want = flat.get(offset..offset + len);
                    prop_assert_eq!(mbuf.copy_to(offset, &mut out), want.is_some());
                    prop_assert!(want.is_none_or(|want| want == out));
                }
            }
            let flat = model.concat();
            let mut all = vec![0; flat.len()];
            prop_assert_eq!(mbuf.len(), flat.len());
            prop_assert_eq!(mbuf.data(), &model[0][..]);
            prop_assert!(mbuf.copy_to(0, &mut all));
            prop_assert_eq!(all, flat);
        }
        drop(mbuf);
        prop_assert_eq!(pool.in_use(), 0);
        Ok(())
    });
    outcome.unwrap();
}
