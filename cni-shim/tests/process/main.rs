//! Whole invocations with a map for an environment and buffers for streams: what is refused, in
//! which words and with which code, before any daemon or kernel is asked.

mod about;

use cni_shim::{Process, run};
use serde_json::{Value, json};
use std::ffi::OsString;

struct Answer {
    exit_code: u8,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("stdout is JSON")
    }

    fn code(&self) -> u64 {
        self.json()["code"].as_u64().expect("an error")
    }

    fn msg(&self) -> String {
        self.json()["msg"].as_str().expect("an error").to_owned()
    }
}

fn invoke(env: &[(&str, &str)], stdin: &str) -> Answer {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let get = |name: &str| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| OsString::from(value))
    };
    let exit_code = run(&mut Process {
        env: &get,
        stdin: &mut stdin.as_bytes(),
        stdout: &mut stdout,
        stderr: &mut stderr,
    });
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Answer {
        exit_code,
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// Nobody listens there, and there is no such namespace: a request that is in order ends with one
/// of these (3: no namespace).
const CONF: &str =
    r#"{"cniVersion":"1.1.0","name":"net","type":"ipamd-cni","socket":"/run/ipamd/none.sock"}"#;
const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/nowhere/netns"),
    ("CNI_IFNAME", "eth0"),
];
const IN_ORDER: u64 = 3;

fn with<'a>(env: &[(&'a str, &'a str)], name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let others = env.iter().copied().filter(|(key, _)| *key != name);
    others.chain([(name, value)]).collect()
}

fn conf(change: impl FnOnce(&mut Value)) -> String {
    let mut conf = serde_json::from_str(CONF).expect("JSON");
    change(&mut conf);
    conf.to_string()
}

#[test]
fn version_tells_what_is_spoken_and_echoes() {
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    let table = [
        (r#"{"cniVersion":"0.3.0"}"#, "0.3.0"),
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion":"1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion":"9.9.9"}"#, "1.1.0"),
        ("", "1.1.0"),
        ("not JSON", "1.1.0"),
    ];
    for (stdin, version) in table {
        let answer = invoke(&[("CNI_COMMAND", "VERSION")], stdin);
        assert_eq!(answer.exit_code, 0);
        let wanted = json!({ "cniVersion": version, "supportedVersions": supported });
        assert_eq!(answer.json(), wanted, "{stdin}");
    }
}

#[test]
fn dns_is_checked() {
    let good = [
        json!(null),
        json!({}),
        json!({"nameservers": ["10.0.0.2"], "domain": "a.b", "search": [], "options": ["ndots:2"]}),
        json!({"nameservers": null, "domain": ""}),
    ];
    for dns in good {
        assert_eq!(invoke(&ADD, &conf(|c| c["dns"] = dns)).code(), IN_ORDER);
    }
    let bad = [
        (json!("10.0.0.2"), "dns: \"10.0.0.2\" is not an object"),
        (json!({"nameservers": "10.0.0.2"}), "dns.nameservers: "),
        (json!({"search": ["a", 1]}), "dns.search: "),
        (json!({"domain": ["a"]}), "dns.domain: "),
        (json!({"options": {}}), "dns.options: "),
    ];
    for (dns, words) in bad {
        let stdin = conf(|c| c["dns"] = dns);
        let answer = invoke(&ADD, &stdin);
        assert_eq!(answer.code(), 7, "{words}");
        assert!(
            answer.msg().contains(words),
            "{words:?} in {}",
            answer.msg()
        );
        // A DEL asks for less.
        let del = invoke(&with(&ADD, "CNI_COMMAND", "DEL"), &stdin);
        assert!(!del.stdout.contains("dns"), "{}", del.stdout);
    }
}

#[test]
fn an_error_is_json_on_stdout_and_a_line_on_stderr() {
    let answer = invoke(&ADD, CONF);
    assert_eq!(answer.exit_code, 1);
    let wanted = json!({
        "cniVersion": "1.1.0",
        "code": 3,
        "msg": "there is no network namespace at /nowhere/netns: the container is gone",
    });
    assert_eq!(answer.json(), wanted);
    assert!(answer.stderr.ends_with(
        "ipamd-cni ADD net/c1/eth0: there is no network namespace at /nowhere/netns: \
         the container is gone (code 3)\n"
    ));
}

#[test]
fn a_log_file_takes_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let stdin = conf(|c| c["pluginLogFile"] = json!(path));
    let rules = allowing(dir.path());
    let env = with(&ADD, "IPAMD_PLUGIN_CONFIG", &rules);
    assert_eq!(invoke(&env, &stdin).stderr, "");
    assert_eq!(invoke(&env, &stdin).stderr, "");
    let lines = || {
        let log = std::fs::read_to_string(&path).expect("the log");
        log.lines().count()
    };
    assert_eq!(lines(), 2);
    // Where nobody allowed it, and where a link leads elsewhere, stderr takes the line.
    assert_ne!(invoke(&ADD, &stdin).stderr, "");
    let target = tempfile::tempdir().expect("a directory");
    let (file, folder) = (dir.path().join("link"), dir.path().join("folder"));
    std::os::unix::fs::symlink(target.path().join("cron"), &file).expect("links");
    std::os::unix::fs::symlink(target.path(), &folder).expect("links");
    for path in [file, folder.join("cron"), dir.path().join("../cron")] {
        let stdin = conf(|c| c["pluginLogFile"] = json!(path));
        assert_ne!(invoke(&env, &stdin).stderr, "", "{}", path.display());
    }
    let made = std::fs::read_dir(target.path()).expect("lists").count();
    assert_eq!((made, lines()), (0, 2));
}

/// An administrator's file that allows paths below a directory.
fn allowing(dir: &std::path::Path) -> String {
    let file = dir.join("plugin.json");
    let text = json!({"socketDirs": [dir], "spoolDirs": [dir], "logDirs": [dir]});
    std::fs::write(&file, text.to_string()).expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("sets the mode");
    file.to_str().expect("UTF-8").to_owned()
}

/// Who may write a network configuration is not who may write the node's files.
#[test]
fn paths_lead_nowhere_else() {
    let dir = tempfile::tempdir().expect("a directory");
    for field in ["socket", "spoolDir"] {
        let path = dir.path().join("made/by/us");
        let stdin = conf(|c| c[field] = json!(path));
        let answer = invoke(&ADD, &stdin);
        assert_eq!(answer.code(), 7, "{}", answer.msg());
        let msg = answer.msg();
        assert!(msg.contains(field) && msg.contains("plugin.json"), "{msg}");
    }
    // A DEL completes all the same, by the paths that are known.
    let rules = allowing(dir.path());
    let env = with(&ADD, "CNI_COMMAND", "DEL");
    let env = with(&env, "IPAMD_PLUGIN_CONFIG", &rules);
    let stdin = conf(|c| {
        c["socket"] = json!("relative");
        c["spoolDir"] = json!(dir.path().join("spool"));
        c["ipam"] = json!({"type": "host-local"});
    });
    let answer = invoke(&env, &stdin);
    assert_eq!((answer.exit_code, answer.stdout.as_str()), (0, ""));
    let noted = std::fs::read_dir(dir.path().join("spool")).expect("lists");
    assert_eq!(noted.count(), 1);
}

#[test]
fn commands_are_those_of_the_spec() {
    for (command, words) in [
        ("", "is missing"),
        ("add", "unknown"),
        ("UPDATE", "unknown"),
    ] {
        let answer = invoke(&with(&ADD, "CNI_COMMAND", command), CONF);
        assert_eq!((answer.exit_code, answer.code()), (1, 4), "{command}");
        assert!(answer.msg().contains(words), "{}", answer.msg());
    }
}

#[test]
fn each_command_needs_its_variables() {
    let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    let table: [(&str, &[&str]); 5] = [
        ("ADD", &names),
        ("CHECK", &names),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("GC", &[]),
        ("STATUS", &[]),
    ];
    for (command, needed) in table {
        let answer = invoke(&[("CNI_COMMAND", command)], CONF);
        let said = answer.stdout;
        for name in names {
            let missing = said.contains(&format!("{name} is missing"));
            assert_eq!(missing, needed.contains(&name), "{command} {name}: {said}");
        }
    }
}

#[test]
fn all_problems_are_told_together() {
    let env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_ARGS", "A=1;B;C=2"),
    ];
    let answer = invoke(
        &env,
        r#"{"cniVersion":"1.1.0","name":"!","mtu":"x","vethPrefix":"eth"}"#,
    );
    assert_eq!(answer.code(), 4);
    let wanted = [
        "CNI_CONTAINERID \"-x\" is not letters",
        "CNI_NETNS is missing",
        "CNI_IFNAME is missing",
        "\"B\" is not KEY=VALUE",
        "unknown keys A, C",
        "name: \"!\"",
        "mtu: \"x\"",
        "vethPrefix: \"eth\"",
    ];
    for words in wanted {
        assert!(
            answer.msg().contains(words),
            "{words:?} in {}",
            answer.msg()
        );
    }
}

#[test]
fn names_follow_the_spec() {
    let table = [
        ("CNI_IFNAME", "eth0", IN_ORDER),
        ("CNI_IFNAME", "a-b_c.d", IN_ORDER),
        ("CNI_IFNAME", "exactly15chars_", IN_ORDER),
        ("CNI_IFNAME", "sixteen_chars_xx", 4),
        ("CNI_IFNAME", ".", 4),
        ("CNI_IFNAME", "..", 4),
        ("CNI_IFNAME", "a/b", 4),
        ("CNI_IFNAME", "a:b", 4),
        ("CNI_IFNAME", "a b", 4),
        ("CNI_IFNAME", "a\u{a0}b", 4),
        ("CNI_IFNAME", "eth%d", 4),
        ("CNI_CONTAINERID", "0aZ_.-", IN_ORDER),
        ("CNI_CONTAINERID", "_a", 4),
        ("CNI_CONTAINERID", "a/b", 4),
        ("CNI_CONTAINERID", "\u{e4}", 4),
    ];
    for (name, value, code) in table {
        assert_eq!(
            invoke(&with(&ADD, name, value), CONF).code(),
            code,
            "{name}={value}"
        );
    }
}

#[test]
fn cni_args_are_taken_as_runtimes_send_them() {
    let pod =
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u";
    let table = [
        (pod.to_owned(), IN_ORDER),
        (format!("IgnoreUnknown=1;{pod};OTHER=x"), IN_ORDER),
        (format!("{pod};OTHER=x;IgnoreUnknown=true"), IN_ORDER),
        // Multus: every key twice, both spellings.
        (
            format!("IgnoreUnknown=true;{pod};IgnoreUnknown=1;{pod};OTHER=x;OTHER=y"),
            IN_ORDER,
        ),
        (format!("{pod};OTHER=x"), 4),
        (format!("{pod};OTHER=x;IgnoreUnknown=0"), 4),
        (format!("{pod};IgnoreUnknown=maybe"), 4),
        ("K8S_POD_NAME".to_owned(), 4),
        ("=x".to_owned(), 4),
        (";;".to_owned(), IN_ORDER),
        ("K8S_POD_NAME=a=b".to_owned(), IN_ORDER),
    ];
    for (args, code) in table {
        assert_eq!(
            invoke(&with(&ADD, "CNI_ARGS", &args), CONF).code(),
            code,
            "{args}"
        );
    }
}

#[test]
fn stdin_must_be_a_configuration() {
    let deep = "[".repeat(100_000);
    let table = [
        ("", 6),
        ("  \n", 6),
        ("{", 6),
        ("[]", 6),
        ("null", 6),
        ("{\"cniVersion\":\"1.1.0\"} x", 6),
        ("\u{0}", 6),
        (deep.as_str(), 6),
        (r#"{"name":"net"}"#, 1),
        (r#"{"cniVersion":"0.2.0","name":"net"}"#, 1),
        (r#"{"cniVersion":"1.2.0","name":"net"}"#, 1),
        (r#"{"cniVersion":1.1,"name":"net"}"#, 1),
        (r#"{"cniVersion":"1.1.0"}"#, 7),
        (r#"{"cniVersion":"1.1.0","name":""}"#, 7),
        (r#"{"cniVersion":"1.1.0","name":"a/b"}"#, 7),
        (r#"{"cniVersion":"1.1.0","name":7}"#, 7),
        (
            r#"{"cniVersion":"1.1.0","name":"net","ipam":{"type":"host-local"}}"#,
            2,
        ),
        (r#"{"cniVersion":"1.1.0","name":"net","ipam":{}}"#, IN_ORDER),
    ];
    for (stdin, code) in table {
        let answer = invoke(&ADD, stdin);
        assert_eq!(answer.code(), code, "{stdin:.60}: {}", answer.msg());
    }
}

#[test]
fn fields_are_taken_in_all_their_spellings() {
    let table = [
        ("mtu", json!(9001), IN_ORDER),
        ("mtu", json!("9001"), IN_ORDER),
        ("mtu", json!(""), IN_ORDER),
        ("mtu", json!(0), IN_ORDER),
        ("mtu", json!(null), IN_ORDER),
        ("mtu", json!(67), 7),
        ("mtu", json!(65536), 7),
        ("mtu", json!(-1), 7),
        ("mtu", json!(1.5), 7),
        ("mtu", json!("big"), 7),
        ("mtu", json!({}), 7),
        ("addTimeout", json!(30_000), IN_ORDER),
        ("addTimeout", json!("30s"), IN_ORDER),
        ("addTimeout", json!("1m"), IN_ORDER),
        ("addTimeout", json!(0), 7),
        ("addTimeout", json!("0s"), 7),
        ("addTimeout", json!("soon"), 7),
        ("addTimeout", json!(-1), 7),
        ("vethPrefix", json!("eni"), IN_ORDER),
        ("vethPrefix", json!("cali"), IN_ORDER),
        ("vethPrefix", json!(""), IN_ORDER),
        ("vethPrefix", json!("toolong"), 7),
        ("vethPrefix", json!("a/"), 7),
        ("vethPrefix", json!("vlan"), 7),
        ("socket", json!("relative"), 7),
        ("socket", json!(5), 7),
        ("runtimeConfig", json!({"portMappings": []}), IN_ORDER),
        ("pluginLogLevel", json!("DEBUG"), IN_ORDER),
        ("pluginLogFile", json!(5), IN_ORDER),
        ("prevResult", json!("strange"), IN_ORDER),
        ("unheardOf", json!({"a": [1]}), IN_ORDER),
    ];
    for (key, value, code) in table {
        let answer = invoke(&ADD, &conf(|c| c[key] = value.clone()));
        assert_eq!(answer.code(), code, "{key}={value}: {}", answer.msg());
    }
}

#[test]
fn a_command_is_refused_before_its_version() {
    let table = [
        ("CHECK", "0.3.1", 1),
        ("GC", "1.0.0", 1),
        ("STATUS", "1.0.0", 1),
    ];
    for (command, version, code) in table {
        let stdin = conf(|c| {
            c["cniVersion"] = json!(version);
            c["prevResult"] = json!({});
        });
        let answer = invoke(&with(&ADD, "CNI_COMMAND", command), &stdin);
        assert_eq!(answer.code(), code, "{command} {version}");
        assert_eq!(answer.json()["cniVersion"], version);
    }
    let check = invoke(&with(&ADD, "CNI_COMMAND", "CHECK"), CONF);
    assert_eq!(check.code(), 7, "CHECK without a prevResult");
}

#[test]
fn gc_and_status_without_a_daemon() {
    let gc = invoke(&[("CNI_COMMAND", "GC")], CONF);
    assert_eq!((gc.exit_code, gc.stdout.as_str()), (0, ""));
    let status = invoke(&[("CNI_COMMAND", "STATUS")], CONF);
    assert_eq!(status.code(), 50);
    assert!(
        status
            .msg()
            .contains("does not listen at /run/ipamd/none.sock"),
        "{}",
        status.msg()
    );
}

/// containerd sends it after each good DEL, and a DEL must not fail for what only an ADD needs.
#[test]
fn del_with_little_is_success() {
    let dir = tempfile::tempdir().expect("a directory");
    let stdin = conf(|c| {
        c["spoolDir"] = json!(dir.path());
        c["mtu"] = json!("bad");
        c["addTimeout"] = json!("bad");
    });
    let rules = allowing(dir.path());
    let env = with(&ADD, "CNI_COMMAND", "DEL");
    let env = with(&env, "CNI_NETNS", "");
    let env = with(&env, "CNI_ARGS", "strange;A=1");
    let env = with(&env, "IPAMD_PLUGIN_CONFIG", &rules);
    let answer = invoke(&env, &stdin);
    assert_eq!((answer.exit_code, answer.stdout.as_str()), (0, ""));
}
