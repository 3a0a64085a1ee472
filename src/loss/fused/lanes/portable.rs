//! Lanes in plain Rust.

use super::{Lanes, LANES};

#[derive(Clone, Copy)]
pub(in super::super) struct Portable([f64; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Portable, f: impl Fn(f64, f64) -> f64) -> Portable {
        let mut lanes = self.0;
        for (lane, other) in lanes.iter_mut().zip(other.0) {
            *lane = f(*lane, other);
        }
        Portable(lanes)
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn load(from: &[f64; LANES]) -> Portable {
        Portable(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f64; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn all(value: f64) -> Portable {
        Portable([value; LANES])
    }

    #[inline(always)]
    fn plus(self, other: Portable) -> Portable {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn minus(self, other: Portable) -> Portable {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn times(self, other: Portable) -> Portable {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn over(self, other: Portable) -> Portable {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn times_plus(self, factor: Portable, term: Portable) -> Portable {
        // Where the processor is not known to have it, `mul_add` is a slow call.
        if cfg!(target_arch = "aarch64") {
            Portable(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], term.0[i])))
        } else {
            self.times(factor).plus(term)
        }
    }

    #[inline(always)]
    fn magnitude(self) -> Portable {
        Portable(self.0.map(f64::abs))
    }

    #[inline(always)]
    fn if_below(self, limit: Portable, then: Portable, otherwise: Portable) -> Portable {
        Portable(std::array::from_fn(|i| {
            if self.0[i] < limit.0[i] {
                then.0[i]
            } else {
                otherwise.0[i]
            }
        }))
    }

    #[inline(always)]
    fn power_of_two(self) -> Portable {
        Portable(self.0.map(|shifted| f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)))
    }

    #[inline(always)]
    fn exponent_and_fraction(self) -> (Portable, Portable) {
        const ONE: u64 = 1f64.to_bits();
        const FRACTION: u64 = (1 << 52) - 1;
        let exponent = self.0.map(|x| ((x.to_bits() >> 52) as i64 - 1023) as f64);
        let fraction = self.0.map(|x| f64::from_bits((x.to_bits() & FRACTION) | ONE));
        (Portable(exponent), Portable(fraction))
    }

    #[inline(always)]
    fn inverse(self) -> Portable {
        Portable::all(1.0).over(self)
    }
}
