//! Promise: whatever a setting is set to, the daemon starts and says what it passed over, or refuses
//! in words; it never panics and never hangs.

use ipamd_tests::{Mode, Outcome, Scene, ensure, fail, spec};
use std::process::Command;
use std::time::{Duration, Instant};
use vpc_sim::testing::{Failure, Test, run};

/// Paths: what lies there would be made, or read for ever.
const PATHS: [&str; 4] = [
    "IPAMD_STATE_DIR",
    "IPAMD_SOCKET",
    "IPAMD_TERMINATION_LOG",
    "IPAMD_NFT",
];

fn main() -> std::process::ExitCode {
    run(&[Test {
        name: "odd_values_of_every_setting",
        run: odd_values,
    }])
}

fn odd_values() -> Outcome {
    let mut scene = Scene::new(spec(Mode::Prefix, "m5.large")?)?;
    let names = settings(&scene)?;
    ensure(names.len() > 60, format!("only {} settings", names.len()))?;
    let good = scene.node().spec_mut().env.clone();
    let long = "x".repeat(10_000);
    for value in [
        "",
        " ",
        "-1",
        "0",
        "1",
        "true",
        "99999999999999999999",
        "\u{1f600}",
        "://",
        "{",
        &long,
    ] {
        let shown: String = value.chars().take(20).collect();
        let mut set: Vec<&String> = names.iter().collect();
        // All at once is refused, mostly; then all but those that are named.
        let mut tries = 0;
        loop {
            tries += 1;
            scene.node().spec_mut().env = good.clone();
            for name in &set {
                scene
                    .node()
                    .spec_mut()
                    .env
                    .insert((*name).clone(), value.to_owned());
            }
            let Some(words) = refused(&mut scene, &shown)? else {
                break;
            };
            let before = set.len();
            set.retain(|name| !words.contains(name.as_str()));
            ensure(
                set.len() < before,
                format!("{shown:?}: refused, and no setting is named: {words}"),
            )?;
            ensure(
                tries < 4,
                format!("{shown:?}: not all refusals were told at once: {words}"),
            )?;
        }
        scene.node().kill();
    }
    scene.node().spec_mut().env = good;
    scene.cluster.start_daemons(ipamd_tests::SOON)?;
    scene.nothing_is_left()
}

/// Every setting's name, by the daemon's own table.
fn settings(scene: &Scene) -> Result<Vec<String>, Failure> {
    let mut command = Command::new(lab::Programs::find()?.daemon);
    command.arg("--print-config-table");
    let printed = scene.cluster.nodes()[0].sim().output(command)?.stdout;
    let text = String::from_utf8_lossy(&printed).into_owned();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let names = names.filter(|name| !PATHS.contains(name));
    Ok(names.map(str::to_owned).collect())
}

/// Starts it: its words if it refused, `None` once it answers at its socket.
fn refused(scene: &mut Scene, value: &str) -> Result<Option<String>, Failure> {
    let log = scene.node().log().to_owned();
    let told = std::fs::metadata(&log).map_or(0, |file| file.len());
    scene.node().start()?;
    let began = Instant::now();
    loop {
        let node = scene.node();
        if node.status().is_ok() {
            return Ok(None);
        }
        let process = node.daemon()?.process();
        if let Some(status) = process.ended() {
            let said = std::fs::read(&log)?;
            let said = said.get(usize::try_from(told)?..).unwrap_or_default();
            let words = String::from_utf8_lossy(said).into_owned();
            let refused = process.exit_code() == Some(64) && !words.contains("panicked");
            ensure(refused, format!("{value:?}: {status}: {words}"))?;
            return Ok(Some(words));
        }
        if began.elapsed() > Duration::from_secs(20) {
            return fail(format!(
                "{value:?}: neither an answer nor an end:\n{}",
                node.log_tail(20)
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
