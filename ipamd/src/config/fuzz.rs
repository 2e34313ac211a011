//! Every setting at once, to anything.

use super::*;
use crate::fuzz::{odd_text, search};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;

/// `None`: bytes that are no text.
struct Odd(BTreeMap<String, Option<String>>);

impl Source for Odd {
    fn get(&self, name: &str) -> Result<Option<String>, NotText> {
        match self.0.get(name) {
            None => Ok(None),
            Some(None) => Err(NotText),
            Some(Some(text)) => Ok(Some(text.clone())),
        }
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn value() -> impl Strategy<Value = Option<String>> {
    let good = [
        "true",
        "false",
        "1",
        "30",
        "9001",
        "eni",
        "prng",
        "0x80",
        "{}",
        "{\"a\": 1}",
        "10.0.0.0/8",
        "json",
    ];
    prop_oneof![
        3 => odd_text().prop_map(Some),
        3 => select(good.map(String::from).to_vec()).prop_map(Some),
        1 => Just(None),
    ]
}

#[test]
fn whatever_is_set_it_is_read_or_told() {
    let names: Vec<String> = all().map(|knob| knob.name.to_owned()).collect();
    let setting = (select(names), value());
    search(400, &vec(setting, 0..60), |settings| {
        let odd = Odd(settings.into_iter().collect());
        let loaded = Config::load(&odd);
        let config = &loaded.config;
        prop_assert!((576..=9001).contains(&config.engine.eni_mtu));
        prop_assert!((576..=9001).contains(&config.engine.pod_mtu));
        prop_assert!((1..=4).contains(&config.engine.veth_prefix.len()));
        prop_assert!(config.engine.add_timeout > Duration::ZERO);
        prop_assert!(config.ec2.timeout >= Duration::from_millis(100));
        prop_assert!(config.imds_timeout >= Duration::from_millis(100));
        prop_assert!(
            config.engine.policy.max_pods != Some(0) && config.engine.policy.max_eni != Some(0)
        );
        for finding in &loaded.findings {
            prop_assert!(!finding.text.is_empty() && !finding.setting.is_empty());
            let lines = finding.text.lines().count();
            prop_assert!(lines == 1, "{} lines about {}", lines, finding.setting);
        }
        for (name, _) in odd.0.iter().filter(|(_, value)| value.is_none()) {
            let knob = find(name).expect("in the table");
            let told = loaded
                .findings
                .iter()
                .any(|f| f.setting.contains(name.as_str()));
            let heeded = !matches!(knob.status, Status::NoEffect);
            // What the SDK reads by itself is the SDK's to tell.
            prop_assert!(
                told || !heeded || name.starts_with("AWS_"),
                "not a word about {}",
                name
            );
        }
        Ok(())
    });
}
