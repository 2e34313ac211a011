//! What the kernel's answers, and its silence, come to.

use super::*;
use ipam_core::{AttachmentKey, Lease, Mac, PodRef};
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp(1_767_225_600_000);
const HOST_IF: &str = "eni0d7763386da";

fn address() -> IpAddr {
    [10, 0, 0, 17].into()
}

/// One address whose pod has just ended, past its cooldown.
fn released() -> Datastore {
    let lease = Lease {
        key: AttachmentKey {
            network: "n".into(),
            container_id: "c".into(),
            if_name: "eth0".into(),
        },
        pod: PodRef::default(),
        addresses: vec![address()],
        host_if: HOST_IF.into(),
        host_mac: Mac([2, 0, 0, 0, 0, 1]),
        pod_mac: Mac([2, 0, 0, 0, 0, 2]),
        since: NOW,
    };
    let key = lease.key.clone();
    let mut store = Datastore::restore(Duration::ZERO, vec![], vec![lease], BTreeMap::new());
    store.release(&key, NOW);
    store
}

fn error() -> HostNetError {
    HostNetError {
        what: "forgetting connections".into(),
        cause: "not now".into(),
    }
}

/// An answer to each look of so many, each at the time at which it is due.
fn looks(answers: Vec<Result<Forgotten, HostNetError>>) -> Datastore {
    let (mut store, mut forget, mut notices) = (released(), Forget::default(), Notices::default());
    for answer in answers {
        let at = forget.wake_at(&store, false).unwrap().max(NOW);
        let Some(Task::Forget(traces)) = forget.next(&store, false, at) else {
            panic!("no look")
        };
        forget.done(&mut store, &traces, answer, &mut notices, at);
    }
    store
}

/// A kernel that refuses to forget, five times, costs the pool no address. One that could not even be asked for links
/// may have a pod there: nothing is known.
#[test]
fn only_a_refusal_after_a_look_at_links_counts() {
    let refused = || {
        Ok(Forgotten {
            linked: Vec::new(),
            connections: Connections::Failed(error()),
        })
    };
    for (times, stuck) in [(1, false), (4, false), (5, true), (6, true)] {
        let store = looks((0..times).map(|_| refused()).collect());
        assert_eq!(store.is_stuck(address()), stuck, "{times} refusals");
        let store = looks((0..times).map(|_| Err(error())).collect());
        assert!(!store.is_stuck(address()), "{times} failures");
        let late = NOW + Duration::from_secs(3600);
        assert!(!store.is_free(address(), late), "{times} failures");
    }
}

/// The look has seen a link, and while it was under way the link went: nobody will tell of it again, so the address
/// is looked at once more.
#[test]
fn a_link_that_goes_during_a_look_is_looked_at_again() {
    let (mut store, mut forget, mut notices) = (released(), Forget::default(), Notices::default());
    let Some(Task::Forget(traces)) = forget.next(&store, false, NOW) else {
        panic!("no look")
    };
    assert!(
        forget.next(&store, true, NOW).is_none(),
        "one look at a time"
    );
    store.link_gone(HOST_IF, NOW);
    forget.link_gone(HOST_IF);
    let answer = Forgotten {
        linked: vec![address()],
        connections: Connections::Removed(0),
    };
    let later = NOW + Duration::from_secs(2);
    forget.done(&mut store, &traces, Ok(answer), &mut notices, later);
    assert_eq!(store.to_forget(later), traces);
    assert!(!store.is_free(address(), later));
}

/// Word of that link's end was kept until the look was over: by then a newer pod has a link of the same name.
#[test]
fn a_link_that_went_is_not_the_namesake_that_came() {
    let (mut store, mut forget, mut notices) = (released(), Forget::default(), Notices::default());
    let Some(Task::Forget(traces)) = forget.next(&store, false, NOW) else {
        panic!("no look")
    };
    store.link_gone(HOST_IF, NOW);
    forget.link_gone(HOST_IF);
    let newer = IpAddr::from([10, 0, 0, 18]);
    store.set_routed(newer, HOST_IF.into());
    let answer = Forgotten {
        linked: vec![address()],
        connections: Connections::Removed(0),
    };
    forget.done(&mut store, &traces, Ok(answer), &mut notices, NOW);
    assert_eq!(
        store.routed().get(&newer).map(String::as_str),
        Some(HOST_IF)
    );
}
