//! The centring term of lists, in closed form: a pass down each list and one up, not one over its
//! pairs.

use super::rows::List;

/// How many rewards were met, their mean, and Σ (r − mean)², kept up to date (Welford 1962).
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, reward: f64) {
        self.count += 1.0;
        let off = reward - self.mean;
        self.mean += off / self.count;
        self.squares += off * (reward - self.mean);
    }

    /// Σ (r + r_j)² over the rewards r_j that were met. In this form, unlike that of powers of sums,
    /// nothing cancels out.
    fn term(&self, reward: f64) -> f64 {
        self.count * (reward + self.mean).powi(2) + self.squares
    }

    /// Half of that term's derivative with respect to `reward`.
    fn slope(&self, reward: f64) -> f64 {
        self.count * (reward + self.mean)
    }
}

/// Σ (r_w + r_l)² over the pairs of a list, and `slope` of each item with half of the derivative.
/// `below` is kept from list to list.
fn list_term(list: List, below: &mut Vec<Spread>, mut slope: impl FnMut(usize, f64)) -> f64 {
    let len = list.rewards.len();
    below.clear();
    below.resize(len + 1, Spread::default());
    for at in (0..len).rev() {
        below[at] = below[at + 1];
        below[at].add(list.rewards[at]);
    }
    let (mut value, mut above, mut start) = (0.0, Spread::default(), 0);
    while start < len {
        // Items of one rank have no pairs among themselves.
        let end = list.losers_from(start);
        for (at, &reward) in list.rewards.iter().enumerate().take(end).skip(start) {
            value += below[end].term(reward);
            slope(at, below[end].slope(reward) + above.slope(reward));
        }
        list.rewards[start..end].iter().for_each(|&reward| above.add(reward));
        start = end;
    }
    value
}

/// Σ (r_w + r_l)² over the pairs of lists, each list's sum times its weight, and the derivatives of
/// that with respect to the rewards.
pub(super) fn centering<'a>(lists: impl Iterator<Item = (List<'a>, f64)>) -> (f64, Vec<f64>) {
    let (mut value, mut slopes, mut below) = (0.0, Vec::new(), Vec::new());
    for (list, weight) in lists {
        let first = slopes.len();
        slopes.resize(first + list.rewards.len(), 0.0);
        let own = &mut slopes[first..];
        value += weight * list_term(list, &mut below, |at, half| own[at] = 2.0 * weight * half);
    }
    (value, slopes)
}
