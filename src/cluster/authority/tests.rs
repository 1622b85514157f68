//! Two replicas, an aggregator that learns late, and chance.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const LIVES: Lifetimes = Lifetimes { leaf_seconds: 1000.0 };

/// Things that replicas share, each with a version.
#[derive(Clone, Debug, Default)]
struct World {
    secret: Option<Stored>,
    secret_version: u64,
    bundle: Vec<Authority>,
    bundle_version: u64,
    /// What kube-apiserver verifies with: the bundle, some time ago.
    verifies: Vec<Authority>,
    made: u8,
    now: f64,
}

impl World {
    fn authority(&mut self) -> Authority {
        self.made += 1;
        let from_seconds = self.now - LIVES.allowance_seconds();
        let until_seconds = self.now + LIVES.authority_seconds();
        Authority { fingerprint: [self.made; 32], validity: Validity { from_seconds, until_seconds } }
    }

    fn leaf(&self, issuer: Authority) -> Leaf {
        let from_seconds = self.now - LIVES.allowance_seconds();
        let until_seconds = (self.now + LIVES.leaf_seconds).min(issuer.validity.until_seconds);
        Leaf { issuer: Some(issuer.fingerprint), validity: Validity { from_seconds, until_seconds }, names_fit: true }
    }

    fn changed(&mut self, old: Option<Stored>, change: &Change) -> Stored {
        let mut new = old.unwrap_or_default();
        match change {
            Change::Everything | Change::Authority => {
                let made = self.authority();
                new.authorities.insert(0, made);
                new.can_sign = true;
                if *change == Change::Everything {
                    new.leaf = Some(self.leaf(made));
                }
            }
            Change::Leaf => new.leaf = Some(self.leaf(new.authorities[0])),
            Change::Forget(gone) => new.authorities.retain(|a| !gone.contains(&a.fingerprint)),
        }
        new
    }
}

/// What one replica saw last, and what it is about to write.
#[derive(Clone, Debug, Default)]
struct Replica {
    secret: Option<Stored>,
    secret_version: u64,
    bundle: Vec<Authority>,
    bundle_version: u64,
    since: BTreeMap<Fingerprint, f64>,
    served: Option<Leaf>,
    secret_write: Option<(u64, Stored)>,
    bundle_write: Option<(u64, Vec<Authority>)>,
}

impl Replica {
    fn look(&mut self, world: &World) {
        self.bundle.clone_from(&world.bundle);
        self.bundle_version = world.bundle_version;
        self.since.retain(|id, _| world.bundle.iter().any(|a| a.fingerprint == *id));
        for authority in &world.bundle {
            self.since.entry(authority.fingerprint).or_insert(world.now);
        }
        self.secret.clone_from(&world.secret);
        self.secret_version = world.secret_version;
    }

    fn trust(&self) -> Trust {
        Trust::Bundle(self.bundle.iter().map(|a| (*a, self.since[&a.fingerprint])).collect())
    }

    /// Decide now; the writes happen later, when the shared things may have changed.
    fn decide(&mut self, world: &mut World) {
        let trust = self.trust();
        if let Some(change) = next(self.secret.as_ref(), &trust, LIVES, world.now) {
            let new = world.changed(self.secret.clone(), &change);
            self.secret_write = Some((self.secret_version, new));
        }
        let Some(stored) = self.secret.clone() else { return };
        let wanted = wanted_bundle(&stored, &self.bundle, LIVES, world.now);
        let known = |id: &Fingerprint| {
            *stored.authorities.iter().chain(&self.bundle).find(|a| a.fingerprint == *id).expect("known")
        };
        let wanted: Vec<Authority> = wanted.iter().map(known).collect();
        if wanted != self.bundle {
            self.bundle_write = Some((self.bundle_version, wanted));
        }
        if let Some(leaf) = stored.leaf
            && may_serve(&leaf, self.served.as_ref(), &trust, LIVES, world.now)
        {
            self.served = Some(leaf);
        }
    }

    /// Writes arrive; those against an old version are refused.
    fn write(&mut self, world: &mut World) {
        if let Some((version, new)) = self.secret_write.take()
            && version == world.secret_version
        {
            world.secret = Some(new);
            world.secret_version += 1;
        }
        if let Some((version, new)) = self.bundle_write.take()
            && version == world.bundle_version
        {
            world.bundle = new;
            world.bundle_version += 1;
        }
    }
}

fn verified(world: &World, leaf: &Leaf) -> bool {
    world.now < leaf.validity.until_seconds
        && world.verifies.iter().any(|a| Some(a.fingerprint) == leaf.issuer && world.now < a.validity.until_seconds)
}

/// One life of a cluster; the number of authorities made.
fn simulate(seed: u64, disasters: bool) -> u8 {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World { now: 1e9, ..World::default() };
    let mut replicas = [Replica::default(), Replica::default()];
    let mut trusted_once = false;
    for step in 0..3000_u32 {
        let which = chance.random_range(0..2);
        world.now += chance.random_range(0.0..8.0);
        // kube-apiserver lags behind by less than the settling time.
        if step % 6 == 0 {
            world.verifies.clone_from(&world.bundle);
        }
        match chance.random_range(0..20) {
            0..8 => replicas[which].look(&world),
            8..13 => replicas[which].decide(&mut world),
            13..19 => replicas[which].write(&mut world),
            // A restart forgets everything; the other one keeps running, as in a rolling update.
            _ if chance.random_bool(0.2) => {
                replicas[which] = Replica::default();
                replicas[which].look(&world);
                replicas[which].decide(&mut world);
            }
            _ if disasters && chance.random_bool(0.02) => {
                world.secret = None;
                world.secret_version += 1;
            }
            _ => {}
        }
        // Nobody sleeps for longer than a twentieth of a leaf's life.
        if step % 12 == 0 {
            for replica in &mut replicas {
                replica.look(&world);
                replica.decide(&mut world);
                replica.write(&mut world);
            }
        }
        let served = replicas.iter().filter_map(|r| r.served.as_ref());
        let all = served.clone().count() == 2 && served.clone().all(|l| verified(&world, l));
        trusted_once |= all;
        for leaf in served {
            assert!(!trusted_once || verified(&world, leaf), "seed {seed} step {step}: {leaf:?} in {world:?}");
        }
        assert!(world.bundle.len() <= if disasters { 12 } else { 3 }, "seed {seed}: the bundle grows");
    }
    assert!(trusted_once, "seed {seed}");
    world.made
}

#[test]
fn the_bundle_verifies_what_any_replica_serves_at_every_moment() {
    for seed in 0..100 {
        let made = simulate(seed, false);
        assert!(made >= 4, "seed {seed}: {made} authorities in about four lives of one");
    }
}

#[test]
fn a_lost_secret_cuts_nobody_off() {
    for seed in 0..100 {
        simulate(1000 + seed, true);
    }
}

fn stored(authority_age: f64, leaf_age: f64) -> Stored {
    let validity = |age: f64, life: f64| Validity { from_seconds: -age, until_seconds: life - age };
    let authority = Authority { fingerprint: [1; 32], validity: validity(authority_age, 4000.0) };
    let leaf = Leaf { issuer: Some([1; 32]), validity: validity(leaf_age, 1000.0), names_fit: true };
    Stored { authorities: vec![authority], can_sign: true, leaf: Some(leaf) }
}

#[test]
fn renewal_is_due_at_two_thirds_of_life() {
    let due = |stored: &Stored| next(Some(stored), &Trust::Unknown, LIVES, 0.0);
    assert_eq!(due(&stored(0.0, 666.0)), None);
    assert_eq!(due(&stored(0.0, 667.0)), Some(Change::Leaf));
    assert_eq!(due(&stored(2666.0, 0.0)), None);
    assert_eq!(due(&stored(2667.0, 0.0)), Some(Change::Authority));
    assert_eq!(due(&stored(4001.0, 2000.0)), Some(Change::Everything));
    assert_eq!(next(None, &Trust::Nobody, LIVES, 0.0), Some(Change::Everything));
}

#[test]
fn what_is_missing_is_made_anew_and_what_is_good_is_kept() {
    let due = |stored: &Stored| next(Some(stored), &Trust::Nobody, LIVES, 0.0);
    let good = stored(0.0, 0.0);
    assert_eq!(due(&Stored { leaf: None, ..good.clone() }), Some(Change::Leaf));
    assert_eq!(due(&Stored { can_sign: false, ..good.clone() }), Some(Change::Authority));
    assert_eq!(due(&Stored::default()), Some(Change::Everything));
    let foreign = good.leaf.map(|l| Leaf { issuer: None, ..l });
    assert_eq!(due(&Stored { leaf: foreign, ..good.clone() }), Some(Change::Leaf));
    let renamed = good.leaf.map(|l| Leaf { names_fit: false, ..l });
    assert_eq!(due(&Stored { leaf: renamed, ..good }), Some(Change::Leaf));
}

#[test]
fn a_new_authority_signs_when_it_is_trusted_or_when_the_old_certificate_ends() {
    let mut two = stored(2700.0, 100.0);
    let new = Authority { fingerprint: [2; 32], validity: Validity { from_seconds: 0.0, until_seconds: 4000.0 } };
    two.authorities.insert(0, new);
    let at = |trust: &Trust, now: f64| next(Some(&two), trust, LIVES, now);
    let bundle = |since: f64| Trust::Bundle(vec![(new, since)]);
    assert_eq!(at(&Trust::Bundle(vec![]), 10.0), None);
    assert_eq!(at(&bundle(10.0), 10.0), None, "not every kube-apiserver knows it yet");
    assert_eq!(at(&bundle(10.0), 10.0 + LIVES.settle_seconds()), Some(Change::Leaf));
    assert_eq!(at(&Trust::Unknown, 800.0), None);
    assert_eq!(at(&Trust::Unknown, 899.0), Some(Change::Leaf));
    assert_eq!(at(&Trust::Nobody, 0.0), Some(Change::Leaf), "nobody has to trust it");
}
