//! A pod of a probe: one interface, ADD by ADD, with nothing odd on the way.

use super::Worker;
use super::plugin::Wired;
use super::sandbox::Sandbox;
use crate::rng::Rng;
use crate::scenario::machine::Site;
use crate::scenario::waiting::Waiting;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_engine::{Allocate, Refusal};
use std::time::Duration;
use tokio::sync::OwnedRwLockReadGuard;

/// See the module.
#[derive(Debug)]
pub(in crate::scenario) struct Prober {
    worker: Worker,
    name: String,
    sandboxes: u32,
}

/// An ADD of it that was answered.
pub(in crate::scenario) struct Answered {
    sandbox: Sandbox,
    request: Allocate,
    run: u64,
    /// While it is under way, no GC is.
    turn: Option<OwnedRwLockReadGuard<()>>,
    pub(in crate::scenario) answer: Result<PodWiring, Refusal>,
}

impl Answered {
    pub(in crate::scenario) fn id(&self) -> &str {
        &self.sandbox.id
    }
}

impl Prober {
    pub(in crate::scenario) fn new(site: &Site, name: String, rng: Rng) -> Self {
        Self {
            worker: Worker {
                site: site.clone(),
                boot: site.boot(),
                rng,
            },
            name,
            sandboxes: 0,
        }
    }

    pub(in crate::scenario) const fn site(&self) -> &Site {
        &self.worker.site
    }

    pub(in crate::scenario) const fn rng(&mut self) -> &mut Rng {
        &mut self.worker.rng
    }

    /// A new sandbox's ADD; `None`: there is no daemon.
    pub(in crate::scenario) async fn ask(&mut self) -> Option<Answered> {
        self.sandboxes += 1;
        let mut sandbox = self.worker.sandbox(&self.name, self.sandboxes - 1);
        sandbox.attachments.truncate(1);
        let key = sandbox.attachments.first()?.key.clone();
        let site = self.worker.site.clone();
        let handle = site.kernel.daemon()?;
        let timeout = Duration::from_secs(*self.worker.rng.pick(&[5, 30, 60, 120]));
        let request = Allocate {
            key: key.clone(),
            pod: sandbox.pod.clone(),
            timeout: Some(timeout),
            wiring_version: WIRING_VERSION,
            veth_prefix: None,
            mtu: None,
        };
        let turn = site.book.turn().await;
        site.count_add();
        let now = site.world.elapsed();
        site.book.of_boot(self.worker.boot);
        site.book.begins(&key, now);
        let run = site.run();
        let waiting = Waiting::begin(&site, &request);
        let answer = handle.allocate(request.clone()).await;
        waiting.end(&site, Some(&answer));
        site.world.tell(&site.name, || match &answer {
            Ok(wiring) => format!("ADD {key}: {:?}", wiring.pod_addresses),
            Err(refusal) => format!("ADD {key}: {refusal} ({})", refusal.cause),
        });
        if answer.is_err() {
            site.book.has_failed(&key, site.world.elapsed());
        }
        let turn = answer.is_ok().then_some(turn);
        Some(Answered {
            sandbox,
            request,
            run,
            turn,
            answer,
        })
    }

    /// What the plugin does with a wiring; `false`: it died over it.
    pub(in crate::scenario) async fn wire(&mut self, add: &mut Answered) -> bool {
        let Ok(wiring) = add.answer.clone() else {
            return false;
        };
        self.worker.told(&add.request, add.run, &wiring);
        let done = self.worker.wire(&mut add.sandbox, 0, &wiring).await == Wired::Done;
        if done {
            add.sandbox.attachments[0].told = Some(wiring);
        } else {
            let site = &self.worker.site;
            site.book.has_failed(&add.request.key, site.world.elapsed());
        }
        add.turn = None;
        done
    }

    /// The sandbox's DEL.
    pub(in crate::scenario) async fn end(&mut self, mut add: Answered) {
        self.worker.end(&mut add.sandbox).await;
    }

    /// The same beside whatever comes next.
    pub(in crate::scenario) fn end_later(&mut self, mut add: Answered) {
        let mut other = self.worker.fork();
        tokio::spawn(async move { other.end(&mut add.sandbox).await });
    }
}
