//! Whether an answer of EC2's can be about this instance at all.

use super::Done;
use crate::cloud::{CloudError, ErrorClass};
use crate::datastore::Datastore;
use alloc::format;
use mutant::mutant;

/// A DescribeNetworkInterfaces that lacks the primary ENI is no answer: an instance always has its first
/// interface. A role of another account, another Region or an endpoint that cuts its answers short gives such
/// ones, and what else they lack is there all the same.
pub(super) fn answer(store: &Datastore, done: Done) -> Result<Done, CloudError> {
    let Done::Described(views) = &done else {
        return Ok(done);
    };
    let primary = store.primary().and_then(|eni| eni.id.as_ref());
    let Some(lacking) = mutant!(
        "describe/primary-is-in-each-answer",
        primary.filter(|id| views.iter().all(|view| view.id != **id)),
        None::<&crate::EniId>
    ) else {
        return Ok(done);
    };
    Err(CloudError {
        action: "DescribeNetworkInterfaces",
        class: ErrorClass::Implausible,
        code: "PrimaryMissing".into(),
        message: format!(
            "the answer names {} interfaces and lacks this node's own, {lacking}",
            views.len()
        ),
    })
}
