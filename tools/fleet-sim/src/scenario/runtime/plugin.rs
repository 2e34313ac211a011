//! What the plugin's process does in the kernel, step by step; it may die before each.

use super::Worker;
use super::sandbox::{Sandbox, Veth};
use ipam_core::wiring::PodWiring;
use ipam_core::{AttachmentKey, Mac};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::sleep;

/// How long an ADD waits for the DEL of an earlier sandbox of the same pod.
const OTHERS_DEL: Duration = Duration::from_secs(10);
/// The plugin is told of changes; so often the simulation looks.
const LOOK: Duration = Duration::from_millis(200);

/// What came of a wiring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wired {
    /// All of it is there.
    Done,
    /// The plugin died, with some of it done.
    Died,
    /// Another attachment's veth, whose lease stands, has the name.
    InUse,
}

impl Worker {
    /// A step of the plugin: it may be killed before it, and ends with its node. Nobody wires for a pod
    /// that the oracle has given up.
    fn steps(&mut self, wiring: &PodWiring, sandbox: &Sandbox, n: usize) -> bool {
        let key = self.pod_key(&sandbox.attachments[n].key);
        let lives = self.site.world.oracle().living.contains_key(&key);
        let dies = self.over() || !lives || self.rng.percent(1);
        if dies {
            let id = &key.1;
            self.tell(|| format!("the plugin of {id} dies at {:?}", wiring.pod_addresses));
        }
        !dies
    }

    /// The `n`th attachment of a sandbox, as its wiring says.
    pub(super) async fn wire(
        &mut self,
        sandbox: &mut Sandbox,
        n: usize,
        wiring: &PodWiring,
    ) -> Wired {
        let (host_if, mac) = (wiring.host_if.clone(), wiring.host_mac);
        sleep(self.rng.millis(0, 20)).await;
        if !self.steps(wiring, sandbox, n) {
            return Wired::Died;
        }
        if self.is_wired(wiring) {
            // The runtime notes this success as any other: a GC must list it.
            let (key, now) = (&sandbox.attachments[n].key, self.site.world.elapsed());
            self.site.book.is_up(key, now);
            return Wired::Done;
        }
        self.set_wired(&sandbox.attachments[n].key, false);
        // Whatever has the names: the host's end's, and the pod's end's.
        let same = |veth: &&Veth| veth.pod_if == wiring.pod_if && veth.host_if != host_if;
        let mut named = vec![host_if.clone()];
        named.extend(sandbox.veths.iter().filter(same).map(|v| v.host_if.clone()));
        for name in named {
            if !self.make_way(&name, mac).await {
                return Wired::InUse;
            }
        }
        if !self.steps(wiring, sandbox, n) {
            return Wired::Died;
        }
        if !self.site.kernel.make_veth(&host_if, mac) {
            return Wired::InUse;
        }
        sandbox.veths.retain(|v| v.pod_if != wiring.pod_if);
        sandbox.veths.push(Veth {
            host_if: host_if.clone(),
            host_mac: mac,
            pod_if: wiring.pod_if.clone(),
        });
        for route in &wiring.host_routes {
            if !self.steps(wiring, sandbox, n) {
                return Wired::Died;
            }
            let (key, now) = (&sandbox.attachments[n].key, self.site.world.elapsed());
            self.site.book.is_up(key, now);
            let (ip, kernel) = (route.dst.addr(), self.site.kernel.clone());
            if !kernel.route_pod(ip, &host_if, mac).await {
                return Wired::Died;
            }
        }
        if !self.steps(wiring, sandbox, n) {
            return Wired::Died;
        }
        self.set_wired(&sandbox.attachments[n].key, true);
        self.site.kernel.wired(&super::sandbox::addresses(wiring));
        Wired::Done
    }

    /// Whether its pod counts on its link and routes.
    fn set_wired(&self, key: &AttachmentKey, wired: bool) {
        let pod = self.pod_key(key);
        if let Some(living) = self.site.world.oracle().living.get_mut(&pod) {
            living.wired = wired;
        }
    }

    /// Whether an ADD finds its work done.
    fn is_wired(&self, wiring: &PodWiring) -> bool {
        let kernel = &self.site.kernel;
        let routed = |ip: IpAddr| kernel.route(ip).is_some_and(|dev| dev == wiring.host_if);
        kernel.veth(&wiring.host_if) == Some(wiring.host_mac)
            && wiring.host_routes.iter().all(|r| routed(r.dst.addr()))
    }

    /// Takes away a veth of its own, or of one that was released: its routes are gone. Waits a while for
    /// one whose lease stands.
    async fn make_way(&self, host_if: &str, mac: Mac) -> bool {
        let kernel = &self.site.kernel;
        let until = self.site.world.elapsed() + OTHERS_DEL;
        loop {
            match kernel.veth(host_if) {
                None => return true,
                Some(there) if there == mac || !kernel.carries(host_if) => {
                    self.lose_link(host_if);
                    kernel.remove_link(host_if).await;
                    return true;
                }
                Some(_) if self.site.world.elapsed() >= until || self.over() => return false,
                Some(_) => sleep(LOOK).await,
            }
        }
    }

    /// A link whose routes somebody took away is taken for a finished sandbox's, and a new one of the pod
    /// replaces it.
    fn lose_link(&self, host_if: &str) {
        let mut oracle = self.site.world.oracle();
        let here = oracle.living.iter_mut();
        let here = here.filter(|((on, _), _)| *on == self.site.name);
        for (_, living) in here.filter(|(_, living)| living.host_if == host_if) {
            living.wired = false;
        }
    }

    /// A DEL's part: the routes that leave by this attachment's own link, and no other. The address may be
    /// another pod's by now, and so may the name.
    pub(super) async fn unroute(&self, links: &[(String, Option<Mac>)], ips: &[IpAddr]) {
        let kernel = &self.site.kernel;
        for (host_if, mac) in links {
            let there = kernel.veth(host_if);
            if there.is_none() || mac.is_some_and(|mac| there != Some(mac)) {
                continue;
            }
            for ip in ips {
                kernel.clear_route(*ip, host_if).await;
            }
        }
    }
}
