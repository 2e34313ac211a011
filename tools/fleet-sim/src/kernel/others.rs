//! What other programs do to a node's kernel: a person, NetworkManager, Felix, a script.

use super::Kernel;
use super::faults::{Forgetting, Op};
use crate::oracle::By;
use crate::rng::Rng;
use ipam_core::Mac;
use ipam_core::wiring::Rule;
use ipam_engine::ports::KernelEvent;
use std::net::IpAddr;
use std::time::Duration;

impl Kernel {
    /// One of these, by dice. `bends`: also a route through another pod's link.
    pub(crate) async fn meddle(&self, rng: &mut Rng, bends: bool) {
        match rng.weighted(&[3, 3, 2, 2, 2, 2, 2, 2, 2, 3, 3, 1]) {
            0 => self.delete_route(rng).await,
            1 => self.bend_route(rng, bends).await,
            2 => self.flush_routes().await,
            3 => self.delete_rule(rng).await,
            4 => self.flush_rules().await,
            5 => self.change_marks(rng).await,
            6 => self.delete_eni_route(rng).await,
            7 => self.set_link_down(rng).await,
            8 => {
                self.say(|| "the monitor loses what it had not handed on".into());
                self.lose_events().await;
            }
            9 => {
                let op = *rng.pick(&Op::ALL);
                let count = rng.count(1, 3);
                self.say(|| format!("{op:?} fails {count} times"));
                self.faults().set_fails(op, count);
            }
            10 => {
                let (op, takes) = (*rng.pick(&Op::ALL), rng.millis(0, 3_000));
                self.say(|| format!("{op:?} takes {takes:?}"));
                self.faults().set_takes(op, takes);
            }
            _ => {
                let forgetting = match rng.range(0, 2) {
                    0 => Forgetting::Works,
                    1 => Forgetting::Fails,
                    _ => Forgetting::Takes(rng.millis(0, 2_000)),
                };
                self.say(|| format!("forgetting: {forgetting:?}"));
                self.set_forgetting(forgetting);
            }
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        self.world.tell(&self.node, what);
    }

    /// Host routes of pods, and through which link.
    fn pods_routes(&self) -> Vec<(IpAddr, String)> {
        let tables = self.tables();
        let routes = tables.routes.iter();
        routes.map(|(ip, led)| (*ip, led.link.clone())).collect()
    }

    async fn delete_route(&self, rng: &mut Rng) {
        let routes = self.pods_routes();
        if routes.is_empty() {
            return;
        }
        let (ip, link) = rng.pick(&routes).clone();
        self.say(|| format!("somebody deletes the route to {ip}"));
        self.route_goes(ip, &link).await;
    }

    async fn route_goes(&self, ip: IpAddr, link: &str) {
        self.tables().unlead(ip);
        self.judge(By::Other("a route is deleted"));
        // What is through no pod's link is none of the monitor's.
        let is_pods = self.tables().veths.contains_key(link);
        if is_pods {
            self.tell(KernelEvent::PodRouteGone(ip)).await;
        }
    }

    async fn flush_routes(&self) {
        self.say(|| "somebody flushes the pods' routes".into());
        for (ip, link) in self.pods_routes() {
            self.route_goes(ip, &link).await;
        }
    }

    /// `ip route replace`: through another pod's link, or through one that is no pod's.
    async fn bend_route(&self, rng: &mut Rng, bends: bool) {
        let routes = self.pods_routes();
        if routes.is_empty() {
            return;
        }
        let (ip, _) = rng.pick(&routes).clone();
        let veths: Vec<String> = self.tables().veths.keys().cloned().collect();
        let through_pods = rng.percent(50) && !veths.is_empty() && bends;
        let link = match through_pods {
            true => rng.pick(&veths).clone(),
            false => "docker0".into(),
        };
        self.say(|| format!("somebody leads {ip} through {link}"));
        self.tables().lead(ip, &link);
        self.judge(By::Other("a route is led elsewhere"));
        let event = match through_pods {
            true => KernelEvent::PodRouteAdded(ip, link),
            false => KernelEvent::PodRouteBent(ip),
        };
        self.tell(event).await;
    }

    async fn delete_rule(&self, rng: &mut Rng) {
        let rules: Vec<Rule> = self.tables().rules.iter().cloned().collect();
        if rules.is_empty() {
            return;
        }
        let rule = rng.pick(&rules);
        self.say(|| format!("somebody deletes {rule:?}"));
        {
            let mut tables = self.tables();
            tables.rules.remove(rule);
            tables.dirty.all = true;
        }
        self.judge(By::Other("a rule is deleted"));
        self.tell_wiring().await;
    }

    async fn flush_rules(&self) {
        self.say(|| "somebody flushes all rules".into());
        {
            let mut tables = self.tables();
            tables.rules.clear();
            tables.dirty.all = true;
        }
        self.judge(By::Other("all rules are flushed"));
        self.tell_wiring().await;
    }

    /// One entry, or all that nftables has.
    async fn change_marks(&self, rng: &mut Rng) {
        let entries: Vec<IpAddr> = {
            let tables = self.tables();
            let marks = tables.marks.iter().flatten();
            marks.map(|(ip, _)| *ip).collect()
        };
        let one = rng.percent(50) && !entries.is_empty();
        {
            let mut tables = self.tables();
            if one {
                let ip = rng.pick(&entries);
                self.say(|| format!("somebody deletes the mark of {ip}"));
                tables.marks.as_mut().map(|marks| marks.remove(ip));
            } else {
                self.say(|| "somebody flushes nftables".into());
                tables.marks = None;
            }
            tables.dirty.all = true;
        }
        self.judge(By::Other("marks are gone"));
        self.tell_wiring().await;
    }

    fn further_enis(&self) -> Vec<Mac> {
        let tables = self.tables();
        let further = tables.enis.iter().filter(|(_, dev)| !dev.primary);
        further.map(|(mac, _)| *mac).collect()
    }

    async fn delete_eni_route(&self, rng: &mut Rng) {
        let enis = self.further_enis();
        if enis.is_empty() {
            return;
        }
        let mac = *rng.pick(&enis);
        let routes = self.tables().routes_of(mac);
        if routes.is_empty() {
            return;
        }
        let key = *rng.pick(&routes);
        self.say(|| format!("somebody deletes {} of table {}", key.1, key.0));
        {
            let mut tables = self.tables();
            tables.eni_routes.remove(&key);
            tables.dirty.all = true;
        }
        self.judge(By::Other("an ENI's route is deleted"));
        self.tell_wiring().await;
    }

    /// Its routes go with it. Somebody may set it up again; the routes do not come back by that.
    async fn set_link_down(&self, rng: &mut Rng) {
        let enis = self.further_enis();
        if enis.is_empty() {
            return;
        }
        let mac = *rng.pick(&enis);
        let up_again = rng.percent(40).then(|| rng.millis(0, 50));
        self.say(|| format!("somebody sets the link {mac} down"));
        {
            let mut tables = self.tables();
            if let Some(dev) = tables.enis.get_mut(&mac) {
                dev.up = false;
            }
            tables.drop_routes_of(mac);
        }
        self.judge(By::Other("an ENI's link is set down"));
        self.tell_wiring().await;
        if let Some(after) = up_again {
            tokio::time::sleep(after).await;
            if let Some(dev) = self.tables().enis.get_mut(&mac) {
                dev.up = true;
            }
            self.tables().dirty.all = true;
            self.judge(By::Other("an ENI's link is set up"));
            self.tell_wiring().await;
        }
        // Once more, by a program that does not give in.
        if rng.percent(20) {
            tokio::time::sleep(Duration::from_millis(150)).await;
            self.tables().drop_routes_of(mac);
            self.judge(By::Other("an ENI's table is flushed"));
            self.tell_wiring().await;
        }
    }
}
