//! A store in memory: what is committed is durable at once.

use ipam_core::orphans::Fleet;
use ipam_core::{AttachmentKey, Eni, EniHandle, Lease};
use ipam_engine::ports::{Loaded, NodeFacts, Released, Store, StoreError, Write};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Debug, Default)]
struct Records {
    leases: BTreeMap<AttachmentKey, Lease>,
    cooldowns: BTreeMap<IpAddr, Released>,
    enis: BTreeMap<EniHandle, Eni>,
    facts: Option<NodeFacts>,
    fleet: Option<Fleet>,
    commits: u64,
}

/// See the module. Survives restarts of the daemon; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Records>>);

impl Memory {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many batches were committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.records().commits
    }

    /// Loses everything, as a disk that was replaced.
    pub fn wipe(&self) {
        *self.records() = Records::default();
    }

    /// What a daemon finds that starts now, in the same boot.
    #[must_use]
    pub fn load(&self) -> Loaded {
        let records = self.records().clone();
        Loaded {
            same_boot: true,
            instance: records.facts.as_ref().map(|f| f.instance_id.clone()),
            leases: records.leases.into_values().collect(),
            cooldowns: records.cooldowns,
            enis: records.enis.into_values().collect(),
            facts: records.facts,
            fleet: records.fleet,
            damage: Vec::new(),
        }
    }
}

impl Store for Memory {
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let mut records = self.records();
        records.commits += 1;
        for write in batch.iter().cloned() {
            match write {
                Write::Lease(lease) => drop(records.leases.insert(lease.key.clone(), lease)),
                Write::NoLease(key) => drop(records.leases.remove(&key)),
                Write::Cooldown(ip, released) => drop(records.cooldowns.insert(ip, released)),
                Write::NoCooldown(ip) => drop(records.cooldowns.remove(&ip)),
                Write::Eni(eni) => drop(records.enis.insert(eni.handle, eni)),
                Write::NoEni(handle) => drop(records.enis.remove(&handle)),
                Write::Facts(facts) => records.facts = Some(facts),
                Write::Fleet(fleet) => records.fleet = Some(fleet),
            }
        }
        Ok(())
    }
}
