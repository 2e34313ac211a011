//! IMDS on the wire. What it says is the model's; this module tells the instance by the source
//! address, waits, and keeps the hop limit.

use crate::http::{Answer, HangUp, Inbound, answer};
use crate::shared::Shared;
use hyper::header::{ALLOW, CONNECTION, HeaderValue};
use nix::sys::socket::{setsockopt, sockopt};
use std::sync::Arc;
use vpc_model::imds::{ImdsAnswer, ImdsRequest};

/// IMDS takes no bodies worth reading.
pub(crate) const BODY_LIMIT: usize = 16 << 10;
/// As the real one says.
pub(crate) const SERVER: &str = "EC2ws";
/// Of answers that may go any distance.
const FAR: u8 = 64;

/// Which node a request on a listener comes from.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// The one that holds the source address: requests over a wire.
    BySource,
    /// Always this one: a listener outside, made for it.
    Node(String),
}

/// Answers one request.
pub(crate) async fn handle(shared: Arc<Shared>, asker: Asker, request: Inbound) -> Answer {
    let outside = matches!(asker, Asker::Node(_));
    let node = match asker {
        Asker::Node(name) => name,
        Asker::BySource => {
            let holder = shared.holder(request.connection.peer.ip().to_canonical());
            holder.ok_or(HangUp)?.node.to_string()
        }
    };
    let (reply, hop_limit) = {
        let mut vpc = shared.vpc();
        let now = shared.clock.now();
        let path = request.uri.path_and_query().map_or("/", |p| p.as_str());
        let asked = ImdsRequest {
            method: request.method.as_str(),
            path,
            token: request.header("x-aws-ec2-metadata-token"),
            ttl: request.header("x-aws-ec2-metadata-token-ttl-seconds"),
            forwarded: request.headers.contains_key("x-forwarded-for"),
        };
        let hops = vpc
            .nodes()
            .iter()
            .find(|n| n.name.as_str() == node)
            .map(|n| n.hop_limit);
        (
            vpc.imds(&node, &asked, now).map_err(|_| HangUp)?,
            hops.unwrap_or(1),
        )
    };
    tokio::time::sleep(reply.delay).await;
    let said = reply.answer.ok_or(HangUp)?;
    // Only the answer to PUT has the hop limit as its TTL (documented: "HTTP PUT response hop
    // limit"); the connection may carry GETs before and after it.
    let is_put = request.method == hyper::Method::PUT;
    if !outside {
        set_ttl(&request, if is_put { hop_limit } else { FAR });
    }
    Ok(render(said))
}

fn render(said: ImdsAnswer) -> hyper::Response<http_body_util::Full<bytes::Bytes>> {
    let ImdsAnswer {
        status,
        content_type,
        token_ttl,
        body,
    } = said;
    let mut response = answer(status, content_type, body);
    let headers = response.headers_mut();
    if let Some(ttl) = token_ttl {
        headers.insert(
            "x-aws-ec2-metadata-token-ttl-seconds",
            HeaderValue::from(ttl),
        );
    }
    if status == 405 {
        headers.insert(ALLOW, HeaderValue::from_static("OPTIONS, GET, HEAD, PUT"));
    }
    if status >= 400 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn set_ttl(request: &Inbound, hops: u8) {
    let Some(socket) = &request.connection.socket else {
        return;
    };
    let hops = i32::from(hops);
    let set = if request.connection.peer.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4Ttl, &hops)
    } else {
        setsockopt(socket, sockopt::Ipv6Ttl, &hops)
    };
    if let Err(e) = set {
        tracing::warn!("hop limit of an IMDS answer: {e}");
    }
}
