use crate::world::{World, spec};
use std::time::Duration;
use vpc_model::ids::{EniId, SubnetId};
use vpc_model::request::{Action, Describe};
use vpc_model::{Caller, Effect, Fate, Fault, Omission, Request, Response};

fn fates(w: &mut World, action: &str, calls: usize) -> Vec<String> {
    let caller = w.caller.clone();
    (0..calls)
        .map(|_| match w.vpc.begin(&caller, action, w.now).fate {
            Fate::Proceed => "ok".to_owned(),
            Fate::Drop => "drop".to_owned(),
            Fate::Unreached { silent } => format!("unreached, silent: {silent}"),
            Fate::Reject(e) => format!("{} {}", e.code, e.http_status),
        })
        .collect()
}

#[test]
fn a_fault_hits_the_calls_that_it_names() {
    let mut w = World::new();
    let fail = Effect::Fail {
        code: "InternalError".into(),
        message: "oops".into(),
        http_status: 500,
    };
    let id = w.vpc.add_fault(Fault {
        after: 1,
        count: Some(2),
        ..Fault::new("Assign*", fail)
    });
    assert_eq!(fates(&mut w, "CreateNetworkInterface", 2), ["ok", "ok"]);
    assert_eq!(
        fates(&mut w, "AssignPrivateIpAddresses", 5),
        ["ok", "InternalError 500", "InternalError 500", "ok", "ok"]
    );
    let state = &w.vpc.faults()[0];
    assert_eq!((state.id, state.matched, state.hit), (id, 5, 2));
    assert!(w.vpc.remove_fault(id) && !w.vpc.remove_fault(id));
}

#[test]
fn faults_are_for_a_node_if_they_say_so() {
    let mut w = World::new();
    w.vpc.add_fault(Fault {
        node: Some("n2".into()),
        ..Fault::new("*", Effect::Throttle)
    });
    assert_eq!(fates(&mut w, "CreateTags", 1), ["ok"]);
    w.caller = Caller::node("n2");
    assert_eq!(fates(&mut w, "CreateTags", 1), ["RequestLimitExceeded 503"]);
}

#[test]
fn a_dropped_answer_did_its_work() {
    let mut w = World::new();
    w.vpc
        .add_fault(Fault::new("CreateNetworkInterface", Effect::DropAnswer).times(1));
    let caller = w.caller.clone();
    let admission = w.vpc.begin(&caller, "CreateNetworkInterface", w.now);
    assert_eq!(admission.fate, Fate::Drop);
    let before = w.vpc.enis(w.now).len();
    let request: Request = vpc_model::request::CreateNetworkInterface {
        subnet: Some("subnet-a".into()),
        ..Default::default()
    }
    .into();
    w.vpc.execute(&admission, &caller, &request, w.now).unwrap();
    assert_eq!(w.vpc.enis(w.now).len(), before + 1);
    let last = w.vpc.audit(0).last().unwrap();
    assert_eq!((last.dropped, last.outcome.as_str()), (true, "ok"));
    assert_eq!(last.ids.len(), 2);
}

#[test]
fn delays_add_up_and_rejections_are_logged_once() {
    let mut w = World::new();
    w.vpc
        .add_fault(Fault::new("Describe*", Effect::Delay { ms: 700 }));
    w.vpc
        .add_fault(Fault::new("DescribeVpcs", Effect::Delay { ms: 300 }));
    let caller = w.caller.clone();
    let admission = w.vpc.begin(&caller, "DescribeVpcs", w.now);
    assert_eq!(admission.after, Duration::from_secs(1));
    w.vpc
        .add_fault(Fault::new("DescribeVpcs", Effect::Throttle));
    let admission = w.vpc.begin(&caller, "DescribeVpcs", w.now);
    let request = vpc_model::request::Action::DescribeVpcs(Describe::default()).into();
    let error = w
        .vpc
        .execute(&admission, &caller, &request, w.now)
        .unwrap_err();
    assert_eq!(error.code, "RequestLimitExceeded");
    assert_eq!(w.vpc.audit(0).len(), 1);
    assert_eq!(w.vpc.ec2_calls()["n1"]["DescribeVpcs"], 1);
}

#[test]
fn the_account_shares_its_buckets() {
    let mut spec = spec();
    spec.limits.throttling = true;
    let mut w = World::with(spec);
    let all = fates(&mut w, "AttachNetworkInterface", 50);
    assert!(all.iter().all(|f| f == "ok"));
    w.caller = Caller::node("n2");
    assert_eq!(
        fates(&mut w, "AttachNetworkInterface", 1),
        ["RequestLimitExceeded 503"]
    );
    w.caller = Caller::Operator;
    assert_eq!(fates(&mut w, "AttachNetworkInterface", 1), ["ok"]);
    w.caller = Caller::node("n2");
    w.wait_ms(200);
    assert_eq!(
        fates(&mut w, "AttachNetworkInterface", 2),
        ["ok", "RequestLimitExceeded 503"]
    );
}

#[test]
fn faults_are_read_from_data() {
    let text = r#"
        action = "CreateNetworkInterface"
        node = "n1"
        after = 2
        [effect]
        kind = "fail"
        code = "InternalError"
        http_status = 500
    "#;
    let fault: Fault = toml::from_str(text).unwrap();
    assert_eq!(fault.after, 2);
    assert!(matches!(
        fault.effect,
        Effect::Fail {
            http_status: 500,
            ..
        }
    ));
    let drop: Fault = toml::from_str("effect = { kind = \"drop_answer\" }").unwrap();
    assert_eq!(
        (drop.action.as_str(), drop.effect),
        ("*", Effect::DropAnswer)
    );
    let cut: Fault = toml::from_str("effect = { kind = \"unreached\", silent = true }").unwrap();
    assert_eq!(cut.effect, Effect::Unreached { silent: true });
    let text = "effect = { kind = \"leave_out\", what = { which = \"all_but_primary\" } }";
    let thin: Fault = toml::from_str(text).unwrap();
    let what = Omission::AllButPrimary;
    assert_eq!(thin.effect, Effect::LeaveOut { what });
    let wrong = toml::from_str::<Fault>("efect = { kind = \"throttle\" }").unwrap_err();
    assert!(wrong.to_string().contains("efect"), "{wrong}");
}

#[test]
fn a_call_that_never_arrives_does_nothing_and_is_nowhere_noted() {
    let mut spec = spec();
    spec.limits.throttling = true;
    let one = vpc_model::spec::BucketSpec::full(1.0, 0.0);
    spec.limits.buckets.insert("mutate".into(), one);
    let mut w = World::with(spec);
    let later = w
        .vpc
        .add_fault(Fault::new("Create*", Effect::DropAnswer).times(1));
    let cut = |silent| Fault::new("Create*", Effect::Unreached { silent }).times(1);
    w.vpc.add_fault(cut(true));
    let caller = w.caller.clone();
    let admission = w.vpc.begin(&caller, "CreateNetworkInterface", w.now);
    assert_eq!(admission.fate, Fate::Unreached { silent: true });
    let before = w.vpc.enis(w.now).len();
    let request: Request = vpc_model::request::CreateNetworkInterface {
        subnet: Some("subnet-a".into()),
        ..Default::default()
    }
    .into();
    let error = w
        .vpc
        .execute(&admission, &caller, &request, w.now)
        .unwrap_err();
    assert_eq!((error.code.as_str(), error.http_status), ("Unreached", 0));
    assert_eq!(w.vpc.enis(w.now).len(), before);
    assert_eq!((w.vpc.audit(0).len(), w.vpc.ec2_calls().len()), (0, 0));
    w.vpc.add_fault(cut(false));
    // The only token of the bucket, and the answer to be lost, are for the call that arrives.
    assert_eq!(
        fates(&mut w, "CreateNetworkInterface", 3),
        [
            "unreached, silent: false",
            "drop",
            "RequestLimitExceeded 503"
        ]
    );
    let hits = w.vpc.faults().into_iter().find(|f| f.id == later).unwrap();
    assert_eq!((hits.matched, hits.hit), (2, 1));
}

fn enis_of(w: &mut World, by: Describe<EniId>) -> Result<Vec<EniId>, String> {
    match w.call(Action::DescribeNetworkInterfaces(by)) {
        Ok(Response::Enis(page)) => Ok(page.items.into_iter().map(|e| e.id).collect()),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e.code),
    }
}

fn subnets_of(w: &mut World) -> Vec<String> {
    match w.call(Action::DescribeSubnets(Describe::default())) {
        Ok(Response::Subnets(page)) => page.items.iter().map(|s| s.id.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_describe_may_leave_out_all_or_some() {
    let mut w = World::new();
    let primary = w.primary("n1").id;
    let more = w.create("subnet-a");
    w.attach(&more, "i-n1", 1);
    let mine = || Describe::default().filter("attachment.instance-id", "i-n1");
    let mut both = vec![primary.clone(), more.clone()];
    both.sort();
    for (what, left) in [
        (Omission::All, vec![]),
        (Omission::Primary, vec![more.clone()]),
        (Omission::AllButPrimary, vec![primary.clone()]),
        (
            Omission::Ids {
                ids: vec![more.to_string()],
            },
            vec![primary.clone()],
        ),
    ] {
        let fault = Fault::new("Describe*", Effect::LeaveOut { what }).times(2);
        w.vpc.add_fault(fault);
        assert_eq!(enis_of(&mut w, mine()).unwrap(), left);
        // By id it is not found, as if it were not there.
        let by_ids = enis_of(&mut w, Describe::ids(both.clone()));
        assert_eq!(by_ids.unwrap_err(), "InvalidNetworkInterfaceID.NotFound");
        assert_eq!(enis_of(&mut w, mine()).unwrap(), both);
    }
    // Writes see all.
    let all = Effect::LeaveOut {
        what: Omission::All,
    };
    w.vpc.add_fault(Fault::new("*", all));
    w.call(crate::world::assign(&more, crate::world::addresses(1)))
        .unwrap();
    assert_eq!(subnets_of(&mut w), Vec::<String>::new());
}

#[test]
fn what_is_left_out_of_subnets_and_for_whom() {
    let mut w = World::new();
    let leave = |what| Effect::LeaveOut { what };
    let fault = Fault {
        node: Some("n2".into()),
        ..Fault::new("DescribeSubnets", leave(Omission::Primary))
    };
    w.vpc.add_fault(fault);
    let all = ["subnet-a", "subnet-b", "subnet-s"];
    assert_eq!(subnets_of(&mut w), all);
    w.caller = Caller::node("n2");
    assert_eq!(subnets_of(&mut w), ["subnet-b", "subnet-s"]);
    let by = Describe::ids([SubnetId::from("subnet-a")]);
    let (code, _) = w.refused(Action::DescribeSubnets(by));
    assert_eq!(code, "InvalidSubnetID.NotFound");
    // Another action with subnets in it is not for this rule.
    w.call(Action::DescribeVpcs(Describe::default())).unwrap();
    assert_eq!(w.vpc.faults()[0].matched, 2);
}

#[test]
fn a_share_is_chosen_by_its_seed() {
    let mut w = World::new();
    for _ in 0..60 {
        w.create("subnet-a");
    }
    let all = enis_of(&mut w, Describe::default()).unwrap();
    let mut some = |percent, seed| {
        let what = Omission::Share { percent, seed };
        let id = w.vpc.add_fault(Fault::new("*", Effect::LeaveOut { what }));
        let shown = enis_of(&mut w, Describe::default()).unwrap();
        assert_eq!(enis_of(&mut w, Describe::default()).unwrap(), shown);
        w.vpc.remove_fault(id);
        shown
    };
    assert_eq!((some(0, 1), some(100, 1)), (all.clone(), vec![]));
    let (one, two) = (some(50, 1), some(50, 2));
    assert!((15..48).contains(&one.len()), "{} of 63", one.len());
    assert!(one != two && one.iter().all(|id| all.contains(id)));
}
