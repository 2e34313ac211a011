//! Listens to the kernel: tells the engine of links and pods' routes, and puts back what others
//! take away.

use super::netlink::Netlink;
use super::nft::Events;
use super::settings::Setting;
use super::truce::Truce;
use super::{KernelNet, links, routes, rules, stray};
use ipam_engine::Handle;
use ipam_engine::ports::{Foreign, KernelEvent};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkFlags;
use netlink_sys::AsyncSocket;
use rtnetlink::MulticastGroup;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

use futures_util::StreamExt;

/// After a repair that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// The kernel's settings are looked at so often.
const GLANCE: Duration = Duration::from_secs(1);
/// Everything is compared again so often, for what no event told of.
const LOOK: Duration = Duration::from_secs(60);
/// Receive buffer, bytes: some thousand events.
const BUFFER: usize = 1 << 20;

/// Tells `engine` what the kernel tells, until the engine ends. Subscribed when it returns: what
/// happens after a survey made later is not missed.
///
/// # Errors
/// No socket.
pub fn watch(
    net: Arc<KernelNet>,
    engine: Handle,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ];
    let (mut connection, _handle, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
    // A smaller buffer only means more overruns, which are handled.
    let _ = connection.socket_mut().socket_mut().set_rx_buf_sz(BUFFER);
    tokio::spawn(connection);
    let mut tables = Events::open()
        .inspect_err(|error| tracing::warn!(%error, "can't listen to nftables"))
        .ok();
    Ok(async move {
        let mut monitor = Monitor {
            net,
            engine,
            names: BTreeMap::new(),
            down: BTreeSet::new(),
            repair: None,
            look: Instant::now() + LOOK,
            truce: Truce::default(),
            amiss: Vec::new(),
        };
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        monitor.learn_names().await;
        monitor.net.harden_all().await;
        loop {
            let due = monitor.repair.unwrap_or(monitor.look);
            tokio::select! {
                message = messages.next() => {
                    let Some((message, _)) = message else {
                        tracing::error!("the netlink monitor's socket is gone");
                        return;
                    };
                    if !monitor.take(message).await {
                        return;
                    }
                }
                changed = ours(tables.as_mut()) => match changed {
                    Ok(()) => monitor.repair_soon(),
                    Err(error) => {
                        tracing::warn!(%error, "nftables is no longer listened to");
                        tables = None;
                    }
                },
                _ = glance.tick() => monitor.glance(),
                () = sleep_until(due) => {
                    if !monitor.restore().await {
                        return;
                    }
                }
            }
        }
    })
}

/// For ever, where nothing can be heard.
async fn ours(tables: Option<&mut Events>) -> io::Result<()> {
    match tables {
        Some(tables) => tables.ours().await,
        None => std::future::pending().await,
    }
}

struct Monitor {
    net: Arc<KernelNet>,
    engine: Handle,
    /// Links' names: routes name links by index, also when the link is gone already.
    names: BTreeMap<u32, String>,
    /// Pods' links that were up and are down.
    down: BTreeSet<u32>,
    /// When to make the wiring true again.
    repair: Option<Instant>,
    /// When to do so in any case.
    look: Instant,
    truce: Truce,
    /// Settings of the kernel that were wrong when they were last looked at.
    amiss: Vec<Setting>,
}

impl Monitor {
    fn netlink(&self) -> &Netlink {
        &self.net.netlink
    }

    async fn learn_names(&mut self) {
        match links::names(self.netlink()).await {
            Ok(names) => self.names = names,
            Err(error) => tracing::warn!(%error, "can't read the links' names"),
        }
    }

    /// One message. `false`: the engine has ended.
    async fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let event = match message.payload {
            NetlinkPayload::InnerMessage(message) => {
                if let RouteNetlinkMessage::NewLink(link) = &message
                    && links::name(link).is_some_and(|name| self.net.is_pods(name))
                {
                    self.net.harden(link).await;
                }
                self.read(message)
            }
            NetlinkPayload::Overrun(_) => {
                tracing::warn!("kernel events were lost; looking again");
                self.learn_names().await;
                self.net.harden_all().await;
                self.repair_soon();
                Some(KernelEvent::Overrun)
            }
            _ => None,
        };
        match event {
            Some(event) => self.engine.kernel(event).await,
            None => true,
        }
    }

    fn read(&mut self, message: RouteNetlinkMessage) -> Option<KernelEvent> {
        match message {
            RouteNetlinkMessage::NewLink(link) => {
                let name = links::name(&link)?.to_owned();
                let known = self.names.insert(link.header.index, name.clone());
                let down = !link.header.flags.contains(LinkFlags::Up);
                if self.net.is_pods(&name) {
                    return self.pod_link(link.header.index, name, known.is_some(), down);
                }
                let mac = self.net.eni_mac(&link)?;
                // Told again for every change of state: only the first, or a new name, is news.
                let news = known.as_ref() != Some(&name);
                let mtu = self.net.eni_mtu(link.header.index);
                let resized = mtu.is_some_and(|mtu| links::mtu(&link) != Some(mtu));
                if known.is_some() && (news || down || resized) {
                    // Going down took its routes along, without a word about them; and our table names the
                    // primary's link.
                    self.repair_soon();
                }
                news.then_some(KernelEvent::LinkAppeared(mac))
            }
            RouteNetlinkMessage::DelLink(link) => {
                let known = self.names.remove(&link.header.index);
                self.down.remove(&link.header.index);
                let known = known.or_else(|| links::name(&link).map(str::to_owned));
                if let Some(name) = known.filter(|name| self.net.is_pods(name)) {
                    return Some(KernelEvent::PodLinkGone(name));
                }
                self.net.eni_mac(&link).map(KernelEvent::LinkGone)
            }
            RouteNetlinkMessage::NewRoute(route) => {
                if let Some((route, name)) = self.pod_route(&route) {
                    return Some(KernelEvent::PodRouteAdded(route.dst.addr(), name));
                }
                let route = routes::read(&route)?;
                let through = self.net.eni_mtu(route.link).is_some();
                if through || rules::is_eni_table(route.table) {
                    self.repair_soon();
                }
                routes::is_single(&route).then(|| KernelEvent::PodRouteBent(route.dst.addr()))
            }
            // (Each pod's link comes and goes with an address of its own, by IPv6.)
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                if self.net.eni_mtu(address.header.index).is_some() {
                    self.repair_soon();
                }
                None
            }
            // One that looks like ours may be nobody's. (Our own cost one more look.)
            RouteNetlinkMessage::NewRule(_) => {
                self.repair_soon();
                None
            }
            RouteNetlinkMessage::DelRoute(route) => {
                if let Some((route, _)) = self.pod_route(&route) {
                    return Some(KernelEvent::PodRouteGone(route.dst.addr()));
                }
                self.repair_if_ours(&route);
                None
            }
            RouteNetlinkMessage::DelRule(rule) => {
                let ours = rules::read(&rule)
                    .is_none_or(|rule| rules::is_ours(&rule) || rule.priority >= 32766);
                if ours {
                    self.repair_soon();
                }
                None
            }
            _ => None,
        }
    }

    /// A new link is down at first; only a known one can go down.
    fn pod_link(
        &mut self,
        index: u32,
        name: String,
        known: bool,
        down: bool,
    ) -> Option<KernelEvent> {
        if down && known {
            self.down.insert(index);
        }
        let back = !down && self.down.remove(&index);
        back.then_some(KernelEvent::PodLinkBack(name))
    }

    fn pod_route(
        &self,
        message: &netlink_packet_route::route::RouteMessage,
    ) -> Option<(routes::Seen, String)> {
        let route = routes::read(message).filter(routes::is_host_route)?;
        let name = self
            .names
            .get(&route.link)
            .filter(|name| self.net.is_pods(name))?
            .clone();
        Some((route, name))
    }

    /// A route of an ENI's table, or of the blocks', that went.
    fn repair_if_ours(&mut self, message: &netlink_packet_route::route::RouteMessage) {
        let in_eni_table =
            routes::read(message).is_some_and(|route| rules::is_eni_table(route.table));
        if in_eni_table || stray::is_ours(message) {
            self.repair_soon();
        }
    }

    /// What can't be put right is not tried again for the same look.
    fn glance(&mut self) {
        let amiss = self.net.amiss();
        if amiss != self.amiss && !amiss.is_empty() {
            self.repair_soon();
        }
        self.amiss = amiss;
    }

    fn repair_soon(&mut self) {
        let at = self.truce.next(Instant::now());
        self.repair.get_or_insert(at);
    }

    /// `false`: the engine has ended.
    async fn restore(&mut self) -> bool {
        self.repair = None;
        if self.look <= Instant::now() {
            match self.net.look().await {
                Ok(seen) => {
                    let all = KernelEvent::PodRoutes(seen.pod_routes);
                    if !self.engine.kernel(all).await {
                        return false;
                    }
                }
                Err(error) => tracing::warn!(%error, "can't compare pods' routes"),
            }
            self.look = Instant::now() + LOOK;
        }
        let (changed, mut foreign) = match self.net.restore().await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, "can't put the node's wiring right; trying again");
                self.repair = Some(Instant::now() + AGAIN);
                return true;
            }
        };
        if self.truce.repaired(changed, Instant::now()) {
            foreign.push(Foreign {
                what:
                    "links, addresses, routes or rules of this node's ENIs are changed again and \
                       again, and now put right with growing pauses"
                        .into(),
                tool: "a program that manages the network",
                undone: true,
            });
        }
        for found in foreign {
            if !self.engine.kernel(KernelEvent::Foreign(found)).await {
                return false;
            }
        }
        true
    }
}
