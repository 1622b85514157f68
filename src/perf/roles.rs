//! Replicas that do a part of the work: prompts on some, answers on others, the KV cache handed over a link.
//!
//! A prefill replica computes prompts and their first token; the KV cache of the prompt then crosses the link to a
//! decode replica, which makes the other tokens. Each side is sized like a whole replica with the work it has.

use super::capacity::{Capacity, Limit, Replica, Target};
use super::curve::Curve;
use super::latency::{Traffic, Work};
use super::{Quantiles, Shape};

/// The way from a prefill replica to a decode replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Of one replica, bytes per second.
    pub bytes_per_second: f64,
    /// Share of it that is reached, 0..1.
    pub efficiency: f64,
    /// KV-cache bytes of one token.
    pub kv_bytes_per_token: f64,
    /// Layers whose cache is sent while the next one is computed; `None` when it is sent as a whole afterwards.
    pub overlapped_layers: Option<u32>,
}

impl Link {
    fn prompt_seconds(&self, shape: &Shape) -> f64 {
        self.kv_bytes_per_token * shape.input_tokens / (self.efficiency * self.bytes_per_second)
    }

    /// Time that a prompt's cache delays its answer, seconds: all of the transfer, or that of its last layer.
    pub fn delay_seconds(&self, shape: &Shape) -> f64 {
        self.prompt_seconds(shape) / f64::from(self.overlapped_layers.unwrap_or(1).max(1))
    }

    /// Most prompts per second that cross it.
    pub fn largest_rate(&self, shape: &Shape) -> f64 {
        1.0 / self.prompt_seconds(shape)
    }

    fn is_usable(&self) -> bool {
        let all = [self.bytes_per_second, self.efficiency, self.kv_bytes_per_token];
        all.iter().all(|v| v.is_finite() && *v > 0.0) && self.efficiency <= 1.0
    }
}

/// Highest load of a link: beyond, transfers queue.
const LINK_LOAD: f64 = 0.9;

/// Capacity of a part, and whether the link bounds it rather than `capacity.limit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartCapacity {
    pub capacity: Capacity,
    pub by_link: bool,
}

/// Capacity of a prefill replica: the TTFT of `target` holds with the transfer; its ITL is not this side's matter.
pub fn prefill_capacity(
    replica: &Replica,
    shape: &Shape,
    traffic: &Traffic,
    target: &Target,
    link: &Link,
) -> PartCapacity {
    let nothing = PartCapacity { capacity: Capacity::infeasible(f64::INFINITY, 0.0), by_link: false };
    let Some(curve) = Curve::of(replica, shape, traffic, Work::Prompt).filter(|_| link.is_usable()) else {
        return nothing;
    };
    let delay = link.delay_seconds(shape);
    let here = Target { ttft_seconds: target.ttft_seconds - delay, itl_seconds: f64::INFINITY, ..*target };
    let mut capacity = curve.capacity(&here);
    let most = LINK_LOAD * link.largest_rate(shape) * (1.0 - replica.spread.clamp(0.0, 0.9));
    let by_link = capacity.rate > most;
    if by_link {
        let at = curve.latencies(most, target.quantile);
        capacity = Capacity {
            rate: most,
            ttft_seconds: at.map_or(capacity.ttft_seconds, |q| q.ttft_seconds),
            batch: at.map_or(capacity.batch, |q| q.batch),
            ..capacity
        };
    }
    capacity.ttft_seconds += delay;
    capacity.itl_seconds = 0.0;
    PartCapacity { capacity, by_link }
}

/// Capacity of a decode replica: the ITL of `target` holds, and a request that arrives with its cache waits for its
/// second token no longer than the TTFT target allows any wait.
pub fn decode_capacity(replica: &Replica, shape: &Shape, traffic: &Traffic, target: &Target) -> Capacity {
    if shape.output_tokens <= 1.0 {
        return Capacity { limit: Limit::Throughput, ..Capacity::infeasible(0.0, 0.0) };
    }
    match Curve::of(replica, shape, traffic, Work::Decode) {
        Some(curve) => curve.capacity(target),
        None => Capacity::infeasible(f64::INFINITY, f64::INFINITY),
    }
}

/// Latencies of a request that is computed on one replica and answered on another, each at its own rate of requests
/// per second; `None` when one of them or the link cannot keep up. The quantiles of the two sides are added up, which
/// is the worst case.
pub fn split_latencies(
    (prefill, prefill_rate): (&Replica, f64),
    (decode, decode_rate): (&Replica, f64),
    shape: &Shape,
    traffic: &Traffic,
    link: &Link,
    quantile: f64,
) -> Option<Quantiles> {
    if !link.is_usable() || prefill_rate >= link.largest_rate(shape) {
        return None;
    }
    let first = Curve::of(prefill, shape, traffic, Work::Prompt)?.latencies(prefill_rate, quantile)?;
    let then = Curve::of(decode, shape, traffic, Work::Decode)?.latencies(decode_rate, quantile)?;
    Some(Quantiles { ttft_seconds: first.ttft_seconds + link.delay_seconds(shape) + then.wait_seconds, ..then })
}

#[cfg(test)]
mod tests {
    use super::super::{Evidence, Limits, Parameters};
    use super::*;

    const SHAPE: Shape = Shape { input_tokens: 8192.0, output_tokens: 256.0 };
    const TARGET: Target = Target { quantile: 0.95, ttft_seconds: 2.0, itl_seconds: 0.03 };

    fn replica() -> Replica {
        Replica::new(Parameters::uniform(0.010, 2e-5, 5e-8), Limits::default(), 400_000.0, Evidence::Curve)
    }

    fn link(bytes_per_second: f64, overlapped_layers: Option<u32>) -> Link {
        Link { bytes_per_second, efficiency: 1.0, kv_bytes_per_token: 327_680.0, overlapped_layers }
    }

    /// A 70B model's cache of 8k tokens in 16 bits is 2.7 GB.
    #[test]
    fn a_transfer_takes_bytes_over_bandwidth() {
        assert!((link(50e9, None).delay_seconds(&SHAPE) - 0.0537).abs() < 1e-4);
        assert!((link(12.5e9, None).delay_seconds(&SHAPE) - 0.2147).abs() < 1e-4);
        assert!((link(12.5e9, Some(80)).delay_seconds(&SHAPE) - 0.2147 / 80.0).abs() < 1e-5);
        assert!((link(12.5e9, None).largest_rate(&SHAPE) - 4.66).abs() < 0.01);
    }

    #[test]
    fn the_link_bounds_what_the_replica_would_carry() {
        let of = |l: &Link| prefill_capacity(&replica(), &SHAPE, &Traffic::default(), &TARGET, l);
        let (fast, slow) = (of(&link(400e9, None)), of(&link(8e9, Some(80))));
        assert!(!fast.by_link && slow.by_link, "{fast:?} {slow:?}");
        assert!(slow.capacity.rate < link(8e9, None).largest_rate(&SHAPE));
        let broken = of(&Link { efficiency: 0.0, ..link(8e9, None) });
        assert_eq!(broken.capacity.rate, 0.0);
        let late = of(&link(1e9, None));
        assert_eq!(late.capacity.limit, Limit::Infeasible, "the transfer alone takes longer than the target");
    }

    /// Without prompts in its way a decode replica carries more answers at the same ITL, and a prefill replica
    /// more prompts.
    #[test]
    fn each_part_carries_more_than_the_whole() {
        let whole = super::super::capacity(&replica(), &SHAPE, &Traffic::default(), &TARGET).rate;
        let decode = decode_capacity(&replica(), &SHAPE, &Traffic::default(), &TARGET).rate;
        let prefill = prefill_capacity(&replica(), &SHAPE, &Traffic::default(), &TARGET, &link(400e9, None)).capacity;
        assert!(decode > whole && prefill.rate > whole, "{decode} {prefill:?} {whole}");
        let all = split_latencies(
            (&replica(), 0.5 * prefill.rate),
            (&replica(), 0.5 * decode),
            &SHAPE,
            &Traffic::default(),
            &link(400e9, None),
            0.95,
        );
        let found = all.unwrap();
        assert!(found.ttft_seconds < TARGET.ttft_seconds && found.itl_seconds < TARGET.itl_seconds, "{found:?}");
        assert_eq!(
            decode_capacity(&replica(), &Shape { output_tokens: 1.0, ..SHAPE }, &Traffic::default(), &TARGET).rate,
            0.0
        );
    }
}
