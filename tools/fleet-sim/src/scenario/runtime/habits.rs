//! What the runtimes and plugins of a scenario do besides ADD and DEL: each scenario has some of it, so
//! that each kind has room.

use super::super::known::Dice;
use crate::rng::Rng;
use ipam_core::Family;

/// What a GC's list names, and whether anything else happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Gc {
    /// As CNI's specification asks: no ADD and no DEL is under way.
    Alone,
    /// Beside ADDs that are under way, which it names.
    NamesAll,
    /// Beside ADDs that are under way, which it does not name: the runtime notes what has come up.
    NamesWhatIsUp,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Habits {
    /// Pods are made again under their names.
    pub(in super::super) recreates: bool,
    /// DELs come late, or twice, or for what nobody knows.
    pub(in super::super) odd_dels: bool,
    /// The runtime collects garbage, and sometimes loses a sandbox.
    pub(in super::super) gc: Option<Gc>,
    /// DELs name the addresses of their results though those may be another pod's by now.
    pub(in super::super) stale_results: bool,
    /// The network's name in the configuration changes.
    pub(in super::super) renames: bool,
    /// Some pods have a second interface.
    pub(in super::super) second: bool,
    /// Some plugins are of the previous version.
    pub(in super::super) old_plugins: bool,
    /// Nodes have node-local addresses for the other family.
    pub(in super::super) egress: bool,
    /// Nodes have an IPv6 address, without which those of IPv6 lead nowhere.
    pub(super) reaches_six: bool,
    /// Nearly all node-local addresses are routed to pods that nobody knows.
    pub(in super::super) crowded: bool,
}

impl Habits {
    pub(in super::super) fn throw(seed: u64, dice: Dice) -> Self {
        let mut rng = Rng::stream(seed, "runtime");
        if rng.percent(50) {
            return Self::default();
        }
        let gc = *rng.pick(&[
            None,
            Some(Gc::Alone),
            Some(Gc::NamesAll),
            Some(Gc::NamesWhatIsUp),
        ]);
        let mut may = |percent, name| rng.percent(percent) && dice.allow(name);
        Self {
            recreates: may(45, "namesakes"),
            odd_dels: may(45, "odd_dels"),
            gc,
            stale_results: dice.allow("stale prevResult"),
            renames: may(20, "renamed_network"),
            second: may(30, "second_interface"),
            old_plugins: may(20, "old_plugins"),
            egress: may(30, "egress"),
            reaches_six: may(85, "egress_v6"),
            crowded: may(30, "crowded_egress"),
        }
    }

    /// Whether nodes have an IPv6 address though their pods have none of EC2's.
    pub(in super::super) const fn six(self) -> bool {
        self.egress && self.reaches_six
    }

    /// The family of a node's node-local addresses: the one that its pods have no other of.
    pub(in super::super) fn egress(self, families: &[Family]) -> Option<Family> {
        match families {
            [Family::V6] if self.egress => Some(Family::V4),
            [Family::V4] if self.egress => Some(Family::V6),
            _ => None,
        }
    }

    /// The same after a restart with other settings.
    pub(in super::super) fn other_egress(
        self,
        families: &[Family],
        rng: &mut Rng,
    ) -> Option<Family> {
        self.egress(families).filter(|_| rng.percent(60))
    }
}
