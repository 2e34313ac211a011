//! Settings that change at a restart, besides the warm targets.

use super::dice::Plan;
use super::ground;
use super::machine::Machine;
use crate::rng::Rng;
use ipam_core::Family;
use ipam_engine::Settings;

/// Other families, other subnets.
pub(super) fn more(rng: &mut Rng, plan: &Plan, machine: &Machine, settings: &mut Settings) {
    let nitro = !machine.instance_type.starts_with("t2");
    if plan.ground.six && nitro && rng.percent(40) {
        let choices = [
            Vec::from([Family::V4]),
            Vec::from([Family::V6]),
            Vec::from([Family::V4, Family::V6]),
        ];
        settings.policy.families.clone_from(rng.pick(&choices));
    }
    let subnets = &plan.spec.subnets;
    if subnets.len() > 1 && rng.percent(40) {
        let all: Vec<String> = subnets.iter().filter_map(|s| s.id.clone()).collect();
        settings.policy.subnets = ground::choice(rng, &all);
    }
}
