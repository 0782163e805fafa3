//! Chance, for the process tests and for the unit tests that read what nobody would write.
#![allow(dead_code)] // each test uses its share

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that look random and are the same in every run from the same seed (xorshift64*).
pub struct Random(pub u64);

impl Random {
    /// From the variable `SEED`, or the clock; the test prints it.
    pub fn from_env() -> Self {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1);
        println!("SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
