//! `cargo xtask bench --traffic`: what pods get on the wire, beside plain routing without us and beside
//! the peer's rules laid out by hand.
//!
//! One node with as many pods as it takes, made by the real daemon and plugin, and a host elsewhere in
//! the VPC. What the kernel is told about their packets is replaced in place (same links, addresses and
//! host routes), turn by turn, many short turns: what disturbs the machine disturbs all alike, and each
//! ratio is of two neighbours in time. Pods are taken away between the counts, never the measured ones.

mod bed;
mod figures;
mod layout;

pub(super) use figures::{Row, draw};

use super::stack::Stack;
use crate::demo::Mode;
use crate::demo::screen::Screen;
use bed::Bed;
use lab::LabError;
use layout::Layout;

/// How much is done.
#[derive(Clone, Debug)]
pub(super) struct Effort {
    /// Pods on the node, from the most to the fewest.
    counts: Vec<u32>,
    /// Turns of every layout.
    rounds: u32,
    /// Length of one measurement, milliseconds.
    slice_ms: u64,
}

impl Effort {
    /// Two pods are the fewest that can talk to each other.
    pub(super) fn full() -> Self {
        Self {
            counts: vec![250, 110, 2],
            rounds: 5,
            slice_ms: 200,
        }
    }

    pub(super) fn quick() -> Self {
        Self {
            // An m5.large's primary ENI takes 144 by prefixes.
            counts: vec![150, 2],
            rounds: 2,
            slice_ms: 100,
        }
    }

    /// At one count, with more turns in its place.
    pub(super) fn only(mut self, pods: Option<u32>) -> Self {
        if let Some(pods) = pods {
            self.rounds *= 2;
            self.counts = vec![pods];
        }
        self
    }
}

/// Measures everything in both modes.
///
/// # Errors
/// A node could not be made, or a load found no answer.
pub(super) fn measure(
    ours: &Stack,
    peer: Option<&Stack>,
    effort: &Effort,
    screen: &Screen,
) -> Result<Vec<Row>, LabError> {
    let mut rows = Vec::new();
    for mode in [Mode::Prefix, Mode::Secondary] {
        let most = effort.counts.iter().copied().max().unwrap_or(2);
        let phase = screen.phase(&format!("{most} pods, {}", mode.word()));
        let mut bed = Bed::make(ours, mode, most)?;
        phase.done(true, &bed.words());
        let mut peers = peer.and_then(|p| the_peers(p, mode, most, screen));
        for count in &effort.counts {
            bed.shrink_to(*count)?;
            if let Some(peers) = &mut peers {
                peers.shrink_to(*count)?;
            }
            let phase = screen.phase(&format!("traffic: {}, {count} pods", mode.word()));
            let mut row = Row::of(mode, *count);
            turns(&mut bed, peers.as_ref(), effort, &mut row)?;
            phase.done(true, &row.words());
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The peer's own node; without one its column is empty, and the others stand.
fn the_peers(peer: &Stack, mode: Mode, most: u32, screen: &Screen) -> Option<Bed> {
    let phase = screen.phase(&format!("{most} pods, {}, peer", mode.word()));
    match Bed::make(peer, mode, most) {
        Ok(bed) => {
            phase.done(true, &bed.words());
            Some(bed)
        }
        Err(error) => {
            phase.done(false, &format!("not measured: {error}"));
            None
        }
    }
}

fn turns(
    bed: &mut Bed,
    peers: Option<&Bed>,
    effort: &Effort,
    row: &mut Row,
) -> Result<(), LabError> {
    for _ in 0..effort.rounds {
        for layout in Layout::ALL {
            layout.lay(bed)?;
            row.take(layout.name(), &bed.round(effort.slice_ms)?);
        }
        if let Some(peers) = peers {
            row.take("peer", &peers.round(effort.slice_ms)?);
        }
    }
    Layout::Ours.lay(bed)
}
