//! DPDK's own hash table (librte_hash), for comparison only: benchmarks measure the flow table
//! against it. Nothing that forwards uses it.
//!
//! It is made as its users make it: hashed by the default function (CRC-32C where the processor
//! has the instruction), one writer, no extendable buckets. Its memory is the EAL's, on hugepages
//! where there are some.

use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::eal::{EalNotRunning, EalUser};
use super::errno::Errno;

/// A key of 16 bytes, aligned as the table's vector compare likes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct RteHashKey(pub [u8; 16]);

/// Why a table was not made, or a key not added.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Tables live in the EAL's memory.
    #[error(transparent)]
    EalNotRunning(#[from] EalNotRunning),
    /// A name with a NUL byte in it.
    #[error("hash table name {0:?} has a NUL byte in it")]
    Name(String),
    /// DPDK made none.
    #[error("hash table {name:?} for {entries} entries: {errno}")]
    Create {
        /// The table.
        name: String,
        /// Entries asked for.
        entries: u32,
        /// DPDK's reason.
        errno: Errno,
    },
    /// The table took no more.
    #[error("hash table: a key was not added: {0}")]
    Add(Errno),
}

/// A table from 16-byte keys to words.
#[derive(Debug)]
pub struct HashTable {
    raw: NonNull<sys::rte_hash>,
    memory_bytes: usize,
    _eal: EalUser,
    /// Made without locks, it stays on its thread.
    _not_send: PhantomData<*mut ()>,
}

impl HashTable {
    /// Most keys of one bulk lookup (`RTE_HASH_LOOKUP_BULK_MAX`).
    pub const BULK_MAX: usize = 64;

    /// A table for `entries` keys. A name is taken until the table is dropped.
    pub fn new(name: &str, entries: u32) -> Result<HashTable, HashError> {
        let eal = EalUser::new()?;
        let c_name = CString::new(name).map_err(|_| HashError::Name(name.into()))?;
        let parameters = sys::rte_hash_parameters {
            name: c_name.as_ptr(),
            entries,
            key_len: size_of::<RteHashKey>() as u32,
            socket_id: sys::SHIM_SOCKET_ID_ANY,
            ..sys::rte_hash_parameters::default()
        };
        let before = heap_bytes();
        // SAFETY: the EAL is running (`eal` keeps it so); the name is NUL-terminated and copied; a
        // null hash function means the default one.
        let raw = eal.exclusively(|| unsafe { sys::rte_hash_create(&parameters) });
        let Some(raw) = NonNull::new(raw) else {
            let errno = Errno::last();
            return Err(HashError::Create { name: name.into(), entries, errno });
        };
        let memory_bytes = heap_bytes().saturating_sub(before);
        Ok(HashTable { raw, memory_bytes, _eal: eal, _not_send: PhantomData })
    }

    /// Adds a key, or gives one that is there another word.
    pub fn add(&mut self, key: &RteHashKey, word: usize) -> Result<(), HashError> {
        let (key, word) = (std::ptr::from_ref(key).cast::<c_void>(), word as *mut c_void);
        // SAFETY: the table is live and ours alone (`&mut self`); the key has the table's key
        // length and is copied; the word is kept as it is and never followed.
        let rc = unsafe { sys::rte_hash_add_key_data(self.raw.as_ptr(), key, word) };
        Errno::check(rc).map(drop).map_err(HashError::Add)
    }

    /// Looks up `N` keys at once, at most [`HashTable::BULK_MAX`]: bit `i` of the result says
    /// whether `keys[i]` was found, and then `words[i]` is its word.
    #[inline(always)]
    pub fn lookup_bulk<const N: usize>(
        &self,
        keys: &[&RteHashKey; N],
        words: &mut [usize; N],
    ) -> u64 {
        const { assert!(N >= 1 && N <= Self::BULK_MAX, "rte_hash looks up 1 to 64 keys at once") };
        let mut hits = 0;
        // SAFETY: the table is live, and nobody changes it while it is borrowed (it is not Sync).
        // References have the representation of pointers, and each is to as many bytes as the
        // table's keys have. There is room for N words, which have the size of pointers.
        unsafe {
            sys::rte_hash_lookup_bulk_data(
                self.raw.as_ptr(),
                keys.as_ptr().cast_mut().cast(),
                N as u32,
                &mut hits,
                words.as_mut_ptr().cast(),
            );
        }
        hits
    }

    /// Bytes of the EAL's heap that it took when it was made.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl Drop for HashTable {
    fn drop(&mut self) {
        // SAFETY: the table is live, and this was the only handle; the EAL still runs.
        unsafe { sys::rte_hash_free(self.raw.as_ptr()) }
    }
}

/// Bytes in use on the heaps of all NUMA nodes. The EAL must be running.
fn heap_bytes() -> usize {
    let of_node = |node: u32| {
        let mut stats = sys::rte_malloc_socket_stats::default();
        // SAFETY: the function checks the node's number, and `stats` is ours to write.
        let rc = unsafe { sys::rte_malloc_get_socket_stats(node as i32, &mut stats) };
        if rc == 0 { stats.heap_allocsz_bytes } else { 0 }
    };
    (0..sys::RTE_MAX_NUMA_NODES).map(of_node).sum()
}
