//! What happens to a packet: tables of configuration, packet in, verdict, packet out, counters.
//!
//! The pipelines are the product's; NIC, slow path, queues and clock are [`director::Director`]'s.
//! What is sent is read by etherparse, not by the product's own parser.
#![allow(clippy::unwrap_used)]

mod buffer;
mod director;
mod packets;
mod packets6;
mod seen;
mod wire;

mod accounts;
mod answers;
mod awaited;
mod changes;
mod drops;
mod flood;
mod flows;
mod fragment_floods;
mod fragments;
mod icmp;
mod inject;
mod ipv6;
mod ipv6_flows;
mod learned;
mod limits;
mod methods;
mod no_server;
mod one_packet;
mod order;
mod outlive;
mod persistence;
mod ports;
mod queries;
mod random;
mod slots;
mod switches;
mod tags;
mod thresholds;
mod verdicts;
