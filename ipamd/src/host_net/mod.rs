//! The engine's `HostNet` port on the node's kernel: links, rules, routes by netlink, NAT by `nft`.
//!
//! Owns what the wiring names and nothing else: rules of our priorities and shapes, the ENIs' own
//! tables, nftables tables, pods' links and host routes that the engine names. Other
//! programs' rules, tables and links are never touched.

mod conntrack;
mod foreign;
mod lacking;
mod links;
mod monitor;
mod netlink;
mod nft;
mod reroute;
mod routes;
mod rules;
mod settings;
mod six;
mod sources;
mod stray;
mod sweep;
mod truce;

pub use monitor::watch;

use crate::config;
use ipam_core::Mac;
use ipam_core::wiring::{Earlier, HostWiring, host_if_prefix};
use ipam_engine::ports::{
    Applied, Foreign, Forgotten, Fut, HostNet, HostNetError, Leftover, Survey, Trace,
};
use netlink::Netlink;
use netlink_packet_route::link::LinkMessage;
use std::collections::BTreeMap;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use tokio::sync::Mutex;

/// The kernel of the network namespace in which it was opened.
#[derive(Debug)]
pub struct KernelNet {
    netlink: Netlink,
    settings: config::Host,
    /// The last wiring, for the monitor to put back what others take away.
    state: Mutex<State>,
    /// The ENIs' links as they were wired last: index and MTU. For the monitor, which must not wait.
    enis: std::sync::Mutex<BTreeMap<u32, u32>>,
    /// The kernel's settings that the last wiring needs.
    watched: std::sync::Mutex<Vec<settings::Setting>>,
    /// Whether pods' sources are checked, for the metrics.
    sources_checked: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    wiring: Option<HostWiring>,
    /// What was there before this run's first wiring, as long as that is to stay.
    earlier: Option<Earlier>,
    /// Why it could not be made true the last time.
    failure: Option<HostNetError>,
    /// Translation and marks.
    nat: nft::Kept,
    /// Egress of the other family.
    egress: nft::Kept,
    /// What pods may send.
    sources: nft::Kept,
    /// Why pods' sources could not be checked the last time.
    unchecked: Option<String>,
    /// What becomes of stray packets, as it was made last.
    strays: Option<stray::Strays>,
    /// The routes in main through the primary ENI that somebody made, as long as its link is up: the kernel
    /// takes them away with it.
    through_primary: Vec<routes::Seen>,
}

impl State {
    /// How often tables were replaced.
    fn replaced(&self) -> u64 {
        self.nat.replaced() + self.egress.replaced() + self.sources.replaced()
    }
}

impl KernelNet {
    /// Opens the netlink socket. Must be called within the runtime.
    ///
    /// # Errors
    /// No socket.
    pub fn open(settings: config::Host) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            settings,
            state: Mutex::default(),
            enis: std::sync::Mutex::default(),
            watched: std::sync::Mutex::default(),
            sources_checked: AtomicBool::default(),
        })
    }

    async fn look(&self) -> Result<Survey, HostNetError> {
        let failed = |error: netlink::Refused| error.while_doing("looking at links and routes");
        let is_pods = |name: &str| self.is_pods(name);
        let links = links::candidates(&self.netlink, is_pods)
            .await
            .map_err(failed)?;
        let names = links::names(&self.netlink).await.map_err(failed)?;
        let routes = routes::all(&self.netlink).await.map_err(failed)?;
        Ok(Survey {
            links: links.into_keys().collect(),
            pod_routes: routes::of_pods(&routes, &names, is_pods),
        })
    }

    async fn make_so(&self, wiring: HostWiring) -> Result<Applied, HostNetError> {
        let mut state = self.state.lock().await;
        if wiring.keeps_unnamed && state.earlier.is_none() {
            state.earlier = Some(self.earlier().await?);
        }
        let wiring = match &mut state.earlier {
            Some(earlier) if wiring.keeps_unnamed => wiring.keeping(earlier),
            _ => wiring,
        };
        let applied = self.converge(&wiring, &mut state, false).await;
        state.wiring = Some(wiring);
        state.failure = applied.as_ref().err().cloned();
        applied
    }

    /// What an earlier run left of further ENIs' rules and marks.
    async fn earlier(&self) -> Result<Earlier, HostNetError> {
        Ok(Earlier {
            rules: rules::ours(&self.netlink).await?,
            eni_marks: nft::eni_marks(&self.settings.nft).await?,
        })
    }

    /// Makes the last wiring true again; whether anything had to be changed for it.
    async fn restore(&self) -> Result<(bool, Vec<Foreign>), HostNetError> {
        let mut state = self.state.lock().await;
        let Some(wiring) = state.wiring.take() else {
            return Ok((false, Vec::new()));
        };
        let before = (self.netlink.changes(), state.replaced());
        let done = self.converge(&wiring, &mut state, true).await;
        state.wiring = Some(wiring);
        state.failure = done.as_ref().err().cloned();
        let after = (self.netlink.changes(), state.replaced());
        done.map(|applied| (after != before, applied.foreign))
    }

    /// The MTU that a link was given, if it is an ENI's.
    fn eni_mtu(&self, index: u32) -> Option<u32> {
        let enis = self.enis.lock().unwrap_or_else(PoisonError::into_inner);
        enis.get(&index).copied()
    }

    /// Every part is tried; the first failure is told. `suspect`: others may have changed our tables.
    async fn converge(
        &self,
        wiring: &HostWiring,
        state: &mut State,
        suspect: bool,
    ) -> Result<Applied, HostNetError> {
        let doing = |error: netlink::Refused| error.while_doing("reading links and routes");
        let links = links::candidates(&self.netlink, |name| self.is_pods(name))
            .await
            .map_err(doing)?;
        let mut applied = Applied::default();
        let mut failure = None;
        let mut present = Vec::new();
        for eni in &wiring.enis {
            match links.get(&eni.mac) {
                None => {
                    applied.missing.push(eni.mac);
                    failure = failure.or(self.taken_for_a_pods(eni.mac).await);
                }
                Some(link) => match links::set_up(&self.netlink, link, eni).await {
                    Ok(()) => present.push((eni, link)),
                    Err(error) => failure = failure.or(Some(error)),
                },
            }
        }
        let primary_came = present.iter().find(|(eni, link)| eni.primary && !link.up);
        if primary_came.is_some() {
            routes::restore(&self.netlink, &state.through_primary).await;
        }
        *self.enis.lock().unwrap_or_else(PoisonError::into_inner) = present
            .iter()
            .map(|(eni, link)| (link.index, eni.mtu))
            .collect();
        let found = foreign::addresses(&self.netlink, wiring, &present).await;
        failure = failure.or(take_in(&mut applied, found));
        let names: Vec<&str> = present.iter().map(|(_, link)| link.name.as_str()).collect();
        let strays = stray::Strays::wanted(wiring, &names);
        failure = failure.or(self.keep_settings(wiring, &names).err());
        // After the links: bringing one up or giving it an address changes routes.
        let seen = routes::all(&self.netlink).await.map_err(doing)?;
        let primary_link = present.iter().find(|(eni, _)| eni.primary);
        if let Some((_, link)) = primary_link {
            state.through_primary = routes::made_through(&seen, link.index);
        }
        for (eni, link) in present {
            let dev = (link.name.as_str(), link.index);
            if let Err(error) = routes::apply(&self.netlink, &seen, eni, dev).await {
                failure = failure.or(Some(error));
            }
            let found = foreign::routes(&self.netlink, &seen, eni, link).await;
            failure = failure.or(take_in(&mut applied, found));
        }
        match rules::apply(&self.netlink, &wiring.rules).await {
            Ok(all) => applied.foreign.extend(foreign::others_rules(&all, wiring)),
            Err(error) => failure = failure.or(Some(error)),
        }
        let primary = wiring
            .enis
            .iter()
            .find(|eni| eni.primary)
            .and_then(|eni| links.get(&eni.mac));
        let primary = primary.map(|link| link.name.as_str());
        if let Err(error) = self.translate(wiring, primary, state, suspect).await {
            failure = failure.or(Some(error));
        }
        let done = self.refuse_strays(strays, state, suspect).await;
        failure = failure.or(done.err());
        let done = self.six(wiring, primary, state, suspect).await;
        failure = failure.or(done.err());
        self.check_sources(wiring, state, suspect).await;
        match failure {
            Some(error) => Err(error),
            None => Ok(applied),
        }
    }

    /// An ENI's link whose name begins as pods' links do would be left out of everything.
    async fn taken_for_a_pods(&self, mac: Mac) -> Option<HostNetError> {
        let all = links::of_pods(&self.netlink, |name| self.is_pods(name)).await;
        let (name, _) = all.ok()?.into_iter().find(|(_, found)| *found == mac)?;
        let prefix = &self.settings.veth_prefix;
        Some(HostNetError {
            what: format!("wiring the ENI {mac}"),
            cause: format!(
                "its link {name} is named as pods' links are (AWS_VPC_K8S_CNI_VETHPREFIX is \"{prefix}\")"
            ),
        })
    }

    /// Translation and marks.
    async fn translate(
        &self,
        wiring: &HostWiring,
        primary: Option<&str>,
        state: &mut State,
        suspect: bool,
    ) -> Result<(), HostNetError> {
        let options = nft::Options {
            primary,
            node_port: self.settings.node_port,
            ports: self.settings.snat_ports,
        };
        let script = nft::script(&wiring.nat, options);
        let tables = [("ip", nft::TABLE)];
        state
            .nat
            .make(&self.settings.nft, script, &tables, suspect)
            .await
    }

    /// What came by an ENI to nobody.
    async fn refuse_strays(
        &self,
        strays: stray::Strays,
        state: &mut State,
        suspect: bool,
    ) -> Result<(), HostNetError> {
        if !suspect && state.strays.as_ref() == Some(&strays) {
            return Ok(());
        }
        state.strays = None;
        strays.apply(&self.netlink).await?;
        state.strays = Some(strays);
        Ok(())
    }

    /// Whether a link of this name is a pod's: by the setting, or by another prefix as a network
    /// configuration can give it.
    fn is_pods(&self, name: &str) -> bool {
        name.starts_with(&self.settings.veth_prefix) || host_if_prefix(name).is_some()
    }

    /// The Ethernet address of a link that may be an ENI.
    fn eni_mac(&self, message: &LinkMessage) -> Option<Mac> {
        let (mac, link) = links::read(message)?;
        (!self.is_pods(&link.name)).then_some(mac)
    }
}

/// Notes what was found; the failure if the look failed.
fn take_in(
    applied: &mut Applied,
    found: Result<Vec<Foreign>, netlink::Refused>,
) -> Option<HostNetError> {
    match found {
        Ok(found) => {
            applied.foreign.extend(found);
            None
        }
        Err(error) => Some(error.while_doing("undoing what another program did")),
    }
}

impl HostNet for KernelNet {
    fn survey(&self) -> Fut<'_, Result<Survey, HostNetError>> {
        Box::pin(self.look())
    }

    fn apply(&self, wiring: HostWiring) -> Fut<'_, Result<Applied, HostNetError>> {
        Box::pin(self.make_so(wiring))
    }

    fn sweep(&self, leftovers: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(self.sweep_all(leftovers))
    }

    fn reroute(&self, pods: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(self.reroute_all(pods))
    }

    fn forget(&self, traces: Vec<Trace>) -> Fut<'_, Result<Forgotten, HostNetError>> {
        Box::pin(self.forget_all(traces))
    }
}
