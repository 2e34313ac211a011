use super::*;
use ipam_core::orphans::Fleet;
use ipam_core::{
    AttachmentKey, Block, BlockState, Eni, EniHandle, EniId, Intent, Lease, Mac, Phase, PodRef,
    Timestamp,
};
use ipam_engine::ports::{NodeFacts, Released};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(super) fn ip(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))
}

pub(super) fn key(n: u32) -> AttachmentKey {
    AttachmentKey {
        network: "aws-cni".into(),
        container_id: format!("{n:064x}"),
        if_name: "eth0".into(),
    }
}

pub(super) fn lease(n: u32) -> Lease {
    Lease {
        key: key(n),
        pod: PodRef {
            namespace: "default".into(),
            name: format!("web-{n}"),
            uid: String::new(),
        },
        addresses: vec![ip(n)],
        host_if: format!("eni{n:011x}"),
        host_mac: Mac([2, 0, 0, 0, 0, 1]),
        pod_mac: Mac([2, 0, 0, 0, 0, 2]),
        since: Timestamp(7),
    }
}

pub(super) fn eni(n: u64) -> Eni {
    Eni {
        handle: EniHandle(n),
        id: Some(EniId(format!("eni-{n}"))),
        mac: Some(Mac([2, 0, 0, 0, 1, 0])),
        primary: n == 0,
        device_index: 0,
        card: 0,
        subnet: "subnet-1".into(),
        address: "10.0.0.9/18".parse().ok(),
        attachment: None,
        delete_on_termination: true,
        phase: Phase::Ready,
        unmanaged: None,
        ours: true,
        excluded: false,
        blocks: BTreeMap::from([(Block::prefix_of(ip(16)), BlockState::Confirmed)]),
        intent: Some(Intent::Attach),
        in_doubt_since: None,
        written_at: Timestamp(1),
        since: Timestamp(1),
    }
}

pub(super) fn facts(instance: &str) -> NodeFacts {
    NodeFacts {
        instance_id: instance.into(),
        instance_type: "m5.large".into(),
        region: "eu-west-1".into(),
        zone: "eu-west-1a".into(),
        vpc: Some("vpc-1".into()),
        primary_mac: Mac([2, 0, 0, 0, 1, 0]),
        node_ip: Ipv4Addr::new(10, 0, 0, 9),
        node_ipv6: None,
        vpc_cidrs: Vec::new(),
        security_groups: Vec::new(),
        enis: Vec::new(),
    }
}

fn released() -> Released {
    Released {
        at: Timestamp(9),
        host_if: "eni1".into(),
    }
}

/// A store as it is after some life: 20 live pods, churn, one ENI, facts.
pub(super) fn lived_in(dir: &Path) {
    let mut store = open(dir, "boot-1").expect("opens").store;
    store
        .commit(&[Write::Facts(facts("i-1")), Write::Eni(eni(0))])
        .expect("commits");
    for n in 0..200 {
        store.commit(&[Write::Lease(lease(n))]).expect("commits");
        if n >= 20 {
            let cooldown = Write::Cooldown(ip(n), released());
            store
                .commit(&[Write::NoLease(key(n)), cooldown])
                .expect("commits");
        }
    }
}

#[test]
fn what_was_committed_comes_back() {
    let dir = TempDir::new().expect("makes a directory");
    let fresh = open(dir.path(), "boot-1").expect("opens").loaded;
    assert_eq!(
        (fresh.same_boot, fresh.leases.len(), fresh.damage.len()),
        (false, 0, 0)
    );
    lived_in(dir.path());

    let loaded = open(dir.path(), "boot-1").expect("opens").loaded;
    assert!(loaded.same_boot);
    assert_eq!(loaded.damage, Vec::<String>::new());
    let mut leases = loaded.leases;
    leases.sort_by_key(|lease| lease.addresses.clone());
    assert_eq!(leases, (0..20).map(lease).collect::<Vec<_>>());
    assert_eq!(loaded.cooldowns.len(), 180);
    assert_eq!(loaded.cooldowns.get(&ip(50)), Some(&released()));
    assert_eq!(loaded.enis, vec![eni(0)]);
    assert_eq!(loaded.facts, Some(facts("i-1")));
    assert_eq!(loaded.instance, Some("i-1".into()));
}

/// A step of the system's clock between two runs makes no cooldown shorter or longer.
#[test]
fn times_follow_the_systems_clock() {
    let dir = TempDir::new().expect("makes a directory");
    let at = |boot: &str, offset: i64| {
        let opened = load::open_at(dir.path(), boot, Some(Offset(offset)));
        opened.expect("opens")
    };
    let mut store = at("boot-1", 1_000_000).store;
    let released = Released {
        at: Timestamp(50_000),
        host_if: "eni1".into(),
    };
    let writes = [
        Write::Lease(lease(0)),
        Write::Eni(eni(0)),
        Write::Cooldown(ip(9), released),
    ];
    store.commit(&writes).expect("commits");
    drop(store);
    let told = |opened: &Opened| {
        let loaded = &opened.loaded;
        (
            loaded.cooldowns[&ip(9)].at.0,
            loaded.enis[0].since.0,
            loaded.leases.first().map(|l| l.since.0),
        )
    };
    assert_eq!(told(&at("boot-1", 1_000_999)), (50_000, 1, Some(7)));
    assert_eq!(
        told(&at("boot-1", 1_100_000)),
        (150_000, 100_001, Some(100_007))
    );
    // Once.
    assert_eq!(
        told(&at("boot-1", 1_100_000)),
        (150_000, 100_001, Some(100_007))
    );
    assert_eq!(told(&at("boot-1", 1_000_000)), (50_000, 1, Some(7)));
    // Uptime begins anew with a boot: wall time is all there is.
    assert_eq!(told(&at("boot-2", 7_000_000)), (50_000, 1, None));
    assert_eq!(told(&at("boot-2", 7_002_000)), (52_000, 2_001, None));
}

#[test]
fn removals_are_kept_too() {
    let dir = TempDir::new().expect("makes a directory");
    lived_in(dir.path());
    let mut store = open(dir.path(), "boot-1").expect("opens").store;
    let batch = [
        Write::NoLease(key(3)),
        Write::NoCooldown(ip(30)),
        Write::NoEni(EniHandle(0)),
    ];
    store.commit(&batch).expect("commits");
    drop(store);
    let loaded = open(dir.path(), "boot-1").expect("opens").loaded;
    assert_eq!(
        (
            loaded.leases.len(),
            loaded.cooldowns.len(),
            loaded.enis.len()
        ),
        (19, 179, 0)
    );
}

#[test]
fn another_boot_drops_leases_and_keeps_the_rest() {
    let dir = TempDir::new().expect("makes a directory");
    lived_in(dir.path());
    for boot in ["boot-2", "boot-2"] {
        let loaded = open(dir.path(), boot).expect("opens").loaded;
        assert_eq!((loaded.leases.len(), loaded.facts), (0, None));
        assert_eq!((loaded.cooldowns.len(), loaded.enis.len()), (180, 1));
        assert_eq!(loaded.enis[0].intent, Some(Intent::Attach));
        // Who wrote it is still known: a golden image is told from a reboot by it.
        assert_eq!(loaded.instance, Some("i-1".into()));
    }
    let back = open(dir.path(), "boot-1").expect("opens").loaded;
    assert!(!back.same_boot && back.leases.is_empty());
}

#[test]
fn a_successor_waits_for_its_predecessors_end() {
    let dir = TempDir::new().expect("makes a directory");
    let first = open(dir.path(), "boot-1").expect("opens");
    let path = dir.path().to_owned();
    let second = std::thread::spawn(move || open(&path, "boot-1").map(|opened| opened.loaded));
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!second.is_finished());
    drop(first);
    assert!(second.join().expect("ends").expect("opens").same_boot);
}

#[test]
fn an_older_database_is_noticed() {
    let (dir, older) = (
        TempDir::new().expect("makes"),
        TempDir::new().expect("makes"),
    );
    lived_in(dir.path());
    copy(&dir.path().join("db"), &older.path().join("db"));
    open(dir.path(), "boot-1")
        .expect("opens")
        .store
        .commit(&[Write::Lease(lease(500))])
        .expect("ok");
    fs::remove_dir_all(dir.path().join("db")).expect("removes");
    copy(&older.path().join("db"), &dir.path().join("db"));
    let loaded = open(dir.path(), "boot-1").expect("opens").loaded;
    assert_eq!(loaded.leases.len(), 20);
    assert!(
        loaded
            .damage
            .iter()
            .any(|text| text.contains("later changes are lost"))
    );
    // Told until EC2 has made up for it.
    for _ in 0..2 {
        let again = open(dir.path(), "boot-1").expect("opens").loaded;
        assert_eq!(again.damage, loaded.damage);
    }
    let mut opened = open(dir.path(), "boot-1").expect("opens");
    opened
        .store
        .commit(&[Write::Fleet(Fleet { nodes: 1, rank: 0 })])
        .expect("commits");
    drop(opened);
    let mut opened = open(dir.path(), "boot-1").expect("opens");
    assert_eq!(opened.loaded.damage, loaded.damage);
    opened.store.commit(&[Write::Trusted]).expect("commits");
    drop(opened);
    let last = open(dir.path(), "boot-1").expect("opens").loaded;
    assert_eq!(last.damage, Vec::<String>::new());
}

#[test]
fn a_record_that_cannot_be_read_does_not_take_the_others_along() {
    let dir = TempDir::new().expect("makes a directory");
    lived_in(dir.path());
    let opened = open(dir.path(), "boot-1").expect("opens");
    opened
        .store
        .db
        .insert(lease_key(&key(4)), b"nonsense")
        .expect("inserts");
    opened
        .store
        .db
        .insert(b"z-of-the-future", b"?")
        .expect("inserts");
    opened.store.db.flush().expect("flushes");
    drop(opened);
    let loaded = open(dir.path(), "boot-1").expect("opens").loaded;
    assert_eq!(loaded.leases.len(), 19);
    assert_eq!(loaded.damage.len(), 1, "{:?}", loaded.damage);
    // It goes on in a new database; the damaged one is there for a person, and that is said.
    assert!(
        loaded.damage[0].contains("damaged-1"),
        "{:?}",
        loaded.damage
    );
    assert!(dir.path().join("damaged-1").is_dir());
    let again = open(dir.path(), "boot-1").expect("opens");
    assert_eq!(again.loaded.damage, loaded.damage);
    assert!(!dir.path().join("damaged-2").exists());
    assert!(
        again
            .store
            .db
            .contains_key(b"z-of-the-future")
            .expect("reads")
    );
}

/// A crash while a new database takes the place of a damaged one.
#[test]
fn a_swap_that_was_cut_short_is_ended() {
    let dir = TempDir::new().expect("makes a directory");
    lived_in(dir.path());
    let (db, fresh) = (dir.path().join("db"), dir.path().join(files::FRESH));
    // Before: the new one may be half written.
    fs::create_dir(&fresh).expect("makes");
    fs::write(fresh.join("db"), b"half").expect("writes");
    let loaded = open(dir.path(), "boot-1").expect("opens").loaded;
    assert_eq!((loaded.leases.len(), loaded.damage.len()), (20, 0));
    assert!(!fresh.exists());
    // After the old one went, and before the new one took its name.
    fs::rename(&db, &fresh).expect("renames");
    let loaded = open(dir.path(), "boot-1").expect("opens").loaded;
    assert_eq!((loaded.leases.len(), loaded.damage.len()), (20, 0));
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("lists").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Bits flipped and files cut at 40 places: it opens, it holds nothing that was never written, and
/// it can be written.
#[test]
fn damage_never_stops_a_start() {
    let pristine = TempDir::new().expect("makes a directory");
    lived_in(pristine.path());
    let count = files(&pristine.path().join("db")).len();
    assert!(count >= 2, "sled has changed its files");
    let mut noticed = 0;
    for case in 0..40_u64 {
        let dir = TempDir::new().expect("makes a directory");
        copy(pristine.path(), dir.path());
        let all = files(&dir.path().join("db"));
        // The database proper mostly; its settings now and then.
        let main = all
            .iter()
            .max_by_key(|path| fs::metadata(path).map_or(0, |m| m.len()));
        let path = if case % 10 == 9 {
            &all[0]
        } else {
            main.expect("is there")
        };
        let mut bytes = fs::read(path).expect("reads");
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let place = usize::try_from(case * 7919 + 13).expect("fits") % used;
        if case % 2 == 0 {
            bytes[place] ^= 1 << (case % 8);
        } else {
            bytes.truncate(place);
        }
        fs::write(path, bytes).expect("writes");

        let mut opened = open(dir.path(), "boot-1").unwrap_or_else(|e| panic!("case {case}: {e}"));
        let loaded = &opened.loaded;
        // An older state may come back, but never anything else.
        for found in &loaded.leases {
            let n = u32::from_str_radix(&found.key.container_id, 16).expect("a number");
            assert_eq!(*found, lease(n), "case {case}");
        }
        let lost = loaded.leases.len() < 20 || !loaded.same_boot;
        assert!(
            !lost || !loaded.damage.is_empty(),
            "case {case} lost leases without a word"
        );
        noticed += u32::from(!loaded.damage.is_empty());
        opened
            .store
            .commit(&[Write::Lease(lease(900))])
            .expect("commits");
        drop(opened);
        let again = open(dir.path(), "boot-1").expect("opens again").loaded;
        assert!(again.leases.contains(&lease(900)), "case {case}");
    }
    assert!(
        noticed > 10,
        "only {noticed} of 40 damages were noticed: do they hit the data?"
    );
}

#[test]
fn only_a_few_damaged_databases_are_kept() {
    let dir = TempDir::new().expect("makes a directory");
    for _ in 0..5 {
        open(dir.path(), "boot-1")
            .expect("opens")
            .store
            .commit(&[])
            .expect("commits");
        let db = dir.path().join("db");
        fs::remove_dir_all(&db).expect("removes");
        fs::write(&db, b"not a directory").expect("writes");
        let damage = open(dir.path(), "boot-1").expect("opens").loaded.damage;
        assert!(damage[0].contains("damaged-"), "{damage:?}");
    }
    let aside = fs::read_dir(dir.path()).expect("lists").flatten();
    let aside = aside.filter(|e| e.file_name().to_string_lossy().starts_with("damaged-"));
    assert_eq!(aside.count(), 3);
}
