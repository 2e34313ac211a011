//! Results and errors as JSON, in the shape of the spec version that was asked with.

use crate::error::CniError;
use crate::request::{Conf, Version};
use ipam_core::wiring::{PodWiring, Route, Scope, TABLE_MAIN};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What a person is told who runs the plugin by hand.
pub(crate) fn about() -> String {
    let commit =
        option_env!("IPAMD_COMMIT").map_or_else(String::new, |commit| format!(" ({commit})"));
    format!(
        "ipamd-cni {}{commit}, a CNI plugin: container runtimes run it, which set CNI_COMMAND\n\
         CNI protocol versions supported: {}\n",
        env!("CARGO_PKG_VERSION"),
        Version::ALL.map(Version::as_str).join(", ")
    )
}

/// The answer to VERSION. `asked` is echoed, as the spec says.
pub(crate) fn versions(asked: Option<Version>) -> Value {
    json!({
        "cniVersion": asked.unwrap_or(Version::LATEST).as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

/// An error (CNI spec 1.1.0, section 5, "Error").
pub(crate) fn error(version: Version, error: &CniError) -> Value {
    let mut object = json!({
        "cniVersion": version.as_str(),
        "code": error.code,
        "msg": error.msg,
    });
    if !error.details.is_empty() {
        object["details"] = Value::from(error.details.as_str());
    }
    object
}

/// The result of an ADD: what is in the kernel now. A prevResult (an earlier plugin of the chain)
/// comes first and is passed on.
pub(crate) fn added(conf: &Conf, wiring: &PodWiring, netns: &str) -> Value {
    let mut result = match &conf.prev_result {
        Some(prev) => prev.raw.clone(),
        None => Map::new(),
    };
    let mut all = list(&mut result, "interfaces");
    let pod_index = all.len() + 1;
    all.extend(interfaces(conf.version, wiring, netns));
    let mut ips = list(&mut result, "ips");
    ips.extend(told(wiring).map(|(net, gateway)| {
        let mut ip = json!({
            "address": net.to_string(),
            "gateway": gateway.to_string(),
            "interface": pod_index,
        });
        if conf.version < Version::V1_0_0 {
            ip["version"] = Value::from(if net.addr().is_ipv4() { "4" } else { "6" });
        }
        ip
    }));
    let mut routes = list(&mut result, "routes");
    // Before 1.1.0 a route of another table can't be told, and must not look like one of the main table.
    let told = |r: &&Route| conf.version >= Version::V1_1_0 || r.table == TABLE_MAIN;
    let told = wiring.pod_routes.iter().filter(told);
    routes.extend(told.map(|r| route(conf.version, r)));
    result.insert("cniVersion".into(), conf.version.as_str().into());
    result.insert("interfaces".into(), all.into());
    result.insert("ips".into(), ips.into());
    result.insert("routes".into(), routes.into());
    match &conf.dns {
        // As the reference plugins do: the network's word goes before an earlier plugin's.
        Some(dns) => drop(result.insert("dns".into(), dns.clone().into())),
        None => drop(result.entry("dns").or_insert_with(|| json!({}))),
    }
    Value::Object(result)
}

/// The addresses that the result names, with their gateways. Node-local ones have none.
pub(crate) fn told(wiring: &PodWiring) -> impl Iterator<Item = (&IpNet, &IpAddr)> {
    wiring.pod_addresses.iter().zip(&wiring.gateways)
}

/// Takes out a list; none if something else is there.
fn list(result: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    match result.remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn interfaces(version: Version, wiring: &PodWiring, netns: &str) -> [Value; 2] {
    let mut host = json!({ "name": wiring.host_if, "mac": wiring.host_mac.to_string() });
    let mut pod = json!({
        "name": wiring.pod_if,
        "mac": wiring.pod_mac.to_string(),
        "sandbox": netns,
    });
    if version >= Version::V1_1_0 && wiring.mtu > 0 {
        host["mtu"] = wiring.mtu.into();
        pod["mtu"] = wiring.mtu.into();
    }
    [host, pod]
}

/// `RT_SCOPE_LINK`
const SCOPE_LINK: u32 = 253;

fn route(version: Version, route: &Route) -> Value {
    let mut object = json!({ "dst": route.dst.to_string() });
    if let Some(via) = route.via {
        object["gw"] = Value::from(via.to_string());
    }
    if version >= Version::V1_1_0 && route.scope == Scope::Link {
        object["scope"] = SCOPE_LINK.into();
    }
    if version >= Version::V1_1_0 && route.table != TABLE_MAIN {
        object["table"] = route.table.into();
    }
    object
}
