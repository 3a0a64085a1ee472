//! Arithmetic on a few f64 side by side, written so that the compiler makes vectors of it.

/// How many numbers stand side by side: two AVX2 registers, so that one is at work while the other
/// waits for its result.
pub(super) const LANES: usize = 8;

/// [`LANES`] numbers.
#[derive(Clone, Copy)]
pub(super) struct Lanes(pub [f64; LANES]);

// `#[inline(always)]` throughout: the functions become part of their caller, and are compiled for
// the processor that the caller was compiled for.
impl Lanes {
    #[inline(always)]
    pub fn all(value: f64) -> Lanes {
        Lanes([value; LANES])
    }

    /// The first [`LANES`] numbers of a slice that has as many.
    #[inline(always)]
    pub fn load(from: &[f64]) -> Lanes {
        let mut lanes = [0.0; LANES];
        lanes.copy_from_slice(&from[..LANES]);
        Lanes(lanes)
    }

    #[inline(always)]
    pub fn store(self, to: &mut [f64]) {
        to[..LANES].copy_from_slice(&self.0);
    }

    #[inline(always)]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Lanes {
        let mut lanes = self.0;
        for lane in &mut lanes {
            *lane = f(*lane);
        }
        Lanes(lanes)
    }

    #[inline(always)]
    pub fn zip(self, other: Lanes, f: impl Fn(f64, f64) -> f64) -> Lanes {
        let mut lanes = self.0;
        for (lane, other) in lanes.iter_mut().zip(other.0) {
            *lane = f(*lane, other);
        }
        Lanes(lanes)
    }

    #[inline(always)]
    pub fn plus(self, other: Lanes) -> Lanes {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    pub fn minus(self, other: Lanes) -> Lanes {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    pub fn times(self, other: Lanes) -> Lanes {
        self.zip(other, |a, b| a * b)
    }

    /// self · factor + term; rounded once if the processor can (`FUSED`), for otherwise
    /// `f64::mul_add` is a slow call.
    #[inline(always)]
    pub fn times_plus<const FUSED: bool>(self, factor: Lanes, term: Lanes) -> Lanes {
        let mut lanes = self.0;
        for ((lane, factor), term) in lanes.iter_mut().zip(factor.0).zip(term.0) {
            *lane = if FUSED { lane.mul_add(factor, term) } else { *lane * factor + term };
        }
        Lanes(lanes)
    }

    #[inline(always)]
    pub fn sum(self) -> f64 {
        self.0.iter().sum()
    }
}

/// e^t for −708 ≤ t ≤ 708, to 1e-11 of its value: more than f32 rewards can tell.
///
/// t = n ln 2 + r with |r| ≤ ½ ln 2, and e^r by its Taylor series.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(t: Lanes) -> Lanes {
    /// Added and taken away again, it rounds to the nearest integer, which its low bits then hold.
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8; // the low 32 bits are zero: n · this is exact
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SERIES: [f64; 9] = [
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
        1.0,
    ];
    let shifted = t.times_plus::<FUSED>(Lanes::all(std::f64::consts::LOG2_E), Lanes::all(ROUND));
    let n = shifted.minus(Lanes::all(ROUND));
    let r = n.times_plus::<FUSED>(Lanes::all(-LN_2_HIGH), t);
    let r = n.times_plus::<FUSED>(Lanes::all(-LN_2_LOW), r);
    let mut series = Lanes::all(SERIES[0]);
    for coefficient in &SERIES[1..] {
        series = series.times_plus::<FUSED>(r, Lanes::all(*coefficient));
    }
    let series = series.times_plus::<FUSED>(r, Lanes::all(1.0));
    let power = shifted.map(|s| f64::from_bits((s.to_bits().wrapping_add(1023)) << 52));
    series.times(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in -7080..=7080 {
            let t = f64::from(step) / 10.0;
            for value in
                exp::<false>(Lanes::all(t)).0.into_iter().chain(exp::<true>(Lanes::all(t)).0)
            {
                assert!((value / t.exp() - 1.0).abs() < 1e-11, "e^{t} is not {value}");
            }
        }
    }
}
