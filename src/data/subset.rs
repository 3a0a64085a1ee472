//! A part of a data set.

use super::Dataset;
use crate::{Error, Result};

/// Some items of another data set, by their numbers in it, in that order: what is left for training
/// once some are held out, say. Memory holds 8 bytes an item.
///
/// # Examples
///
/// ```
/// use reward_model::data::{Dataset, Subset};
/// use reward_model::RankedList;
///
/// let lists = vec![RankedList::new(["a", "b"])?, RankedList::new(["c", "d"])?];
/// let last = Subset::new(&lists, vec![1])?;
/// assert_eq!((last.len(), last.get(0)?), (1, lists[1].clone()));
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Subset<D> {
    data: D,
    numbers: Vec<usize>,
}

impl<D> Subset<D> {
    /// The items of `data` that have these numbers, from 0; one may be there several times.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if there is no item of a number.
    pub fn new<T>(data: D, numbers: Vec<usize>) -> Result<Self>
    where
        D: Dataset<T>,
    {
        match numbers.iter().find(|&&number| number >= data.len()) {
            Some(number) => Err(Error::InvalidArgument(format!(
                "a subset has item {number}, but there are {} items",
                data.len()
            ))),
            None => Ok(Self { data, numbers }),
        }
    }
}

impl<T, D: Dataset<T>> Dataset<T> for Subset<D> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn get(&self, index: usize) -> Result<T> {
        let number = <[usize]>::get(&self.numbers, index).ok_or_else(|| {
            let count = self.numbers.len();
            Error::InvalidArgument(format!("item {index} was asked for, but there are {count}"))
        })?;
        self.data.get(*number)
    }
}
