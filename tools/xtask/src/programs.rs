//! Programs of the system that tasks need (`nft`, `ip`): finds them, or gets them from the
//! distribution's packages, as root by installing, else by unpacking into a cache. Nothing else in
//! the workspace downloads anything.
//!
//! What is found outside `PATH`, or was unpacked, is put on the `PATH` of this process by starting
//! it anew: changing the environment of a running program is not safe (`std::env::set_var`).

use crate::cargo;
use crate::error::TaskError;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

/// nftables: the mini VPC's source check, the daemon's NAT.
pub(crate) const NFT: Program = Program {
    name: "nft",
    package: "nftables",
};
/// iproute2: tests look at the kernel through it.
pub(crate) const IP: Program = Program {
    name: "ip",
    package: "iproute2",
};

/// iptables, in both of its kinds: tests translate Services with it, as kube-proxy does.
pub(crate) const IPTABLES: [Program; 2] = [
    Program {
        name: "iptables-nft-restore",
        package: "iptables",
    },
    Program {
        name: "iptables-legacy-restore",
        package: "iptables",
    },
];

/// Where the system keeps programs that are not on an ordinary user's `PATH`.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Set for the new start, so that a second one never follows.
const ONCE: &str = "XTASK_PROGRAMS";

/// Sees to it that every one of `programs` is on `PATH`. Call it before anything else is done: it
/// may start this program anew and not return.
///
/// # Errors
/// A program is missing and no way leads to it; the words say what was tried.
pub(crate) fn ensure(programs: &[Program]) -> Result<(), TaskError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let missing = |dirs: &[PathBuf]| -> Vec<Program> {
        programs
            .iter()
            .copied()
            .filter(|p| find(p.name, dirs).is_none())
            .collect()
    };
    if missing(&on_path).is_empty() {
        return Ok(());
    }
    let system = SYSTEM.map(PathBuf::from);
    let mut dirs = [on_path, system.into()].concat();
    let wanted = missing(&dirs);
    if !wanted.is_empty() {
        dirs.extend(get(&wanted, &dirs)?);
    }
    if let Some(program) = missing(&dirs).first() {
        let reason = format!(
            "package {} does not have it where it is looked for",
            program.package
        );
        return Err(TaskError::Missing {
            program: program.name.into(),
            reason,
        });
    }
    if std::env::var_os(ONCE).is_some() {
        let reason = "PATH was set and does not show it".to_owned();
        return Err(TaskError::Missing {
            program: programs[0].name.into(),
            reason,
        });
    }
    match start_anew(&dirs)? {}
}

fn find(name: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    dirs.iter()
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn start_anew(dirs: &[PathBuf]) -> Result<Infallible, TaskError> {
    let path: OsString = std::env::join_paths(dirs)
        .map_err(|e| TaskError::Usage(format!("PATH has an entry that can't be kept: {e}")))?;
    let me = std::env::current_exe().map_err(TaskError::io("finding this program"))?;
    let error = Command::new(me)
        .args(std::env::args_os().skip(1))
        .env("PATH", path)
        .env(ONCE, "1")
        .exec();
    Err(TaskError::Io {
        doing: "starting this program anew".into(),
        source: error,
    })
}

/// Gets the packages; the answer is the folders to look in besides.
fn get(wanted: &[Program], dirs: &[PathBuf]) -> Result<Vec<PathBuf>, TaskError> {
    let names: Vec<_> = wanted.iter().map(|p| p.name).collect();
    let packages: Vec<_> = wanted.iter().map(|p| p.package).collect();
    let fail = |reason: String| TaskError::Missing {
        program: names.join(" and "),
        reason,
    };
    if find("apt-get", dirs).is_none() {
        return Err(fail(format!(
            "there is no apt-get here; install {} with this system's package manager",
            packages.join(" and ")
        )));
    }
    let cached = cache_dir()?;
    let bin = cached.join("bin");
    if wanted.iter().all(|p| is_program(&bin.join(p.name))) {
        return Ok(vec![bin]);
    }
    if nix::unistd::geteuid().is_root() {
        eprintln!(
            "{} missing: installing {} (apt-get)",
            names.join(", "),
            packages.join(", ")
        );
        match install(&packages) {
            Ok(()) if wanted.iter().all(|p| find(p.name, dirs).is_some()) => return Ok(Vec::new()),
            Ok(()) => eprintln!(
                "  that changed nothing; unpacking into {} instead",
                cached.display()
            ),
            Err(e) => eprintln!(
                "  that failed ({e}); unpacking into {} instead",
                cached.display()
            ),
        }
    } else {
        let at = cached.display();
        eprintln!(
            "{} missing: unpacking {} into {at}",
            names.join(", "),
            packages.join(", ")
        );
    }
    unpack(wanted, &packages, &cached).map_err(|e| fail(e.to_string()))?;
    Ok(vec![bin])
}

/// Whether this system has Debian's package manager.
pub(crate) fn has_apt() -> bool {
    on_path("apt-get")
}

/// Whether a program is where callers look.
pub(crate) fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    find(name, &dirs).is_some()
}

/// As root: the ordinary way. Package lists may be missing on a fresh machine.
///
/// # Errors
/// `apt-get` fails, also after its lists were fetched.
pub(crate) fn install(packages: &[&str]) -> Result<(), TaskError> {
    let install = || {
        let mut command = apt(None);
        command
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        cargo::output(command)
    };
    if install().is_ok() {
        return Ok(());
    }
    let mut update = apt(None);
    update.arg("update");
    cargo::output(update)?;
    install().map(drop)
}

/// As anyone: package lists, downloads and unpacked files all live in `cache`. A launcher in
/// `cache/bin` starts each program with the libraries that came with it.
fn unpack(wanted: &[Program], packages: &[&str], cache: &Path) -> Result<(), TaskError> {
    let (debs, root, bin) = (cache.join("debs"), cache.join("root"), cache.join("bin"));
    for dir in [
        &debs,
        &root,
        &bin,
        &cache.join("lists/partial"),
        &cache.join("archives/partial"),
    ] {
        fs::create_dir_all(dir).map_err(TaskError::io(format!("making {}", dir.display())))?;
    }
    let mut update = apt(Some(cache));
    update.arg("update");
    cargo::output(update)?;
    let mut plan = apt(Some(cache));
    plan.args([
        "--simulate",
        "--no-install-recommends",
        "--reinstall",
        "install",
    ])
    .args(packages);
    let plan = cargo::output(plan)?;
    let mut needed: Vec<&str> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
        .collect();
    needed.extend(packages);
    needed.sort_unstable();
    needed.dedup();
    let mut download = apt(Some(cache));
    download.arg("download").args(&needed).current_dir(&debs);
    cargo::output(download)?;
    for deb in entries(&debs)?
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "deb"))
    {
        let mut extract = Command::new("dpkg-deb");
        extract.arg("--extract").arg(&deb).arg(&root);
        cargo::output(extract)?;
    }
    for program in wanted {
        launcher(program.name, &root, &bin)?;
    }
    Ok(())
}

/// `apt-get`, quiet; with a cache of its own if there is one to use.
fn apt(cache: Option<&Path>) -> Command {
    let mut command = Command::new("apt-get");
    command.env("LC_ALL", "C").arg("--quiet=2");
    if let Some(cache) = cache {
        for (option, value) in [
            ("Dir::State::lists", cache.join("lists")),
            ("Dir::Cache", cache.to_owned()),
            ("Dir::Cache::archives", cache.join("archives")),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", value.display()));
        }
        command.args(["-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User="]);
    }
    command
}

/// A script that starts an unpacked program with its own libraries. A script, because it also
/// works where a caller clears the environment.
fn launcher(name: &str, root: &Path, bin: &Path) -> Result<(), TaskError> {
    let places = ["usr/sbin", "sbin", "usr/bin", "bin"].map(|dir| root.join(dir));
    let Some(program) = find(name, &places) else {
        let reason = format!("it is not in {}", root.display());
        return Err(TaskError::Missing {
            program: name.into(),
            reason,
        });
    };
    let mut libs = vec![root.join("usr/lib"), root.join("lib")];
    for dir in libs.clone() {
        // Multiarch folders such as usr/lib/x86_64-linux-gnu.
        libs.extend(
            entries(&dir)
                .unwrap_or_default()
                .into_iter()
                .filter(|d| d.is_dir()),
        );
    }
    // iptables' extensions, which it loads by name from where it was to be installed.
    let extensions = libs
        .iter()
        .map(|dir| dir.join("xtables"))
        .find(|dir| dir.is_dir())
        .map(|dir| format!("XTABLES_LIBDIR='{}' ", dir.display()))
        .unwrap_or_default();
    let libs: Vec<_> = libs.iter().map(|d| d.display().to_string()).collect();
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' {extensions}exec '{}' \"$@\"\n",
        libs.join(":"),
        program.display()
    );
    let file = bin.join(name);
    fs::write(&file, text).map_err(TaskError::io(format!("writing {}", file.display())))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).map_err(TaskError::io(format!(
        "making {} executable",
        file.display()
    )))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let read = fs::read_dir(dir).map_err(TaskError::io(format!("reading {}", dir.display())))?;
    let mut files: Vec<_> = read.filter_map(Result::ok).map(|e| e.path()).collect();
    files.sort();
    Ok(files)
}

/// `$XDG_CACHE_HOME/ipamd-tests`, else `~/.cache/ipamd-tests`, else below the target folder: the
/// first that can be written. `HOME` may be unset, empty, or a place that is not ours.
fn cache_dir() -> Result<PathBuf, TaskError> {
    let from = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p: &PathBuf| p.is_absolute())
    };
    let target = from("CARGO_TARGET_DIR").unwrap_or_else(|| cargo::root().join("target"));
    let candidates: Vec<PathBuf> = [
        from("XDG_CACHE_HOME"),
        from("HOME").map(|home| home.join(".cache")),
        Some(target),
        Some(std::env::temp_dir().join(format!("ipamd-{}", nix::unistd::geteuid()))),
    ]
    .into_iter()
    .flatten()
    .map(|dir| dir.join("ipamd-tests"))
    .collect();
    let usable = candidates.iter().find(|dir| {
        let made = fs::create_dir_all(dir).is_ok() && tempfile::tempfile_in(dir).is_ok();
        // Programs are started from here: a folder that another user has made will not do.
        made && fs::metadata(dir).is_ok_and(|m| m.uid() == nix::unistd::geteuid().as_raw())
    });
    usable
        .cloned()
        .ok_or_else(|| TaskError::NoCache(candidates.clone()))
}
