//! From a line to a [`Request`] and from an [`Answer`] to a line.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::protocol::{Answer, Error, ErrorCode, Request, VERSION};
use crate::vocabulary::clip;

/// Longest `id` given back.
const MAX_ID: usize = 128;

/// Reads one line. The id is `null` when there is none, or the line cannot be read.
pub(super) fn decode(line: &[u8]) -> (Value, Result<Request, Error>) {
    let mut object = match parse(line) {
        Ok(object) => object,
        Err(error) => return (Value::Null, Err(error)),
    };
    let id = object.remove("id").unwrap_or(Value::Null);
    let id_is_fine = match &id {
        Value::Null | Value::Number(_) => true,
        Value::String(text) => text.len() <= MAX_ID,
        _ => false,
    };
    if !id_is_fine {
        let message = format!("id must be a number or a string of at most {MAX_ID} bytes");
        return (Value::Null, Err(invalid(message)));
    }
    (id, request(object))
}

/// Longest message about a line that cannot be read, in bytes: it quotes the line.
const MAX_QUOTED: usize = 1000;

fn invalid(message: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::Invalid, clip(&message.to_string(), MAX_QUOTED))
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, Error> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(invalid("expected a JSON object such as {\"v\":1,\"id\":1,\"op\":\"ping\"}")),
        Err(error) => Err(invalid(format!("not a JSON object on one line: {error}"))),
    }
}

fn request(mut object: Map<String, Value>) -> Result<Request, Error> {
    match object.remove("v") {
        None => {}
        Some(v) if v.as_u64() == Some(VERSION) => {}
        Some(v) => {
            return Err(Error::new(
                ErrorCode::UnsupportedVersion,
                format!(
                    "protocol version {} is not spoken; this daemon speaks {VERSION}",
                    clip(&v.to_string(), 40)
                ),
            ));
        }
    }
    let known = || Request::OPS.join(", ");
    match object.get("op") {
        Some(Value::String(op)) if Request::OPS.contains(&op.as_str()) => {}
        Some(Value::String(op)) => {
            return Err(Error::new(
                ErrorCode::UnknownOp,
                format!("unknown op {:?}; known are {}", clip(op, 40), known()),
            ));
        }
        _ => return Err(invalid(format!("op is missing or no string; known are {}", known()))),
    }
    let op = object.get("op").cloned().unwrap_or_default();
    Request::deserialize(Value::Object(object))
        .map_err(|error| invalid(format!("{}: {error}", op.as_str().unwrap_or_default())))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply<'a> {
    Ok { id: &'a Value, ok: &'a Answer },
    Error { id: &'a Value, error: &'a Error },
}

/// Writes the answer as one line, piece by piece: a long listing is not held as text.
pub(super) fn encode(
    id: &Value,
    result: &Result<Answer, Error>,
    mut to: impl Write,
) -> io::Result<()> {
    let reply = match result {
        Ok(ok) => Reply::Ok { id, ok },
        Err(error) => Reply::Error { id, error },
    };
    serde_json::to_writer(&mut to, &reply)?;
    to.write_all(b"\n")?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{ServiceAdd, ServiceRef};
    use super::*;
    use crate::types::Protocol;
    use crate::vocabulary::{SchedulerFlags, SchedulerKind};

    fn code(line: &str) -> ErrorCode {
        decode(line.as_bytes()).1.unwrap_err().code
    }

    #[test]
    fn reads_requests_with_and_without_version_and_id() {
        let (id, request) = decode(
            br#"{"v":1,"id":7,"op":"service.add","protocol":"tcp","address":"192.0.2.100:80"}"#,
        );
        assert_eq!(id, 7);
        assert_eq!(
            request.unwrap(),
            Request::ServiceAdd(ServiceAdd {
                protocol: Protocol::Tcp,
                address: "192.0.2.100:80".parse().unwrap(),
                scheduler: SchedulerKind::Wlc,
                scheduler_flags: SchedulerFlags::NONE,
                one_packet: false,
                persistence: None,
                persistence_netmask: None,
            })
        );
        let (id, request) =
            decode(br#"{"op":"service.del","protocol":"udp","address":"192.0.2.100:53"}"#);
        assert_eq!(id, Value::Null);
        let key =
            ServiceRef { protocol: Protocol::Udp, address: "192.0.2.100:53".parse().unwrap() };
        assert_eq!(request.unwrap(), Request::ServiceDel(key));
    }

    #[test]
    fn refuses_with_the_right_code() {
        assert_eq!(code("{"), ErrorCode::Invalid);
        assert_eq!(code("[1]"), ErrorCode::Invalid);
        assert_eq!(code(r#"{"id":1}"#), ErrorCode::Invalid);
        assert_eq!(code(r#"{"id":[],"op":"ping"}"#), ErrorCode::Invalid);
        assert_eq!(code(r#"{"v":2,"op":"ping"}"#), ErrorCode::UnsupportedVersion);
        assert_eq!(code(r#"{"op":"pong"}"#), ErrorCode::UnknownOp);
        assert_eq!(code(r#"{"op":"ping","extra":1}"#), ErrorCode::Invalid);
        let unknown = r#"{"op":"service.del","protocol":"tcp","address":"192.0.2.1:80","x":1}"#;
        let message = decode(unknown.as_bytes()).1.unwrap_err().message;
        assert!(message.starts_with("service.del: unknown field `x`"), "{message}");
    }

    #[test]
    fn every_op_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Request::OPS.iter().collect();
        assert_eq!(names.len(), Request::OPS.len());
        let request = decode(br#"{"op":"config.apply"}"#).1.unwrap();
        assert!(request.op() == "config.apply" && request.is_change());
    }
}
