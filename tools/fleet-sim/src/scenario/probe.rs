//! Probes of the peace: one, five and thirty minutes after the last trouble, as many pods as the oracle's
//! account says will fit come at once, and each must be up in bounded time, however often its ADD
//! is refused on the way.
//!
//! One minute after trouble a call without an answer is still in doubt: EC2's consistency window and the
//! looks around it come on top of the bound ([`AFTERMATH`]). Back-offs do not.

use super::machine::{Machine, Site};
use super::runtime::{Answered, Prober};
use super::waiting::breaches;
use super::words;
use crate::oracle::Promise;
use crate::oracle::bound::{bound, lag};
use crate::oracle::refusals::free_local;
use crate::oracle::room::Room;
use crate::oracle::truth::Account;
use crate::rng::Rng;
use crate::world::World;
use ipam_core::Family;
use std::time::Duration;

/// When, from the beginning of the peace.
const AT: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(1800),
];

/// So many pods at most.
const PODS: u32 = 30;

/// EC2's consistency window of 60 s, a look that began just before its end, and the next one 10 s later;
/// an absence takes two looks 30 s apart.
const AFTERMATH: Duration = Duration::from_secs(60 + 30 + 20);

/// See the module.
#[derive(Debug)]
pub(super) struct Probes {
    begun: Duration,
    done: usize,
    rng: Rng,
}

impl Probes {
    /// Peace begins now.
    pub(super) fn new(world: &World, seed: u64) -> Self {
        Self {
            begun: world.elapsed(),
            done: 0,
            rng: Rng::stream(seed, "probes"),
        }
    }

    /// Time until the next one is due.
    pub(super) fn due_in(&self, now: Duration) -> Option<Duration> {
        let at = self.begun + *AT.get(self.done)?;
        Some(at.saturating_sub(now))
    }

    /// Sends the pods of the one that is due. They report for themselves.
    pub(super) async fn send(&mut self, world: &World, machines: &[Machine]) {
        let number = self.done;
        self.done += 1;
        let there: Vec<&Machine> = machines.iter().filter(|m| !m.gone).collect();
        let accounts: Vec<Option<Account<'_>>> =
            there.iter().map(|m| Account::of(m.site.place())).collect();
        let rooms: Vec<&Room> = accounts.iter().flatten().map(|a| &a.room).collect();
        for (machine, account) in there.iter().zip(&accounts) {
            let Some(account) = account else { continue };
            let pods = fit(account, &rooms, machine.site.asks().egress);
            let mut limit = bound(world, &rooms);
            if number == 0 {
                limit += AFTERMATH + lag(world);
            }
            world.tell(&machine.site.name, || {
                format!("probe {number}: {pods} pods within {limit:?}")
            });
            for n in 0..pods {
                let rng = self.rng.fork();
                let probe = Probe::new(&machine.site, format!("probe{number}-{n}"), limit, rng);
                tokio::spawn(probe.live());
            }
        }
    }
}

/// How many pods fit for sure: what is free, and what EC2 has for this node alone or for all nodes.
fn fit(account: &Account<'_>, rooms: &[&Room], local: Option<Family>) -> u32 {
    let room = &account.room;
    let policy = &account.run.policy;
    let pods = policy.max_pods.unwrap_or(PODS).saturating_sub(room.used);
    let local = local.map_or(usize::MAX, |family| free_local(account, family));
    let most = pods.min(PODS).min(u32::try_from(local).unwrap_or(PODS));
    let six = !policy.families.contains(&Family::V6) || room.six || room.six_grows;
    if !six {
        return 0;
    }
    if !policy.families.contains(&Family::V4) {
        return most;
    }
    let free = u32::try_from(room.free.len()).unwrap_or(u32::MAX);
    if account.place.world.oracle().retagged {
        return most.min(free);
    }
    let everything: u32 = rooms.iter().map(|r| r.most()).sum();
    let alone = rooms.len() == 1 || room.holds(everything);
    most.min(free + if alone { room.more() } else { 0 })
}

/// One pod of a probe.
pub(super) struct Probe {
    pod: Prober,
    since: Duration,
    limit: Duration,
    bound: Duration,
}

impl Probe {
    pub(super) fn new(site: &Site, name: String, bound: Duration, rng: Rng) -> Self {
        let since = site.world.elapsed();
        Self {
            pod: Prober::new(site, name, rng),
            since,
            limit: since + bound,
            bound,
        }
    }

    /// ADD until it is up, as a runtime does; then, mostly, DEL.
    pub(super) async fn live(mut self) {
        loop {
            let Some(add) = self.pod.ask().await else {
                // The daemon is on its way.
                if self.is_late("a pod of a probe").await {
                    return;
                }
                continue;
            };
            if add.answer.is_ok() {
                return self.up(add).await;
            }
            // Who tries again does not wait for what the last sandbox left.
            let id = add.id().to_owned();
            self.pod.end_later(add);
            if self.is_late(&id).await {
                return;
            }
        }
    }

    /// Waits as a runtime does, unless it has waited too long.
    async fn is_late(&mut self, id: &str) -> bool {
        let site = self.pod.site().clone();
        let now = site.world.elapsed();
        if now > self.limit {
            let waited = now - self.since;
            let what = format!("{id} waits for {waited:?}, bound {:?}", self.bound);
            if let Some(daemon) = site.kernel.daemon() {
                let shown = daemon.inspect().await;
                let shown = shown.map_or_else(|error| error.to_string(), |it| words::snapshot(&it));
                site.world.tell(&site.name, || shown);
            }
            self.late(what);
            return true;
        }
        let pause = self.pod.rng().millis(500, 2_000);
        tokio::time::sleep(pause).await;
        false
    }

    fn late(&self, what: String) {
        let world = &self.pod.site().world;
        breaches(world, vec![(Promise::ServedInTime, what)]);
    }

    async fn up(&mut self, mut add: Answered) {
        let world = self.pod.site().world.clone();
        let now = world.elapsed();
        if now > self.limit {
            let waited = now - self.since;
            let what = format!(
                "{} was up after {waited:?}, bound {:?}",
                add.id(),
                self.bound
            );
            self.late(what);
        }
        let wired = self.pod.wire(&mut add).await;
        if wired && self.pod.rng().percent(20) {
            // It stays for good: the verdict counts it.
            return;
        }
        let stay = self.pod.rng().millis(2_000, 40_000);
        tokio::time::sleep(stay).await;
        self.pod.end(add).await;
    }
}
