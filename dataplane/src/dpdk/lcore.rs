//! Lcores: EAL threads, each pinned to its processor, on which workers run.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::{ffi::c_void, thread};

use dpdk_sys as sys;

use super::eal::{EalNotRunning, EalUser};
use super::errno::Errno;

/// Why nothing was launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Lcores are the EAL's.
    #[error(transparent)]
    EalNotRunning(#[from] EalNotRunning),
    /// No such lcore.
    #[error("lcore {lcore} is not among the EAL's ({known}): add it to `-l` or `--lcores`")]
    Unknown {
        /// The lcore asked for.
        lcore: u32,
        /// The lcores there are.
        known: String,
    },
    /// The main lcore is the thread that started the EAL.
    #[error(
        "lcore {0} is the main lcore, which runs the control plane: choose another, or move the \
         main one with `--main-lcore`"
    )]
    Main(u32),
    /// The lcore has work already.
    #[error("lcore {0} is running something already")]
    Busy(u32),
    /// Anything else.
    #[error("lcore {lcore}: {errno}")]
    Launch {
        /// The lcore asked for.
        lcore: u32,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// Work running on an lcore. Dropping the handle lets it run on, unobserved.
#[derive(Debug)]
pub struct LcoreHandle<T> {
    lcore: u32,
    result: Receiver<thread::Result<T>>,
}

impl<T> LcoreHandle<T> {
    /// The lcore's number.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }

    /// Waits, asleep, until the work is done. Like [`std::thread::JoinHandle::join`] it gives
    /// `Err` with the panic's payload when the work panicked (with `panic = "abort"`, as in
    /// release builds, a panic ends the process instead). The lcore can be launched again after.
    pub fn join(self) -> thread::Result<T> {
        let result = self.result.recv();
        // SAFETY: the lcore number was accepted by DPDK; the work is done, so this waits only for
        // the lcore's last few instructions.
        unsafe { sys::rte_eal_wait_lcore(self.lcore) };
        result.unwrap_or_else(|lost| Err(Box::new(lost)))
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Runs `work` on an lcore other than the main one.
///
/// Panics in `work` are caught and handed to [`LcoreHandle::join`], where they unwind at all.
pub fn launch<T, F>(lcore: u32, work: F) -> Result<LcoreHandle<T>, LaunchError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let eal = EalUser::new()?;
    check(lcore)?;
    let (done, result) = sync_channel(1);
    let running = EalUser::new()?;
    let work: Work = Box::new(move || {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        // All that the work owned is dropped by now: the EAL may end once this user is gone.
        drop(running);
        let _ = done.send(outcome); // Nobody listening is fine.
    });
    // Boxed twice, for a thin pointer.
    let argument = Box::into_raw(Box::new(work));
    // SAFETY: `trampoline` takes ownership of `argument`, once, if and only if this succeeds; the
    // lcore is a worker lcore, and launches do not overlap.
    let rc = eal.exclusively(|| unsafe {
        sys::rte_eal_remote_launch(Some(trampoline), argument.cast(), lcore)
    });
    match Errno::check(rc) {
        Ok(_) => Ok(LcoreHandle { lcore, result }),
        Err(errno) => {
            // SAFETY: the launch failed, so the box is still ours.
            drop(unsafe { Box::from_raw(argument) });
            Err(match errno {
                Errno::EBUSY => LaunchError::Busy(lcore),
                errno => LaunchError::Launch { lcore, errno },
            })
        }
    }
}

fn check(lcore: u32) -> Result<(), LaunchError> {
    // SAFETY: the EAL is running (the caller holds a user); the functions check their arguments.
    let (main, enabled) =
        unsafe { (sys::rte_get_main_lcore(), |id| sys::rte_lcore_is_enabled(id) != 0) };
    if lcore == main {
        return Err(LaunchError::Main(lcore));
    }
    if lcore >= sys::RTE_MAX_LCORE || !enabled(lcore) {
        let known: Vec<String> =
            (0..sys::RTE_MAX_LCORE).filter(|id| enabled(*id)).map(|id| id.to_string()).collect();
        return Err(LaunchError::Unknown { lcore, known: known.join(", ") });
    }
    Ok(())
}

extern "C" fn trampoline(argument: *mut c_void) -> i32 {
    // SAFETY: the pointer comes from `Box::into_raw` in `launch`, and DPDK calls this once for it.
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    work();
    0
}

/// The calling thread's lcore; `None` on a thread that is neither an EAL lcore nor registered.
#[inline]
pub fn current_lcore() -> Option<u32> {
    // SAFETY: reads a thread-local integer.
    let id = unsafe { sys::shim_lcore_id() };
    (id != sys::SHIM_LCORE_ID_ANY).then_some(id)
}

/// The NUMA socket of an lcore; `None` when there is no such lcore.
pub fn socket_of_lcore(lcore: u32) -> Option<u32> {
    let _eal = EalUser::new().ok()?;
    // SAFETY: the EAL is running and the number is checked.
    unsafe {
        (lcore < sys::RTE_MAX_LCORE && sys::rte_lcore_is_enabled(lcore) != 0)
            .then(|| sys::rte_lcore_to_socket_id(lcore))
    }
}

/// Why a thread was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// There is nothing to register with.
    #[error(transparent)]
    EalNotRunning(#[from] EalNotRunning),
    /// An EAL lcore, or registered before.
    #[error("this thread is lcore {0} already")]
    Already(u32),
    /// Out of lcore numbers, or not possible with secondary processes.
    #[error("this thread cannot become an lcore: {0}")]
    Register(Errno),
}

/// The calling thread has an lcore number, and with it caches in mempools, until this is dropped.
#[derive(Debug)]
pub struct RegisteredThread {
    _eal: EalUser,
    /// The registration is the thread's.
    _not_send: PhantomData<*mut ()>,
}

/// Gives an ordinary thread an lcore number, so that allocating and freeing mbufs costs it less.
pub fn register_thread() -> Result<RegisteredThread, RegisterError> {
    let eal = EalUser::new()?;
    if let Some(id) = current_lcore() {
        return Err(RegisterError::Already(id));
    }
    // SAFETY: the EAL is running, and the thread has no lcore number.
    match unsafe { sys::rte_thread_register() } {
        0 => Ok(RegisteredThread { _eal: eal, _not_send: PhantomData }),
        _ => Err(RegisterError::Register(Errno::last())),
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: this thread was registered, as the value cannot leave it; the EAL still runs.
        unsafe { sys::rte_thread_unregister() }
    }
}
