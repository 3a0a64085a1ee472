//! How sure a mean is, by resampling.

/// Numbers enough for an interval, as long as it takes no longer than this many additions.
const RESAMPLES: usize = 1000;
const ADDITIONS: usize = 200_000_000;

/// The 95 % percentile bootstrap interval (Efron 1979) of Σ value / Σ weight over `items`, each of
/// which is a value and its weight, drawn whole: from the 2.5th to the 97.5th percentile of 1000
/// resamples, of fewer (but 100 at least) above 200 000 items. The numbers drawn are always the same.
///
/// `None` without two items of positive weight, or if one is not finite.
pub(super) fn interval(items: &[(f64, f64)]) -> Option<[f64; 2]> {
    let finite = items.iter().all(|(value, weight)| value.is_finite() && weight.is_finite());
    if !finite || items.iter().filter(|(_, weight)| *weight > 0.0).count() < 2 {
        return None;
    }
    let resamples = (ADDITIONS / items.len()).clamp(100, RESAMPLES);
    let mut random = SplitMix64(0);
    let mut means: Vec<f64> = (0..resamples)
        .filter_map(|_| {
            let (mut sum, mut weight) = (0.0, 0.0);
            for _ in 0..items.len() {
                let (value, its_weight) = items[random.below(items.len())];
                sum += value;
                weight += its_weight;
            }
            (weight > 0.0).then(|| sum / weight)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means.get((share * (means.len() - 1) as f64).round() as usize).copied();
    Some([at(0.025)?, at(0.975)?])
}

/// Steele, Lea & Flood 2014: small, and the same everywhere, which is all that is asked of it here.
struct SplitMix64(u64);

impl SplitMix64 {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of n zeros and ones the mean's standard error is √(p (1 − p) / n).
    #[test]
    fn is_what_the_normal_distribution_says_for_many_items() {
        let items: Vec<(f64, f64)> =
            (0..2000).map(|n| (f64::from(u8::from(n % 4 > 0)), 1.0)).collect();
        let [low, high] = interval(&items).unwrap();
        let half = 1.96 * (0.75f64 * 0.25 / 2000.0).sqrt();
        assert!((low - (0.75 - half)).abs() < 0.15 * half, "{low}");
        assert!((high - (0.75 + half)).abs() < 0.15 * half, "{high}");
    }

    /// A few heavy items make the mean less sure than as many light ones do.
    #[test]
    fn items_are_drawn_whole() {
        let light: Vec<(f64, f64)> = (0..1000).map(|n| (f64::from(n % 2), 1.0)).collect();
        let heavy: Vec<(f64, f64)> = (0..10).map(|n| (100.0 * f64::from(n % 2), 100.0)).collect();
        let width = |items: &[(f64, f64)]| interval(items).map(|[low, high]| high - low).unwrap();
        assert!(width(&heavy) > 5.0 * width(&light));
    }

    #[test]
    fn has_no_answer_where_there_is_none() {
        assert_eq!(interval(&[]), None);
        assert_eq!(interval(&[(1.0, 1.0), (0.0, 0.0)]), None);
        assert_eq!(interval(&[(1.0, 1.0), (f64::NAN, 1.0)]), None);
        assert_eq!(interval(&[(1.0, 1.0); 3]), Some([1.0, 1.0]));
    }
}
