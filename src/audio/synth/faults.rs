//! What a fault adds to a machine's sound, and how it changes the machine itself.

use rand::RngExt;

use super::design::Design;
use super::parts::{Band, LowPass, Noise, RATE, Ring, Rotor, rng};
use super::{CONTROL_S, Fault};

/// How a fault changes the machine's own parts, at one strength.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    pub speed: f64,
    /// Factor on the flow noise.
    pub flow: f64,
    /// Factor on where the flow's bands lie.
    pub flow_hz: f64,
    /// Factor on the blade-pass tones.
    pub blade: f64,
    /// Depth of the once-a-turn modulation of flow and blade-pass, 0..1.
    pub modulation: f64,
    /// Amplitudes added to the shaft's orders 1, 2, 3.
    pub shaft: [f64; 3],
}

impl Effect {
    const NONE: Effect =
        Effect { speed: 1.0, flow: 1.0, flow_hz: 1.0, blade: 1.0, modulation: 0.0, shaft: [0.0, 0.0, 0.0] };

    /// At a strength of 0..1.
    pub fn of(fault: Option<Fault>, strength: f64) -> Effect {
        let s = strength;
        match fault {
            // The contact brakes a little.
            Some(Fault::Rub) => Effect { speed: 1.0 - 0.006 * s, ..Effect::NONE },
            // Less air is moved: the motor runs lighter and faster, the flow tears off at the blades.
            Some(Fault::Blocked) => Effect {
                speed: 1.0 + 0.03 * s,
                flow: 1.0 - 0.55 * s,
                flow_hz: 1.0 + 0.3 * s,
                blade: 1.0 + 1.2 * s,
                ..Effect::NONE
            },
            // The force grows with the mass off centre; the frame answers at the turn and its multiples.
            Some(Fault::Unbalance) => {
                Effect { modulation: 0.6 * s, shaft: [1.3 * s, 0.5 * s, 0.25 * s], ..Effect::NONE }
            }
            Some(Fault::Cavitation) => Effect { blade: 1.0 - 0.35 * s, flow: 1.0 + 0.3 * s, ..Effect::NONE },
            Some(Fault::Loose) => Effect { shaft: [0.15 * s, 0.25 * s, 0.2 * s], ..Effect::NONE },
            Some(Fault::Bearing | Fault::Bursts) | None => Effect::NONE,
        }
    }
}

/// The sound that a fault adds.
#[derive(Debug, Clone)]
pub enum Voice {
    Rub {
        noise: Noise,
        bands: [Band; 2],
        centre: f64,
        width: f64,
        grip: f64,
    },
    Blocked {
        noise: Noise,
        rumble: [LowPass; 2],
        gain: f64,
        surge: Rotor,
        drift: f64,
    },
    Bearing {
        noise: Noise,
        rings: [Ring; 2],
        order: f64,
        due: f64,
    },
    Cavitation {
        noise: Noise,
        rings: [Ring; 2],
        hiss: Band,
        cloud: LowPass,
        cloud_gain: f64,
    },
    Loose {
        noise: Noise,
        rings: [Ring; 3],
        due: f64,
        echo: Option<(f64, f64)>,
    },
    Bursts {
        noise: Noise,
        bands: [Band; 2],
        envelope: f64,
        left_s: f64,
        pause_s: f64,
    },
    /// No sound: only [`Effect`].
    Silent,
}

impl Voice {
    /// `seed` is the machine's, `take` the recording's.
    pub fn new(fault: Option<Fault>, design: &Design, seed: u64, take: u64) -> Voice {
        let build = &mut rng(seed, 100);
        let noise = Noise::new(seed ^ take.wrapping_mul(0x9e37_79b9_7f4a_7c15), 101);
        match fault {
            Some(Fault::Rub) => Voice::Rub {
                noise,
                bands: design.rub_hz.map(|hz| Band::new(hz, 1.4)),
                centre: build.random(),
                width: build.random_range(0.16..0.3),
                grip: 1.0,
            },
            Some(Fault::Blocked) => {
                let rumble = [LowPass::new(90.0), LowPass::new(90.0)];
                // Two poles at 90 Hz: half the noise bandwidth of one.
                let gain = rumble[0].noise_gain() * 2f64.sqrt();
                Voice::Blocked { noise, rumble, gain, surge: Rotor::new(0.0), drift: 0.0 }
            }
            Some(Fault::Bearing) => Voice::Bearing {
                noise,
                rings: [Ring::new(design.housing_hz[0], 0.0016), Ring::new(design.housing_hz[1], 0.0008)],
                order: design.outer_race_order,
                due: 0.0,
            },
            Some(Fault::Cavitation) => {
                let cloud = LowPass::new(6.0);
                let cloud_gain = cloud.noise_gain();
                Voice::Cavitation {
                    noise,
                    rings: [Ring::new(3900.0, 0.0004), Ring::new(6100.0, 0.0003)],
                    hiss: Band::new(4600.0, 1.0),
                    cloud,
                    cloud_gain,
                }
            }
            Some(Fault::Loose) => Voice::Loose {
                noise,
                rings: [
                    Ring::new(design.cover_hz[0], 0.012),
                    Ring::new(design.cover_hz[1], 0.007),
                    Ring::new(design.cover_hz[2], 0.003),
                ],
                due: 0.0,
                echo: None,
            },
            Some(Fault::Bursts) => Voice::Bursts {
                noise,
                bands: [Band::new(900.0, 0.8), Band::new(3200.0, 0.8)],
                envelope: 0.0,
                left_s: 0.0,
                pause_s: 0.3,
            },
            Some(Fault::Unbalance) | None => Voice::Silent,
        }
    }

    /// One sample at this strength; a healthy machine's root mean square is 1. `turn` is the shaft's, 0..1; `blade`
    /// the blade-pass tone, -1..1; `shaft_hz` the present speed.
    pub fn next(&mut self, strength: f64, turn: f64, turned: bool, blade: f64, shaft_hz: f64) -> f64 {
        if strength <= 0.0 {
            return 0.0;
        }
        let step_s = 1.0 / RATE;
        match self {
            Voice::Rub { noise, bands, centre, width, grip } => {
                if turned {
                    *grip = 1.0 + 0.35 * noise.next().clamp(-2.0, 2.0);
                }
                let off = (turn - *centre + 1.5).fract() - 0.5;
                let contact = (1.0 - (off / *width).powi(2)).max(0.0);
                let white = noise.next();
                let scrape = 0.8 * bands[0].next(white) + 0.6 * bands[1].next(white);
                // A light contact sounds on a part of the turn, a heavy one grinds all the way round.
                strength.powf(1.5) * *grip * (2.2 * contact + 0.15) * scrape
            }
            Voice::Blocked { noise, rumble, gain, surge, drift } => {
                if surge.advance() {
                    *drift = 0.25 * noise.next();
                    surge.set_speed((2.6 + *drift).max(1.0));
                } else if surge.turn == 0.0 {
                    surge.set_speed(2.6);
                }
                let white = noise.next();
                let [first, second] = rumble;
                let low = *gain * second.next(first.next(white));
                1.3 * strength * low * (1.0 + 0.7 * surge.sin())
            }
            Voice::Bearing { noise, rings, order, due } => {
                *due -= *order * shaft_hz * step_s;
                let mut impact = 0.0;
                if *due <= 0.0 {
                    // The balls slip a little, so that the impacts do not fall on a strict grid.
                    *due += 1.0 + 0.012 * noise.next();
                    impact = 1.0 + 0.2 * noise.next();
                }
                let [housing, shell] = rings;
                5.0 * strength.powf(1.5) * (housing.next(impact) + 0.6 * shell.next(impact))
            }
            Voice::Cavitation { noise, rings, hiss, cloud, cloud_gain } => {
                // Bubbles come in clouds and collapse where the vane's pressure is low.
                let density = (1.0 + 0.5 * *cloud_gain * cloud.next(noise.next()) + 0.5 * blade).max(0.05);
                let rate_hz = 250.0 + 1400.0 * strength;
                let mut collapse = 0.0;
                if noise.uniform() < rate_hz * density * step_s {
                    collapse = -noise.uniform().max(1e-6).ln();
                }
                let [low, high] = rings;
                let crackle = low.next(collapse) + 0.8 * high.next(-collapse);
                strength * (1.6 * crackle + 0.45 * density * hiss.next(noise.next()))
            }
            Voice::Loose { noise, rings, due, echo } => {
                let impact = rattle(noise, due, echo, shaft_hz * step_s);
                let [low, middle, high] = rings;
                4.5 * strength * (low.next(impact) + 0.8 * middle.next(impact) + 0.5 * high.next(impact))
            }
            Voice::Bursts { noise, bands, envelope, left_s, pause_s } => {
                if *left_s > 0.0 {
                    *left_s -= step_s;
                } else {
                    *pause_s -= step_s;
                    if *pause_s <= 0.0 {
                        *left_s = 0.06 + 0.3 * noise.uniform();
                        *pause_s = 0.25 + 1.2 * noise.uniform();
                    }
                }
                let target = if *left_s > 0.0 { 1.0 } else { 0.0 };
                *envelope += (target - *envelope) * step_s / 0.012;
                let white = noise.next();
                2.4 * strength * *envelope * (0.7 * bands[0].next(white) + 0.7 * bands[1].next(white))
            }
            Voice::Silent => 0.0,
        }
    }
}

/// The impact of a loose cover after a step of so many turns of the shaft; `due` and the `echo`'s time are in turns too.
fn rattle(noise: &mut Noise, due: &mut f64, echo: &mut Option<(f64, f64)>, turns: f64) -> f64 {
    *due -= turns;
    let mut impact = 0.0;
    if *due <= 0.0 {
        // It is thrown up about once in two turns, by chance later, and bounces once.
        *due += 2.0 * (1.0 + 0.12 * noise.next()).max(0.4);
        if noise.uniform() < 0.8 {
            impact = 1.0 + 0.35 * noise.next().max(-2.0);
            *echo = Some((0.25 + 0.05 * noise.next(), 0.5 * impact));
        }
    }
    if let Some((left, height)) = echo {
        *left -= turns;
        if *left <= 0.0 {
            impact += *height;
            *echo = None;
        }
    }
    impact
}

/// Strength of a growing fault at a time.
pub fn strength_at(time_s: f64, after_s: f64, grow_s: f64, full: f64) -> f64 {
    let since = time_s - after_s;
    if since < 0.0 {
        0.0
    } else if since < grow_s {
        full * since / grow_s.max(CONTROL_S)
    } else {
        full
    }
}
