//! Operations that change the configuration, as steps of a draft.

use std::net::IpAddr;

use super::protocol::{
    Error, ErrorCode, Request, ServerAdd, ServerEdit, ServerRef, ServiceAdd, ServiceEdit,
    ServiceRef, TimeoutsSet,
};
use crate::config::{Draft, Real, Service, Timeouts};
use crate::types::ServiceKey;
use crate::vocabulary::ForwardMethod;

/// Takes one step; on error the draft is as before.
pub(super) fn step(draft: &mut Draft, request: &Request) -> Result<(), Error> {
    match request {
        Request::ServiceAdd(add) => service_add(draft, add),
        Request::ServiceEdit(edit) => service_edit(draft, edit),
        Request::ServiceDel(del) => match draft.remove_service(&del.key()) {
            true => Ok(()),
            false => Err(no_service(del.key())),
        },
        Request::ServiceClear(_) => {
            draft.clear();
            Ok(())
        }
        Request::ServerAdd(add) => server_add(draft, add),
        Request::ServerEdit(edit) => server_edit(draft, edit),
        Request::ServerDel(del) => server_del(draft, del),
        Request::TimeoutsSet(set) => {
            Ok(draft.edit_timeouts(|timeouts| timeouts_set(timeouts, set))?)
        }
        other => {
            let message = format!(
                "{} cannot be part of a batch: only operations that change the configuration can",
                other.op()
            );
            Err(Error::new(ErrorCode::Invalid, message))
        }
    }
}

pub(super) fn no_service(key: ServiceKey) -> Error {
    Error::new(ErrorCode::NotFound, format!("no virtual service {key}"))
}

fn no_server(address: IpAddr, key: ServiceKey) -> Error {
    let message = format!("virtual service {key} has no real server {address}");
    Error::new(ErrorCode::NotFound, message)
}

fn timeouts_set(timeouts: &mut Timeouts, set: &TimeoutsSet) {
    timeouts.tcp = set.tcp.unwrap_or(timeouts.tcp);
    timeouts.tcp_fin = set.tcp_fin.unwrap_or(timeouts.tcp_fin);
    timeouts.udp = set.udp.unwrap_or(timeouts.udp);
}

fn service_add(draft: &mut Draft, add: &ServiceAdd) -> Result<(), Error> {
    let service = Service {
        scheduler_flags: add.scheduler_flags,
        one_packet: add.one_packet,
        persistence: add.persistence.filter(|time| !time.is_zero()),
        persistence_netmask: add.persistence_netmask,
        ..Service::new(add.protocol, add.address, add.scheduler)
    };
    if draft.has(&service.key()) {
        let message = format!("virtual service {} exists", service.key());
        return Err(Error::new(ErrorCode::Exists, message));
    }
    Ok(draft.add_service(service)?)
}

fn service_edit(draft: &mut Draft, edit: &ServiceEdit) -> Result<(), Error> {
    let key = ServiceRef { protocol: edit.protocol, address: edit.address }.key();
    let found = draft.edit_service(&key, |service| {
        service.scheduler = edit.scheduler.unwrap_or(service.scheduler);
        let kept = service.scheduler_flags.of(service.scheduler);
        service.scheduler_flags = edit.scheduler_flags.unwrap_or(kept);
        service.one_packet = edit.one_packet.unwrap_or(service.one_packet);
        if let Some(time) = edit.persistence {
            service.persistence = Some(time).filter(|time| !time.is_zero());
        }
        let kept = service.persistence_netmask.filter(|_| service.persistence.is_some());
        service.persistence_netmask = edit.persistence_netmask.or(kept);
    })?;
    if found { Ok(()) } else { Err(no_service(key)) }
}

fn server_add(draft: &mut Draft, add: &ServerAdd) -> Result<(), Error> {
    let ServerAdd { protocol, address, real, weight, forward, gre, .. } = *add;
    let key = ServiceRef { protocol, address }.key();
    if !draft.has(&key) {
        return Err(no_service(key));
    }
    if draft.real(&key, real).is_some() {
        let message = format!("virtual service {key} has real server {real}");
        return Err(Error::new(ErrorCode::Exists, message));
    }
    let ServerAdd { upper_threshold, lower_threshold, .. } = *add;
    let server = Real { address: real, weight, forward, gre, upper_threshold, lower_threshold };
    Ok(draft.add_real(&key, server)?)
}

fn server_edit(draft: &mut Draft, edit: &ServerEdit) -> Result<(), Error> {
    let ServerEdit { protocol, address, real, weight, forward, gre, .. } = *edit;
    let key = ServiceRef { protocol, address }.key();
    if !draft.has(&key) {
        return Err(no_service(key));
    }
    let found = draft.edit_real(&key, real, |server| {
        server.weight = weight.unwrap_or(server.weight);
        server.forward = forward.unwrap_or(server.forward);
        server.gre = gre.or(server.gre.filter(|_| server.forward == ForwardMethod::Gre));
        server.upper_threshold = edit.upper_threshold.unwrap_or(server.upper_threshold);
        let kept = if server.upper_threshold == 0 { 0 } else { server.lower_threshold };
        server.lower_threshold = edit.lower_threshold.unwrap_or(kept);
    })?;
    if found { Ok(()) } else { Err(no_server(real, key)) }
}

fn server_del(draft: &mut Draft, del: &ServerRef) -> Result<(), Error> {
    let key = ServiceRef { protocol: del.protocol, address: del.address }.key();
    if !draft.has(&key) {
        return Err(no_service(key));
    }
    if draft.remove_real(&key, del.real) { Ok(()) } else { Err(no_server(del.real, key)) }
}
