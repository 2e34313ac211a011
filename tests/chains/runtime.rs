//! libcni as the runtime: our Go program, once for each call.

use ipamd_tests::fail;
use lab::cni::Call;
use lab::{Pod, Programs};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vpc_sim::testing::Failure;

/// Where `cargo xtask test` has put the programs, or why it could not.
const PROGRAMS: &str = "IPAMD_CHAINS_BIN";
const SKIP: &str = "IPAMD_CHAINS_SKIP";

/// One call: libcni itself gives up after 60 s.
const LIMIT: Duration = Duration::from_secs(90);

/// A runtime with a network configuration.
#[derive(Debug)]
pub(crate) struct Chain {
    programs: PathBuf,
    plugin: PathBuf,
    conflist: PathBuf,
    capabilities: Value,
    /// A changed configuration, as long as it is needed.
    _changed: Option<tempfile::TempDir>,
}

impl Chain {
    /// With this configuration, as a path in the nodes' mounts.
    pub(crate) fn at(conflist: PathBuf) -> Result<Self, Failure> {
        let Some(programs) = std::env::var_os(PROGRAMS) else {
            let reason = std::env::var(SKIP);
            let reason = reason.unwrap_or_else(|_| "`cargo xtask test` builds the programs".into());
            return Err(Failure::Skip(reason));
        };
        Ok(Self {
            programs: programs.into(),
            plugin: Programs::find()?.plugin,
            conflist,
            capabilities: Value::Null,
            _changed: None,
        })
    }

    /// With one of `deploy/conflists`.
    pub(crate) fn shipped(name: &str) -> Result<Self, Failure> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/conflists");
        Self::at(all.join(name).with_extension("conflist"))
    }

    /// With one of these that is changed.
    pub(crate) fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Result<Self, Failure> {
        let shipped = Self::shipped(name)?;
        let mut list = serde_json::from_str(&std::fs::read_to_string(&shipped.conflist)?)?;
        change(&mut list);
        let dir = tempfile::TempDir::new()?;
        let conflist = dir.path().join("changed.conflist");
        std::fs::write(&conflist, list.to_string())?;
        Ok(Self {
            conflist,
            _changed: Some(dir),
            ..shipped
        })
    }

    /// What the runtime passes on to plugins that can use it.
    pub(crate) fn capabilities(mut self, capabilities: &Value) -> Self {
        self.capabilities = capabilities.clone();
        self
    }

    /// ADD; the pod keeps the result of a successful one.
    pub(crate) fn add(&self, pod: &mut Pod, if_name: &str) -> Result<Call, Failure> {
        let call = self.call("add", pod, if_name)?;
        if call.ok() && if_name == "eth0" {
            pod.result = Some(call.json());
        }
        Ok(call)
    }

    /// DEL.
    pub(crate) fn del(&self, pod: &mut Pod, if_name: &str) -> Result<Call, Failure> {
        let call = self.call("del", pod, if_name)?;
        if call.ok() && if_name == "eth0" {
            pod.result = None;
        }
        Ok(call)
    }

    /// Any verb about an attachment.
    pub(crate) fn call(&self, verb: &str, pod: &Pod, if_name: &str) -> Result<Call, Failure> {
        let mut command = self.command(verb);
        command
            .arg(&pod.container_id)
            .arg(pod.netns_path())
            .arg(if_name);
        // As Multus gives them: each key twice, and another spelling of the boolean.
        let pair = format!(
            "IgnoreUnknown=true;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            pod.namespace, pod.name, pod.container_id
        );
        command.env("CNI_ARGS", format!("{pair};K8S_ODD=1;{pair}"));
        if !self.capabilities.is_null() {
            command.env("CAP_ARGS", self.capabilities.to_string());
        }
        Ok(lab::cni::run(&pod.node, command, "", LIMIT)?)
    }

    /// A verb about the network as a whole, on a node.
    pub(crate) fn network(
        &self,
        verb: &str,
        node: &lab::Node,
        valid: &[Value],
    ) -> Result<Call, Failure> {
        let mut command = self.command(verb);
        command.env("VALID", json!(valid).to_string());
        Ok(lab::cni::run(node.sim(), command, "", LIMIT)?)
    }

    fn command(&self, verb: &str) -> Command {
        let ours = self.plugin.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new(self.programs.join("chains"));
        command
            .arg(verb)
            .arg(&self.conflist)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CACHE", "/var/lib/cni")
            .env(
                "CNI_PATH",
                format!("{}:{}", self.programs.display(), ours.display()),
            )
            .current_dir("/");
        command
    }
}

/// The first node of a scene.
pub(crate) fn first(scene: &ipamd_tests::Scene) -> Result<&lab::Node, Failure> {
    scene
        .cluster
        .nodes()
        .first()
        .map_or_else(|| fail("no node"), Ok)
}
