//! CHECK: the daemon's word on an attachment against what it was told.

use super::Worker;
use super::sandbox::Attachment;
use std::time::Duration;
use tokio::time::timeout;

/// The plugin waits so long.
const DEADLINE: Duration = Duration::from_secs(10);

impl Worker {
    /// Of one that is wired, or of one that has ended.
    pub(super) async fn check(&self, attachment: &Attachment, lives: bool) {
        let Some(handle) = self.site.kernel.daemon() else {
            return;
        };
        let key = &attachment.key;
        let Ok(Ok(answer)) = timeout(DEADLINE, handle.check(key.clone())).await else {
            return;
        };
        self.tell(|| format!("CHECK {key}: {}", answer.is_some()));
        let world = &self.site.world;
        let told = attachment.told.as_ref().filter(|_| lives);
        let (now, node) = (world.elapsed(), self.site.name.as_str());
        let mut oracle = world.oracle();
        oracle.checked(now, (node, key), told, answer.as_ref());
    }
}
