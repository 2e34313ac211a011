//! Names in the environment that look like settings and are none: `WARM_IP_TARGT=7` changes nothing, and
//! nobody would know.

use super::finding::Severity;
use super::read::Reader;
use super::rows::{OURS, PEER};
use super::table;
use strsim::damerau_levenshtein;

/// Mistakes of the hand in a long name, and in a short one, which has more neighbours.
const TYPOS_LONG: usize = 2;
const TYPOS_SHORT: usize = 1;
const LONG: usize = 12;

/// Tells of each name that nobody reads and that is one of ours by its beginning, or nearly a known one.
pub(super) fn check(read: &mut Reader<'_>) {
    for name in read.source().names() {
        if table::find(&name).is_some() || is_of_a_service(&name) {
            continue;
        }
        let nearest = nearest(&name);
        let near = nearest.filter(|(_, typos)| *typos <= allowed(&name));
        let text = match (near, nearest) {
            (Some((known, _)), _) => format!("is no setting; is {known} meant? It changes nothing"),
            (None, Some((known, _))) if name.starts_with("IPAMD_") => {
                format!("is no setting, and changes nothing; the nearest one is {known}")
            }
            _ => continue,
        };
        read.tell(Severity::Mistake, &name, text);
    }
}

fn nearest(name: &str) -> Option<(&'static str, usize)> {
    let known = PEER.iter().chain(OURS).map(|knob| knob.name);
    known
        .map(|known| (known, damerau_levenshtein(name, known)))
        .min_by_key(|(_, typos)| *typos)
}

const fn allowed(name: &str) -> usize {
    if name.len() < LONG {
        TYPOS_SHORT
    } else {
        TYPOS_LONG
    }
}

/// The kubelet sets these for each Service of the namespace, one that is called `ipamd` too (Kubernetes,
/// "Accessing the Service", environment variables).
fn is_of_a_service(name: &str) -> bool {
    let of_port = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(of_port)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Severity};
    use std::collections::BTreeMap;

    fn told(name: &str) -> Vec<String> {
        let source = BTreeMap::from([(name.to_owned(), "7".to_owned())]);
        let loaded = Config::load(&source);
        let mistakes = loaded.at_least(Severity::Mistake);
        mistakes.map(ToString::to_string).collect()
    }

    #[test]
    fn near_misses_are_told_with_the_nearest_name() {
        for (name, meant) in [
            ("WARM_IP_TARGT", "WARM_IP_TARGET"),
            ("WARM_PERFIX_TARGET", "WARM_PREFIX_TARGET"),
            ("ENABLE_IPV4", "ENABLE_IPv4"),
            ("ENABLE_PREFIX_DELEGATIONS", "ENABLE_PREFIX_DELEGATION"),
            ("MAX_ENIS", "MAX_ENI"),
            ("IPAMD_MAXPODS", "IPAMD_MAX_PODS"),
            ("IPAMD_SOMETHING_ELSE", "IPAMD_"),
        ] {
            let told = told(name);
            assert_eq!(told.len(), 1, "{name}: {told:?}");
            assert!(
                told[0].contains(name) && told[0].contains(meant),
                "{told:?}"
            );
        }
    }

    #[test]
    fn others_names_are_left_alone() {
        for name in [
            "PATH",
            "HOSTNAME",
            "HOME",
            "FTP_PROXY",
            "AWS_DEFAULT_REGION",
            "AWS_STS_REGIONAL_ENDPOINTS",
            "KUBERNETES_PORT_443_TCP_ADDR",
            "KUBERNETES_SERVICE_PORT_HTTPS",
            "IPAMD_SERVICE_HOST",
            "IPAMD_SERVICE_PORT_METRICS",
            "IPAMD_PORT",
            "IPAMD_PORT_61678_TCP_PROTO",
            "GOMAXPROCS",
            "MAX_PODS",
        ] {
            assert_eq!(told(name), Vec::<String>::new(), "{name}");
        }
    }
}
