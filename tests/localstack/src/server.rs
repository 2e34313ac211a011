//! LocalStack's process: started on this namespace's loopback, ended when the value goes. All that it
//! writes is in a folder of its own, which goes too; only its catalogue of services, seconds of
//! work, is kept for the next run.

use crate::{ec2, http};
use bytes::Bytes;
use hyper::{HeaderMap, Method};
use ipamd_tests::fail;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Handle;
use vpc_sim::testing::{Failure, spawn_here};

/// In a namespace of the test's own nobody else has it.
const PORT: u16 = 4566;
/// From start to the first answer, on a busy machine.
const START: Duration = Duration::from_secs(90);
/// Below `FILESYSTEM_ROOT`.
const CACHE: &str = "var/lib/localstack/cache";

/// How much of LocalStack's EC2 is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All, but for the form of MAC addresses.
    Stock,
    /// With the plugin: prefixes, unique addresses, limits.
    Completed,
    /// It runs, and has no EC2.
    WithoutEc2,
}

/// A running LocalStack.
#[derive(Debug)]
pub struct LocalStack {
    process: Child,
    folder: TempDir,
    cache: PathBuf,
}

impl LocalStack {
    /// Starts it, without waiting for it. Call it in namespaces of the test's own.
    ///
    /// # Errors
    /// It can't be started; a skip with the reason if it is not set up here.
    pub fn start(kind: Kind) -> Result<Self, Failure> {
        let (venv, cache) = set_up()?;
        let folder = tempfile::Builder::new()
            .prefix("ipamd-localstack-")
            .tempdir()?;
        let kept = folder.path().join(CACHE);
        fs::create_dir_all(&kept)?;
        copy(&cache, &kept)?;
        let log = fs::File::create(folder.path().join("log"))?;
        let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin");
        let mut command = Command::new(venv.join("bin/python"));
        command
            .args(["-m", "localstack.runtime.main"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .env("PYTHONPATH", plugin)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("IPAMD_LOCALSTACK", variant(kind))
            // A file named /.dockerenv would make it write to places of the machine.
            .env("OVERRIDE_IN_DOCKER", "0")
            .env("FILESYSTEM_ROOT", folder.path())
            .env("GATEWAY_LISTEN", format!("127.0.0.1:{PORT}"))
            .envs(services(kind))
            .env("STRICT_SERVICE_LOADING", "1")
            .env("DISABLE_EVENTS", "1")
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("DNS_ADDRESS", "0")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Self {
            process: spawn_here(command)?,
            folder,
            cache,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, PORT).into()
    }

    /// Waits until it answers a call.
    ///
    /// # Errors
    /// It ended, or does not in time; the end of its log.
    pub fn wait(&mut self, runtime: &Handle) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let asked = runtime.block_on(self.ask("/_localstack/health"));
            if asked.is_ok_and(|status| status == 200) {
                // The first call builds the catalogue.
                runtime.block_on(ec2::answer(self.address(), &[("Action", "DescribeVpcs")]))?;
                copy(&self.folder.path().join(CACHE), &self.cache)?;
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                return fail(format!("LocalStack ended with {status}:\n{}", self.log()));
            }
            if began.elapsed() > START {
                return fail(format!(
                    "LocalStack is not there after {START:?}:\n{}",
                    self.log()
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    async fn ask(&self, path: &str) -> Result<u16, http::HttpError> {
        let headers = HeaderMap::new();
        let answer =
            http::exchange(self.address(), Method::GET, path, &headers, Bytes::new()).await?;
        Ok(answer.status.as_u16())
    }

    /// The end of what it said.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        // Its group is its own, and while it has not been waited for, its id is nobody else's.
        if let (Ok(None), Ok(pid)) = (self.process.try_wait(), i32::try_from(self.process.id())) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

fn variant(kind: Kind) -> &'static str {
    match kind {
        Kind::Stock | Kind::WithoutEc2 => "stock",
        Kind::Completed => "completed",
    }
}

fn services(kind: Kind) -> [(&'static str, &'static str); 2] {
    match kind {
        Kind::WithoutEc2 => [("SERVICES", "sts"), ("EAGER_SERVICE_LOADING", "0")],
        Kind::Stock | Kind::Completed => [("SERVICES", "ec2"), ("EAGER_SERVICE_LOADING", "1")],
    }
}

/// The environment that `cargo xtask test` has made, and the folder for what is kept.
fn set_up() -> Result<(PathBuf, PathBuf), Failure> {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    if let (Some(venv), Some(cache)) = (
        named("IPAMD_LOCALSTACK_VENV"),
        named("IPAMD_LOCALSTACK_CACHE"),
    ) {
        return Ok((venv, cache));
    }
    let reason = std::env::var("IPAMD_LOCALSTACK_SKIP")
        .unwrap_or_else(|_| "LocalStack is not set up: `cargo xtask test` does that".into());
    Err(Failure::Skip(reason))
}

/// Copies the files of one folder to another, each of them whole or not at all.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let file = entry?;
        let target = to.join(file.file_name());
        if target.exists() || !file.file_type()?.is_file() {
            continue;
        }
        let mut whole = tempfile::NamedTempFile::new_in(to)?;
        std::io::copy(&mut fs::File::open(file.path())?, &mut whole)?;
        whole.persist(target)?;
    }
    Ok(())
}
