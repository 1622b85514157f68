use rand::SeedableRng;

use super::*;

fn spec(kv_tokens: u64) -> EngineSpec {
    EngineSpec {
        parameters: Parameters::uniform(0.010, 1e-4, 1e-5),
        limits: Limits { max_num_seqs: 8, max_num_batched_tokens: 100 },
        kv_tokens,
        noise: 0.0,
        prefix_hit_ratio: 0.0,
    }
}

fn engine(spec: EngineSpec) -> Engine {
    Engine::new(spec, ChaCha8Rng::seed_from_u64(1), 0.0)
}

fn request(id: u64, at: f64, input_tokens: u32, output_tokens: u32) -> Request {
    Request { id, model: 0, class: 0, priority: 0, arrival_seconds: at, input_tokens, output_tokens }
}

/// Submit at the requests' own times, run until all is done.
fn run(engine: &mut Engine, requests: &[Request]) -> Vec<Completion> {
    for r in requests {
        engine.advance(r.arrival_seconds);
        engine.submit(*r, r.arrival_seconds);
    }
    engine.advance(1e6);
    let mut done = engine.take_completions();
    done.sort_by_key(|c| c.request.id);
    done
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn one_request_takes_what_the_formula_says() {
    let mut engine = engine(spec(1000));
    let done = run(&mut engine, &[request(0, 2.0, 250, 3)]);
    // three chunks of 100, 100 and 50 tokens that read 100, 200 and 250 tokens
    let ttft = 0.021 + 0.022 + 0.0175;
    // two decode steps that read 251 and 252 tokens
    let itl = (0.01261 + 0.01262) / 2.0;
    assert!(near(done[0].ttft_seconds.unwrap(), ttft), "{done:?}");
    assert!(near(done[0].itl_seconds.unwrap(), itl), "{done:?}");
    assert!(near(done[0].finish_seconds, 2.0 + ttft + 2.0 * itl));
    assert!(near(engine.idle_since_seconds(), done[0].finish_seconds));
}

#[test]
fn ttft_counts_from_the_gateway_and_one_token_has_no_itl() {
    let mut engine = engine(spec(1000));
    engine.advance(5.0);
    engine.submit(request(0, 2.0, 100, 1), 5.0);
    engine.advance(10.0);
    let done = engine.take_completions();
    assert!(near(done[0].ttft_seconds.unwrap(), 3.0 + 0.021));
    assert_eq!(done[0].itl_seconds, None);
    assert!(near(engine.meters().tally(Meter::Ttft).sum, 0.021), "the server's page knows only its own part");
    assert_eq!(engine.meters().tally(Meter::Tpot).count, 1);
}

#[test]
fn decodes_come_first_and_prompts_share_the_rest_of_the_budget() {
    let mut engine = engine(spec(1000));
    // the second prompt of 150 tokens gets 99 tokens beside the first request's decode, then 51
    let done = run(&mut engine, &[request(0, 0.0, 100, 3), request(1, 0.0, 150, 1)]);
    let first = 0.021;
    let shared = 0.010 + 100.0 * 1e-4 + (101.0 + 99.0) * 1e-5;
    let last = 0.010 + 52.0 * 1e-4 + (102.0 + 150.0) * 1e-5;
    assert!(near(done[0].ttft_seconds.unwrap(), first));
    assert!(near(done[0].itl_seconds.unwrap(), (shared + last) / 2.0), "{done:?}");
    assert!(near(done[1].ttft_seconds.unwrap(), first + shared + last));
}

#[test]
fn a_higher_priority_overtakes_in_the_queue_only() {
    let mut small = spec(1000);
    small.limits.max_num_seqs = 1;
    let mut engine = engine(small);
    let urgent = Request { priority: 10, ..request(3, 0.002, 50, 2) };
    let done = run(&mut engine, &[request(0, 0.0, 50, 2), request(1, 0.0, 50, 2), request(2, 0.001, 50, 2), urgent]);
    let order = {
        let mut ids: Vec<_> = done.iter().map(|c| (c.finish_seconds, c.request.id)).collect();
        ids.sort_by(|a, b| a.0.total_cmp(&b.0));
        ids.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    assert_eq!(order, vec![0, 3, 1, 2]);
}

#[test]
fn when_memory_runs_out_the_latest_is_computed_again() {
    let mut engine = engine(spec(100));
    let done = run(&mut engine, &[request(0, 0.0, 40, 30), request(1, 0.0, 40, 30)]);
    assert_eq!(done.len(), 2);
    assert_eq!(engine.meters().preemptions, 1);
    assert_eq!(engine.meters().generation_tokens, 60);
    assert_eq!(engine.meters().prompt_tokens, 80);
    assert!(done[0].finish_seconds < done[1].finish_seconds, "the first one stays");
    let gaps = engine.meters().tally(Meter::Gap);
    assert_eq!(gaps.count, 58, "a gap between any two tokens, the one of the recomputation included");
    let itl = |c: &Completion| c.itl_seconds.unwrap() * 29.0;
    assert!(near(gaps.sum, itl(&done[0]) + itl(&done[1])));
}

#[test]
fn what_never_fits_fails_at_once() {
    let mut engine = engine(spec(100));
    let done = run(&mut engine, &[request(0, 0.0, 90, 12), request(1, 0.0, 90, 11)]);
    assert_eq!((done[0].ttft_seconds, done[0].finish_seconds), (None, 0.0));
    assert!(done[1].ttft_seconds.is_some());
    assert_eq!((engine.meters().failed, engine.meters().finished), (1, 1));
}

#[test]
fn memory_is_never_exceeded_and_nothing_is_lost() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut engine = engine(EngineSpec { noise: 0.1, ..spec(400) });
        let mut at = 0.0;
        let mut tokens = 0;
        for id in 0..200 {
            at += rng.random_range(0.0..0.08);
            let mut r = request(id, at, rng.random_range(1..200), rng.random_range(1..60));
            r.priority = rng.random_range(0..2);
            tokens += u64::from(r.output_tokens);
            engine.advance(at);
            engine.submit(r, at);
            assert!(engine.kv_tokens_used() <= 400 && engine.reserved <= 400, "seed {seed}");
            assert!(engine.running() <= 8);
            let finished = engine.meters().finished as usize;
            assert_eq!(finished + engine.outstanding(), id as usize + 1);
        }
        engine.advance(1e9);
        assert_eq!((engine.outstanding(), engine.kv_tokens_used(), engine.reserved), (0, 0, 0));
        assert_eq!(engine.meters().generation_tokens, tokens, "every token is made once");
        assert!(engine.meters().preemptions > 0, "seed {seed} must exercise preemption");
    }
}

#[test]
fn how_time_is_cut_changes_nothing() {
    let requests: Vec<Request> = (0..50).map(|i| request(i, i as f64 * 0.03, 60, 20)).collect();
    let noisy = EngineSpec { noise: 0.1, ..spec(1000) };
    let whole = run(&mut engine(noisy), &requests);
    let mut fine = engine(noisy);
    let mut at = 0.0;
    let mut steps_to = |fine: &mut Engine, to: f64| {
        while at + 0.004 < to {
            at += 0.004;
            fine.advance(at);
        }
        at = to;
        fine.advance(to);
    };
    for r in &requests {
        steps_to(&mut fine, r.arrival_seconds);
        fine.submit(*r, r.arrival_seconds);
    }
    steps_to(&mut fine, 30.0);
    let mut cut = fine.take_completions();
    cut.sort_by_key(|c| c.request.id);
    assert_eq!(whole, cut);
}

/// A crowd of requests at one engine whose memory and sequences are short.
fn crowd(seed: u64) -> (EngineSpec, Vec<Request>) {
    use rand::RngExt;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let limits = Limits { max_num_seqs: rng.random_range(1..12), max_num_batched_tokens: rng.random_range(16..200) };
    let spec = EngineSpec {
        parameters: Parameters::uniform(0.010, rng.random_range(1e-6..2e-4), rng.random_range(0.0..2e-5)),
        limits,
        kv_tokens: rng.random_range(400..4000),
        noise: 0.0,
        prefix_hit_ratio: if seed.is_multiple_of(3) { 0.4 } else { 0.0 },
    };
    let mut at = 0.0;
    let requests = (0..60)
        .map(|id| {
            at += rng.random_range(0.0..0.8);
            let (input, output) = (rng.random_range(1..300), rng.random_range(1..120));
            Request { priority: rng.random_range(0..2), ..request(id, at, input, output) }
        })
        .collect();
    (spec, requests)
}

#[test]
fn steps_of_many_iterations_end_as_single_iterations_do() {
    let mut preempted = 0;
    for seed in 0..300 {
        let (spec, requests) = crowd(seed);
        // noise too small to matter makes every iteration a step of its own
        let singly = run(&mut engine(EngineSpec { noise: 1e-13, ..spec }), &requests);
        let jumping = run(&mut engine(spec), &requests);
        assert_eq!(singly.len(), jumping.len());
        for (a, b) in singly.iter().zip(&jumping) {
            preempted += u64::from(b.preemptions > 0);
            assert_eq!(
                (a.request, a.preemptions, a.itl_seconds.is_some()),
                (b.request, b.preemptions, b.itl_seconds.is_some())
            );
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-7 * (1.0 + a.abs());
            assert!(close(a.finish_seconds, b.finish_seconds), "seed {seed}: {a:?} {b:?}");
            assert!(close(a.ttft_seconds.unwrap_or(0.0), b.ttft_seconds.unwrap_or(0.0)), "seed {seed}: {a:?} {b:?}");
        }
    }
    assert!(preempted > 100, "{preempted}");
}

#[test]
fn a_look_in_between_changes_nothing_and_counts_every_token() {
    for seed in 300..360 {
        let (spec, requests) = crowd(seed);
        let (mut singly, mut looked) = (engine(EngineSpec { noise: 1e-13, ..spec }), engine(spec));
        let mut requests = requests.iter().peekable();
        for look in 0..400 {
            let until = 0.1 * f64::from(look);
            while let Some(request) = requests.next_if(|r| r.arrival_seconds <= until) {
                for engine in [&mut singly, &mut looked] {
                    engine.advance(request.arrival_seconds);
                    engine.submit(*request, request.arrival_seconds);
                }
            }
            singly.advance(until);
            looked.catch_up(until);
            let of = |e: &Engine| (e.kv_tokens_used(), e.running(), e.waiting(), e.meters().generation_tokens);
            assert_eq!(of(&singly), of(&looked), "seed {seed} at {until}");
        }
    }
}

#[test]
fn a_prompt_in_the_prefix_cache_is_not_computed_again() {
    let fresh = run(&mut engine(spec(1000)), &[request(0, 0.0, 90, 2)]);
    let mut cached = engine(EngineSpec { prefix_hit_ratio: 0.5, ..spec(1000) });
    let done = run(&mut cached, &[request(0, 0.0, 90, 2)]);
    let spared = 45.0 * 1e-4;
    assert!(near(fresh[0].ttft_seconds.unwrap() - spared, done[0].ttft_seconds.unwrap()), "{fresh:?} {done:?}");
    assert_eq!((cached.meters().prefix_queries, cached.meters().prefix_hits), (90, 45));
}
