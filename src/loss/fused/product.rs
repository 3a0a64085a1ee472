//! Σ log(1 + x) by one product: a logarithm for thousands of terms.

use super::lanes::{Lanes, LANES};

/// log Π (1 + x), each lane a product of its own.
///
/// Kept as p = Π (1 + x) − 1, by (1 + p)(1 + q) − 1 = p (1 + q) + q: nothing is ever subtracted, so
/// that a sum of 1e-12 keeps its digits, which a product near 1 would lose. What grows beyond 2 is
/// split into a power of two, which is counted, and the rest.
pub(super) struct LogProduct {
    excess: Lanes,
    powers: Lanes,
    /// How many more factors fit before the product could leave the range of f64.
    room: usize,
    factors: usize,
}

impl LogProduct {
    /// For factors whose logarithm is `largest` at most. At least one of them fits if it is 700 or
    /// less.
    #[inline(always)]
    pub fn new(largest: f64) -> LogProduct {
        let factors = (708.0 / largest) as usize;
        LogProduct { excess: Lanes::all(0.0), powers: Lanes::all(0.0), room: factors, factors }
    }

    /// Multiplies each lane by its 1 + q, q ≥ 0.
    #[inline(always)]
    pub fn multiply<const FUSED: bool>(&mut self, q: Lanes) {
        let product = self.excess.plus(Lanes::all(1.0));
        self.excess = q.times_plus::<FUSED>(product, self.excess);
        self.room -= 1;
        if self.room == 0 {
            self.room = self.factors;
            self.split();
        }
    }

    /// Leaves every lane's product below 2.
    #[inline(always)]
    fn split(&mut self) {
        for lane in 0..LANES {
            let excess = self.excess.0[lane];
            let bits = (1.0 + excess).to_bits();
            let above = excess >= 1.0;
            let exponent = ((bits >> 52) as i32 - 1023) as f64;
            let rest = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)) - 1.0;
            self.powers.0[lane] += if above { exponent } else { 0.0 };
            self.excess.0[lane] = if above { rest } else { excess };
        }
    }

    /// The logarithm of all lanes' product.
    #[inline(always)]
    pub fn log(mut self) -> f64 {
        self.split();
        let excess = self.excess.0.into_iter().fold(0.0, |p, q| p + q * (1.0 + p));
        excess.ln_1p() + self.powers.sum() * std::f64::consts::LN_2
    }
}
