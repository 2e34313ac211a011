//! DELs: in time, late, twice, under another network's name, and of what was never added.

use super::Worker;
use super::sandbox::{Attachment, Sandbox};
use ipam_core::{AttachmentKey, Mac, PodRef};
use ipam_engine::{RefusalKind, Release, Released};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A CNI DEL is given up after this long.
const DEL_LIMIT: Duration = Duration::from_secs(10);

/// What one DEL came to.
enum Ended {
    /// The daemon has answered.
    Told(Released),
    /// No daemon: the plugin left a note.
    Noted,
    /// The runtime is told that it failed, and tries again.
    Failed,
}

impl Worker {
    /// What a runtime does when a pod ends, and after each ADD that failed: every attachment, the last
    /// first, and then the namespace.
    pub(super) async fn end(&mut self, sandbox: &mut Sandbox) {
        let odd = self.site.habits.odd_dels;
        if odd && self.rng.percent(10) {
            self.tell(|| format!("the namespace of {} goes before its DEL", sandbox.id));
            self.vanish(sandbox).await;
            let late = self.rng.millis(100, 120_000);
            sleep(late).await;
        }
        for n in (0..sandbox.attachments.len()).rev() {
            if odd && self.rng.percent(8) {
                // The runtime's cache is gone, and prevResult with it.
                sandbox.attachments[n].told = None;
            }
            let attachment = sandbox.attachments[n].clone();
            let sent = self.del_once(&attachment, &sandbox.pod).await;
            if let Some(release) = sent {
                self.perhaps_again(&attachment, release);
            }
        }
        let wait = match self.rng.percent(5) {
            true => self.rng.millis(1_000, 60_000),
            false => self.rng.millis(0, 300),
        };
        sleep(wait).await;
        if !self.over() {
            self.vanish(sandbox).await;
        }
    }

    /// The DEL of one attachment, until it succeeds. Answers how it was sent, if it did.
    pub(super) async fn del_once(
        &mut self,
        attachment: &Attachment,
        pod: &PodRef,
    ) -> Option<Release> {
        let _turn = self.site.book.turn().await;
        if self.over() {
            return None;
        }
        let world = self.site.world.clone();
        let pod_key = self.pod_key(&attachment.key);
        let sound = self.is_sound(&attachment.key);
        world.oracle().ended(world.elapsed(), &pod_key);
        let mut release = attachment.release(pod, &self.del_network(&attachment.key));
        if !sound && !self.site.habits.stale_results {
            release.addresses.clear();
        }
        for _ in 0..30 {
            if self.over() {
                return None;
            }
            match self.release(&release).await {
                Ended::Failed => sleep(self.rng.millis(500, 5_000)).await,
                ended => {
                    self.site.book.forgets(&attachment.key);
                    let told = matches!(ended, Ended::Told(_));
                    if told && release.key != attachment.key {
                        let mut oracle = world.oracle();
                        let asked = &mut oracle.ledger.renamed_dels;
                        asked.insert(pod_key, world.elapsed());
                    }
                    if told && release.key == attachment.key && self.rng.percent(20) {
                        self.check(attachment, false).await;
                    }
                    self.clean(attachment, &release, ended).await;
                    return Some(release);
                }
            }
        }
        None
    }

    /// The name that a DEL gives the network: today's, as containerd does, or that of the ADD.
    fn del_network(&mut self, key: &AttachmentKey) -> String {
        let now = self.site.book.network();
        let renamed = self.site.book.is_first(&key.network) && now != key.network;
        if renamed && self.rng.percent(75) {
            return now;
        }
        key.network.clone()
    }

    /// What the plugin does after the release, if it lives.
    async fn clean(&mut self, attachment: &Attachment, release: &Release, ended: Ended) {
        let wait = match self.rng.percent(4) {
            true => self.rng.millis(1_000, 50_000),
            false => self.rng.millis(0, 10),
        };
        if self.rng.percent(3) {
            self.tell(|| format!("the plugin dies after DEL {}", release.key));
            return;
        }
        sleep(wait).await;
        let mut ips = release.addresses.clone();
        let mut links: Vec<(String, Option<Mac>)> = Vec::new();
        if let Ended::Told(released) = ended {
            ips.extend(&released.addresses);
            links.push((released.host_if, None));
        }
        if let Some(told) = &attachment.told {
            links.retain(|(name, _)| *name != told.host_if);
            links.push((told.host_if.clone(), Some(told.host_mac)));
        }
        self.unroute(&links, &ips).await;
    }

    /// Some runtimes send a DEL that succeeded once more.
    fn perhaps_again(&mut self, attachment: &Attachment, mut release: Release) {
        if !self.site.habits.stale_results {
            release.addresses.clear();
        }
        if !self.site.habits.odd_dels || !self.rng.percent(25) {
            return;
        }
        let late = match self.rng.range(0, 2) {
            0 => Duration::ZERO,
            1 => self.rng.millis(10, 5_000),
            _ => self.rng.millis(5_000, 240_000),
        };
        let mut other = self.fork();
        let attachment = attachment.clone();
        tokio::spawn(async move {
            sleep(late).await;
            let _turn = other.site.book.turn().await;
            if other.over() {
                return;
            }
            other.tell(|| format!("DEL {} once more", release.key));
            let ended = other.release(&release).await;
            other.clean(&attachment, &release, ended).await;
        });
    }

    /// A DEL of a sandbox that never was, of a pod that lives in another one.
    pub(super) async fn del_of_nothing(&self, sandbox: &Sandbox) {
        let _turn = self.site.book.turn().await;
        let Some(first) = sandbox.attachments.first() else {
            return;
        };
        let release = Release {
            key: AttachmentKey {
                container_id: format!("{}.never", sandbox.id),
                ..first.key.clone()
            },
            pod: sandbox.pod.clone(),
            addresses: Vec::new(),
        };
        self.tell(|| format!("DEL {} of nothing", release.key));
        self.release(&release).await;
    }

    /// One DEL: told to the daemon, or noted for it.
    async fn release(&self, release: &Release) -> Ended {
        let kernel = &self.site.kernel;
        if let Some(handle) = kernel.daemon() {
            match timeout(DEL_LIMIT, handle.release(release.clone())).await {
                Ok(Ok(released)) => return self.answered(release, released),
                Ok(Err(refusal)) if refusal.kind != RefusalKind::Stopping => {
                    self.tell(|| format!("DEL {}: {refusal}", release.key));
                    let now = self.site.world.elapsed();
                    let mut oracle = self.site.world.oracle();
                    oracle.del_refused(now, &release.key, &refusal);
                    return Ended::Failed;
                }
                Ok(Err(_)) => {}
                Err(_) => {
                    let now = self.site.world.elapsed();
                    let mut oracle = self.site.world.oracle();
                    oracle.del_unanswered(now, &release.key, DEL_LIMIT);
                }
            }
        }
        let note = self.site.spool.note(release.clone());
        self.tell(|| format!("DEL {} is noted", release.key));
        // A daemon that has just come may have looked before the note was there.
        if let Some(handle) = kernel.daemon()
            && let Ok(Ok(released)) =
                timeout(Duration::from_secs(1), handle.release(release.clone())).await
        {
            self.site.spool.remove(note);
            return self.answered(release, released);
        }
        Ended::Noted
    }

    fn answered(&self, release: &Release, released: Released) -> Ended {
        self.tell(|| format!("DEL {}: {:?}", release.key, released.addresses));
        let world = &self.site.world;
        let (now, node) = (world.elapsed(), &self.site.name);
        let mut oracle = world.oracle();
        oracle.released(node, &released.addresses);
        oracle.del_answered(now, node, &release.key, &self.site.store);
        Ended::Told(released)
    }
}
