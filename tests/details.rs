//! The details of an evaluation, against definitions as loops.

use proptest::prelude::*;
use reward_model::metrics::{DetailMeter, RankMeter, Scored};

#[derive(Clone, Debug)]
struct List {
    rewards: Vec<f32>,
    ranks: Vec<usize>,
    lengths: Vec<usize>,
}

fn list() -> impl Strategy<Value = List> {
    (0usize..7).prop_flat_map(|k| {
        let rewards = prop::collection::vec((-8i8..8).prop_map(|r| f32::from(r) / 4.0), k);
        let ranks = prop::collection::vec(1usize..6, k);
        let lengths = prop::collection::vec(1usize..50, k);
        (rewards, ranks, lengths).prop_map(|(rewards, ranks, lengths)| List {
            rewards,
            ranks,
            lengths,
        })
    })
}

/// (difference of rewards, of dense ranks, size of the list) of every ordered pair.
fn pairs(lists: &[List]) -> Vec<(f64, usize, usize)> {
    let mut all = Vec::new();
    for List { rewards, ranks, .. } in lists {
        for w in 0..ranks.len() {
            for l in 0..ranks.len() {
                if ranks[w] < ranks[l] {
                    // Ranks that somebody has, after the winner's up to the loser's.
                    let between = (ranks[w] + 1..=ranks[l]).filter(|r| ranks.contains(r)).count();
                    all.push((f64::from(rewards[w] - rewards[l]), between, ranks.len()));
                }
            }
        }
    }
    all
}

fn accuracy<'a>(pairs: impl Iterator<Item = &'a (f64, usize, usize)>) -> Option<f64> {
    let points: Vec<f64> =
        pairs.map(|(d, ..)| if *d == 0.0 { 0.5 } else { f64::from(u8::from(*d > 0.0)) }).collect();
    (!points.is_empty()).then(|| points.iter().sum::<f64>() / points.len() as f64)
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-9,
        (a, b) => a == b,
    }
}

proptest! {
    #[test]
    fn tables_are_what_loops_over_pairs_say(lists in prop::collection::vec(list(), 0..12)) {
        let (mut meter, mut ranks) = (DetailMeter::default(), RankMeter::default());
        for List { rewards, ranks: r, lengths } in &lists {
            meter.add(rewards, r, lengths).unwrap();
            ranks.add(&Scored::new(rewards, r).unwrap());
        }
        let details = meter.details();
        let all = pairs(&lists);
        prop_assert!(near(accuracy(all.iter()), ranks.metrics().pairwise_accuracy));

        let distances = &details.accuracy_by_rank_distance;
        prop_assert_eq!(distances.iter().map(|row| row.pairs).sum::<usize>(), all.len());
        for row in distances {
            prop_assert!(row.pairs > 0);
            prop_assert!(near(row.accuracy, accuracy(all.iter().filter(|p| p.1 == row.distance))));
        }
        for row in &details.accuracy_by_list_size {
            let with_pairs = |list: &&List| {
                list.ranks.len() == row.size && list.ranks.iter().any(|r| *r != list.ranks[0])
            };
            prop_assert_eq!(row.lists, lists.iter().filter(with_pairs).count());
            prop_assert!(near(row.accuracy, accuracy(all.iter().filter(|p| p.2 == row.size))));
        }

        let mut error = 0.0;
        prop_assert_eq!(details.reliability.len(), 10);
        for (n, bin) in details.reliability.iter().enumerate() {
            let confidence = |d: f64| 1.0 / (1.0 + (-d.abs()).exp());
            let last = n == 9;
            let inside = |p: &&(f64, usize, usize)| {
                let c = confidence(p.0);
                c >= bin.from && (c < bin.to || last)
            };
            let mine: Vec<&(f64, usize, usize)> = all.iter().filter(inside).collect();
            prop_assert_eq!(bin.pairs, mine.len());
            let right = accuracy(mine.iter().copied());
            prop_assert!(near(bin.accuracy, right));
            let sure = mine.iter().map(|p| confidence(p.0)).sum::<f64>() / mine.len().max(1) as f64;
            error += mine.len() as f64 * (right.unwrap_or(0.0) - sure).abs();
        }
        let expected = (!all.is_empty()).then(|| error / all.len() as f64);
        prop_assert!(near(details.calibration_error, expected));

        let rewards: Vec<f64> = lists.iter().flat_map(|l| &l.rewards).map(|&r| f64::from(r)).collect();
        let n = rewards.len() as f64;
        let mean = (n > 0.0).then(|| rewards.iter().sum::<f64>() / n);
        prop_assert!(near(details.reward_mean, mean));
        let std = mean.map(|m| (rewards.iter().map(|r| (r - m).powi(2)).sum::<f64>() / n).sqrt());
        prop_assert!(near(details.reward_std, std));

        if let (Some([low, high]), Some(middle)) =
            (details.pairwise_accuracy_interval, accuracy(all.iter()))
        {
            prop_assert!(0.0 <= low && low <= middle + 1e-9 && middle - 1e-9 <= high && high <= 1.0);
        }
    }
}

#[test]
fn length_is_told_apart_from_quality() {
    let (mut by_length, mut by_rank) = (DetailMeter::default(), DetailMeter::default());
    for n in 0..20 {
        let lengths = [10 + n, 30 + n, 20 + n];
        by_length.add(&lengths.map(|l| l as f32), &[1, 2, 3], &lengths).unwrap();
        by_rank.add(&[3.0, 2.0, 1.0], &[1, 2, 3], &lengths).unwrap();
    }
    assert_eq!(by_length.details().reward_length_correlation, Some(1.0));
    assert!(by_rank.details().reward_length_correlation.unwrap().abs() < 0.5);
}

#[test]
fn a_nan_is_never_left_out() {
    let mut meter = DetailMeter::default();
    meter.add(&[1.0, f32::NAN, 0.0], &[1, 2, 3], &[1, 1, 1]).unwrap();
    meter.add(&[1.0, 0.0], &[1, 2], &[1, 1]).unwrap();
    let details = meter.details();
    assert!(details.calibration_error.unwrap().is_nan());
    assert!(details.reward_mean.unwrap().is_nan());
    assert!(details.accuracy_by_rank_distance[0].accuracy.unwrap().is_nan());
    assert_eq!(details.pairwise_accuracy_interval, None);
    assert!(meter.add(&[1.0], &[1], &[]).is_err());
}
