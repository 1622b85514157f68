//! poolwright decides how many replicas every accelerator pool of an LLM fleet should run.
//!
//! Data flows down this list and never back up:
//! [`policy`] (what the operator wants) and [`observe`] (what is going on) feed [`demand`] (what will
//! come) and [`perf`] (what one replica can do); [`plan`] finds replicas and routes, [`safety`] decides
//! what may be said, [`control`] runs the loop, [`serve`] answers HPA, KEDA and people. [`cluster`] is the
//! daemon's own standing with kube-apiserver, [`simulate`] plays a fleet against the same code, [`plot`]
//! draws, and [`cli`] has one file per verb.

pub mod cli;
pub mod cluster;
pub mod control;
pub mod demand;
pub mod observe;
pub mod perf;
pub mod plan;
pub mod plot;
pub mod policy;
pub mod safety;
pub mod serve;
pub mod simulate;
