//! The pairs of one list: value and gradient, two winners against [`LANES`] losers at a time.

use std::ops::Range;

use super::lanes::{exp, Lanes, LANES};
use super::product::LogProduct;

/// One list, best first, each reward multiplied by the loss's scale.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub rewards: &'a [f64],
    /// For each item, where the items that rank below it begin; the next one if `None`.
    pub losers_from: Option<&'a [usize]>,
}

impl List<'_> {
    /// The position of the best of those that rank below `winner`; the list's length if none do.
    pub fn losers_from(&self, winner: usize) -> usize {
        self.losers_from.map_or(winner + 1, |from| from[winner])
    }

    /// How many items, from the best, have one below them.
    pub fn winners(&self) -> usize {
        match self.losers_from {
            None => self.rewards.len().saturating_sub(1),
            Some(from) => from.partition_point(|&from| from < self.rewards.len()),
        }
    }

    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        let len = self.rewards.len();
        match self.losers_from {
            None => len * len.saturating_sub(1) / 2,
            Some(from) => from.iter().map(|from| len - from).sum(),
        }
    }
}

/// What a thread computes in, kept from list to list.
#[derive(Default)]
pub(super) struct Scratch {
    winners: Vec<f64>,
    losers: Vec<f64>,
    gradient: Vec<f64>,
}

/// Σ log(1 + e^−z) over the pairs of a list whose winners are `rows`, z = r_w − r_l − margin. With
/// `GRADIENT`, its derivatives are added to `gradient`, which is as long as the list, `weight` times.
#[inline(always)]
pub(super) fn rows<V: Lanes, const GRADIENT: bool>(
    list: List,
    rows: Range<usize>,
    margin: f64,
    scratch: &mut Scratch,
    gradient: &mut [f64],
    weight: f64,
) -> f64 {
    let (least, most) = list
        .rewards
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &r| (least.min(r), most.max(r)));
    let value = if Factored::holds(most - least, margin) {
        Factored::prepare::<V>(list.rewards, (least + most) / 2.0, margin, scratch);
        let largest = (most - least + margin).max(0.0);
        pairs::<V, Factored, GRADIENT>(list, rows, margin, largest, scratch)
    } else {
        Direct::prepare(list.rewards, scratch);
        pairs::<V, Direct, GRADIENT>(list, rows, margin, 0.0, scratch)
    };
    if GRADIENT {
        for (to, from) in gradient.iter_mut().zip(&scratch.gradient) {
            *to += weight * from;
        }
    }
    value
}

/// [`rows`] in one [`Form`], with what it keeps of each item in `scratch`, where the derivatives are
/// left; `largest` is what log x does not exceed, and not negative.
#[inline(always)]
fn pairs<V: Lanes, F: Form, const GRADIENT: bool>(
    list: List,
    rows: Range<usize>,
    margin: f64,
    largest: f64,
    scratch: &mut Scratch,
) -> f64 {
    let len = list.rewards.len();
    let Scratch { winners, losers, gradient: padded } = scratch;
    if GRADIENT {
        padded.clear();
        padded.resize(len + LANES, 0.0);
    }
    // log(1 + x) ≤ max(0, log x) + log 2, twice.
    let mut sum = Sum {
        product: LogProduct::new(2.0 * (largest + std::f64::consts::LN_2)),
        linear: V::all(0.0),
        margin: V::all(margin),
    };
    let mut first = rows.start;
    while first < rows.end {
        let paired = first + 1 < rows.end;
        let below_first = list.losers_from(first);
        let below_both = if paired { list.losers_from(first + 1) } else { len };
        let mut wins = (V::all(0.0), V::all(0.0));
        // What ranks below the first alone: its neighbour, or what its neighbour is tied with.
        let mut at = below_first;
        while at < below_both {
            let count = LANES.min(below_both - at);
            let mut some = [F::NO_LOSER; LANES];
            some[..count].copy_from_slice(&losers[at..at + count]);
            let (won, _) = sum.add::<F, GRADIENT>((winners[first], F::NO_WINNER), V::load(&some));
            if GRADIENT {
                wins.0 = wins.0.plus(won);
                for (to, won) in padded[at..at + count].iter_mut().zip(won.to_array()) {
                    *to += won;
                }
            }
            at += count;
        }
        if below_both < len {
            let pair = (winners[first], winners[first + 1]);
            // The padding of both makes the last one whole.
            let chunks = (len - below_both).div_ceil(LANES);
            let losers = losers[below_both..].as_chunks::<LANES>().0.iter().take(chunks);
            if GRADIENT {
                let gradients = padded[below_both..].as_chunks_mut::<LANES>().0;
                for (some, gradient) in losers.zip(gradients) {
                    let won = sum.add::<F, true>(pair, V::load(some));
                    wins = (wins.0.plus(won.0), wins.1.plus(won.1));
                    V::load(gradient).plus(won.0.plus(won.1)).store(gradient);
                }
            } else {
                for some in losers {
                    sum.add::<F, false>(pair, V::load(some));
                }
            }
        }
        if GRADIENT {
            padded[first] -= wins.0.sum();
            if paired {
                padded[first + 1] -= wins.1.sum();
            }
        }
        first += 2;
    }
    sum.linear.sum() + sum.product.log()
}

/// Σ log(1 + e^−z), so far.
struct Sum<V> {
    product: LogProduct<V>,
    linear: V,
    margin: V,
}

impl<V: Lanes> Sum<V> {
    /// Adds the pairs of two winners with some losers; gives each pair's σ(−z), if `GRADIENT`.
    #[inline(always)]
    fn add<F: Form, const GRADIENT: bool>(&mut self, winners: (f64, f64), losers: V) -> (V, V) {
        let one = V::all(1.0);
        let (a, b) =
            (F::terms(winners.0, losers, self.margin), F::terms(winners.1, losers, self.margin));
        let (whole_a, whole_b) = (a.x.plus(one), b.x.plus(one));
        // (1 + a)(1 + b) − 1
        self.product.multiply(a.x.times_plus(whole_b, b.x));
        self.linear = self.linear.plus(a.linear.plus(b.linear));
        if !GRADIENT {
            return (one, one);
        }
        // One division for both, and in turn for the halves of the lanes.
        let inverse = whole_a.times(whole_b).inverse();
        (a.share.times(whole_b).times(inverse), b.share.times(whole_a).times(inverse))
    }
}

/// Of pairs: log(1 + e^−z) = linear + log(1 + x), and σ(−z) = share / (1 + x).
struct Terms<V> {
    x: V,
    share: V,
    linear: V,
}

/// How the terms come from what is kept of a winner and of losers.
trait Form {
    /// A winner and a loser that are not there: every pair with them costs nothing.
    const NO_WINNER: f64;
    const NO_LOSER: f64;

    fn terms<V: Lanes>(winner: f64, losers: V, margin: V) -> Terms<V>;
}

/// e^−z as a factor of the winner, e^(c − r_w + margin), times one of the loser, e^(r_l − c): an
/// exponential for each item and none for a pair.
pub(super) struct Factored;

impl Factored {
    /// Whether eight times two terms still have a product, and all factors are well within the
    /// range of f64.
    pub fn holds(spread: f64, margin: f64) -> bool {
        spread + margin <= 43.0 && spread <= 300.0 && margin.abs() <= 300.0
    }

    #[inline(always)]
    fn prepare<V: Lanes>(rewards: &[f64], centre: f64, margin: f64, to: &mut Scratch) {
        to.losers.clear();
        to.losers.extend_from_slice(rewards);
        to.losers.resize(rewards.len() + LANES, centre);
        for chunk in to.losers.as_chunks_mut::<LANES>().0 {
            exp(V::load(chunk).minus(V::all(centre))).store(chunk);
        }
        to.losers[rewards.len()..].fill(Factored::NO_LOSER);
        let margin = margin.exp();
        to.winners.clear();
        to.winners.extend(to.losers[..rewards.len()].iter().map(|factor| margin / factor));
    }
}

impl Form for Factored {
    const NO_WINNER: f64 = 0.0;
    const NO_LOSER: f64 = 0.0;

    #[inline(always)]
    fn terms<V: Lanes>(winner: f64, losers: V, _: V) -> Terms<V> {
        let x = losers.times(V::all(winner));
        Terms { x, share: x, linear: V::all(0.0) }
    }
}

/// e^−|z|, an exponential for every pair, whatever the rewards.
struct Direct;

impl Direct {
    fn prepare(rewards: &[f64], to: &mut Scratch) {
        to.losers.clear();
        to.losers.extend_from_slice(rewards);
        to.losers.resize(rewards.len() + LANES, Direct::NO_LOSER);
        to.winners.clear();
        to.winners.extend_from_slice(rewards);
    }
}

impl Form for Direct {
    const NO_WINNER: f64 = f64::INFINITY;
    const NO_LOSER: f64 = f64::NEG_INFINITY;

    #[inline(always)]
    fn terms<V: Lanes>(winner: f64, losers: V, margin: V) -> Terms<V> {
        // In this order: a large reward less a margin would be the reward.
        let z = V::all(winner).minus(losers).minus(margin);
        let size = z.magnitude();
        // e^−708 in place of less is far below what can be told from zero.
        let limit = V::all(708.0);
        let zero = V::all(0.0);
        let x = exp(zero.minus(size.if_below(limit, size, limit)));
        let share = zero.if_below(z, x, V::all(1.0));
        Terms { x, share, linear: z.if_below(zero, size, zero) }
    }
}
