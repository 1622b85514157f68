//! The document of all gates.

use crate::table::{Section, summary};

const HEAD: &str = "\
# Evidence

What poolwright saves and what it risks, against the rules that others scale by. Written by `COMMAND`; the same seeds
give the same bytes. Our planner runs with the policies in `benches/gates/policies` and the shipped defaults, the same for
every trace and level, while every other rule is tried with each of its targets on each accelerator type and on fixed
splits, and judged by the cheapest setting that serves as well as ours did, known in hindsight. Three of those defaults
(`demandQuantile`, `scaleDownStarts` and the share of the next hour that is kept) were chosen on two days of the same
recordings: hours 24-48 of the conversations and 72-96 of the code.

- *In time*: share of all requests, late, failed and unfinished ones included, within both their TTFT and their ITL target.
- *Hours kept*: share of the hours with at least 1,000 requests in which the promised share was in time.
- *Cost*: replica hours at the policy's prices, starting and draining ones included.
- *Changes*: changes of a scale target per day, all pools together.
- The servers differ from the figures that the planner is given by up to 8 %, drawn for each pool; start-up times vary
  by 5 %.
- Traffic and licences: [data/traces](../data/traces/README.md). The order of the minutes within seven minutes of the Azure
  weeks is drawn, not recorded.
";

/// All of it, with the command that writes it again.
pub fn document(sections: &[Section], command: &str, seeds: &[u64]) -> String {
    let seeds = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let gates: Vec<String> = sections.iter().map(Section::text).collect();
    let head = HEAD.replace("COMMAND", command);
    let text = format!("{head}\nSeeds: {seeds}.\n\n{}\n{}", summary(sections), gates.join("\n"));
    // one newline at the end
    format!("{}\n", text.trim_end())
}
