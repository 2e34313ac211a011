//! Where the programs under test are.

use crate::error::LabError;
use std::path::{Path, PathBuf};

/// Paths of the daemon and the plugin.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `ipamd`
    pub daemon: PathBuf,
    /// `ipamd-cni`
    pub plugin: PathBuf,
}

impl Programs {
    /// Those that `IPAMD_BIN` and `IPAMD_CNI_BIN` name, else those that cargo built beside this
    /// program, the plugin preferably in the profile that it is shipped in.
    ///
    /// # Errors
    /// [`LabError::NotBuilt`].
    pub fn find() -> Result<Self, LabError> {
        Ok(Self {
            daemon: find("ipamd", "IPAMD_BIN", &["debug/ipamd"])?,
            plugin: find(
                "ipamd-cni",
                "IPAMD_CNI_BIN",
                &["shim/ipamd-cni", "debug/ipamd-cni"],
            )?,
        })
    }
}

fn find(
    program: &'static str,
    variable: &'static str,
    places: &[&str],
) -> Result<PathBuf, LabError> {
    let looked_for = match std::env::var_os(variable).filter(|path| !path.is_empty()) {
        Some(path) => vec![PathBuf::from(path)],
        None => target_dir()
            .iter()
            .flat_map(|dir| places.iter().map(|p| dir.join(p)))
            .collect(),
    };
    match looked_for.iter().find(|path| path.is_file()) {
        // Processes are started in other folders than ours.
        Some(path) => std::path::absolute(path).map_err(LabError::io("reading the current folder")),
        None => Err(LabError::NotBuilt {
            program,
            looked_for,
            variable,
        }),
    }
}

/// Cargo's target folder: the one that this program lies in.
fn target_dir() -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    let profile = me.ancestors().find(|dir| dir.ends_with("debug"))?;
    profile.parent().map(Path::to_owned)
}
