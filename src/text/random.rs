//! Random numbers that are the same on every machine and in every version of this crate with the
//! same first number.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers that follow from a seed.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The seed is the key as it stands: how `seed_from_u64` spreads it may change.
    pub fn new(seed: u64) -> Random {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Random(ChaCha8Rng::from_seed(key))
    }

    /// A number below `n`, which must not be 0: the upper half of the 128-bit product of n and a
    /// 64-bit number, which favours none by more than n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Fisher-Yates, from the end.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}
