//! Ranked lists: what they refuse, and sorting, pairs and rankings against naive versions of them.

use proptest::collection::vec;
use proptest::prelude::*;
use reward_model::{RankedList, Ranking, Response, Result};

/// What the list was refused with.
fn message(list: Result<RankedList>) -> String {
    list.map_or_else(|error| error.to_string(), |list| format!("not refused: {list:?}"))
}

#[test]
fn nonsense_is_refused() {
    let none: [&str; 0] = [];
    let table = [
        (
            message(RankedList::new(none)),
            "responses: is empty; a ranked list needs at least one response",
        ),
        (
            message(RankedList::new(["a", "b", ""])),
            "responses[2]: is empty; every response needs text",
        ),
        (
            message(RankedList::with_ranks(["a", "\u{3000}\n"], &[2.0, 1.0])),
            "responses[1]: is only white space; every response needs text",
        ),
        (
            message(RankedList::with_ranks(["a", "b"], &[1.0])),
            "ranks: there is 1 number for 2 responses; give one for each",
        ),
        (
            message(RankedList::with_ranks(["a", "b"], &[1.0, f64::NAN])),
            "ranks[1]: is NaN; expected a finite number",
        ),
        (
            message(RankedList::from_scores(["a"], &[])),
            "scores: there are 0 numbers for 1 response; give one for each",
        ),
        (
            message(RankedList::from_scores(["a"], &[f64::NEG_INFINITY])),
            "scores[0]: is -inf; expected a finite number",
        ),
        (
            message(RankedList::new(["a"]).unwrap().with_margin(f64::NAN)),
            "margin: is NaN; expected a finite number",
        ),
        (
            message(RankedList::new(["a"]).unwrap().with_scores(&[f64::INFINITY])),
            "scores[0]: is inf; expected a finite number",
        ),
        (
            message(RankedList::with_ranking(["a"], &"B > A".parse().unwrap())),
            "ranking: ranks 2 responses, but there is 1 response",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}

/// Texts that may repeat, with ranks that often tie.
fn ranked() -> impl Strategy<Value = (Vec<String>, Vec<f64>)> {
    let rank = prop_oneof![
        8 => (-3i8..3).prop_map(f64::from),
        1 => Just(-0.0),
        1 => any::<f64>().prop_filter("finite", |number| number.is_finite()),
    ];
    vec(("[a-c]{1,2}", rank), 1..9).prop_map(|items| items.into_iter().unzip())
}

proptest! {
    #[test]
    fn ranks_sort_as_a_bubble_sort((given, ranks) in ranked()) {
        let mut order: Vec<usize> = (0..given.len()).collect();
        for _ in 0..order.len() {
            for i in 1..order.len() {
                if ranks[order[i]] < ranks[order[i - 1]] {
                    order.swap(i, i - 1);
                }
            }
        }
        let list = RankedList::with_ranks(given.clone(), &ranks).unwrap();
        let positions: Vec<usize> = list.responses().iter().map(Response::position).collect();
        prop_assert_eq!(&positions, &order);
        prop_assert_eq!(list.ranking().order(), order);
        for response in list.responses() {
            prop_assert_eq!(response.text(), &given[response.position()]);
            let rank = ranks[response.position()];
            let mut better: Vec<f64> = ranks.iter().copied().filter(|&r| r < rank).collect();
            better.sort_by(f64::total_cmp);
            better.dedup();
            prop_assert_eq!(response.rank(), better.len() + 1);
        }

        let scores: Vec<f64> = ranks.iter().map(|rank| -rank).collect();
        let by_score = RankedList::from_scores(given, &scores).unwrap();
        prop_assert_eq!(by_score.ranking(), list.ranking());
        for response in by_score.responses() {
            prop_assert_eq!(response.score(), Some(scores[response.position()]));
        }
    }

    #[test]
    fn pairs_are_those_of_a_double_loop((given, ranks) in ranked()) {
        let list = RankedList::with_ranks(given, &ranks).unwrap();
        let rank = |index: usize| ranks[list.responses()[index].position()];
        let (mut pairs, mut tied) = (Vec::new(), Vec::new());
        for i in 0..list.len() {
            for j in 0..list.len() {
                if rank(i) < rank(j) {
                    pairs.push((i, j));
                }
                if i < j && rank(i) == rank(j) {
                    tied.push((i, j));
                }
            }
        }
        prop_assert_eq!(list.pair_count(), pairs.len());
        prop_assert_eq!(list.has_ties(), !tied.is_empty());
        prop_assert_eq!(list.pairs().collect::<Vec<_>>(), pairs);
        prop_assert_eq!(list.tied_pairs().collect::<Vec<_>>(), tied);
    }

    #[test]
    fn rankings_round_trip((given, ranks) in ranked(), spaces in any::<bool>()) {
        let list = RankedList::with_ranks(given.clone(), &ranks).unwrap();
        let mut written = list.ranking().to_string();
        if !spaces {
            written.retain(|character| character != ' ');
        }
        let ranking: Ranking = written.parse().unwrap();
        prop_assert_eq!(&ranking, &list.ranking());
        prop_assert_eq!(RankedList::with_ranking(given, &ranking).unwrap(), list);
    }

    #[test]
    fn any_text_parses_or_is_refused(written in "[A-D>= b]{0,12}") {
        if let Ok(ranking) = written.parse::<Ranking>() {
            let mut letters: Vec<char> = written.chars().filter(char::is_ascii_uppercase).collect();
            letters.sort_unstable();
            prop_assert!(letters.into_iter().eq(('A'..).take(ranking.len())));
            prop_assert_eq!(ranking.to_string().parse::<Ranking>().unwrap(), ranking);
        }
    }
}
