//! `devices.list`: the microphones and how loud each channel is now.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Execute;
use crate::audio::meters::{Metered, Meters};
use crate::control::context::CommandContext;
use crate::control::error::CommandError;
use crate::control::outcome::{Job, Outcome};

/// The first answer waits so long for the devices to be looked for.
const LOOK: Duration = Duration::from_secs(3);

/// The microphones with the level of each channel. Those that no machine listens to are open as long as this is asked, and
/// some seconds longer.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DevicesList {}

impl Execute for DevicesList {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        if context.shared.meters.is_ready() {
            return Ok(Outcome::Answer(answer(&context.shared.meters)));
        }
        let shared = context.shared.clone();
        Ok(Outcome::Job(Job::new(move || {
            shared.meters.wait(LOOK);
            Ok(Outcome::Answer(answer(&shared.meters)))
        })))
    }
}

fn answer(meters: &Meters) -> Value {
    let rounded = |level: Option<f64>| level.map(|level| (level * 10.0).round() / 10.0);
    let devices = meters.list().into_iter().map(|device| {
        let Metered { device, name, channels, levels_dbfs, in_use_by, problem } = device;
        let levels: Vec<_> = levels_dbfs.into_iter().map(rounded).collect();
        json!({
            "name": name,
            "detail": device,
            "source": { "device": device },
            "channels": channels,
            "levels_dbfs": levels,
            "in_use_by": (!in_use_by.is_empty()).then(|| in_use_by.join(", ")),
            "problem": problem,
        })
    });
    json!({ "devices": devices.collect::<Vec<_>>() })
}
