//! Memory by flow and by virtual service, and the time to start: differences between daemons.

use anyhow::Result;

use crate::Options;
use crate::hugepages::Memory;
use crate::report::Measured;
use crate::shuntd::{Config, Shuntd};

const MBUFS: usize = 16_383;
const MIB: u64 = 256;
/// How often each is started.
const N: usize = 3;

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let memory = Memory::reserve(MIB);
    let start = |capacity: usize, services: usize| -> Result<(f64, f64)> {
        let dir = tempfile::tempdir()?;
        let shuntd = Shuntd::start(
            dir.path(),
            &Config {
                vdev: "net_null0".into(),
                eal: memory.eal(MIB),
                mbufs: MBUFS,
                capacity,
                protocol: "udp",
                port: 443,
                method: "ipip".into(),
                services,
                reals: 2,
                room: (0, 0),
                scheduler: "wrr".into(),
                mtu: 1500,
            },
        )?;
        Ok((shuntd.resident()? as f64, shuntd.started_in.as_secs_f64()))
    };
    let result = |name: &str, unit| Measured {
        part: "memory",
        name: name.into(),
        unit,
        ..Measured::default()
    };
    let (few, many) = (1 << 16, if options.quick { 2_000_000 } else { 10_000_000 });
    let (mut flow, mut service, mut total, mut time) = (vec![], vec![], vec![], vec![]);
    for _ in 0..N {
        let (small, _) = start(few, 1)?;
        let (large, seconds) = start(many, 1)?;
        let (served, _) = start(few, 1001)?;
        flow.push((large - small) / (many - few) as f64);
        service.push((served - small) / 1000.0);
        total.push(large / f64::from(1 << 20));
        time.push(seconds);
        eprintln!("memory: {seconds:.2} s to start with {many} flows");
    }
    let flows = Some(many as u64);
    Ok(vec![
        result("a flow", "bytes").of(&flow),
        Measured {
            reals: Some(2),
            ..result("a service with its real servers, room included", "bytes")
        }
        .of(&service),
        Measured { flows, ..result("all but hugepages", "MiB") }.of(&total),
        Measured { flows, ..result("start", "s") }.of(&time),
    ])
}
