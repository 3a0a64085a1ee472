//! The loss in one pass, and in blocks, against an f64 double loop and against the expressions on
//! all pairs.

mod oracle;

use oracle::Case;
use proptest::prelude::*;
use reward_model::tch::{Device, Kind, Tensor};
use reward_model::{Lists, PairFunction, RankLoss, Reduction, Ties};

const REDUCTIONS: [Reduction; 3] = [Reduction::Sum, Reduction::MeanPerList, Reduction::MeanPairs];

fn vector(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap()
}

/// The value of `loss` and its gradient, both times three to have the backward pass scale it.
fn with_gradient(loss: &RankLoss, rewards: &Tensor, lists: &Lists) -> (f64, Vec<f64>) {
    let rewards = rewards.copy().set_requires_grad(true);
    let loss = loss.forward_lists(&rewards, lists).unwrap();
    (&loss * 3.0).backward();
    (3.0 * loss.double_value(&[]), vector(&rewards.grad()))
}

/// Lists of 0 to 64 rewards that f32 holds, with gaps from 1e-6 to 1e4, and ranks, many tied.
fn cases() -> impl Strategy<Value = Case> {
    let unit =
        prop_oneof![Just(2f64.powi(-20)), Just(2f64.powi(-6)), Just(0.25), Just(2f64.powi(4))];
    let list = (unit, 0usize..=64, 1u8..80).prop_flat_map(|(unit, len, ranks)| {
        prop::collection::vec((-600i32..600, 0..ranks), len).prop_map(move |items| {
            items.into_iter().map(|(r, rank)| (f64::from(r) * unit, f64::from(rank))).collect()
        })
    });
    (
        prop::collection::vec(list, 0..4),
        prop::sample::select(REDUCTIONS.to_vec()),
        prop_oneof![Just(1.0), 0.1f64..3.0],
        prop_oneof![Just(0.0), -2.0f64..2.0, Just(-700.0), Just(500.0)],
        prop_oneof![Just(0.0), Just(0.01), 0.1f64..2.0],
    )
        .prop_map(|(lists, reduction, scale, margin, centering)| Case {
            lists,
            function: PairFunction::Logistic,
            ties: Ties::Skip,
            reduction,
            scale,
            margin,
            centering,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_pass_agrees_with_the_double_loop(case in cases()) {
        let (rewards, lists) = case.tensors();
        let rewards = Tensor::from_slice(&rewards).to_kind(Kind::Float);
        let (got, gradient) = with_gradient(&case.loss(), &rewards, &lists);
        let want = 3.0 * case.value();
        let tolerance = if want >= 1e-12 { 1e-6 * want } else { 1e-18 };
        prop_assert!((got - want).abs() <= tolerance, "{got} is not {want}");
        // A gradient is a difference of sums, wins and losses, and no better than these.
        for (got, (wins, losses)) in gradient.iter().zip(case.slopes()) {
            let (want, size) = (3.0 * (losses - wins), 3.0 * (losses + wins));
            let tolerance = 1e-6 * want.abs() + 1e-9 * size + 1e-18;
            prop_assert!((got - want).abs() <= tolerance, "{got} is not {want}");
        }
        let valued = case.loss().forward_lists(&rewards, &lists).unwrap().double_value(&[]);
        prop_assert_eq!(3.0 * valued, got, "without a gradient");
    }

    #[test]
    fn one_pass_agrees_with_all_pairs(case in cases()) {
        let (rewards, lists) = case.tensors();
        let rewards = Tensor::from_slice(&rewards).to_kind(Kind::Float);
        let (a, da) = with_gradient(&case.loss(), &rewards, &lists);
        let (b, db) = with_gradient(&case.loss().fused(false), &rewards, &lists);
        prop_assert!((a - b).abs() <= 1e-4 * b.abs() + 1e-6, "{a} is not {b}");
        for (got, (want, (wins, losses))) in da.iter().zip(db.iter().zip(case.slopes())) {
            let tolerance = 1e-3 * (wins + losses) + 1e-6;
            prop_assert!((got - want).abs() <= tolerance, "{got} is not {want}");
        }
    }
}

/// e^−z of a tie is a factor times its inverse, which need not be 1 to the last digit; all other pairs
/// of the list are too small to be seen beside it.
#[test]
fn ties_beside_pairs_of_next_to_nothing_cost_log_2() {
    let check = |rewards: &[f32], repeated: usize| {
        let many = rewards.repeat(repeated);
        let lists = Lists::uniform(repeated, rewards.len());
        let (value, _) = with_gradient(&RankLoss::new(), &Tensor::from_slice(&many), &lists);
        let wide: Vec<f64> = many.iter().map(|&r| f64::from(r)).collect();
        let exact = RankLoss::new().fused(false);
        let (want, _) = with_gradient(&exact, &Tensor::from_slice(&wide), &lists);
        assert!((value / want - 1.0).abs() < 1e-6, "{rewards:?}: {value} is not {want}");
    };
    for step in 0..192 {
        let far = 34.0 + step as f32 / 16.0;
        for rewards in [[0.0, 0.0, -far], [far, 0.0, 0.0], [0.5, 0.5, 0.5 - far], [far, 1.0, 1.0]] {
            check(&rewards, 1);
            check(&rewards, 9);
        }
        let mut long = vec![0.0f32; 2];
        long.extend((0..30).map(|n| -far - n as f32));
        check(&long, 1);
    }
    check(&[1.3e-16, 0.0], 1);
    check(&[0.0, 1.3e-16], 3);
}

/// Whatever stands beside them in a batch.
#[test]
fn lists_without_pairs_add_nothing_to_a_mean() {
    let rewards = Tensor::from_slice(&[2.0f32, 1.0, 0.0, 7.0, 0.0, 1.0]);
    let lists = Lists::from_lengths(&[3, 1, 0, 2]);
    let loss = RankLoss::new().reduction(Reduction::MeanPerList).centering(0.1);
    let (value, gradient) = with_gradient(&loss, &rewards, &lists);
    let (want, slopes) = with_gradient(&loss.fused(false), &rewards.to_kind(Kind::Double), &lists);
    assert!((value / want - 1.0).abs() < 1e-6, "{value} is not {want}");
    for (got, want) in gradient.iter().zip(slopes) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }
}

#[test]
fn a_loss_that_f32_cannot_hold_is_infinite() {
    let order = Lists::uniform(1, 2);
    for (loss, rewards) in
        [(RankLoss::new(), [-3e38f32, 3e38]), (RankLoss::new().centering(1.0), [1e30, 1e30])]
    {
        let rewards = Tensor::from_slice(&rewards);
        assert_eq!(loss.forward(&rewards).unwrap().double_value(&[]), f64::INFINITY);
        assert_eq!(with_gradient(&loss, &rewards, &order).0, f64::INFINITY);
    }
}

/// The difference of two large rewards is exact, and a margin is taken from that.
#[test]
fn large_rewards_do_not_swallow_a_margin() {
    let rewards = Tensor::from_slice(&[1e17f32, 1e17, 0.0]);
    let loss = RankLoss::new().margin(0.5).forward(&rewards).unwrap().double_value(&[]);
    assert!((loss / oracle::softplus(0.5) - 1.0).abs() < 1e-6, "{loss}");
}

/// What is not finite is the business of the expressions on all pairs.
#[test]
fn infinities_and_nan_are_the_same_in_f32() {
    let inf = f32::INFINITY;
    let same = |a: &f64, b: &f64| a == b || a.is_nan() && b.is_nan();
    for rewards in [
        [inf, 0.0, 1.0],
        [0.0, -inf, 1.0],
        [0.0, inf, inf],
        [1.0, 2.0, f32::NAN],
        [-inf, 1.0, inf],
        [f32::MAX, f32::MIN, 0.0],
    ] {
        let rewards = Tensor::from_slice(&rewards);
        for reduction in REDUCTIONS {
            let loss = RankLoss::new().reduction(reduction);
            let lists = Lists::uniform(1, 3);
            let (a, da) = with_gradient(&loss, &rewards, &lists);
            let (b, db) = with_gradient(&loss.fused(false), &rewards, &lists);
            assert!(same(&a, &b), "{a} is not {b}");
            assert!(da.iter().zip(&db).all(|(a, b)| same(a, b)), "{da:?} is not {db:?}");
        }
    }
    // Where no pair sees it, it changes nothing.
    let rewards = Tensor::from_slice(&[1.0, 0.5, f32::NAN]);
    let (value, gradient) =
        with_gradient(&RankLoss::new(), &rewards, &Lists::from_lengths(&[2, 1]));
    assert!((value / 3.0 - oracle::rank_loss(&[1.0, 0.5])).abs() < 1e-6);
    assert_eq!(gradient[2], 0.0);
}

#[test]
fn long_lists_on_several_threads_agree_and_repeat() {
    let threads = reward_model::tch::get_num_threads();
    let rewards = Tensor::randn([3_400], (Kind::Float, Device::Cpu)) * 2.0;
    let lists = Lists::from_lengths(&[1500, 0, 4, 1, 1095, 800]);
    let loss = RankLoss::new().reduction(Reduction::MeanPerList).margin(0.1).centering(0.02);
    let (want, slopes) = {
        let wide = rewards.to_kind(Kind::Double);
        with_gradient(&loss.fused(false), &wide, &lists)
    };
    for threads in [1, 2, 3] {
        reward_model::tch::set_num_threads(threads);
        let first = with_gradient(&loss, &rewards, &lists);
        assert_eq!(first, with_gradient(&loss, &rewards, &lists), "{threads} threads");
        assert!((first.0 / want - 1.0).abs() < 1e-6, "{} is not {want}", first.0);
        for (got, want) in first.1.iter().zip(&slopes) {
            assert!((got - want).abs() < 1e-6 * want.abs() + 1e-9, "{got} is not {want}");
        }
    }
    reward_model::tch::set_num_threads(threads);
}

/// Rewards whose sum is some hundred millionths of them: the term is a small number, and right.
#[test]
fn centring_of_rewards_that_are_nearly_opposite_keeps_its_digits() {
    let rewards = [8192.5f32, -8192.499, 8192.498, -8192.502];
    let loss = RankLoss::new().centering(1.0);
    let wide = rewards.map(f64::from);
    let mut want = oracle::rank_loss(&wide);
    for w in 0..4 {
        for l in w + 1..4 {
            want += (wide[w] + wide[l]).powi(2);
        }
    }
    let got = loss.forward(&Tensor::from_slice(&rewards)).unwrap().double_value(&[]);
    assert!((got / want - 1.0).abs() < 1e-7, "{got} is not {want}");
    // One pair alone, where all but the term is nothing.
    let pair = loss.forward(&Tensor::from_slice(&rewards[..2])).unwrap().double_value(&[]);
    let want = (wide[0] + wide[1]).powi(2);
    assert!((pair / want - 1.0).abs() < 1e-6, "{pair} is not {want}");
}

/// More than a million pairs, in every function and with all that pairs can have.
#[test]
fn blocks_agree_with_all_pairs_at_once() {
    let lengths = [1200, 3, 0, 1, 950, 17];
    let items: usize = lengths.iter().sum();
    let rewards = Tensor::randn([items as i64], (Kind::Double, Device::Cpu));
    let ranks: Vec<f64> = (0..items).map(|i| (i * 7919 % 1013) as f64).collect();
    let in_order = Lists::from_lengths(&lengths);
    let ranked = in_order.clone().with_ranks(&ranks).unwrap();
    let pairs: usize = lengths.iter().map(|&len: &usize| len * len.saturating_sub(1) / 2).sum();
    let margins: Vec<f64> = (0..pairs).map(|pair| (pair % 13) as f64 / 10.0).collect();
    let with_margins = ranked.clone().with_margins(&margins).unwrap();
    let long = Lists::uniform(1, items);
    let logistic = RankLoss::new().scale(1.5).margin(0.2);
    let check = |loss: RankLoss, lists: &Lists| {
        let (a, da) = with_gradient(&loss, &rewards, lists);
        let (b, db) = with_gradient(&loss.fused(false), &rewards, lists);
        assert!((a / b - 1.0).abs() < 1e-11, "{loss:?}: {a} is not {b}");
        let size = db.iter().fold(0.0f64, |most, g| most.max(g.abs()));
        for (a, b) in da.iter().zip(&db) {
            assert!((a - b).abs() < 1e-11 * size, "{loss:?}: {a} is not {b}");
        }
    };
    for reduction in REDUCTIONS {
        check(logistic.reduction(reduction), &in_order);
        check(logistic.reduction(reduction), &long);
        check(logistic.reduction(reduction).centering(0.1), &ranked);
        check(logistic.reduction(reduction).ties(Ties::Half), &with_margins);
    }
    check(RankLoss::pairwise(PairFunction::SquaredHinge), &ranked);
    check(RankLoss::pairwise(PairFunction::Sigmoid).ties(Ties::Half), &long);
    // The number of margins is checked here too.
    assert!(logistic.forward_lists(&rewards, &with_margins).is_err());
}

#[test]
fn narrow_types_views_and_models_without_gradient_take_it_too() {
    let rewards = Tensor::randn([4, 6], (Kind::Float, Device::Cpu));
    let loss = RankLoss::new();
    let value = |rewards: &Tensor| loss.forward(rewards).unwrap().double_value(&[]);
    let turned = rewards.transpose(0, 1);
    let contiguous = turned.contiguous();
    assert_eq!(value(&turned), value(&contiguous));
    let leaf = rewards.copy().set_requires_grad(true);
    loss.forward(&leaf.transpose(0, 1)).unwrap().backward();
    let want = contiguous.copy().set_requires_grad(true);
    loss.forward(&want).unwrap().backward();
    assert_eq!(vector(&leaf.grad()), vector(&want.grad().transpose(0, 1)));
    assert!(!loss.forward(&rewards).unwrap().requires_grad());
    assert_eq!(loss.forward(&rewards).unwrap().size(), [0i64; 0]);
    assert_eq!(loss.forward(&leaf).unwrap().size(), [0i64; 0]);

    let narrow = rewards.to_kind(Kind::BFloat16).set_requires_grad(true);
    let total = loss.forward(&narrow).unwrap();
    total.backward();
    assert_eq!((total.kind(), narrow.grad().kind()), (Kind::Float, Kind::BFloat16));
}

/// Settings written before there was a choice are read as they were meant.
#[test]
fn settings_without_the_switch_are_read() {
    let json = serde_json::to_value(RankLoss::new()).unwrap();
    let mut older = json.clone();
    assert!(older.as_object_mut().unwrap().remove("fused").is_some());
    assert_eq!(serde_json::from_value::<RankLoss>(older).unwrap(), RankLoss::new());
    let plain = serde_json::to_value(RankLoss::new().fused(false)).unwrap();
    assert_ne!(json, plain);
    assert_eq!(serde_json::from_value::<RankLoss>(plain).unwrap(), RankLoss::new().fused(false));
}
