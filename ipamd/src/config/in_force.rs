//! The settings as they are, for people who check them.

use super::source::Source;
use super::table::{self, Status};
use serde::Serialize;

/// A setting that has an effect, and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// The environment variable.
    pub name: &'static str,
    /// As it is written; `None`: not set, and without a default.
    pub value: Option<String>,
    /// Whether the environment says so, or it is the default.
    pub set: bool,
}

/// All of them, in the table's order.
pub(super) fn all(source: &dyn Source) -> Vec<InForce> {
    let works = table::all().filter(|knob| knob.status == Status::Works);
    let in_force = works.map(|knob| {
        let said = source.get(knob.name).ok().flatten();
        let said = said.map(|value| without_password(value.trim()));
        let said = said.filter(|value| !value.is_empty());
        let default = Some(knob.default).filter(|value| !value.is_empty());
        InForce {
            name: knob.name,
            set: said.is_some(),
            value: said.or_else(|| default.map(str::to_owned)),
        }
    });
    in_force.collect()
}

/// A URL may have a user's name and password in it, which are nobody's who reads a log or a ticket (RFC
/// 3986, section 3.2.1).
pub(super) fn without_password(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn passwords_are_not_shown() {
        for (value, shown) in [
            ("https://u:p@host:443/a?b", "https://***@host:443/a?b"),
            ("https://u:p@x@host", "https://***@host"),
            ("https://host/a@b", "https://host/a@b"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(without_password(value), shown);
        }
    }

    #[test]
    fn mistakes_show_none_either() {
        for name in [
            "CLUSTER_ENDPOINT",
            "WARM_IP_TARGET",
            "ENABLE_POD_ENI",
            "POD_MTU",
        ] {
            let value = "http://user:geheim@host".to_owned();
            let source = BTreeMap::from([(name.to_owned(), value)]);
            let loaded = crate::config::Config::load(&source);
            assert!(!loaded.findings.is_empty(), "{name}");
            let told = format!("{:?}", loaded.findings);
            assert!(!told.contains("geheim"), "{told}");
        }
    }

    #[test]
    fn defaults_and_what_is_set_are_told_apart() {
        let source = BTreeMap::from([("WARM_IP_TARGET".to_owned(), " 7 ".to_owned())]);
        let all = all(&source);
        let of = |name: &str| all.iter().find(|setting| setting.name == name).cloned();
        let known = |name, value: Option<&str>, set| InForce {
            name,
            value: value.map(str::to_owned),
            set,
        };
        let warm = "WARM_IP_TARGET";
        assert_eq!(of(warm), Some(known(warm, Some("7"), true)));
        let eni = "WARM_ENI_TARGET";
        assert_eq!(of(eni), Some(known(eni, Some("1"), false)));
        let max = "MAX_ENI";
        assert_eq!(of(max), Some(known(max, None, false)));
        // It has no effect, so it is not in force.
        assert_eq!(of("USE_PROMETHEUS"), None);
    }
}
