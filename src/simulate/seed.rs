//! One seed for a run, an own stream of random numbers for every component: adding a replica or a
//! request to one component never shifts the numbers of another.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Generator of the component `name` number `index` in the run with `seed`.
pub fn rng(seed: u64, name: &str, index: u64) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(index.to_le_bytes())
        .chain_update(name.as_bytes())
        .finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    ChaCha8Rng::seed_from_u64(u64::from_le_bytes(head))
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn components_have_streams_of_their_own() {
        let draw = |seed, name, index| rng(seed, name, index).random::<u64>();
        assert_eq!(draw(7, "pool", 0), draw(7, "pool", 0));
        assert_ne!(draw(7, "pool", 0), draw(7, "pool", 1));
        assert_ne!(draw(7, "pool", 0), draw(7, "trace", 0));
        assert_ne!(draw(7, "pool", 0), draw(8, "pool", 0));
    }
}
