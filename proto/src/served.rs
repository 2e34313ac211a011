//! What the daemon leaves beside its socket once pods can be served, for a plugin that must say how
//! the node is (CNI STATUS) while no daemon answers.
//!
//! The file is [`path`], written under another name and renamed. It holds for one boot: `/run` is
//! emptied at boot, and where it is not, the boot's id tells. Its text, one `key=value` a line:
//!
//! ```text
//! ipamd-served 1
//! kernel_boot_id=6ad24a3b-2f4c-4b0b-9f0e-3f2a1c7d9e10
//! boot_id=6ad24a3b-2f4c-4b0b-9f0e-3f2a1c7d9e10
//! end
//! ```
//!
//! `kernel_boot_id` is `/proc/sys/kernel/random/boot_id`, which the plugin reads too; `boot_id` is what
//! the daemon goes by (`IPAMD_BOOT_ID`). Unknown keys are passed over.

use std::fmt;

const HEADER: &str = "ipamd-served 1";

/// The marker's place: beside the daemon's socket, which has its own directory.
#[must_use]
pub fn path(socket: &str) -> String {
    format!("{socket}.served")
}

/// The node could serve pods in this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The kernel's boot id.
    pub kernel_boot_id: String,
    /// The daemon's.
    pub boot_id: String,
}

impl Marker {
    /// Reads a file's text; `None` if it is no whole marker.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return None;
        }
        let (mut kernel_boot_id, mut boot_id) = (None, None);
        for line in lines {
            match line.split_once('=') {
                Some(("kernel_boot_id", id)) if !id.is_empty() => kernel_boot_id = Some(id.into()),
                Some(("boot_id", id)) if !id.is_empty() => boot_id = Some(id.into()),
                None if line == "end" => {
                    return Some(Self {
                        kernel_boot_id: kernel_boot_id?,
                        boot_id: boot_id?,
                    });
                }
                _ => {}
            }
        }
        None
    }
}

/// The file's text. Boot ids are UUIDs, or what a test names: no line breaks.
impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kernel, own) = (&self.kernel_boot_id, &self.boot_id);
        write!(f, "{HEADER}\nkernel_boot_id={kernel}\nboot_id={own}\nend\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written_and_nothing_else_is() {
        let marker = Marker {
            kernel_boot_id: "6ad24a3b".into(),
            boot_id: "second".into(),
        };
        let text = marker.to_string();
        assert_eq!(Marker::parse(&text), Some(marker.clone()));
        let newer = text.replace("end", "since_ms=12\nodd\nend");
        assert_eq!(Marker::parse(&newer), Some(marker));
        for cut in 0..text.len() - 1 {
            assert_eq!(Marker::parse(&text[..cut]), None, "{cut}");
        }
        let nameless = text.replace("6ad24a3b", "");
        assert_eq!(Marker::parse(&nameless), None);
    }
}
