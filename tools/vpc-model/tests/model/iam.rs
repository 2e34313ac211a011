use crate::world::{World, spec};
use vpc_model::Caller;
use vpc_model::iam::Policy;
use vpc_model::ids::EniId;
use vpc_model::request::{
    Action, CreateNetworkInterface, CreateTags, DeleteNetworkInterface, Describe, Tags,
};

/// The shape of a policy that ties a node to ENIs of its cluster.
const POLICY: &str = r#"
    Version = "2012-10-17"
    [[Statement]]
    Effect = "Allow"
    Action = ["ec2:Describe*", "ec2:createtags"]
    Resource = "*"
    [[Statement]]
    Effect = "Allow"
    Action = "ec2:CreateNetworkInterface"
    Resource = ["arn:aws:ec2:*:*:subnet/*", "arn:aws:ec2:*:*:security-group/*"]
    [[Statement]]
    Effect = "Allow"
    Action = "ec2:CreateNetworkInterface"
    Resource = "arn:aws:ec2:*:*:network-interface/*"
    Condition = { StringEquals = { "aws:RequestTag/cluster" = "c1" } }
    [[Statement]]
    Effect = "Allow"
    Action = "ec2:DeleteNetworkInterface"
    Resource = "arn:aws:ec2:*:*:network-interface/*"
    Condition = { StringEquals = { "aws:ResourceTag/cluster" = "c1" } }
    [[Statement]]
    Effect = "Deny"
    Action = "ec2:CreateTags"
    Resource = "*"
    Condition = { "ForAnyValue:StringLike" = { "aws:TagKeys" = ["secret*"] } }
"#;

fn world() -> World {
    let mut spec = spec();
    spec.iam = Some(toml::from_str::<Policy>(POLICY).unwrap());
    World::with(spec)
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn create(pairs: &[(&str, &str)]) -> CreateNetworkInterface {
    CreateNetworkInterface {
        subnet: Some("subnet-a".into()),
        tags: tags(pairs),
        ..CreateNetworkInterface::default()
    }
}

#[test]
fn tag_conditions_decide() {
    let mut w = world();
    let error = w.call(create(&[])).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.http_status),
        ("UnauthorizedOperation", 403)
    );
    assert!(
        error
            .message
            .contains("is not authorized to perform: ec2:CreateNetworkInterface")
    );
    assert_eq!(
        w.refused(create(&[("cluster", "c2")])).0,
        "UnauthorizedOperation"
    );
    let answer = w.call(create(&[("cluster", "c1")])).unwrap();
    let vpc_model::Response::Created { eni, .. } = answer else {
        panic!("other answer")
    };
    assert_eq!(
        w.refused(create(&[("cluster", "c1"), ("secret-x", "1")])).0,
        "UnauthorizedOperation"
    );
    w.caller = Caller::Operator;
    let foreign = w.create("subnet-a");
    w.caller = Caller::node("n1");
    let delete = |eni: &EniId| DeleteNetworkInterface { eni: eni.clone() };
    assert_eq!(w.refused(delete(&foreign)).0, "UnauthorizedOperation");
    w.call(delete(&eni.id)).unwrap();
}

#[test]
fn deny_wins_and_what_is_not_allowed_is_denied() {
    let mut w = world();
    w.call(Action::DescribeSubnets(Describe::default()))
        .unwrap();
    w.call(CreateTags {
        resources: vec!["subnet-a".into()],
        tags: tags(&[("a", "1")]),
    })
    .unwrap();
    let denied = CreateTags {
        resources: vec!["subnet-a".into()],
        tags: tags(&[("secret1", "1")]),
    };
    assert_eq!(w.refused(denied.clone()).0, "UnauthorizedOperation");
    let eni = w.primary("n1").id;
    let assign = crate::world::assign(&eni, crate::world::addresses(1));
    assert_eq!(w.refused(assign).0, "UnauthorizedOperation");
    w.caller = Caller::Operator;
    w.call(denied).unwrap();
}
