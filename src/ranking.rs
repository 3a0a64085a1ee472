//! Ranked lists: the answers to one prompt, best first.

mod conversations;
mod order;

pub use order::Ranking;

use crate::{Error, Message, Result};

/// The answers to one prompt in order of preference, best first; ties are allowed.
///
/// A list cannot hold nonsense: it has at least one response, every response has text, and ranks
/// and scores are finite. Every response remembers where it stood in the input
/// ([`Response::position`]), so that results can be reported in that order.
///
/// # Serde
///
/// A list is written as one object of the JSONL form that [`data`](crate::data) describes, its
/// responses in the order of the input, and reads back equal. The format must be self-describing
/// (JSON is; bincode is not).
///
/// # Examples
///
/// ```
/// use reward_model::RankedList;
///
/// let list = RankedList::new(["very good", "fair", "poor"])?.with_prompt("How was it?");
/// assert_eq!(list.pairs().collect::<Vec<_>>(), [(0, 1), (0, 2), (1, 2)]);
///
/// let list = RankedList::with_ranks(["poor", "very good", "fair"], &[9.0, 1.0, 2.5])?;
/// let texts: Vec<&str> = list.responses().iter().map(|r| r.text()).collect();
/// assert_eq!(texts, ["very good", "fair", "poor"]);
/// assert_eq!(list.ranking().to_string(), "B > C > A");
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RankedList {
    prompt: Option<String>,
    conversation: Option<Vec<Message>>,
    /// Sorted by rank, then by position.
    responses: Vec<Response>,
    margin: Option<f64>,
}

/// One answer of a [`RankedList`].
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    text: String,
    messages: Option<Vec<Message>>,
    rank: usize,
    score: Option<f64>,
    position: usize,
}

impl Response {
    /// The text, exactly as given; that of the last message if there are messages.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The rank: 1 for the best, equal for ties, without gaps (dense).
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The score that came with the response, if any: higher is better.
    pub fn score(&self) -> Option<f64> {
        self.score
    }

    /// Where the response stood in the input, from 0.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl RankedList {
    /// A list whose responses are given best first, without ties.
    ///
    /// # Errors
    ///
    /// [`Error::RankedList`] if there is no response, or one without text (empty, or only white
    /// space).
    pub fn new<I>(responses: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let texts = checked_texts(responses)?;
        let ranking = Ranking::of((1..=texts.len()).collect());
        Ok(Self::sorted(texts, &ranking))
    }

    /// A list whose responses are given in any order, with their ranks: the smaller, the better;
    /// equal ranks are a tie.
    ///
    /// Only the order of the ranks counts (1, 2, 2, 3 says the same as 0.1, 7, 7, 9). Tied
    /// responses keep the order in which they were given.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), and [`Error::RankedList`] unless there is one finite rank for
    /// each response.
    ///
    /// # Examples
    ///
    /// ```
    /// use reward_model::RankedList;
    ///
    /// let list = RankedList::with_ranks(["x", "y", "z"], &[2.0, 1.0, 2.0])?;
    /// assert_eq!(list.ranking().to_string(), "B > A = C");
    /// assert_eq!(list.ranks().collect::<Vec<_>>(), [1, 2, 2]);
    /// assert_eq!(list.pairs().collect::<Vec<_>>(), [(0, 1), (0, 2)]);
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    pub fn with_ranks<I>(responses: I, ranks: &[f64]) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let texts = checked_texts(responses)?;
        check_count("ranks", ranks, texts.len())?;
        Ok(Self::sorted(texts, &Ranking::from_ranks(ranks)?))
    }

    /// A list whose responses are given in any order, with their scores: the higher, the better;
    /// equal scores are a tie. The scores are kept.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), and [`Error::RankedList`] unless there is one finite score for
    /// each response.
    pub fn from_scores<I>(responses: I, scores: &[f64]) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let texts = checked_texts(responses)?;
        check_count("scores", scores, texts.len())?;
        Self::sorted(texts, &Ranking::from_scores(scores)?).with_scores(scores)
    }

    /// A list whose responses are given in any order, with the [`Ranking`] of their positions.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), and [`Error::RankedList`] if the ranking is of another number
    /// of responses.
    ///
    /// # Examples
    ///
    /// ```
    /// use reward_model::RankedList;
    ///
    /// let list = RankedList::with_ranking(["x", "y", "z"], &"C > A = B".parse()?)?;
    /// assert_eq!(list.responses()[0].text(), "z");
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    pub fn with_ranking<I>(responses: I, ranking: &Ranking) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let texts = checked_texts(responses)?;
        if ranking.len() != texts.len() {
            return Err(Error::RankedList {
                field: "ranking".into(),
                message: format!(
                    "ranks {}, but there {}",
                    counted(ranking.len(), "response"),
                    are(texts.len(), "response")
                ),
            });
        }
        Ok(Self::sorted(texts, ranking))
    }

    /// The same list with a prompt, in place of the one that it had; an empty one is no prompt.
    #[must_use]
    pub fn with_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.conversation = None;
        self.prompt = Some(prompt.into()).filter(|prompt| !prompt.is_empty());
        self
    }

    /// The same list with a score for each response, in the order in which the responses were
    /// given. The ranks stay as they are, whatever the scores say.
    ///
    /// # Errors
    ///
    /// [`Error::RankedList`] unless there is one finite score for each response.
    pub fn with_scores(mut self, scores: &[f64]) -> Result<Self> {
        check_count("scores", scores, self.len())?;
        order::check_finite("scores", scores)?;
        for response in &mut self.responses {
            response.score = scores.get(response.position).copied();
        }
        Ok(self)
    }

    /// The same list with a margin m: by how much the reward of a better response should be above
    /// that of a worse one, z = r_w − r_l − m in the loss of each of its pairs. TRL's preference data
    /// have one where people said how much better an answer is (Llama 2, arXiv:2307.09288).
    ///
    /// # Errors
    ///
    /// [`Error::RankedList`] unless it is finite.
    pub fn with_margin(mut self, margin: f64) -> Result<Self> {
        if !margin.is_finite() {
            return Err(Error::RankedList {
                field: "margin".into(),
                message: format!("is {margin}; expected a finite number"),
            });
        }
        self.margin = Some(margin);
        Ok(self)
    }

    /// The margin that came with the list, if any.
    pub fn margin(&self) -> Option<f64> {
        self.margin
    }

    /// The prompt; `None` if there is none or it is a [conversation](Self::conversation), never
    /// empty.
    pub fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    /// The responses, best first; tied ones in the order of the input.
    pub fn responses(&self) -> &[Response] {
        &self.responses
    }

    /// The number of responses, at least 1.
    pub fn len(&self) -> usize {
        self.responses.len()
    }

    /// Always `false`: a list has at least one response.
    pub fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }

    /// The ranks of [`responses`](Self::responses), from 1, never falling, without gaps.
    pub fn ranks(&self) -> impl Iterator<Item = usize> + '_ {
        self.responses.iter().map(Response::rank)
    }

    /// Whether any two responses share a rank.
    pub fn has_ties(&self) -> bool {
        self.ranks().last() != Some(self.len())
    }

    /// Every pair (winner, loser) of indices into [`responses`](Self::responses), in order of the
    /// winner, then of the loser. Tied responses make no pair.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.ranks().enumerate().flat_map(|(winner, rank)| {
            (self.count_up_to(rank)..self.len()).map(move |loser| (winner, loser))
        })
    }

    /// Every pair of indices into [`responses`](Self::responses) that share a rank, the smaller
    /// index first, in order of the first, then of the second.
    pub fn tied_pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.ranks().enumerate().flat_map(|(first, rank)| {
            (first + 1..self.count_up_to(rank)).map(move |second| (first, second))
        })
    }

    /// How many [`pairs`](Self::pairs) there are: K·(K−1)/2 for K responses without ties.
    pub fn pair_count(&self) -> usize {
        self.ranks().map(|rank| self.len() - self.count_up_to(rank)).sum()
    }

    /// The order of the list by the positions of its responses.
    pub fn ranking(&self) -> Ranking {
        Ranking::of(self.in_input_order().into_iter().map(Response::rank).collect())
    }

    /// The responses in the order in which they were given.
    pub(crate) fn in_input_order(&self) -> Vec<&Response> {
        let mut responses: Vec<&Response> = self.responses.iter().collect();
        responses.sort_unstable_by_key(|response| response.position);
        responses
    }

    /// How many responses have this rank or a better one.
    fn count_up_to(&self, rank: usize) -> usize {
        self.responses.partition_point(|response| response.rank <= rank)
    }

    /// `ranking` is of as many responses as there are texts.
    fn sorted(texts: Vec<String>, ranking: &Ranking) -> Self {
        let mut responses: Vec<Response> = texts
            .into_iter()
            .zip(ranking.ranks())
            .enumerate()
            .map(|(position, (text, &rank))| Response {
                text,
                messages: None,
                rank,
                score: None,
                position,
            })
            .collect();
        responses.sort_by_key(|response| response.rank);
        Self { prompt: None, conversation: None, responses, margin: None }
    }
}

fn checked_texts<I>(responses: I) -> Result<Vec<String>>
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    let texts: Vec<String> = responses.into_iter().map(Into::into).collect();
    if texts.is_empty() {
        return Err(Error::RankedList {
            field: "responses".into(),
            message: "is empty; a ranked list needs at least one response".into(),
        });
    }
    match texts.iter().enumerate().find(|(_, text)| text.trim().is_empty()) {
        None => Ok(texts),
        Some((index, text)) => {
            let found = if text.is_empty() { "is empty" } else { "is only white space" };
            Err(Error::RankedList {
                field: format!("responses[{index}]"),
                message: format!("{found}; every response needs text"),
            })
        }
    }
}

fn check_count(field: &str, numbers: &[f64], responses: usize) -> Result<()> {
    if numbers.len() != responses {
        return Err(Error::RankedList {
            field: field.into(),
            message: format!(
                "there {} for {}; give one for each",
                are(numbers.len(), "number"),
                counted(responses, "response")
            ),
        });
    }
    Ok(())
}

/// "1 response", "2 responses".
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// "is 1 response", "are 2 responses".
fn are(count: usize, noun: &str) -> String {
    format!("{} {}", if count == 1 { "is" } else { "are" }, counted(count, noun))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &RankedList) -> Vec<&str> {
        list.responses().iter().map(Response::text).collect()
    }

    #[test]
    fn best_first_is_taken_as_it_is() {
        let list = RankedList::new(vec!["a", "b", "c"]).unwrap();
        assert_eq!(texts(&list), ["a", "b", "c"]);
        assert_eq!(list.ranks().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(list.prompt(), None);
        assert_eq!(list.responses()[2].position(), 2);
        assert_eq!(list.responses()[2].score(), None);
        assert!(!list.has_ties() && !list.is_empty());
        assert_eq!(list.pair_count(), 3);
    }

    #[test]
    fn ranks_sort_and_ties_keep_their_order() {
        let ranks = [3.0, -1.0, 3.0, -0.0, 0.0];
        let list = RankedList::with_ranks(["a", "b", "c", "d", "e"], &ranks).unwrap();
        assert_eq!(texts(&list), ["b", "d", "e", "a", "c"]);
        assert_eq!(list.ranks().collect::<Vec<_>>(), [1, 2, 2, 3, 3]);
        let positions: Vec<usize> = list.responses().iter().map(Response::position).collect();
        assert_eq!(positions, [1, 3, 4, 0, 2]);
        assert!(list.has_ties());
        assert_eq!(list.tied_pairs().collect::<Vec<_>>(), [(1, 2), (3, 4)]);
        assert_eq!(list.pair_count(), 8);
    }

    #[test]
    fn scores_rank_and_stay_with_their_response() {
        let list = RankedList::from_scores(["a", "b", "c"], &[0.5, 2.0, 0.5]).unwrap();
        assert_eq!(texts(&list), ["b", "a", "c"]);
        let scores: Vec<_> = list.responses().iter().map(Response::score).collect();
        assert_eq!(scores, [Some(2.0), Some(0.5), Some(0.5)]);
        assert_eq!(list.ranking().to_string(), "B > A = C");
    }

    #[test]
    fn added_scores_follow_the_input_and_leave_the_order() {
        let list = RankedList::with_ranks(["a", "b"], &[2.0, 1.0]).unwrap();
        let list = list.with_scores(&[10.0, -10.0]).unwrap();
        assert_eq!(texts(&list), ["b", "a"]);
        assert_eq!(list.responses()[0].score(), Some(-10.0));
    }

    #[test]
    fn an_empty_prompt_is_none() {
        let list = RankedList::new(["a"]).unwrap().with_prompt("p");
        assert_eq!(list.prompt(), Some("p"));
        assert_eq!(list.clone().with_prompt(" ").prompt(), Some(" "));
        assert_eq!(list.with_prompt("").prompt(), None);
    }

    #[test]
    fn equality_sees_the_input_order() {
        let given = RankedList::new(["a", "b"]).unwrap();
        let sorted = RankedList::with_ranks(["b", "a"], &[2.0, 1.0]).unwrap();
        assert_eq!(texts(&given), texts(&sorted));
        assert_ne!(given, sorted);
    }
}
