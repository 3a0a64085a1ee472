//! The order of a list by the positions of its responses, and its notation `A > B = C`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// An order of responses by their positions in the input, written `B > A = C`.
///
/// The letters are positions: A the first, B the second, ..., Z, AA, AB, ... Between them stand
/// `>` (is better than) and `=` (is tied with). Tied letters are written in alphabetical order, so
/// that equal orders have equal texts.
///
/// Parsing takes any white space or none, and tied letters in any order. Every letter from A on
/// must be there exactly once; anything else is an [`Error::RankedList`] that says which letter is
/// missing or doubled.
///
/// # Examples
///
/// ```
/// use reward_model::Ranking;
///
/// let ranking: Ranking = "C=B>A".parse()?;
/// assert_eq!(ranking.to_string(), "B = C > A");
/// assert_eq!(ranking.ranks(), [2, 1, 1]);
/// assert_eq!(ranking.order(), [1, 2, 0]);
/// assert_eq!(ranking, Ranking::from_scores(&[-0.3, 1.5, 1.5])?);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ranking {
    /// By position; dense, from 1; never empty.
    ranks: Vec<usize>,
}

impl Ranking {
    /// The order that ranks, one for each position, say: the smaller, the better; equal ones tie.
    ///
    /// # Errors
    ///
    /// [`Error::RankedList`] if there is no rank, or one that is NaN or infinite.
    pub fn from_ranks(ranks: &[f64]) -> Result<Self> {
        check_some("ranks", ranks)?;
        check_finite("ranks", ranks)?;
        Ok(Self::of(dense_ranks(ranks)))
    }

    /// The order that scores, one for each position, say: the higher, the better; equal ones tie.
    ///
    /// # Errors
    ///
    /// [`Error::RankedList`] if there is no score, or one that is NaN or infinite.
    pub fn from_scores(scores: &[f64]) -> Result<Self> {
        check_some("scores", scores)?;
        check_finite("scores", scores)?;
        let ranks: Vec<f64> = scores.iter().map(|score| -score).collect();
        Ok(Self::of(dense_ranks(&ranks)))
    }

    /// The rank of each position: 1 for the best, equal for ties, without gaps (dense).
    pub fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// The positions, best first; tied ones in order of position.
    pub fn order(&self) -> Vec<usize> {
        self.by_rank().map(|(position, _)| position).collect()
    }

    /// The number of positions, at least 1.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Always `false`: an order has at least one position.
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// `ranks` are dense, from 1, and not empty.
    pub(super) fn of(ranks: Vec<usize>) -> Self {
        Self { ranks }
    }

    /// Positions with their ranks, best first.
    fn by_rank(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut positions: Vec<(usize, usize)> = self.ranks.iter().copied().enumerate().collect();
        positions.sort_by_key(|&(_, rank)| rank);
        positions.into_iter()
    }
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut last = None;
        for (position, rank) in self.by_rank() {
            if let Some(last) = last {
                text.push_str(if rank == last { " = " } else { " > " });
            }
            text.push_str(&letters(position));
            last = Some(rank);
        }
        f.pad(&text)
    }
}

impl FromStr for Ranking {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut ranked = Vec::new();
        for (group, tied) in text.split('>').enumerate() {
            for name in tied.split('=') {
                ranked.push((
                    position(name.trim()).ok_or_else(|| not_a_letter(text, name))?,
                    group + 1,
                ));
            }
        }
        ranked.sort_unstable();
        for (expected, &(found, _)) in ranked.iter().enumerate() {
            let message = match found.cmp(&expected) {
                Ordering::Equal => continue,
                Ordering::Less => format!("`{text}`: {} is there twice", letters(found)),
                Ordering::Greater => format!("`{text}`: {} is missing", letters(expected)),
            };
            return Err(bad_ranking(format!("{message}; every letter from A on must stand once")));
        }
        Ok(Self::of(ranked.into_iter().map(|(_, rank)| rank).collect()))
    }
}

/// Dense ranks, from 1, of finite numbers: the smaller, the better.
fn dense_ranks(values: &[f64]) -> Vec<usize> {
    let mut sorted: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
    sorted.sort_by(|(_, a), (_, b)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let mut dense: Vec<(usize, usize)> = Vec::with_capacity(sorted.len());
    let mut last = None;
    let mut rank = 0;
    for (position, value) in sorted {
        // Not `total_cmp`, here and above: 0.0 and -0.0 are a tie.
        if last != Some(value) {
            rank += 1;
        }
        last = Some(value);
        dense.push((position, rank));
    }
    dense.sort_unstable();
    dense.into_iter().map(|(_, rank)| rank).collect()
}

pub(super) fn check_finite(field: &str, numbers: &[f64]) -> Result<()> {
    match numbers.iter().enumerate().find(|(_, number)| !number.is_finite()) {
        None => Ok(()),
        Some((index, number)) => Err(Error::RankedList {
            field: format!("{field}[{index}]"),
            message: format!("is {number}; expected a finite number"),
        }),
    }
}

fn check_some(field: &str, numbers: &[f64]) -> Result<()> {
    if numbers.is_empty() {
        return Err(Error::RankedList {
            field: field.into(),
            message: "there are none; a ranking needs at least one".into(),
        });
    }
    Ok(())
}

/// A to Z, AA to ZZ, AAA, ...: the names of a spreadsheet's columns.
fn letters(position: usize) -> String {
    let mut name = Vec::new();
    let mut rest = Some(position);
    while let Some(number) = rest {
        name.push(char::from(b'A' + (number % 26) as u8));
        rest = (number / 26).checked_sub(1);
    }
    name.iter().rev().collect()
}

/// The position that letters name; `None` if they are not letters from A to Z.
fn position(name: &str) -> Option<usize> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    // No list is long enough for a name that overflows: it is reported as a gap before it.
    let number = name.bytes().fold(0usize, |number, byte| {
        number.saturating_mul(26).saturating_add(usize::from(byte - b'A') + 1)
    });
    Some(number - 1)
}

fn not_a_letter(text: &str, name: &str) -> Error {
    let found = match name.trim() {
        "" => "found nothing".to_owned(),
        name => format!("found `{name}`"),
    };
    bad_ranking(format!("`{text}`: {found} where a letter must stand; write it as A > B = C"))
}

fn bad_ranking(message: String) -> Error {
    Error::RankedList { field: "ranking".into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_go_on_after_z() {
        for (index, name) in
            [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA"), (701, "ZZ"), (702, "AAA")]
        {
            assert_eq!(letters(index), name);
            assert_eq!(position(name), Some(index));
        }
        for index in 0..20_000 {
            assert_eq!(position(&letters(index)), Some(index));
        }
    }

    #[test]
    fn written_as_people_write_it() {
        for (text, ranks, written) in [
            ("A", vec![1], "A"),
            ("A>B", vec![1, 2], "A > B"),
            (" C =B\t>  A ", vec![2, 1, 1], "B = C > A"),
            ("D > A = C > B", vec![2, 3, 2, 1], "D > A = C > B"),
        ] {
            let ranking: Ranking = text.parse().unwrap();
            assert_eq!(ranking.ranks(), ranks);
            assert_eq!(ranking.to_string(), written);
        }
        assert_eq!(format!("{:>7}", "B > A".parse::<Ranking>().unwrap()), "  B > A");
    }

    #[test]
    fn numbers_become_dense_ranks() {
        let ranking = Ranking::from_ranks(&[7.0, -0.0, 1e300, 0.0]).unwrap();
        assert_eq!(ranking.ranks(), [2, 1, 3, 1]);
        assert_eq!(ranking.order(), [1, 3, 0, 2]);
        assert_eq!(Ranking::from_scores(&[7.0, -0.0, 1e300, 0.0]).unwrap().ranks(), [2, 3, 1, 3]);
    }

    #[test]
    fn errors_say_which_letter() {
        let once = "every letter from A on must stand once";
        let letter = "where a letter must stand; write it as A > B = C";
        let far = "Z".repeat(40);
        for (text, expected) in [
            ("A > C", format!("B is missing; {once}")),
            ("B > C", format!("A is missing; {once}")),
            ("A > B = A", format!("A is there twice; {once}")),
            (&format!("A > {far} = {far}"), format!("B is missing; {once}")),
            ("", format!("found nothing {letter}")),
            ("A > > B", format!("found nothing {letter}")),
            ("A > B =", format!("found nothing {letter}")),
            ("A > b", format!("found `b` {letter}")),
            ("A < B", format!("found `A < B` {letter}")),
        ] {
            let error = text.parse::<Ranking>().unwrap_err();
            assert_eq!(error.to_string(), format!("ranking: `{text}`: {expected}"));
        }
        assert_eq!(
            Ranking::from_scores(&[]).unwrap_err().to_string(),
            "scores: there are none; a ranking needs at least one"
        );
        assert_eq!(
            Ranking::from_ranks(&[1.0, f64::NAN]).unwrap_err().to_string(),
            "ranks[1]: is NaN; expected a finite number"
        );
    }
}
