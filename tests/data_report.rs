#![cfg(feature = "data")]
//! The report on data, against counts that a program would make with everything in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use reward_model::data::{DataReport, Reporter, Split, Tokens};
use reward_model::{Message, RankedList};

type Pair = (Option<String>, String, String);

/// A list as a value whose equality is that of what it says.
fn said(list: &RankedList) -> (Option<String>, BTreeSet<(usize, String, usize)>) {
    let mut seen: HashMap<(usize, &str), usize> = HashMap::new();
    let responses = list.responses().iter().map(|response| {
        let count = seen.entry((response.rank(), response.text())).or_default();
        *count += 1;
        (response.rank(), response.text().to_owned(), *count)
    });
    let responses = responses.collect();
    (list.prompt().map(str::to_owned), responses)
}

fn texts(list: &RankedList) -> (Option<String>, Vec<String>) {
    let mut texts: Vec<String> =
        list.responses().iter().map(|response| response.text().to_owned()).collect();
    texts.sort();
    (list.prompt().map(str::to_owned), texts)
}

fn report(training: &[RankedList], evaluation: &[RankedList]) -> DataReport {
    let mut reporter = Reporter::new();
    for (split, lists) in [(Split::Training, training), (Split::Evaluation, evaluation)] {
        lists.iter().try_for_each(|list| reporter.add(split, list, None)).unwrap();
    }
    reporter.finish().unwrap()
}

fn lists() -> impl Strategy<Value = Vec<RankedList>> {
    let responses = proptest::collection::vec(("[ab]{1,2}", 0u8..3), 1..4);
    let list = ("[p-q]?", responses).prop_map(|(prompt, responses)| {
        let (texts, ranks): (Vec<String>, Vec<f64>) =
            responses.into_iter().map(|(text, rank)| (text, f64::from(rank))).unzip();
        RankedList::with_ranks(texts, &ranks).unwrap().with_prompt(prompt)
    });
    proptest::collection::vec(list, 1..40)
}

proptest! {
    #[test]
    fn counts_are_those_of_maps(training in lists(), evaluation in lists()) {
        let found = report(&training, &evaluation);
        let split = &found.training;
        prop_assert_eq!(split.lists, training.len() as u64);
        let pairs: usize = training.iter().map(|list| list.pairs().count()).sum();
        prop_assert_eq!(split.pairs, pairs as u64);

        let distinct: BTreeSet<_> = training.iter().map(said).collect();
        prop_assert_eq!(split.duplicate_lists, (training.len() - distinct.len()) as u64);

        let mut orders: BTreeMap<Pair, BTreeSet<bool>> = BTreeMap::new();
        for list in &training {
            for (winner, loser) in list.pairs() {
                let text = |at: usize| list.responses()[at].text().to_owned();
                let (winner, loser) = (text(winner), text(loser));
                if winner != loser {
                    let (first, second) = (winner.clone().min(loser.clone()), winner.clone().max(loser));
                    let key = (list.prompt().map(str::to_owned), first.clone(), second);
                    orders.entry(key).or_default().insert(winner == first);
                }
            }
        }
        let both = orders.values().filter(|orders| orders.len() == 2).count();
        prop_assert_eq!(split.contradictory_pairs, both as u64);

        let known: BTreeSet<_> = training.iter().map(texts).collect();
        let prompts: BTreeSet<_> = training.iter().filter_map(|list| list.prompt()).collect();
        let overlap = found.overlap.unwrap();
        let same = evaluation.iter().filter(|list| known.contains(&texts(list))).count();
        prop_assert_eq!(overlap.lists_in_training, same as u64);
        let same = evaluation.iter().filter(|list| list.prompt().is_some_and(|p| prompts.contains(p)));
        prop_assert_eq!(overlap.prompts_in_training, same.count() as u64);
    }
}

#[test]
fn lengths_and_their_correlation() {
    let long_is_better = RankedList::new(["aaa", "bb", "c"]).unwrap();
    let long_is_worse = RankedList::new(["c", "bb"]).unwrap().with_prompt("four");
    let equal = RankedList::new(["a", "b"]).unwrap();
    let mut reporter = Reporter::new();
    for (list, tokens) in
        [(&long_is_better, &[1, 2, 3][..]), (&long_is_worse, &[1, 1]), (&equal, &[2, 1])]
    {
        reporter.add(Split::Training, list, Some(Tokens::Whole(tokens))).unwrap();
    }
    assert!(reporter.add(Split::Training, &equal, Some(Tokens::Whole(&[1]))).is_err());
    let report = reporter.finish().unwrap();
    let split = &report.training;
    assert_eq!(split.length_correlation_bytes, Some(0.0));
    assert_eq!(split.length_correlation_tokens, Some(0.0));
    let bytes = split.response_bytes.as_ref().unwrap();
    assert_eq!((bytes.count, bytes.min, bytes.p50, bytes.max), (7, 1, 1, 3));
    assert_eq!(split.prompt_bytes.as_ref().unwrap().mean, 4.0);
    assert_eq!(split.response_tokens.as_ref().unwrap().max, 3);
    assert_eq!((&report.evaluation, &report.overlap), (&None, &None));

    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<DataReport>(&json).unwrap(), report);
    let table = report.to_string();
    assert!(table.contains("  lists                                      3\n"), "{table}");
}

#[test]
fn what_will_be_left_out_or_cut_is_counted() {
    let list = RankedList::new(["a", "b"]).unwrap();
    let mut reporter = Reporter::new();
    for tokens in [
        None,
        Some(Tokens::TooLong),
        Some(Tokens::PromptCut(&[7, 1])),
        Some(Tokens::Whole(&[2, 1])),
        Some(Tokens::TooLong),
    ] {
        reporter.add(Split::Training, &list, tokens).unwrap();
    }
    let report = reporter.finish().unwrap();
    let found = &report.training;
    assert_eq!((found.lists_tokenized, found.lists_too_long, found.prompts_cut), (4, 2, 1));
    assert_eq!(
        found.response_tokens.as_ref().map(|lengths| (lengths.count, lengths.max)),
        Some((4, 7))
    );
    let table = report.to_string();
    let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in ["tokenised, a sample 4", "too long, to be left out 2", "a prompt to be cut 1"] {
        assert!(table.contains(line), "{table}");
    }
}

/// A line of a hundred thousand responses would fill the disk with its pairs.
#[test]
fn pairs_of_endless_lists_are_not_kept() {
    let words = |n: usize| (0..n).map(|at| at.to_string()).collect::<Vec<_>>();
    let mut reporter = Reporter::new();
    let endless = RankedList::new(words(100_000)).unwrap();
    reporter.add(Split::Training, &endless, None).unwrap();
    let turned = RankedList::new(["b", "a"]).unwrap();
    for list in [RankedList::new(["a", "b"]).unwrap(), turned] {
        reporter.add(Split::Training, &list, None).unwrap();
    }
    let found = reporter.finish().unwrap().training;
    assert_eq!((found.lists_not_compared, found.contradictory_pairs), (1, 1));
    assert_eq!((found.pairs, found.tied_pairs), (100_000 * 99_999 / 2 + 2, 0));
}

#[test]
fn a_text_next_to_messages_is_a_message() {
    let prompt = vec![Message::new("user", "p")];
    let texts = RankedList::new(["a", "b"]).unwrap().with_conversation(prompt.clone());
    let messages = |text| vec![Message::new("assistant", text)];
    let responses = vec![messages("a"), messages("b")];
    let order = "A > B".parse().unwrap();
    let messages = RankedList::from_conversations(Some(prompt), responses, &order).unwrap();
    let found = report(&[texts, messages], &[]);
    assert_eq!(found.training.duplicate_lists, 1);
}
