//! Tells people: every notice is a line in the log, and an event in the cluster if there is one.

use crate::kube::Kube;
use ipam_engine::ports::Cluster;
use ipam_engine::{Severity, Told};

/// See the module.
#[derive(Debug)]
pub struct Speaker {
    /// The cluster, if there is one.
    pub kube: Option<Kube>,
}

impl Cluster for Speaker {
    fn tell(&self, told: &Told) {
        let cause = told.notice.label();
        let (notice, repeats) = (&told.notice, told.repeats);
        match notice.severity() {
            Severity::Info => tracing::info!(%cause, repeats, "{notice}"),
            Severity::Warning => tracing::warn!(%cause, repeats, "{notice}"),
            Severity::Error => tracing::error!(%cause, repeats, "{notice}"),
        }
        if let Some(kube) = &self.kube {
            kube.tell(told);
        }
    }
}
