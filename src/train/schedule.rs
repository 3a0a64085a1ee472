//! [`Schedule`]: the learning rate over a run.

use serde::{Deserialize, Serialize};

use super::TrainConfig;

/// How the learning rate goes on after the warm-up, in which it rises along a line.
///
/// With w steps of warm-up out of n, the share u = (n + 1 − s) / (n − w) goes from 1 in step w + 1 to
/// 0 in the step after the last, so that the end is reached exactly and the last step still moves.
/// With the peak η and the floor φ ([`TrainConfig::learning_rate_floor`]):
///
/// | | rate in step s > w |
/// |---|---|
/// | `constant` | η |
/// | `linear` | η (φ + (1 − φ) u) |
/// | `cosine` | η (φ + (1 − φ) (1 − cos πu) / 2) (Loshchilov & Hutter 2017) |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls along a line.
    #[default]
    Linear,
    /// It falls along half a cosine.
    Cosine,
}

/// The learning rate of every step of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    schedule: Schedule,
    peak: f64,
    floor: f64,
    warmup: u64,
    steps: u64,
}

impl Rates {
    pub fn new(config: &TrainConfig, steps: u64) -> Rates {
        Rates {
            schedule: config.schedule,
            peak: config.learning_rate,
            floor: config.learning_rate_floor,
            warmup: (config.warmup_ratio * steps as f64).round() as u64,
            steps,
        }
    }

    /// The learning rate of a step, from 1 to the last.
    pub fn rate(&self, step: u64) -> f64 {
        if step <= self.warmup {
            return self.peak * (step as f64 / self.warmup as f64);
        }
        let left = (self.steps + 1).saturating_sub(step) as f64;
        let left = left / (self.steps - self.warmup).max(1) as f64;
        let share = match self.schedule {
            Schedule::Constant => return self.peak,
            Schedule::Linear => left,
            Schedule::Cosine => (1.0 - (std::f64::consts::PI * left).cos()) / 2.0,
        };
        self.peak * (self.floor + (1.0 - self.floor) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(schedule: Schedule, floor: f64, warmup_ratio: f64, steps: u64) -> Rates {
        let config = TrainConfig {
            schedule,
            learning_rate: 2.0,
            learning_rate_floor: floor,
            warmup_ratio,
            ..TrainConfig::default()
        };
        Rates::new(&config, steps)
    }

    proptest! {
        #[test]
        fn rises_to_the_peak_and_ends_at_the_floor(
            cosine: bool,
            floor in 0.0f64..=1.0,
            ratio in 0.0f64..=1.0,
            steps in 1u64..500,
        ) {
            let schedule = if cosine { Schedule::Cosine } else { Schedule::Linear };
            let rates = rates(schedule, floor, ratio, steps);
            let all: Vec<f64> = (1..=steps).map(|s| rates.rate(s)).collect();
            let most = all.iter().copied().fold(0.0, f64::max);
            prop_assert_eq!(most, 2.0);
            prop_assert!(all.iter().all(|&r| r > 0.0));
            let top = all.iter().position(|&r| r == most).unwrap_or(0);
            prop_assert!(all[..top].windows(2).all(|w| w[0] < w[1]));
            prop_assert!(all[top..].windows(2).all(|w| w[0] >= w[1]));
            if rates.warmup < steps {
                prop_assert_eq!(rates.rate(steps + 1), 2.0 * floor);
            }
        }

        #[test]
        fn constant_is_the_peak_after_the_warm_up(ratio in 0.0f64..=1.0, steps in 1u64..500) {
            let rates = rates(Schedule::Constant, 0.3, ratio, steps);
            for step in 1..=steps {
                let expected = if step < rates.warmup {
                    2.0 * step as f64 / rates.warmup as f64
                } else {
                    2.0
                };
                prop_assert!((rates.rate(step) - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn ten_steps_of_which_two_warm_up() {
        let of = |schedule, floor| -> Vec<f64> {
            let rates = rates(schedule, floor, 0.2, 10);
            (1..=10).map(|s| rates.rate(s) / 2.0).collect()
        };
        let linear = of(Schedule::Linear, 0.0);
        assert_eq!(linear, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
        // Half way down the cosine: u = 4/8.
        assert!((of(Schedule::Cosine, 0.5)[6] - 0.75).abs() < 1e-15);
    }
}
