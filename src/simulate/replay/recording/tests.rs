use std::io::Write;

use super::*;

fn parse(text: &str, column: Option<&str>) -> Result<Recording, TraceError> {
    Recording::parse("t.csv", text.as_bytes(), column)
}

fn refusal(text: &str, column: Option<&str>) -> String {
    parse(text, column).unwrap_err().to_string()
}

fn rates(recording: Recording) -> RateTrace {
    let Recording::Rates(rates) = recording else { panic!("{recording:?}") };
    rates
}

fn shipped(name: &str, column: Option<&str>) -> Recording {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/traces").join(name);
    Recording::read(&path, column).unwrap()
}

fn list(text: &str) -> RequestTrace {
    let Recording::Requests(list) = parse(text, None).unwrap() else { panic!() };
    list
}

#[test]
fn request_lists_of_both_layouts_read_the_same() {
    let seconds = list("t_s,input_tokens,output_tokens\n0,10,1\n1.5,20,2\n");
    let milliseconds = list("t_ms,input_tokens,output_tokens\n0,10,1\n1500,20,2\n");
    assert_eq!(seconds.trace().rows(), milliseconds.trace().rows());
    assert_eq!((seconds.prefix_hit_share(), seconds.quantum_seconds()), (None, 0.0));
}

#[test]
fn leading_blocks_seen_before_are_hits() {
    // second: both blocks known; third: its first block is new, so that the known one behind it saves nothing
    let text = "t_ms,input_tokens,output_tokens,hash_ids\n0,1024,1,0 1\n5,1024,1,0 1\n9,1024,1,7 1\n9,2048,1,0 1 8 9\n";
    assert_eq!(list(text).prefix_hit_share(), Some((0.0 + 1.0 + 0.0 + 0.5) / 4.0));
}

#[test]
fn a_coarse_clock_is_told_from_the_times() {
    let coarse = "t_ms,input_tokens,output_tokens\n0,1,1\n0,1,1\n3000,1,1\n3000,1,1\n2998,1,1\n";
    assert_eq!(refusal(coarse, None), "t.csv:6: t_ms goes back from 3000 to 2998, expected ascending times");
    let even = "t_ms,input_tokens,output_tokens\n0,1,1\n0,1,1\n0,1,1\n3000,1,1\n3000,1,1\n5997,1,1\n5997,1,1\n";
    assert_eq!(list(even).quantum_seconds(), 3.0);
    let fine = "t_ms,input_tokens,output_tokens\n0,1,1\n0,1,1\n0,1,1\n3000,1,1\n3000,1,1\n3200,1,1\n3200,1,1\n";
    assert_eq!(list(fine).quantum_seconds(), 0.0);
}

#[test]
fn minutes_become_rates_of_the_chosen_column() {
    let text = "minute,a,b\n3,60,6\n4,120,0\n";
    let b = rates(parse(text, Some("b")).unwrap());
    assert_eq!(b.column(), Some("b"));
    assert_eq!(b.steps().iter().map(|s| (s.at_seconds, s.rate)).collect::<Vec<_>>(), [(180.0, 0.1), (240.0, 0.0)]);
    assert_eq!(b.end_seconds, 300.0);
    assert_eq!(rates(parse("minute,a\n0,60\n", None).unwrap()).steps()[0].rate, 1.0);
    assert_eq!(refusal(text, None), "t.csv:1: no column is chosen, expected one of `a`, `b`");
    assert_eq!(refusal(text, Some("c")), "t.csv:1: there is no column `c`, expected one of `a`, `b`");
}

#[test]
fn an_envelope_becomes_minutes_with_noise() {
    let text = "minute,rpm_mid,rpm_lo,rpm_hi\n2,600,600,600\n4,600,464.8,735.2\n6,1200,600,1800\n";
    let trace = rates(parse(text, None).unwrap());
    assert_eq!((trace.steps()[0].at_seconds, trace.end_seconds, trace.steps().len()), (0.0, 480.0, 8));
    let rate = |minute: usize| trace.steps()[minute].rate * 60.0;
    assert!((rate(0) - 600.0).abs() < 1e-9 && (rate(7) - 1200.0).abs() < 1e-9);
    assert!((rate(4) - 750.0).abs() < 1e-9, "{}", rate(4));
    // range 270.4 = 2.704 x 100; a Poisson count of mean 600 has a part of that variance
    let at_four = (10_000.0_f64 - 600.0).sqrt();
    assert!((trace.steps()[3].sigma * 60.0 - 0.75 * at_four).abs() < 1e-9);
    assert_eq!(trace.steps()[0].sigma, 0.0);
}

#[test]
fn rates_hold_until_the_next_row() {
    let trace = rates(parse("t_s,rate_rps\n10,1\n20,3\n50,0\n", None).unwrap());
    assert_eq!(trace.end_seconds, 80.0);
    assert_eq!(trace.requests(), 10.0 + 90.0);
}

#[test]
fn one_workload_of_several_is_chosen() {
    let head = "workload,t_s,rate_rps,active_clients,top_client_rps,client_cv_weighted\n";
    let text = format!("{head}a,0,1,2,1,2.5\na,600,0,0,0,\nb,0,5,2,1,2\nb,600,6,2,1,2\n");
    let b = rates(parse(&text, Some("b")).unwrap());
    assert_eq!((b.column(), b.requests(), b.end_seconds), (Some("b"), 6600.0, 1200.0));
    assert_eq!(refusal(&text, None), "t.csv:1: no workload is chosen, expected one of `a`, `b`");
    assert_eq!(refusal(&text, Some("x")), "t.csv:1: there is no workload `x`, expected one of `a`, `b`");
    assert_eq!(
        refusal(&format!("{head}a,0,1,1,1,1\na,600,1,1,1,1\na,1800,1,1,1,1\n"), None),
        "t.csv:4: t_s of workload a goes from 600 to 1800, expected 1200: no window missing"
    );
    assert_eq!(refusal(&format!("{head}a,0,1,1,1,1\n"), None), NO_TWO);
}

const NO_TWO: &str = "t.csv: holds too few rows below its header, expected at least 2";

#[test]
fn clients_keep_their_windows_apart() {
    let text = "client,t_s,rate_rps,cv\nx,600,1,2\ny,0,0.5,1\nx,1800,3,0.5\n";
    let recording = parse(text, None).unwrap();
    assert_eq!((recording.begin_seconds(), recording.end_seconds()), (0.0, 2400.0));
    assert_eq!(recording.mean_rate(), 4.5 * 600.0 / 2400.0);
    let Recording::Clients(trace) = recording else { panic!() };
    assert_eq!(trace.clients()[0].windows[1], ClientWindow { at_seconds: 1800.0, rate: 3.0, cv: 0.5 });
}

#[test]
fn wrong_rows_are_refused_with_line_and_what_would_be_right() {
    for (text, message) in [
        ("t_ms,input_tokens,output_tokens\n", "t.csv: holds no requests"),
        (
            "t_ms,input_tokens,output_tokens\n-1,1,1\n",
            "t.csv:2: t_ms is `-1`, expected a number from 0 to 3200000000000",
        ),
        (
            "t_ms,input_tokens,output_tokens\n0,0,1\n",
            "t.csv:2: input_tokens is `0`, expected a whole number from 1 to 10000000",
        ),
        (
            "t_ms,input_tokens,output_tokens\n0,1\n",
            "t.csv:2: has 2 fields, expected 3: t_ms,input_tokens,output_tokens",
        ),
        (
            "t_ms,input_tokens,output_tokens,hash_ids\n0,1,1,4 x\n",
            "t.csv:2: hash_ids holds `x`, expected whole numbers from 0 with spaces between them",
        ),
        ("minute,a\n0,1\n2,1\n", "t.csv:3: minute goes from 0 to 2, expected 1: no minute missing"),
        ("minute,a\n1,1\n0,1\n", "t.csv:3: minute goes from 1 to 0, expected 2: no minute missing"),
        ("minute,a\n0,NaN\n", "t.csv:2: a is `NaN`, expected a number from 0 to 1000000000"),
        ("minute,a\n0.5,1\n", "t.csv:2: minute is `0.5`, expected a whole number from 0 to 5256000"),
        ("minute,a\n", "t.csv: holds too few rows below its header, expected at least 1"),
        ("minute,a,a\n0,1,1\n", "t.csv:1: two columns are named `a`, expected different names"),
        (
            "minute,rpm_mid,rpm_lo,rpm_hi\n0,1,1,1\n7,1,1,1\n7,1,1,1\n",
            "t.csv:4: minute goes from 7 to 7, expected more than 7 and at most 10.50 later",
        ),
        (
            "minute,rpm_mid,rpm_lo,rpm_hi\n0,1,1,1\n7,1,1,1\n21,1,1,1\n",
            "t.csv:4: minute goes from 7 to 21, expected more than 7 and at most 10.50 later",
        ),
        (
            "minute,rpm_mid,rpm_lo,rpm_hi\n0,1,2,3\n",
            "t.csv:2: rpm_mid is 1, expected a number from rpm_lo 2 to rpm_hi 3",
        ),
        ("minute,rpm_mid,rpm_lo,rpm_hi\n0,1,1,1\n", NO_TWO),
        ("t_s,rate_rps\n0,1\n", NO_TWO),
        ("t_s,rate_rps\n5,1\n5,1\n", "t.csv:3: t_s goes from 5 to 5, expected ascending times, each once"),
        ("t_s,rate_rps\n5,inf\n", "t.csv:2: rate_rps is `inf`, expected a number from 0 to 1000000000"),
        ("client,t_s,rate_rps,cv\n", "t.csv: holds too few rows below its header, expected at least 1"),
        ("client,t_s,rate_rps,cv\n,0,1,1\n", "t.csv:2: client is ``, expected the name of a client"),
        (
            "client,t_s,rate_rps,cv\na,30,1,1\n",
            "t.csv:2: t_s is `30`, expected the begin of a window, a multiple of 600",
        ),
        ("client,t_s,rate_rps,cv\na,0,1,0\n", "t.csv:2: cv is `0`, expected a number from 0.01 to 1000"),
        (
            "client,t_s,rate_rps,cv\na,600,1,1\nb,0,1,1\na,600,1,1\n",
            "t.csv:4: t_s of client a goes from 600 to 600, expected ascending times, each once",
        ),
    ] {
        assert_eq!(refusal(text, None), message, "{text}");
    }
}

#[test]
fn unknown_layouts_and_needless_columns_are_refused() {
    assert_eq!(refusal("time,n\n1,2\n", None), format!("t.csv:1: columns are `time,n`, expected one of {LAYOUTS}"));
    assert_eq!(refusal("", None), format!("t.csv:1: columns are ``, expected one of {LAYOUTS}"));
    assert_eq!(
        refusal("t_s,rate_rps\n0,1\n", Some("a")),
        "t.csv:1: column `a` is chosen, but this layout holds nothing to choose from"
    );
    let binary = Recording::parse("t.csv", b"\xff\xfe,\x80\n", None).unwrap_err().to_string();
    assert_eq!(binary, "t.csv:1: the header is no UTF-8 text, expected CSV or gzip of it");
    let row = Recording::parse("t.csv", b"minute,a\n0,\xff\n", None).unwrap_err().to_string();
    assert_eq!(row, "t.csv:2: is no UTF-8 text, expected CSV");
}

#[test]
fn gzip_is_read_whole_or_refused_where_it_ends() {
    let text: String = "minute,a\n"
        .chars()
        .chain((0..5000).flat_map(|m| format!("{m},{}\n", m * 37 % 991).chars().collect::<Vec<_>>()))
        .collect();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let bytes = gz.finish().unwrap();
    assert_eq!(rates(Recording::parse("t.gz", &bytes, None).unwrap()).steps().len(), 5000);
    let cut = Recording::parse("t.gz", &bytes[..bytes.len() - 5], None).unwrap_err().to_string();
    assert!(cut.starts_with("t.gz:5002: the gzip data is cut or damaged here ("), "{cut}");
    assert!(cut.ends_with("), expected a whole file"), "{cut}");
    assert!(matches!(Recording::read(Path::new("no/such.csv"), None), Err(TraceError::Read { .. })));
}

#[test]
fn the_shipped_recordings_hold_what_their_readme_says() {
    for (name, requests) in [("code", 16_803_695.0), ("conv", 27_303_999.0)] {
        let week = shipped(&format!("azure2024_{name}_week_rpm_digitised.csv.gz"), None);
        assert_eq!((week.begin_seconds(), week.end_seconds()), (0.0, 604_800.0));
        let found = week.mean_rate() * 604_800.0;
        assert!((found / requests - 1.0).abs() < 0.002, "{name}: {found}");
    }
    let fortnight = shipped("servegen_1min_renewal_synth.csv.gz", Some("m_large"));
    assert_eq!(fortnight.end_seconds(), 1_209_600.0);
    assert!((fortnight.mean_rate() - 10.0).abs() < 0.1);
    let clients = shipped("servegen_m-large_top12_clients_10min.csv.gz", None);
    assert!((clients.mean_rate() - 195.844).abs() < 0.001);
    assert!(matches!(clients, Recording::Clients(c) if c.clients().len() == 13));
}
