//! The metrics of labelled texts against their definitions and the numbers of scipy and
//! scikit-learn.

use approx::assert_relative_eq;
use proptest::collection::vec;
use proptest::prelude::*;
use reward_model::metrics::{ClassMeter, ClassMetrics, ValueMeter, ValueMetrics};
use reward_model::Error;

fn classes(count: usize, truth: &[usize], predicted: &[usize]) -> ClassMetrics {
    let mut meter = ClassMeter::new(count);
    for (&truth, &predicted) in truth.iter().zip(predicted) {
        meter.add(truth, predicted).unwrap();
    }
    meter.metrics()
}

fn values(rows: &[(&[f64], &[f32])]) -> ValueMetrics {
    let mut meter = ValueMeter::new(rows.first().map_or(1, |(truth, _)| truth.len()));
    for (truth, predicted) in rows {
        meter.add(truth, predicted).unwrap();
    }
    meter.metrics()
}

fn one_output(truth: &[f64], predicted: &[f32]) -> ValueMetrics {
    let rows: Vec<(&[f64], &[f32])> = truth.chunks(1).zip(predicted.chunks(1)).collect();
    values(&rows)
}

/// Equal to rounding, or both NaN, or both `None`.
fn close(got: Option<f64>, want: Option<f64>) -> bool {
    match (got, want) {
        (Some(got), Some(want)) => {
            (got.is_nan() && want.is_nan()) || (got - want).abs() <= 1e-12 * want.abs().max(1.0)
        }
        (got, want) => got == want,
    }
}

/// `accuracy_score`, `f1_score(average="macro")` and `confusion_matrix` of scikit-learn.
#[test]
fn the_numbers_of_scikit_learn() {
    type Row = (&'static [usize], &'static [usize], f64, f64, &'static [&'static [usize]]);
    let rows: [Row; 4] = [
        (
            &[0, 1, 2, 0, 1, 2, 0, 0],
            &[0, 2, 1, 0, 0, 1, 0, 2],
            0.375,
            0.25,
            &[&[3, 0, 1], &[1, 0, 1], &[0, 2, 0]],
        ),
        // Class 2 occurs nowhere.
        (
            &[0, 0, 1, 3, 3, 3],
            &[0, 1, 1, 3, 1, 0],
            0.5,
            0.5,
            &[&[1, 1, 0, 0], &[0, 1, 0, 0], &[0, 0, 0, 0], &[1, 1, 0, 1]],
        ),
        (
            &[4, 4, 2, 2, 0, 1],
            &[4, 2, 2, 2, 1, 1],
            0.6666666666666666,
            0.5333333333333333,
            &[&[0, 1, 0, 0, 0], &[0, 1, 0, 0, 0], &[0, 0, 2, 0, 0], &[0; 5], &[0, 0, 1, 0, 1]],
        ),
        // One class is only a truth, the other only a prediction: both count, with F1 = 0.
        (&[1, 1], &[0, 0], 0.0, 0.0, &[&[0, 0], &[2, 0]]),
    ];
    for (truth, predicted, accuracy, f1, confusion) in rows {
        let metrics = classes(confusion.len(), truth, predicted);
        assert_relative_eq!(metrics.accuracy.unwrap(), accuracy, max_relative = 1e-14);
        assert_relative_eq!(metrics.macro_f1.unwrap(), f1, max_relative = 1e-14);
        assert_eq!(metrics.confusion, confusion);
        assert_eq!(metrics.count, truth.len());
    }
}

/// `mean_squared_error` of scikit-learn and `spearmanr` of scipy.
#[test]
fn the_numbers_of_scipy() {
    type Row = (&'static [f64], &'static [f32], f64, f64);
    let rows: [Row; 3] = [
        (&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.5, 1.0, 3.25, 8.0, -2.0], 13.2625, -0.09999999999999999),
        (
            &[0.5, 0.5, -1.0, 2.0, 2.0, 2.0, 7.0],
            &[0.25, 0.25, 0.25, 1.0, -3.0, 0.5, 0.5],
            10.3125,
            0.47058823529411764,
        ),
        (&[-10.0, 0.0, 3.5], &[3.0, 2.0, -8.5], 105.66666666666667, -1.0),
    ];
    for (truth, predicted, mse, rho) in rows {
        let metrics = one_output(truth, predicted);
        assert_relative_eq!(metrics.mse.unwrap(), mse, max_relative = 1e-14);
        assert_relative_eq!(metrics.spearman.unwrap(), rho, max_relative = 1e-14);
        assert_eq!(metrics.count, truth.len());
        assert_eq!((metrics.outputs[0].mse, metrics.outputs.len()), (metrics.mse, 1));
    }
}

#[test]
fn outputs_have_metrics_of_their_own_and_the_same_weight() {
    let metrics = values(&[
        (&[1.0, 0.0, 5.0], &[1.0, 2.0, 5.0]),
        (&[2.0, 1.0, 5.0], &[2.0, 1.0, 6.0]),
        (&[3.0, 2.0, 5.0], &[3.0, 0.0, 5.5]),
    ]);
    let of = |output: usize| (metrics.outputs[output].mse, metrics.outputs[output].spearman);
    assert_eq!(of(0), (Some(0.0), Some(1.0)));
    assert_eq!(of(1), (Some(8.0 / 3.0), Some(-1.0)));
    // A constant label has no order: the mean is of the other two.
    assert_eq!(of(2), (Some(1.25 / 3.0), None));
    assert!(close(metrics.mse, Some((8.0 / 3.0 + 1.25 / 3.0) / 3.0)));
    assert_eq!((metrics.spearman, metrics.count), (Some(0.0), 3));
}

#[test]
fn where_there_is_no_answer() {
    let empty = ClassMeter::new(2).metrics();
    assert_eq!((empty.accuracy, empty.macro_f1, empty.count), (None, None, 0));
    assert_eq!(empty.confusion, [[0, 0], [0, 0]]);
    assert_eq!(ClassMeter::new(0).metrics(), ClassMetrics::default());
    assert_eq!(ValueMeter::new(0).metrics(), ValueMetrics::default());

    let empty = ValueMeter::new(1).metrics();
    assert_eq!((empty.mse, empty.spearman, empty.count), (None, None, 0));
    let one = one_output(&[1.0], &[3.0]);
    assert_eq!((one.mse, one.spearman, one.count), (Some(4.0), None, 1));
    assert_eq!(one_output(&[1.0, 1.0], &[3.0, 4.0]).spearman, None);
    assert_eq!(one_output(&[1.0, 2.0], &[3.0, 3.0]).spearman, None);
    assert_eq!(one_output(&[1.0, 2.0], &[0.0, -0.0]).spearman, None);
}

#[test]
fn a_prediction_that_is_nan_is_seen() {
    let metrics = one_output(&[1.0, 2.0], &[f32::NAN, 2.0]);
    assert!(metrics.mse.unwrap().is_nan() && metrics.spearman.unwrap().is_nan(), "{metrics:?}");
    assert_eq!(one_output(&[1.0], &[f32::INFINITY]).mse, Some(f64::INFINITY));
}

#[test]
fn what_does_not_fit_is_refused_and_not_counted() {
    let message = |result: Result<(), Error>| match result.unwrap_err() {
        Error::InvalidArgument(message) => message,
        other => panic!("{other:?}"),
    };
    let mut meter = ClassMeter::new(2);
    assert_eq!(
        message(meter.add(2, 0)),
        "the label is class 2, but there are 2 classes, counted from 0"
    );
    assert_eq!(
        message(meter.add(0, usize::MAX)),
        format!("the prediction is class {}, but there are 2 classes, counted from 0", usize::MAX)
    );
    assert_eq!(meter.metrics().count, 0);

    let mut meter = ValueMeter::new(2);
    let count = "has 1 numbers for 2 outputs; give one for each";
    assert_eq!(message(meter.add(&[1.0], &[1.0, 2.0])), format!("the label {count}"));
    assert_eq!(message(meter.add(&[1.0, 2.0], &[1.0])), format!("the prediction {count}"));
    assert_eq!(
        message(meter.add(&[1.0, f64::NAN], &[1.0, 2.0])),
        "the label has the number NaN; expected finite numbers"
    );
    assert_eq!(meter.metrics().count, 0);
}

#[test]
fn json() {
    let json = serde_json::to_string(&classes(2, &[0, 1], &[0, 1])).unwrap();
    assert_eq!(json, r#"{"accuracy":1.0,"macro_f1":1.0,"confusion":[[1,0],[0,1]],"count":2}"#);
    let json = serde_json::to_string(&one_output(&[1.0], &[2.0])).unwrap();
    assert_eq!(
        json,
        r#"{"mse":1.0,"spearman":null,"outputs":[{"mse":1.0,"spearman":null}],"count":1}"#
    );
}

/// F1 from precision and recall, class by class.
fn naive_macro_f1(truth: &[usize], predicted: &[usize]) -> Option<f64> {
    let mut seen: Vec<usize> = truth.iter().chain(predicted).copied().collect();
    seen.sort_unstable();
    seen.dedup();
    let share = |of: &[usize], class: usize| {
        let pairs = || truth.iter().zip(predicted);
        let right = pairs().filter(|&(t, p)| *t == class && *p == class).count() as f64;
        right / (of.iter().filter(|&&c| c == class).count() as f64).max(1.0)
    };
    let f1 = |&class: &usize| {
        let (precision, recall) = (share(predicted, class), share(truth, class));
        if precision + recall == 0.0 {
            return 0.0;
        }
        2.0 * precision * recall / (precision + recall)
    };
    (!seen.is_empty()).then(|| seen.iter().map(f1).sum::<f64>() / seen.len() as f64)
}

/// Pearson's correlation of the average ranks.
fn naive_spearman(truth: &[f64], predicted: &[f64]) -> Option<f64> {
    let ranks = |values: &[f64]| -> Vec<f64> {
        let rank = |value: &f64| {
            let below = values.iter().filter(|other| *other < value).count() as f64;
            let equal = values.iter().filter(|other| *other == value).count() as f64;
            below + (equal + 1.0) / 2.0
        };
        values.iter().map(rank).collect()
    };
    let middle = (truth.len() as f64 + 1.0) / 2.0;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in ranks(truth).iter().zip(ranks(predicted)) {
        xy += (x - middle) * (y - middle);
        xx += (x - middle) * (x - middle);
        yy += (y - middle) * (y - middle);
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / f64::sqrt(xx * yy))
}

proptest! {
    #[test]
    fn classes_by_their_definitions(rows in vec((0usize..5, 0usize..5), 0..40)) {
        let (truth, predicted): (Vec<usize>, Vec<usize>) = rows.iter().copied().unzip();
        let metrics = classes(5, &truth, &predicted);
        let right = rows.iter().filter(|(truth, predicted)| truth == predicted).count() as f64;
        let accuracy = (!rows.is_empty()).then(|| right / rows.len() as f64);
        prop_assert!(close(metrics.accuracy, accuracy));
        let f1 = naive_macro_f1(&truth, &predicted);
        prop_assert!(close(metrics.macro_f1, f1), "{:?} is not {f1:?}", metrics.macro_f1);
        for (truth, row) in metrics.confusion.iter().enumerate() {
            for (predicted, &cell) in row.iter().enumerate() {
                let count = rows.iter().filter(|row| **row == (truth, predicted)).count();
                prop_assert_eq!(cell, count);
            }
        }
    }

    #[test]
    fn values_by_their_definitions(rows in vec((-6i8..6, -6i8..6), 0..40)) {
        let truth: Vec<f64> = rows.iter().map(|&(truth, _)| f64::from(truth) / 3.0).collect();
        let predicted: Vec<f32> = rows.iter().map(|&(_, step)| f32::from(step) / 4.0).collect();
        let metrics = one_output(&truth, &predicted);
        let wide: Vec<f64> = predicted.iter().copied().map(f64::from).collect();
        let squares: f64 = truth.iter().zip(&wide).map(|(t, p)| (t - p) * (t - p)).sum();
        let mse = (!rows.is_empty()).then(|| squares / rows.len() as f64);
        prop_assert!(close(metrics.mse, mse));
        let rho = naive_spearman(&truth, &wide);
        prop_assert!(close(metrics.spearman, rho), "{:?} is not {rho:?}", metrics.spearman);
    }
}
