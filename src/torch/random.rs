//! Random numbers that follow from a seed.

use std::sync::{Mutex, PoisonError};

/// libtorch has one generator for the whole process.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Runs `body` with libtorch's generators started from `seed`, and no other `seeded` body beside
/// it, so that two models in two threads do not draw from each other's numbers.
pub(crate) fn seeded<T>(seed: i64, body: impl FnOnce() -> T) -> T {
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    body()
}
