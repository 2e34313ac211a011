//! Opens the store and reads what this boot and this instance may use.

use super::files::{self, Generation};
use super::opening::{Records, Unopened};
use super::{COOLDOWN, ENI, FACTS, FLEET, LEASE, META, Meta, SledStore, opening, record, times};
use crate::clock::Offset;
use ipam_engine::ports::{Loaded, StoreError};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::io;
use std::path::{Path, PathBuf};

/// An open store and what it holds.
#[derive(Debug)]
pub struct Opened {
    /// For the engine.
    pub store: SledStore,
    /// What this boot may use.
    pub loaded: Loaded,
}

/// The store can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process: is another ipamd running?")]
    InUse(PathBuf),
    /// The directory can't be used.
    #[error("{what} {path}")]
    Files {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The database does not open now, for a reason that is not damage. It is left as it is.
    #[error(
        "opening the database {path}: {cause}. It is left untouched, for the next start to try again"
    )]
    Unavailable {
        /// Where.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// Not even an empty database can be made there.
    #[error("making an empty database in {path}: {cause}")]
    Empty {
        /// Where.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The first write failed.
    #[error("writing the first record")]
    Write(#[from] StoreError),
}

/// Opens the store in `dir` for the boot `boot_id`. Whatever is on the disk, a usable store comes
/// back as long as the system has what a database needs: room, descriptors, threads and time.
///
/// # Errors
/// Another process has it, the directory can't be used, or the system lacks something. The database is
/// then left as it was.
pub fn open(dir: &Path, boot_id: &str) -> Result<Opened, OpenError> {
    open_at(dir, boot_id, Offset::now())
}

/// The same on a system whose wall time and uptime lie so to each other.
pub(super) fn open_at(
    dir: &Path,
    boot_id: &str,
    offset: Option<Offset>,
) -> Result<Opened, OpenError> {
    let at = |what, source| OpenError::Files {
        what,
        path: dir.into(),
        source,
    };
    files::make_dir(dir).map_err(|error| at("making", error))?;
    let lock = files::lock(dir)
        .map_err(|error| at("locking", error))?
        .ok_or_else(|| OpenError::InUse(dir.into()))?;
    let (generation, commits) =
        Generation::open(dir).map_err(|error| at("reading the count of commits in", error))?;

    files::finish_swap(dir).map_err(|error| at("looking for the database in", error))?;

    let mut damage = Vec::new();
    let (mut db, records) = open_or_replace(dir, &mut damage)?;
    let is_new = !damage.is_empty();
    let (meta, mut loaded) = sort_records(&records, boot_id, damage);
    if commits.is_some_and(|commits| commits > meta.generation) {
        loaded.damage.push(format!(
            "the database came back at commit {} of {}: later changes are lost",
            meta.generation,
            commits.unwrap_or_default()
        ));
    }
    if !is_new && !loaded.damage.is_empty() {
        db = start_anew(dir, db, &records, &mut loaded.damage)?;
    }
    // Of an earlier start that ended before EC2 had told all.
    loaded.damage.extend(meta.damage.iter().cloned());
    // Within a boot it can't be another's; after a reboot the engine compares it with IMDS's word.
    loaded.instance.clone_from(&meta.instance_id);
    let step = times::step(meta.offset, offset, loaded.same_boot);
    times::set_forward(&mut loaded, step);
    let anew = step != 0 || !loaded.same_boot || meta.offset.is_none();
    let mut store = SledStore {
        db,
        meta,
        generation,
        path: dir.join("db"),
        with_leases: false,
        _lock: lock,
    };
    store.meta.damage.clone_from(&loaded.damage);
    store.meta.trusted &= loaded.same_boot && loaded.damage.is_empty();
    loaded.trusted = store.meta.trusted;
    store.meta.generation = store.meta.generation.max(commits.unwrap_or_default());
    if anew {
        store.meta.offset = offset;
    }
    if step != 0 || !loaded.same_boot || !loaded.damage.is_empty() {
        store.rebind(boot_id, &records, &loaded)?;
    }
    if let Err(error) = files::close_to_others(dir) {
        tracing::warn!(%error, dir = %dir.display(), "others may read the state: its files' modes can't be set");
    }
    Ok(Opened { store, loaded })
}

impl SledStore {
    /// Makes the disk agree with `loaded`: what may not be used goes, and the boot is noted.
    fn rebind(&mut self, boot: &str, records: &Records, loaded: &Loaded) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        // Records of a newer version stay where they are.
        for (key, _) in records.iter().filter(|(key, _)| is_known(key)) {
            batch.remove(key);
        }
        for eni in &loaded.enis {
            super::put(&mut batch, &super::eni_key(eni.handle), eni)?;
        }
        for (ip, released) in &loaded.cooldowns {
            super::put(&mut batch, &super::cooldown_key(*ip), &(ip, released))?;
        }
        for lease in &loaded.leases {
            super::put(&mut batch, &super::lease_key(&lease.key), lease)?;
        }
        if let Some(facts) = &loaded.facts {
            super::put(&mut batch, FACTS, facts)?;
        }
        if let Some(fleet) = &loaded.fleet {
            super::put(&mut batch, FLEET, fleet)?;
        }
        self.meta.boot_id = boot.into();
        self.settle(batch)
    }
}

/// Opens the database; one that is damaged is put aside for an empty one.
fn open_or_replace(dir: &Path, damage: &mut Vec<String>) -> Result<(sled::Db, Records), OpenError> {
    let path = dir.join("db");
    let cause = match opening::open(&path) {
        Ok(opened) => return Ok(opened),
        Err(Unopened::Damaged(cause)) => cause,
        Err(Unopened::Unavailable(cause)) => return Err(OpenError::Unavailable { path, cause }),
    };
    // The new one first: without it, the damaged one is all there is.
    let fresh = dir.join(files::FRESH);
    if let Err(empty) = copy_readable(&fresh, &Vec::new()) {
        let cause = format!("{empty}; the present one can't be read ({cause})");
        return Err(OpenError::Empty { path: fresh, cause });
    }
    let aside = put_in_place(dir, &path)?;
    damage.push(format!(
        "the database can't be read ({cause}); it is now {}",
        aside.display()
    ));
    opening::open(&path).map_err(|error| OpenError::Empty {
        path,
        cause: error.to_string(),
    })
}

/// Puts aside a database in which damage was found, and goes on with a new one: what is damaged in one
/// place may be in others, and a person may want to see it. Whatever happens on the way, one of the two
/// is found by the next start, with every record that can be read.
fn start_anew(
    dir: &Path,
    old: sled::Db,
    records: &Records,
    damage: &mut [String],
) -> Result<sled::Db, OpenError> {
    let path = dir.join("db");
    if let Err(cause) = copy_readable(&dir.join(files::FRESH), records) {
        tracing::warn!(
            %cause,
            "the damaged database stays in use: no new one can be made"
        );
        return Ok(old);
    }
    drop(old);
    let aside = put_in_place(dir, &path)?;
    if let Some(first) = damage.first_mut() {
        first.push_str("; the damaged database is now ");
        first.push_str(&aside.display().to_string());
    }
    let opened = opening::open(&path);
    opened.map(|(db, _)| db).map_err(|error| OpenError::Empty {
        path,
        cause: error.to_string(),
    })
}

fn put_in_place(dir: &Path, db: &Path) -> Result<PathBuf, OpenError> {
    files::swap(dir, db).map_err(|source| OpenError::Files {
        what: "putting a new database in place of the damaged one in",
        path: dir.into(),
        source,
    })
}

/// A database of the records that are whole, and of those of a newer version.
fn copy_readable(path: &Path, records: &Records) -> Result<(), Unopened> {
    let (db, _) = opening::open(path)?;
    let mut batch = sled::Batch::default();
    let mut has_leases = false;
    for (key, value) in records {
        if is_foreign(key) || record::decode::<IgnoredAny>(key, value).is_ok() {
            has_leases |= key.first() == Some(&LEASE);
            batch.insert(key, value);
        }
    }
    let written = db.apply_batch(batch).and_then(|()| db.flush());
    written.map_err(|error| Unopened::Unavailable(error.to_string()))?;
    if !has_leases {
        files::mark_without_leases(path)?;
    }
    Ok(())
}

fn is_known(key: &[u8]) -> bool {
    key == FACTS || key == FLEET || matches!(key.first(), Some(&(LEASE | COOLDOWN | ENI)))
}

/// Of a newer version: it means nothing to us.
fn is_foreign(key: &[u8]) -> bool {
    key != META && !is_known(key)
}

/// Decodes one record, or tells that it can't.
fn take<T: DeserializeOwned>(key: &[u8], bytes: &[u8], damage: &mut Vec<String>) -> Option<T> {
    match record::decode(key, bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            damage.push(format!(
                "record \"{}\" {error}; left out",
                key.escape_ascii()
            ));
            None
        }
    }
}

/// What of the records this boot may use.
fn sort_records(records: &Records, boot_id: &str, damage: Vec<String>) -> (Meta, Loaded) {
    let mut loaded = Loaded {
        damage,
        ..Loaded::default()
    };
    let mut meta: Option<Meta> = None;
    for (key, value) in records {
        match key.first() {
            Some(_) if key == META => meta = take(key, value, &mut loaded.damage),
            Some(_) if key == FACTS => loaded.facts = take(key, value, &mut loaded.damage),
            Some(_) if key == FLEET => loaded.fleet = take(key, value, &mut loaded.damage),
            Some(&LEASE) => loaded.leases.extend(take(key, value, &mut loaded.damage)),
            Some(&COOLDOWN) => loaded
                .cooldowns
                .extend(take(key, value, &mut loaded.damage)),
            Some(&ENI) => loaded.enis.extend(take(key, value, &mut loaded.damage)),
            // Of a newer version: it means nothing to us, and is left where it is.
            _ => {}
        }
    }
    let fresh = records.is_empty();
    if meta.is_none() && !fresh {
        loaded
            .damage
            .push("the record that says whose state this is can't be read".into());
    }
    let meta = meta.unwrap_or(Meta {
        boot_id: String::new(),
        instance_id: None,
        generation: 0,
        trusted: false,
        damage: Vec::new(),
        offset: None,
    });
    loaded.same_boot = meta.boot_id == boot_id;
    if !loaded.same_boot {
        // Pods do not outlive a boot, and facts may be another instance's.
        loaded.leases.clear();
        loaded.facts = None;
    }
    (meta, loaded)
}
