//! One solve with its time and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use poolwright::control::units_per_second;
use poolwright::plan::{Effort, Memory, Problem, Solution, solve_again, verify};

/// A solve of ours.
pub struct Run {
    pub solution: Solution,
    pub seconds: f64,
    /// Time the core worked on it; on a busy machine the wall's is longer.
    pub cpu_seconds: f64,
    /// Of the whole program, at most, MiB.
    pub memory: f64,
    /// Whether the plan keeps every rule.
    pub is_valid: bool,
}

/// A solve of another solver.
pub struct Other {
    pub objective: f64,
    pub bound: f64,
    pub cpu_seconds: f64,
}

/// Threads started from now on stay on this core too; without a wish it is the last one allowed.
pub fn pin_to_one_core(wish: Option<usize>) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let is_wished = |cpu: &usize| allowed.is_set(*cpu) && wish.is_none_or(|w| w == *cpu);
    let Some(core) = (0..CpuSet::MAX_CPU).rfind(is_wished) else { return };
    let mut one = CpuSet::new();
    one.set(core);
    if let Err(error) = sched_setaffinity(None, &one) {
        println!("not pinned to one core: {error}");
    }
}

/// From nothing, in so many seconds; also what it leaves to the next.
pub fn cold(problem: &Problem, seconds: f64) -> (Run, Memory) {
    let mut memory = Memory::default();
    let run = again(problem, seconds, &mut memory);
    (run, memory)
}

/// With what the last solve left.
pub fn again(problem: &Problem, budget: f64, memory: &mut Memory) -> Run {
    let units = (budget * units_per_second()) as u64;
    let stop = Arc::new(AtomicBool::new(false));
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let flag = Arc::clone(&stop);
    let timer = std::thread::spawn(move || {
        let _ = wait.recv_timeout(Duration::from_secs_f64(budget));
        flag.store(true, Ordering::Relaxed);
    });
    reset_peak();
    let (began, worked) = (Instant::now(), cpu());
    let effort = Effort { units, stop: Some(&stop), ..Effort::default() };
    let solution = solve_again(problem, &effort, memory);
    let seconds = began.elapsed().as_secs_f64();
    let cpu_seconds = cpu() - worked;
    let memory = peak();
    drop(done);
    let _ = timer.join();
    Run { is_valid: verify(problem, &solution.plan).is_ok(), solution, seconds, cpu_seconds, memory }
}

#[cfg(feature = "highs")]
pub fn second_opinion(problem: &Problem, seconds: f64, start: Option<&[u32]>) -> Option<Other> {
    if seconds <= 0.0 {
        return None;
    }
    let worked = cpu();
    let found = poolwright::plan::highs::opinion(problem, seconds, start)?;
    Some(Other { objective: found.objective, bound: found.bound, cpu_seconds: cpu() - worked })
}

#[cfg(not(feature = "highs"))]
pub fn second_opinion(_: &Problem, _: f64, _: Option<&[u32]>) -> Option<Other> {
    None
}

/// Linux forgets the peak of the memory when it is asked to.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Seconds that the program has worked so far, in all its threads.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 14th and 15th field; the name before may hold spaces. Linux counts 100 a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}
