//! The pairs of a batch, divided among threads.

use std::ops::Range;
use std::thread;

use super::centering::centering;
#[cfg(target_arch = "x86_64")]
use super::lanes::Avx2;
use super::lanes::{Lanes, Portable, LANES};
use super::rows::{rows, List, Scratch};
use super::short::{short, SHORT};

/// A batch of lists, end to end.
pub(super) struct Batch {
    /// The rewards times the loss's scale, each list best first.
    pub rewards: Vec<f64>,
    /// For each reward, the position in its list where those that rank below it begin; the next one
    /// if `None`.
    pub losers_from: Option<Vec<usize>>,
    /// Where the lists begin, and the end of the last.
    pub offsets: Vec<usize>,
    /// What a list's sum counts; 1 if there is nothing here.
    pub weights: Option<Vec<f64>>,
    pub margin: f64,
}

/// What a batch costs, and the derivatives with respect to its scaled rewards, if asked for.
pub(super) struct Cost {
    pub value: f64,
    pub gradient: Option<Vec<f64>>,
}

/// A thread takes some 30 µs to start, in which this many pairs are done.
const PAIRS_PER_THREAD: usize = 200_000;

impl Batch {
    fn list(&self, number: usize) -> List<'_> {
        self.list_of(&self.rewards, number)
    }

    /// A list with rewards from among others of as many.
    fn list_of<'a>(&'a self, rewards: &'a [f64], number: usize) -> List<'a> {
        let items = self.items(number);
        List {
            rewards: &rewards[items.clone()],
            losers_from: self.losers_from.as_deref().map(|from| &from[items]),
        }
    }

    fn weight(&self, number: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[number])
    }

    fn items(&self, number: usize) -> Range<usize> {
        self.offsets[number]..self.offsets[number + 1]
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// How many pairs each list has.
    pub fn pairs_per_list(&self) -> Vec<usize> {
        (0..self.len()).map(|number| self.list(number).pairs()).collect()
    }

    /// Value and, with `gradient`, derivatives, on at most `threads` threads. The same number of
    /// threads gives the same bits.
    pub fn cost(&self, pairs: usize, threads: usize, gradient: bool) -> Cost {
        let threads = threads.min(pairs / PAIRS_PER_THREAD).max(1);
        if threads == 1 {
            return self.part(&self.whole(), gradient);
        }
        let parts = self.parts(pairs, threads);
        let costs: Vec<Cost> = thread::scope(|scope| {
            let started: Vec<_> = parts[1..]
                .iter()
                // A system that has no thread to give still has this one.
                .map(|part| {
                    thread::Builder::new()
                        .spawn_scoped(scope, move || self.part(part, gradient))
                        .map_err(|_| part)
                })
                .collect();
            let first = self.part(&parts[0], gradient);
            let rest = started.into_iter().map(|thread| match thread {
                Ok(thread) => {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                Err(part) => self.part(part, gradient),
            });
            std::iter::once(first).chain(rest).collect()
        });
        let mut total = gradient.then(|| vec![0.0; self.rewards.len()]);
        let mut value = 0.0;
        for (part, cost) in parts.iter().zip(costs) {
            value += cost.value;
            if let (Some(total), Some(gradient)) = (&mut total, cost.gradient) {
                let from = self.offsets[part.start.0];
                for (to, term) in total[from..].iter_mut().zip(gradient) {
                    *to += term;
                }
            }
        }
        Cost { value, gradient: total }
    }

    /// The centring term of these rewards, as many as the batch has, and its derivatives.
    pub fn centering(&self, rewards: &[f64]) -> (f64, Vec<f64>) {
        let lists = 0..self.len();
        centering(lists.map(|number| (self.list_of(rewards, number), self.weight(number))))
    }

    fn whole(&self) -> Range<(usize, usize)> {
        (0, 0)..(self.len(), 0)
    }

    /// The batch in `threads` parts of about as many pairs, each from a (list, row) to another.
    fn parts(&self, pairs: usize, threads: usize) -> Vec<Range<(usize, usize)>> {
        let mut cuts = vec![(0, 0)];
        let mut seen = 0;
        for number in 0..self.len() {
            let list = self.list(number);
            for winner in 0..list.winners() {
                let may = winner == 0 || list.rewards.len() > SHORT;
                if may && cuts.len() < threads && seen >= pairs * cuts.len() / threads {
                    cuts.push((number, winner));
                }
                seen += list.rewards.len() - list.losers_from(winner);
            }
        }
        cuts.push((self.len(), 0));
        cuts.windows(2).map(|cut| cut[0]..cut[1]).collect()
    }

    /// A part, with the gradient of the lists from its first to its last.
    fn part(&self, part: &Range<(usize, usize)>, gradient: bool) -> Cost {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.part_avx2(part, gradient) };
        }
        self.part_in::<Portable>(part, gradient)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn part_avx2(&self, part: &Range<(usize, usize)>, gradient: bool) -> Cost {
        self.part_in::<Avx2>(part, gradient)
    }

    #[inline(always)]
    fn part_in<V: Lanes>(&self, part: &Range<(usize, usize)>, gradient: bool) -> Cost {
        let Range { start, end } = part;
        let lists = start.0..end.0 + usize::from(end.1 > 0);
        let items = self.offsets[lists.start]..self.offsets[lists.end];
        let mut slopes = vec![0.0; if gradient { items.len() } else { 0 }];
        let mut scratch = Scratch::default();
        let mut value = 0.0;
        let mut number = lists.start;
        while number < lists.end {
            if let Some((count, cost)) =
                self.short_in::<V>(number..lists.end, gradient, items.start, &mut slopes)
            {
                value += cost;
                number += count;
                continue;
            }
            let list = self.list(number);
            let from = if number == start.0 { start.1 } else { 0 };
            let to = if number == end.0 { end.1 } else { list.winners() };
            if from < to {
                let weight = self.weight(number);
                let at = self.items(number);
                let cost = if gradient {
                    let slopes = &mut slopes[at.start - items.start..at.end - items.start];
                    rows::<V, true>(list, from..to, self.margin, &mut scratch, slopes, weight)
                } else {
                    rows::<V, false>(list, from..to, self.margin, &mut scratch, &mut [], weight)
                };
                value += weight * cost;
            }
            number += 1;
        }
        Cost { value, gradient: gradient.then_some(slopes) }
    }

    /// The next few of these lists side by side, if they are short and without ties: how many, and
    /// what they cost. `slopes` begin with the derivatives of item `first`.
    #[inline(always)]
    fn short_in<V: Lanes>(
        &self,
        lists: Range<usize>,
        gradient: bool,
        first: usize,
        slopes: &mut [f64],
    ) -> Option<(usize, f64)> {
        let count = lists.len().min(LANES);
        let offsets = &self.offsets[lists.start..=lists.start + count];
        let fits = |list: &[usize]| list[1] - list[0] <= SHORT;
        if self.losers_from.is_some() || !offsets.windows(2).all(fits) {
            return None;
        }
        let (start, end) = (offsets[0], offsets[count]);
        let rewards = &self.rewards[start..end];
        let weights = self.weights.as_ref().map(|weights| &weights[lists.start..][..count]);
        let cost = if gradient {
            let slopes = &mut slopes[start - first..end - first];
            short::<V, true>(rewards, offsets, weights, self.margin, slopes)?
        } else {
            short::<V, false>(rewards, offsets, weights, self.margin, &mut [])?
        };
        Some((count, cost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_processors_agree() {
        let rewards: Vec<f64> = (0..1500u32).map(|i| f64::from(i * 7919 % 1009) / 100.0).collect();
        let batch = Batch {
            rewards,
            losers_from: None,
            offsets: vec![0, 3, 3, 900, 1500],
            weights: Some(vec![1.0, 2.0, 3.0, 0.5]),
            margin: 0.25,
        };
        let pairs = batch.pairs_per_list().iter().sum();
        let one = batch.cost(pairs, 1, true);
        let plainest = batch.part_in::<Portable>(&batch.whole(), true);
        let parts = batch.parts(pairs, 5);
        assert_eq!(parts.len(), 5);
        for (other, name) in
            [(plainest, "in plain Rust"), (batch.cost(pairs, 2, true), "on two threads")]
        {
            assert!((other.value / one.value - 1.0).abs() < 1e-12, "{name}");
            let (Some(a), Some(b)) = (&one.gradient, &other.gradient) else { panic!("{name}") };
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() < 1e-9, "{a} is {b} {name}");
            }
        }
        let valued = batch.cost(pairs, 2, false);
        assert!((valued.value / one.value - 1.0).abs() < 1e-12);
        assert!(valued.gradient.is_none());
    }
}
