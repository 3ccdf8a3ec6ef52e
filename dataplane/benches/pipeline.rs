//! What the pipeline costs a packet, in bursts of 32 and without a NIC: nanoseconds per packet.
//!
//! `cargo bench --no-default-features -p shunt-dataplane --bench pipeline [NAME]`
//!
//! Buffers are received and given back outside of what is measured. What is left of the harness
//! (reading the clock once in four bursts, dropping the buffers) is the scenario `empty`.
//! `SHUNT_BENCH=full` adds ten million flows.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod support;

use std::cell::RefCell;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dataplane::types::Protocol;
use dataplane::vocabulary::{ForwardMethod, SchedulerKind};
use support::scenario::{EXITS, FORWARDED, FULLNESS, MIXED, NOT_BUILT, Running, Scenario};

/// Measures one scenario; it is set up when criterion gets to it, not when it is filtered out.
fn measure(c: &mut Criterion, method: &str, scenario: Scenario) {
    let id = BenchmarkId::new(&scenario.name, method);
    let (waiting, running) = (RefCell::new(Some(scenario)), RefCell::new(None::<Running>));
    c.benchmark_group("pipeline").bench_function(id, |b| {
        let mut running = running.borrow_mut();
        if let Some(scenario) = waiting.take() {
            *running = Some(scenario.start());
        }
        if let Some(running) = running.as_mut() {
            b.iter_custom(|packets| running.packets(packets));
        }
    });
}

fn named(c: &mut Criterion) {
    for missing in NOT_BUILT {
        println!("not built: {} ({})", missing.name, missing.why);
    }
    for name in EXITS {
        measure(c, "-", Scenario::named(name, ForwardMethod::Dr));
    }
    for method in ForwardMethod::ALL {
        for name in FORWARDED {
            measure(c, method.name(), Scenario::named(name, *method));
        }
        if *method != ForwardMethod::Dr {
            measure(c, method.name(), Scenario::named(MIXED, *method));
        }
    }
}

fn flows(c: &mut Criterion) {
    let full = std::env::var_os("SHUNT_BENCH").is_some_and(|v| v == "full");
    let mut counts = vec![1, 1000, 100_000, 1_000_000];
    counts.extend(full.then_some(10_000_000));
    for flows in counts {
        for method in ForwardMethod::ALL {
            measure(c, method.name(), Scenario::flows(Protocol::Udp, flows, *method));
        }
    }
    measure(c, "dr", Scenario::flows(Protocol::Tcp, 1000, ForwardMethod::Dr));
    for services in [1, 100, 10_000] {
        measure(c, "dr", Scenario::spread(services, 2, 10_000));
    }
    // Two are measured above.
    for reals in [100, 1000] {
        measure(c, "dr", Scenario::spread(1, reals, 10_000));
    }
}

fn new_flows(c: &mut Criterion) {
    for percent in FULLNESS {
        measure(c, "dr", Scenario::new_flows(*percent, ForwardMethod::Dr));
    }
    for scheduler in [SchedulerKind::Mh, SchedulerKind::Wrr] {
        measure(c, "dr", Scenario::flood(scheduler));
    }
    measure(c, "dr", Scenario::datagrams());
    for scheduler in SchedulerKind::ALL {
        measure(c, "dr", Scenario::scheduled(*scheduler, 100));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = named, flows, new_flows
}
criterion_main!(benches);
