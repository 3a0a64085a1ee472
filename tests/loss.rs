//! The losses against an f64 double loop written from their formulas, and their laws.

mod oracle;

use approx::assert_relative_eq;
use oracle::{close, Case};
use proptest::prelude::*;
use reward_model::tch::{Device, Kind, Tensor};
use reward_model::{rank_loss, Lists, PairFunction, RankLoss, Reduction, Ties};

const FUNCTIONS: [PairFunction; 4] = [
    PairFunction::Logistic,
    PairFunction::Sigmoid,
    PairFunction::Hinge,
    PairFunction::SquaredHinge,
];

fn value(loss: &Tensor) -> f64 {
    loss.double_value(&[])
}

fn vector(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap()
}

/// The value of `loss` and its gradient with respect to f64 rewards.
fn with_gradient(loss: &RankLoss, rewards: &[f64], lists: &Lists) -> (f64, Vec<f64>) {
    let rewards = Tensor::from_slice(rewards).set_requires_grad(true);
    let loss = loss.forward_lists(&rewards, lists).unwrap();
    loss.backward();
    (value(&loss), vector(&rewards.grad()))
}

/// A reward with gaps from 1e-6 to 1e4 on a grid that f32 holds exactly, differences included.
fn exact_rewards(len: usize) -> impl Strategy<Value = Vec<f64>> {
    let unit =
        prop_oneof![Just(2f64.powi(-20)), Just(2f64.powi(-8)), Just(1.0), Just(2f64.powi(4))];
    (unit, prop::collection::vec(-600i32..600, len))
        .prop_map(|(unit, steps)| steps.into_iter().map(|s| f64::from(s) * unit).collect())
}

fn cases() -> impl Strategy<Value = Case> {
    let list = prop::collection::vec((-8.0f64..8.0, 0u8..5), 0..9);
    (
        prop::collection::vec(list, 0..6),
        prop::sample::select(FUNCTIONS.to_vec()),
        prop::sample::select(vec![Ties::Skip, Ties::Half]),
        prop::sample::select(vec![Reduction::Sum, Reduction::MeanPerList, Reduction::MeanPairs]),
        (0.1f64..3.0, -1.0f64..2.0, prop_oneof![Just(0.0), 0.0f64..0.5]),
    )
        .prop_map(|(lists, function, ties, reduction, (scale, margin, centering))| Case {
            lists: lists
                .into_iter()
                .map(|l| l.into_iter().map(|(r, rank)| (r, f64::from(rank))).collect())
                .collect(),
            function,
            ties,
            reduction,
            scale,
            margin,
            centering,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_setting_agrees_with_the_double_loop_in_f64(case in cases()) {
        let (rewards, lists) = case.tensors();
        let (got, gradient) = with_gradient(&case.loss(), &rewards, &lists);
        let want = case.value();
        prop_assert!(close(got, want, 1e-12), "{got} is not {want}");
        // Central differences; the kink of a hinge may lie inside the step.
        if !matches!(case.function, PairFunction::Hinge) {
            for (i, g) in gradient.iter().enumerate() {
                let numeric = case.slope(i, 1e-5);
                prop_assert!((g - numeric).abs() < 1e-6 * (1.0 + g.abs()), "{i}: {g} is not {numeric}");
            }
        }
    }

    #[test]
    fn f32_agrees_with_the_double_loop_from_0_to_64_responses(
        rewards in (0usize..=64).prop_flat_map(exact_rewards),
    ) {
        let want = oracle::rank_loss(&rewards);
        let narrow: Vec<f32> = rewards.iter().map(|&r| r as f32).collect();
        for fused in [true, false] {
            let loss = RankLoss::new().fused(fused).forward(&Tensor::from_slice(&narrow)).unwrap();
            let (got, tolerance) = (value(&loss), if want >= 1e-12 { 1e-6 * want } else { 1e-18 });
            prop_assert!((got - want).abs() <= tolerance, "fused: {fused}: {got} is not {want}");
        }
        let wide = value(&rank_loss(&Tensor::from_slice(&rewards)).unwrap());
        prop_assert!(close(wide, want, 1e-12), "{wide} is not {want}");
    }

    #[test]
    fn gradient_of_a_strict_order_is_expected_minus_actual_wins(
        rewards in (2usize..=64).prop_flat_map(exact_rewards),
    ) {
        let lists = Lists::uniform(1, rewards.len());
        let (_, gradient) = with_gradient(&RankLoss::new(), &rewards, &lists);
        for (i, g) in gradient.iter().enumerate() {
            let want = oracle::expected_minus_actual_wins(&rewards, i);
            prop_assert!((g - want).abs() <= 1e-12 * rewards.len() as f64, "{i}: {g} is not {want}");
        }
        prop_assert!(gradient.iter().sum::<f64>().abs() <= 1e-12 * rewards.len() as f64);
    }

    #[test]
    fn only_differences_matter(rewards in prop::collection::vec(-20.0f64..20.0, 2..20), shift in -50.0f64..50.0) {
        let lists = Lists::uniform(1, rewards.len());
        let shifted: Vec<f64> = rewards.iter().map(|r| r + shift).collect();
        for loss in all_losses() {
            let (a, gradient) = with_gradient(&loss, &rewards, &lists);
            let (b, _) = with_gradient(&loss, &shifted, &lists);
            prop_assert!((a - b).abs() <= 1e-9 * (1.0 + a.abs()), "{loss:?}: {a} is not {b}");
            prop_assert!(gradient.iter().sum::<f64>().abs() <= 1e-9, "{loss:?}: {gradient:?}");
        }
    }

    #[test]
    fn permuting_items_with_their_ranks_changes_nothing(
        items in prop::collection::vec((-5.0f64..5.0, 0u8..4), 1..12).prop_shuffle(),
        seed in prop::collection::vec(any::<u32>(), 12),
    ) {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&i| seed[i]);
        let split = |order: &[usize]| -> (Vec<f64>, Vec<f64>) {
            order.iter().map(|&i| (items[i].0, f64::from(items[i].1))).unzip()
        };
        let (r0, k0) = split(&(0..items.len()).collect::<Vec<_>>());
        let (r1, k1) = split(&order);
        let n = items.len();
        for ties in [Ties::Skip, Ties::Half] {
            let loss = RankLoss::new().ties(ties);
            let (a, g0) = with_gradient(&loss, &r0, &Lists::uniform(1, n).with_ranks(&k0).unwrap());
            let (b, g1) = with_gradient(&loss, &r1, &Lists::uniform(1, n).with_ranks(&k1).unwrap());
            prop_assert!(close(a, b, 1e-12));
            for (at, &i) in order.iter().enumerate() {
                prop_assert!((g1[at] - g0[i]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_batch_equals_its_lists_one_by_one(lists in prop::collection::vec(prop::collection::vec(-4.0f64..4.0, 0..7), 0..6)) {
        let flat: Vec<f64> = lists.concat();
        let lengths: Vec<usize> = lists.iter().map(Vec::len).collect();
        for loss in all_losses() {
            let batch = loss.forward_lists(&Tensor::from_slice(&flat), &Lists::from_lengths(&lengths)).unwrap();
            let single: f64 = lists.iter().map(|l| value(&loss.forward(&Tensor::from_slice(l)).unwrap())).sum();
            prop_assert!(close(value(&batch), single, 1e-12), "{loss:?}");
        }
    }

    /// A better response's reward rises, and the loss falls (or, where a hinge is content, stays).
    #[test]
    fn raising_the_better_of_two_never_costs(d in -6.0f64..6.0, rise in 0.01f64..3.0, scale in 0.2f64..2.0, margin in -1.0f64..2.0) {
        for function in FUNCTIONS {
            let loss = RankLoss::pairwise(function).scale(scale).margin(margin);
            let at = |d: f64| value(&loss.forward(&Tensor::from_slice(&[d, 0.0])).unwrap());
            let content = scale * d >= margin
                && matches!(function, PairFunction::Hinge | PairFunction::SquaredHinge);
            if content {
                prop_assert_eq!(at(d + rise), at(d));
            } else {
                prop_assert!(at(d + rise) < at(d), "{function:?}: {} {}", at(d + rise), at(d));
            }
        }
    }

    /// In a list, raising the best response or lowering the worst never costs either.
    #[test]
    fn raising_the_best_of_a_list_lowers_the_loss(rewards in prop::collection::vec(-4.0f64..4.0, 2..9), rise in 0.01f64..2.0) {
        let mut up = rewards.clone();
        up[0] += rise;
        let mut down = rewards.clone();
        *down.last_mut().unwrap() -= rise;
        for loss in [RankLoss::new(), RankLoss::plackett_luce(), RankLoss::pairwise(PairFunction::Sigmoid)] {
            let at = |r: &[f64]| value(&loss.forward(&Tensor::from_slice(r)).unwrap());
            prop_assert!(at(&up) < at(&rewards), "{loss:?}");
            prop_assert!(at(&down) < at(&rewards), "{loss:?}");
        }
    }

    #[test]
    fn the_right_order_costs_less_than_any_with_an_inversion(
        mut rewards in prop::collection::vec(-300i32..300, 2..8),
        seed in prop::collection::vec(any::<u32>(), 8),
    ) {
        rewards.sort_unstable_by(|a, b| b.cmp(a));
        rewards.dedup();
        let right: Vec<f64> = rewards.iter().map(|&r| f64::from(r) / 50.0).collect();
        let mut order: Vec<usize> = (0..right.len()).collect();
        order.sort_by_key(|&i| seed[i]);
        let wrong: Vec<f64> = order.iter().map(|&i| right[i]).collect();
        prop_assume!(wrong != right);
        for function in [PairFunction::Logistic, PairFunction::Hinge, PairFunction::SquaredHinge] {
            let loss = RankLoss::pairwise(function);
            let at = |r: &[f64]| value(&loss.forward(&Tensor::from_slice(r)).unwrap());
            prop_assert!(at(&right) < at(&wrong), "{function:?}");
        }
    }

    #[test]
    fn nothing_in_a_padded_slot_has_an_effect(
        rows in prop::collection::vec(prop::collection::vec((-4.0f64..4.0, 0u8..4, any::<bool>()), 5), 1..4),
        junk in prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300]),
    ) {
        let shape = [rows.len() as i64, 5];
        let flat: Vec<_> = rows.concat();
        let mask = Tensor::from_slice(&flat.iter().map(|i| i.2).collect::<Vec<_>>()).view(shape);
        let ranks = |pad: f64| {
            let r: Vec<f64> = flat.iter().map(|i| if i.2 { f64::from(i.1) } else { pad }).collect();
            Tensor::from_slice(&r).view(shape)
        };
        let run = |loss: &RankLoss, pad: f64, ranks: Option<&Tensor>| {
            let r: Vec<f64> = flat.iter().map(|i| if i.2 { i.0 } else { pad }).collect();
            let rewards = Tensor::from_slice(&r).set_requires_grad(true);
            let loss = loss.forward_masked(&rewards.view(shape), &mask, ranks).unwrap();
            loss.backward();
            (value(&loss).to_bits(), vector(&rewards.grad()).iter().map(|g| g.to_bits()).collect::<Vec<_>>())
        };
        for loss in all_losses() {
            let loss = loss.reduction(Reduction::MeanPerList);
            prop_assert_eq!(run(&loss, junk, None), run(&loss, 0.0, None), "{:?}", loss);
        }
        let loss = RankLoss::new().ties(Ties::Half).centering(0.1);
        prop_assert_eq!(run(&loss, junk, Some(&ranks(f64::NAN))), run(&loss, 0.0, Some(&ranks(0.0))));
    }

    #[test]
    fn plackett_luce_agrees_with_the_double_loop(rewards in (0usize..=20).prop_flat_map(exact_rewards)) {
        let want = oracle::plackett_luce(&rewards);
        let (got, gradient) = with_gradient(&RankLoss::plackett_luce(), &rewards, &Lists::uniform(1, rewards.len()));
        prop_assert!(close(got, want, 1e-12), "{got} is not {want}");
        for (i, g) in gradient.iter().enumerate() {
            let want = oracle::plackett_luce_gradient(&rewards, i);
            prop_assert!((g - want).abs() <= 1e-10, "{i}: {g} is not {want}");
        }
        let narrow: Vec<f32> = rewards.iter().map(|&r| r as f32).collect();
        let got = value(&RankLoss::plackett_luce().forward(&Tensor::from_slice(&narrow)).unwrap());
        let tolerance = if want >= 1e-12 { 1e-6 * want } else { 1e-18 };
        prop_assert!((got - want).abs() <= tolerance, "{got} is not {want} in f32");
    }

    #[test]
    fn with_two_responses_all_agree_with_bradley_terry(d in -30.0f64..30.0) {
        let rewards = Tensor::from_slice(&[d, 0.0]);
        let want = oracle::softplus(-d);
        for loss in [RankLoss::new(), RankLoss::plackett_luce()] {
            for reduction in [Reduction::Sum, Reduction::MeanPerList] {
                let got = value(&loss.reduction(reduction).forward(&rewards).unwrap());
                prop_assert!(close(got, want, 1e-12), "{loss:?}");
            }
        }
    }

    /// TRL's RewardTrainer: mean(−log σ(r_c − r_r − margin)) + c · mean((r_c + r_r)²).
    #[test]
    fn pairs_agree_with_trl(pairs in prop::collection::vec((-5.0f64..5.0, -5.0f64..5.0, 0.0f64..2.0), 1..9), c in 0.0f64..0.3) {
        let n = pairs.len() as f64;
        let want = pairs.iter().map(|(a, b, m)| oracle::softplus(-(a - b - m))).sum::<f64>() / n
            + c * pairs.iter().map(|(a, b, _)| (a + b).powi(2)).sum::<f64>() / n;
        let rewards: Vec<f64> = pairs.iter().flat_map(|p| [p.0, p.1]).collect();
        let margins: Vec<f64> = pairs.iter().map(|p| p.2).collect();
        let lists = Lists::uniform(pairs.len(), 2).with_margins(&margins).unwrap();
        for reduction in [Reduction::MeanPairs, Reduction::MeanPerList] {
            let loss = RankLoss::new().centering(c).reduction(reduction);
            let got = value(&loss.forward_lists(&Tensor::from_slice(&rewards), &lists).unwrap());
            prop_assert!(close(got, want, 1e-12), "{got} is not {want}");
        }
    }
}

fn all_losses() -> Vec<RankLoss> {
    FUNCTIONS.map(RankLoss::pairwise).into_iter().chain([RankLoss::plackett_luce()]).collect()
}

#[test]
fn literal_values() {
    let ln2 = std::f64::consts::LN_2;
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (rewards, loss, want) in [
        (&[2.0, 1.0, 0.0][..], RankLoss::new(), 0.753_451_386_079_418_3),
        (&[0.0, 0.0], RankLoss::new(), ln2),
        (&[0.0, 0.0, 0.0], RankLoss::new().reduction(Reduction::MeanPairs), ln2),
        (&[1.0, 0.0], RankLoss::new().scale(2.0).margin(0.5), 0.201_413_277_982_752_46),
        (&[1.0, 0.0], RankLoss::pairwise(PairFunction::Sigmoid), -sigma(1.0)),
        (&[0.25, 0.0], RankLoss::pairwise(PairFunction::Hinge), 0.75),
        (&[0.25, 0.0], RankLoss::pairwise(PairFunction::SquaredHinge), 0.5625),
        (&[3.0, 0.0], RankLoss::pairwise(PairFunction::Hinge), 0.0),
        // Drawn at random, three equal responses come in a given order once in six times.
        (&[0.0, 0.0, 0.0], RankLoss::plackett_luce(), 6f64.ln()),
        (&[1.0, 3.0], RankLoss::new().margin(-2.0).centering(0.5), ln2 + 8.0),
        // (1+2)², (1+3)², (2+3)² have the mean 50/3.
        (&[1.0, 2.0, 3.0], RankLoss::plackett_luce().centering(3.0), 50.0 + 3.720867651963),
    ] {
        let got = value(&loss.forward(&Tensor::from_slice(rewards)).unwrap());
        assert_relative_eq!(got, want, max_relative = 1e-10);
    }
}

/// The textbook form gives 0 here in f32, an epsilon inside its logarithm 43.9.
#[test]
fn plackett_luce_keeps_its_digits() {
    let rewards = Tensor::from_slice(&[0.0f32, -30.0, -60.0]);
    let got = value(&RankLoss::plackett_luce().forward(&rewards).unwrap());
    assert_relative_eq!(got, 1.871_524_593_768_e-13, max_relative = 1e-6);
}

#[test]
fn reductions_divide_by_what_their_names_say() {
    // Lists of 3 pairs, none, and 1 pair.
    let rewards = Tensor::from_slice(&[2.0f64, 1.0, 0.0, 7.0, 0.0, 1.0]);
    let lists = Lists::from_lengths(&[3, 1, 0, 2]);
    let f = |d: f64| oracle::softplus(-d);
    let (first, last) = (2.0 * f(1.0) + f(2.0), f(-1.0));
    for (reduction, want) in [
        (Reduction::Sum, first + last),
        (Reduction::MeanPerList, (first / 3.0 + last) / 2.0),
        (Reduction::MeanPairs, (first + last) / 4.0),
    ] {
        let got = RankLoss::new().reduction(reduction).forward_lists(&rewards, &lists).unwrap();
        assert_relative_eq!(value(&got), want, max_relative = 1e-14);
    }
    let each = RankLoss::new().reduction(Reduction::None).forward_lists(&rewards, &lists).unwrap();
    for (got, want) in vector(&each).iter().zip([f(1.0), f(2.0), f(1.0), f(-1.0)]) {
        assert_relative_eq!(*got, want, max_relative = 1e-14);
    }
    let loss = RankLoss::plackett_luce();
    let each = vector(&loss.reduction(Reduction::None).forward_lists(&rewards, &lists).unwrap());
    assert_eq!((each.len(), each[1], each[2]), (4, 0.0, 0.0));
    let mean = loss.reduction(Reduction::MeanPerList).forward_lists(&rewards, &lists).unwrap();
    assert_relative_eq!(value(&mean), (each[0] + each[3]) / 2.0, max_relative = 1e-14);
    assert!(loss.reduction(Reduction::MeanPairs).forward_lists(&rewards, &lists).is_err());
}

#[test]
fn nothing_to_compare_is_a_zero_that_backward_goes_through() {
    for (rewards, lengths) in
        [(&[][..], &[][..]), (&[], &[0]), (&[f64::NAN], &[1]), (&[1.0, 2.0], &[1, 0, 1])]
    {
        for loss in all_losses() {
            for reduction in [Reduction::Sum, Reduction::MeanPerList, Reduction::None] {
                let rewards = Tensor::from_slice(rewards).set_requires_grad(true);
                let loss = loss.reduction(reduction);
                let value = loss.forward_lists(&rewards, &Lists::from_lengths(lengths)).unwrap();
                value.sum(Kind::Double).backward();
                assert_eq!(vector(&value).iter().sum::<f64>(), 0.0, "{loss:?} {lengths:?}");
                assert!(vector(&rewards.grad()).iter().all(|&g| g == 0.0), "{loss:?} {lengths:?}");
            }
        }
    }
    for size in [[0i64, 4], [4, 0], [4, 1], [0, 0]] {
        let rewards = Tensor::zeros(size, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let loss = rank_loss(&rewards).unwrap();
        loss.backward();
        assert_eq!(value(&loss), 0.0);
    }
}

#[test]
fn tied_ranks_are_skipped_or_halved() {
    let rewards = Tensor::from_slice(&[1.0f64, 0.5, 2.0]);
    let lists = Lists::uniform(1, 3).with_ranks(&[1.0, 1.0, 2.0]).unwrap();
    let f = |d: f64| oracle::softplus(-d);
    let strict = [f(-1.0), f(-1.5)];
    let skip = RankLoss::new().reduction(Reduction::None);
    assert_eq!(vector(&skip.forward_lists(&rewards, &lists).unwrap()).len(), 2);
    let half = vector(&skip.ties(Ties::Half).forward_lists(&rewards, &lists).unwrap());
    for (got, want) in half.iter().zip([0.5 * (f(0.5) + f(-0.5)), strict[0], strict[1]]) {
        assert_relative_eq!(*got, want, max_relative = 1e-14);
    }
    assert_eq!(half.len(), 3);
    assert!(RankLoss::plackett_luce().forward_lists(&rewards, &lists).is_err());

    let all_tied = Lists::uniform(1, 3).with_ranks(&[1.0; 3]).unwrap();
    assert_eq!(value(&RankLoss::new().forward_lists(&rewards, &all_tied).unwrap()), 0.0);
}

#[test]
fn tied_rewards_cost_ln_2_with_gradient_one_half() {
    let (loss, gradient) = with_gradient(&RankLoss::new(), &[3.0, 3.0], &Lists::uniform(1, 2));
    assert_relative_eq!(loss, std::f64::consts::LN_2, max_relative = 1e-15);
    assert_eq!(gradient, [-0.5, 0.5]);
}

#[test]
fn infinities_and_nan_are_ieee() {
    let inf = f64::INFINITY;
    let at = |rewards: &[f64]| value(&rank_loss(&Tensor::from_slice(rewards)).unwrap());
    assert_eq!(at(&[inf, 0.0]), 0.0);
    assert_eq!(at(&[0.0, -inf]), 0.0);
    assert_eq!(at(&[0.0, inf]), inf);
    assert!(at(&[inf, inf]).is_nan());
    assert!(at(&[1.0, f64::NAN]).is_nan());
    assert!(at(&[2.0, 1.0, f64::NAN]).is_nan());
}

#[test]
fn half_precision_is_computed_in_f32() {
    for kind in [Kind::Half, Kind::BFloat16] {
        let narrow = Tensor::from_slice(&[2.0f32, 1.0, 0.25]).to_kind(kind).set_requires_grad(true);
        let loss = rank_loss(&narrow).unwrap();
        assert_eq!(loss.kind(), Kind::Float);
        assert_relative_eq!(
            value(&loss),
            oracle::rank_loss(&[2.0, 1.0, 0.25]),
            max_relative = 1e-6
        );
        loss.backward();
        assert_eq!(narrow.grad().kind(), kind);
    }
    assert_eq!(rank_loss(&Tensor::from_slice(&[1.0f64, 0.0])).unwrap().kind(), Kind::Double);
}

#[test]
fn many_dimensions_are_many_lists() {
    let rewards = Tensor::randn([2, 3, 5], (Kind::Double, Device::Cpu));
    let rows = rewards.view([6, 5]);
    let single: f64 = (0..6).map(|i| value(&rank_loss(&rows.get(i)).unwrap())).sum();
    assert_relative_eq!(value(&rank_loss(&rewards).unwrap()), single, max_relative = 1e-13);
    // A view that is not contiguous.
    let turned = rewards.transpose(0, 2);
    let want = rank_loss(&turned.contiguous()).unwrap();
    assert_eq!(value(&rank_loss(&turned).unwrap()), value(&want));
}

#[test]
fn a_callers_mistake_is_an_error_that_says_so() {
    let rewards = Tensor::from_slice(&[1.0f32, 0.5, 0.0, 0.2]);
    let lists = Lists::uniform(2, 2);
    let loss = RankLoss::new();
    let says = |result: Result<Tensor, reward_model::Error>, words: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    };
    says(rank_loss(&Tensor::from(1.0f32)), "scalar");
    says(rank_loss(&Tensor::from_slice(&[1i64, 2])), "Int64");
    says(loss.forward_lists(&rewards, &Lists::uniform(1, 3)), "[4]");
    says(loss.forward_lists(&rewards.view([2, 2]), &lists), "[2, 2]");
    says(loss.scale(0.0).forward(&rewards), "scale");
    says(loss.scale(f64::NAN).forward(&rewards), "scale");
    says(loss.margin(f64::INFINITY).forward(&rewards), "margin");
    says(loss.centering(-1.0).forward(&rewards), "centering");
    let mask = Tensor::from_slice(&[true, true, false]);
    says(loss.forward_masked(&rewards, &mask, None), "mask");
    says(loss.forward_masked(&rewards, &rewards, None), "Bool");
    let mask = Tensor::from_slice(&[true; 4]);
    says(loss.forward_masked(&rewards, &mask, Some(&Tensor::from_slice(&[1i64]))), "ranks");
    let margins = lists.clone().with_margins(&[0.1]).unwrap();
    says(loss.forward_lists(&rewards, &margins), "1 margins for 2 valid pairs");
    let margins = lists.clone().with_margins(&[0.1, 0.2]).unwrap();
    says(RankLoss::plackett_luce().forward_lists(&rewards, &margins), "margins");

    assert!(lists.clone().with_ranks(&[1.0]).is_err());
    assert!(lists.clone().with_ranks(&[1.0, 2.0, f64::NAN, 1.0]).is_err());
    assert!(lists.with_margins(&[f64::NAN]).is_err());
    for bad in [&[][..], &[1, 2], &[0, 3, 2]] {
        assert!(Lists::from_offsets(bad).is_err(), "{bad:?}");
    }
    assert_eq!(Lists::from_offsets(&[0, 2, 2, 4]).unwrap(), Lists::from_lengths(&[2, 0, 2]));
}

#[test]
fn settings_survive_serde() {
    let loss = RankLoss::pairwise(PairFunction::Hinge).scale(0.5).reduction(Reduction::MeanPerList);
    for loss in [loss, RankLoss::plackett_luce().centering(0.01)] {
        let json = serde_json::to_string(&loss).unwrap();
        assert_eq!(serde_json::from_str::<RankLoss>(&json).unwrap(), loss, "{json}");
    }
}

#[test]
fn a_wrong_order_without_end_costs_infinity_however_labels_are_smoothed() {
    let rewards = Tensor::from_slice(&[0.0, f64::INFINITY]);
    let loss = RankLoss::new().label_smoothing(0.1).forward(&rewards).unwrap();
    assert_eq!(loss.double_value(&[]), f64::INFINITY);
}

/// (1 − ε) f(d) + ε f(−d), for every function, with ties and margins, and as settings.
#[test]
fn smoothed_labels_are_wrong_ones_in_part() {
    use reward_model::PairFunction::{Hinge, Logistic, Sigmoid, SquaredHinge};
    let rewards = Tensor::from_slice(&[0.5f64, -1.0, 2.0, 0.25]);
    let lists = Lists::from_lengths(&[4]).with_ranks(&[1., 2., 2., 3.]).unwrap();
    let backwards = Lists::from_lengths(&[4]).with_ranks(&[3., 2., 2., 1.]).unwrap();
    for function in [Logistic, Sigmoid, Hinge, SquaredHinge] {
        for ties in [Ties::Skip, Ties::Half] {
            let loss = RankLoss::pairwise(function).scale(0.7).margin(0.3).ties(ties);
            let value = |loss: RankLoss, lists: &Lists| {
                loss.forward_lists(&rewards, lists).unwrap().double_value(&[])
            };
            let expected = 0.8 * value(loss, &lists) + 0.2 * value(loss, &backwards);
            let smoothed = loss.label_smoothing(0.2);
            approx::assert_relative_eq!(value(smoothed, &lists), expected, max_relative = 1e-12);
            let json = serde_json::to_string(&smoothed).unwrap();
            assert_eq!(serde_json::from_str::<RankLoss>(&json).unwrap(), smoothed);
        }
    }
    for share in [-0.1, 0.5, f64::NAN] {
        let error = RankLoss::new().label_smoothing(share).check().unwrap_err();
        assert!(error.to_string().starts_with("label_smoothing = "), "{error}");
    }
    assert!(RankLoss::plackett_luce().label_smoothing(0.1).check().is_err());
    assert!(serde_json::from_str::<RankLoss>(r#"{"scal": 2.0}"#).is_err());
}
