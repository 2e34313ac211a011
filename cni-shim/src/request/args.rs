//! `CNI_ARGS`: what the runtime says of the pod.

use ipam_core::PodRef;

/// `CNI_ARGS`, as far as we use it. Multus gives each key twice and spells `IgnoreUnknown` in two
/// ways; the order is random.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) pod: PodRef,
    unknown: Vec<String>,
    ignore_unknown: bool,
}

impl Args {
    /// Reads `KEY=VALUE;…`. Of a repeated key the last counts. Problems are added to `problems`.
    pub(crate) fn parse(text: &str, problems: &mut Vec<String>) -> Self {
        let mut args = Self::default();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() => args.set(key, value, problems),
                _ => problems.push(format!("CNI_ARGS: {pair:?} is not KEY=VALUE")),
            }
        }
        if !args.ignore_unknown && !args.unknown.is_empty() {
            let keys = args.unknown.join(", ");
            problems.push(format!(
                "CNI_ARGS: unknown keys {keys}, and no IgnoreUnknown=1"
            ));
        }
        args
    }

    fn set(&mut self, key: &str, value: &str, problems: &mut Vec<String>) {
        match key {
            "K8S_POD_NAMESPACE" => self.pod.namespace = value.into(),
            "K8S_POD_NAME" => self.pod.name = value.into(),
            "K8S_POD_UID" => self.pod.uid = value.into(),
            // The same as `CNI_CONTAINERID`.
            "K8S_POD_INFRA_CONTAINER_ID" => {}
            "IgnoreUnknown" => match value.to_ascii_lowercase().as_str() {
                "1" | "true" => self.ignore_unknown = true,
                "0" | "false" => {}
                _ => problems.push(format!("CNI_ARGS: IgnoreUnknown={value} is no boolean")),
            },
            _ => self.unknown.push(key.into()),
        }
    }
}
