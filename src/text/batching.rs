//! Batches of items of similar length, so that little of a batch is padding.

use super::random::Random;

/// Items are sorted by length among this many batches: enough to find neighbours of nearly the
/// same length, few enough that who shares a batch is up to chance.
const BATCHES_SORTED_TOGETHER: usize = 16;

/// Batches for training: every index of `lengths` once, in random order, items of similar length
/// together.
///
/// The items are shuffled, sorted by length among every 16 batches' worth of them, cut into
/// batches, and the batches are shuffled. If `lengths` does not divide by `batch_size` (of which 0
/// counts as 1), the last batch is smaller; it is a random sample of all items.
///
/// The same lengths, size and seed give the same batches on every machine and in every version of
/// this crate with the same first number: a run can be resumed.
///
/// ```
/// use reward_model::text::length_grouped_batches;
///
/// let batches = length_grouped_batches(&[90, 10, 91, 11, 12, 92], 3, 1);
/// for mut batch in batches {
///     batch.sort();
///     assert!(batch == [0, 2, 5] || batch == [1, 3, 4]);
/// }
/// ```
pub fn length_grouped_batches(lengths: &[usize], batch_size: usize, seed: u64) -> Vec<Vec<usize>> {
    let batch_size = batch_size.max(1);
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    random.shuffle(&mut order);

    // Taken before sorting: a remainder of sorted items would always be the shortest ones.
    let (full, last) = order.split_at_mut(lengths.len() - lengths.len() % batch_size);
    for together in full.chunks_mut(batch_size.saturating_mul(BATCHES_SORTED_TOGETHER)) {
        together.sort_by_key(|&item| lengths[item]);
    }
    let mut batches: Vec<Vec<usize>> = full.chunks(batch_size).map(<[usize]>::to_vec).collect();
    random.shuffle(&mut batches);
    if !last.is_empty() {
        batches.push(last.to_vec());
    }
    batches
}

/// Batches for evaluation and scoring: every index of `lengths` once, longest first.
///
/// A batch has at most `max_items` items (of which 0 counts as 1), and its items, each padded to
/// the longest of them, at most `max_tokens` tokens; an item that is longer has a batch of its own.
/// `usize::MAX` is no limit. The longest items come first, so that a batch that is too large for
/// the device's memory shows at once. Items of equal length keep their order.
///
/// ```
/// use reward_model::text::sorted_batches;
///
/// let lengths = [3, 9, 4, 50, 5];
/// assert_eq!(sorted_batches(&lengths, usize::MAX, 20), [vec![3], vec![1, 4], vec![2, 0]]);
/// assert_eq!(sorted_batches(&lengths, 3, usize::MAX), [vec![3, 1, 4], vec![2, 0]]);
/// ```
pub fn sorted_batches(lengths: &[usize], max_items: usize, max_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&item| std::cmp::Reverse(lengths[item]));
    let mut batches = Vec::new();
    let mut rest = &order[..];
    while let Some(&longest) = rest.first() {
        let fitting = max_tokens / lengths[longest].max(1);
        let (batch, others) = rest.split_at(fitting.min(max_items).clamp(1, rest.len()));
        batches.push(batch.to_vec());
        rest = others;
    }
    batches
}
