//! Samples of latencies.

use crate::words::rng::Rng;
use crate::words::spec::{Latency, Spread};
use std::time::Duration;

/// How many standard deviations the 99th percentile lies above the median.
const Z99: f64 = 2.326_347_9;
/// No latency is above an hour.
const MAX_MS: f64 = 3_600_000.0;

pub(crate) fn sample(latency: &Latency, rng: &mut Rng) -> Duration {
    let ms = match latency {
        Latency::Fixed(ms) => *ms,
        Latency::Spread(s) => log_normal(s, rng),
    };
    Duration::from_secs_f64(ms.clamp(0.0, MAX_MS) / 1000.0)
}

fn log_normal(s: &Spread, rng: &mut Rng) -> f64 {
    if s.p50 <= 0.0 {
        return 0.0;
    }
    let sigma = (s.p99.max(s.p50) / s.p50).ln() / Z99;
    // Box-Muller; the first number must not be 0.
    let (u, v) = (1.0 - rng.unit(), rng.unit());
    let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    (s.p50 * (sigma * normal).exp()).min(s.max.unwrap_or(4.0 * s.p99))
}

/// The largest value that [`sample`] gives.
pub(crate) fn bound(latency: &Latency) -> Duration {
    let ms = match latency {
        Latency::Fixed(ms) => *ms,
        Latency::Spread(s) => s.max.unwrap_or(4.0 * s.p99),
    };
    Duration::from_secs_f64(ms.clamp(0.0, MAX_MS) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_quantiles_they_were_asked_for() {
        let latency = Latency::Spread(Spread {
            p50: 100.0,
            p99: 400.0,
            max: None,
        });
        let mut rng = Rng::new(11);
        let mut all: Vec<f64> = (0..20_000)
            .map(|_| sample(&latency, &mut rng).as_secs_f64() * 1e3)
            .collect();
        all.sort_by(f64::total_cmp);
        assert!((95.0..105.0).contains(&all[10_000]), "{}", all[10_000]);
        assert!((360.0..440.0).contains(&all[19_800]), "{}", all[19_800]);
        assert!(all[19_999] <= 1600.0);
        assert_eq!(bound(&latency), Duration::from_millis(1600));
        assert_eq!(
            sample(&Latency::fixed(2.5), &mut rng),
            Duration::from_micros(2500)
        );
    }
}
