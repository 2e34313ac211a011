//! ADD where there was one before.

use crate::see::{self, assert_wired};
use crate::world::Netns;
use crate::{Outcome, Scene};

pub(crate) fn same_add_twice() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    let before = see::links(&scene.host);
    let second = scene.runtime.add(&scene.pod).ok();
    assert_eq!(first, second);
    assert_eq!(see::links(&scene.host), before, "nothing was made anew");
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    assert!(scene.daemon.state().released.is_empty());
    Ok(())
}

/// A half-done or damaged attachment of the same key is made whole.
pub(crate) fn add_after_damage() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    let index = see::link_named(&scene.host, &scene.wiring().host_if)
        .expect("it")
        .index;
    scene.host.run(|| see::change::set_down(index))?;
    let second = scene.runtime.add(&scene.pod).ok();
    assert_eq!(first, second);
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// The "ADD again in a netns that still has our old veth".
pub(crate) fn add_after_del_in_the_same_netns() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    assert_eq!(see::links(&scene.host).len(), 1, "the veth is still there");
    let second = scene.runtime.add(&scene.pod).ok();
    assert_ne!(first["ips"], second["ips"]);
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// A StatefulSet's pod: same name, so the same host end; the old namespace lives on for a while.
pub(crate) fn recreated_pod_while_its_old_netns_dies() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    let new = Netns::new()?;
    scene.runtime.other("c2", "web-0").add(&new).ok();
    assert_wired(&scene.host, &new, &scene.wiring());
    see::assert_empty(&scene.pod);
    // The runtime's second DEL of the old one comes late, and must not hurt the new one.
    scene.runtime.with_result(&first).command("DEL", "").ok();
    assert_wired(&scene.host, &new, &scene.wiring());
    Ok(())
}

/// The same without the DEL: the old pod still has its address.
pub(crate) fn live_namesake_is_left_alone() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.add(&scene.pod).ok();
    let old = scene.wiring();
    let new = Netns::new()?;
    let mut other = scene.runtime.other("c2", "web-0");
    other.conf["addTimeout"] = "700ms".into();
    let msg = other.add(&new).error(11);
    assert!(
        msg.contains("still carries 10.1.0.1 for another attachment"),
        "{msg}"
    );
    assert_wired(&scene.host, &scene.pod, &old);
    see::assert_empty(&new);
    assert_eq!(
        scene.daemon.state().leases.len(),
        1,
        "the new lease was given back"
    );
    Ok(())
}

/// The DEL comes while the ADD of the next sandbox waits: no runtime has to ask again.
pub(crate) fn namesake_that_is_just_ending() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    let new = Netns::new()?;
    let env = scene.runtime.other("c2", "web-0").env("ADD", &new.path());
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ipamd-cni"))
        .envs(env)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("is piped");
    std::io::Write::write_all(&mut stdin, scene.runtime.conf.to_string().as_bytes())?;
    drop(stdin);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.try_wait()?.is_none(), "it did not wait");
    let began = std::time::Instant::now();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // It was told, and did not wait for its own time.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    assert_wired(&scene.host, &new, &scene.wiring());
    see::assert_empty(&scene.pod);
    Ok(())
}

/// Another sandbox's released veth under the same `CNI_IFNAME`; while it is live it stays.
pub(crate) fn another_sandbox_of_ours_in_the_netns() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    let old = scene.wiring();
    let mut second = scene.runtime.other("c2", "web-1");
    second.conf["addTimeout"] = "700ms".into();
    second.add(&scene.pod).error(11);
    assert_wired(&scene.host, &scene.pod, &old);
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    second.add(&scene.pod).ok();
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}
