//! What the benches of the gates rest on: their policies, and runs that are given up when they are hopeless.

use std::path::Path;
use std::sync::Arc;

use poolwright::policy::{Policy, from_text};
use poolwright::simulate::Trace;
use poolwright::simulate::replay::{
    Contestant, GiveUp, Hardware, Lengths, Outcome, Play, Recording, RunOptions, Traffic, kind_named, run,
};

fn policy(name: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gates/policies").join(name);
    from_text(name, &std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn policies_of_the_gates_are_right() {
    let classes = |name: &str| policy(name).classes.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    for name in ["conversation.yaml", "clients.yaml", "small.yaml"] {
        assert_eq!(classes(name), ["chat"], "{name}");
    }
    assert_eq!(classes("code.yaml"), ["code"]);
    let (shared, apart) = (policy("shared.yaml"), policy("apart.yaml"));
    // the same promises, one model and three
    assert_eq!(shared.classes, apart.classes);
    assert_eq!((shared.models.len(), apart.models.len()), (1, 3));
    let prices = |policy: &Policy| policy.accelerators.iter().map(|a| a.price_per_hour).collect::<Vec<_>>();
    assert_eq!(prices(&shared), prices(&apart));
}

/// KEDA with a threshold far above what a replica sustains, for 20 minutes.
fn overloaded(give_up: Option<GiveUp>) -> Outcome {
    let policy = policy("conversation.yaml");
    let rates = (0..20).map(|n| format!("{n},1200\n")).collect::<String>();
    let recording = Recording::parse("rates", format!("minute,chat\n{rates}").as_bytes(), None).unwrap();
    let lengths = Lengths::Drawn(Arc::new(Trace::conversation().unwrap()));
    let play = Play::whole(Arc::new(recording), 0, lengths);
    let traffic = Traffic::new(vec![play], &policy, 0.0).unwrap();
    let truth = traffic.truth(&policy, 1).unwrap();
    let kind = kind_named("keda-rate").unwrap();
    let contestant = Contestant { kind, hardware: Hardware { shares: vec![(0, 1.0)] }, target: 5.0 };
    let options = RunOptions { give_up, ..RunOptions::default() };
    run(&policy, traffic.requests(&policy, 1), &truth, traffic.seconds(), &contestant, &options)
}

#[test]
fn a_hopeless_run_is_given_up_and_all_that_was_inside_is_late() {
    let (whole, cut) = (overloaded(None), overloaded(Some(GiveUp { late: 1000, cost: f64::INFINITY })));
    let late = |o: &Outcome| o.classes[0].late.values().sum::<u64>();
    assert_eq!(whole.seconds, 1200.0);
    assert!(cut.seconds < 1200.0 && cut.cost < whole.cost, "{} s, {}", cut.seconds, cut.cost);
    for outcome in [&whole, &cut] {
        let class = &outcome.classes[0];
        assert_eq!(class.arrived, class.met + late(outcome));
    }
    assert!(late(&cut) > 1000 && late(&cut) <= late(&whole), "{} {}", late(&cut), late(&whole));
    let dear = overloaded(Some(GiveUp { late: u64::MAX, cost: 0.5 * whole.cost }));
    assert!((0.5 * whole.cost..whole.cost).contains(&dear.cost) && dear.seconds < 1200.0, "{}", dear.cost);
    // what is within both is played to its end
    assert_eq!(overloaded(Some(GiveUp { late: late(&whole), cost: 1.01 * whole.cost })), whole);
}
