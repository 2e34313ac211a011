use crate::world::{World, spec};
use std::time::Duration;
use vpc_model::request::Describe;
use vpc_model::{Caller, Effect, Fate, Fault, Request};

fn fates(w: &mut World, action: &str, calls: usize) -> Vec<String> {
    let caller = w.caller.clone();
    (0..calls)
        .map(|_| match w.vpc.begin(&caller, action, w.now).fate {
            Fate::Proceed => "ok".to_owned(),
            Fate::Drop => "drop".to_owned(),
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
    let wrong = toml::from_str::<Fault>("efect = { kind = \"throttle\" }").unwrap_err();
    assert!(wrong.to_string().contains("efect"), "{wrong}");
}
