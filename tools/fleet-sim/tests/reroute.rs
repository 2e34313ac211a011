//! Pods' host routes in virtual time: what goes or is led elsewhere is put back within a second, once, and no
//! released one.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
use ipam_core::wiring::WIRING_VERSION;
use ipam_core::{AttachmentKey, PodRef};
use ipam_engine::Allocate;
use ipam_engine::ports::KernelEvent;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::sleep;

const WAIT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// A node with a pod that has been there for a while: its address and link.
async fn with_pod() -> (World, Node, IpAddr, String) {
    let world = World::of_one_node().unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings(Policy::default()));
    let wiring = node.add(1, WAIT).await.unwrap();
    let ip = wiring.pod_addresses[0].addr();
    sleep(20 * SECOND).await;
    (world, node, ip, wiring.host_if)
}

#[tokio::test(start_paused = true)]
async fn a_route_that_goes_comes_back() {
    let (_world, node, ip, link) = with_pod().await;
    // Again and again, and twice before the first repair.
    for _ in 0..20 {
        node.set_route(ip, None).await;
        sleep(Duration::from_millis(50)).await;
        node.set_route(ip, None).await;
        assert_eq!(node.route(ip), None);
        sleep(SECOND).await;
        assert_eq!(node.route(ip), Some(link.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_led_elsewhere_comes_back() {
    let (_world, node, ip, link) = with_pod().await;
    node.set_route(ip, Some("enielsewhere")).await;
    sleep(SECOND).await;
    assert_eq!(node.route(ip), Some(link.clone()));
    // As its own once more, with something else about it.
    node.set_route(ip, Some(&link)).await;
    sleep(SECOND).await;
    assert_eq!(node.route(ip), Some(link));
}

/// It went while the daemon was away, and nobody told of it: the look at the kernel finds that it is missing.
#[tokio::test(start_paused = true)]
async fn a_route_that_went_unseen_comes_back() {
    let (_world, mut node, ip, link) = with_pod().await;
    node.kill();
    node.set_route(ip, None).await;
    node.start(settings(Policy::default()));
    sleep(SECOND).await;
    assert_eq!(node.route(ip), Some(link));
}

/// The pod's link outlives its lease (the runtime takes the namespace away later), so that nothing but the
/// lease's end keeps the repair from putting the route back.
#[tokio::test(start_paused = true)]
async fn a_released_pods_route_does_not_come_back() {
    let (_world, node, ip, link) = with_pod().await;
    // The plugin's release comes before the settling is over.
    node.set_route(ip, None).await;
    node.end(1).await.unwrap();
    for _ in 0..50 {
        sleep(SECOND / 10).await;
        assert_eq!(node.route(ip), None);
    }
    // Nor does it when the kernel tells of the link or is looked at again.
    let handle = node.handle().unwrap();
    handle.kernel(KernelEvent::PodLinkBack(link)).await;
    sleep(SECOND).await;
    assert_eq!(node.route(ip), None);
    handle.kernel(KernelEvent::Overrun).await;
    sleep(SECOND).await;
    assert_eq!(node.route(ip), None);
}

/// A new sandbox of the same pod has a link of the same name. The old sandbox's address must not be led to it.
#[tokio::test(start_paused = true)]
async fn a_released_pods_route_does_not_come_to_its_namesake() {
    let (_world, node, ip, link) = with_pod().await;
    node.set_route(ip, None).await;
    node.end(1).await.unwrap();
    let again = Allocate {
        key: AttachmentKey {
            network: "sim".into(),
            container_id: "sandbox-again".into(),
            if_name: "eth0".into(),
        },
        pod: PodRef {
            namespace: "default".into(),
            name: "pod-1".into(),
            uid: String::new(),
        },
        timeout: Some(WAIT),
        wiring_version: WIRING_VERSION,
        veth_prefix: None,
        mtu: None,
    };
    let wiring = node.handle().unwrap().allocate(again).await.unwrap();
    let fresh = wiring.pod_addresses[0].addr();
    assert_eq!(wiring.host_if, link);
    assert_ne!(fresh, ip);
    node.set_route(fresh, Some(&link)).await;
    for _ in 0..50 {
        sleep(SECOND / 10).await;
        assert_eq!(
            (node.route(ip), node.route(fresh)),
            (None, Some(link.clone()))
        );
    }
}
