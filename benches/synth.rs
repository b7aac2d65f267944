//! How fast simulated machines are made, on one thread, beside real time: `cargo bench --bench synth`.

use std::time::Instant;

use auscult::audio::synth::{Fault, FaultPlan, Kind, RATE_HZ, SynthMachine};

/// Of each machine.
const SECONDS: usize = 120;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{:<8} {:<12} times real time", "machine", "fault");
    let mut chunk = vec![0.0; RATE_HZ as usize];
    for kind in Kind::ALL {
        for fault in std::iter::once(None).chain(kind.faults().map(Some)) {
            let plan = fault.map_or(FaultPlan::default(), |fault| FaultPlan::now(fault, 0.8));
            let begun = Instant::now();
            let mut machine = SynthMachine::with_fault(kind, 1, 0, plan);
            for _ in 0..SECONDS {
                machine.fill(&mut chunk);
            }
            let times = SECONDS as f64 / begun.elapsed().as_secs_f64();
            println!("{:<8} {:<12} {times:.0}", kind.name(), fault.map_or("healthy", Fault::name));
        }
    }
}
