//! EC2 on the wire: tells the caller, waits as long as the model says, lets the model work, and
//! answers once the kernel has followed. The protocol itself is in [`crate::ec2`].

use crate::ec2::{self, Call};
use crate::http::{Answer, HangUp, Inbound, answer};
use crate::shared::Shared;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{Method, Response};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vpc_model::{Admission, ApiError, Caller, Fate};

/// EC2 refuses larger requests (*assumed* size; the largest real one is some 100 kB).
pub(crate) const BODY_LIMIT: usize = 1 << 20;
/// A call that must not have reached EC2 is held for so long: no caller is as patient. Not for ever,
/// since the task that holds it is nobody's.
const SILENCE: Duration = Duration::from_secs(900);
/// As the real one says.
pub(crate) const SERVER: &str = "AmazonEC2";

/// Answers one request.
///
/// EC2 does its work whether or not the caller waits for the answer, so the work is a task of its
/// own: a connection that closes drops only the waiting.
pub(crate) async fn handle(shared: Arc<Shared>, request: Inbound) -> Answer {
    let work = tokio::spawn(async move {
        let (caller, call) = match read(&shared, &request) {
            Ok(read) => read,
            Err(error) => return Ok(refusal(&error)),
        };
        let admission = shared
            .vpc()
            .begin(&caller, &call.action, shared.clock.now());
        run(&shared, &caller, call, &admission).await
    });
    // The task can only have been cancelled because the servers end.
    work.await.unwrap_or(Err(HangUp))
}

/// A call by the operator: at once, past every limit and fault.
pub(crate) async fn operate(shared: &Arc<Shared>, form: &[u8]) -> Response<Full<Bytes>> {
    let call = ec2::parse("", form, None);
    let done = run(shared, &Caller::Operator, call, &Admission::immediate()).await;
    done.unwrap_or_else(|HangUp| refusal(&ApiError::new("InternalError", "no answer")))
}

fn read(shared: &Shared, request: &Inbound) -> Result<(Caller, Call), ApiError> {
    if !matches!(request.method, Method::GET | Method::POST) {
        let message = format!("The method {} is not supported", request.method);
        return Err(ApiError::new("InvalidRequest", message).with_status(405));
    }
    let body = request
        .body
        .as_ref()
        .map_err(|e| ApiError::new("RequestEntityTooLarge", e.to_string()).with_status(413))?;
    let query = request.uri.query().unwrap_or_default();
    let mut call = ec2::parse(query, body, request.header("authorization"));
    let vpc = shared.vpc();
    let key = call.access_key_id.as_deref();
    let by_key = key.and_then(|key| vpc.caller_of_access_key(key));
    if vpc.spec().require_signature && by_key.is_none() {
        let error = if key.is_none() {
            ec2::missing_authentication()
        } else {
            ec2::unknown_key()
        };
        call.request = Err(error);
    }
    drop(vpc);
    let by_source = || {
        let holder = shared.holder(request.connection.peer.ip().to_canonical())?;
        Some(Caller::Node(holder.node))
    };
    let caller = by_key
        .or_else(by_source)
        .unwrap_or_else(|| Caller::Other("external".into()));
    Ok((caller, call))
}

async fn run(shared: &Shared, caller: &Caller, call: Call, admission: &Admission) -> Answer {
    tokio::time::sleep(admission.before).await;
    if let Fate::Unreached { silent } = admission.fate {
        // The server has the connection already: a caller that is to hear nothing waits until it
        // gives up, another one sees the connection end before there is an answer.
        if silent {
            tokio::time::sleep(SILENCE).await;
        }
        return Err(HangUp);
    }
    let now = shared.clock.now();
    let result = match (&admission.fate, call.request) {
        (Fate::Reject(error), _) => Err(error.clone()),
        (_, Err(error)) => {
            shared.vpc().refuse(caller, &call.action, &error, now);
            Err(error)
        }
        (_, Ok(request)) => shared.vpc().execute(admission, caller, &request, now),
    };
    let working = shared.caught_up();
    tokio::join!(working, tokio::time::sleep(admission.after));
    if admission.fate == Fate::Drop {
        return Err(HangUp);
    }
    let id = request_id();
    let (status, xml) = ec2::render(&call.action, &call.version, &id, &result);
    Ok(dressed(status, xml, &id))
}

fn refusal(error: &ApiError) -> Response<Full<Bytes>> {
    let id = request_id();
    let (status, xml) = ec2::render("", "", &id, &Err(error.clone()));
    dressed(status, xml, &id)
}

fn dressed(status: u16, xml: String, id: &str) -> Response<Full<Bytes>> {
    let mut response = answer(status, ec2::CONTENT_TYPE, xml);
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store"),
    );
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

/// Looks like EC2's: a UUID. Different for each answer of a process and mostly between processes.
fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let state = RandomState::new();
    let (high, low) = (state.hash_one(count), state.hash_one(!count));
    let [a, b, c, d] = [
        high >> 32,
        high >> 16 & 0xffff,
        high & 0x0fff,
        low >> 48 & 0x3fff,
    ];
    format!(
        "{a:08x}-{b:04x}-4{c:03x}-{:04x}-{:012x}",
        d | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
