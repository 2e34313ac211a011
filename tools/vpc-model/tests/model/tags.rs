use crate::world::World;
use vpc_model::request::{CreateTags, DeleteTags, Tags};

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn tags_are_set_replaced_and_removed() {
    let mut w = World::new();
    let eni = w.create("subnet-a");
    let on = |pairs: &[(&str, &str)]| CreateTags {
        resources: vec![eni.to_string()],
        tags: tags(pairs),
    };
    w.call(on(&[("a", "1"), ("b", "2"), ("c", "3")])).unwrap();
    w.call(on(&[("a", "9")])).unwrap();
    assert_eq!(
        w.eni(&eni).tags,
        tags(&[("a", "9"), ("b", "2"), ("c", "3")])
    );
    let off = |keys: &[(&str, Option<&str>)]| DeleteTags {
        resources: vec![eni.to_string()],
        tags: keys
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)))
            .collect(),
    };
    w.call(off(&[("a", Some("1")), ("b", Some("2")), ("x", None)]))
        .unwrap();
    assert_eq!(w.eni(&eni).tags, tags(&[("a", "9"), ("c", "3")]));
    w.call(off(&[])).unwrap();
    assert!(w.eni(&eni).tags.is_empty());
}

#[test]
fn wrong_tags_and_resources() {
    let mut w = World::new();
    let eni = w.create("subnet-a").to_string();
    let many: Tags = (0..51).map(|i| (format!("k{i}"), String::new())).collect();
    let long = "x".repeat(129);
    for (resource, tags, code) in [
        (
            eni.as_str(),
            tags(&[("aws:x", "1")]),
            "InvalidParameterValue",
        ),
        (&eni, tags(&[("", "1")]), "InvalidParameterValue"),
        (&eni, tags(&[(&long, "1")]), "InvalidParameterValue"),
        (&eni, many, "TagLimitExceeded"),
        (&eni, Tags::new(), "MissingParameter"),
        (
            "eni-0123456789abcdef0",
            tags(&[("a", "1")]),
            "InvalidNetworkInterfaceID.NotFound",
        ),
        (
            "subnet-none",
            tags(&[("a", "1")]),
            "InvalidSubnetID.NotFound",
        ),
        ("eni-0123", tags(&[("a", "1")]), "InvalidID"),
        ("nonsense", tags(&[("a", "1")]), "InvalidID"),
    ] {
        let request = CreateTags {
            resources: vec![resource.to_owned()],
            tags,
        };
        assert_eq!(w.refused(request).0, code, "{resource}");
    }
    // One bad resource: none is tagged.
    let resources = vec![eni.clone(), "eni-0123456789abcdef0".to_owned()];
    w.refused(CreateTags {
        resources,
        tags: tags(&[("a", "1")]),
    });
    assert!(w.eni(&eni.as_str().into()).tags.is_empty());
    w.call(CreateTags {
        resources: vec!["subnet-a".into(), "i-n1".into()],
        tags: tags(&[("a", "1")]),
    })
    .unwrap();
}
