//! Our nftables tables: each is replaced as a whole, all in one transaction, by the program `nft`.
//!
//! Owns the tables called [`TABLE`] and [`EGRESS_TABLE`] and touches no other, and sees whether they are
//! as they were made. What is in them is text, made elsewhere.

mod counter;
mod events;
mod v4;

pub(super) use counter::packets;
pub(super) use events::Events;
pub(super) use v4::not_pods;

use crate::config::SnatPorts;
use ipam_core::wiring::Nat;
use ipam_engine::ports::HostNetError;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Our table of translation and marks.
pub(super) const TABLE: &str = "ipamd";
/// Our tables of egress, in each family.
pub(super) const EGRESS_TABLE: &str = "ipamd_egress";
/// Our table of what pods may send.
pub(super) const SOURCES_TABLE: &str = "ipamd_sources";
/// `nft` takes some milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the tables depend on besides the wiring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    /// The primary ENI's link.
    pub(super) primary: Option<&'a str>,
    /// Answers to what came to the node's own address leave by the primary ENI.
    pub(super) node_port: bool,
    pub(super) ports: SnatPorts,
}

/// The transaction that makes the tables be as `nat` says.
pub(super) fn script(nat: &Nat, options: Options<'_>) -> String {
    v4::table(nat, options)
}

/// Tables as they were made, and as the kernel had them then.
#[derive(Debug, Default)]
pub(super) struct Kept {
    script: Option<String>,
    seen: String,
    replaced: u64,
}

impl Kept {
    /// How often they were replaced.
    pub(super) const fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Whether they were made, and not found wanting since.
    pub(super) const fn is_made(&self) -> bool {
        self.script.is_some()
    }

    /// Whether these tables are as they were made.
    pub(super) async fn whole(&self, nft: &Path, tables: &[(&str, &str)]) -> bool {
        self.script.is_some() && look(nft, tables).await.is_ok_and(|now| now == self.seen)
    }

    /// Hands the transaction to `nft` if it is another one, or if the tables that it makes are
    /// `suspect`, and not as they were.
    pub(super) async fn make(
        &mut self,
        nft: &Path,
        script: String,
        tables: &[(&str, &str)],
        suspect: bool,
    ) -> Result<(), HostNetError> {
        if self.script.as_ref() == Some(&script) {
            // A table that can't be listed is not there.
            let whole = !suspect || self.whole(nft, tables).await;
            if whole {
                return Ok(());
            }
            tracing::warn!("our nftables tables were changed by another program and are put right");
        }
        self.script = None;
        program(nft, &script, "replacing nftables tables").await?;
        self.seen = look(nft, tables).await?;
        self.script = Some(script);
        self.replaced += 1;
        Ok(())
    }
}

/// The marks of single addresses in our table, as an earlier run left it; none if it is not there.
pub(super) async fn eni_marks(nft: &Path) -> Result<BTreeMap<IpAddr, u32>, HostNetError> {
    let doing = "reading nftables tables";
    let tables = program(nft, "list tables ip\n", doing).await?;
    let ours = format!("table ip {TABLE}");
    if !tables.lines().any(|line| line.trim() == ours) {
        return Ok(BTreeMap::new());
    }
    let text = program(nft, &format!("list {ours}\n"), doing).await?;
    Ok(v4::marks_in(&text))
}

/// What the kernel has of these tables, to be compared with an earlier look.
async fn look(nft: &Path, tables: &[(&str, &str)]) -> Result<String, HostNetError> {
    if tables.is_empty() {
        return Ok(String::new());
    }
    let list = |(family, table): &(&str, &str)| format!("list table {family} {table}\n");
    let script: String = tables.iter().map(list).collect();
    let text = program(nft, &script, "reading nftables tables").await?;
    Ok(normal(&text))
}

/// Rules keep their order; elements, which have none in the kernel, are sorted. Those of a set that packets
/// fill are left out: they come and go by themselves.
fn normal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut elements: Option<Vec<&str>> = None;
    let mut by_packets = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("set ") || line.starts_with("map ") {
            by_packets = false;
        }
        by_packets |= line.starts_with("flags dynamic");
        if line.starts_with("elements = {") {
            elements = Some(Vec::new());
        }
        match &mut elements {
            Some(list) => {
                let parts = line.split(',').map(|part| {
                    part.trim_start_matches("elements = {")
                        .trim_end_matches('}')
                        .trim()
                });
                // A line that ends with a comma ends with nothing.
                list.extend(parts.filter(|part| !part.is_empty()));
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
        if line.ends_with('}')
            && let Some(mut list) = elements.take()
            && !by_packets
        {
            list.sort_unstable();
            out.push_str(&list.join("\n"));
            out.push('\n');
        }
    }
    out
}

async fn program(nft: &Path, script: &str, doing: &str) -> Result<String, HostNetError> {
    let failed = |cause: String| HostNetError {
        what: doing.into(),
        cause,
    };
    let mut child = Command::new(nft)
        .args(["--stateless", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("{} can't be run: {error}", nft.display())))?;
    let feed = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match timeout(DEADLINE, feed).await {
        Err(_) => Err(failed(format!(
            "{} did not end within {DEADLINE:?}",
            nft.display()
        ))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(Ok(output)) => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(failed(words.trim().chars().take(500).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_elements_may_change_places() {
        let table = |elements: &str, rules: &str| {
            normal(&format!(
                "table ip ipamd {{\n\tmap enis {{\n\t\telements = {{ {elements} }}\n\t}}\n\tchain \
                 a {{\n{rules}\n\t}}\n}}\n"
            ))
        };
        let one = table("10.0.0.1 : jump a,\n\t\t 10.0.0.2 : jump a", "x\ny");
        assert_eq!(one, table("10.0.0.2 : jump a, 10.0.0.1 : jump a", "x\ny"));
        assert_ne!(one, table("10.0.0.1 : jump a", "x\ny"));
        assert_ne!(one, table("10.0.0.2 : jump a, 10.0.0.1 : jump b", "x\ny"));
        assert_ne!(one, table("10.0.0.2 : jump a, 10.0.0.1 : jump a", "y\nx"));
    }

    #[test]
    fn what_packets_put_into_a_set_is_no_change() {
        let table = |elements: &str, flags: &str| {
            normal(&format!(
                "table inet t {{\n set a {{\n  flags {flags}\n{elements} }}\n set b {{\n  flags \
                 interval\n  elements = {{ 10.0.0.1 }}\n }}\n}}\n"
            ))
        };
        let one = "  elements = { 7 limit rate over 20/second expires 4s,\n    8 expires 3s }\n";
        let flags = "dynamic,timeout";
        assert_eq!(table(one, flags), table("", flags));
        assert!(table(one, flags).contains("10.0.0.1"));
        assert_ne!(table(one, "interval"), table("", "interval"));
    }
}
