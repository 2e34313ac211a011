//! From one kind of block to the other: a fragmented subnet, and the switch at a restart.

use crate::scene::{Scene, pass, subnet};
use ipam_core::plan::Policy;
use vpc_model::spec::{ReservationKind, ReservationSpec};

fn prefixes() -> Policy {
    Policy {
        prefixes: true,
        max_pods: Some(60),
        ..Policy::default()
    }
}

fn singles() -> Policy {
    Policy {
        prefixes: false,
        warm_ip: Some(4),
        ..prefixes()
    }
}

/// No aligned /28: single addresses at once. Prefixes when there are some, and then the single ones go
/// back, but none that a pod has.
#[tokio::test(start_paused = true)]
async fn fragmented_and_back() {
    let mut scene = Scene::in_order("m5.large", vec![subnet("own", "10.0.0.0/24", &[])]);
    let squatter = scene.fragment("own", [10, 0, 0]);
    scene.start(&prefixes());
    let took = scene.add(0..6).await;
    assert!(took.as_secs() < 4, "{took:?}");
    assert_eq!(scene.count_of(28), 0);
    pass(1800).await;
    scene.pods_are_whole().await;
    // Nothing to be had, and few questions.
    let refused = scene.calls("AssignPrivateIpAddresses");
    pass(3600).await;
    assert!(scene.calls("AssignPrivateIpAddresses") - refused <= 13);
    let why = scene.snapshot().await.report.join("; ");
    assert!(why.contains("no /28 prefix"), "{why}");

    scene.defragment(&squatter, 4);
    pass(900).await;
    scene.pods_are_whole().await;
    assert_eq!(
        (scene.count_of(28), scene.count_of(32)),
        (1, 6),
        "{:?}",
        scene.blocks()
    );
    // New pods come to the prefix; old ones leave their addresses behind for EC2.
    scene.add(6..10).await;
    scene.del(0..6).await;
    pass(300).await;
    scene.pods_are_whole().await;
    assert_eq!(scene.count_of(32), 0, "{:?}", scene.blocks());
    assert!(
        (1..=2).contains(&scene.count_of(28)),
        "{:?}",
        scene.blocks()
    );
    // And then there is peace.
    let calls = scene.calls("AssignPrivateIpAddresses") + scene.calls("UnassignPrivateIpAddresses");
    pass(3600).await;
    let later = scene.calls("AssignPrivateIpAddresses") + scene.calls("UnassignPrivateIpAddresses");
    assert_eq!(later, calls);
}

/// Every slot taken by single addresses in use, and one idle one: it gives its slot to a prefix.
#[tokio::test(start_paused = true)]
async fn a_full_eni_makes_room_for_prefixes() {
    let mut scene = Scene::in_order("m5.large", vec![subnet("own", "10.0.0.0/24", &[])]);
    let squatter = scene.fragment("own", [10, 0, 0]);
    let policy = Policy {
        max_eni: Some(1),
        ..prefixes()
    };
    scene.start(&policy);
    scene.add(0..8).await;
    pass(60).await;
    assert_eq!(scene.count_of(32), 9);
    scene.defragment(&squatter, 6);
    pass(900).await;
    assert_eq!(
        (scene.count_of(28), scene.count_of(32)),
        (1, 8),
        "{:?}",
        scene.blocks()
    );
    scene.add(8..20).await;
    scene.pods_are_whole().await;
}

/// A prefix reservation keeps blocks whole: single addresses never come out of it.
#[tokio::test(start_paused = true)]
async fn reservations_are_for_prefixes() {
    let mut own = subnet("own", "10.0.0.0/24", &[]);
    own.reservations = vec![ReservationSpec {
        cidr: "10.0.0.128/25".parse().unwrap(),
        kind: ReservationKind::Prefix,
    }];
    let reserved: ipnet::IpNet = "10.0.0.128/25".parse().unwrap();
    let mut scene = Scene::new("m5.large", vec![own]);
    scene.start(&singles());
    scene.add(0..20).await;
    assert!(scene.pods.values().all(|ip| !reserved.contains(ip)));
    scene.node.stop().await;
    scene.start(&prefixes());
    scene.add(20..40).await;
    pass(120).await;
    let blocks = scene.blocks();
    let mut prefixes = blocks.iter().filter(|b| b.prefix_len() == 28);
    assert!(prefixes.all(|b| reserved.contains(b)), "{blocks:?}");
    scene.pods_are_whole().await;
}

/// The setting is switched at restarts, to and fro, while pods come and go: none fails, none loses
/// its address, and each time the pool ends up with the kind that is asked for.
#[tokio::test(start_paused = true)]
async fn toggled_under_load() {
    let mut scene = Scene::new("m5.large", vec![subnet("own", "10.0.0.0/22", &[])]);
    let mut next = 0;
    for round in 0..6 {
        let policy = if round % 2 == 0 {
            prefixes()
        } else {
            singles()
        };
        if round % 3 == 2 {
            scene.node.kill();
        } else {
            scene.node.stop().await;
        }
        scene.start(&policy);
        for _ in 0..8 {
            scene.add(next..next + 2).await;
            next += 2;
            pass(3).await;
            let oldest: Vec<u32> = scene.pods.keys().copied().take(2).collect();
            if scene.pods.len() > 20 {
                for n in oldest {
                    scene.del(n..n + 1).await;
                }
            }
            scene.pods_are_whole().await;
        }
        // New pods come, all others go, one by one: with them goes the other kind. Twice, since the
        // first may have found every slot taken.
        for _ in 0..2 {
            pass(60).await;
            scene.add(next..next + 4).await;
            next += 4;
            let old: Vec<u32> = scene
                .pods
                .keys()
                .copied()
                .filter(|n| *n + 4 < next)
                .collect();
            for n in old {
                scene.del(n..n + 1).await;
                pass(2).await;
            }
        }
        // A restarted daemon gives nothing back for ten minutes.
        pass(900).await;
        scene.pods_are_whole().await;
        let right = if policy.prefixes { 28 } else { 32 };
        assert!(scene.count_of(right) > 0, "round {round}");
        // Of the other kind, only what a pod holds.
        let pool = scene.snapshot().await;
        let blocks = pool.enis.iter().flat_map(|e| &e.blocks);
        let other = blocks.filter(|b| b.block.contains('/') != policy.prefixes);
        let idle: Vec<_> = other.filter(|b| b.used.is_empty()).collect();
        assert!(idle.is_empty(), "round {round}: {idle:?}");
    }
    let left: Vec<u32> = scene.pods.keys().copied().collect();
    for n in left {
        scene.del(n..n + 1).await;
    }
    pass(400).await;
    assert_eq!(scene.world.vpc().books(scene.world.time()), vec![]);
    let pool = scene.snapshot().await;
    assert!(pool.totals.addresses <= 4, "{:?}", pool.totals);
}
