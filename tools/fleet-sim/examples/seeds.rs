fn main() {
    let a: Vec<u64> = std::env::args()
        .skip(1)
        .map(|s| s.parse().unwrap())
        .collect();
    if a.len() == 1 {
        let r = fleet_sim::scenario::play(a[0], true);
        for l in &r.story {
            println!("{l}");
        }
        println!("{:?}", r.breaches);
        return;
    }
    let t = std::time::Instant::now();
    let (mut adds, mut calls, mut bad) = (0, 0, 0);
    let mut kinds = std::collections::BTreeMap::<&str, Vec<u64>>::new();
    for s in a[0]..a[1] {
        let r = fleet_sim::scenario::play(s, false);
        adds += r.adds;
        calls += r.calls;
        if let Some(b) = r.breaches.first() {
            bad += 1;
            kinds.entry(b.promise).or_default().push(s);
            if kinds[b.promise].len() <= 3 {
                println!("{s}: {:?} {}: {}", b.at, b.promise, b.what);
            }
        }
    }
    let n = a[1] - a[0];
    println!(
        "{n} seeds {:?} each, {adds} adds {calls} calls, {bad} bad",
        t.elapsed() / n as u32
    );
    for (k, v) in kinds {
        println!("{:5} {k}: {:?}", v.len(), &v[..v.len().min(12)]);
    }
}
