//! Durations as figures.

use serde::Serialize;
use std::time::Duration;

/// Milliseconds of a set of measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half are below.
    pub p50: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// Of these, by nearest rank; all zero if there are none.
    #[must_use]
    pub fn of(times: &[Duration]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().map_or(0.0, millis)
        };
        Self {
            p50: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }
}

/// In milliseconds, to the microsecond.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// For people: `0.3 s`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: impl IntoIterator<Item = u64>) -> Quantiles {
        Quantiles::of(
            &ms.into_iter()
                .map(Duration::from_millis)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn nearest_rank() {
        assert_eq!(of([]), Quantiles::default());
        assert_eq!(
            of([7]),
            Quantiles {
                p50: 7.0,
                p99: 7.0,
                max: 7.0
            }
        );
        assert_eq!(
            of([3, 1, 2]),
            Quantiles {
                p50: 2.0,
                p99: 3.0,
                max: 3.0
            }
        );
        assert_eq!(
            of((1..=200).rev()),
            Quantiles {
                p50: 100.0,
                p99: 198.0,
                max: 200.0
            }
        );
    }
}
