//! How a node's daemon hears of the kernel: as by its netlink sockets. What comes late is overtaken by what
//! is about something else, never by what is about the same; what is lost is lost as a whole buffer, and
//! that is told.
//!
//! The part of the daemon's adapter that listens is here too: it puts the wiring that it made last right
//! again, and tells every pod's route from time to time (`ipamd/src/host_net/monitor.rs`).

use super::adapter::MortalKernel;
use super::faults::Delivery;
use super::{Kernel, lock};
use ipam_core::Mac;
use ipam_engine::Handle;
use ipam_engine::ports::{HostNet, KernelEvent};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Changes come in bursts: one repair for all.
const SETTLE: Duration = Duration::from_millis(100);
/// After a repair that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// Everything is compared again so often.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// What is heard.
#[derive(Clone, Debug)]
enum News {
    /// Handed on to the engine.
    Event(KernelEvent),
    /// Rules, tables or ENIs' links were changed.
    Wiring,
    /// The socket's buffer ran over.
    Overrun,
}

/// What news are about: those of one keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    Eni(Mac),
    Link(String),
    Route(IpAddr, Option<String>),
    Wiring,
    /// All that came before it.
    All,
}

impl News {
    fn about(&self) -> About {
        match self {
            Self::Event(event) => match event {
                KernelEvent::LinkAppeared(mac) | KernelEvent::LinkGone(mac) => About::Eni(*mac),
                KernelEvent::PodLinkGone(name) | KernelEvent::PodLinkBack(name) => {
                    About::Link(name.clone())
                }
                KernelEvent::PodRouteAdded(ip, name) => About::Route(*ip, Some(name.clone())),
                KernelEvent::PodRouteGone(ip) | KernelEvent::PodRouteBent(ip) => {
                    About::Route(*ip, None)
                }
                KernelEvent::PodRoutes(_) | KernelEvent::Foreign(_) | KernelEvent::Overrun => {
                    About::All
                }
            },
            Self::Wiring => About::Wiring,
            Self::Overrun => About::All,
        }
    }
}

impl About {
    fn touches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => true,
            (Self::Route(a, _), Self::Route(b, _)) => a == b,
            // A route that went may have been through any link.
            (Self::Route(_, name), Self::Link(link)) | (Self::Link(link), Self::Route(_, name)) => {
                name.as_ref().is_none_or(|name| name == link)
            }
            _ => self == other,
        }
    }
}

#[derive(Debug, Default)]
struct Ears {
    /// The engine, if a daemon runs.
    handle: Option<Handle>,
    /// Tells the runs of the daemon apart: each has its own sockets.
    run: u64,
    /// News on their way, by when they get there.
    late: Vec<(Duration, About)>,
    /// Nothing is heard until then.
    deaf_until: Duration,
    /// When the wiring is made true again.
    repair_at: Option<Duration>,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Monitor(Arc<Mutex<Ears>>, Arc<Notify>);

impl Monitor {
    pub(super) fn listen(&self, handle: Option<Handle>) {
        let mut ears = lock(&self.0);
        *ears = Ears {
            handle,
            run: ears.run + 1,
            ..Ears::default()
        };
    }

    pub(super) fn daemon(&self) -> Option<Handle> {
        lock(&self.0).handle.clone()
    }

    fn repair_soon(&self, now: Duration) {
        lock(&self.0).repair_at.get_or_insert(now + SETTLE);
        self.1.notify_one();
    }

    /// When news about this, on their way for so long, get there: after what is before them.
    fn due(&self, now: Duration, after: Duration, about: &About) -> Duration {
        let mut ears = lock(&self.0);
        ears.late.retain(|(at, _)| *at > now);
        let before = ears.late.iter().filter(|(_, other)| other.touches(about));
        let before = before.map(|(at, _)| *at + Duration::from_millis(1)).max();
        let at = before.unwrap_or(now).max(now + after);
        if at > now {
            ears.late.push((at, about.clone()));
        }
        at
    }
}

impl Kernel {
    /// The kernel's word on something of a pod, an ENI or a route, on its way to the daemon that runs.
    pub(crate) async fn tell(&self, event: KernelEvent) {
        self.send(News::Event(event)).await;
    }

    /// The same of rules and tables.
    pub(super) async fn tell_wiring(&self) {
        self.send(News::Wiring).await;
    }

    async fn send(&self, news: News) {
        let Some(handle) = self.daemon() else { return };
        let now = self.now();
        if lock(&self.monitor.0).deaf_until > now {
            return;
        }
        let delivery = self.faults().delivery();
        match delivery {
            Delivery::AtOnce => self.send_after(Duration::ZERO, news, handle).await,
            Delivery::Late(after) => self.send_after(after, news, handle).await,
            Delivery::Doubled(after) => {
                let second = (news.clone(), handle.clone());
                self.send_after(Duration::ZERO, news, handle).await;
                self.send_after(after, second.0, second.1).await;
            }
            Delivery::Lost(after) => {
                self.world
                    .tell(&self.node, || format!("the monitor loses {news:?}"));
                lock(&self.monitor.0).deaf_until = now + after;
                self.send_after(after, News::Overrun, handle).await;
            }
        }
    }

    async fn send_after(&self, after: Duration, news: News, handle: Handle) {
        let now = self.now();
        let at = self.monitor.due(now, after, &news.about());
        if at <= now {
            return self.deliver(news, &handle).await;
        }
        self.world.oracle().kernel.hears(&self.node, at);
        let (kernel, run) = (self.clone(), lock(&self.monitor.0).run);
        tokio::spawn(async move {
            tokio::time::sleep(at - now).await;
            if lock(&kernel.monitor.0).run == run {
                kernel.deliver(news, &handle).await;
            }
        });
    }

    async fn deliver(&self, news: News, handle: &Handle) {
        match news {
            News::Event(event) => drop(handle.kernel(event).await),
            News::Wiring => self.monitor.repair_soon(self.now()),
            News::Overrun => self.overrun(handle).await,
        }
    }

    async fn overrun(&self, handle: &Handle) {
        let now = self.now();
        self.monitor.repair_soon(now);
        self.world.oracle().kernel.unsure(&self.node, now);
        handle.kernel(KernelEvent::Overrun).await;
    }

    /// The monitor lost what it did not yet hand on.
    pub(super) async fn lose_events(&self) {
        if let Some(handle) = self.daemon() {
            self.overrun(&handle).await;
        }
    }
}

/// The listening part of one run of a daemon.
pub(super) async fn watch(net: MortalKernel) {
    let kernel = net.kernel.clone();
    let mut look_at = kernel.now() + LOOK;
    let (mut last, mut same) = (None, 0);
    loop {
        let repair_at = lock(&kernel.monitor.0).repair_at;
        let due = repair_at.unwrap_or(look_at).min(look_at);
        let wait = due.saturating_sub(kernel.now());
        tokio::select! {
            biased;
            () = kernel.monitor.1.notified() => continue,
            () = tokio::time::sleep(wait) => {}
        }
        let now = kernel.now();
        lock(&kernel.monitor.0).repair_at = None;
        if look_at <= now {
            look_at = now + LOOK;
            let Ok(seen) = net.survey().await else {
                continue;
            };
            // The same a third time is no news, and peace lasts long.
            let changes = kernel.tables().changes;
            same = match last.replace(changes) {
                Some(before) if before == changes => same + 1,
                _ => 0,
            };
            if same <= 2 {
                let Some(handle) = kernel.daemon() else {
                    return;
                };
                if !handle.kernel(KernelEvent::PodRoutes(seen.pod_routes)).await {
                    return;
                }
            }
        }
        if net.restore().await.is_err() {
            let at = kernel.now() + AGAIN;
            lock(&kernel.monitor.0).repair_at.get_or_insert(at);
        }
    }
}
