//! [`PodWiring`] into the kernel. Everything is decided; here it is carried out, in three sends: the
//! veth, the host's side, the pod's side. On a failure what was done is undone.

mod compare;
mod existing;
mod sound;
mod unplug;

pub(crate) use compare::differences;
pub(crate) use unplug::Unplugged;

use crate::error::{CniError, code};
use crate::netlink::{Batch, Link, Socket, link_of, uapi, verbs};
use crate::netns::{Netns, NetnsError};
use crate::undo::Undo;
use ipam_core::wiring::{PodWiring, Rule, Sysctl};
use nix::errno::Errno;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

/// The two namespaces, each with a socket in it.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) netns: Netns,
    pub(crate) host: Socket,
    pub(crate) pod: Socket,
}

/// Why a pod is not wired.
#[derive(Debug)]
pub(crate) struct WireError {
    pub(crate) error: CniError,
    /// The veth that was made here was taken away by somebody else: with the pod's namespace, or
    /// by an ADD of the same attachment that counts on the lease.
    pub(crate) taken_away: bool,
}

impl From<CniError> for WireError {
    fn from(error: CniError) -> Self {
        Self {
            error,
            taken_away: false,
        }
    }
}

impl Kernel {
    /// Opens the pod's namespace and a socket on either side.
    pub(crate) fn open(netns: &str) -> Result<Self, CniError> {
        let netns = Netns::open(netns)?;
        let io = |errno: Errno| CniError::new(code::IO_FAILURE, format!("netlink socket: {errno}"));
        Self::inside(netns)?.map_err(io)
    }

    /// The same for a namespace that is open.
    pub(crate) fn inside(netns: Netns) -> Result<Result<Self, Errno>, NetnsError> {
        let sockets = Socket::open().map(|host| (host, netns.enter(Socket::open)));
        match sockets {
            Ok((host, pod)) => Ok(pod?.map(|pod| Self { netns, host, pod })),
            Err(errno) => Ok(Err(errno)),
        }
    }

    /// Wires the pod. What is there already and as it should be stays; an earlier sandbox of the same pod
    /// that is just being ended is waited for, until `deadline` at most.
    pub(crate) fn wire(&mut self, wiring: &PodWiring, deadline: Instant) -> Result<(), WireError> {
        sound::check(wiring)?;
        let link = match self.create(wiring)? {
            Some(link) => link,
            None => match existing::way(self, wiring, deadline)? {
                existing::Found::Complete => return Ok(()),
                existing::Found::InUse(error) => return Err(error.into()),
                existing::Found::Nothing => self.create(wiring)?.ok_or_else(|| {
                    // Whoever took the name within this millisecond, it wasn't us.
                    let msg = format!("{} or {} was taken again", wiring.host_if, wiring.pod_if);
                    CniError::new(code::TRY_AGAIN_LATER, msg)
                })?,
            },
        };
        let mut undo = Undo::of_link(link.index);
        let result = self.furnish(wiring, &link, &mut undo);
        result.map_err(|error| {
            let (error, taken_away) = undo.run(&mut self.host, error);
            WireError { error, taken_away }
        })
    }

    /// Whether a lease's own veth is on the host (no two leases have the same Ethernet addresses).
    /// In doubt it is.
    pub(crate) fn stands(&mut self, host_if: &str, host_mac: &str) -> bool {
        let is_own = |link: Link| {
            let mac = link.mac.map(|mac| mac.to_string());
            mac.is_some_and(|mac| mac.eq_ignore_ascii_case(host_mac))
        };
        self.host
            .link(host_if)
            .map_or(true, |link| link.is_some_and(is_own))
    }

    /// Both ends of the veth; `None` if a name is taken.
    fn create(&mut self, wiring: &PodWiring) -> Result<Option<Link>, CniError> {
        let host = verbs::End {
            name: &wiring.host_if,
            mac: wiring.host_mac,
        };
        let pod = verbs::End {
            name: &wiring.pod_if,
            mac: wiring.pod_mac,
        };
        let mut batch = Batch::default();
        verbs::create_veth(&mut batch, host, pod, wiring.mtu, self.netns.fd());
        verbs::get_link(&mut batch, &wiring.host_if);
        let step = || format!("create veth {} / {}", wiring.host_if, wiring.pod_if);
        let answers = self
            .host
            .exchange(batch)
            .map_err(|errno| failed(&step(), errno))?;
        let [created, found] = answers.as_slice() else {
            return Err(failed(&step(), Errno::EBADMSG));
        };
        match created.error {
            None => link_of(found)
                .map(Some)
                .ok_or_else(|| failed(&step(), Errno::ENODEV)),
            Some(Errno::EEXIST) => Ok(None),
            Some(errno) => Err(failed(&step(), errno)),
        }
    }

    fn furnish(&mut self, w: &PodWiring, link: &Link, undo: &mut Undo) -> Result<(), CniError> {
        sysctls(&w.host_sysctls)?;
        self.host_side(w, link, undo)?;
        if !w.pod_sysctls.is_empty() {
            self.netns.enter(|| sysctls(&w.pod_sysctls))??;
        }
        self.pod_side(w, link)
    }

    fn host_side(&mut self, w: &PodWiring, link: &Link, undo: &mut Undo) -> Result<(), CniError> {
        let mut batch = Batch::default();
        verbs::set_up(&mut batch, link.index);
        for neighbour in &w.host_neighbours {
            verbs::add_neighbour(&mut batch, neighbour, link.index, uapi::NUD_STALE);
        }
        for route in &w.host_routes {
            verbs::route(&mut batch, verbs::Change::Add, route, link.index);
        }
        let first_rule = batch.len();
        for rule in &w.host_rules {
            verbs::rule(&mut batch, verbs::Change::Add, rule);
        }
        let answers = self
            .host
            .exchange(batch)
            .map_err(|errno| failed("host side", errno))?;
        let rules = w.host_rules.iter().zip(answers.iter().skip(first_rule));
        undo.rules.extend(
            rules
                .filter(|(_, a)| a.error.is_none())
                .map(|(rule, _)| rule.clone()),
        );
        for (n, answer) in answers.iter().enumerate() {
            let Some(errno) = answer.error else { continue };
            return Err(failed(&host_step(w, n), errno));
        }
        Ok(())
    }

    fn pod_side(&mut self, w: &PodWiring, link: &Link) -> Result<(), CniError> {
        let pod = link
            .peer
            .ok_or_else(|| failed("find the pod's end", Errno::ENODEV))?;
        let mut batch = Batch::default();
        verbs::set_up(&mut batch, pod);
        for &net in &w.pod_addresses {
            verbs::add_address(&mut batch, pod, net);
        }
        for route in &w.pod_routes {
            verbs::route(&mut batch, verbs::Change::Add, route, pod);
        }
        for neighbour in &w.pod_neighbours {
            verbs::add_neighbour(&mut batch, neighbour, pod, uapi::NUD_PERMANENT);
        }
        self.pod
            .run(batch)
            .map_err(|(n, errno)| failed(&pod_step(w, n), errno))?;
        // Last, since they do not go with the link. One that is there already is as good.
        match self.pod_rules(&w.pod_rules, verbs::Change::Add) {
            Ok(()) => Ok(()),
            Err(errno) => {
                // What could not be added can't be taken away, and the link goes in any case.
                let _ = self.pod_rules(&w.pod_rules, verbs::Change::Delete);
                Err(failed("add a rule in the pod", errno))
            }
        }
    }

    /// Adds rules in the pod, or takes them away; the first failure, after all were tried.
    fn pod_rules(&mut self, rules: &[Rule], change: verbs::Change) -> Result<(), Errno> {
        let mut batch = Batch::default();
        for rule in rules {
            verbs::rule(&mut batch, change, rule);
        }
        let answers = self.pod.exchange(batch)?;
        let mut errors = answers.iter().filter_map(|answer| answer.error);
        errors
            .find(|errno| *errno != Errno::EEXIST)
            .map_or(Ok(()), Err)
    }
}

/// The `n`th request of the host's side, in words.
fn host_step(w: &PodWiring, n: usize) -> String {
    let Some(n) = n.checked_sub(1) else {
        return format!("set {} up", w.host_if);
    };
    if let Some(neighbour) = w.host_neighbours.get(n) {
        return format!("add neighbour {} dev {}", neighbour.ip, w.host_if);
    }
    let n = n - w.host_neighbours.len();
    if let Some(route) = w.host_routes.get(n) {
        return format!("add route {} dev {}", route.dst, w.host_if);
    }
    format!("add rule {:?}", w.host_rules.get(n - w.host_routes.len()))
}

/// The `n`th request of the pod's side, in words.
fn pod_step(w: &PodWiring, n: usize) -> String {
    let Some(n) = n.checked_sub(1) else {
        return format!("set the pod's {} up", w.pod_if);
    };
    if let Some(net) = w.pod_addresses.get(n) {
        return format!("add address {net} to the pod's {}", w.pod_if);
    }
    let n = n - w.pod_addresses.len();
    if let Some(route) = w.pod_routes.get(n) {
        return format!("add route {} in the pod", route.dst);
    }
    let neighbour = w.pod_neighbours.get(n - w.pod_routes.len());
    format!(
        "add neighbour {} in the pod",
        neighbour.map_or_else(String::new, |n| n.ip.to_string())
    )
}

/// A step that the kernel refused.
fn failed(step: &str, errno: Errno) -> CniError {
    let msg = format!("wiring the pod: {step}: {}", errno.desc());
    CniError::new(code::WIRING_FAILED, msg)
}

/// Writes settings of the calling thread's network namespace.
fn sysctls(settings: &[Sysctl]) -> Result<(), CniError> {
    for sysctl in settings {
        let path = Path::new("/proc/sys").join(&sysctl.key);
        match write_sysctl(&path, &sysctl.value) {
            Err(error) if sysctl.required => {
                let msg = format!(
                    "wiring the pod: set {} = {}: {error}",
                    sysctl.key, sysctl.value
                );
                return Err(CniError::new(code::WIRING_FAILED, msg));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A read-only `/proc/sys` is no harm where the value is right already.
fn write_sysctl(path: &Path, value: &str) -> io::Result<()> {
    let written = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    match written {
        Err(_) if fs::read_to_string(path).is_ok_and(|now| now.trim() == value) => Ok(()),
        other => other,
    }
}
