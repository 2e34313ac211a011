//! What the plugin leaves when a DEL finds no daemon: one small file per released attachment, which
//! the daemon reads and removes, at its start and while it lives.
//!
//! The file is `<spool directory>/<name>` with [`Tombstone::file_name`], written to a temporary name
//! (beginning with `.`, which the daemon passes over) and renamed. Its text, one `key=value` a line,
//! `%XX` for bytes outside printable ASCII and for `%`:
//!
//! ```text
//! ipamd-tombstone 1
//! network=aws-cni
//! container_id=0123abcd
//! if_name=eth0
//! pod_namespace=default
//! pod_name=web-0
//! pod_uid=
//! released_ms=1795267200000
//! boot_id=6ad24a3b-2f4c-4b0b-9f0e-3f2a1c7d9e10
//! address=10.0.3.17
//! end
//! ```
//!
//! `address` may be there any number of times, the others once. Unknown keys are passed over, so
//! that an older daemon reads a newer plugin's file; a file without `end` was cut and is damaged.
//! **The daemon listens first and drains then.** The plugin writes its file and tries the socket once
//! more: if that fails too, the daemon that comes next finds the file, or the one that is there (it hung,
//! or its socket could not be opened) when it looks again. An ADD of the same attachment removes it: what
//! it noted is no longer wanted.
//!
//! Tombstones of another boot say nothing about today's leases, except when their addresses rest.

use core::net::IpAddr;
use ipam_core::{AttachmentKey, PodRef, Timestamp};
use mutant::mutant;
use std::fmt::{self, Write as _};

/// Where the plugin spools and the daemon looks.
pub const SPOOL_DIR: &str = "/var/lib/ipamd/spool";

/// At most so many files are spooled; a DEL beyond that is refused with "try again later".
pub const SPOOL_MAX: usize = 4096;

const HEADER: &str = "ipamd-tombstone 1";

/// A release that the daemon has not heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Of this attachment,
    pub key: AttachmentKey,
    /// of this pod, as far as the runtime told,
    pub pod: PodRef,
    /// at this time by the wall clock,
    pub released: Timestamp,
    /// in this boot (`/proc/sys/kernel/random/boot_id`; empty if it could not be read).
    pub boot_id: String,
    /// The addresses that the DEL's prevResult named.
    pub addresses: Vec<IpAddr>,
}

/// A file that is no tombstone, or was cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TombstoneError {
    /// Another first line.
    #[error("the first line is not {HEADER:?}")]
    Header,
    /// No `end`.
    #[error("the last line is missing: the file was cut")]
    Cut,
    /// A field is not there, or there twice, or holds something else.
    #[error("field {0} is missing, doubled or unreadable")]
    Field(&'static str),
}

/// The same for the same attachment, so that a repeated DEL replaces its file: an FNV-1a hash of
/// the key in hex. Never begins with `.`.
#[must_use]
pub fn file_name(key: &AttachmentKey) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let parts = [&key.network, &key.container_id, &key.if_name];
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The hash tells files apart, the id lets a person find one.
    let id = key.container_id.bytes().filter(u8::is_ascii_alphanumeric);
    let id: String = id.take(64).map(char::from).collect();
    format!("{hash:016x}-{id}")
}

impl Tombstone {
    /// Its file's: see [`file_name`].
    #[must_use]
    pub fn file_name(&self) -> String {
        file_name(&self.key)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// The text is no whole tombstone.
    pub fn parse(text: &str) -> Result<Self, TombstoneError> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(TombstoneError::Header);
        }
        let mut fields: [(&'static str, Option<String>); 8] = NAMES.map(|name| (name, None));
        let mut addresses = Vec::new();
        loop {
            let line = mutant!(
                "spool/cut-note-is-refused",
                lines.next().ok_or(TombstoneError::Cut)?,
                lines.next().unwrap_or("end")
            );
            if line == "end" {
                break;
            }
            let (name, value) = line.split_once('=').ok_or(TombstoneError::Cut)?;
            if name == "address" {
                addresses.push(
                    value
                        .parse()
                        .map_err(|_| TombstoneError::Field("address"))?,
                );
            } else if let Some((name, slot)) = fields.iter_mut().find(|(n, _)| *n == name) {
                let value = unescape(value).ok_or(TombstoneError::Field(name))?;
                if mutant!(
                    "spool/doubled-field-is-refused",
                    slot.replace(value).is_some(),
                    slot.replace(value).is_some() && line.is_empty()
                ) {
                    return Err(TombstoneError::Field(name));
                }
            }
        }
        let mut take = |n: usize| {
            let (name, value) = &mut fields[n];
            value.take().ok_or(TombstoneError::Field(name))
        };
        Ok(Self {
            key: AttachmentKey {
                network: take(0)?,
                container_id: take(1)?,
                if_name: take(2)?,
            },
            pod: PodRef {
                namespace: take(3)?,
                name: take(4)?,
                uid: take(5)?,
            },
            released: take(6)?
                .parse()
                .map(Timestamp)
                .map_err(|_| TombstoneError::Field("released_ms"))?,
            boot_id: take(7)?,
            addresses,
        })
    }
}

const NAMES: [&str; 8] = [
    "network",
    "container_id",
    "if_name",
    "pod_namespace",
    "pod_name",
    "pod_uid",
    "released_ms",
    "boot_id",
];

/// The file's text.
impl fmt::Display for Tombstone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let released = self.released.0.to_string();
        let values: [&str; 8] = [
            &self.key.network,
            &self.key.container_id,
            &self.key.if_name,
            &self.pod.namespace,
            &self.pod.name,
            &self.pod.uid,
            &released,
            &self.boot_id,
        ];
        writeln!(f, "{HEADER}")?;
        for (name, value) in NAMES.iter().zip(values) {
            write!(f, "{name}=")?;
            escape(f, value)?;
            f.write_char('\n')?;
        }
        for address in &self.addresses {
            writeln!(f, "address={address}")?;
        }
        f.write_str("end\n")
    }
}

fn escape(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
