//! The pool's numbers, from the engine's snapshot.

use super::Maker;
use ipam_engine::Snapshot;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use serde::Serialize;

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    ready: IntGauge,
    degraded: IntGaugeVec,
    addresses: IntGaugeVec,
    address_limit: IntGauge,
    max_pods: IntGauge,
    waiting: IntGauge,
    enis: IntGaugeVec,
    eni_limit: IntGauge,
    unmanaged: IntGaugeVec,
    in_doubt: IntGauge,
    blocks: IntGaugeVec,
    holds: IntGaugeVec,
    drift: IntCounterVec,
    lost: IntCounter,
    notices: IntCounterVec,
    notices_dropped: IntCounter,
    peer: Peer,
}

/// Those that Amazon's CNI has too.
#[derive(Debug)]
struct Peer {
    enis: IntGauge,
    eni_max: IntGauge,
    ip_max: IntGauge,
    total: IntGauge,
    assigned: IntGauge,
    prefixes: IntGauge,
    per_eni: IntGaugeVec,
    removed_enis: IntCounter,
    removed_ips: IntCounter,
}

/// As the enum's own serialisation spells it.
fn label(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn set(counter: &IntCounter, value: u64) {
    counter.reset();
    counter.inc_by(value);
}

impl Pool {
    #[rustfmt::skip]
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            ready: make.gauge("ipamd_ready", "1 if ADDs can be served.")?,
            degraded: make.gauges("ipamd_degraded", "1 while something keeps the pool from what it is to have: a pod that comes may get nothing.", &["cause"])?,
            addresses: make.gauges("ipamd_addresses", "Addresses for pods: assigned, available, cooling (released a moment ago), held (in use by nobody known).", &["state"])?,
            address_limit: make.gauge("ipamd_address_limit", "Addresses that the instance can have at its settings.")?,
            max_pods: make.gauge("ipamd_max_pods", "Pods for which the pool grows at most.")?,
            waiting: make.gauge("ipamd_waiting_adds", "ADDs that wait for an address.")?,
            enis: make.gauges("ipamd_enis", "ENIs, by how far they are.", &["phase"])?,
            eni_limit: make.gauge("ipamd_eni_limit", "ENIs that the instance can have at its settings.")?,
            unmanaged: make.gauges("ipamd_enis_unmanaged", "ENIs that are left alone, by why.", &["reason"])?,
            in_doubt: make.gauge("ipamd_enis_in_doubt", "ENIs on which the outcome of a write is not known.")?,
            blocks: make.gauges("ipamd_blocks", "Secondary addresses and prefixes.", &["kind"])?,
            holds: make.gauges("ipamd_holds", "Back-offs that are not over.", &["scope", "cause"])?,
            drift: make.counters("ipamd_drift_total", "Differences between EC2's word and ours.", &["kind"])?,
            lost: make.counter("ipamd_lost_addresses_total", "Addresses of pods that EC2 took away.")?,
            notices: make.counters("ipamd_notices_total", "What a person must know, told or not.", &["cause"])?,
            notices_dropped: make.counter("ipamd_notices_dropped_total", "Notices not told since there were too many.")?,
            peer: Peer {
                enis: make.gauge("awscni_eni_allocated", "ENIs.")?,
                eni_max: make.gauge("awscni_eni_max", "ENIs that the instance can have at its settings.")?,
                ip_max: make.gauge("awscni_ip_max", "Addresses that the instance can have at its settings.")?,
                total: make.gauge("awscni_total_ip_addresses", "Addresses for pods.")?,
                assigned: make.gauge("awscni_assigned_ip_addresses", "Addresses that pods have.")?,
                prefixes: make.gauge("awscni_total_ipv4_prefixes", "Prefixes.")?,
                per_eni: make.gauges("awscni_assigned_ip_per_eni", "Addresses that pods have, by ENI.", &["eni"])?,
                removed_enis: make.counter("awscni_force_removed_enis", "ENIs that went while pods used them.")?,
                removed_ips: make.counter("awscni_force_removed_ips", "Addresses that went while pods used them.")?,
            },
        })
    }

    pub(super) fn see(&self, pool: &Snapshot) {
        let totals = pool.totals;
        self.ready.set(pool.status.ready.into());
        self.degraded.reset();
        if let Some(cause) = pool.status.degraded {
            self.degraded.with_label_values(&[cause]).set(1);
        }
        for (state, n) in [
            ("assigned", totals.used),
            ("available", totals.free),
            ("cooling", totals.cooling),
            ("held", totals.held),
        ] {
            self.addresses.with_label_values(&[state]).set(n.into());
        }
        self.address_limit.set(pool.limits.addresses.into());
        self.max_pods.set(pool.limits.max_pods.unwrap_or(0).into());
        self.waiting
            .set(i64::try_from(pool.parked).unwrap_or(i64::MAX));
        self.eni_limit.set(pool.limits.enis.into());
        self.see_enis(pool);
        self.holds.reset();
        for hold in &pool.holds {
            self.holds
                .with_label_values(&[hold.scope, hold.cause])
                .inc();
        }
        for (kind, n) in &pool.counters.drift {
            set(&self.drift.with_label_values(&[kind]), *n);
        }
        set(&self.lost, pool.counters.lost_addresses);
        for (cause, n) in &pool.counters.notices {
            set(&self.notices.with_label_values(&[cause]), *n);
        }
        set(&self.notices_dropped, pool.counters.notices_dropped);
        let peer = &self.peer;
        peer.eni_max.set(pool.limits.enis.into());
        peer.ip_max.set(pool.limits.addresses.into());
        peer.total.set(totals.addresses.into());
        peer.assigned.set(totals.used.into());
        let drift = |kind| pool.counters.drift.get(kind).copied().unwrap_or(0);
        set(&peer.removed_enis, drift("eni_lost"));
        set(&peer.removed_ips, pool.counters.lost_addresses);
    }

    fn see_enis(&self, pool: &Snapshot) {
        for gauge in [
            &self.enis,
            &self.unmanaged,
            &self.blocks,
            &self.peer.per_eni,
        ] {
            gauge.reset();
        }
        self.in_doubt.set(0);
        self.peer.prefixes.set(0);
        let enis = i64::try_from(pool.enis.len()).unwrap_or(i64::MAX);
        self.peer.enis.set(enis);
        for eni in &pool.enis {
            self.enis.with_label_values(&[&label(eni.phase)]).inc();
            if let Some(why) = eni.unmanaged {
                self.unmanaged.with_label_values(&[why.label()]).inc();
            }
            if eni.in_doubt_since.is_some() {
                self.in_doubt.inc();
            }
            let used: usize = eni.blocks.iter().map(|block| block.used.len()).sum();
            self.peer
                .per_eni
                .with_label_values(&[&eni.id])
                .set(i64::try_from(used).unwrap_or(i64::MAX));
            for block in &eni.blocks {
                let prefix = block.block.contains('/');
                let kind = if prefix { "prefix" } else { "address" };
                self.blocks.with_label_values(&[kind]).inc();
                self.peer.prefixes.add(prefix.into());
            }
        }
    }
}
