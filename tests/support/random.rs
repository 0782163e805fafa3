//! Chance, for the process tests and for the unit tests that read what nobody would write.
#![allow(dead_code)] // each test uses its share

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// The text with some bytes dropped, changed or copied, and some of these words put in.
pub fn mutate(random: &mut Random, text: &str, words: &[&str]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below(bytes.len() - at + 1).min(8);
        match random.below(4) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, random.pick(words).bytes())),
            2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls `check` for `FUZZ_SECONDS` (default: 1), but at least a thousand times. The choices are the same in every run.
pub fn fuzz(mut check: impl FnMut(&mut Random)) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(1, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut rounds = 0_u64;
    while rounds < 1_000 || Instant::now() < end {
        check(&mut random);
        rounds += 1;
    }
    println!("{rounds} inputs");
}
