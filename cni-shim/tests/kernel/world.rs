//! The runtime's part: namespaces for pods, and invocations of the plugin.

use cni_shim::{Process, run};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A network namespace that is there as long as this is.
#[derive(Debug)]
pub(crate) struct Netns {
    file: File,
}

impl Netns {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().expect("the thread does not panic")?;
        Ok(Self { file })
    }

    /// The namespace of the test itself: the host's.
    pub(crate) fn host() -> std::io::Result<Self> {
        Self::host_of_thread()
    }

    /// The namespace of the calling thread.
    pub(crate) fn host_of_thread() -> std::io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/thread-self/ns/net")?,
        })
    }

    pub(crate) fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// The same namespace once more.
    pub(crate) fn again(&self) -> std::io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
        })
    }

    /// Runs `f` inside, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                nix::sched::setns(&self.file, CloneFlags::CLONE_NEWNET).expect("setns");
                f()
            });
            inside.join().expect("the thread does not panic")
        })
    }
}

impl Netns {
    /// Runs `f` inside; the thread stays there.
    pub(crate) fn run_here<T>(&self, f: impl FnOnce() -> T) -> T {
        nix::sched::setns(&self.file, CloneFlags::CLONE_NEWNET).expect("setns");
        f()
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) exit_code: u8,
    /// Null if stdout was empty.
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn read(exit_code: u8, stdout: &[u8]) -> Self {
        let json = match stdout {
            [] => Value::Null,
            text => serde_json::from_slice(text).expect("stdout is one JSON value"),
        };
        Self { exit_code, json }
    }

    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.exit_code, 0, "{}", self.json);
        self.json
    }

    pub(crate) fn error(self, code: u64) -> String {
        assert_eq!(self.exit_code, 1);
        assert_eq!(self.json["code"].as_u64(), Some(code), "{}", self.json);
        let details = self.json["details"].as_str().unwrap_or_default();
        format!(
            "{} {details}",
            self.json["msg"].as_str().expect("a message")
        )
    }
}

/// A runtime with one network, and what it says of an attachment.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    pub(crate) conf: Value,
    pub(crate) container_id: String,
    pub(crate) if_name: String,
    pub(crate) pod: String,
    /// The administrator's file, which allows the scene's directory.
    pub(crate) rules: String,
}

impl Runtime {
    pub(crate) fn new(dir: &Path) -> Self {
        let rules = dir.join("plugin.json");
        let allowed = json!({"socketDirs": [dir], "spoolDirs": [dir]}).to_string();
        std::fs::write(&rules, allowed).expect("the directory is ours");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&rules, mode).expect("the file is ours");
        let conf = json!({
            "cniVersion": "1.1.0",
            "name": "net",
            "type": "ipamd-cni",
            "socket": dir.join("ipamd.sock"),
            "spoolDir": dir.join("spool"),
            "addTimeout": "5s",
        });
        Self {
            conf,
            container_id: "c1".into(),
            if_name: "eth0".into(),
            pod: "web-0".into(),
            rules: rules.to_string_lossy().into_owned(),
        }
    }

    /// The same network, another sandbox and pod.
    pub(crate) fn other(&self, container_id: &str, pod: &str) -> Self {
        Self {
            container_id: container_id.into(),
            pod: pod.into(),
            ..self.clone()
        }
    }

    /// With the result of the ADD, as a runtime passes it to DEL and CHECK.
    pub(crate) fn with_result(&self, result: &Value) -> Self {
        let mut with = self.clone();
        with.conf["prevResult"] = result.clone();
        with
    }

    pub(crate) fn env(&self, verb: &str, netns: &str) -> [(&'static str, String); 7] {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}",
            self.pod
        );
        [
            ("CNI_COMMAND", verb.into()),
            ("CNI_CONTAINERID", self.container_id.clone()),
            ("CNI_NETNS", netns.into()),
            ("CNI_IFNAME", self.if_name.clone()),
            ("CNI_ARGS", args),
            ("CNI_PATH", "/nowhere".into()),
            ("IPAMD_PLUGIN_CONFIG", self.rules.clone()),
        ]
    }

    pub(crate) fn command(&self, verb: &str, netns: &str) -> Answer {
        let env = self.env(verb, netns);
        let get = |name: &str| {
            env.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let exit_code = run(&mut Process {
            env: &get,
            stdin: &mut self.conf.to_string().as_bytes(),
            stdout: &mut stdout,
            stderr: &mut stderr,
        });
        Answer::read(exit_code, &stdout)
    }

    pub(crate) fn add(&self, netns: &Netns) -> Answer {
        self.command("ADD", &netns.path())
    }

    pub(crate) fn del(&self, netns: &Netns) -> Answer {
        self.command("DEL", &netns.path())
    }
}
