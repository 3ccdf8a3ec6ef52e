//! What virtual services and real servers have counted since they were configured.
//!
//! Workers count a packet for its real server only. A virtual service's packets are those of its
//! real servers, and of those that were its real servers once: what these counted is kept when
//! their slot is given to another.

use std::collections::HashMap;

use super::Traffic;
use crate::types::{RealId, ServiceId};

/// Where slots' counters stood when they were given to what they stand for now.
///
/// Totals, as passed in, are over all workers, and of the slot since start. What is told of active
/// and inactive flows is as it is now.
#[derive(Debug)]
pub struct Accounts {
    services: Vec<Account>,
    reals: Vec<Traffic>,
    /// Real servers that are no longer configured, and whose slots are nobody else's yet: workers
    /// may count in them until they have taken up the configuration.
    departed: HashMap<RealId, ServiceId>,
}

#[derive(Debug, Clone, Default)]
struct Account {
    base: Traffic,
    /// What was counted by departed real servers whose slots others have.
    gone: Traffic,
    departed: Vec<RealId>,
}

impl Accounts {
    /// Room for so many slots of each.
    pub fn new(services: usize, reals: usize) -> Accounts {
        Accounts {
            services: vec![Account::default(); services],
            reals: vec![Traffic::default(); reals],
            departed: HashMap::new(),
        }
    }

    /// A slot is a new virtual service's; it has counted `total` so far.
    pub fn open_service(&mut self, id: ServiceId, total: Traffic) {
        let Some(account) = self.services.get_mut(id.index()) else { return };
        for real in &account.departed {
            self.departed.remove(real);
        }
        *account = Account { base: total, ..Account::default() };
    }

    /// A slot is a new real server's; it has counted `total` so far.
    pub fn open_real(&mut self, id: RealId, total: Traffic) {
        let Some(base) = self.reals.get_mut(id.index()) else { return };
        let before = since(total, *base);
        *base = total;
        let service = self.departed.remove(&id);
        if let Some(account) = service.and_then(|s| self.services.get_mut(s.index())) {
            account.departed.retain(|real| *real != id);
            account.gone.packets = account.gone.packets.wrapping_add(before.packets);
            account.gone.bytes = account.gone.bytes.wrapping_add(before.bytes);
        }
    }

    /// A real server of `service` is no longer configured.
    pub fn depart(&mut self, service: ServiceId, real: RealId) {
        if let Some(account) = self.services.get_mut(service.index()) {
            if self.departed.insert(real, service).is_none() {
                account.departed.push(real);
            }
        }
    }

    /// What a real server, of whose slot `total` is known, has counted.
    pub fn real(&self, id: RealId, total: Traffic) -> Traffic {
        since(total, self.reals.get(id.index()).copied().unwrap_or_default())
    }

    /// What a virtual service has counted: `total` of its slot, which has connections only, and
    /// `reals` its real servers now, of whose slots `total_of` tells.
    pub fn service(
        &self,
        id: ServiceId,
        total: Traffic,
        reals: &[RealId],
        total_of: impl Fn(RealId) -> Traffic,
    ) -> Traffic {
        let Some(account) = self.services.get(id.index()) else { return Traffic::default() };
        let mut traffic = since(total, account.base);
        traffic.packets = account.gone.packets;
        traffic.bytes = account.gone.bytes;
        for (real, departed) in
            reals.iter().map(|r| (r, false)).chain(account.departed.iter().map(|r| (r, true)))
        {
            let real = self.real(*real, total_of(*real));
            traffic.packets = traffic.packets.wrapping_add(real.packets);
            traffic.bytes = traffic.bytes.wrapping_add(real.bytes);
            if !departed {
                traffic.active += real.active;
                traffic.inactive += real.inactive;
            }
        }
        traffic
    }
}

/// What came after `base`; flows in the table are not counted from anywhere.
fn since(now: Traffic, base: Traffic) -> Traffic {
    Traffic {
        connections: now.connections.wrapping_sub(base.connections),
        packets: now.packets.wrapping_sub(base.packets),
        bytes: now.bytes.wrapping_sub(base.bytes),
        ..now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: ServiceId = ServiceId(1);

    /// What slots have counted, ten bytes a packet.
    struct Slots([u64; 3]);

    impl Slots {
        fn total(&self, real: RealId) -> Traffic {
            let packets = self.0[real.index()];
            Traffic { packets, bytes: 10 * packets, active: 1, ..Traffic::default() }
        }

        fn service(&self, accounts: &Accounts, reals: &[u32]) -> (u64, u64, u64) {
            let reals: Vec<_> = reals.iter().copied().map(RealId).collect();
            let of = |real| self.total(real);
            let t = accounts.service(SERVICE, Traffic::default(), &reals, of);
            assert_eq!(t.bytes, 10 * t.packets);
            (t.connections, t.packets, t.active)
        }
    }

    #[test]
    fn a_service_keeps_what_its_real_servers_counted() {
        let mut accounts = Accounts::new(2, 3);
        let mut slots = Slots([5, 7, 0]);
        for real in [RealId(0), RealId(1)] {
            accounts.open_real(real, slots.total(real));
        }
        assert_eq!(slots.service(&accounts, &[0, 1]), (0, 0, 2));
        slots.0 = [15, 27, 0];
        assert_eq!(slots.service(&accounts, &[0, 1]), (0, 30, 2));
        assert_eq!(accounts.real(RealId(1), slots.total(RealId(1))).packets, 20);
        // Removed, it may still be counted in for a moment, and once only.
        accounts.depart(SERVICE, RealId(1));
        accounts.depart(SERVICE, RealId(1));
        slots.0[1] = 28;
        assert_eq!(slots.service(&accounts, &[0]), (0, 31, 1));
        // Another has its slot, of this service or of another.
        accounts.open_real(RealId(1), slots.total(RealId(1)));
        slots.0[1] = 100;
        assert_eq!(slots.service(&accounts, &[0]), (0, 31, 1));
        assert_eq!(slots.service(&accounts, &[0, 1]), (0, 31 + 72, 2));
    }

    #[test]
    fn a_new_service_begins_at_nothing() {
        let mut accounts = Accounts::new(2, 3);
        let slots = Slots([5, 7, 0]);
        accounts.depart(SERVICE, RealId(0));
        accounts.depart(SERVICE, RealId(1));
        accounts.open_real(RealId(0), slots.total(RealId(0)));
        assert_eq!(slots.service(&accounts, &[]), (0, 12, 0));
        let total = Traffic { connections: 9, ..Traffic::default() };
        accounts.open_service(SERVICE, total);
        assert_eq!(slots.service(&accounts, &[]).1, 0);
        accounts.open_real(RealId(1), slots.total(RealId(1)));
        assert_eq!(slots.service(&accounts, &[]).1, 0, "its predecessor's");
        let now = Traffic { connections: 10, ..Traffic::default() };
        assert_eq!(accounts.service(SERVICE, now, &[], |_| Traffic::default()).connections, 1);
    }
}
