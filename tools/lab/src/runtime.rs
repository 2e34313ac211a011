//! A container runtime, as far as its network goes: runs the plugin for pods, several at once, and
//! tries a failed ADD again as containerd and the kubelet do.

use crate::cni::{self, Call};
use crate::error::LabError;
use crate::interrupt;
use crate::pod::Pod;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One run of the plugin; it has its own, shorter deadlines.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// Runs a plugin.
#[derive(Clone, Debug)]
pub struct Runtime {
    plugin: PathBuf,
    config: Value,
    env: Vec<(String, String)>,
    alone: bool,
}

/// How long a runtime goes on with a pod whose ADD fails.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Wait between the DEL after a failed ADD and the next ADD.
    pub retry_after: Duration,
    /// No further ADD after so long.
    pub limit: Duration,
}

impl Patience {
    /// One ADD, no second.
    pub const NONE: Self = Self {
        retry_after: Duration::ZERO,
        limit: Duration::ZERO,
    };
    /// Again a second after a failure, as design section 7 measures.
    pub const BENCH: Self = Self {
        retry_after: Duration::from_secs(1),
        limit: Duration::from_secs(120),
    };
}

/// What runs of the plugin came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Successful ADDs, exec to exit.
    pub adds: Vec<Duration>,
    /// Successful DELs.
    pub dels: Vec<Duration>,
    /// How each failed ADD ended.
    pub failed_adds: Vec<String>,
    /// How each failed DEL ended.
    pub failed_dels: Vec<String>,
    /// From the start of the work until each pod was up.
    pub up_after: Vec<Duration>,
}

/// What is told while work on many pods goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// A pod is up.
    Up(&'a Pod),
    /// An ADD failed, in the plugin's words.
    Failed(&'a Pod, &'a str),
}

/// Lines for a shell on a node.
#[derive(Clone, Debug)]
pub struct ByHand {
    /// Makes a namespace and runs the plugin's ADD.
    pub add: String,
    /// Runs its DEL and takes the namespace away.
    pub del: String,
}

impl Tally {
    /// Adds another's figures.
    pub fn extend(&mut self, other: Self) {
        self.adds.extend(other.adds);
        self.dels.extend(other.dels);
        self.failed_adds.extend(other.failed_adds);
        self.failed_dels.extend(other.failed_dels);
        self.up_after.extend(other.up_after);
    }
}

impl Runtime {
    /// The plugin `ipamd-cni` with the shipped network configuration.
    #[must_use]
    pub fn ipamd(plugin: &Path) -> Self {
        let config = json!({
            "cniVersion": "1.1.0",
            "name": "ipamd",
            "type": "ipamd-cni",
            "capabilities": {"io.kubernetes.cri.pod-annotations": true},
        });
        Self::new(plugin, config)
    }

    /// Any plugin with any configuration.
    #[must_use]
    pub fn new(plugin: &Path, config: Value) -> Self {
        Self {
            plugin: plugin.to_owned(),
            config,
            env: Vec::new(),
            alone: false,
        }
    }

    /// Sets a field of the network configuration.
    #[must_use]
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// Sets a variable of the plugin's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Measures more exactly, one at a time: see [`cni::run_alone`].
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// One ADD. The pod keeps the result of a successful one.
    ///
    /// # Errors
    /// The plugin can't be run; its own failure is a [`Call`] that is not [ok](Call::ok).
    pub fn add(&self, pod: &mut Pod) -> Result<Call, LabError> {
        let call = self.call("ADD", pod, None)?;
        if call.ok() {
            pod.result = Some(call.json());
        }
        Ok(call)
    }

    /// One DEL, with `prevResult` if there is one.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn del(&self, pod: &mut Pod) -> Result<Call, LabError> {
        let call = self.call("DEL", pod, pod.result.clone())?;
        if call.ok() {
            pod.result = None;
        }
        Ok(call)
    }

    /// One run of any command for a pod.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn call(
        &self,
        command: &str,
        pod: &Pod,
        prev_result: Option<Value>,
    ) -> Result<Call, LabError> {
        let mut config = self.config.clone();
        if let Some(prev_result) = prev_result {
            config["prevResult"] = prev_result;
        }
        let stdin = config.to_string();
        let process = self.command(command, pod);
        if self.alone {
            cni::run_alone(&pod.node, process, &stdin, CALL_LIMIT)
        } else {
            cni::run(&pod.node, process, &stdin, CALL_LIMIT)
        }
    }

    /// The process of one run, for callers that treat it in their own way.
    #[must_use]
    pub fn command(&self, command: &str, pod: &Pod) -> Command {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};\
             K8S_POD_UID=uid-{}",
            pod.namespace, pod.name, pod.container_id, pod.name
        );
        let mut process = Command::new(&self.plugin);
        process
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.container_id)
            .env("CNI_NETNS", pod.netns_path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", args)
            .env("CNI_PATH", self.plugin.parent().unwrap_or(Path::new("/")))
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .current_dir("/");
        process
    }

    /// What a person types in a shell on the node to add one more pod, and to delete it.
    #[must_use]
    pub fn by_hand(&self, node: &vpc_sim::Node, name: &str) -> ByHand {
        let pod = Pod {
            node: node.clone(),
            namespace: "default".into(),
            name: name.into(),
            container_id: format!("{name}-sandbox-0"),
            netns: None,
            result: None,
        };
        let netns = format!("/run/netns/cni-{name}");
        let run = |command| {
            let mut process = self.command(command, &pod);
            process.env("CNI_NETNS", &netns).env_remove("PATH");
            format!("echo '{}' | {}", self.stdin(), shell_words(&process))
        };
        ByHand {
            add: format!(
                "touch {netns} && unshare --net={netns} true && {}",
                run("ADD")
            ),
            del: format!("{} && umount {netns} && rm {netns}", run("DEL")),
        }
    }

    /// The network configuration as the plugin gets it, without `prevResult`.
    #[must_use]
    pub fn stdin(&self) -> String {
        self.config.to_string()
    }

    /// ADDs every pod, at most `at_once` at a time; a failed ADD is followed by DEL and tried again
    /// while there is patience. `news` hears of each.
    ///
    /// # Errors
    /// The plugin can't be run, or a person asked to stop. Pods that failed are in the tally.
    pub fn add_all(
        &self,
        pods: &mut [Pod],
        at_once: usize,
        patience: Patience,
        news: impl Fn(News<'_>) + Sync,
    ) -> Result<Tally, LabError> {
        let began = Instant::now();
        side_by_side(pods, at_once, |pod, tally| {
            while !pod.is_up() {
                interrupt::check()?;
                let call = self.add(pod)?;
                if call.ok() {
                    tally.adds.push(call.wall);
                    tally.up_after.push(began.elapsed());
                    news(News::Up(pod));
                    break;
                }
                let words = call.words();
                news(News::Failed(pod, &words));
                tally
                    .failed_adds
                    .push(format!("{}: {words}", pod.full_name()));
                let del = self.del(pod)?;
                if !del.ok() {
                    tally
                        .failed_dels
                        .push(format!("{}: {}", pod.full_name(), del.words()));
                }
                if began.elapsed() + patience.retry_after >= patience.limit {
                    break;
                }
                interrupt::sleep(patience.retry_after)?;
            }
            Ok(())
        })
    }

    /// DELs every pod that is up, and takes the namespaces away.
    ///
    /// # Errors
    /// As [`Self::add_all`].
    pub fn del_all(&self, pods: &mut [Pod], at_once: usize) -> Result<Tally, LabError> {
        side_by_side(pods, at_once, |pod, tally| {
            if pod.is_up() {
                let call = self.del(pod)?;
                if call.ok() {
                    tally.dels.push(call.wall);
                } else {
                    tally
                        .failed_dels
                        .push(format!("{}: {}", pod.full_name(), call.words()));
                }
            }
            pod.remove_netns()
        })
    }
}

/// A process as one types it: its own variables, then the program. They are names, paths and
/// numbers, which no quote is part of.
fn shell_words(process: &Command) -> String {
    let variables = process.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy();
        Some(format!("{}='{value}' ", name.to_string_lossy()))
    });
    let program = process.get_program().to_string_lossy();
    variables.chain([format!("'{program}'")]).collect()
}

/// Does `work` on every pod, at most `at_once` at a time; the first error ends it.
fn side_by_side(
    pods: &mut [Pod],
    at_once: usize,
    work: impl Fn(&mut Pod, &mut Tally) -> Result<(), LabError> + Sync,
) -> Result<Tally, LabError> {
    let workers = at_once.clamp(1, pods.len().max(1));
    let queue = Mutex::new(pods.iter_mut());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        let mut tally = Tally::default();
        while let Some(pod) = next() {
            work(pod, &mut tally)?;
        }
        Ok(tally)
    };
    if workers == 1 {
        return worker();
    }
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let mut result = Ok(());
        for thread in threads {
            match thread.join() {
                Ok(Ok(tally)) => all.extend(tally),
                Ok(Err(e)) => result = Err(e),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    Ok(all)
}
