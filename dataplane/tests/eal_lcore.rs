//! Lcores under a real EAL: launching, joining, panics, registered threads, and the EAL's end.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

mod eal_common;

use std::sync::mpsc;

use dataplane::dpdk::{
    Eal, EalError, LaunchError, Mempool, current_lcore, launch, rdtsc, register_thread,
    socket_of_lcore, tsc_hz,
};
use dataplane::packet::buf::BufPool;

#[test]
fn lcores() {
    assert!(matches!(launch(1, || ()), Err(LaunchError::EalNotRunning(_))));
    assert!(Mempool::new("early", 63, 0, 2048, None).is_err());
    let eal = eal_common::start();
    assert!(matches!(Eal::init(&[]), Err(EalError::Started)));
    assert_eq!((eal.main_lcore(), eal.worker_lcores()), (0, vec![1]));
    assert_eq!(current_lcore(), Some(0));
    assert!(socket_of_lcore(1).is_some() && socket_of_lcore(7).is_none());
    assert!(!eal.has_hugepages());
    time_goes_by();
    work_is_done_on_the_lcore();
    an_lcore_does_one_thing_at_a_time();
    panics_reach_the_joiner();
    threads_can_be_registered();
    says_which_lcores_there_are();

    // Dropping the EAL while an mbuf is out must leave its memory alone.
    let pool = Mempool::new("late", 63, 0, 2048, None).unwrap();
    let mbuf = pool.alloc().unwrap();
    drop(pool);
    drop(eal);
    drop(mbuf);
    assert!(matches!(launch(1, || ()), Err(LaunchError::EalNotRunning(_))));
}

fn time_goes_by() {
    let (hz, start) = (tsc_hz(), rdtsc());
    assert!(hz > 100_000_000, "{hz} Hz");
    std::thread::sleep(std::time::Duration::from_millis(20));
    let ticks = rdtsc() - start;
    assert!(ticks >= hz / 50, "{ticks} ticks of {hz} Hz in 20 ms");
}

fn work_is_done_on_the_lcore() {
    let pool = Mempool::new("worker", 255, 32, 2048, None).unwrap();
    let mbufs: Vec<_> = (0..100).filter_map(|_| pool.alloc()).collect();
    let theirs = pool.clone();
    let handle = launch(1, move || {
        drop(mbufs);
        (current_lcore(), theirs.alloc())
    });
    let (lcore, mbuf) = handle.unwrap().join().unwrap();
    assert_eq!(lcore, Some(1));
    assert_eq!(pool.in_use(), 1);
    drop(mbuf);
    assert_eq!(pool.in_use(), 0);
}

fn an_lcore_does_one_thing_at_a_time() {
    let (go, wait) = mpsc::channel::<()>();
    let busy = launch(1, move || wait.recv().is_ok()).unwrap();
    assert_eq!(busy.lcore(), 1);
    assert!(matches!(launch(1, || ()), Err(LaunchError::Busy(1))));
    go.send(()).unwrap();
    assert!(busy.join().unwrap());
    // A handle that nobody joins does no harm.
    let (done, wait) = mpsc::channel();
    drop(launch(1, move || done.send(7)).unwrap());
    assert_eq!(wait.recv(), Ok(7));
    while launch(1, || ()).is_err_and(|error| matches!(error, LaunchError::Busy(_))) {}
    while launch(1, || ()).is_err_and(|error| matches!(error, LaunchError::Busy(_))) {}
}

fn panics_reach_the_joiner() {
    let launched = loop {
        match launch(1, || -> u32 { panic!("on purpose") }) {
            Err(LaunchError::Busy(_)) => {}
            other => break other.unwrap(),
        }
    };
    let payload = launched.join().unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
    assert_eq!(launch(1, || 5).unwrap().join().unwrap(), 5, "usable again");
}

fn threads_can_be_registered() {
    let thread = std::thread::spawn(|| {
        assert_eq!(current_lcore(), None);
        let registered = register_thread().unwrap();
        let lcore = current_lcore();
        assert!(lcore.is_some() && register_thread().is_err());
        drop(registered);
        assert_eq!(current_lcore(), None);
    });
    thread.join().unwrap();
    assert!(register_thread().is_err(), "the main lcore is one already");
}

fn says_which_lcores_there_are() {
    let error = launch(9, || ()).unwrap_err().to_string();
    assert!(error.contains("lcore 9 is not among the EAL's (0, 1)"), "{error}");
    let error = launch(0, || ()).unwrap_err().to_string();
    assert!(error.contains("--main-lcore"), "{error}");
    assert!(launch(u32::MAX, || ()).is_err());
}
