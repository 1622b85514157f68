//! The document of all gates.

use crate::Bench;
use crate::table::{Section, summary};

const HEAD: &str = "\
# Evidence

What poolwright saves and what it risks, against the rules that others scale by. Written by `COMMAND`; the same seeds
give the same bytes. No figure here was tuned for: our planner runs with the policies in `benches/gates/policies` as they
are, while every other rule is tried with each of its targets on each accelerator type and on fixed splits, and judged
by the cheapest setting that serves as well as ours did, known in hindsight.

- *In time*: share of all requests, late, failed and unfinished ones included, within both their TTFT and their ITL target.
- *Hours kept*: share of the hours with at least 1,000 requests in which the promised share was in time.
- *Cost*: replica hours at the policy's prices, starting and draining ones included.
- *Changes*: changes of a scale target per day, all pools together.
- The servers differ from the figures that the planner is given by up to 8 %, drawn for each pool; start-up times vary
  by 5 %.
- Traffic and licences: [data/traces](../data/traces/README.md). The order of the minutes within seven minutes of the Azure
  weeks is drawn, not recorded.
";

/// All of it.
pub fn document(sections: &[Section], bench: &Bench) -> String {
    let command = if bench.is_quick { "make bench-quick" } else { "make bench" };
    let seeds = bench.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let gates: Vec<String> = sections.iter().map(Section::text).collect();
    let head = HEAD.replace("COMMAND", command);
    let text = format!("{head}\nSeeds: {seeds}.\n\n{}\n{}", summary(sections), gates.join("\n"));
    // one newline at the end
    format!("{}\n", text.trim_end())
}
