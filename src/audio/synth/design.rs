//! One individual machine, drawn from its seed: what it is built of and where its microphone hangs.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Kind;
use super::parts::{Microphone, Room, rng};

/// A band of flow noise.
#[derive(Debug, Clone)]
pub struct FlowBand {
    pub hz: f64,
    pub q: f64,
    /// Root mean square.
    pub level: f64,
}

/// What a seed decides. Levels are root mean squares; all of a healthy machine's together make 1.
#[derive(Debug, Clone)]
pub struct Design {
    /// Nominal speed, turns a second.
    pub shaft_hz: f64,
    /// Blades of the wheel, vanes of the impeller.
    pub blades: usize,
    /// Amplitudes of the shaft's orders 1, 2, ...
    pub shaft_orders: Vec<f64>,
    /// Amplitudes of the blade-pass orders 1, 2, ...
    pub blade_orders: Vec<f64>,
    /// Amplitudes of the motor's hum at 2, 4 and 6 times the mains.
    pub hum_orders: Vec<f64>,
    pub mains_hz: f64,
    pub flow: Vec<FlowBand>,
    /// Passes of the balls over the outer race in one turn of the shaft.
    pub outer_race_order: f64,
    /// Amplitudes of the healthy bearing's faint tones.
    pub bearing_orders: Vec<f64>,
    /// Where the bearing's housing rings, Hz.
    pub housing_hz: [f64; 2],
    /// Where a loose cover rings, Hz.
    pub cover_hz: [f64; 3],
    /// Where a rubbing contact sounds, Hz.
    pub rub_hz: [f64; 2],
    /// Speed lost from no load to full load, as a share.
    pub slip: f64,
    pub room: Room,
    pub microphone: Microphone,
    /// The machine over the background, dB.
    pub snr_db: f64,
    /// Level of the healthy machine at the microphone, dB of full scale.
    pub level_dbfs: f64,
}

/// What a kind has in common.
struct Family {
    shaft_hz: (f64, f64),
    blades: (usize, usize),
    /// Where its flow bands lie, Hz, and how sharp they are.
    flow_hz: &'static [f64],
    flow_q: (f64, f64),
    /// Fall of the flow noise from band to band, dB.
    flow_tilt_db: f64,
    /// Shares of the power: flow, blade pass, shaft, hum, bearing.
    shares: [f64; 5],
}

fn family(kind: Kind) -> Family {
    match kind {
        Kind::Fan => Family {
            shaft_hz: (16.0, 29.0),
            blades: (5, 9),
            flow_hz: &[160.0, 420.0, 1100.0, 2800.0],
            flow_q: (0.6, 1.6),
            flow_tilt_db: 5.0,
            shares: [0.70, 0.14, 0.05, 0.08, 0.03],
        },
        Kind::Blower => Family {
            shaft_hz: (44.0, 59.0),
            blades: (8, 12),
            flow_hz: &[350.0, 900.0, 2100.0, 4300.0],
            flow_q: (0.7, 2.0),
            flow_tilt_db: 3.0,
            shares: [0.55, 0.28, 0.04, 0.08, 0.05],
        },
        Kind::Pump => Family {
            shaft_hz: (23.5, 24.8),
            blades: (5, 7),
            flow_hz: &[280.0, 640.0, 1300.0, 2600.0, 4800.0],
            flow_q: (3.0, 9.0),
            flow_tilt_db: 3.5,
            shares: [0.38, 0.25, 0.13, 0.14, 0.10],
        },
    }
}

impl Design {
    /// Draws the machine of this kind and seed.
    pub fn draw(kind: Kind, seed: u64) -> Design {
        let rng = &mut rng(seed, kind as u64);
        let family = family(kind);
        let shares = family.shares.map(|share| share * rng.random_range(0.5..1.5));
        let total: f64 = shares.iter().sum();
        let [flow, blade, shaft, hum, bearing] = shares.map(|share| (share / total).sqrt());
        // Of the pumps, every other one runs at two poles' speed.
        let poles = if kind == Kind::Pump && rng.random::<bool>() { 2.0 } else { 1.0 };
        let balls = f64::from(rng.random_range(7..=10_u8));
        Design {
            shaft_hz: poles * rng.random_range(family.shaft_hz.0..family.shaft_hz.1),
            blades: rng.random_range(family.blades.0..=family.blades.1),
            shaft_orders: orders(rng, 5, 5.0, shaft),
            blade_orders: orders(rng, 5, 6.0, blade),
            hum_orders: orders(rng, 3, 6.0, hum),
            mains_hz: 50.0,
            flow: flow_bands(rng, &family, flow),
            // Ball-pass frequency of the outer race: n/2 * (1 - d/D) turns; d/D is 0.18 to 0.28.
            outer_race_order: balls / 2.0 * (1.0 - rng.random_range(0.18..0.28)),
            bearing_orders: orders(rng, 4, 2.0, bearing),
            housing_hz: [rng.random_range(2300.0..3600.0), rng.random_range(4600.0..6800.0)],
            cover_hz: [
                rng.random_range(260.0..420.0),
                rng.random_range(700.0..1300.0),
                rng.random_range(1800.0..3000.0),
            ],
            rub_hz: [rng.random_range(1600.0..2400.0), rng.random_range(3400.0..5600.0)],
            slip: rng.random_range(0.008..0.02),
            room: Room::new(rng),
            microphone: Microphone::new(rng),
            snr_db: rng.random_range(12.0..22.0),
            level_dbfs: rng.random_range(-25.0..-21.0),
        }
    }
}

/// Amplitudes of `count` orders that fall by about `tilt_db` each, together of this root mean square.
fn orders(rng: &mut ChaCha8Rng, count: usize, tilt_db: f64, level: f64) -> Vec<f64> {
    let raw: Vec<f64> =
        (0..count).map(|n| decibels(-tilt_db * n as f64 + rng.random_range(-4.0..4.0)) * 2f64.sqrt()).collect();
    let power: f64 = raw.iter().map(|amplitude| amplitude * amplitude / 2.0).sum();
    raw.iter().map(|amplitude| amplitude * level / power.sqrt()).collect()
}

fn flow_bands(rng: &mut ChaCha8Rng, family: &Family, level: f64) -> Vec<FlowBand> {
    let mut bands: Vec<FlowBand> = family
        .flow_hz
        .iter()
        .enumerate()
        .map(|(n, hz)| FlowBand {
            hz: hz * rng.random_range(0.75..1.3),
            q: rng.random_range(family.flow_q.0..family.flow_q.1),
            level: decibels(-family.flow_tilt_db * n as f64 + rng.random_range(-2.5..2.5)),
        })
        .collect();
    let power: f64 = bands.iter().map(|band| band.level * band.level).sum();
    for band in &mut bands {
        band.level *= level / power.sqrt();
    }
    bands
}

/// An amplitude from its level in dB.
pub fn decibels(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_make_different_machines_of_one_kind() {
        let (a, b) = (Design::draw(Kind::Fan, 1), Design::draw(Kind::Fan, 2));
        assert!((a.shaft_hz - b.shaft_hz).abs() > 0.01);
        assert!((a.flow[0].hz - b.flow[0].hz).abs() > 0.1);
        for (kind, seed) in [(Kind::Fan, 3), (Kind::Blower, 4), (Kind::Pump, 5)] {
            let design = Design::draw(kind, seed);
            let tones = [&design.shaft_orders, &design.blade_orders, &design.hum_orders, &design.bearing_orders];
            let tones: f64 = tones.iter().flat_map(|orders| orders.iter()).map(|a| a * a / 2.0).sum();
            let flow: f64 = design.flow.iter().map(|band| band.level * band.level).sum();
            assert!((tones + flow - 1.0).abs() < 1e-9, "{kind}: {}", tones + flow);
        }
    }
}
