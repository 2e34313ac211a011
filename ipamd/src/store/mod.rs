//! The node's state on disk: sled in one directory, behind the engine's `Store` port.
//!
//! One tree, keys `m` (whose state it is), `f` (facts), `l…` (leases), `c…` (cooldowns), `e…`
//! (ENIs): a batch over one tree is atomic without sled's transactions, and one flush makes it
//! durable.
//!
//! sled 0.34 opens a damaged file without a word and shows an older state. Two things stand against
//! that: a count of commits beside the database tells when it came back older than it was, and the
//! engine compares leases with the kernel. No damage on the disk can stop the daemon from starting; what
//! can't be read is put aside for a person. What is no damage (no room, no descriptors, no time) ends the
//! start with its reason, and the database stays where it is.

mod files;
mod load;
mod opening;
mod record;
mod times;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod want;

pub use load::{OpenError, Opened, open};

use crate::clock::Offset;
use files::Generation;
use ipam_core::InstanceId;
use ipam_engine::ports::{Store, StoreError, Write};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Whose state this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    /// The boot in which leases were written.
    boot_id: String,
    /// The instance, once IMDS has told.
    instance_id: Option<InstanceId>,
    /// Commits so far.
    generation: u64,
    /// How wall time and uptime lay to each other when the times in the records were noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
    /// [`Write::Trusted`] in this boot, and nothing was lost since.
    #[serde(default = "before_it_was_noted")]
    trusted: bool,
    /// What was lost, until EC2 has made up for it: a run that ends before has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    damage: Vec<String>,
}

const fn before_it_was_noted() -> bool {
    true
}

const META: &[u8] = b"m";
const FACTS: &[u8] = b"f";
const FLEET: &[u8] = b"o";
const LEASE: u8 = b'l';
const COOLDOWN: u8 = b'c';
const ENI: u8 = b'e';

/// The engine's store. One process at a time has it.
#[derive(Debug)]
pub struct SledStore {
    db: sled::Db,
    meta: Meta,
    generation: Generation,
    /// The database's directory.
    path: PathBuf,
    /// Whether the directory says that there may be leases: see [`files::mark_with_leases`].
    with_leases: bool,
    /// Held as long as the store is open.
    _lock: File,
}

fn failed(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError {
        what: what.into(),
        source: source.into(),
    }
}

fn lease_key(key: &ipam_core::AttachmentKey) -> Vec<u8> {
    let mut bytes = vec![LEASE];
    // Lengths first: no two keys share their bytes, whatever characters names have.
    for part in [&key.network, &key.container_id, &key.if_name] {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn cooldown_key(ip: IpAddr) -> Vec<u8> {
    let mut bytes = vec![COOLDOWN];
    bytes.extend_from_slice(ip.to_string().as_bytes());
    bytes
}

fn eni_key(handle: ipam_core::EniHandle) -> Vec<u8> {
    let mut bytes = vec![ENI];
    bytes.extend_from_slice(&handle.0.to_be_bytes());
    bytes
}

fn put<T: Serialize>(batch: &mut sled::Batch, key: &[u8], value: &T) -> Result<(), StoreError> {
    let bytes = record::encode(key, value).map_err(|error| failed("encoding a record", error))?;
    batch.insert(key, bytes);
    Ok(())
}

impl SledStore {
    fn stage(&mut self, batch: &mut sled::Batch, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Lease(lease) => {
                if !self.with_leases {
                    files::mark_with_leases(&self.path)
                        .map_err(|error| failed("noting that there are leases", error))?;
                    self.with_leases = true;
                }
                put(batch, &lease_key(&lease.key), lease)?;
            }
            Write::NoLease(key) => batch.remove(lease_key(key)),
            Write::Cooldown(ip, released) => put(batch, &cooldown_key(*ip), &(ip, released))?,
            Write::NoCooldown(ip) => batch.remove(cooldown_key(*ip)),
            Write::Eni(eni) => put(batch, &eni_key(eni.handle), eni)?,
            Write::NoEni(handle) => batch.remove(eni_key(*handle)),
            Write::Facts(facts) => {
                self.meta.instance_id = Some(facts.instance_id.clone());
                put(batch, FACTS, facts)?;
            }
            Write::Fleet(fleet) => put(batch, FLEET, fleet)?,
            Write::Trusted => {
                self.meta.trusted = true;
                self.meta.damage.clear();
            }
        }
        Ok(())
    }

    /// Makes a batch durable, with the count of commits in it.
    fn settle(&mut self, mut batch: sled::Batch) -> Result<(), StoreError> {
        self.meta.generation += 1;
        put(&mut batch, META, &self.meta)?;
        // sled panics on some kinds of damage; a daemon with pods must not go down with it.
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.db.apply_batch(batch)?;
            self.db.flush()
        }));
        match done {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(failed("writing", error)),
            Err(_) => return Err(failed("writing", "the database panicked; see the log")),
        }
        self.generation
            .write(self.meta.generation)
            .map_err(|error| failed("counting commits", error))
    }
}

impl Store for SledStore {
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for write in writes {
            self.stage(&mut batch, write)?;
        }
        self.settle(batch)
    }
}
