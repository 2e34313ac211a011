//! Pods' host routes in virtual time: what goes or is led elsewhere is put back within a second, once, and no
//! released one.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
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

#[tokio::test(start_paused = true)]
async fn a_released_pods_route_does_not_come_back() {
    let (_world, node, ip, _) = with_pod().await;
    // The plugin's release comes before the settling is over.
    node.set_route(ip, None).await;
    node.del(1).await.unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(node.route(ip), None);
}
