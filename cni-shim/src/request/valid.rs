//! The attachments that a GC names as still there.

use super::conf::is_identifier;
use serde_json::{Map, Value};

/// One of them (CNI spec 1.1.0, section 2, "GC").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidAttachment {
    /// `containerID`
    pub container_id: String,
    /// `ifname`
    pub if_name: String,
}

/// The spec's key, and the one that its first edition and libcni's first release had. Where both are
/// there, both are believed.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// `None` if no list is there (absent, or `null`): then nothing is known to be stale. A list that can't be
/// read whole must not be taken for a shorter one: that is a problem.
pub(super) fn read(
    map: &Map<String, Value>,
    problems: &mut Vec<String>,
) -> Option<Vec<ValidAttachment>> {
    let mut all = None;
    for key in KEYS {
        match map.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                let all = all.get_or_insert_with(Vec::new);
                for (n, item) in list.iter().enumerate() {
                    match attachment(item) {
                        Some(attachment) => all.push(attachment),
                        None => problems.push(format!(
                            "{key}[{n}]: {item} is not an object with containerID and ifname"
                        )),
                    }
                }
            }
            Some(other) => problems.push(format!("{key}: {other} is not a list")),
        }
    }
    all
}

fn attachment(item: &Value) -> Option<ValidAttachment> {
    let text = |key| item.get(key).and_then(Value::as_str);
    let container_id = text("containerID").filter(|id| is_identifier(id))?;
    let if_name = text("ifname").filter(|name| !name.is_empty())?;
    Some(ValidAttachment {
        container_id: container_id.into(),
        if_name: if_name.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_of(conf: &Value) -> Result<Option<usize>, usize> {
        let mut problems = Vec::new();
        let empty = Map::new();
        let all = read(conf.as_object().unwrap_or(&empty), &mut problems);
        if problems.is_empty() {
            Ok(all.map(|all| all.len()))
        } else {
            Err(problems.len())
        }
    }

    #[test]
    fn lists_are_read_whole_or_not_at_all() {
        let one = json!({"containerID": "a", "ifname": "eth0"});
        let two = json!({"containerID": "b-1.c_2", "ifname": "net1", "more": 1});
        let table = [
            (json!({}), Ok(None)),
            (json!({"cni.dev/valid-attachments": null}), Ok(None)),
            (json!({"cni.dev/valid-attachments": []}), Ok(Some(0))),
            (json!({"cni.dev/attachments": [one]}), Ok(Some(1))),
            (
                json!({"cni.dev/valid-attachments": null, "cni.dev/attachments": [one, two]}),
                Ok(Some(2)),
            ),
            (
                json!({"cni.dev/valid-attachments": [one], "cni.dev/attachments": [two]}),
                Ok(Some(2)),
            ),
            (json!({"cni.dev/valid-attachments": {}}), Err(1)),
            (
                json!({"cni.dev/valid-attachments": [one, {"containerID": "a"}, 3, {"ifname": "eth0"}]}),
                Err(3),
            ),
            (
                json!({"cni.dev/valid-attachments": [{"containerID": "a b", "ifname": "eth0"}]}),
                Err(1),
            ),
        ];
        for (conf, wanted) in table {
            assert_eq!(read_of(&conf), wanted, "{conf}");
        }
    }
}
