//! What the kernel does with a VPC, seen from nodes, pods and the internet. Each test runs in a
//! process and namespaces of its own: as root or not, nothing of it is seen outside.

mod api;
mod http;
mod imds;
mod internet;
mod ipv6;
mod life;
mod traffic;
mod world;

use std::process::ExitCode;
use vpc_sim::testing::{Test, run};

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$(Test { name: concat!(stringify!($module), "::", stringify!($name)), run: $module::$name }),*]
    };
}

fn main() -> ExitCode {
    if std::env::var_os(life::DOOMED).is_some() {
        return life::be_killed();
    }
    run(tests![
        traffic::assigned_addresses_of_two_nodes_reach_each_other,
        traffic::two_subnets_reach_each_other,
        traffic::neighbours_in_a_subnet_answer_arp,
        traffic::a_foreign_source_is_dropped_and_counted,
        traffic::an_own_source_is_not_counted,
        traffic::a_foreign_ethernet_address_is_dropped_and_counted,
        traffic::nobodys_address_leads_nowhere,
        traffic::an_unassigned_address_stops_working,
        imds::knows_the_node_by_its_wire,
        imds::wants_a_token,
        imds::answers_reach_as_far_as_the_hop_limit,
        imds::is_reached_over_ipv6,
        internet::sees_the_public_address,
        internet::never_sees_a_private_address,
        internet::reaches_the_public_address,
        ipv6::assigned_addresses_reach_each_other,
        ipv6::a_foreign_source_is_dropped_and_counted,
        ipv6::the_internet_sees_the_pod,
        api::ec2_answers_on_a_node,
        api::an_address_works_when_its_answer_comes,
        api::a_dropped_answer_is_work_done,
        api::a_call_that_never_arrives_is_no_work_done,
        api::a_node_lives_on_a_primary_eni_at_another_index,
        api::control_shows_what_is_there,
        api::control_acts,
        api::control_refuses_bad_input,
        life::an_eni_is_plugged_and_unplugged,
        life::an_instance_dies_with_its_links_and_processes,
        life::nodes_have_their_own_run_and_var_lib,
        life::pods_have_namespaces_with_names,
        life::nothing_is_left_behind,
        life::processes_die_with_a_killed_program,
        life::a_panic_on_a_node_is_an_error,
    ])
}
