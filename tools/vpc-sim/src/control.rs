//! The control API: HTTP and JSON for people and scripts beside the VPC. Reads the books, moves
//! time, puts faults in force, ends nodes, calls EC2 as the operator. Every mistake in a request is
//! answered with a JSON error that says what was wrong.

mod view;

use crate::ec2_server;
use crate::http::{Answer, Inbound, answer};
use crate::router::Internet;
use crate::shared::Shared;
use crate::sim::{Nodes, describe, terminate};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use thiserror::Error;
use vpc_model::Fault;

/// Largest body that is read.
pub(crate) const BODY_LIMIT: usize = 1 << 20;
/// Furthest that one request may move time: ten years.
const ADVANCE_MS_MAX: u64 = 10 * 365 * 86_400_000;

/// What the handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) nodes: Nodes,
    pub(crate) internet: Internet,
}

/// Why a request is refused.
#[derive(Debug, Error)]
enum Refusal {
    #[error("there is nothing at {0}; GET / lists what there is")]
    NoPath(String),
    #[error("{method} is not for {path}")]
    NoMethod { method: Method, path: String },
    #[error("{0}")]
    BadInput(String),
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Self::BadInput(_) => 400,
            Self::NoPath(_) | Self::Missing(_) => 404,
            Self::NoMethod { .. } => 405,
            Self::Failed(_) => 500,
        }
    }
}

const PATHS: &[(&str, &str)] = &[
    (
        "GET /health",
        "whether the servers run, and the model's time",
    ),
    (
        "GET /audit?since=N",
        "EC2 calls with a sequence number above N",
    ),
    ("GET /calls", "EC2 calls by caller and action"),
    (
        "GET /books",
        "violations, packets per ENI, drops at the internet gateway",
    ),
    ("GET /wires", "links that are there, and what each may send"),
    ("GET /nodes", "nodes, and how to enter them"),
    ("GET /state", "subnets and ENIs as they are"),
    ("GET /describe?address=A", "who an address is"),
    ("GET /faults", "faults in force"),
    (
        "POST /faults",
        "put a fault in force: {action, node, after, count, effect}",
    ),
    ("DELETE /faults", "take all faults out of force"),
    ("DELETE /faults/ID", "take one out of force"),
    ("POST /time", "move the model's time forward: {advance_ms}"),
    ("POST /nodes/NAME/terminate", "terminate an instance"),
    (
        "POST /operator",
        "call EC2 with all rights: its parameters as a form or a JSON object",
    ),
];

/// Answers one request.
pub(crate) async fn handle(context: Context, request: Inbound) -> Answer {
    let result = match Box::pin(route(&context, &request)).await {
        Ok(response) => response,
        Err(refusal) => json_answer(refusal.status(), &json!({"error": refusal.to_string()})),
    };
    Ok(result)
}

/// The web page of the internet: who asks, as seen from there.
pub(crate) fn internet(context: &Context, request: &Inbound) -> Response<Full<Bytes>> {
    let mut peer = request.connection.peer;
    peer.set_ip(peer.ip().to_canonical());
    let who = describe(&context.shared, context.internet, peer.ip());
    answer(200, "text/plain", format!("SRC={peer} {who}\n"))
}

async fn route(context: &Context, request: &Inbound) -> Result<Response<Full<Bytes>>, Refusal> {
    let path = request.uri.path();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let known = matches!(
        parts.as_slice(),
        [] | ["health"
            | "audit"
            | "calls"
            | "books"
            | "wires"
            | "nodes"
            | "state"
            | "describe"
            | "faults"
            | "time"
            | "operator"]
            | ["faults", _]
            | ["nodes", _, "terminate"]
    );
    if !known {
        return Err(Refusal::NoPath(path.to_owned()));
    }
    match (&request.method, parts.as_slice()) {
        (&Method::GET, rest) if read_only(rest) => read(context, request, rest).await,
        (&Method::POST, ["faults"]) => add_fault(context, request),
        (&Method::DELETE, ["faults"]) => Ok(remove_faults(context)),
        (&Method::DELETE, ["faults", id]) => remove_fault(context, id),
        (&Method::POST, ["time"]) => advance(context, request),
        (&Method::POST, ["nodes", name, "terminate"]) => end_node(context, name).await,
        (&Method::POST, ["operator"]) => operator(context, request).await,
        (method, _) => Err(Refusal::NoMethod {
            method: method.clone(),
            path: path.to_owned(),
        }),
    }
}

fn read_only(parts: &[&str]) -> bool {
    parts.len() <= 1 && !matches!(parts, ["time" | "operator"])
}

async fn read(
    context: &Context,
    request: &Inbound,
    parts: &[&str],
) -> Result<Response<Full<Bytes>>, Refusal> {
    let shared = &context.shared;
    let value = match parts {
        [] => json!(
            PATHS
                .iter()
                .map(|(p, w)| json!({"path": p, "what": w}))
                .collect::<Vec<_>>()
        ),
        ["health"] => json!({"ok": true, "time": shared.clock.now().iso8601_millis()}),
        ["audit"] => {
            let since = query(request, "since").map_or(Ok(0), |text| {
                text.parse()
                    .map_err(|_| Refusal::BadInput("since must be a number".into()))
            })?;
            json!({"entries": shared.vpc().audit(since)})
        }
        ["calls"] => json!(shared.vpc().ec2_calls()),
        ["books"] => {
            let shared = Arc::clone(shared);
            let books = tokio::task::spawn_blocking(move || shared.books()).await;
            match books {
                Ok(Ok(books)) => value(&books)?,
                Ok(Err(e)) => return Err(Refusal::Failed(e.to_string())),
                Err(e) => return Err(Refusal::Failed(e.to_string())),
            }
        }
        ["wires"] => json!({"wires": *shared.wires()}),
        ["nodes"] => json!({"nodes": nodes(&context.shared, &context.nodes)}),
        ["state"] => {
            let (vpc, now) = (shared.vpc(), shared.clock.now());
            let subnets: Vec<Value> = vpc.subnets().iter().map(view::subnet).collect();
            let enis: Vec<Value> = vpc.enis(now).iter().map(view::eni).collect();
            json!({"time": now.iso8601_millis(), "subnets": subnets, "enis": enis})
        }
        ["faults"] => json!({"faults": shared.vpc().faults()}),
        ["describe"] => {
            let address = query(request, "address").and_then(|a| a.parse().ok());
            let address =
                address.ok_or_else(|| Refusal::BadInput("address must be an IP address".into()))?;
            json!({"address": address, "is": describe(shared, context.internet, address)})
        }
        _ => return Err(Refusal::NoPath(request.uri.path().to_owned())),
    };
    Ok(json_answer(200, &value))
}

/// Nodes as the program prints them, with those that are gone.
pub(crate) fn nodes(shared: &Shared, nodes: &Nodes) -> Vec<Value> {
    let infos = shared.vpc().nodes();
    let handles = nodes.read().unwrap_or_else(PoisonError::into_inner);
    let wires = shared.wires();
    let describe = |info: &vpc_model::NodeInfo| {
        let mut node = serde_json::to_value(info).unwrap_or_default();
        let primary = wires
            .iter()
            .find(|w| w.node == info.name && Some(&w.eni) == info.primary_eni.as_ref());
        if let Some(object) = node.as_object_mut() {
            if let Some(handle) = handles.get(info.name.as_str()) {
                object.insert("tid".into(), json!(handle.tid()));
                object.insert("enter".into(), json!(handle.enter_command()));
                object.insert("ip_netns".into(), json!(handle.ip_netns_command()));
            }
            object.insert(
                "primary_address".into(),
                json!(primary.map(|w| w.primary.addr())),
            );
            object.insert("mac".into(), json!(primary.map(|w| w.mac)));
            object.insert("link".into(), json!(primary.map(|w| &w.link)));
        }
        node
    };
    infos.iter().map(describe).collect()
}

fn add_fault(context: &Context, request: &Inbound) -> Result<Response<Full<Bytes>>, Refusal> {
    let fault: Fault = body(request)?;
    let id = context.shared.vpc().add_fault(fault);
    Ok(json_answer(200, &json!({"id": id})))
}

fn remove_faults(context: &Context) -> Response<Full<Bytes>> {
    let mut vpc = context.shared.vpc();
    let ids: Vec<u64> = vpc.faults().iter().map(|f| f.id).collect();
    let removed = ids.into_iter().filter(|id| vpc.remove_fault(*id)).count();
    json_answer(200, &json!({"removed": removed}))
}

fn remove_fault(context: &Context, id: &str) -> Result<Response<Full<Bytes>>, Refusal> {
    let id = id
        .parse()
        .map_err(|_| Refusal::BadInput("a fault's id is a number".into()))?;
    if context.shared.vpc().remove_fault(id) {
        Ok(json_answer(200, &json!({"removed": 1})))
    } else {
        Err(Refusal::Missing(format!("there is no fault {id}")))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: u64,
}

fn advance(context: &Context, request: &Inbound) -> Result<Response<Full<Bytes>>, Refusal> {
    let Advance { advance_ms } = body(request)?;
    if advance_ms > ADVANCE_MS_MAX {
        let message = format!("advance_ms must be at most {ADVANCE_MS_MAX}");
        return Err(Refusal::BadInput(message));
    }
    context
        .shared
        .clock
        .advance(Duration::from_millis(advance_ms));
    context.shared.look_again();
    Ok(json_answer(
        200,
        &json!({"time": context.shared.clock.now().iso8601_millis()}),
    ))
}

async fn end_node(context: &Context, name: &str) -> Result<Response<Full<Bytes>>, Refusal> {
    let node = {
        let nodes = context.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(name).cloned()
    };
    let node = node.ok_or_else(|| Refusal::Missing(format!("there is no node {name}")))?;
    let shared = Arc::clone(&context.shared);
    let ended = tokio::task::spawn_blocking(move || terminate(&shared, &node)).await;
    match ended {
        Ok(Ok(())) => {
            context.shared.caught_up().await;
            Ok(json_answer(200, &json!({"terminated": name})))
        }
        Ok(Err(e)) => Err(Refusal::Missing(e.to_string())),
        Err(e) => Err(Refusal::Failed(e.to_string())),
    }
}

async fn operator(context: &Context, request: &Inbound) -> Result<Response<Full<Bytes>>, Refusal> {
    let raw = request
        .body
        .as_ref()
        .map_err(|e| Refusal::BadInput(e.to_string()))?;
    let form = match raw.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => form_of(&body::<serde_json::Map<String, Value>>(request)?)?,
        _ => raw.to_vec(),
    };
    Ok(ec2_server::operate(&context.shared, &form).await)
}

/// `{"Action": "DescribeSubnets", "SubnetId.1": "…"}` as the form that EC2 takes.
fn form_of(object: &serde_json::Map<String, Value>) -> Result<Vec<u8>, Refusal> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (key, value) in object {
        let text = match value {
            Value::String(s) => s.clone(),
            Value::Number(n) => n.to_string(),
            Value::Bool(b) => b.to_string(),
            _ => {
                return Err(Refusal::BadInput(format!(
                    "{key} must be text, a number or a boolean"
                )));
            }
        };
        form.append_pair(key, &text);
    }
    Ok(form.finish().into_bytes())
}

fn query(request: &Inbound, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(request.uri.query()?.as_bytes());
    pairs
        .into_iter()
        .find(|(k, _)| k == name)
        .map(|(_, v)| v.into_owned())
}

fn body<T: DeserializeOwned>(request: &Inbound) -> Result<T, Refusal> {
    let bytes = request
        .body
        .as_ref()
        .map_err(|e| Refusal::BadInput(e.to_string()))?;
    serde_json::from_slice(bytes).map_err(|e| Refusal::BadInput(format!("the body: {e}")))
}

fn value<T: Serialize>(thing: &T) -> Result<Value, Refusal> {
    serde_json::to_value(thing).map_err(|e| Refusal::Failed(e.to_string()))
}

fn json_answer(status: u16, value: &Value) -> Response<Full<Bytes>> {
    answer(status, "application/json", format!("{value}\n"))
}
