//! What a runtime does beside its pods: GC, at times and after it was restarted; and somebody changes the
//! network's name.

use super::habits::Gc;
use crate::oracle::Gathered;
use crate::rng::Rng;
use crate::scenario::machine::Site;
use ipam_engine::{Collect, Collected};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The plugin waits so long.
const GC_TIME: Duration = Duration::from_secs(30);

/// What was never seen to be wired is judged after a minute.
const JUDGED: Duration = Duration::from_secs(61);

/// Late DELs have come by then, and what was lost is old enough.
const LAST: Duration = Duration::from_secs(8 * 60);

/// From the beginning to the last GC in peace.
pub(in super::super) async fn keep(site: Site, mut rng: Rng) {
    let habits = site.habits;
    while !site.quiet() {
        let nap = rng.millis(2_000, 60_000);
        sleep(nap).await;
        if site.quiet() {
            break;
        }
        if habits.renames && rng.percent(15) {
            let name = site.book.rename();
            site.world
                .tell(&site.name, || format!("the network is called {name} now"));
        }
        if habits.gc.is_some() && rng.percent(50) {
            let networks = site.book.networks();
            // A network's attachments are listed for that network, and no other.
            let network = rng.pick(&networks).clone();
            gc(&site, &network, &mut rng).await;
        }
    }
    if habits.gc.is_none() {
        return;
    }
    for wait in [LAST, JUDGED * 2] {
        sleep(wait).await;
        for network in site.book.networks() {
            for _ in 0..5 {
                if gc(&site, &network, &mut rng).await {
                    break;
                }
                sleep(JUDGED).await;
            }
        }
    }
}

/// One GC. `false`: it was not carried out.
async fn gc(site: &Site, network: &str, rng: &mut Rng) -> bool {
    let (world, boot) = (&site.world, site.boot());
    site.book.of_boot(boot);
    let alone = site.habits.gc == Some(Gc::Alone);
    let _turn = match site.book.alone() {
        None if alone => return false,
        turn => turn.filter(|_| alone),
    };
    let Some(handle) = site.kernel.daemon() else {
        return false;
    };
    let begun = world.elapsed();
    let all = site.habits.gc == Some(Gc::NamesAll);
    let listed = site.book.lists(network, all);
    let mut gone = site.book.lost(network, begun);
    if !all {
        gone.extend(site.book.failed(network));
    }
    let forgotten = site.book.lost(network, begun.saturating_sub(JUDGED));
    for key in &gone {
        // The runtime says that it is no more.
        world
            .oracle()
            .ended(begun, &(site.name.clone(), key.clone()));
    }
    world.tell(&site.name, || {
        format!("GC of {network} lists {}, not {gone:?}", listed.len())
    });
    sleep(rng.millis(0, 1_500)).await;
    let question = Collect {
        network: network.into(),
        valid: listed.clone(),
        age: world.elapsed() - begun,
        links: site.kernel.pods_links(),
    };
    let Ok(Ok(collected)) = timeout(GC_TIME, handle.collect(question)).await else {
        return false;
    };
    if site.boot() != boot {
        return false;
    }
    world.tell(&site.name, || format!("GC of {network}: {collected:?}"));
    let answer = Gathered {
        node: &site.name,
        network,
        listed: &listed,
        forgotten: &forgotten,
        collected: &collected,
        store: &site.store,
    };
    world.oracle().gathered(world.elapsed(), &answer);
    for ended in &collected {
        world.oracle().released(&site.name, &ended.addresses);
    }
    forgotten.iter().for_each(|key| site.book.forgets(key));
    clear(site, &collected).await;
    true
}

/// The plugin's part: links that are known by their Ethernet addresses, and their routes.
async fn clear(site: &Site, collected: &[Collected]) {
    for ended in collected {
        if site.kernel.veth(&ended.host_if) != Some(ended.host_mac) {
            continue;
        }
        for ip in &ended.addresses {
            site.kernel.clear_route(*ip, &ended.host_if).await;
        }
        site.kernel
            .end_own_veth(&ended.host_if, ended.host_mac)
            .await;
    }
}
