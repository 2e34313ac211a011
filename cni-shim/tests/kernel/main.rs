//! The plugin against a real kernel and a daemon that speaks the real protocol: each test in
//! namespaces of its own, as root or not.

mod add;
mod again;
mod daemon;
mod del;
mod faults;
mod fuzz;
mod see;
mod socket;
mod together;
mod unplug;
mod world;

use daemon::Daemon;
use std::process::ExitCode;
use vpc_sim::testing::{Failure, Test, run};
use world::{Netns, Runtime};

type Outcome = Result<(), Failure>;

/// What most tests begin with.
struct Scene {
    host: Netns,
    pod: Netns,
    daemon: Daemon,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let daemon = Daemon::start(dir.path());
        let runtime = Runtime::new(dir.path());
        Ok(Self {
            host: Netns::host()?,
            pod: Netns::new()?,
            daemon,
            runtime,
            dir,
        })
    }

    /// The spooled tombstones.
    fn spool(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("spool"))
            .into_iter()
            .flatten();
        entries
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
            .collect()
    }

    fn wiring(&self) -> ipam_core::wiring::PodWiring {
        self.daemon
            .state()
            .leases
            .values()
            .next()
            .expect("a lease")
            .clone()
    }
}

macro_rules! tests {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        &[$($(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: $module::$name,
        }),+),+]
    };
}

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(socket::LISTEN) {
        return socket::listen(&path);
    }
    run(tests![
        add: is_wired_as_told, dual_stack, result_of_each_version, passes_on_a_prev_result, dns_reaches_the_result,
             request_carries_everything, pods_and_host_exchange_packets, many_at_once;
        again: same_add_twice, add_after_damage, add_after_del_in_the_same_netns,
               recreated_pod_while_its_old_netns_dies, live_namesake_is_left_alone, namesake_that_is_just_ending,
               another_sandbox_of_ours_in_the_netns;
        del: leaves_the_veth_and_no_route, unknown_before_add_and_twice, without_a_daemon,
             daemon_comes_back_in_between, waits_for_no_daemon, another_pods_route_stays, namesakes_route_stays,
             foreign_metric, refusal_passes_through, removes_rules;
        faults: netns_gone, own_netns, not_a_netns, stranger_in_the_pod, stranger_on_the_host, strangers_index_is_like_ours,
                route_is_anothers, refusal, unknown_wiring_version, daemon_absent, daemon_restarts,
                daemon_hangs, failed_step_is_undone, nonsense_is_not_begun, check_sees_damage,
                check_of_a_pod_with_egress_addresses, status;
        socket: every_failure_is_noted, what_can_not_be_noted_fails, an_add_takes_its_note_away,
                only_what_waits_fills_the_spool, another_users_listener_is_not_believed;
        together: two_adds_of_each_pod, one_fails_and_releases, add_waits_for_another,
                  del_waits_a_moment, failed_add_of_a_live_pod;
        unplug: nothing_is_left_in_a_live_namespace, another_network_at_once, without_a_daemon, further_interface,
                anothers_interface_stays;
        fuzz: requests, wirings, replies;
    ])
}
