//! A simulated machine: a pure generator of its microphone's samples.

use super::design::{Design, decibels};
use super::faults::{Effect, Voice, strength_at};
use super::parts::{Band, LowPass, Microphone, Noise, RATE, Room, Rotor, Wander};
use super::{CONTROL_S, CONTROL_SAMPLES, Cycle, FaultPlan, Kind};

/// Samples that the gain is found on; their level is what a take of the machine will have within about 1 dB.
const CALIBRATION_SAMPLES: usize = 4 * super::RATE_HZ as usize;

/// One machine, running. The same arguments give the same samples, however they are asked for.
#[derive(Debug, Clone)]
pub struct SynthMachine {
    design: Design,
    fault: FaultPlan,
    cycle: Option<Cycle>,
    /// Speed of its shaft while it runs, as a share of the nominal one.
    shaft_speed: f64,
    voice: Voice,
    gain: f64,
    /// Samples made so far.
    sample: u64,
    state: State,
    flow: Vec<Band>,
    shaft: Rotor,
    blade: Rotor,
    hum: Rotor,
    bearing: Rotor,
    room: Room,
    microphone: Microphone,
    background: [LowPass; 2],
    flow_noise: Noise,
    background_noise: Noise,
    slow: Slow,
}

/// What changes slowly, set every [`CONTROL_SAMPLES`].
#[derive(Debug, Clone)]
struct State {
    shaft_hz: f64,
    strength: f64,
    effect: Effect,
    shaft_orders: Vec<f64>,
    blade_orders: Vec<f64>,
    hum_orders: Vec<f64>,
    bearing_orders: Vec<f64>,
    flow_levels: Vec<f64>,
    background: f64,
    /// Speed as a share of the nominal one: below `shaft_speed` while it starts and stops.
    running: f64,
}

/// The random walks behind the slow changes.
#[derive(Debug, Clone)]
struct Slow {
    noise: Noise,
    speed: Wander,
    tones: Wander,
    flow: Wander,
    background: Wander,
    load: f64,
    load_target: f64,
    load_left_s: f64,
}

impl Slow {
    fn new(seed: u64, take: u64) -> Self {
        let mut noise = Noise::new(seed ^ take.wrapping_mul(0x9e37_79b9_7f4a_7c15), 12);
        let mut wander = |time_s| Wander::new(time_s, CONTROL_S, &mut noise);
        let (speed, tones, flow, background) = (wander(3.0), wander(1.5), wander(0.8), wander(4.0));
        let load = 2.0 * noise.uniform() - 1.0;
        Slow { noise, speed, tones, flow, background, load, load_target: load, load_left_s: 8.0 }
    }

    /// Load, -1..1: a new one every 8 to 40 s, reached within seconds.
    fn next_load(&mut self) -> f64 {
        self.load_left_s -= CONTROL_S;
        if self.load_left_s <= 0.0 {
            self.load_left_s = 8.0 + 32.0 * self.noise.uniform();
            self.load_target = 2.0 * self.noise.uniform() - 1.0;
        }
        self.load += (self.load_target - self.load) * CONTROL_S / 1.5;
        self.load
    }
}

impl SynthMachine {
    /// The machine of this kind and `seed`, healthy, on its recording number `take`: another take is the same
    /// machine at another time.
    pub fn new(kind: Kind, seed: u64, take: u64) -> Self {
        let mut probe = SynthMachine::silent(Design::draw(kind, seed), seed, take ^ (1 << 63));
        probe.gain = 1.0;
        let power: f64 = (0..CALIBRATION_SAMPLES).map(|_| probe.sound().powi(2)).sum();
        let level = (power / CALIBRATION_SAMPLES as f64).sqrt().max(1e-9);
        let mut machine = SynthMachine::silent(probe.design, seed, take);
        machine.gain = decibels(machine.design.level_dbfs) / level;
        machine
    }

    /// With a fault that develops.
    ///
    /// `seed` and `take` are those of [`SynthMachine::new`].
    pub fn with_fault(kind: Kind, seed: u64, take: u64, fault: FaultPlan) -> Self {
        let mut machine = SynthMachine::new(kind, seed, take);
        machine.voice = Voice::new(fault.fault, &machine.design, seed, take);
        machine.fault = fault;
        machine
    }

    /// Lets it start and stop.
    pub fn with_cycle(mut self, cycle: Cycle) -> Self {
        self.cycle = Some(cycle);
        self
    }

    /// Lets its shaft turn slower or faster, as a share of its nominal speed: everything that it drives moves with it, but
    /// neither the background nor the microphone's gain.
    pub fn with_shaft_speed(mut self, share: f64) -> Self {
        self.shaft_speed = share;
        self.state.running = share;
        self
    }

    /// Sets the machine's level over the background, dB; default: drawn from the seed, 12 to 22.
    pub fn with_snr_db(mut self, snr_db: f64) -> Self {
        self.design.snr_db = snr_db;
        self
    }

    /// What the seed made of it.
    pub fn design(&self) -> &Design {
        &self.design
    }

    fn silent(design: Design, seed: u64, take: u64) -> Self {
        let of_take = seed ^ take.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slow = Slow::new(seed, take);
        let mut phase = || Rotor::new(slow.noise.uniform());
        let (shaft, blade, hum, bearing) = (phase(), phase(), phase(), phase());
        let state = State {
            shaft_hz: design.shaft_hz,
            strength: 0.0,
            effect: Effect::of(None, 0.0),
            shaft_orders: design.shaft_orders.clone(),
            blade_orders: design.blade_orders.clone(),
            hum_orders: design.hum_orders.clone(),
            bearing_orders: design.bearing_orders.clone(),
            flow_levels: design.flow.iter().map(|band| band.level).collect(),
            background: 0.0,
            running: 1.0,
        };
        SynthMachine {
            fault: FaultPlan::default(),
            cycle: None,
            shaft_speed: 1.0,
            voice: Voice::Silent,
            gain: 0.0,
            sample: 0,
            state,
            flow: design.flow.iter().map(|band| Band::new(band.hz, band.q)).collect(),
            shaft,
            blade,
            hum,
            bearing,
            room: design.room.clone(),
            microphone: design.microphone.clone(),
            background: [LowPass::new(110.0), LowPass::new(1400.0)],
            flow_noise: Noise::new(of_take, 10),
            background_noise: Noise::new(of_take, 11),
            slow,
            design,
        }
    }

    /// The next samples at [`super::RATE_HZ`], -1..1.
    pub fn fill(&mut self, samples: &mut [f32]) {
        for sample in samples {
            *sample = limit(self.sound() * self.gain) as f32;
        }
    }

    /// One sample at the microphone, before its gain.
    fn sound(&mut self) -> f64 {
        if self.sample.is_multiple_of(CONTROL_SAMPLES) {
            self.control();
        }
        self.sample += 1;
        let turned = self.shaft.advance();
        self.blade.advance();
        self.hum.advance();
        self.bearing.advance();
        let state = &self.state;
        let white = self.flow_noise.next();
        let flow: f64 =
            self.flow.iter_mut().zip(&state.flow_levels).map(|(band, level)| level * band.next(white)).sum();
        let per_turn = 1.0 + state.effect.modulation * self.shaft.sin();
        // Air noise comes off the blades, so it swells a little as each passes.
        let moved = per_turn * (flow * (1.0 + 0.25 * self.blade.sin()) + self.blade.tones(&state.blade_orders));
        let tones = self.shaft.tones(&state.shaft_orders)
            + self.hum.tones(&state.hum_orders)
            + self.bearing.tones(&state.bearing_orders);
        let strength = state.strength * state.running.powi(2);
        let fault = self.voice.next(strength, self.shaft.turn, turned, self.blade.sin(), state.shaft_hz);
        let hall = self.background_noise.next();
        let [rumble, murmur] = &mut self.background;
        let background = state.background * (4.0 * rumble.next(hall) + 1.6 * murmur.next(hall) + 0.12 * hall);
        self.microphone.next(self.room.next(moved + tones + fault) + background)
    }

    /// Sets what changes slowly.
    fn control(&mut self) {
        let time_s = self.sample as f64 / RATE;
        let (design, slow, state) = (&self.design, &mut self.slow, &mut self.state);
        state.strength = strength_at(time_s, self.fault.after_s, self.fault.grow_s, self.fault.strength);
        state.effect = Effect::of(self.fault.fault, state.strength);
        let powered = self.cycle.is_none_or(|cycle| cycle.is_running(time_s));
        if self.cycle.is_some() {
            let (target, time_s) = if powered { (self.shaft_speed, 1.2) } else { (0.0, 2.5) };
            state.running += (target - state.running) * CONTROL_S / time_s;
        }
        let load = slow.next_load();
        let speed = 1.0 - design.slip * (load + 1.0) / 2.0 + 0.0012 * slow.speed.next(&mut slow.noise);
        state.shaft_hz = design.shaft_hz * speed * state.effect.speed * state.running;
        self.shaft.set_speed(state.shaft_hz);
        self.blade.set_speed(state.shaft_hz * design.blades as f64);
        self.bearing.set_speed(state.shaft_hz * design.outer_race_order);
        self.hum.set_speed(2.0 * design.mains_hz);

        let tones = decibels(0.8 * slow.tones.next(&mut slow.noise)) * state.running.powi(2);
        let flow = decibels(0.6 * slow.flow.next(&mut slow.noise) + 1.2 * load) * state.running.powf(2.5);
        let blade = tones * decibels(0.8 * load) * state.effect.blade;
        let hum = if powered { decibels(1.0 * load) } else { 0.0 };
        scale(&mut state.shaft_orders, &design.shaft_orders, tones);
        for (amplitude, added) in state.shaft_orders.iter_mut().zip(state.effect.shaft) {
            *amplitude += added * 2f64.sqrt() * state.running.powi(2);
        }
        scale(&mut state.blade_orders, &design.blade_orders, blade);
        scale(&mut state.bearing_orders, &design.bearing_orders, tones);
        scale(&mut state.hum_orders, &design.hum_orders, hum);
        for ((level, band), filter) in state.flow_levels.iter_mut().zip(&design.flow).zip(&mut self.flow) {
            *level = band.level * flow * state.effect.flow;
            if state.effect.flow_hz != 1.0 {
                filter.tune(band.hz * state.effect.flow_hz, band.q);
            }
        }
        state.background = decibels(-design.snr_db + 1.0 * slow.background.next(&mut slow.noise));
    }
}

fn scale(to: &mut [f64], from: &[f64], factor: f64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from * factor;
    }
}

/// A preamplifier's soft limit: straight up to 0.7, never 1.
fn limit(sample: f64) -> f64 {
    const KNEE: f64 = 0.7;
    let size = sample.abs();
    if size <= KNEE {
        return sample;
    }
    let over = (size - KNEE) / (1.0 - KNEE);
    (KNEE + (1.0 - KNEE) * 0.97 * over / (1.0 + over)).copysign(sample)
}
