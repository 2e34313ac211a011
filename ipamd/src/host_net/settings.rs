//! Settings of the kernel without which pods' packets go nowhere, and that host tools write for the whole host:
//! a hardening script, a package's sysctl.d.
//!
//! The kernel tells nobody of most of them, so they are looked at each second: a file each.

use super::KernelNet;
use super::netlink::Refused;
use ipam_core::wiring::HostWiring;
use ipam_engine::ports::HostNetError;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// A file below `/proc/sys/net`, and what it must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    key: String,
    value: &'static str,
}

impl Setting {
    fn new(key: impl Into<String>, value: &'static str) -> Self {
        let key = key.into();
        Self { key, value }
    }

    fn path(&self) -> PathBuf {
        Path::new("/proc/sys/net").join(&self.key)
    }

    /// One that is not there (IPv6 switched off, a link that has gone) can't be wrong.
    fn is_so(&self) -> bool {
        fs::read_to_string(self.path()).is_ok_and(|text| text.trim() == self.value)
            || !self.path().exists()
    }

    /// Writes it if it is not so: `/proc/sys` is read-only in an unprivileged container.
    fn make(&self) -> Result<(), HostNetError> {
        if self.is_so() {
            return Ok(());
        }
        let setting = format!("net.{}", self.key.replace('/', "."));
        match fs::write(self.path(), self.value) {
            Ok(()) => {
                let (cause, value) = ("host_tool", self.value);
                tracing::warn!(
                    cause,
                    setting,
                    value,
                    "a setting was changed and is put back"
                );
                Ok(())
            }
            Err(error) => Err(Refused::Kernel(error).while_doing(format!(
                "setting {setting} to {}, without which pods reach nobody",
                self.value
            ))),
        }
    }
}

/// Those of the whole host.
fn of_host(wiring: &HostWiring) -> Vec<Setting> {
    let mut all = vec![Setting::new("ipv4/ip_forward", "1")];
    if wiring.six.forwards {
        // Links of pods to come are made by it.
        all.push(Setting::new("ipv6/conf/default/disable_ipv6", "0"));
        all.push(Setting::new("ipv6/conf/all/disable_ipv6", "0"));
        all.push(Setting::new("ipv6/conf/all/forwarding", "1"));
    }
    all
}

impl KernelNet {
    /// Makes them so, and has them looked at from now on, with those of the ENIs' `links`.
    pub(super) fn keep_settings(
        &self,
        wiring: &HostWiring,
        links: &[&str],
    ) -> Result<(), HostNetError> {
        let host = of_host(wiring);
        let done: Result<Vec<()>, _> = host.iter().map(Setting::make).collect();
        // By netlink: see the links.
        let of_link = |link: &&str| Setting::new(format!("ipv4/conf/{link}/rp_filter"), "2");
        let all = host.into_iter().chain(links.iter().map(of_link));
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
        done.map(drop)
    }

    /// Those that are not as they must be.
    pub(super) fn amiss(&self) -> Vec<Setting> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = watched.iter().filter(|setting| !setting.is_so());
        wrong.cloned().collect()
    }
}
