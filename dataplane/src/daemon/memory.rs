//! What each worker writes: allocated and touched by its own lcore, so that it lies on the NUMA
//! node of the processor that uses it, and all workers' at once.

use std::sync::Arc;

use anyhow::{Error, Result};

use super::random;
use super::starting::{Progress, Starting, ToldToStop};
use crate::config::Dataplane;
use crate::dpdk;
use crate::flow::{NewShardError, Shard, Shard6};
use crate::hash::Seed;
use crate::stats::Stats;

/// A worker's own.
pub(super) struct Own {
    pub(super) shard: Shard,
    pub(super) shard6: Shard6,
    pub(super) stats: Arc<Stats>,
}

/// What a worker's memory is to be.
#[derive(Clone, Copy)]
struct Sizes {
    flows: usize,
    flows6: usize,
    ports: usize,
    services: usize,
    reals: usize,
}

/// Has the workers on these lcores allocate their memory, with `ports` ports. Gives up, and gives
/// all memory back, when `starting` is told to stop.
pub(super) fn allocate(
    plane: &Dataplane,
    lcores: &[u32],
    ports: usize,
    starting: &Starting,
) -> Result<Vec<Own>> {
    let sizes = Sizes {
        flows: plane.flows_per_worker as usize,
        flows6: plane.flows6_per_worker as usize,
        ports,
        services: plane.max_services as usize,
        reals: plane.max_real_servers as usize,
    };
    let bytes = lcores.len() as u64 * (Shard::bytes(sizes.flows) + Shard6::bytes(sizes.flows6));
    warn_of_too_little(bytes);
    let progress = starting.touches("flow tables", bytes);
    let mut jobs = Vec::with_capacity(lcores.len());
    let mut first_error = None;
    for (index, lcore) in lcores.iter().enumerate() {
        let (seeds, step) = ((random()?, random()?), progress.clone());
        match dpdk::launch(*lcore, move || own(sizes, seeds, &step)) {
            Ok(job) => jobs.push(job),
            Err(error) => {
                let error = Error::new(error)
                    .context(format!("cannot start worker {index} on lcore {lcore}"));
                first_error = Some(error);
                progress.give_up();
                break;
            }
        }
    }
    // All are waited for: an lcore is launched again only when it has nothing to do.
    let mut all = Vec::with_capacity(jobs.len());
    for job in jobs {
        match job.join() {
            Ok(Ok(own)) => all.push(own),
            Ok(Err(error)) => {
                // What made others give up comes before that they did.
                if first_error.as_ref().is_none_or(Error::is::<ToldToStop>) {
                    first_error = Some(error);
                }
            }
            Err(_) => first_error = Some(Error::msg("a worker panicked as it started")),
        }
    }
    first_error.map_or(Ok(all), Err)
}

fn own(sizes: Sizes, (seed, seed6): (u128, u128), progress: &Progress) -> Result<Own> {
    let explain = |key: &'static str| {
        move |error: NewShardError| match error {
            NewShardError::GivenUp => Error::new(ToldToStop),
            NewShardError::OutOfMemory { .. } => {
                Error::new(error).context(format!("{key}: cannot allocate it; lower it"))
            }
            NewShardError::Capacity { .. } => Error::new(error).context(key),
        }
    };
    let step = &mut |bytes| progress.add(bytes);
    let mut tables = || -> Result<_> {
        let shard = Shard::build(sizes.flows, Seed::new(seed), step)
            .map_err(explain("dataplane.flows_per_worker"))?;
        let shard6 = Shard6::build(sizes.flows6, Seed::new(seed6), step)
            .map_err(explain("dataplane.flows6_per_worker"))?;
        Ok((shard, shard6))
    };
    let (shard, shard6) = tables().inspect_err(|_| progress.give_up())?;
    let stats = Arc::new(Stats::new(sizes.ports, sizes.services, sizes.reals));
    Ok(Own { shard, shard6, stats })
}

/// The kernel promises memory that it does not have, and ends a process that takes it at its word.
fn warn_of_too_little(bytes: u64) {
    let Some(available) = std::fs::read_to_string("/proc/meminfo").ok().and_then(|m| available(&m))
    else {
        return;
    };
    if bytes > available {
        log::warn!(
            "flow tables take {} MiB, and {} MiB of memory are available: the kernel may end \
             shuntd; lower dataplane.flows_per_worker and flows6_per_worker",
            bytes >> 20,
            available >> 20
        );
    }
}

/// What `/proc/meminfo` says is available, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_available() {
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("MemFree: 1 kB\n"), None);
    }
}
