//! Slot numbers: small integers that stand for one thing as long as it is configured.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        #[repr(transparent)]
        pub struct $name(pub $repr);

        impl $name {
            /// The slot as an array index.
            #[inline(always)]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A NIC port: its place in the configuration's list of `[[port]]`, not DPDK's number.
    PortId(u16)
}
id! {
    /// A worker: its place in `dataplane.workers`, not the lcore number.
    WorkerId(u16)
}
id! {
    /// A virtual service. Stable while the service is configured.
    ServiceId(u32)
}
id! {
    /// One real server of one virtual service (the same RIP in two services has two ids).
    /// Stable while configured; the slot is given to another only when no flow refers to it.
    RealId(u32)
}
id! {
    /// A neighbor (next hop on a port). Stable while anything needs it.
    NeighborId(u32)
}
