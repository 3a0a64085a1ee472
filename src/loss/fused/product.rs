//! Σ log(1 + x) by one product: a logarithm for thousands of terms.

use super::lanes::{Lanes, LANES};

/// log Π (1 + x), each lane a product of its own.
///
/// Kept as p = Π (1 + x) − 1, by (1 + p)(1 + q) − 1 = p (1 + q) + q: nothing is ever subtracted, so
/// that a sum of 1e-12 keeps its digits, which a product near 1 would lose. What grows beyond 2 is
/// split into a power of two, which is counted, and the rest.
#[derive(Clone, Copy)]
pub(super) struct LogProduct<V> {
    excess: V,
    powers: V,
    /// How many more factors fit before the product could leave the range of f64.
    room: usize,
    factors: usize,
}

impl<V: Lanes> LogProduct<V> {
    /// For factors whose logarithm is `largest` at most. At least one of them fits if it is 700 or
    /// less.
    #[inline(always)]
    pub fn new(largest: f64) -> LogProduct<V> {
        let factors = (708.0 / largest) as usize;
        LogProduct { excess: V::all(0.0), powers: V::all(0.0), room: factors, factors }
    }

    /// Multiplies each lane by its 1 + q, q ≥ 0.
    #[inline(always)]
    pub fn multiply(&mut self, q: V) {
        let product = self.excess.plus(V::all(1.0));
        self.excess = q.times_plus(product, self.excess);
        self.room -= 1;
        if self.room == 0 {
            self.room = self.factors;
            self.split();
        }
    }

    /// Leaves every lane's product below 2.
    #[inline(always)]
    fn split(&mut self) {
        let one = V::all(1.0);
        let product = self.excess.plus(one);
        let (exponent, fraction) = product.exponent_and_fraction();
        self.powers = self.powers.plus(exponent);
        // A product below 2 keeps the digits that adding 1 takes from it. The product as it is rounded,
        // as for its power: 2 must not be counted and kept as well.
        self.excess = product.if_below(V::all(2.0), self.excess, fraction.minus(one));
    }

    /// The logarithm of all lanes' product.
    #[inline(always)]
    pub fn log(mut self) -> f64 {
        self.split();
        let excess = self.excess.to_array().into_iter().fold(0.0, |p, q| p + q * (1.0 + p));
        excess.ln_1p() + self.powers.sum() * std::f64::consts::LN_2
    }

    /// The logarithm of each lane's product.
    #[inline(always)]
    pub fn logs(mut self) -> [f64; LANES] {
        self.split();
        let mut logs = self.excess.to_array();
        for (log, powers) in logs.iter_mut().zip(self.powers.to_array()) {
            *log = log.ln_1p() + powers * std::f64::consts::LN_2;
        }
        logs
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    /// Small factors keep their digits, large ones do not overflow, and few are as good as many.
    #[test]
    fn agrees_with_a_sum_of_logarithms() {
        for (largest, terms) in
            [(40.0, 10_000), (1.0, 10_000), (-20.0, 3), (-30.0, 10_000), (600.0, 5), (-700.0, 2)]
        {
            let mut product = LogProduct::<Portable>::new(f64::max(largest, 0.0) + 1.0);
            let mut want = 0.0;
            for term in 0..terms {
                let q = (largest - f64::from(term % 7)).exp();
                product.multiply(Portable::all(q));
                want += q.ln_1p();
            }
            let close = |got: f64, want: f64| {
                assert!((got / want - 1.0).abs() < 1e-11, "{got} is not {want}")
            };
            product.logs().into_iter().for_each(|log| close(log, want));
            close(product.log(), want * LANES as f64);
        }
    }

    /// A product of which nobody can say on which side of 2 it is has one power of two, or none.
    #[test]
    fn a_product_next_to_2_is_split_once() {
        for q in [1.0 - f64::EPSILON / 2.0, 1.0, 1.0 + f64::EPSILON] {
            for tiny in [0.0, 1e-30, 1e-17, 1e-16, 3e-16] {
                let mut product = LogProduct::<Portable>::new(1.0);
                product.multiply(Portable::all(q));
                product.multiply(Portable::all(tiny));
                let want = q.ln_1p() + tiny.ln_1p();
                for log in product.logs() {
                    assert!((log / want - 1.0).abs() < 1e-15, "{q} {tiny}: {log} is not {want}");
                }
                let all = want * LANES as f64;
                assert!((product.log() / all - 1.0).abs() < 1e-14, "{q} {tiny}");
            }
        }
    }
}
