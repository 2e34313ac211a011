//! How far a network configuration may lead the plugin, which runs as root.
//!
//! Under Multus whoever may make a `NetworkAttachmentDefinition` writes configurations: a `socket` of its
//! own would tell the plugin what to do, a `spoolDir` or `pluginLogFile` would make files anywhere. So
//! their paths stay below directories that only root writes to, and the node's administrator allows more
//! in a file that no configuration can name.

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde_json::{Map, Value};
use std::cell::OnceCell;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

/// The administrator's file.
const FILE: &str = "/etc/ipamd/plugin.json";
/// Names another file: whoever starts the plugin sets its environment, and is root.
const VARIABLE: &str = "IPAMD_PLUGIN_CONFIG";
/// The file is some hundred bytes.
const FILE_MAX: u64 = 64 << 10;

/// What a path in the network configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// `socket`
    Socket,
    /// `spoolDir`
    Spool,
    /// `pluginLogFile`
    Log,
}

impl Use {
    const fn roots(self) -> &'static [&'static str] {
        match self {
            Self::Socket => &["/run/ipamd", "/var/run/ipamd"],
            Self::Spool => &["/var/lib/ipamd"],
            Self::Log => &["/var/log"],
        }
    }

    /// The list in the administrator's file.
    const fn field(self) -> &'static str {
        match self {
            Self::Socket => "socketDirs",
            Self::Spool => "spoolDirs",
            Self::Log => "logDirs",
        }
    }
}

/// Decides about paths.
#[derive(Debug)]
pub(crate) struct Trust {
    file: PathBuf,
    /// What is in the file, or why it is not believed; read once, and only if it is asked for.
    rules: OnceCell<Result<Map<String, Value>, String>>,
}

impl Trust {
    pub(crate) fn new(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let named = variable(VARIABLE).filter(|name| !name.is_empty());
        Self::by(named.map_or_else(|| FILE.into(), PathBuf::from))
    }

    fn by(file: PathBuf) -> Self {
        Self {
            file,
            rules: OnceCell::new(),
        }
    }

    /// What the administrator allows.
    fn allowed(&self, of: Use) -> Result<Vec<PathBuf>, String> {
        let rules = self.rules.get_or_init(|| rules(&self.file)).as_ref();
        let list = match rules.map_err(Clone::clone)?.get(of.field()) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(format!("has no list of directories as {}", of.field())),
        };
        let paths = list.iter().filter_map(Value::as_str).map(PathBuf::from);
        // The root directory allows everything, and an empty or relative path, too, would mean no place.
        let is_a_place = |path: &PathBuf| path.is_absolute() && path.components().nth(1).is_some();
        Ok(paths.filter(is_a_place).collect())
    }

    /// The directory that the path is allowed below; or why it is not allowed, in words. The file is read
    /// only for a path that is not allowed without it.
    pub(crate) fn root(&self, path: &Path, of: Use) -> Result<PathBuf, String> {
        let is_plain =
            |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        let below = |root: &Path| path.starts_with(root) && path.components().all(is_plain);
        let known = of.roots().iter().map(Path::new);
        if let Some(root) = known.clone().find(|root| below(root)) {
            return Ok(root.into());
        }
        let (allowed, why) = match self.allowed(of) {
            Ok(allowed) => (allowed, String::new()),
            Err(why) => (Vec::new(), format!(", which {why}")),
        };
        if let Some(root) = allowed.into_iter().find(|root| below(root)) {
            return Ok(root);
        }
        let known: Vec<_> = known.map(|root| root.display().to_string()).collect();
        Err(format!(
            "{} is not below {}; more is allowed by {} in {}{why}",
            path.display(),
            known.join(" or "),
            of.field(),
            self.file.display()
        ))
    }
}

/// What is in the file.
fn rules(file: &Path) -> Result<Map<String, Value>, String> {
    let mut file = open(file)?;
    let mut text = String::new();
    let read = (&mut file).take(FILE_MAX).read_to_string(&mut text);
    read.map_err(|error| format!("can't be read: {error}"))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("is not a JSON object".into()),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

/// Opens it if it is an administrator's: a file of root's, or of the user that the plugin runs as, that
/// nobody else writes to.
fn open(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = options.read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| format!("can't be opened: {error}"))?;
    let meta = file
        .metadata()
        .map_err(|error| format!("can't be looked at: {error}"))?;
    if !meta.is_file() {
        return Err("is no file".into());
    }
    if !is_trusted(meta.uid()) || meta.mode() & 0o022 != 0 {
        return Err("is not root's alone to write to, and is not believed".into());
    }
    Ok(file)
}

/// Whether what this user does is believed: root, and whoever the plugin itself runs as.
pub(crate) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::{Trust, Use};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn by(file: &Path) -> Trust {
        Trust::by(file.to_owned())
    }

    #[test]
    fn paths_stay_below_what_is_known() {
        let trust = by(Path::new("/nowhere"));
        let table = [
            ("/run/ipamd/ipamd.sock", Use::Socket, true),
            ("/var/run/ipamd/ipamd.sock", Use::Socket, true),
            ("/run/ipamd/../docker.sock", Use::Socket, false),
            ("/run/ipamdx/ipamd.sock", Use::Socket, false),
            ("/tmp/ipamd.sock", Use::Socket, false),
            ("run/ipamd/ipamd.sock", Use::Socket, false),
            ("/var/lib/ipamd/spool", Use::Spool, true),
            ("/var/lib/ipamd", Use::Spool, true),
            ("/var/lib/kubelet", Use::Spool, false),
            ("/run/ipamd", Use::Spool, false),
            ("/var/log/ipamd/plugin.log", Use::Log, true),
            ("/var/log/../../etc/cron.d/x", Use::Log, false),
            ("/etc/cron.d/x", Use::Log, false),
        ];
        for (path, of, allowed) in table {
            let root = trust.root(Path::new(path), of);
            assert_eq!(root.is_ok(), allowed, "{path}: {root:?}");
        }
    }

    #[test]
    fn the_administrator_allows_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("plugin.json"), dir.path().join("link"));
        let text = r#"{"socketDirs": ["/opt/ipamd", "/", "", "x"], "logDirs": "/opt"}"#;
        fs::write(&file, text).expect("writes");
        let set = |mode| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("sets the mode");
        };
        std::os::unix::fs::symlink(&file, &link).expect("links");
        let sock = Path::new("/opt/ipamd/sock");
        let says = |file: &Path, path, of| {
            let root = by(file).root(Path::new(path), of);
            root.expect_err("is not allowed")
        };
        set(0o644);
        assert_eq!(by(&file).root(sock, Use::Socket), Ok("/opt/ipamd".into()));
        for (path, of, words) in [
            ("/opt/other/sock", Use::Socket, "socketDirs"),
            ("/x/sock", Use::Socket, "socketDirs"),
            ("/opt/ipamd/spool", Use::Spool, "spoolDirs"),
            (
                "/opt/log",
                Use::Log,
                "has no list of directories as logDirs",
            ),
        ] {
            let said = says(&file, path, of);
            assert!(said.contains(words), "{said}");
        }
        // Not where somebody else could have written it.
        assert!(says(&link, "/opt/ipamd/sock", Use::Socket).contains("can't be opened"));
        for mode in [0o664, 0o646] {
            set(mode);
            assert!(says(&file, "/opt/ipamd/sock", Use::Socket).contains("not believed"));
        }
    }
}
