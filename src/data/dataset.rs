//! Data of which any item can be had.

use crate::{Error, Result};

/// Items by number, from any thread: ranked lists in memory, or [in a file](super::IndexedFile).
///
/// A slice, an array or a `Vec` of items that can be cloned is one. Whatever can be read by number
/// can be one: a database, a folder of files.
///
/// # Examples
///
/// ```
/// use reward_model::data::Dataset;
/// use reward_model::{RankedList, Result};
///
/// fn pairs(lists: &dyn Dataset<RankedList>) -> Result<usize> {
///     (0..lists.len()).map(|index| Ok(lists.get(index)?.pair_count())).sum()
/// }
///
/// let lists = vec![RankedList::new(["a", "b"])?, RankedList::new(["a", "b", "c"])?];
/// assert_eq!(pairs(&lists)?, 4);
/// # Ok::<(), reward_model::Error>(())
/// ```
pub trait Dataset<T>: Send + Sync {
    /// How many items there are. It never changes.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item with this number, from 0.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if there is none of this number, and whatever keeps the item from
    /// being read.
    fn get(&self, index: usize) -> Result<T>;
}

impl<T: Clone + Send + Sync> Dataset<T> for [T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }

    fn get(&self, index: usize) -> Result<T> {
        <[T]>::get(self, index).cloned().ok_or_else(|| {
            let len = <[T]>::len(self);
            Error::InvalidArgument(format!("item {index} was asked for, but there are {len}"))
        })
    }
}

impl<T: Clone + Send + Sync, const N: usize> Dataset<T> for [T; N] {
    fn len(&self) -> usize {
        N
    }

    fn get(&self, index: usize) -> Result<T> {
        Dataset::get(self.as_slice(), index)
    }
}

impl<T: Clone + Send + Sync> Dataset<T> for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn get(&self, index: usize) -> Result<T> {
        Dataset::get(self.as_slice(), index)
    }
}

impl<T, D: Dataset<T> + ?Sized> Dataset<T> for &D {
    fn len(&self) -> usize {
        D::len(self)
    }

    fn get(&self, index: usize) -> Result<T> {
        D::get(self, index)
    }
}

impl<T, D: Dataset<T> + ?Sized> Dataset<T> for Box<D> {
    fn len(&self) -> usize {
        D::len(self)
    }

    fn get(&self, index: usize) -> Result<T> {
        D::get(self, index)
    }
}
