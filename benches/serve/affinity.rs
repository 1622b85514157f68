//! Which processor runs what.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The client's place among the processors that this program may use.
pub const CLIENT: usize = 0;
/// The server's place.
pub const SERVER: usize = 1;

/// Keep this thread, and those and the programs that it starts, on one processor; with fewer of them nothing changes.
pub fn pin(place: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    // What the starter allows itself is inherited, so a server asks the machine.
    let everything = (0..CpuSet::MAX_CPU).fold(CpuSet::new(), |mut all, cpu| {
        all.set(cpu);
        all
    });
    let _ = sched_setaffinity(None, &everything);
    let Ok(all) = sched_getaffinity(None) else { return };
    let Some(cpu) = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).nth(place) else {
        let _ = sched_setaffinity(None, &allowed);
        return;
    };
    let mut one = CpuSet::new();
    one.set(cpu);
    let _ = sched_setaffinity(None, &one);
}
