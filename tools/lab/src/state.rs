//! The daemon's files on a node, for those who copy or damage them. The daemon must not run.

use crate::error::LabError;
use crate::node::Node;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file below the state directory, and what is in it.
pub type File = (PathBuf, Vec<u8>);

/// Every file of the node's state directory, by name.
///
/// # Errors
/// One can't be read.
pub fn read(node: &Node) -> Result<Vec<File>, LabError> {
    let dir = node.state_dir();
    let read = move || -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        collect(&dir, Path::new(""), &mut files)?;
        files.sort();
        Ok(files)
    };
    node.sim()
        .run(read)?
        .map_err(LabError::io("reading the state directory"))
}

/// Makes these all files of the node's state directory.
///
/// # Errors
/// One can't be removed or written.
pub fn write(node: &Node, files: Vec<File>) -> Result<(), LabError> {
    let dir = node.state_dir();
    let write = move || {
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir_all(&dir)?,
        }
        for (name, bytes) in files {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, bytes)?;
        }
        Ok(())
    };
    node.sim()
        .run(write)?
        .map_err(LabError::io("writing the state directory"))
}

fn collect(dir: &Path, below: &Path, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(dir, &name, files)?;
        } else if kind.is_file() {
            files.push((name, fs::read(entry.path())?));
        }
    }
    Ok(())
}
