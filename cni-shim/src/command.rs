//! What each command does.

mod add;
mod check;
mod del;
mod network;

pub(crate) use add::add;
pub(crate) use check::check;
pub(crate) use del::del;
#[cfg(feature = "floor")]
pub(crate) use del::forget;
pub(crate) use network::{gc, status};

use crate::error::{CniError, code};
use crate::rpc::RpcError;

/// A call without a reply, as the runtime is told it.
fn no_reply(error: &RpcError) -> CniError {
    let code = if error.daemon_away() {
        code::TRY_AGAIN_LATER
    } else {
        code::PROTOCOL
    };
    CniError::new(code, error.to_string())
}
