//! Curves: their means, and as many of their points as a picture can show.

/// A point, x and y.
pub(super) type Point = (f64, f64);

/// The mean of y over a window of `window` points around each point, which is smaller near both ends,
/// and not there at all where it would be less than a quarter: a mean of few points wavers.
pub(super) fn moving_mean(points: &[Point], window: usize) -> Vec<Point> {
    let half = window / 2;
    let mut sums = Vec::with_capacity(points.len() + 1);
    sums.push(0.0);
    let mut sum = 0.0;
    for &(_, y) in points {
        sum += y;
        sums.push(sum);
    }
    let mean = |(index, &(x, _)): (usize, &Point)| {
        // As far to the left as to the right, or the ends would lean towards the middle.
        let reach = half.min(index).min(points.len() - 1 - index);
        let (from, to) = (index - reach, index + reach + 1);
        (reach >= half / 4).then(|| (x, (sums[to] - sums[from]) / (to - from) as f64))
    };
    points.iter().enumerate().filter_map(mean).collect()
}

/// How many points a moving mean takes together so that one sees where a curve of `count` points
/// goes.
pub(super) fn window(count: usize) -> usize {
    (count / 24) | 1
}

/// At most `most` of the points: the lowest and the highest of each of `most / 2` stretches of equal
/// number, so that no peak is lost.
pub(super) fn thin(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretches = (most / 2).max(1);
    let mut kept = Vec::with_capacity(2 * stretches);
    for stretch in 0..stretches {
        let from = points.len() * stretch / stretches;
        let to = points.len() * (stretch + 1) / stretches;
        let of_stretch = points[from..to].iter().enumerate();
        let by_y = |a: &(usize, &Point), b: &(usize, &Point)| a.1 .1.total_cmp(&b.1 .1);
        let lowest = of_stretch.clone().min_by(by_y);
        let highest = of_stretch.max_by(by_y);
        if let (Some(lowest), Some(highest)) = (lowest, highest) {
            let (first, second) =
                if lowest.0 < highest.0 { (lowest, highest) } else { (highest, lowest) };
            kept.push(*first.1);
            if first.0 != second.0 {
                kept.push(*second.1);
            }
        }
    }
    kept
}

/// From the `share`-th part of the sorted values to the one as far from their end; `None` of none.
pub(super) fn inner_range(values: impl Iterator<Item = f64>, share: f64) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let cut = (last as f64 * share).floor() as usize;
    Some((values[cut], values[last - cut]))
}

/// The smallest range around two.
pub(super) fn around(a: Option<(f64, f64)>, b: Option<(f64, f64)>) -> Option<(f64, f64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (one, other) => one.or(other),
    }
}

/// A range with some room, and with an inside even if it is one number.
pub(super) fn widen((low, high): (f64, f64), room: f64) -> (f64, f64) {
    let size = high - low;
    let smallest = low.abs().max(high.abs()).max(1e-9) * 1e-3;
    let room = if size < smallest { smallest } else { size * room };
    (low - room, high + room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_a_straight_line_is_the_line() {
        let line: Vec<Point> = (0..50).map(|x| (f64::from(x), 3.0 - f64::from(x))).collect();
        let means = moving_mean(&line, 17);
        assert_eq!((means[0].0, means[means.len() - 1].0), (2.0, 47.0));
        assert!(means.iter().all(|(x, mean)| (mean - (3.0 - x)).abs() < 1e-12), "{means:?}");
        assert_eq!(moving_mean(&line, 1), line);
    }

    #[test]
    fn the_mean_is_of_the_window() {
        let mut peak: Vec<Point> = (0..9).map(|x| (f64::from(x), 0.0)).collect();
        peak[4].1 = 5.0;
        let means: Vec<f64> = moving_mean(&peak, 5).iter().map(|point| point.1).collect();
        assert_eq!(means, [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn thinning_keeps_the_order_and_every_peak() {
        let mut points: Vec<Point> = (0..10_000).map(|x| (f64::from(x), 0.0)).collect();
        points[1234].1 = 5.0;
        points[8765].1 = -5.0;
        let thinned = thin(&points, 300);
        assert!(thinned.len() <= 300);
        assert!(thinned.contains(&(1234.0, 5.0)) && thinned.contains(&(8765.0, -5.0)));
        assert!(thinned.windows(2).all(|two| two[0].0 < two[1].0));
        assert_eq!(thin(&points[..10], 300).len(), 10);
    }

    #[test]
    fn the_inner_range_leaves_out_as_much_on_either_side() {
        let values = || (0..=100).rev().map(f64::from);
        assert_eq!(inner_range(values(), 0.05), Some((5.0, 95.0)));
        assert_eq!(inner_range(values(), 0.0), Some((0.0, 100.0)));
        assert_eq!(inner_range(std::iter::empty(), 0.1), None);
    }
}
