//! DEL: release first, then the pod's end out of the way, then the host's routes. The veth itself goes with the
//! pod's namespace or by the daemon's sweep: taking it away in line would cost an RCU grace period.

use super::no_reply;
use crate::error::{CniError, code};
use crate::netlink::{Batch, Link, Socket, verbs};
use crate::netns::{Netns, NetnsError};
use crate::request::{Attachment, Conf, PrevResult};
use crate::rpc::Daemon;
use crate::spool::spool;
use crate::wire::{Kernel, Unplugged};
use ipam_core::wiring::{Route, Rule, Scope, TABLE_MAIN, is_of_attachment};
use ipam_core::{AttachmentKey, Mac};
use ipam_proto::v1;
use ipnet::IpNet;
use nix::errno::Errno;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(10);
/// For the second try, which is only for a daemon that has just come.
const SECOND: Duration = Duration::from_secs(1);
/// For an ADD that is just wiring the pod.
const WIRING_TIME: Duration = Duration::from_millis(250);

/// Gone already is as good.
const GONE: [Errno; 3] = [Errno::ESRCH, Errno::ENOENT, Errno::ENODEV];

fn host_route(ip: IpAddr, dev: &str) -> Route {
    Route {
        dst: IpNet::from(ip),
        via: None,
        dev: dev.into(),
        scope: Scope::Link,
        table: TABLE_MAIN,
    }
}

/// What to remove from the host's namespace.
#[derive(Debug, Default)]
struct Remains {
    /// Host ends, with their Ethernet address where it is known.
    links: Vec<(String, Option<Mac>)>,
    addresses: Vec<IpAddr>,
    rules: Vec<Rule>,
    /// In the pod's namespace: a further interface's. It may go while the pod stays.
    pod_rules: Vec<Rule>,
}

/// Releases and cleans up. An attachment that nobody knows is gone already; with the daemon away the
/// release is spooled.
pub(crate) fn del(attachment: &Attachment, conf: &Conf) -> Result<(), CniError> {
    let prev = conf.prev_result.as_ref();
    let request = v1::ReleaseRequest {
        key: Some(attachment.key.clone().into()),
        pod: Some(attachment.pod.clone().into()),
        addresses: prev.map_or_else(Vec::new, |prev| texts(&prev.addresses)),
        reason: "del".into(),
    };
    let mut daemon = Daemon::at(&conf.socket);
    let mut remains = Remains::default();
    // One try: a daemon that is away finds the release in the spool.
    match daemon.release_now(&request, Instant::now() + DEADLINE) {
        Ok(reply) => remains.named_by_daemon(reply)?,
        Err(error) if error.unheard() => {
            if let Some(reply) = leave_word(attachment, conf, &request, &no_reply(&error))? {
                remains.named_by_daemon(reply)?;
            }
        }
        Err(error) => return Err(no_reply(&error)),
    }
    if let Some(prev) = prev {
        remains.named_by_runtime(prev);
    }
    // An ADD that had its lease before it was released may be adding the routes right now. The
    // release doesn't wait for it, since it is what ends an ADD that waits for an address. A
    // namespace that is gone, or locked for longer, keeps no route from being removed.
    match pods_side(&attachment.netns)? {
        Some(mut kernel) => {
            remains.unplug(&mut kernel, &attachment.key);
            remains.clear(&mut kernel.host)
        }
        None => remains.clear(&mut host_side()?),
    }
}

/// Both sides, if the pod's namespace is still there.
fn pods_side(netns: &str) -> Result<Option<Kernel>, CniError> {
    let Ok(netns) = Netns::open(netns) else {
        return Ok(None);
    };
    let _ = netns.lock(Instant::now() + WIRING_TIME);
    match Kernel::inside(netns) {
        Ok(kernel) => Ok(kernel.ok()),
        // The host's routes must not be looked for in the pod.
        Err(lost @ NetnsError::Lost(_)) => Err(lost.into()),
        Err(_) => Ok(None),
    }
}

fn host_side() -> Result<Socket, CniError> {
    Socket::open().map_err(not_removed)
}

fn not_removed(errno: Errno) -> CniError {
    let msg = format!("removing the pod's routes: {}", errno.desc());
    CniError::new(code::IO_FAILURE, msg)
}

/// The kernel's part of a DEL.
#[cfg(feature = "floor")]
pub(crate) fn forget(
    netns: &str,
    key: &AttachmentKey,
    host_if: &str,
    addresses: Vec<IpAddr>,
) -> Result<(), CniError> {
    let mut remains = Remains {
        links: vec![(host_if.to_owned(), None)],
        addresses,
        ..Remains::default()
    };
    match pods_side(netns)? {
        Some(mut kernel) => {
            remains.unplug(&mut kernel, key);
            remains.clear(&mut kernel.host)
        }
        None => remains.clear(&mut host_side()?),
    }
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// Spools the release and asks once more: a daemon that has just come may have looked into the
/// spool before the file was there.
fn leave_word(
    attachment: &Attachment,
    conf: &Conf,
    request: &v1::ReleaseRequest,
    away: &CniError,
) -> Result<Option<v1::ReleaseReply>, CniError> {
    // Success would lose the release, also where no result is told: the runtime may have lost that.
    let spooled = spool(attachment, conf).map_err(|error| {
        let msg = format!(
            "{}, and the release can't be kept in {}",
            away.msg, conf.spool_dir
        );
        CniError::new(code::TRY_AGAIN_LATER, msg).with(error)
    })?;
    let reply = Daemon::at(&conf.socket)
        .release_now(request, Instant::now() + SECOND)
        .ok();
    if reply.is_some() {
        spooled.remove();
    }
    Ok(reply)
}

impl Remains {
    fn named_by_daemon(&mut self, reply: v1::ReleaseReply) -> Result<(), CniError> {
        if let Some(refusal) = reply.refusal {
            return Err(refusal.into());
        }
        let unreadable = |error| CniError::new(code::PROTOCOL, format!("ipamd's reply: {error}"));
        let addresses = ipam_proto::addresses("addresses", &reply.addresses).map_err(unreadable)?;
        self.addresses.extend(addresses);
        if !reply.host_if.is_empty() {
            self.links.push((reply.host_if, None));
        }
        for rule in reply.host_rules {
            self.rules.push(Rule::try_from(rule).map_err(unreadable)?);
        }
        for rule in reply.pod_rules {
            self.pod_rules
                .push(Rule::try_from(rule).map_err(unreadable)?);
        }
        Ok(())
    }

    /// Takes the interface and the rules in the pod away: of this attachment alone, whatever has its name by
    /// now. Its host end has an Ethernet address that was made for it, or the one that the runtime's result names
    /// (another daemon may have made that). A namespace that is just going is as good.
    fn unplug(&mut self, kernel: &mut Kernel, key: &AttachmentKey) {
        let is_own = |host: &Link| {
            let named = |(name, mac): &(String, Option<Mac>)| {
                *name == host.name && mac.is_some() && *mac == host.mac
            };
            host.mac.is_some_and(|mac| is_of_attachment(mac, key)) || self.links.iter().any(named)
        };
        let unplugged = kernel.unplug(&key.if_name, &self.pod_rules, is_own);
        if let Ok(Some(Unplugged { host, addresses })) = unplugged {
            // Without a daemon and a result nothing else tells of the routes.
            self.addresses.extend(addresses);
            self.links.retain(|(name, _)| *name != host.name);
            self.links.push((host.name, host.mac));
        }
    }

    /// What the result of the ADD named. Host interfaces of other plugins carry no route of ours.
    fn named_by_runtime(&mut self, prev: &PrevResult) {
        self.addresses.extend(&prev.addresses);
        for interface in prev.interfaces.iter().filter(|i| !i.in_container) {
            match self
                .links
                .iter_mut()
                .find(|(name, _)| *name == interface.name)
            {
                // Both name it: then it must be the very same veth.
                Some((_, mac)) => *mac = mac.or(interface.mac),
                None => self.links.push((interface.name.clone(), interface.mac)),
            }
        }
    }

    /// Removes the routes that leave by this attachment's own host end, and no other: the address
    /// may be another pod's by now, and so may the name (a pod created again under its name; its
    /// veth has another Ethernet address).
    fn clear(mut self, host: &mut Socket) -> Result<(), CniError> {
        self.addresses.sort_unstable();
        self.addresses.dedup();
        if self.links.is_empty() && self.rules.is_empty() {
            return Ok(());
        }
        let failed = not_removed;
        let mut batch = Batch::default();
        for (name, mac) in &self.links {
            let Some(link) = host.link(name).map_err(failed)? else {
                continue;
            };
            if mac.is_some_and(|mac| link.mac != Some(mac)) {
                continue;
            }
            for &ip in &self.addresses {
                let route = host_route(ip, name);
                verbs::route(&mut batch, verbs::Change::Delete, &route, link.index);
            }
        }
        for rule in &self.rules {
            verbs::rule(&mut batch, verbs::Change::Delete, rule);
        }
        let answers = host.exchange(batch).map_err(failed)?;
        // The rest was tried in any case.
        match answers
            .iter()
            .filter_map(|a| a.error)
            .find(|errno| !GONE.contains(errno))
        {
            Some(errno) => Err(failed(errno)),
            None => Ok(()),
        }
    }
}

/// Leases whose remains are removed with one exchange: the kernel takes 20 ms for each veth.
const AT_ONCE: usize = 32;

/// Removes what ended leases left: their routes, then their links, which are known by their Ethernet
/// addresses. Goes on where one can't be removed, and tells the first of these.
pub(super) fn clear_collected(collected: &[v1::Collected]) -> Result<(), CniError> {
    if collected.is_empty() {
        return Ok(());
    }
    let failed = |errno: Errno| {
        let msg = format!("removing what stale attachments left: {}", errno.desc());
        CniError::new(code::IO_FAILURE, msg)
    };
    let unreadable = |error| CniError::new(code::PROTOCOL, format!("ipamd's reply: {error}"));
    let mut host = Socket::open().map_err(failed)?;
    let mut first = None;
    for some in collected.chunks(AT_ONCE) {
        let (mut routes, mut links) = (Batch::default(), Batch::default());
        for ended in some {
            let addresses =
                ipam_proto::addresses("addresses", &ended.addresses).map_err(unreadable)?;
            let Some(link) = host.link(&ended.host_if).map_err(failed)? else {
                continue;
            };
            // A pod that was created again under its name has a link of the same name.
            if ended.host_mac.parse().ok() != link.mac || link.mac.is_none() {
                continue;
            }
            for ip in addresses {
                let route = host_route(ip, &ended.host_if);
                verbs::route(&mut routes, verbs::Change::Delete, &route, link.index);
            }
            verbs::delete_link(&mut links, link.index);
        }
        for batch in [routes, links] {
            let answers = host.exchange(batch).map_err(failed)?;
            let errors = answers.iter().filter_map(|answer| answer.error);
            first = first.or(errors.into_iter().find(|errno| !GONE.contains(errno)));
        }
    }
    first.map_or(Ok(()), |errno| Err(failed(errno)))
}
