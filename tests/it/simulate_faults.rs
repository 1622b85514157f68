//! What goes wrong in a replay on purpose, and that our planner does not make it worse.

use serde_json::Value;

use crate::simulate_program::Folder;

const MINUTES: u32 = 40;

/// Minutes of the run with requests per minute; answers are long, so that few requests need several replicas.
fn folder(rate: impl Fn(u32) -> u32) -> Folder {
    let folder = Folder::new();
    let rows: String = (0..MINUTES).map(|minute| format!("{minute},{}\n", rate(minute))).collect();
    folder.write("rates.csv", &format!("minute,chat\n{rows}"));
    folder.write("lengths.csv", "t_s,input_tokens,output_tokens\n0,300,160\n1,900,320\n2,100,40\n");
    folder
}

/// A load for which both types are used: short answers, and three times as many.
fn mixed() -> Folder {
    let folder = folder(|_| 9_000);
    folder.write("lengths.csv", "t_s,input_tokens,output_tokens\n0,300,40\n1,900,80\n2,100,10\n");
    folder
}

/// Our run, with what goes wrong.
fn ours(folder: &Folder, faults: &[&str]) -> Value {
    let (code, out, err) = folder.played(&[&["--against", "none", "-o", "json"], faults].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["circumstances"].as_array().unwrap().len(), faults.len() / 2);
    told["ours"][0].clone()
}

/// Replicas of every pool (h100, l40s) at the end of every minute.
fn by_minute(run: &Value, what: &str) -> Vec<[u64; 2]> {
    let minute = |m: &Value| [0, 1].map(|pool| m[what][pool].as_u64().unwrap());
    run["minutes"].as_array().unwrap().iter().map(minute).collect()
}

fn attainment(run: &Value) -> f64 {
    run["classes"][0]["attainment"].as_f64().unwrap()
}

fn shrinks(wanted: &[[u64; 2]]) -> bool {
    wanted.windows(2).any(|pair| (0..2).any(|pool| pair[1][pool] < pair[0][pool]))
}

#[test]
fn nothing_shrinks_while_nothing_can_be_read() {
    let folder = folder(|minute| if minute < 14 { 4_000 } else { 1_000 });
    let quick = ["--set", "planner.scaleDownStarts=0"];
    let wanted = |faults: &[&str]| by_minute(&ours(&folder, &[&quick, faults].concat()), "wanted");
    // The load falls before it becomes dark: without the darkness the fleet shrinks.
    assert!(shrinks(&wanted(&[])[15..30]));
    let blind = wanted(&["--blind", "15m-30m"]);
    assert!(!shrinks(&blind[14..30]), "{blind:?}");
    assert!(shrinks(&blind[30..]), "afterwards it does: {blind:?}");
    let twice = wanted(&["--blind", "15m-20m", "--blind", "21m-30m"]);
    assert!(!shrinks(&twice[14..20]) && !shrinks(&twice[21..30]), "{twice:?}");
}

/// HPA leaves a target alone when its metrics are missing; so do the others here.
#[test]
fn others_are_left_alone_in_the_dark() {
    let folder = folder(|minute| if minute < 5 { 4_000 } else { 1_000 });
    let arguments = ["--against", "keda-rate,hpa-running", "--hardware", "small", "-o", "json"];
    let (code, out, _) = folder.played(&[&arguments[..], &["--targets", "0.8", "--blind", "15m-30m"]].concat());
    assert_eq!(code, Some(0));
    let told: Value = serde_json::from_str(&out).unwrap();
    for other in told["others"].as_array().unwrap() {
        let wanted = by_minute(&other["points"][0], "wanted");
        assert!(wanted[15..29].windows(2).all(|pair| pair[0] == pair[1]), "{}: {wanted:?}", other["rule"]);
    }
}

#[test]
fn a_restart_in_the_middle_takes_nothing_away_that_is_needed() {
    let folder = folder(|_| 3_000);
    let (plain, restarted) = (ours(&folder, &[]), ours(&folder, &["--restart-at", "20m"]));
    let (before, after) = (by_minute(&plain, "wanted"), by_minute(&restarted, "wanted"));
    assert_eq!(before[..19], after[..19]);
    // While what was forgotten is learnt again, no pool gets smaller.
    assert!(!shrinks(&after[19..26]), "{after:?}");
    let least = before[20..].iter().map(|pools| pools[1]).min().unwrap();
    assert!(after[20..].iter().all(|pools| pools[1] >= least), "{before:?} {after:?}");
    assert!(attainment(&restarted) > attainment(&plain) - 0.005);
}

#[test]
fn servers_that_do_not_answer_are_not_taken_for_idle() {
    let folder = folder(|_| 3_000);
    let (plain, silent) = (ours(&folder, &[]), ours(&folder, &["--silent", "0.3"]));
    // The load stays: a fleet that is cheaper than any with all data has shrunk for lack of them.
    let cheapest = |run: &Value| {
        let costs = run["minutes"].as_array().unwrap().iter().map(|m| m["cost_per_hour"].as_f64().unwrap());
        costs.fold(f64::INFINITY, f64::min)
    };
    assert!(cheapest(&silent) > 0.9 * cheapest(&plain), "{:?}", by_minute(&silent, "wanted"));
    assert!(attainment(&silent) > attainment(&plain) - 0.01);
}

/// With one accelerator left of a type that carries a part, the other type takes over.
#[test]
fn a_type_that_is_nearly_gone_is_replaced_by_another() {
    let folder = mixed();
    let lost = ours(&folder, &["--lose", "h100=1@10m-25m"]);
    let ready = by_minute(&lost, "ready");
    assert!(ready[10..25].iter().all(|pools| pools[0] <= 1), "{ready:?}");
    assert!(ready[20..25].iter().all(|pools| pools[1] >= 6), "{ready:?}");
    assert!(attainment(&lost) > 0.94, "{}", attainment(&lost));
}

/// All servers of one type die and no new ones start: the other type should carry the load after its start-up time.
#[test]
fn a_type_that_is_gone_is_replaced_by_another() {
    let folder = mixed();
    let late_in = |run: &Value, minutes: std::ops::Range<usize>| {
        let sum = |m: &Value, what: &str| m[what][0].as_f64().unwrap();
        let minutes = &run["minutes"].as_array().unwrap()[minutes];
        1.0 - minutes.iter().map(|m| sum(m, "met")).sum::<f64>()
            / minutes.iter().map(|m| sum(m, "arrived")).sum::<f64>()
    };
    for lose in ["h100=0@10m-30m", "l40s=0@10m-30m"] {
        let run = ours(&folder, &["--lose", lose]);
        // Two minutes to start, and as many to notice.
        assert!(late_in(&run, 15..30) < 0.05, "{lose}: {:?}", by_minute(&run, "ready"));
    }
}

#[test]
fn wrong_faults_are_refused_in_one_line() {
    let folder = folder(|_| 60);
    let refused = |flag: &str, value: &str, part: &str| {
        let (code, out, err) = folder.played(&["--against", "none", flag, value]);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{err}");
        assert!(err.contains(&format!("{flag} {value}: ")) && err.contains(part), "{err}");
    };
    refused("--blind", "10m", "expected FROM-TO");
    refused("--blind", "10m-5m", "after the beginning");
    refused("--blind", "2h-3h", "ends after 40m");
    refused("--silent", "1.5", "share");
    refused("--restart-at", "2h", "ends after 40m");
    refused("--lose", "h100@1m-2m", "expected TYPE=LEFT@FROM-TO");
    refused("--lose", "b200=1@1m-2m", "expected one of h100, l40s");
    refused("--lose", "h100=99@1m-2m", "from 0 to 20");
    refused("--deaths", "2000", "0 to 1000");
}
