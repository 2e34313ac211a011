//! EC2 on the wire: tells the caller, waits as long as the model says, lets the model work, and
//! answers once the kernel has followed. The protocol itself is in [`crate::ec2`].

use crate::http::{Answer, HangUp, Inbound, answer};
use crate::shared::Shared;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use std::sync::Arc;
use vpc_model::Caller;

/// EC2 refuses larger requests (*assumed* size; the largest real one is some 100 kB).
pub(crate) const BODY_LIMIT: usize = 1 << 20;
/// As the real one says.
pub(crate) const SERVER: &str = "AmazonEC2";

/// Answers one request.
pub(crate) async fn handle(shared: Arc<Shared>, request: Inbound) -> Answer {
    let _ = (&shared, &request.body);
    Err(HangUp)
}

/// A call whose caller is known.
pub(crate) async fn call(
    _shared: &Arc<Shared>,
    _caller: &Caller,
    _method: &str,
    _uri: &str,
    _form: &[u8],
) -> Response<Full<Bytes>> {
    answer(501, "text/plain", "")
}
