//! The network configuration that the container runtime finds once pods can be served.
//!
//! Owns one file in the runtime's directory: it is put there in one step, made anew at a start when what it
//! should say has changed, put back when somebody removes it, and never removed: a daemon that is away is no
//! reason to take a node for unready. What others add to it meanwhile (a service mesh chains its plugin) stays.

use crate::served::{keep, put};
use ipam_engine::Handle;
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The plugin that the configuration must name.
const PLUGIN: &str = "ipamd-cni";
/// What is installed if nobody names another file.
const PLAIN: &str = include_str!("../../deploy/conflists/plain.conflist");

/// What to install, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The runtime's directory (`HOST_CNI_CONFDIR_PATH`). Where there is none, nothing is installed.
    pub dir: PathBuf,
    /// The file's name there (`IPAMD_CONFLIST_NAME`).
    pub name: String,
    /// Another configuration than the built-in one (`IPAMD_CONFLIST`).
    pub source: Option<PathBuf>,
    /// Chain `bandwidth` (`ENABLE_BANDWIDTH_PLUGIN`).
    pub bandwidth: bool,
    /// Chain `tuning`, to switch IPv6 off in pods (`DISABLE_POD_V6`).
    pub no_pod_v6: bool,
    /// The daemon's socket, if it is not where the plugin looks by itself.
    pub socket: Option<PathBuf>,
    /// Where releases wait for the daemon, if it is not where the plugin puts them by itself.
    pub spool: Option<PathBuf>,
}

/// A configuration that can't be installed.
#[derive(Debug, thiserror::Error)]
enum ConflistError {
    #[error("it is not JSON")]
    Json(#[from] serde_json::Error),
    #[error("it is not a network configuration list: {0}")]
    Shape(&'static str),
}

/// Waits for the first address, then installs the configuration, and keeps it.
pub async fn install(settings: Settings, engine: Handle) {
    // An engine that has ended serves nobody.
    if engine.served().await.is_err() {
        return;
    }
    let file = settings.dir.join(&settings.name);
    let what = format!("installing the network configuration {}", file.display());
    let (mut installed, mut told) = (false, false);
    keep(&what, || {
        if !settings.dir.is_dir() {
            if !told {
                let dir = settings.dir.display();
                tracing::info!(%dir, "no such directory: without it no network configuration is installed");
            }
            told = true;
            return Ok(());
        }
        if installed && names_us(&file) {
            return Ok(());
        }
        renew(&settings, &file)?;
        (installed, told) = (true, false);
        Ok(())
    })
    .await;
}

/// Whether it is there, and a configuration in which our plugin has a place.
fn names_us(file: &Path) -> bool {
    let text = fs::read_to_string(file);
    let list = text
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let plugins = list
        .as_ref()
        .and_then(|list| list.get("plugins")?.as_array());
    plugins.is_some_and(|plugins| {
        let mut kinds = plugins
            .iter()
            .filter_map(|plugin| plugin.get("type")?.as_str());
        kinds.any(|kind| kind == PLUGIN)
    })
}

/// Leaves a file that is right as it is.
fn renew(settings: &Settings, file: &Path) -> io::Result<()> {
    let source = match &settings.source {
        None => PLAIN.to_owned(),
        Some(path) => fs::read_to_string(path)
            .map_err(|e| io::Error::new(e.kind(), format!("reading {}: {e}", path.display())))?,
    };
    let text = render(&source, settings).map_err(io::Error::other)?;
    if fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    put(file, text.as_bytes())?;
    tracing::info!(file = %file.display(), "the network configuration is installed");
    Ok(())
}

/// The text to install: as it came, but for what the settings add. What it has already stays.
fn render(source: &str, settings: &Settings) -> Result<String, ConflistError> {
    let mut list: Value = serde_json::from_str(source)?;
    let named = list.get("name").and_then(Value::as_str);
    if named.is_none_or(str::is_empty) {
        return Err(ConflistError::Shape("it has no name"));
    }
    let plugins = list.get_mut("plugins").and_then(Value::as_array_mut);
    let plugins = plugins.ok_or(ConflistError::Shape("it has no list of plugins"))?;
    let before = plugins.clone();
    let ours = plugins
        .iter_mut()
        .find(|plugin| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN));
    let ours = ours.and_then(Value::as_object_mut);
    let ours = ours.ok_or(ConflistError::Shape("none of its plugins is ipamd-cni"))?;
    set(ours, "socket", settings.socket.as_deref());
    set(ours, "spoolDir", settings.spool.as_deref());
    let more = [
        (settings.bandwidth, bandwidth as fn() -> Value),
        (settings.no_pod_v6, no_pod_v6),
    ];
    for plugin in more
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, make)| make())
    {
        if !plugins
            .iter()
            .any(|there| there.get("type") == plugin.get("type"))
        {
            plugins.push(plugin);
        }
    }
    if *plugins == before {
        return Ok(source.to_owned());
    }
    Ok(format!("{}\n", serde_json::to_string_pretty(&list)?))
}

fn set(plugin: &mut Map<String, Value>, key: &str, path: Option<&Path>) {
    if let Some(path) = path {
        let path = || path.display().to_string().into();
        plugin.entry(key).or_insert_with(path);
    }
}

fn bandwidth() -> Value {
    json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })
}

/// As Amazon's CNI does it.
fn no_pod_v6() -> Value {
    let key = |scope| format!("net.ipv6.conf.{scope}.disable_ipv6");
    let off = ["all", "default", "lo"].map(|scope| (key(scope), Value::from("1")));
    json!({ "type": "tuning", "sysctl": Map::from_iter(off) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> Settings {
        Settings {
            dir: dir.to_owned(),
            name: "10-ipamd.conflist".into(),
            source: None,
            bandwidth: false,
            no_pod_v6: false,
            socket: None,
            spool: None,
        }
    }

    fn types(text: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(text).expect("JSON");
        let plugins = list["plugins"].as_array().expect("plugins").iter();
        plugins
            .map(|p| p["type"].as_str().unwrap_or("").to_owned())
            .collect()
    }

    #[test]
    fn what_is_right_stays_as_it_was_written() {
        let text = render(PLAIN, &settings(Path::new("/"))).expect("renders");
        assert_eq!(text, PLAIN);
    }

    #[test]
    fn settings_add_what_is_not_there() {
        let settings = Settings {
            bandwidth: true,
            no_pod_v6: true,
            socket: Some("/run/other.sock".into()),
            ..settings(Path::new("/"))
        };
        let text = render(PLAIN, &settings).expect("renders");
        assert_eq!(types(&text), ["ipamd-cni", "bandwidth", "tuning"]);
        assert!(text.contains("\"socket\": \"/run/other.sock\""), "{text}");
        assert!(
            text.contains("\"net.ipv6.conf.lo.disable_ipv6\": \"1\""),
            "{text}"
        );
        assert_eq!(render(&text, &settings).expect("renders"), text);
    }

    #[test]
    fn what_is_no_conflist_of_ours_is_not_installed() {
        let settings = settings(Path::new("/"));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"name": "n"}"#,
            r#"{"name": "n", "plugins": [{"type": "bridge"}]}"#,
            r#"{"plugins": [{"type": "ipamd-cni"}]}"#,
            r#"{"name": "n", "type": "ipamd-cni"}"#,
        ] {
            assert!(render(text, &settings).is_err(), "{text}");
        }
    }

    /// The file or the whole directory, also one that was not there at the start; and what others add stays.
    #[tokio::test]
    async fn what_is_removed_comes_back() {
        use ipam_engine::api::Request;
        let top = tempfile::TempDir::new().expect("makes a directory");
        let settings = settings(&top.path().join("net.d"));
        let file = settings.dir.join(&settings.name);
        let (engine, mut door) = Handle::new();
        let installing = tokio::spawn(install(settings.clone(), engine));
        let Some(Request::Served(reply)) = door.recv().await else {
            panic!("not asked")
        };
        reply.send(()).expect("is waited for");
        let until = async |so: &dyn Fn() -> bool| {
            let begin = std::time::Instant::now();
            while !so() {
                assert!(begin.elapsed() < std::time::Duration::from_secs(10));
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let is_whole = || fs::read_to_string(&file).is_ok_and(|text| text == PLAIN);
        fs::create_dir(&settings.dir).expect("makes it");
        until(&is_whole).await;
        fs::remove_file(&file).expect("removes");
        until(&is_whole).await;
        fs::write(&file, "").expect("empties");
        until(&is_whole).await;
        fs::remove_dir_all(&settings.dir).expect("removes");
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        fs::create_dir(&settings.dir).expect("makes it");
        until(&is_whole).await;
        let chained = PLAIN.replacen("\"plugins\": [", "\"plugins\": [{\"type\": \"mesh\"},", 1);
        assert_ne!(chained, PLAIN);
        fs::write(&file, &chained).expect("writes");
        tokio::time::sleep(std::time::Duration::from_millis(2200)).await;
        assert_eq!(fs::read_to_string(&file).ok(), Some(chained));
        installing.abort();
    }

    #[test]
    fn a_file_is_made_anew_only_if_it_must_be() {
        let dir = tempfile::TempDir::new().expect("makes a directory");
        let mut settings = settings(dir.path());
        let file = dir.path().join(&settings.name);
        let inode = || {
            use std::os::unix::fs::MetadataExt as _;
            fs::metadata(&file).map(|m| m.ino()).expect("is there")
        };
        renew(&settings, &file).expect("installs");
        let first = inode();
        renew(&settings, &file).expect("leaves it");
        assert_eq!(inode(), first);
        settings.bandwidth = true;
        renew(&settings, &file).expect("replaces it");
        assert_ne!(inode(), first);
        assert_eq!(fs::read_dir(&dir).expect("reads").count(), 1);
    }
}
