//! The metrics against double loops, permutations, and the numbers of scipy and scikit-learn.

use approx::assert_relative_eq;
use proptest::prelude::*;
use reward_model::metrics::{RankMeter, RankMetrics, Scored};
use reward_model::Error;

fn scored(rewards: &[f32], ranks: &[usize]) -> Scored {
    Scored::new(rewards, ranks).unwrap()
}

/// Equal to `tolerance`, or the same infinity, or both NaN, or both `None`.
fn close(got: Option<f64>, want: Option<f64>, tolerance: f64) -> bool {
    match (got, want) {
        (Some(got), Some(want)) => {
            got == want
                || (got.is_nan() && want.is_nan())
                || (got - want).abs() <= tolerance * want.abs().max(1.0)
        }
        (got, want) => got == want,
    }
}

fn every_metric(list: &Scored) -> [Option<f64>; 7] {
    [
        list.pairwise_accuracy(),
        list.kendall_tau_b(),
        list.spearman(),
        list.ndcg(None),
        list.exact_order(),
        list.top1(),
        list.mean_margin(),
    ]
}

/// The definitions, in f64, as loops over all responses or pairs of them.
mod naive {
    use std::cmp::Ordering;

    fn pairs(ranks: &[usize]) -> impl Iterator<Item = (usize, usize)> + '_ {
        let all = (0..ranks.len()).flat_map(|w| (0..ranks.len()).map(move |l| (w, l)));
        all.filter(|&(w, l)| ranks[w] < ranks[l])
    }

    /// r_w − r_l of every ordered pair.
    pub fn margins(rewards: &[f64], ranks: &[usize]) -> Vec<f64> {
        pairs(ranks).map(|(w, l)| rewards[w] - rewards[l]).collect()
    }

    pub fn mean(values: &[f64]) -> Option<f64> {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    pub fn accuracy(rewards: &[f64], ranks: &[usize]) -> Option<f64> {
        let points = |(w, l): (usize, usize)| match rewards[w].partial_cmp(&rewards[l]).unwrap() {
            Ordering::Greater => 1.0,
            Ordering::Equal => 0.5,
            Ordering::Less => 0.0,
        };
        mean(&pairs(ranks).map(points).collect::<Vec<_>>())
    }

    /// Σ a·b / √(Σ a² · Σ b²) with a and b the signs of all pairs' differences.
    pub fn tau_b(rewards: &[f64], ranks: &[usize]) -> Option<f64> {
        let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
        for i in 0..ranks.len() {
            for j in 0..i {
                let a = f64::from(rewards[i] > rewards[j]) - f64::from(rewards[i] < rewards[j]);
                let b = f64::from(ranks[i] < ranks[j]) - f64::from(ranks[i] > ranks[j]);
                product += a * b;
                square_a += a * a;
                square_b += b * b;
            }
        }
        let square: f64 = square_a * square_b;
        (square > 0.0).then(|| product / square.sqrt())
    }

    /// Pearson's correlation of the average ranks.
    pub fn spearman(rewards: &[f64], ranks: &[usize]) -> Option<f64> {
        let average_rank = |better: &dyn Fn(usize, usize) -> bool| -> Vec<f64> {
            let len = ranks.len();
            let rank = |i: usize| {
                let above = (0..len).filter(|&j| better(j, i)).count() as f64;
                let tied = (0..len).filter(|&j| !better(j, i) && !better(i, j)).count() as f64;
                above + (tied + 1.0) / 2.0
            };
            (0..len).map(rank).collect()
        };
        let x = average_rank(&|i, j| rewards[i] > rewards[j]);
        let y = average_rank(&|i, j| ranks[i] < ranks[j]);
        let (mean_x, mean_y) = (mean(&x)?, mean(&y)?);
        let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in x.iter().zip(&y) {
            xy += (x - mean_x) * (y - mean_y);
            xx += (x - mean_x) * (x - mean_x);
            yy += (y - mean_y) * (y - mean_y);
        }
        (xx > 0.0 && yy > 0.0).then(|| xy / f64::sqrt(xx * yy))
    }

    fn orders(len: usize) -> Vec<Vec<usize>> {
        if len == 0 {
            return vec![Vec::new()];
        }
        let shorter = orders(len - 1);
        let insert = |at: usize| {
            shorter.iter().map(move |order| {
                let mut order = order.clone();
                order.insert(at, len - 1);
                order
            })
        };
        (0..len).flat_map(insert).collect()
    }

    /// The mean over all orders of falling reward, by the best of all orders.
    pub fn ndcg(rewards: &[f64], ranks: &[usize], k: usize) -> Option<f64> {
        let gain = |i: usize| {
            let mut worse: Vec<usize> = ranks.iter().copied().filter(|&r| r > ranks[i]).collect();
            worse.sort_unstable();
            worse.dedup();
            worse.len() as f64
        };
        let dcg = |order: &Vec<usize>| -> f64 {
            order.iter().take(k).zip(2u8..).map(|(&i, at)| gain(i) / f64::from(at).log2()).sum()
        };
        let orders = orders(ranks.len());
        let best = orders.iter().map(dcg).fold(0.0, f64::max);
        let falls = |order: &&Vec<usize>| order.windows(2).all(|w| rewards[w[0]] >= rewards[w[1]]);
        let falling: Vec<f64> = orders.iter().filter(falls).map(dcg).collect();
        (best > 0.0).then(|| mean(&falling).unwrap() / best)
    }
}

/// Rewards that tie often, on a grid whose sums f64 holds exactly, and ranks from anywhere.
fn list(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<(f32, usize)>> {
    let reward = prop_oneof![
        4 => (-5i8..5).prop_map(|step| f32::from(step) / 4.0),
        2 => (-20_000i16..20_000).prop_map(|step| f32::from(step) / 256.0),
        1 => Just(-0.0f32),
    ];
    let rank = prop_oneof![4 => 0usize..6, 1 => Just(usize::MAX), 1 => 0usize..2000];
    prop::collection::vec((reward, rank), len)
}

fn widened(rewards: &[f32]) -> Vec<f64> {
    rewards.iter().copied().map(f64::from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn short_lists_agree_with_the_definitions(list in list(0..14)) {
        let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.into_iter().unzip();
        let list = scored(&rewards, &ranks);
        let wide = widened(&rewards);
        let margins = naive::margins(&wide, &ranks);
        prop_assert_eq!(list.pair_count(), margins.len());
        prop_assert!(close(list.pairwise_accuracy(), naive::accuracy(&wide, &ranks), 1e-15));
        prop_assert!(close(list.mean_margin(), naive::mean(&margins), 1e-14));
        prop_assert!(close(list.kendall_tau_b(), naive::tau_b(&wide, &ranks), 1e-14));
        prop_assert!(close(list.spearman(), naive::spearman(&wide, &ranks), 1e-14));
        let exact = naive::accuracy(&wide, &ranks).map(|accuracy| f64::from(accuracy == 1.0));
        prop_assert_eq!(list.exact_order(), exact);
        let top = wide.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let best = ranks.iter().min();
        let top: Vec<f64> = (0..ranks.len())
            .filter(|&i| wide[i] == top)
            .map(|i| f64::from(Some(&ranks[i]) == best))
            .collect();
        prop_assert_eq!(list.top1(), naive::mean(&top).filter(|_| !margins.is_empty()));
    }

    #[test]
    fn ndcg_is_the_mean_over_all_orders_of_tied_rewards(list in list(0..=6), k in 1usize..8) {
        let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.into_iter().unzip();
        let list = scored(&rewards, &ranks);
        let want = |k| naive::ndcg(&widened(&rewards), &ranks, k);
        prop_assert!(close(list.ndcg(Some(k)), want(k), 1e-14));
        prop_assert!(close(list.ndcg(None), want(6), 1e-14));
    }

    #[test]
    fn the_order_of_the_responses_does_not_count(
        (list, shuffled) in
            list(0..40).prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
    ) {
        let metrics = |list: Vec<(f32, usize)>| {
            let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.into_iter().unzip();
            every_metric(&scored(&rewards, &ranks))
        };
        for (a, b) in metrics(list).into_iter().zip(metrics(shuffled)) {
            prop_assert!(close(a, b, 1e-15), "{:?} is not {:?}", a, b);
        }
    }

    #[test]
    fn infinite_rewards_are_compared_and_subtracted_as_ieee_754_says(
        list in prop::collection::vec(
            (prop::sample::select(vec![f32::NEG_INFINITY, -1.0, 2.0, f32::INFINITY]), 0usize..4),
            0..7,
        ),
    ) {
        let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.into_iter().unzip();
        let list = scored(&rewards, &ranks);
        let wide = widened(&rewards);
        let margin = naive::mean(&naive::margins(&wide, &ranks));
        prop_assert!(close(list.mean_margin(), margin, 1e-14), "{:?}", list.mean_margin());
        prop_assert!(close(list.pairwise_accuracy(), naive::accuracy(&wide, &ranks), 1e-15));
        prop_assert!(close(list.kendall_tau_b(), naive::tau_b(&wide, &ranks), 1e-14));
        prop_assert!(close(list.spearman(), naive::spearman(&wide, &ranks), 1e-14));
    }

    #[test]
    fn a_nan_reward_is_never_hidden(mut list in list(1..12), at in any::<prop::sample::Index>()) {
        let at = at.index(list.len());
        list[at].0 = if list.len() % 2 == 0 { f32::NAN } else { -f32::NAN };
        let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.into_iter().unzip();
        let list = scored(&rewards, &ranks);
        for metric in every_metric(&list) {
            prop_assert_eq!(metric.map(f64::is_nan), (list.pair_count() > 0).then_some(true));
        }
    }

    #[test]
    fn merged_meters_are_one_meter(
        lists in prop::collection::vec(list(0..6), 0..12),
        cut in 0usize..12,
    ) {
        let lists: Vec<Scored> = lists
            .into_iter()
            .map(|list| {
                let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.into_iter().unzip();
                scored(&rewards, &ranks)
            })
            .collect();
        let of = |lists: &[Scored]| {
            let mut meter = RankMeter::default();
            lists.iter().for_each(|list| meter.add(list));
            meter
        };
        let (first, second) = lists.split_at(cut.min(lists.len()));
        let mut merged = of(first);
        merged.merge(&of(second));
        let (got, want) = (merged.metrics(), of(&lists).metrics());
        for (got, want) in means(&got).into_iter().zip(means(&want)) {
            prop_assert!(close(got, want, 1e-14), "{:?} is not {:?}", got, want);
        }
        prop_assert_eq!(counts(&got), counts(&want));
    }

    #[test]
    fn a_meter_pools_pairs_and_averages_lists(lists in prop::collection::vec(list(0..6), 0..12)) {
        let mut meter = RankMeter::default();
        let (mut points, mut margins, mut answers) = (Vec::new(), Vec::new(), vec![Vec::new(); 5]);
        let (mut constant, mut without_pairs) = (0, 0);
        for list in &lists {
            let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.iter().copied().unzip();
            let list = scored(&rewards, &ranks);
            meter.add(&list);
            let pairs = naive::margins(&widened(&rewards), &ranks);
            points.extend(pairs.iter().map(|m| if *m == 0.0 { 0.5 } else { f64::from(*m > 0.0) }));
            without_pairs += usize::from(pairs.is_empty());
            let same = rewards.iter().all(|reward| *reward == rewards[0]);
            constant += usize::from(!pairs.is_empty() && same);
            margins.extend(pairs);
            for (answers, metric) in answers.iter_mut().zip(&every_metric(&list)[1..6]) {
                answers.extend(metric);
            }
        }
        let metrics = meter.metrics();
        let [accuracy, rest @ .., margin] = means(&metrics);
        prop_assert!(close(accuracy, naive::mean(&points), 1e-14));
        prop_assert!(close(margin, naive::mean(&margins), 1e-13));
        for (got, answers) in rest.into_iter().zip(&answers) {
            prop_assert!(close(got, naive::mean(answers), 1e-14));
        }
        let with_pairs = lists.len() - without_pairs;
        let correlated = with_pairs - constant;
        prop_assert_eq!(
            answers.iter().map(Vec::len).collect::<Vec<_>>(),
            [correlated, correlated, with_pairs, with_pairs, with_pairs]
        );
        prop_assert_eq!(counts(&metrics), [lists.len(), points.len(), without_pairs, constant]);
    }
}

fn means(m: &RankMetrics) -> [Option<f64>; 7] {
    [m.pairwise_accuracy, m.kendall_tau, m.spearman, m.ndcg, m.exact_order, m.top1, m.mean_margin]
}

fn counts(m: &RankMetrics) -> [usize; 4] {
    [m.lists, m.pairs, m.lists_without_pairs, m.lists_with_constant_rewards]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn long_lists_agree_with_the_definitions(list in list(1000..1500)) {
        let (rewards, ranks): (Vec<f32>, Vec<usize>) = list.into_iter().unzip();
        let list = scored(&rewards, &ranks);
        let wide = widened(&rewards);
        let margin = naive::mean(&naive::margins(&wide, &ranks));
        prop_assert!(close(list.pairwise_accuracy(), naive::accuracy(&wide, &ranks), 1e-15));
        prop_assert!(close(list.mean_margin(), margin, 1e-13));
        prop_assert!(close(list.kendall_tau_b(), naive::tau_b(&wide, &ranks), 1e-13));
        prop_assert!(close(list.spearman(), naive::spearman(&wide, &ranks), 1e-12));
    }
}

/// Of each list: `scipy.stats.kendalltau(rewards, -ranks)`, `scipy.stats.spearmanr(rewards,
/// -ranks)`, `sklearn.metrics.ndcg_score([relevance], [rewards])` and the same with `k=2`, where
/// the relevance is the number of distinct ranks that are worse (scipy 1.17.1, scikit-learn 1.9.1).
#[test]
fn the_numbers_of_scipy_and_scikit_learn() {
    type Row = (&'static [f32], &'static [usize], [f64; 4]);
    let rows: [Row; 7] = [
        (&[2.5, -1.0], &[1, 2], [1.0, 1.0, 1.0, 1.0]),
        (
            &[0.25, 3.0, -1.5],
            &[1, 2, 3],
            [0.33333333333333337, 0.5, 0.8597186998521971, 0.8597186998521971],
        ),
        (
            &[1.0, 1.0, 0.5, -2.0],
            &[1, 2, 3, 4],
            [0.912870929175277, 0.9486832980505139, 0.9612472558382994, 0.9567007962357772],
        ),
        (
            &[0.5, 3.0, 0.5, -2.0],
            &[2, 1, 3, 3],
            [0.7999999999999999, 0.8333333333333335, 0.975117208394918, 0.8800937667159344],
        ),
        (
            &[-1.0, 0.0, 4.0, 4.0, 2.0],
            &[1, 2, 2, 3, 3],
            [-0.5892556509887896, -0.6488856845230502, 0.6451269138262082, 0.30995311664203284],
        ),
        (
            &[5.0, 1.5, 1.5, 1.5, 0.0, -0.0, 7.25],
            &[2, 1, 4, 4, 9, 3, 3],
            [0.3338489304447943, 0.4478018612054398, 0.8493840909604196, 0.6606021509485401],
        ),
        (
            &[0.125, -3.5, 2.0, 8.0, -1.0, 0.75, 0.75, 6.0, -9.0, 1.0],
            &[5, 8, 3, 1, 9, 6, 2, 4, 7, 10],
            [0.40451991747794525, 0.5896683773696626, 0.9517268954555094, 0.910171555512374],
        ),
    ];
    for (rewards, ranks, [tau, rho, ndcg, ndcg_2]) in rows {
        let list = scored(rewards, ranks);
        assert_relative_eq!(list.kendall_tau_b().unwrap(), tau, max_relative = 1e-14);
        assert_relative_eq!(list.spearman().unwrap(), rho, max_relative = 1e-14);
        assert_relative_eq!(list.ndcg(None).unwrap(), ndcg, max_relative = 1e-14);
        assert_relative_eq!(list.ndcg(Some(2)).unwrap(), ndcg_2, max_relative = 1e-14);
    }
}

#[test]
fn literal_arithmetic() {
    type Row = (&'static [f32], &'static [usize], [f64; 4]);
    // Accuracy, exact order, top-1, mean margin.
    let rows: [Row; 6] = [
        (&[2.0, -1.0], &[0, 1], [1.0, 1.0, 1.0, 3.0]),
        (&[-1.0, 2.0], &[0, 1], [0.0, 0.0, 0.0, -3.0]),
        // Margins 1, 5, 4: all right.
        (&[2.0, 1.0, -3.0], &[1, 2, 3], [1.0, 1.0, 1.0, 10.0 / 3.0]),
        // Margins 0 and 1: half a point and a whole one; both of the highest are among the best.
        (&[1.0, 1.0, 1.0, 0.0], &[1, 1, 2, 3], [4.0 / 5.0, 0.0, 2.0 / 3.0, 3.0 / 5.0]),
        // Unequal rewards within a rank cost nothing.
        (&[9.0, 5.0, 4.0], &[1, 1, 2], [1.0, 1.0, 1.0, 3.0]),
        // A gap of -0.0 below 0.0 is none.
        (&[0.0, -0.0], &[1, 2], [0.5, 0.0, 0.5, 0.0]),
    ];
    for (rewards, ranks, want) in rows {
        let list = scored(rewards, ranks);
        let got = [list.pairwise_accuracy(), list.exact_order(), list.top1(), list.mean_margin()];
        for (got, want) in got.into_iter().zip(want) {
            assert!(close(got, Some(want), 1e-15), "{rewards:?}: {got:?} is not {want}");
        }
    }
}

#[test]
fn a_perfect_order_is_exactly_one_and_its_reverse_exactly_minus_one() {
    let ranks: Vec<usize> = (0..1024).map(|i| i / 3).collect();
    let falling: Vec<f32> = ranks.iter().map(|&rank| -(rank as f32)).collect();
    let list = scored(&falling, &ranks);
    assert_eq!(every_metric(&list)[..6], [Some(1.0); 6]);
    let rising: Vec<f32> = ranks.iter().map(|&rank| rank as f32).collect();
    let list = scored(&rising, &ranks);
    let [accuracy, tau, rho, _, exact, top1, _] = every_metric(&list);
    assert_eq!([accuracy, exact, top1], [Some(0.0); 3]);
    assert_eq!([tau, rho], [Some(-1.0); 2]);
}

#[test]
fn lists_without_pairs_have_no_answer() {
    let nan = f32::NAN;
    for (rewards, ranks) in [
        (&[][..], &[][..]),
        (&[1.0], &[3]),
        (&[1.0, 2.0, 0.0], &[2, 2, 2]),
        (&[nan], &[1]),
        (&[nan, 1.0], &[1, 1]),
    ] {
        let list = scored(rewards, ranks);
        assert_eq!(every_metric(&list), [None; 7]);
        assert_eq!(list.ndcg(Some(1)), None);
        let mut meter = RankMeter::default();
        meter.add(&list);
        assert_eq!(means(&meter.metrics()), [None; 7]);
        assert_eq!(counts(&meter.metrics()), [1, 0, 1, 0]);
    }
    assert_eq!(RankMeter::default().metrics(), RankMetrics::default());
}

#[test]
fn correlations_of_constant_rewards_have_no_answer() {
    let list = scored(&[0.5, 0.5, 0.5], &[1, 2, 2]);
    assert_eq!((list.kendall_tau_b(), list.spearman()), (None, None));
    assert_eq!(list.pairwise_accuracy(), Some(0.5));
    assert_eq!((list.exact_order(), list.mean_margin()), (Some(0.0), Some(0.0)));
    assert_eq!(list.top1(), Some(1.0 / 3.0));
    assert_eq!(list.ndcg(Some(0)), None);

    let mut meter = RankMeter::default();
    meter.add(&list);
    meter.add(&scored(&[1.0, 2.0], &[1, 2]));
    let metrics = meter.metrics();
    assert_eq!((metrics.kendall_tau, metrics.spearman), (Some(-1.0), Some(-1.0)));
    assert_eq!(counts(&metrics), [2, 3, 0, 1]);
}

#[test]
fn one_nan_list_makes_the_means_nan() {
    let mut meter = RankMeter::default();
    meter.add(&scored(&[1.0, 0.0], &[1, 2]));
    meter.add(&scored(&[f32::NAN, f32::NAN], &[1, 2]));
    let metrics = meter.metrics();
    assert!(means(&metrics).into_iter().all(|mean| mean.unwrap().is_nan()), "{metrics:?}");
    assert_eq!(counts(&metrics), [2, 2, 0, 0]);
}

#[test]
fn json_is_flat_and_writes_what_is_not_a_number_as_null() {
    let mut meter = RankMeter::default();
    meter.add(&scored(&[1.0, f32::NEG_INFINITY], &[1, 2]));
    meter.add(&scored(&[1.0], &[1]));
    let json = serde_json::to_string(&meter.metrics()).unwrap();
    assert_eq!(
        json,
        "{\"pairwise_accuracy\":1.0,\"kendall_tau\":1.0,\"spearman\":1.0,\"ndcg\":1.0,\
         \"exact_order\":1.0,\"top1\":1.0,\"mean_margin\":null,\"lists\":2,\"pairs\":1,\
         \"lists_without_pairs\":1,\"lists_with_constant_rewards\":0}"
    );
}

#[test]
fn lengths_must_agree() {
    let error = Scored::new(&[1.0, 2.0], &[1, 2, 3]).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "there are 2 rewards and 3 ranks; give one of each for every response"
    );
}
