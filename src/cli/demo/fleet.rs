//! The demo's plant: two agents with four simulated machines each, of which one falls ill. The agents are the real
//! ones, as `auscult run` runs them, in threads of this process.

use std::path::Path;
use std::thread::JoinHandle;

use serde_json::json;
use tokio::sync::watch;

use crate::agent::{self, AgentError, End};
use crate::audio::synth::Fault;
use crate::config::web::Listen;
use crate::config::{AgentConfig, BundleConfig, Config, MachineConfig, MqttConfig, WebConfig};
use crate::mqtt::address::BrokerUrl;

/// Agents, their machines, and what each machine is.
pub const PLANT: [(&str, [(&str, &str); 4]); 2] = [
    ("hall-1", [("fan-a", "fan"), ("fan-b", "fan"), ("blower-a", "blower"), ("blower-b", "blower")]),
    ("hall-2", [("fan-c", "fan"), ("blower-c", "blower"), ("pump-a", "pump"), ("pump-b", "pump")]),
];

/// The machine that falls ill, with what, and how badly.
pub const ILL: &str = "pump-b";
pub const FAULT: Fault = Fault::Cavitation;
const STRENGTH: f64 = 0.8;
/// Seconds of the machine's time until the fault has its full strength.
const GROW_S: f64 = 90.0;

/// The bundle, part of the program: the demo needs no file.
const BUNDLE: [(&str, &[u8]); 8] = [
    ("bundle.toml", include_bytes!("../../../models/demo/bundle.toml")),
    ("emb_train.npy", include_bytes!("../../../models/demo/emb_train.npy")),
    ("encoder.tflite", include_bytes!("../../../models/demo/encoder.tflite")),
    ("golden_embeddings.npy", include_bytes!("../../../models/demo/golden_embeddings.npy")),
    ("golden_windows.npy", include_bytes!("../../../models/demo/golden_windows.npy")),
    ("id_to_int.pkl", include_bytes!("../../../models/demo/id_to_int.pkl")),
    ("ids_train.npy", include_bytes!("../../../models/demo/ids_train.npy")),
    ("thresholds_by_machine.pkl", include_bytes!("../../../models/demo/thresholds_by_machine.pkl")),
];

/// The recordings that the bundle was trained on are the first of each machine: the demo's are others, or its first windows
/// would be recognised to the last digit.
const UNHEARD: u64 = 1_000_000;

/// How the machines run.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Times real time.
    pub speed: f64,
    /// Seconds of the demo until the fault begins.
    pub fault_after_s: f64,
    /// Which recording of each machine.
    pub take: u64,
}

/// The running agents.
pub struct DemoFleet {
    stop: watch::Sender<bool>,
    agents: Vec<(&'static str, JoinHandle<Result<(), AgentError>>)>,
}

impl DemoFleet {
    /// Lays the bundle into `dir` and starts the agents, which keep their state there too.
    ///
    /// # Errors
    /// `dir` cannot be written to; a thread cannot be started.
    pub fn start(dir: &Path, broker: &BrokerUrl, pace: Pace) -> anyhow::Result<DemoFleet> {
        let bundle = dir.join("bundle");
        std::fs::create_dir(&bundle)?;
        for (name, bytes) in BUNDLE {
            std::fs::write(bundle.join(name), bytes)?;
        }
        let (stop, stopped) = watch::channel(false);
        let mut fleet = DemoFleet { stop, agents: Vec::new() };
        for (id, machines) in PLANT {
            let config = Config {
                agent: AgentConfig {
                    id: id.into(),
                    tags: vec!["demo".into()],
                    state_dir: dir.join(id),
                    ..AgentConfig::default()
                },
                // One page for both, over the broker.
                web: WebConfig { listen: Listen(None), ..WebConfig::default() },
                mqtt: MqttConfig { url: broker.clone().into(), ..MqttConfig::default() },
                bundle: BundleConfig { path: bundle.clone(), ..BundleConfig::default() },
                machine: machines.map(|(machine, kind)| machine_config(machine, kind, pace)).into(),
                ..Config::default()
            };
            let stopped = stopped.clone();
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(AgentError::system("cannot start a runtime"))?;
                // A sender that is gone means the same as one that says so.
                let stop = || {
                    let mut stopped = stopped.clone();
                    async move { drop(stopped.wait_for(|stop| *stop).await) }
                };
                while runtime.block_on(agent::run(config.clone(), stop()))? == End::Restart {}
                Ok(())
            };
            fleet.agents.push((id, std::thread::Builder::new().name(id.into()).spawn(run)?));
        }
        Ok(fleet)
    }

    /// An agent has ended although nobody stopped it.
    pub fn has_failed(&self) -> bool {
        self.agents.iter().any(|(_, agent)| agent.is_finished())
    }

    /// Stops the agents and waits for their goodbye.
    ///
    /// # Errors
    /// What an agent ended with.
    pub fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let mut outcome = Ok(());
        for (id, agent) in self.agents {
            let ended = agent.join().map_err(|_| anyhow::anyhow!("{id} has panicked"));
            outcome = outcome.and(ended.and_then(|ended| ended.map_err(|error| anyhow::anyhow!("{id}: {error}"))));
        }
        outcome
    }
}

fn machine_config(id: &str, kind: &str, pace: Pace) -> MachineConfig {
    let mut source = json!({ "synth": kind, "take": UNHEARD + pace.take, "speed": pace.speed });
    if id == ILL {
        source["fault"] = FAULT.name().into();
        source["strength"] = STRENGTH.into();
        source["fault_after_s"] = (pace.fault_after_s * pace.speed).into();
        source["fault_grow_s"] = GROW_S.into();
    }
    serde_json::from_value(json!({ "id": id, "source": source })).expect("keys that the configuration knows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;
    use crate::encoder::EncoderConfig;

    #[test]
    fn the_bundle_inside_the_program_knows_every_machine() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, bytes) in BUNDLE {
            std::fs::write(dir.path().join(name), bytes).expect("it is written");
        }
        let (bundle, _) = Bundle::open(dir.path(), &EncoderConfig::default()).expect("a valid bundle");
        for (machine, kind) in PLANT.iter().flat_map(|(_, machines)| machines) {
            let known = bundle.machine(machine).expect("it knows the machine");
            assert!(known.threshold.is_some(), "{machine}");
            assert!(machine.starts_with(kind));
        }
        assert!(PLANT.iter().any(|(_, machines)| machines.iter().any(|(machine, _)| *machine == ILL)));
        let size: usize = BUNDLE.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(size <= 4 << 20, "{size} bytes");
    }
}
