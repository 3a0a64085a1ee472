//! The learning rate over a run.

/// A line up from 0, then a line down to 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    peak: f64,
    warmup: u64,
    steps: u64,
}

impl Schedule {
    pub fn new(peak: f64, warmup_ratio: f64, steps: u64) -> Schedule {
        Schedule { peak, warmup: (warmup_ratio * steps as f64).round() as u64, steps }
    }

    /// The learning rate of a step, from 1 to the last. It is positive in every step, the peak at
    /// the end of the warm-up, and would be 0 in the step after the last.
    pub fn rate(&self, step: u64) -> f64 {
        let share = if step <= self.warmup {
            step as f64 / self.warmup as f64
        } else {
            (self.steps + 1).saturating_sub(step) as f64 / (self.steps - self.warmup) as f64
        };
        self.peak * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rises_to_the_peak_and_ends_at_zero(ratio in 0.0f64..=1.0, steps in 1u64..500) {
            let schedule = Schedule::new(2.0, ratio, steps);
            let rates: Vec<f64> = (1..=steps).map(|s| schedule.rate(s)).collect();
            let most = rates.iter().copied().fold(0.0, f64::max);
            prop_assert_eq!(most, 2.0);
            prop_assert!(rates.iter().all(|&r| r > 0.0));
            let top = rates.iter().position(|&r| r == most).unwrap_or(0);
            prop_assert!(rates[..top].windows(2).all(|w| w[0] < w[1]));
            prop_assert!(rates[top..].windows(2).all(|w| w[0] >= w[1]));
            if schedule.warmup < steps {
                prop_assert_eq!(schedule.rate(steps + 1), 0.0);
            }
        }
    }

    #[test]
    fn ten_steps_of_which_two_warm_up() {
        let schedule = Schedule::new(1.0, 0.2, 10);
        let rates: Vec<f64> = (1..=10).map(|s| schedule.rate(s)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
    }
}
