//! A pod as a runtime sees it: a name, a sandbox id, a network namespace, and the plugin's result.

use crate::error::LabError;
use serde_json::Value;
use std::net::IpAddr;
use vpc_sim::PodNs;

/// A pod on a node. Its namespace goes with it, unless it was taken away before.
#[derive(Debug)]
pub struct Pod {
    /// Where.
    pub node: vpc_sim::Node,
    /// `K8S_POD_NAMESPACE`
    pub namespace: String,
    /// `K8S_POD_NAME`
    pub name: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// Its network namespace, while it is there.
    pub netns: Option<PodNs>,
    /// The result of its ADD, which its DEL gets as `prevResult`.
    pub result: Option<Value>,
}

impl Pod {
    /// Makes the namespace of a pod. Nothing is in it but `lo`.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn make(node: &vpc_sim::Node, name: &str) -> Result<Self, LabError> {
        let netns = node.make_pod_netns(&format!("cni-{name}"))?;
        Ok(Self {
            node: node.clone(),
            namespace: "default".into(),
            name: name.into(),
            container_id: format!("{name}-sandbox-0"),
            netns: Some(netns),
            result: None,
        })
    }

    /// `namespace/name`
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether its ADD succeeded and no DEL followed.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.result.is_some()
    }

    /// Its addresses as the plugin's result names them.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.result.as_ref().and_then(|r| r["ips"].as_array());
        let cidrs = ips
            .into_iter()
            .flatten()
            .filter_map(|ip| ip["address"].as_str());
        cidrs
            .filter_map(|cidr| cidr.split('/').next()?.parse().ok())
            .collect()
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses().first().copied()
    }

    /// The host's end of its link as the plugin's result names it: the interface outside the pod.
    #[must_use]
    pub fn host_link(&self) -> Option<String> {
        let links = self.result.as_ref()?["interfaces"].as_array()?;
        let outside = links
            .iter()
            .find(|link| link["sandbox"].as_str().unwrap_or_default().is_empty());
        outside?["name"].as_str().map(str::to_owned)
    }

    /// Path of its namespace in the node's mounts; empty when it is gone (CNI spec 1.1.0: a DEL
    /// may come without).
    #[must_use]
    pub fn netns_path(&self) -> String {
        self.netns
            .as_ref()
            .map(|ns| ns.path().display().to_string())
            .unwrap_or_default()
    }

    /// Takes its namespace away, as a runtime does after DEL.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_netns(&mut self) -> Result<(), LabError> {
        Ok(self.netns.take().map_or(Ok(()), PodNs::delete)?)
    }
}
