//! Lanes in two AVX2 registers, with fused multiply-add.

use std::arch::x86_64::*;

use super::{Lanes, LANES, ROUND};

/// To be named only by functions that are compiled for AVX2 and FMA, and called where the processor
/// has both: that is what every `unsafe` below relies on.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2(__m256d, __m256d);

impl Avx2 {
    #[inline(always)]
    fn zip(self, other: Avx2, f: impl Fn(__m256d, __m256d) -> __m256d) -> Avx2 {
        Avx2(f(self.0, other.0), f(self.1, other.1))
    }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn load(from: &[f64; LANES]) -> Avx2 {
        // SAFETY: both halves lie within the array; no alignment is asked for.
        unsafe {
            Avx2(_mm256_loadu_pd(from.as_ptr()), _mm256_loadu_pd(from.as_ptr().add(LANES / 2)))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f64; LANES]) {
        // SAFETY: both halves lie within the array; no alignment is asked for.
        unsafe {
            _mm256_storeu_pd(to.as_mut_ptr(), self.0);
            _mm256_storeu_pd(to.as_mut_ptr().add(LANES / 2), self.1);
        }
    }

    #[inline(always)]
    fn all(value: f64) -> Avx2 {
        // SAFETY: see `Avx2`.
        let all = unsafe { _mm256_set1_pd(value) };
        Avx2(all, all)
    }

    #[inline(always)]
    fn plus(self, other: Avx2) -> Avx2 {
        // SAFETY: see `Avx2`.
        self.zip(other, |a, b| unsafe { _mm256_add_pd(a, b) })
    }

    #[inline(always)]
    fn minus(self, other: Avx2) -> Avx2 {
        // SAFETY: see `Avx2`.
        self.zip(other, |a, b| unsafe { _mm256_sub_pd(a, b) })
    }

    #[inline(always)]
    fn times(self, other: Avx2) -> Avx2 {
        // SAFETY: see `Avx2`.
        self.zip(other, |a, b| unsafe { _mm256_mul_pd(a, b) })
    }

    #[inline(always)]
    fn over(self, other: Avx2) -> Avx2 {
        // SAFETY: see `Avx2`.
        self.zip(other, |a, b| unsafe { _mm256_div_pd(a, b) })
    }

    #[inline(always)]
    fn times_plus(self, factor: Avx2, term: Avx2) -> Avx2 {
        // SAFETY: see `Avx2`.
        unsafe {
            Avx2(
                _mm256_fmadd_pd(self.0, factor.0, term.0),
                _mm256_fmadd_pd(self.1, factor.1, term.1),
            )
        }
    }

    #[inline(always)]
    fn magnitude(self) -> Avx2 {
        // SAFETY: see `Avx2`.
        self.zip(Avx2::all(-0.0), |a, sign| unsafe { _mm256_andnot_pd(sign, a) })
    }

    #[inline(always)]
    fn if_below(self, limit: Avx2, then: Avx2, otherwise: Avx2) -> Avx2 {
        // SAFETY: see `Avx2`.
        let below = self.zip(limit, |a, b| unsafe { _mm256_cmp_pd::<_CMP_LT_OQ>(a, b) });
        // SAFETY: see `Avx2`.
        unsafe {
            Avx2(
                _mm256_blendv_pd(otherwise.0, then.0, below.0),
                _mm256_blendv_pd(otherwise.1, then.1, below.1),
            )
        }
    }

    #[inline(always)]
    fn power_of_two(self) -> Avx2 {
        // SAFETY: see `Avx2`.
        self.zip(self, |shifted, _| unsafe {
            let biased = _mm256_add_epi64(_mm256_castpd_si256(shifted), _mm256_set1_epi64x(1023));
            _mm256_castsi256_pd(_mm256_slli_epi64::<52>(biased))
        })
    }

    #[inline(always)]
    fn exponent_and_fraction(self) -> (Avx2, Avx2) {
        // There is no conversion of 64-bit integers; the bits of ROUND + n end in those of n.
        // SAFETY: see `Avx2`.
        let exponent = self.zip(self, |x, _| unsafe {
            let biased = _mm256_srli_epi64::<52>(_mm256_castpd_si256(x));
            let round = _mm256_castpd_si256(_mm256_set1_pd(ROUND));
            _mm256_castsi256_pd(_mm256_or_si256(biased, round))
        });
        // SAFETY: see `Avx2`.
        let fraction = self.zip(Avx2::all(1.0), |x, one| unsafe {
            let bits = _mm256_castsi256_pd(_mm256_set1_epi64x((1 << 52) - 1));
            _mm256_or_pd(_mm256_and_pd(x, bits), one)
        });
        (exponent.minus(Avx2::all(ROUND + 1023.0)), fraction)
    }

    #[inline(always)]
    fn inverse(self) -> Avx2 {
        // A division takes as long as a dozen products: one serves both registers.
        // SAFETY: see `Avx2`.
        unsafe {
            let both = _mm256_div_pd(_mm256_set1_pd(1.0), _mm256_mul_pd(self.0, self.1));
            Avx2(_mm256_mul_pd(both, self.1), _mm256_mul_pd(both, self.0))
        }
    }
}
