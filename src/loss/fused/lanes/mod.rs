//! Arithmetic on a few f64 side by side: in plain Rust, and in the AVX2 registers of a processor
//! that has them, which compilers fill less well by themselves.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
pub(super) use portable::Portable;

/// How many numbers stand side by side: two AVX2 registers, so that one is at work while the other
/// waits for its result.
pub(super) const LANES: usize = 8;

/// [`LANES`] numbers.
///
/// All that uses it is `#[inline(always)]`, and so becomes part of a function that is compiled for
/// the processor in question.
pub(super) trait Lanes: Copy {
    fn load(from: &[f64; LANES]) -> Self;
    fn store(self, to: &mut [f64; LANES]);
    fn all(value: f64) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn over(self, other: Self) -> Self;
    /// self · factor + term.
    fn times_plus(self, factor: Self, term: Self) -> Self;
    fn magnitude(self) -> Self;
    /// `then` where self < limit, `otherwise` elsewhere and where one of them is NaN.
    fn if_below(self, limit: Self, then: Self, otherwise: Self) -> Self;
    /// 2^n, where self is [`ROUND`] + n, −1023 < n < 1024.
    fn power_of_two(self) -> Self;
    /// e and f of self = f · 2^e, 1 ≤ f < 2; self is positive and normal.
    fn exponent_and_fraction(self) -> (Self, Self);
    /// 1 / self; the product of any two of the numbers must be within range. As exact as a division
    /// and two products.
    fn inverse(self) -> Self;

    #[inline(always)]
    fn to_array(self) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        lanes
    }

    #[inline(always)]
    fn sum(self) -> f64 {
        self.to_array().into_iter().sum()
    }
}

/// Added to a number of less than 2^51, it leaves the nearest integer in the low bits of the sum.
pub(super) const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52

/// e^t for −708 ≤ t ≤ 708, to 1e-11 of its value: more than f32 rewards can tell.
///
/// t = n ln 2 + r with |r| ≤ ½ ln 2, and e^r by its Taylor series.
#[inline(always)]
pub(super) fn exp<V: Lanes>(t: V) -> V {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8; // the low 32 bits are zero: n · this is exact
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SERIES: [f64; 9] = [
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
        1.0,
        1.0,
    ];
    let shifted = t.times_plus(V::all(std::f64::consts::LOG2_E), V::all(ROUND));
    let n = shifted.minus(V::all(ROUND));
    let r = n.times_plus(V::all(-LN_2_HIGH), t);
    let r = n.times_plus(V::all(-LN_2_LOW), r);
    let mut series = V::all(1.0 / 362_880.0);
    for coefficient in SERIES {
        series = series.times_plus(r, V::all(coefficient));
    }
    series.times(shifted.power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees<V: Lanes>() {
        let check = |got: V, want: [f64; LANES], tolerance: f64| {
            for (got, want) in got.to_array().into_iter().zip(want) {
                assert!((got - want).abs() <= tolerance * want.abs(), "{got} is not {want}");
            }
        };
        for step in -885..885 {
            let a: [f64; LANES] =
                std::array::from_fn(|lane| f64::from(step * 8 + lane as i32) / 10.0);
            let b = a.map(|a| 2.55 - a / 3.0);
            let (x, y) = (V::load(&a), V::load(&b));
            check(exp(x), a.map(f64::exp), 1e-11);
            check(x.plus(y), std::array::from_fn(|i| a[i] + b[i]), 0.0);
            check(x.minus(y), std::array::from_fn(|i| a[i] - b[i]), 0.0);
            check(x.times(y), std::array::from_fn(|i| a[i] * b[i]), 0.0);
            check(x.over(y), std::array::from_fn(|i| a[i] / b[i]), 0.0);
            check(x.times_plus(y, V::all(7e6)), std::array::from_fn(|i| a[i] * b[i] + 7e6), 1e-12);
            check(x.magnitude(), a.map(f64::abs), 0.0);
            let least = std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] });
            check(x.if_below(y, x, y), least, 0.0);
            check(V::all(f64::NAN).if_below(y, x, y), b, 0.0);
            let above = a.map(|a| a.abs() + 1.0);
            check(V::load(&above).inverse(), above.map(f64::recip), 1e-15);
            let (exponent, fraction) = V::load(&above).exponent_and_fraction();
            check(exponent, above.map(|a| a.log2().floor()), 0.0);
            check(exponent.plus(V::all(ROUND)).power_of_two().times(fraction), above, 0.0);
            let sum: f64 = a.iter().sum();
            assert!((x.sum() - sum).abs() <= 1e-12 * sum.abs());
        }
    }

    #[test]
    fn plain_rust_agrees_with_the_standard_library() {
        agrees::<Portable>();
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn avx2_agrees_with_the_standard_library() {
        #[target_feature(enable = "avx2,fma")]
        fn agrees_on_avx2() {
            agrees::<Avx2>();
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { agrees_on_avx2() }
        }
    }
}
