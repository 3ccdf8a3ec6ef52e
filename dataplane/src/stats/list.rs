//! The one list of what is counted.

/// What a number means, and whether it has a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// How often something happened since the start. It never falls, and has a rate.
    Counter,
    /// How many there are now.
    Gauge,
}

macro_rules! counter_list {
    ($(#[$doc:meta])* all $kind:ident: $name:ident {
        $($variant:ident = $text:literal: $help:literal),+ $(,)?
    }) => {
        counter_list! { $(#[$doc])* $name { $($variant = $text, $kind: $help),+ } }
    };
    ($(#[$doc:meta])* $name:ident {
        $($variant:ident = $text:literal, $kind:ident: $help:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $help] $variant),+ }

        impl $name {
            /// All of them, in listing order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in listings, JSON and metrics.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// What its number means.
            pub const fn kind(self) -> Kind {
                match self { $($name::$variant => Kind::$kind),+ }
            }

            /// One sentence for people.
            pub const fn help(self) -> &'static str {
                match self { $($name::$variant => $help),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

counter_list! {
    /// Why a packet was dropped. Every dropped packet has exactly one reason.
    all Counter: DropReason {
        NotOurMac = "not_our_mac": "Frame for another station's Ethernet address.",
        EtherType = "ether_type": "Neither IPv4, IPv6 nor ARP.",
        Vlan = "vlan": "Frame with a VLAN tag other than a priority tag (VLAN 0).",
        TooShort = "too_short": "Frame shorter than its headers say.",
        BadIpv4Header = "bad_ipv4_header": "IPv4 version, header length or total length is wrong, or a fragment reaches past 65535 bytes.",
        BadIpv4Checksum = "bad_ipv4_checksum": "IPv4 header checksum is wrong.",
        BadIpv6Header = "bad_ipv6_header": "IPv6 version is wrong.",
        BadExtension = "bad_extension": "IPv6 extension header is cut, stands where it may not, or tells an impossible fragment.",
        ExtensionLimit = "extension_limit": "More IPv6 extension headers, or longer ones, than are read.",
        RoutingHeader = "routing_header": "IPv6 routing header with segments left: the packet is on its way elsewhere.",
        BadL4Header = "bad_l4_header": "TCP, UDP or ICMP header is cut or malformed, or a fragment would overwrite it.",
        BadSource = "bad_source": "Source address that no client has: no host's, of the link only, the destination's, or the director's own.",
        L2Group = "l2_group": "IP packet in a broadcast or multicast frame.",
        NotLocal = "not_local": "Destination is neither a VIP nor the director's own address.",
        ToDirector = "to_director": "To the director's own address with another protocol than ICMP, and not awaited: nothing is served there.",
        NoService = "no_service": "To a VIP, but no virtual service has this protocol and L4 port.",
        ProtocolUnsupported = "protocol_unsupported": "To a VIP with a protocol other than TCP, UDP and ICMP.",
        NoRealServer = "no_real_server": "The virtual service has no real server that takes new flows, and the client is not told (no_server = \"drop\", or it sent a RST).",
        RealServerGone = "real_server_gone": "The flow waits for its real server, which was removed (expire_nodest_conn = false).",
        NoHeadroom = "no_headroom": "No room in front of the packet for the outer header.",
        TooLong = "too_long": "The packet with its outer header would be longer than 65535 bytes, or an IPv6 packet of at most 1280 than the egress port takes, or one of the director's own than its way takes.",
        NoBuffer = "no_buffer": "The packet buffer pool is empty, or its buffers too small for the egress MTU.",
        TooManyFragments = "too_many_fragments": "The packet would need more fragments than allowed.",
        FragmentUnknown = "fragment_unknown": "Later fragment whose first fragment was not seen, or not in time.",
        IcmpUnknownFlow = "icmp_unknown_flow": "ICMP error about a flow that no worker has, or whose quotation tells of none.",
        IcmpType = "icmp_type": "ICMP message of a type that is neither answered nor handed on to a real server.",
        IcmpRedirect = "icmp_redirect": "ICMP redirect to a VIP: real servers are not told by which router to reach a client.",
        NeighborUnresolved = "neighbor_unresolved": "Next hop's Ethernet address unknown, and no room or time to wait for it.",
        NeighborFailed = "neighbor_failed": "Next hop does not answer ARP or neighbor solicitations.",
        PortDown = "port_down": "The egress port is not served by this worker.",
        TxFull = "tx_full": "The transmit queue took no more.",
        PuntFull = "punt_full": "The queue to the slow path is full.",
        HandoffFull = "handoff_full": "The queue to another worker is full, or has taken as much as it may from this worker or source network.",
        InboxFull = "inbox_full": "The queue from the slow path to a worker is full.",
        RateLimited = "rate_limited": "Echo reply, ICMP error or TCP reset not sent, or message to the director not read: over the rate limit.",
        ErrorSuppressed = "error_suppressed": "No ICMP error or TCP reset may be sent about this packet.",
        ArpIgnored = "arp_ignored": "ARP message that is not about this director.",
        ArpInvalid = "arp_invalid": "Malformed or impossible ARP message.",
        ArpConflict = "arp_conflict": "ARP message of another station that uses one of the director's addresses.",
        NdpIgnored = "ndp_ignored": "Neighbor solicitation or advertisement that is not about this director.",
        NdpInvalid = "ndp_invalid": "Malformed or impossible neighbor discovery message (RFC 4861 7.1), or one that crossed a router.",
        NdpConflict = "ndp_conflict": "Neighbor discovery message of another station that uses one of the director's addresses.",
        NdpRouter = "ndp_router": "Router solicitation, router advertisement or redirect: the director neither is a router nor obeys one.",
        MldIgnored = "mld_ignored": "Multicast listener query about a group the director is not in.",
        MldInvalid = "mld_invalid": "Malformed or impossible multicast listener query.",
        AddressNotReady = "address_not_ready": "To an IPv6 address of the director that is being probed, or is another station's too.",
        BadIcmpChecksum = "bad_icmp_checksum": "ICMP message to the director whose checksum is wrong.",
        EchoRefused = "echo_refused": "Echo request with a code, a source route or extension headers that it is not answered with.",
        FragmentToDirector = "fragment_to_director": "Fragment of a packet to the director itself, echo requests to VIPs included: it does not reassemble.",
        IcmpToDirector = "icmp_to_director": "ICMP error about the director's own packets; read, and done with.",
        SlowPathUnknown = "slow_path_unknown": "Punted packet the slow path has no use for.",
        Shutdown = "shutdown": "Still waiting when the daemon stopped.",
    }
}

counter_list! {
    /// What else is counted, per worker (the slow path uses the same list).
    Event {
        RxPackets = "rx_packets", Counter: "Packets received.",
        RxBytes = "rx_bytes", Counter: "Bytes received.",
        Forwarded = "forwarded", Counter: "Packets sent on to a real server, clients' and the director's own.",
        Punted = "punted", Counter: "Packets given to the slow path.",
        HandedOver = "handed_over", Counter: "Packets given to another worker, which may have their flow.",
        TakenOver = "taken_over", Counter: "Packets taken from another worker.",
        Injected = "injected", Counter: "Packets of the director's own to real servers, taken from the slow path to be sent as clients' are.",
        Held = "held", Gauge: "Fragments waiting for their first fragment now.",
        PeerNotesLost = "peer_notes_lost", Counter: "Notes on fragments, and replicas, that another worker did not take or was not told of: its queue or table is full, or there are too many.",
        FlowsCreated = "flows_created", Counter: "New flows, replicas of another worker's included.",
        FlowsExpired = "flows_expired", Counter: "Flows removed because their timer ran out.",
        FlowsEvicted = "flows_evicted", Counter: "Flows removed to make room for a new one.",
        FlowsEvictedProven = "flows_evicted_proven", Counter: "Those of them whose packets had come over time, for more than a second: the table is too small.",
        FlowsReplaced = "flows_replaced", Counter: "Flows replaced by a new connection with the same addresses and L4 ports.",
        FlowsOrphaned = "flows_orphaned", Counter: "Flows removed because their real server is gone.",
        FlowsFlushed = "flows_flushed", Counter: "Flows removed by an operator.",
        Flows = "flows", Gauge: "Flows in the tables now.",
        Flows6 = "flows6", Gauge: "IPv6 flows among them.",
        Templates = "templates", Gauge: "Templates of persistence now, of all workers; the first one's to count.",
        TemplatesCreated = "templates_created", Counter: "Client networks bound to a real server, also again.",
        TemplatesEvicted = "templates_evicted", Counter: "Templates that still lived, removed to make room for another.",
        TemplatesLost = "templates_lost", Counter: "New flows of persistent services that found no place for a template.",
        FloodSyns = "flood_syns", Counter: "SYNs sent on without a flow, in a flood that filled the table; the client's first packet after its SYNs finds the real server again, and makes the flow.",
        FloodPackets = "flood_packets", Counter: "ACKs, FINs and datagrams sent on without a flow, in a flood that filled the table; the client's next packet finds the real server again.",
        MissNotSyn = "miss_not_syn", Counter: "TCP packets without flow that do not open a connection.",
        FragmentsSent = "fragments_sent", Counter: "Fragments made of packets too long for the egress MTU.",
        SlowPathTaken = "slow_path_taken", Counter: "Punted packets the slow path took from its queue.",
        SlowPathSent = "slow_path_sent", Counter: "Packets sent for the slow path.",
        ExtraTxFull = "extra_tx_full", Counter: "Fragments and packets of the slow path that the transmit queue did not take.",
        ArpReplies = "arp_replies", Counter: "ARP requests answered.",
        ArpRequests = "arp_requests", Counter: "ARP requests sent, gratuitous ones too.",
        ArpLearned = "arp_learned", Counter: "ARP messages that taught or confirmed a neighbor.",
        NdpReplies = "ndp_replies", Counter: "Neighbor solicitations answered.",
        NdpRequests = "ndp_requests", Counter: "Neighbor solicitations sent, and advertisements nobody asked for.",
        NdpLearned = "ndp_learned", Counter: "Neighbor discovery messages that taught or confirmed a neighbor.",
        DadConflicts = "dad_conflicts", Counter: "IPv6 addresses not used because another station has them.",
        MldQueries = "mld_queries", Counter: "Multicast listener queries to be answered.",
        MldReports = "mld_reports", Counter: "Multicast listener reports sent.",
        EchoReplies = "echo_replies", Counter: "ICMP and ICMPv6 echo requests answered.",
        IcmpErrors = "icmp_errors", Counter: "ICMP and ICMPv6 errors sent.",
        TcpResets = "tcp_resets", Counter: "TCP resets sent for segments without a flow.",
        NeighborQueued = "neighbor_queued", Counter: "Packets that waited for a neighbor's Ethernet address.",
        NeighborWaiting = "neighbor_waiting", Gauge: "Packets waiting for a neighbor's Ethernet address now.",
        NeighborForwarded = "neighbor_forwarded", Counter: "Packets sent on by the slow path, their neighbor's Ethernet address known.",
        PollsBusy = "polls_busy", Counter: "Poll rounds that found packets.",
        PollsIdle = "polls_idle", Counter: "Poll rounds that found none.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_snake_case_and_in_enum_order() {
        let names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(
            names.iter().all(|n| n
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'))
        );
        assert!(DropReason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
        assert!(Event::ALL.iter().enumerate().all(|(i, e)| *e as usize == i));
        assert!(DropReason::ALL.iter().all(|r| r.help().ends_with('.')));
    }

    #[test]
    fn what_tells_how_many_there_are_now_is_a_gauge() {
        let gauges: Vec<_> = Event::ALL.iter().filter(|e| e.kind() == Kind::Gauge).collect();
        let named = ["held", "flows", "flows6", "templates", "neighbor_waiting"];
        assert_eq!(gauges.iter().map(|e| e.name()).collect::<Vec<_>>(), named);
        let says_now = |event: &Event| {
            let help = event.help();
            help.contains(" now") || help.contains("among them")
        };
        for event in Event::ALL {
            assert_eq!(says_now(event), event.kind() == Kind::Gauge, "{event}");
        }
        assert!(DropReason::ALL.iter().all(|reason| reason.kind() == Kind::Counter));
    }
}
