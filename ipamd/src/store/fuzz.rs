//! Stored records, changed: with checksums that are wrong, and with ones that are right.

use super::tests::{copy, eni, ip, key, lease, lived_in};
use super::*;
use crate::fuzz::{Harm, harmed_bytes, harms, odd_text, search};
use ipam_core::check::{Violation, check};
use ipam_core::datastore::Datastore;
use ipam_core::{EniHandle, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[derive(Clone, Debug)]
enum Change {
    /// A record's bytes.
    Bytes(Vec<Harm>),
    /// A record's body at some place; the checksum is right.
    Body(Index, Value),
    /// The first so many bytes of it.
    Short(usize),
    /// A record under another's key.
    Foreign(Vec<u8>),
    Gone,
}

fn odd_value() -> impl Strategy<Value = Value> {
    let fixed = vec![
        json!(null),
        json!(-1),
        json!(0),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(true),
        json!([]),
        json!({}),
        json!([1, "a", null]),
        json!("10.0.0.9"),
        json!("10.0.0.16"),
        json!("10.0.0.16/28"),
        json!("10.0.0.9/18"),
        json!(["10.0.0.9"]),
        json!(["10.0.0.1", "10.0.0.1"]),
        json!("boot-1"),
        json!("boot-2"),
    ];
    prop_oneof![3 => select(fixed), 1 => odd_text().prop_map(Value::from)]
}

fn change() -> impl Strategy<Value = Change> {
    let keys = vec![
        META.to_vec(),
        FACTS.to_vec(),
        lease_key(&key(3)),
        cooldown_key(ip(30)),
        eni_key(EniHandle(0)),
        eni_key(EniHandle(u64::MAX)),
        b"".to_vec(),
        b"l".to_vec(),
        b"e1".to_vec(),
        b"zzz".to_vec(),
        vec![0xff; 300],
    ];
    prop_oneof![
        2 => harms().prop_map(Change::Bytes),
        4 => (any::<Index>(), odd_value()).prop_map(|(at, value)| Change::Body(at, value)),
        2 => select(keys).prop_map(Change::Foreign),
        1 => (0..12_usize).prop_map(Change::Short),
        1 => Just(Change::Gone),
    ]
}

/// Every place in a value.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(k, v)| places(v, &format!("{here}/{k}"), found)),
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(n, v)| places(v, &format!("{here}/{n}"), found));
        }
        _ => {}
    }
}

fn damage(db: &sled::Db, records: &[(sled::IVec, sled::IVec)], at: &Index, change: &Change) {
    let (key, bytes) = at.get(records);
    match change {
        Change::Bytes(harms) => drop(db.insert(key, harmed_bytes(bytes.to_vec(), harms))),
        Change::Body(place, value) => {
            let Ok(mut body) = record::decode::<Value>(key, bytes) else {
                return;
            };
            let mut all = Vec::new();
            places(&body, "", &mut all);
            let place: &String = place.get(&all);
            if let Some(place) = body.pointer_mut(place) {
                *place = value.clone();
            }
            let bytes = record::encode(key, &body).expect("encodes");
            drop(db.insert(key, bytes));
        }
        Change::Short(length) => {
            let rest = bytes.get(..*length).unwrap_or(bytes);
            drop(db.insert(key, rest));
        }
        Change::Foreign(other) => {
            let body = record::decode::<Value>(key, bytes).expect("decodes");
            drop(db.insert(
                other.as_slice(),
                record::encode(other, &body).expect("encodes"),
            ));
        }
        Change::Gone => drop(db.remove(key)),
    }
}

#[test]
fn whatever_is_stored_the_start_goes_on() {
    let pristine = TempDir::new().expect("makes a directory");
    lived_in(pristine.path());
    let inputs = (vec((any::<Index>(), change()), 1..5), any::<bool>());
    search(120, &inputs, |(changes, same_boot)| {
        let dir = TempDir::new().expect("makes a directory");
        copy(pristine.path(), dir.path());
        {
            let opened = open(dir.path(), "boot-1").expect("opens");
            let records: Vec<_> = opened.store.db.iter().filter_map(Result::ok).collect();
            for (at, change) in &changes {
                damage(&opened.store.db, &records, at, change);
            }
            opened.store.db.flush().expect("flushes");
        }
        let began = Instant::now();
        let boot = if same_boot { "boot-1" } else { "boot-2" };
        let opened = open(dir.path(), boot);
        prop_assert!(
            began.elapsed() < opening::OPEN_DEADLINE + Duration::from_secs(15),
            "it took {:?}",
            began.elapsed()
        );
        let Ok(mut opened) = opened else {
            return Err(TestCaseError::fail(format!("{:?}", opened.err())));
        };
        let loaded = opened.loaded.clone();
        let words: usize = loaded.damage.iter().map(String::len).sum();
        prop_assert!(words < 100_000, "{} bytes of words", words);
        // The pool can be made of it, whatever it says, and no promise is broken by it.
        let pool = Datastore::restore(
            Duration::from_secs(30),
            loaded.enis,
            loaded.leases,
            loaded.cooldowns,
        );
        let broken = |v: &Violation| {
            matches!(
                v,
                Violation::DoubleLease(..)
                    | Violation::PrimaryLeased(..)
                    | Violation::LeasedAndReleased(..)
            )
        };
        let broken: Vec<_> = check(&pool, Timestamp(10))
            .into_iter()
            .filter(broken)
            .collect();
        prop_assert!(broken.is_empty(), "{:?}", broken);
        // It goes on, and what was damaged is told until EC2 has made up for it.
        prop_assert!(
            opened
                .store
                .commit(&[Write::Lease(lease(900)), Write::Eni(eni(1)), Write::Trusted])
                .is_ok()
        );
        drop(opened);
        let again = open(dir.path(), boot).expect("opens again").loaded;
        prop_assert!(again.leases.contains(&lease(900)));
        prop_assert_eq!(again.damage, Vec::<String>::new());
        Ok(())
    });
}
