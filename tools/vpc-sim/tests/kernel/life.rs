//! How links, nodes and whole VPCs begin and end.

use crate::world::{Checked, check, ec2, in_vpc, spec, wire};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use vpc_sim::testing::Failure;
use vpc_sim::vpc_model::Response;
use vpc_sim::vpc_model::request::{
    AttachNetworkInterface, CreateNetworkInterface, DetachNetworkInterface,
};
use vpc_sim::{Sim, SimError, SimOptions};

pub(crate) fn an_eni_is_plugged_and_unplugged() -> Checked {
    in_vpc(|sim| async move {
        let primary = wire(&sim, "node-a")?;
        let subnet = Some(primary.subnet.clone());
        let create = CreateNetworkInterface {
            subnet,
            ..CreateNetworkInterface::default()
        };
        let Response::Created { eni, .. } = ec2(&sim, "node-a", create)? else {
            return Err("another answer".into());
        };
        let attach = AttachNetworkInterface {
            eni: eni.id.clone(),
            instance: primary.instance,
            device_index: 1,
            card: None,
        };
        let Response::Attached { attachment, .. } = ec2(&sim, "node-a", attach)? else {
            return Err("another answer".into());
        };
        sim.caught_up().await;
        let net = sim.node("node-a")?.net();
        let links = net.links()?;
        check(links == ["ens5", "ens6"], format!("{links:?}"))?;
        let (mac, flags) = net.run(|| {
            let read = |what: &str| fs::read_to_string(format!("/sys/class/net/ens6/{what}"));
            (read("address"), read("flags"))
        })?;
        if let (Ok(found), Ok(flags)) = (mac, flags) {
            check(
                found.trim() == eni.mac.to_string(),
                format!("{found}, not {}", eni.mac),
            )?;
            let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16)?;
            check(flags & 1 == 0, "a new link is up before anybody set it up")?;
        }
        ec2(
            &sim,
            "node-a",
            DetachNetworkInterface {
                attachment,
                force: false,
            },
        )?;
        sim.caught_up().await;
        let links = net.links()?;
        check(links == ["ens5"], format!("after detaching: {links:?}"))
    })
}

pub(crate) fn an_instance_dies_with_its_links_and_processes() -> Checked {
    in_vpc(|sim| async move {
        let node = sim.node("node-a")?;
        let pod = node.make_pod_netns("pod")?;
        let mut on_node = node.spawn(sleeper())?;
        let mut in_pod = pod.net().spawn(sleeper())?;
        sim.terminate("node-a")?;
        sim.caught_up().await;
        for child in [&mut on_node, &mut in_pod] {
            let status = child.wait()?;
            check(status.signal() == Some(9), format!("{status}"))?;
        }
        let links = node.net().links()?;
        check(links.is_empty(), format!("{links:?}"))?;
        check(
            sim.node("node-b")?.net().links()? == ["ens5"],
            "node-b lost its link",
        )
    })
}

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000").stdin(Stdio::null());
    command
}

pub(crate) fn nodes_have_their_own_run_and_var_lib() -> Checked {
    in_vpc(|sim| async move {
        let (a, b) = (sim.node("node-a")?, sim.node("node-b")?);
        for path in ["/run/daemon.sock", "/var/lib/daemon", "/var/run/daemon.pid"] {
            a.run(move || fs::write(path, "a"))??;
            let there = b.run(move || fs::exists(path))??;
            check(!there, format!("node-b sees node-a's {path}"))?;
            check(!fs::exists(path)?, format!("the host sees node-a's {path}"))?;
        }
        let mut cat = Command::new("cat");
        cat.arg("/run/daemon.sock");
        let output = a.output(cat)?;
        check(
            output.stdout == b"a",
            "a process on node-a does not see the node's /run",
        )
    })
}

pub(crate) fn pods_have_namespaces_with_names() -> Checked {
    in_vpc(|sim| async move {
        let (a, b) = (sim.node("node-a")?, sim.node("node-b")?);
        let pod = a.make_pod_netns("pod-1")?;
        let again = b.make_pod_netns("pod-1")?;
        check(
            pod.net().inode()? != again.net().inode()?,
            "two pods share a namespace",
        )?;
        check(a.make_pod_netns("pod-1").is_err(), "a name was given twice")?;
        let path = pod.path().to_owned();
        let inode = {
            use std::os::unix::fs::MetadataExt;
            let path = path.clone();
            a.run(move || fs::metadata(path).map(|m| m.ino()))??
        };
        check(
            inode == pod.net().inode()?,
            "the name is of another namespace",
        )?;
        check(pod.net().links()?.is_empty(), "a new pod has links")?;
        pod.delete()?;
        let there = a.run(move || fs::exists(path))??;
        check(!there, "the name is still there")
    })
}

pub(crate) fn nothing_is_left_behind() -> Checked {
    let look = || -> Result<(usize, String, Vec<String>), Failure> {
        let threads = fs::read_dir("/proc/self/task")?.count();
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let names = fs::read_dir("/run/netns").into_iter().flatten();
        let names = names.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()));
        Ok((threads, mounts, names.collect()))
    };
    let before = look()?;
    let sim = Sim::start_blocking(spec()?, SimOptions::default())?;
    let mut child = sim.node("node-a")?.spawn(sleeper())?;
    let pid = child.id();
    drop(sim);
    check(
        child.wait()?.signal() == Some(9),
        "a process outlived its node",
    )?;
    check(!fs::exists(format!("/proc/{pid}"))?, "a process is left")?;
    // A thread that was joined may be seen for a moment longer.
    let end = std::time::Instant::now() + crate::world::SOON;
    while look()?.0 > before.0 && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    let after = look()?;
    check(
        after == before,
        format!("before {before:?}, after {after:?}"),
    )
}

/// Says to this program that it is the one that is to be killed.
pub(crate) const DOOMED: &str = "VPC_SIM_KERNEL_DOOMED";

/// A program with a process on a node, and nobody to clean up after it.
pub(crate) fn be_killed() -> std::process::ExitCode {
    let start = || -> Result<(Sim, std::process::Child), Failure> {
        vpc_sim::isolate()?;
        let sim = Sim::start_blocking(spec()?, SimOptions::default())?;
        let child = sim.node("node-a")?.spawn(sleeper())?;
        Ok((sim, child))
    };
    match start() {
        Ok((_sim, child)) => {
            println!("{}", child.id());
            std::thread::sleep(std::time::Duration::from_secs(100));
        }
        Err(e) => println!("{e}"),
    }
    std::process::ExitCode::FAILURE
}

pub(crate) fn processes_die_with_a_killed_program() -> Checked {
    use std::io::BufRead;
    let mut program = Command::new(std::env::current_exe()?);
    program
        .env_remove("VPC_SIM_TEST")
        .env(DOOMED, "1")
        .stdout(Stdio::piped());
    let mut program = program.spawn()?;
    let mut line = String::new();
    let stdout = program.stdout.take().ok_or("no pipe")?;
    std::io::BufReader::new(stdout).read_line(&mut line)?;
    let process = format!("/proc/{}", line.trim());
    let lived = line.trim().parse::<u32>().is_ok() && fs::exists(&process)?;
    program.kill()?;
    program.wait()?;
    check(lived, format!("no process was started: {line}"))?;
    let end = std::time::Instant::now() + crate::world::SOON;
    while fs::exists(&process)? && std::time::Instant::now() < end {
        // Dead, but for its new parent to notice.
        if fs::read_to_string(format!("{process}/stat")).is_ok_and(|s| s.contains(") Z ")) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    check(!fs::exists(&process)?, "the process lives on")
}

pub(crate) fn a_panic_on_a_node_is_an_error() -> Checked {
    in_vpc(|sim| async move {
        let node = sim.node("node-a")?;
        let result = node.run(|| {
            if std::process::id() > 0 {
                std::panic::resume_unwind(Box::new("oh"));
            }
        });
        check(
            matches!(&result, Err(SimError::Panicked { message, .. }) if message == "oh"),
            format!("{result:?}"),
        )?;
        check(node.run(|| 7)? == 7, "the node is gone")
    })
}
