//! `CNI_*` variables and stdin.

use super::{Picture, check_end, fifo, private_places, search};
use crate::daemon::Daemon;
use crate::world::Netns;
use crate::{Failure, Outcome};
use cni_shim::{Process, run};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::Instant;

const CASES: u32 = 800;

/// Stands for a path that is known at run time only.
const POD: &str = "{pod}";
const HOST: &str = "{host}";
const FIFO: &str = "{fifo}";

/// What a variable is set to.
#[derive(Clone, Debug)]
enum Set {
    Good,
    Missing,
    To(Vec<u8>),
}

/// One change of a configuration: at some place in it.
#[derive(Clone, Debug)]
enum Change {
    Remove,
    Put(Value),
    /// So many lists around it.
    Deepen(usize),
    /// The key once more, with this value before it.
    Double(Value),
}

#[derive(Clone, Debug)]
struct Input {
    verb: Set,
    variables: [Set; 4],
    changes: Vec<(prop::sample::Index, Change)>,
    /// Bytes put in place of so many others.
    bytes: Vec<(prop::sample::Index, usize, Vec<u8>)>,
}

fn configuration() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "ipamd-cni",
        "mtu": "9001",
        "addTimeout": "2s",
        "vethPrefix": "eni",
        "pluginLogFile": "stderr",
        "pluginLogLevel": "DEBUG",
        "capabilities": {"io.kubernetes.cri.pod-annotations": true},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"a": "b"}},
        "dns": {},
        "prevResult": {
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "eni0123456789a", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": POD, "mtu": 9001},
            ],
            "ips": [{"address": "10.1.0.1/32", "gateway": "169.254.1.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
            "dns": {},
        },
    })
}

fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "x",
        "0",
        "-1",
        "1.1.0",
        "%s%n%d",
        "eth%d",
        "eth0",
        "lo",
        "eni",
        "../../x",
        ".",
        "..",
        "a/b",
        "a:b",
        "\u{202e}\u{0}",
        "\u{e4}\u{1f600}",
        "10.1.0.1/99",
        "::1/128",
        "0.0.0.0/0",
        "999999999999999999999h",
        "1e400s",
        "0.0000000001ns",
        "18446744073709551616",
        "IgnoreUnknown=1;K8S_POD_NAME=\u{1f600}",
        "K8S_POD_NAMESPACE=a;K8S_POD_NAME=;=;;",
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=",
        "stderr",
        "/dev/full",
        "/dev/zero/x",
        "/proc/self/ns/mnt",
        "/proc/thread-self/ns/net",
        "/nowhere/net",
        "/dev/zero",
        "/tmp",
        FIFO,
        HOST,
        POD,
    ]
    .map(String::from)
    .to_vec();
    texts.extend([
        "x".repeat(70_000),
        "9".repeat(400),
        "K=".repeat(5_000),
        "a;".repeat(5_000),
    ]);
    texts
}

fn odd_value() -> impl Strategy<Value = Value> {
    let fixed = vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!({}),
        json!([[[{"a": [null]}]]]),
        json!({"type": "host-local"}),
        json!(vec![
            json!({"address": "10.1.0.1/32", "name": "eth0"});
            2_000
        ]),
    ];
    // Never a path that was not thought of: some are written to.
    prop_oneof![
        select(fixed),
        select(odd_texts()).prop_map(Value::from),
        "[^/]\\PC{0,30}".prop_map(Value::from),
    ]
}

fn set() -> impl Strategy<Value = Set> {
    prop_oneof![
        6 => Just(Set::Good),
        1 => Just(Set::Missing),
        2 => select(odd_texts()).prop_map(|text| Set::To(text.into_bytes())),
        1 => vec(any::<u8>(), 0..40).prop_map(Set::To),
    ]
}

fn verb() -> impl Strategy<Value = Set> {
    let known = [
        "ADD", "ADD", "ADD", "DEL", "DEL", "CHECK", "GC", "STATUS", "VERSION",
    ];
    prop_oneof![
        9 => select(known.to_vec()).prop_map(|verb| Set::To(verb.into())),
        1 => set().prop_map(|set| match set {
            Set::Good => Set::Missing,
            other => other,
        }),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let change = prop_oneof![
        2 => Just(Change::Remove),
        4 => odd_value().prop_map(Change::Put),
        1 => select(vec![1, 60, 200, 30_000]).prop_map(Change::Deepen),
        1 => odd_value().prop_map(Change::Double),
    ];
    let bytes = prop_oneof![
        4 => Just(Vec::new()),
        1 => vec((any::<prop::sample::Index>(), 0..3_usize, vec(any::<u8>(), 0..4)), 1..4),
        // The rest is cut off, or all of it is something else.
        1 => (any::<prop::sample::Index>(), vec(any::<u8>(), 0..60))
            .prop_map(|(at, bytes)| vec![(at, usize::MAX, bytes)]),
    ];
    (
        verb(),
        [set(), set(), set(), set()],
        vec((any::<prop::sample::Index>(), change), 0..4),
        bytes,
    )
        .prop_map(|(verb, variables, changes, bytes)| Input {
            verb,
            variables,
            changes,
            bytes,
        })
}

/// Every place in a value, as JSON pointers.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, v)| (key.replace('~', "~0").replace('/', "~1"), v))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(n, v)| (n.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let path = format!("{here}/{key}");
        found.push(path.clone());
        // A few of a long list are enough.
        if found.len() < 200 {
            places(child, &path, found);
        }
    }
}

fn stdin(input: &Input) -> Vec<u8> {
    let mut conf = configuration();
    let (mut deep, mut doubled) = (Vec::new(), Vec::new());
    for (n, (index, change)) in input.changes.iter().enumerate() {
        let mut all = Vec::new();
        places(&conf, "", &mut all);
        let Some(path) = (!all.is_empty()).then(|| index.get(&all)) else {
            continue;
        };
        let Some((parent, key)) = path.rsplit_once('/') else {
            continue;
        };
        match change {
            Change::Remove => match conf.pointer_mut(parent) {
                Some(Value::Object(map)) => drop(map.remove(key)),
                Some(Value::Array(list)) => drop(key.parse().ok().map(|n: usize| list.remove(n))),
                _ => {}
            },
            Change::Put(value) => {
                if let Some(place) = conf.pointer_mut(path) {
                    *place = value.clone();
                }
            }
            Change::Deepen(levels) => {
                if let Some(place) = conf.pointer_mut(path) {
                    // Put in as text: so deep a value could not even be dropped.
                    deep.push((
                        format!("\"deep-{n}\""),
                        "[".repeat(*levels) + &"]".repeat(*levels),
                    ));
                    *place = json!(format!("deep-{n}"));
                }
            }
            Change::Double(value) => doubled.push((key.to_owned(), value.clone())),
        }
    }
    let mut text = conf.to_string();
    for (mark, value) in deep {
        text = text.replacen(&mark, &value, 1);
    }
    for (key, value) in doubled {
        let key = format!("\"{key}\":");
        text = text.replacen(&key, &format!("{key}{value},{key}"), 1);
    }
    let mut bytes = text.into_bytes();
    for (index, count, new) in &input.bytes {
        let at = index.index(bytes.len() + 1);
        let end = at.saturating_add(*count).min(bytes.len());
        bytes.splice(at..end, new.iter().copied());
    }
    bytes
}

struct World {
    daemon: Daemon,
    spaces: RefCell<(Netns, Netns)>,
    fifo: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Result<Self, Failure> {
        private_places()?;
        let dir = tempfile::tempdir()?;
        Ok(Self {
            daemon: Daemon::start(Path::new("/run/ipamd")),
            spaces: RefCell::new((Netns::new()?, Netns::new()?)),
            fifo: fifo(dir.path())?,
            _dir: dir,
        })
    }

    /// With the marks of paths replaced.
    fn named(&self, bytes: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return bytes.to_vec();
        };
        let spaces = self.spaces.borrow();
        text.replace(POD, &spaces.1.path())
            .replace(HOST, &spaces.0.path())
            .replace(FIFO, &self.fifo.display().to_string())
            .into_bytes()
    }

    fn try_one(&self, input: &Input) -> Result<(), TestCaseError> {
        {
            let mut state = self.daemon.state();
            state.leases.clear();
            state.free = (1..=3)
                .map(|n| std::net::IpAddr::from([10, 1, 0, n]))
                .collect();
        }
        let stdin = self.named(&stdin(input));
        let good = [
            "c1",
            POD,
            "eth0",
            "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
        ];
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
        let mut env: Vec<(&'static str, OsString)> = Vec::new();
        for ((name, set), good) in names.iter().zip(&input.variables).zip(good) {
            match set {
                Set::Good => env.push((name, OsString::from_vec(self.named(good.as_bytes())))),
                Set::Missing => {}
                Set::To(bytes) => env.push((name, OsString::from_vec(self.named(bytes)))),
            }
        }
        if let Set::To(verb) = &input.verb {
            env.push(("CNI_COMMAND", OsString::from_vec(verb.clone())));
        }
        let spaces = self.spaces.borrow();
        let before = Picture::of(&spaces.0, &spaces.1);
        let began = Instant::now();
        let theirs = env.clone();
        let (exit_code, stdout) = super::in_time(&spaces.0, move || invoke(&theirs, &stdin))?;
        let json = check_end(began, exit_code, &stdout)?;
        let after = Picture::of(&spaces.0, &spaces.1);
        let added = matches!(&input.verb, Set::To(verb) if verb == b"ADD") && exit_code == 0;
        if !added {
            prop_assert_eq!(before, after, "exit code {}", exit_code);
            return Ok(());
        }
        // It is what the answer says, under the name that was asked for.
        let [_, pod_links] = after.links;
        let name = env
            .iter()
            .find(|(name, _)| *name == "CNI_IFNAME")
            .map(|(_, v)| v.clone());
        prop_assert_eq!(pod_links.len(), 1, "{}", json);
        prop_assert_eq!(Some(OsString::from(&pod_links[0].name)), name, "{}", json);
        drop(spaces);
        let fresh = (Netns::new(), Netns::new());
        let (Ok(host), Ok(pod)) = fresh else {
            return Err(TestCaseError::fail("no namespaces"));
        };
        *self.spaces.borrow_mut() = (host, pod);
        Ok(())
    }
}

fn invoke(env: &[(&'static str, OsString)], mut stdin: &[u8]) -> (u8, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let get = |name: &str| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.clone())
    };
    let exit_code = run(&mut Process {
        env: &get,
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
    });
    (exit_code, stdout)
}

/// Every command, with variables and configurations of all kinds.
pub(crate) fn requests() -> Outcome {
    let world = World::new()?;
    search(CASES, &input(), |input| world.try_one(&input))
}
