//! The environment abstraction layer: DPDK's memory, devices and lcores, started once.
//!
//! # Lifetime
//! Everything that uses the EAL holds an [`EalUser`]. Dropping [`Eal`] cleans up only when no
//! user is left and no mbuf is out; else it says what is left and leaves the memory to the end of
//! the process. So safe code cannot reach memory that DPDK has unmapped.

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, iter};

use dpdk_sys as sys;

use super::errno::Errno;
use super::log as dpdk_log;

/// Why the EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// The EAL starts once per process.
    #[error("the EAL has been started in this process before, and starts only once")]
    Started,
    /// An argument with a NUL byte in it.
    #[error("EAL argument {0:?} has a NUL byte in it")]
    Argument(String),
    /// No hugepages to be had.
    #[error(
        "no free hugepages: reserve some, for example {mib} MiB with `echo {pages} > \
         /proc/sys/vm/nr_hugepages` or with `scripts/hugepages`, or do without, slower, with \
         `eal = [\"--no-huge\", \"-m\", \"{mib}\"]` in `[dataplane]` ({errno})"
    )]
    NoHugepages {
        /// Memory that would do.
        mib: u64,
        /// The same in 2 MiB pages.
        pages: u64,
        /// DPDK's reason.
        errno: Errno,
    },
    /// The process may not do what DPDK needs.
    #[error(
        "not permitted ({errno}): start as root, or with CAP_IPC_LOCK, CAP_NET_RAW, CAP_NET_ADMIN \
         and CAP_SYS_ADMIN; DPDK said:\n{log}"
    )]
    Permission {
        /// DPDK's reason.
        errno: Errno,
        /// DPDK's log.
        log: String,
    },
    /// Another process has the same run-time directory.
    #[error(
        "another DPDK program is running under the same file prefix: give this one its own with \
         `--file-prefix=<name>`, or `--in-memory`; DPDK said:\n{0}"
    )]
    OtherPrimary(String),
    /// Anything else.
    #[error("the EAL did not start with arguments {args:?}: {errno}; DPDK said:\n{log}")]
    Init {
        /// The arguments.
        args: Vec<String>,
        /// DPDK's reason.
        errno: Errno,
        /// DPDK's log.
        log: String,
    },
}

/// Something was asked of DPDK before [`Eal::init`] or after the [`Eal`] was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the EAL is not running")]
pub struct EalNotRunning;

/// The running EAL. Drop it last, after ports, queues, pools and mbufs, on the thread that started
/// it (it cannot leave it).
#[derive(Debug)]
pub struct Eal {
    /// The main lcore is a thread; cleaning up is its business.
    _not_send: PhantomData<*mut ()>,
}

impl Eal {
    /// Starts the EAL with arguments as on a DPDK command line, program name not included.
    ///
    /// The calling thread becomes the main lcore and is pinned to its processor; threads it
    /// starts later inherit that, and so keep off the workers' processors. Drivers are loaded
    /// from DPDK's plugin directory.
    pub fn init(args: &[String]) -> Result<Eal, EalError> {
        let mut argv = Vec::with_capacity(args.len() + 2);
        for arg in iter::once("shuntd").chain(args.iter().map(String::as_str)) {
            let arg = CString::new(arg).map_err(|_| EalError::Argument(arg.to_owned()))?;
            // Not freed: the EAL, started once, may keep pointers to its arguments.
            argv.push(arg.into_raw());
        }
        argv.push(std::ptr::null_mut());

        let mut state = State::lock();
        if state.phase != Phase::NotStarted {
            return Err(EalError::Started);
        }
        state.phase = Phase::Ended; // There is no second try: the EAL may be half started.
        dpdk_log::redirect(!args.iter().any(|arg| arg.starts_with("--log-level")));
        dpdk_log::listen();
        // SAFETY: argv holds argc strings that live for ever, and a null pointer. The lock and the
        // phase make this the only call in the process.
        let rc = unsafe { sys::rte_eal_init(argv.len() as i32 - 1, argv.as_mut_ptr()) };
        let errno = Errno::last();
        let log = dpdk_log::heard();
        if rc < 0 {
            return Err(EalError::of(args, errno, log));
        }
        state.phase = Phase::Running;
        Ok(Eal { _not_send: PhantomData })
    }

    /// The lcore of the thread that started the EAL. It runs no worker.
    pub fn main_lcore(&self) -> u32 {
        // SAFETY: the EAL is running.
        unsafe { sys::rte_get_main_lcore() }
    }

    /// The lcores that [`super::launch`] accepts, in ascending order.
    pub fn worker_lcores(&self) -> Vec<u32> {
        let next = |lcore: u32| {
            // SAFETY: the EAL is running; the function checks its argument, and returns
            // RTE_MAX_LCORE past the end.
            let next = unsafe { sys::rte_get_next_lcore(lcore as i32 as u32, 1, 0) };
            (next < sys::RTE_MAX_LCORE).then_some(next)
        };
        // -1 stands for "before the first".
        iter::successors(next(u32::MAX), |lcore| next(*lcore)).collect()
    }

    /// Whether the EAL's memory is hugepages.
    pub fn has_hugepages(&self) -> bool {
        // SAFETY: the EAL is running.
        unsafe { sys::rte_eal_has_hugepages() != 0 }
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        let mut state = State::lock();
        state.phase = Phase::Ended;
        if state.users > 0 {
            let users = state.users;
            log::warn!("EAL not cleaned up: {users} pools, ports, lcores or threads still use it");
            return;
        }
        // No lcore and no registered thread runs our code, and this one is here: every mempool
        // cache is at rest, so the counts are exact; and a thread without a cache completes its
        // put with the very store that the count shows.
        let in_use: u32 = state.pools.iter().map(|pool| in_use(pool.0)).sum();
        if in_use > 0 {
            log::warn!("EAL not cleaned up: {in_use} mbufs are still in use");
            return;
        }
        // SAFETY: called once, on the main lcore; nothing refers to the EAL's memory any more, and
        // nothing can get a reference, for the phase says so under the lock.
        unsafe {
            sys::rte_eal_mp_wait_lcore();
            sys::rte_eal_cleanup();
        }
    }
}

impl EalError {
    fn of(args: &[String], errno: Errno, log: String) -> EalError {
        let no_huge = args.iter().any(|arg| arg == "--no-huge");
        if log.contains("another primary process") {
            EalError::OtherPrimary(log)
        } else if !no_huge && log.contains("hugepage") && free_hugepages() == 0 {
            let mib = wanted_mib(args);
            EalError::NoHugepages { mib, pages: mib.div_ceil(2), errno }
        } else if matches!(errno, Errno::EACCES | Errno::EPERM) {
            EalError::Permission { errno, log }
        } else {
            EalError::Init { args: args.to_vec(), errno, log }
        }
    }
}

/// The memory that the arguments ask for, or else 1 GiB.
fn wanted_mib(args: &[String]) -> u64 {
    let of_m =
        args.iter().position(|arg| arg == "-m").and_then(|at| args.get(at + 1)?.parse().ok());
    let of_socket_mem = || {
        let list = args.iter().find_map(|arg| arg.strip_prefix("--socket-mem="))?;
        Some(list.split(',').filter_map(|mib| mib.parse::<u64>().ok()).sum())
    };
    of_m.or_else(of_socket_mem).filter(|mib| *mib > 0).unwrap_or(1024)
}

fn free_hugepages() -> u64 {
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    sizes
        .filter_map(|size| fs::read_to_string(size.path().join("free_hugepages")).ok())
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum()
}

/// Processor time-stamp counter. Not serializing: good for periods of a microsecond and more.
#[inline(always)]
pub fn rdtsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has RDTSC, and Linux lets user space use it.
    let ticks = unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a register; needs no EAL.
    let ticks = unsafe { sys::shim_rdtsc() };
    ticks
}

/// Time-stamp counter ticks in a second; 0 before the EAL has started.
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a number that the EAL sets as it starts.
    unsafe { sys::rte_get_tsc_hz() }
}

/// The version of the DPDK library in use, such as "DPDK 22.11.11".
pub fn version() -> &'static str {
    // SAFETY: a static string; needs no EAL.
    unsafe { CStr::from_ptr(sys::rte_version().cast::<c_char>()) }.to_str().unwrap_or("DPDK")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    NotStarted,
    Running,
    Ended,
}

/// [`Mempool::in_use`] of a pool that has no handle any more. The EAL must not have ended.
pub(super) fn in_use(pool: NonNull<sys::rte_mempool>) -> u32 {
    // SAFETY: pools live as long as the EAL.
    unsafe { sys::rte_mempool_in_use_count(pool.as_ptr()) }
}

/// A pointer that only its owner's lock guards.
struct PoolPtr(NonNull<sys::rte_mempool>);
// SAFETY: a number to this module; `in_use` accepts it on any thread while the EAL lives.
unsafe impl Send for PoolPtr {}

struct State {
    phase: Phase,
    users: usize,
    pools: Vec<PoolPtr>,
    /// Ports that have a `Port` or a queue.
    ports: Vec<u16>,
}

static STATE: Mutex<State> =
    Mutex::new(State { phase: Phase::NotStarted, users: 0, pools: Vec::new(), ports: Vec::new() });

impl State {
    fn lock() -> MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to call DPDK: while one exists, the EAL is running and is not cleaned up.
#[derive(Debug)]
pub(super) struct EalUser(());

impl EalUser {
    pub(super) fn new() -> Result<EalUser, EalNotRunning> {
        let mut state = State::lock();
        if state.phase != Phase::Running {
            return Err(EalNotRunning);
        }
        state.users += 1;
        Ok(EalUser(()))
    }

    /// Counts the pool's mbufs when the EAL is to end.
    pub(super) fn remember_pool(&self, pool: NonNull<sys::rte_mempool>) {
        State::lock().pools.push(PoolPtr(pool));
    }

    /// Runs `call` while no other thread is in such a call: for DPDK functions that are meant for
    /// the main lcore only (attach, launch, configure).
    pub(super) fn exclusively<T>(&self, call: impl FnOnce() -> T) -> T {
        static CALLS: Mutex<()> = Mutex::new(());
        let _guard = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
        call()
    }

    /// The same, with what DPDK logged meanwhile, ready to follow an error's own text.
    pub(super) fn exclusively_heard<T>(&self, call: impl FnOnce() -> T) -> (T, String) {
        self.exclusively(|| {
            dpdk_log::listen();
            let result = call();
            let log = dpdk_log::heard();
            (result, if log.is_empty() { log } else { format!("; DPDK said:\n{log}") })
        })
    }
}

impl Drop for EalUser {
    fn drop(&mut self) {
        State::lock().users -= 1;
    }
}

/// A port number that is nobody else's.
#[derive(Debug)]
pub(super) struct PortClaim {
    pub(super) eal: EalUser,
    pub(super) ethdev: u16,
}

impl PortClaim {
    /// `None` when the port is taken already.
    pub(super) fn new(eal: EalUser, ethdev: u16) -> Option<PortClaim> {
        let mut state = State::lock();
        let free = !state.ports.contains(&ethdev);
        if free {
            state.ports.push(ethdev);
        }
        drop(state); // `eal` locks it again when dropped.
        free.then(|| PortClaim { eal, ethdev })
    }
}

impl Drop for PortClaim {
    fn drop(&mut self) {
        State::lock().ports.retain(|port| *port != self.ethdev);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn finds_the_memory_that_was_asked_for() {
        assert_eq!(wanted_mib(&args("-l 0-1 -m 300")), 300);
        assert_eq!(wanted_mib(&args("--socket-mem=256,512")), 768);
        assert_eq!(wanted_mib(&args("-l 0 -m")), 1024);
    }

    #[test]
    fn refuses_users_before_the_start() {
        assert!(EalUser::new().is_err());
    }

    #[test]
    fn tells_errors_apart() {
        let other = "EAL: Cannot create lock on '/var/run/dpdk/rte/config'. Is another primary process running?";
        let error = EalError::of(&[], Errno(11), other.into()).to_string();
        assert!(error.contains("--file-prefix"), "{error}");
        let error = EalError::of(&args("--no-huge"), Errno::EACCES, String::new()).to_string();
        assert!(error.contains("CAP_IPC_LOCK"), "{error}");
    }
}
