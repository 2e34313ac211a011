//! Links: what is there, and what an ENI's link must be.

use super::netlink::{EEXIST, ENODEV, Netlink, Refused};
use ipam_core::Mac;
use ipam_core::wiring::EniLink;
use ipam_engine::ports::HostNetError;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// `rp_filter` loose: a source is checked for being reachable by any link, since answers may leave
/// by another ENI than questions came in by (kernel documentation, ip-sysctl).
const RP_FILTER_LOOSE: i32 = 2;

/// `IFNAMSIZ` without its zero: the kernel refuses a question for a longer name.
const NAME_MAX: usize = 15;
/// So many links are asked for one by one.
const ONE_BY_ONE: usize = 32;

/// What we need to know of a link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) mtu: u32,
    pub(super) rp_filter: Option<i32>,
}

/// Every link that may be an ENI, by Ethernet address: not the pods', and nothing that is stacked
/// on another link and wears its address.
pub(super) async fn candidates(
    netlink: &Netlink,
    is_pods: impl Fn(&str) -> bool,
) -> Result<BTreeMap<Mac, Link>, Refused> {
    let mut links = ethernet(netlink).await?;
    links.retain(|(_, link)| !is_pods(&link.name));
    Ok(links.into_iter().collect())
}

/// The host's ends of pods' links, by name, with their Ethernet addresses.
pub(super) async fn of_pods(
    netlink: &Netlink,
    is_pods: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Mac>, Refused> {
    let mut links = ethernet(netlink).await?;
    links.retain(|(_, link)| is_pods(&link.name));
    Ok(links
        .into_iter()
        .map(|(mac, link)| (link.name, mac))
        .collect())
}

/// The question for links, without their counters: those are half of each answer.
fn question(attributes: Vec<LinkAttribute>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    message.attributes.push(mask);
    RouteNetlinkMessage::GetLink(message)
}

/// Every link.
pub(super) async fn all(netlink: &Netlink) -> Result<Vec<LinkMessage>, Refused> {
    let messages = netlink.dump(question(Vec::new())).await?;
    Ok(messages.into_iter().filter_map(link).collect())
}

async fn ethernet(netlink: &Netlink) -> Result<Vec<(Mac, Link)>, Refused> {
    Ok(all(netlink).await?.iter().filter_map(read).collect())
}

fn link(message: RouteNetlinkMessage) -> Option<LinkMessage> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

/// The indices of those of these links that are there. Asked for one by one as long as that is quicker:
/// a node with 1,000 pods has as many links, and a dump of them takes the kernel and us 20 ms.
pub(super) async fn named<'a>(
    netlink: &Netlink,
    wanted: &BTreeSet<&'a str>,
) -> Result<BTreeMap<&'a str, u32>, Refused> {
    let mut found = BTreeMap::new();
    if wanted.len() > ONE_BY_ONE {
        let all = all(netlink).await?;
        let indices = all.iter().filter_map(|l| Some((name(l)?, l.header.index)));
        let indices: BTreeMap<&str, u32> = indices.collect();
        let known = wanted.iter().filter_map(|n| Some((*n, *indices.get(n)?)));
        return Ok(known.collect());
    }
    for wanted in wanted.iter().filter(|name| name.len() <= NAME_MAX) {
        let question = question(vec![LinkAttribute::IfName((*wanted).to_owned())]);
        match netlink.ask(question).await {
            Ok(answer) => {
                let index = answer.and_then(link).map(|link| link.header.index);
                found.extend(index.map(|index| (*wanted, index)));
            }
            Err(error) if error.is(&[ENODEV]) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// All links' names by index.
pub(super) async fn names(netlink: &Netlink) -> Result<BTreeMap<u32, String>, Refused> {
    let links = all(netlink).await?;
    let names = links
        .iter()
        .filter_map(|l| Some((l.header.index, name(l)?.to_owned())));
    Ok(names.collect())
}

/// All addresses of all links.
pub(super) async fn addresses(netlink: &Netlink) -> Result<Vec<AddressMessage>, Refused> {
    let messages = netlink
        .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))
        .await?;
    let address = |message| match message {
        RouteNetlinkMessage::NewAddress(address) => Some(address),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(address).collect())
}

pub(super) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

pub(super) fn mtu(link: &LinkMessage) -> Option<u32> {
    let mut attributes = link.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

/// A link that may be an ENI, with its Ethernet address.
pub(super) fn read(message: &LinkMessage) -> Option<(Mac, Link)> {
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let mut link = Link {
        index: message.header.index,
        name: name(message)?.to_owned(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        rp_filter: None,
    };
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) if stacked(infos) => return None,
            _ => {}
        }
    }
    link.rp_filter = inet_conf(message).map(|conf| conf.rp_filter);
    Some((Mac(mac?), link))
}

fn stacked(infos: &[LinkInfo]) -> bool {
    infos.iter().any(|info| match info {
        LinkInfo::Kind(kind) => !matches!(kind, InfoKind::Veth | InfoKind::Dummy),
        _ => false,
    })
}

/// The link's settings of IPv4, if it has any.
pub(super) fn inet_conf(message: &LinkMessage) -> Option<InetDevConf> {
    let mut specs = message.attributes.iter().filter_map(|attribute| {
        let LinkAttribute::AfSpecUnspec(specs) = attribute else {
            return None;
        };
        specs.iter().find_map(|spec| match spec {
            AfSpecUnspec::Inet(specs) => specs.iter().find_map(|spec| match spec {
                AfSpecInet::DevConf(conf) => Some(*conf),
                _ => None,
            }),
            _ => None,
        })
    });
    specs.next()
}

/// Makes an ENI's link what it must be: MTU, up, its address, `rp_filter`.
pub(super) async fn set_up(
    netlink: &Netlink,
    link: &Link,
    eni: &EniLink,
) -> Result<(), HostNetError> {
    let doing = |what: &str| format!("{what} {} ({})", link.name, eni.mac);
    if link.mtu != eni.mtu {
        let message = of(link, vec![LinkAttribute::Mtu(eni.mtu)]);
        // A driver that can't go so high still carries pods.
        if let Err(error) = netlink
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .await
        {
            tracing::warn!(link = link.name, mtu = eni.mtu, %error, "can't set the MTU");
        }
    }
    if !link.up {
        let mut message = of(link, Vec::new());
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        netlink
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .await
            .map_err(|error| error.while_doing(doing("setting up")))?;
    }
    if let Some(IpNet::V4(net)) = eni.address {
        let broadcast = net.broadcast();
        netlink
            .change_unless(
                address(link, IpNet::V4(net), Some(broadcast)),
                NLM_F_CREATE | NLM_F_EXCL,
                &[EEXIST],
            )
            .await
            .map_err(|error| error.while_doing(doing("giving its address to")))?;
    }
    set_loose_rp_filter(netlink, link)
        .await
        .map_err(|error| error.while_doing(doing("setting rp_filter of")))
}

fn of(link: &Link, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    message.attributes = attributes;
    message
}

fn address(link: &Link, net: IpNet, broadcast: Option<Ipv4Addr>) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = link.index;
    message.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
    ];
    message
        .attributes
        .extend(broadcast.map(AddressAttribute::Broadcast));
    // The subnet's route must not be in main, not even for a moment.
    message
        .attributes
        .push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
    RouteNetlinkMessage::NewAddress(message)
}

pub(super) const fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// By netlink first: `/proc/sys` is read-only in an unprivileged container.
async fn set_loose_rp_filter(netlink: &Netlink, link: &Link) -> Result<(), Refused> {
    if link.rp_filter == Some(RP_FILTER_LOOSE) {
        return Ok(());
    }
    let mut conf = InetDevConf::default();
    conf.rp_filter = RP_FILTER_LOOSE;
    let spec = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)]);
    let message = of(link, vec![LinkAttribute::AfSpecUnspec(vec![spec])]);
    match netlink
        .change(RouteNetlinkMessage::SetLink(message), 0)
        .await
    {
        Ok(()) => Ok(()),
        Err(error) if error.is(&[ENODEV]) => Err(error),
        Err(_) => {
            let path = format!("/proc/sys/net/ipv4/conf/{}/rp_filter", link.name);
            std::fs::write(path, RP_FILTER_LOOSE.to_string()).map_err(Refused::Kernel)
        }
    }
}
