use crate::world::{World, addresses, assign, spec};
use std::time::Duration;
use vpc_model::ids::{EniId, SubnetId};
use vpc_model::request::{Action, CreateNetworkInterface, DeleteNetworkInterface, Describe};
use vpc_model::{Effect, Fault, Latency, Response, Time, Vpc};

/// A call with the lag that the model gives it.
fn describe(w: &mut World, by: Describe<EniId>) -> Result<Vec<EniId>, String> {
    let caller = w.caller.clone();
    let admission = w.vpc.begin(&caller, "DescribeNetworkInterfaces", w.now);
    let request = Action::DescribeNetworkInterfaces(by).into();
    match w.vpc.execute(&admission, &caller, &request, w.now) {
        Ok(Response::Enis(page)) => Ok(page.items.into_iter().map(|e| e.id).collect()),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e.code),
    }
}

#[test]
fn describe_lags_behind_ones_own_writes() {
    let mut spec = spec();
    spec.latencies.describe_lag_ms = Latency::fixed(5000.0);
    let mut w = World::with(spec);
    w.wait_ms(10_000);
    let id = w.create("subnet-a");
    let by = || Describe::ids([id.clone()]);
    assert_eq!(
        describe(&mut w, by()).unwrap_err(),
        "InvalidNetworkInterfaceID.NotFound"
    );
    assert!(!describe(&mut w, Describe::default()).unwrap().contains(&id));
    w.wait_ms(5000);
    assert_eq!(describe(&mut w, by()).unwrap(), std::slice::from_ref(&id));
    // Writes are judged by the truth, whatever Describe shows.
    w.call(assign(&id, addresses(3))).unwrap();
    w.attach(&id, "i-n2", 1);
    let on_instance = || Describe::default().filter("attachment.instance-id", "i-n2");
    assert!(!describe(&mut w, on_instance()).unwrap().contains(&id));
    w.wait_ms(5000);
    assert!(describe(&mut w, on_instance()).unwrap().contains(&id));
    let other = w.create("subnet-a");
    w.wait_ms(5000);
    w.call(DeleteNetworkInterface { eni: other.clone() })
        .unwrap();
    assert!(
        describe(&mut w, Describe::default())
            .unwrap()
            .contains(&other)
    );
    w.wait_ms(5000);
    assert!(
        !describe(&mut w, Describe::default())
            .unwrap()
            .contains(&other)
    );
}

#[test]
fn free_counts_lag_too() {
    let mut w = World::new();
    w.wait_ms(60_000);
    let before = w.free("subnet-a");
    w.create_with("subnet-a", addresses(4));
    w.wait_ms(1000);
    let free = |w: &mut World| {
        let by = Describe::ids([SubnetId::from("subnet-a")]);
        let Response::Subnets(page) = w.call(Action::DescribeSubnets(by)).unwrap() else {
            panic!("other answer")
        };
        page.items[0].available
    };
    assert_eq!(free(&mut w), before - 5);
    w.vpc
        .add_fault(Fault::new("DescribeSubnets", Effect::Stale { ms: 2000 }).times(1));
    assert_eq!(free(&mut w), before);
    assert_eq!(free(&mut w), before - 5);
}

#[test]
fn the_same_seed_makes_the_same_vpc() {
    let run = |seed: u64| {
        let mut spec = spec();
        spec.seed = seed;
        let mut w = World::with(spec);
        let id = w.create_with("subnet-a", addresses(3));
        (id, format!("{:?}", w.vpc.enis(w.now)))
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn admission_splits_the_latency() {
    let mut spec = spec();
    spec.latencies.ec2_ms = Latency::fixed(300.0);
    spec.latencies
        .actions
        .insert("DescribeSubnets".into(), Latency::fixed(40.0));
    let mut vpc = Vpc::new(spec, Time::default()).unwrap();
    let caller = vpc_model::Caller::node("n1");
    let a = vpc.begin(&caller, "AttachNetworkInterface", Time::default());
    assert_eq!(
        (a.before, a.after),
        (Duration::from_millis(150), Duration::from_millis(150))
    );
    let a = vpc.begin(&caller, "DescribeSubnets", Time::default());
    assert_eq!(a.before + a.after, Duration::from_millis(40));
}

#[test]
fn time_never_runs_backwards() {
    let mut w = World::new();
    let id = w.create("subnet-a");
    let earlier = Time::from_unix_millis(0);
    let request = CreateNetworkInterface {
        subnet: Some(SubnetId::from("subnet-a")),
        ..CreateNetworkInterface::default()
    };
    let answer = w.vpc.execute(
        &vpc_model::Admission::immediate(),
        &w.caller.clone(),
        &request.into(),
        earlier,
    );
    assert!(answer.is_ok());
    assert_eq!(w.list(Describe::ids([id])).len(), 1);
    assert!(
        w.vpc
            .audit(0)
            .windows(2)
            .all(|p| p[0].time <= p[1].time && p[0].seq + 1 == p[1].seq)
    );
}
