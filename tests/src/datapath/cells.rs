//! The cells of the matrix, and the Services in it.

use super::{Cell, PORT, PUBLIC, Site, Who};
use crate::proxy::{Front, Masquerade, Service};
use lab::probe::Protocol;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Services' own addresses: outside the VPC.
const fn service(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 20, 0, n)
}

/// NodePorts: traffic policy Local and Cluster, to each pod of the node; Cluster to another node's.
const LOCAL: [(u16, Who); 2] = [(30080, Who::Primary), (30081, Who::Secondary)];
const CLUSTER: [(u16, Who); 3] = [
    (30090, Who::Primary),
    (30091, Who::Secondary),
    (30092, Who::Remote),
];

/// The Services of the matrix.
#[must_use]
pub fn services(site: &Site) -> Vec<Service> {
    let mut all = Vec::new();
    let cluster = [
        Who::Remote,
        Who::Internet,
        Who::SecondBlock,
        Who::Beside,
        Who::Primary,
        Who::Secondary,
    ];
    for (n, who) in (10..).zip(cluster) {
        all.push(Service {
            front: Front::Cluster(service(n)),
            port: 80,
            to: site.address(who),
            to_port: PORT,
            masquerade: Masquerade::Hairpin,
        });
    }
    let ports = [
        (Masquerade::Hairpin, &LOCAL[..]),
        (Masquerade::Always, &CLUSTER[..]),
    ];
    for (masquerade, ports) in ports {
        all.extend(ports.iter().map(|(port, who)| Service {
            front: Front::Node,
            port: *port,
            to: site.address(*who),
            to_port: PORT,
            masquerade,
        }));
    }
    all
}

/// Every cell without Services: pods on both ENIs to everybody.
#[must_use]
pub fn direct(site: &Site) -> Vec<Cell> {
    let mut cells = Vec::new();
    for from in [Who::Primary, Who::Secondary] {
        let own = site.address(from).into();
        let public = IpAddr::from(PUBLIC);
        let other = if from == Who::Primary {
            Who::Secondary
        } else {
            Who::Primary
        };
        for (to, seen, leaves) in [
            (Who::Remote, own, Some(from)),
            (Who::SecondBlock, own, Some(from)),
            (Who::Beside, own, Some(from)),
            (Who::Internet, public, Some(Who::Primary)),
            (other, own, None),
        ] {
            let at = (site.address(to), PORT).into();
            push(&mut cells, from, &format!("{to:?}"), at, Some(seen), leaves);
        }
        let node = (site.node_address(), PORT).into();
        push(&mut cells, from, "its node", node, Some(own), None);
    }
    // To a pod's own address: answers leave by the ENI that they came in by, untranslated.
    for to in [Who::Primary, Who::Secondary] {
        for from in [Who::Remote, Who::SecondBlock, Who::Beside] {
            let at = (site.address(to), PORT).into();
            let seen = Some(site.address(from).into());
            push(&mut cells, from, &format!("{to:?}"), at, seen, Some(to));
        }
    }
    cells
}

/// Every cell with a Service.
#[must_use]
pub fn by_service(site: &Site) -> Vec<Cell> {
    let mut cells = Vec::new();
    let node = site.node_address();
    for from in [Who::Primary, Who::Secondary] {
        let own = IpAddr::from(site.address(from));
        let hairpin = IpAddr::from(node);
        let at = |n: u8| (service(n), 80).into();
        let both = if from == Who::Primary {
            (14, 15)
        } else {
            (15, 14)
        };
        for (name, to, seen, leaves) in [
            ("ClusterIP, remote", at(10), own, Some(from)),
            (
                "ClusterIP, endpoint in the internet",
                at(11),
                PUBLIC.into(),
                Some(Who::Primary),
            ),
            ("ClusterIP, second block", at(12), own, Some(from)),
            ("ClusterIP, endpoint beside", at(13), own, Some(from)),
            ("ClusterIP, hairpin", at(both.0), hairpin, None),
            ("ClusterIP, same node", at(both.1), own, None),
        ] {
            push(&mut cells, from, name, to, Some(seen), leaves);
        }
        let other = if from == Who::Primary { 1 } else { 0 };
        let local = (node, LOCAL[other].0).into();
        push(
            &mut cells,
            from,
            "own NodePort, Local",
            local,
            Some(own),
            None,
        );
        let cluster = (node, CLUSTER[other].0).into();
        push(
            &mut cells,
            from,
            "own NodePort, Cluster",
            cluster,
            Some(hairpin),
            None,
        );
    }
    for from in [Who::Remote, Who::SecondBlock, Who::Beside, Who::Internet] {
        let at = |port: u16| match from {
            Who::Internet => (PUBLIC, port).into(),
            _ => (node, port).into(),
        };
        for (port, to) in LOCAL {
            let (name, seen) = (
                format!("NodePort, Local, {to:?}"),
                site.address(from).into(),
            );
            push(
                &mut cells,
                from,
                &name,
                at(port),
                Some(seen),
                Some(Who::Primary),
            );
        }
        for (port, to) in CLUSTER {
            let name = format!("NodePort, Cluster, {to:?}");
            let seen = Some(node.into());
            // A pod of the same name as the asker's talks to itself by the other node.
            push(&mut cells, from, &name, at(port), seen, Some(Who::Primary));
        }
    }
    cells
}

fn push(
    cells: &mut Vec<Cell>,
    from: Who,
    name: &str,
    to: SocketAddr,
    seen: Option<IpAddr>,
    leaves: Option<Who>,
) {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        cells.push(Cell {
            name: format!("{from:?} -> {name}"),
            from,
            to,
            protocol,
            seen,
            leaves,
        });
    }
}
