//! Where two answers to the same call differ: in status, in which elements there are, in what they
//! say. Names and times that each side makes for itself are compared by kind only.

use crate::ec2::Answer;
use crate::xml::Element;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// What one side calls the things that a script has made: name in the script to its id.
pub type Names = BTreeMap<String, String>;

/// One difference; `at` is a path of element names below the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// HTTP statuses: the judge's and ours.
    Status(u16, u16),
    /// The judge has this element and we don't.
    Lacks(String),
    /// We have this element and the judge doesn't.
    More(String),
    /// Both have it, with other contents: the judge's and ours.
    Differs(String, Vec<String>, Vec<String>),
}

impl Difference {
    /// The difference without values: `lacks a/b`, `more a/b`, `differs a/b`, `status`.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Status(..) => "status".into(),
            Self::Lacks(at) => format!("lacks {at}"),
            Self::More(at) => format!("more {at}"),
            Self::Differs(at, ..) => format!("differs {at}"),
        }
    }
}

/// An answer with the names of the side that gave it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it said.
    pub answer: &'a Answer,
    /// What it calls things.
    pub names: &'a Names,
}

/// All differences.
#[must_use]
pub fn differences(judge: Side<'_>, ours: Side<'_>) -> Vec<Difference> {
    let mut all = Vec::new();
    if judge.answer.status != ours.answer.status {
        all.push(Difference::Status(judge.answer.status, ours.answer.status));
    }
    let (theirs, mine) = (leaves(judge), leaves(ours));
    let paths: BTreeSet<&String> = theirs.keys().chain(mine.keys()).collect();
    for path in paths {
        match (theirs.get(path), mine.get(path)) {
            (Some(a), Some(b)) if a != b => {
                all.push(Difference::Differs(path.clone(), a.clone(), b.clone()));
            }
            (Some(_), None) => all.push(Difference::Lacks(path.clone())),
            (None, Some(_)) => all.push(Difference::More(path.clone())),
            _ => {}
        }
    }
    all
}

/// Elements without elements in them: path to texts, sorted, since lists have no order in EC2.
fn leaves(side: Side<'_>) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    let root = &side.answer.root;
    // An answer of an unknown action has no name of its own.
    collect(root, &root.name, side.names, &mut all);
    for texts in all.values_mut() {
        texts.sort();
    }
    all
}

fn collect(element: &Element, path: &str, names: &Names, all: &mut BTreeMap<String, Vec<String>>) {
    if element.inside.is_empty() {
        let text = match element.name.to_ascii_lowercase().as_str() {
            "requestid" => "a request's id".to_owned(),
            _ => normal(&element.text, names),
        };
        all.entry(path.to_owned()).or_default().push(text);
    }
    for inner in &element.inside {
        collect(inner, &format!("{path}/{}", inner.name), names, all);
    }
}

/// A text with what each side names for itself replaced: things of the script by their names there,
/// other ids, addresses in the VPC, MACs and times by their kind.
fn normal(text: &str, names: &Names) -> String {
    let inside_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    let mut all = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = if inside_word(first) {
            rest.find(|c| !inside_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(end);
        // The end of a sentence.
        let bare = word.trim_end_matches('.');
        all.push_str(&kind_of(bare, names));
        all.push_str(&word[bare.len()..]);
        rest = after;
    }
    all
}

fn kind_of(word: &str, names: &Names) -> String {
    if let Some((name, _)) = names.iter().find(|(_, id)| *id == word) {
        return format!("{{{name}}}");
    }
    if word.starts_with("02:00:00:") || word.parse::<vpc_model::ids::Mac>().is_ok() {
        return "{a MAC}".into();
    }
    if word
        .parse::<Ipv4Addr>()
        .is_ok_and(|a| a.octets()[..2] == [10, 0] && a.octets()[2..] != [0, 0])
    {
        return "{an address}".into();
    }
    if let Some((_, domain)) = word
        .split_once('.')
        .filter(|_| word.starts_with("ip-10-0-"))
    {
        return format!("{{a name}}.{domain}");
    }
    if word.len() >= 20 && word.starts_with("20") && word.contains('T') && word.ends_with('Z') {
        return "{a time}".into();
    }
    match word.rsplit_once('-') {
        Some((prefix, tail)) if is_id(prefix, tail) => format!("{prefix}-{{an id}}"),
        _ => word.to_owned(),
    }
}

fn is_id(prefix: &str, tail: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c == '-';
    prefix.chars().all(letters) && tail.len() >= 8 && tail.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, xml: &str) -> Answer {
        let root = Element::parse(xml).expect("XML");
        Answer { status, root }
    }

    fn compare(judge: &str, ours: &str) -> Vec<String> {
        let mut names = [Names::new(), Names::new()];
        names[0].insert("eni".into(), "eni-00000000000000001".into());
        names[1].insert("eni".into(), "eni-00000000000000002".into());
        let (judge, ours) = (answer(200, judge), answer(200, ours));
        let sides = [(&judge, &names[0]), (&ours, &names[1])];
        let [judge, ours] = sides.map(|(answer, names)| Side { answer, names });
        let all = differences(judge, ours);
        all.iter().map(Difference::kind).collect()
    }

    #[test]
    fn own_names_and_order_are_no_difference() {
        let text = |eni: &str, ip: &str, attachment: &str| {
            format!(
                "<R><a>{eni} at {ip}.</a><s><i>{attachment}</i></s><requestId>{ip}</requestId></R>"
            )
        };
        let judge = text(
            "eni-00000000000000001",
            "10.0.1.2",
            "eni-attach-0123456789abcdef0",
        );
        let ours = text(
            "eni-00000000000000002",
            "10.0.3.4",
            "eni-attach-0fedcba987654321f",
        );
        assert_eq!(compare(&judge, &ours), Vec::<String>::new());
        let judge = "<R><s><i>a</i><i>b</i></s></R>";
        assert_eq!(
            compare(judge, "<R><s><i>b</i><i>a</i></s></R>"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_difference_is_seen() {
        for (judge, ours, wanted) in [
            ("<R><a>1</a></R>", "<R><a>2</a></R>", "differs R/a"),
            ("<R><a>1</a><b/></R>", "<R><a>1</a></R>", "lacks R/b"),
            ("<R><a>1</a></R>", "<R><a>1</a><b/></R>", "more R/b"),
            // The right kind, but another thing of the script.
            (
                "<R><a>eni-00000000000000001</a></R>",
                "<R><a>eni-00000000000000003</a></R>",
                "differs R/a",
            ),
            (
                "<R><s><i>1</i></s></R>",
                "<R><s><i>1</i><i>1</i></s></R>",
                "differs R/s/i",
            ),
            (
                "<R><a>10.0.0.0/16</a></R>",
                "<R><a>10.0.0.0/18</a></R>",
                "differs R/a",
            ),
        ] {
            assert_eq!(compare(judge, ours), [wanted]);
        }
        let (a, b) = (answer(400, "<R/>"), answer(412, "<R/>"));
        let names = Names::new();
        let side = |answer| Side {
            answer,
            names: &names,
        };
        assert_eq!(
            differences(side(&a), side(&b)),
            [Difference::Status(400, 412)]
        );
    }
}
