//! The messages of oslo.messaging's RPC: an envelope around JSON inside a JSON string.
//!
//! Checked against servers and clients of oslo.messaging 5.35, 9.5, 12.9 and 18.3.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::random::as_hexadecimal;

/// The envelope, version 2.0.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "oslo.version")]
    version: std::borrow::Cow<'a, str>,
    #[serde(rename = "oslo.message")]
    message: std::borrow::Cow<'a, str>,
}

fn wrap(message: &impl Serialize) -> Vec<u8> {
    let message = serde_json::to_string(message).unwrap_or_default();
    serde_json::to_vec(&Envelope { version: "2.0".into(), message: message.into() }).unwrap_or_default()
}

/// The inner message; a message without an envelope is its own.
fn unwrap<'de, T: for<'a> Deserialize<'a>>(body: &'de [u8]) -> Option<T> {
    match serde_json::from_slice::<Envelope<'de>>(body) {
        Ok(envelope) if matches!(envelope.version.split('.').next(), Some("1" | "2")) => {
            serde_json::from_str(&envelope.message).ok()
        }
        Ok(_) => None,
        Err(_) => serde_json::from_slice(body).ok(),
    }
}

/// A call or, without `_msg_id` and `_reply_q`, a cast.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) args: Map<String, Value>,
    #[serde(rename = "_msg_id", default, skip_serializing_if = "Option::is_none")]
    pub(crate) msg_id: Option<String>,
    #[serde(rename = "_reply_q", default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_q: Option<String>,
    #[serde(rename = "_timeout", default)]
    pub(crate) timeout: Option<u64>,
    #[serde(rename = "_unique_id", default)]
    pub(crate) unique_id: String,
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        wrap(self)
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        unwrap(body)
    }
}

/// An answer; `ending` is false for a sign of life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reply {
    #[serde(default)]
    pub(crate) result: Value,
    /// JSON in a string: class, module, message, tb, args, kwargs.
    #[serde(default)]
    pub(crate) failure: Option<String>,
    #[serde(default)]
    pub(crate) ending: bool,
    #[serde(rename = "_msg_id")]
    pub(crate) msg_id: String,
    #[serde(rename = "_unique_id", default)]
    pub(crate) unique_id: String,
}

impl Reply {
    pub(crate) fn encode(&self) -> Vec<u8> {
        wrap(self)
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        unwrap(body)
    }
}

/// A remote exception.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Failure {
    pub(crate) class: String,
    pub(crate) module: String,
    pub(crate) message: String,
    pub(crate) tb: Vec<String>,
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
}

/// 32 lower-case hexadecimal digits, as oslo makes them of a random UUID.
pub(crate) fn unique() -> String {
    let mut random = [0_u8; 16];
    // Without a source of randomness the address of a fresh allocation and the time must do.
    if getrandom::fill(&mut random).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        random = (now.as_nanos() ^ u128::from(std::process::id())).to_le_bytes();
    }
    as_hexadecimal(&random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_the_shape_oslo_sends() {
        let mut args = Map::new();
        args.insert("cmd".into(), "echo 1".into());
        let request = Request {
            method: "common_cmd".into(),
            args,
            msg_id: Some("m".into()),
            reply_q: Some("reply_q".into()),
            timeout: None,
            unique_id: "u".into(),
        };
        let outer: Value = serde_json::from_slice(&request.encode()).unwrap();
        assert_eq!(outer["oslo.version"], "2.0");
        let inner: Value = serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap();
        let expected = serde_json::json!({"method": "common_cmd", "args": {"cmd": "echo 1"}, "_msg_id": "m",
            "_reply_q": "reply_q", "_timeout": null, "_unique_id": "u"});
        assert_eq!(inner, expected);
    }

    #[test]
    fn replies_of_every_kind_are_read() {
        let ok = br#"{"oslo.version": "2.0", "oslo.message": "{\"result\": [\"1\\n\", \"e\\n\"], \"failure\": null, \"ending\": true, \"_msg_id\": \"a\", \"_unique_id\": \"b\"}"}"#;
        let reply = Reply::decode(ok).unwrap();
        assert_eq!((reply.result[0].as_str(), reply.ending), (Some("1\n"), true));
        let beat = br#"{"oslo.version": "2.0", "oslo.message": "{\"result\": null, \"failure\": null, \"ending\": false, \"_msg_id\": \"a\"}"}"#;
        assert!(!Reply::decode(beat).unwrap().ending);
        let bare = br#"{"result": 1, "failure": null, "ending": true, "_msg_id": "a"}"#;
        assert!(Reply::decode(bare).is_some());
        let failed = br#"{"oslo.version": "2.0", "oslo.message": "{\"result\": null, \"failure\": \"{\\\"class\\\": \\\"ValueError\\\", \\\"message\\\": \\\"boom\\\"}\", \"ending\": true, \"_msg_id\": \"a\"}"}"#;
        let failure: Failure =
            serde_json::from_str(&Reply::decode(failed).unwrap().failure.unwrap()).unwrap();
        assert_eq!((failure.class.as_str(), failure.message.as_str()), ("ValueError", "boom"));
        for bad in [&b""[..], b"{", b"[]", br#"{"oslo.version": "9.0", "oslo.message": "{}"}"#] {
            assert!(Reply::decode(bad).is_none());
        }
    }
}
