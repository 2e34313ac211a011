//! What a settled pool reports: it must be so, it must not have been in the way for longer than it may, and
//! it excuses only what it is about.

use super::machine::{Machine, Site};
use super::waiting::breaches;
use crate::oracle::Promise;
use crate::oracle::truth::{Account, Matter};
use ipam_core::Family;
use ipam_core::plan::Note;
use std::time::Duration;

/// A report is looked at again after so long: what is under way ends, and what is to be asked for next is
/// asked for.
const AGAIN: Duration = Duration::from_secs(45);

/// Notes what is untrue or endless in a node's report, now and a little later.
pub(super) async fn judge(machine: &Machine) {
    let first = look(machine).await;
    if first.is_empty() {
        return;
    }
    tokio::time::sleep(AGAIN).await;
    let second = look(machine).await;
    let again = |(label, promise, _): &&Wrong| {
        let same = |(l, p, _): &Wrong| l == label && p == promise;
        first.iter().any(same)
    };
    let name = &machine.site.name;
    let wrong = second.iter().filter(again);
    let told = wrong.map(|(_, promise, what)| (*promise, format!("{name}: {what}")));
    breaches(&machine.site.world, told.collect());
}

/// A note's label, the promise that it breaks, and how.
type Wrong = (&'static str, Promise, String);

async fn look(machine: &Machine) -> Vec<Wrong> {
    let Some(shown) = machine.node.snapshot().await else {
        return Vec::new();
    };
    let Some(account) = Account::of(machine.site.place()) else {
        return Vec::new();
    };
    wrong(&account, &shown.notes)
}

fn wrong(account: &Account<'_>, notes: &[Note]) -> Vec<Wrong> {
    let judged = |note: &Note| {
        if let Some(what) = account.endless(note) {
            return Some((note.label(), Promise::NoEndlessHold, what));
        }
        let what = account.untrue(note)?;
        Some((note.label(), Promise::ReportIsTrue, what))
    };
    notes.iter().filter_map(judged).collect()
}

/// Whether one of these notes is so and is about this matter.
pub(super) fn excuses(site: &Site, notes: &[Note], matter: Matter) -> bool {
    let Some(account) = Account::of(site.place()) else {
        return false;
    };
    notes.iter().any(|note| account.excuses(note, matter))
}

/// Whether a node truly lacks IPv4 addresses, or has too many, now: it may go on trying.
pub(super) async fn is_unsettled(machine: &Machine) -> bool {
    let Some(shown) = machine.node.snapshot().await else {
        return false;
    };
    let for_matter = |matter| excuses(&machine.site, &shown.notes, matter);
    for_matter(Matter::Short(Family::V4)) || for_matter(Matter::Surplus)
}

/// Which promises these notes would break if the daemon said so now.
#[cfg(test)]
pub(super) fn broken_by(machine: &Machine, notes: &[Note]) -> Vec<Promise> {
    let account = Account::of(machine.site.place()).expect("a daemon runs");
    let wrong = wrong(&account, notes);
    wrong.into_iter().map(|(_, promise, _)| promise).collect()
}
