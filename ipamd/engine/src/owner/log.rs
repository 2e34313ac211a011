//! What a person reads of EC2's answers.

use ipam_core::cloud::CloudError;
use ipam_core::plan::Action;
use ipam_core::reconcile::Drift;

/// One line per EC2 call.
pub(super) fn call(action: &Action, error: Option<&CloudError>) {
    match error {
        None => tracing::info!(?action, "EC2 call done"),
        Some(error) => {
            tracing::warn!(?action, cause = %error.class.label(), %error, "EC2 call failed");
        }
    }
}

/// One line per difference between EC2's word and ours.
pub(super) fn drift(drift: &Drift) {
    match drift {
        Drift::NewEni(_) | Drift::NewBlock(..) => {
            tracing::info!(?drift, "EC2 has more than we knew");
        }
        // A person is told.
        Drift::BlockGone(..)
        | Drift::EniDoubted(..)
        | Drift::EniGone(_)
        | Drift::BlockLost(..)
        | Drift::EniLost(..) => {}
    }
}
