//! The plugin run by hand.

use super::*;

/// Who runs it by hand sees what it is, and is not waited for. A runtime that forgets the command is told.
#[test]
fn run_by_hand_it_tells_what_it_is() {
    for env in [
        &[][..],
        &[("CNI_COMMAND", ""), ("CNI_PATH", "/opt/cni/bin")],
    ] {
        let answer = invoke(env, "");
        assert_eq!((answer.exit_code, answer.stdout.as_str()), (0, ""));
        let version = format!("ipamd-cni {}", env!("CARGO_PKG_VERSION"));
        for words in [version.as_str(), "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"] {
            assert!(
                answer.stderr.contains(words),
                "{words:?} in {}",
                answer.stderr
            );
        }
        if let Some(commit) = option_env!("IPAMD_COMMIT") {
            assert!(
                answer.stderr.contains(commit),
                "{commit} in {}",
                answer.stderr
            );
        }
    }
    let forgot = invoke(&[("CNI_CONTAINERID", "c1")], CONF);
    assert_eq!(forgot.code(), 4);
    assert!(
        forgot.msg().contains("CNI_COMMAND is missing"),
        "{}",
        forgot.msg()
    );
}

/// The program itself, without a terminal's end of input: an open pipe nobody writes to.
#[test]
fn the_program_waits_for_no_input_when_run_by_hand() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ipamd-cni"))
        .arg("--version")
        .env_clear()
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let stdin = child.stdin.take();
    let ended = (0..500).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        child.try_wait().expect("is ours")
    });
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    assert!(ended.expect("it waits for input").success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("ipamd-cni ") && output.stdout.is_empty(),
        "{said}"
    );
}
