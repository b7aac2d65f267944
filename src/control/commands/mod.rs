//! The commands: one file for each family, one line in the table below for each command.
//!
//! A command is a struct of its arguments. The same struct reads the message (serde), the command line of `auscult ctl`
//! (clap) and gives the JSON Schema, so the three cannot differ. What it does is its [`Execute::run`].

mod adaptation;
mod alarm;
mod announce;
mod arguments;
mod baseline;
mod bundle;
mod clip;
mod confirm;
mod devices;
mod evidence;
mod journal;
mod keep;
mod look;
mod machine;
mod maintenance;
mod notify;
mod setup;
mod state;
mod threshold;
mod trend;

use clap::Subcommand;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

pub use adaptation::AdaptationReset;
pub use alarm::{AlarmAcknowledge, AlarmShelve, AlarmUnshelve};
pub use announce::Announce;
pub use baseline::{BaselineApply, BaselineDiscard, BaselineLearn, BaselineRollback};
pub use bundle::{BundleInstall, BundleReload, BundleRollback};
pub use confirm::AlarmConfirm;
pub use devices::DevicesList;
pub use evidence::EvidenceGet;
pub use journal::{AlarmGet, AlarmList, AlarmStats};
pub use keep::{PIECE as EXPORT_PIECE, StateExport, StateImport};
pub use look::{ConfigGet, LogGet};
pub use machine::{MachineAdd, MachineList, MachineRemove, MachineSet};
pub use maintenance::MaintenanceSet;
pub use notify::NotifyTest;
pub use setup::{SetupBroker, SetupFindBrokers};
pub use state::{HealthGet, Ping, StateGet};
pub use threshold::{RateSet, ThresholdGet, ThresholdPreview, ThresholdReset, ThresholdSet};
pub use trend::{FIELDS as TREND_FIELDS, TrendGet};

use super::context::CommandContext;
use super::error::CommandError;
use super::outcome::Outcome;

/// What a command does.
pub trait Execute {
    /// Works out what is to be done; changes nothing by itself.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError>;
}

macro_rules! commands {
    ($($(#[$about:meta])+ $name:literal $kind:ident)+) => {
        /// Every command with its arguments.
        #[derive(Debug, Clone, PartialEq, Subcommand)]
        #[command(rename_all = "verbatim")]
        pub enum Command {
            $($(#[$about])+ #[command(name = $name)] $kind($kind),)+
        }

        impl Command {
            pub const NAMES: &[&str] = &[$($name),+];

            pub fn name(&self) -> &'static str {
                match self {
                    $(Command::$kind(_) => $name,)+
                }
            }

            /// Reads the arguments of the command called `name`.
            ///
            /// # Errors
            /// A name that is no command; an argument that is missing, unknown or wrong.
            pub fn read(name: &str, arguments: Map<String, Value>) -> Result<Command, CommandError> {
                match name {
                    $($name => arguments::read(arguments).map(Command::$kind),)+
                    _ => Err(arguments::unknown_command(name, Command::NAMES)),
                }
            }

            /// The arguments as they are sent.
            pub fn arguments(&self) -> Map<String, Value> {
                let value = match self {
                    $(Command::$kind(arguments) => serde_json::to_value(arguments),)+
                };
                match value {
                    Ok(Value::Object(fields)) => fields,
                    other => unreachable!("arguments are written as an object, not {other:?}"),
                }
            }

            /// Works out what is to be done.
            ///
            /// # Errors
            /// Why it cannot be done.
            pub fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
                match self {
                    $(Command::$kind(command) => command.run(context),)+
                }
            }

            /// Name and JSON Schema of the arguments of every command.
            pub fn schemas(generator: &mut SchemaGenerator) -> Vec<(&'static str, schemars::Schema)> {
                vec![$(($name, <$kind as JsonSchema>::json_schema(generator)),)+]
            }
        }
    };
}

impl Command {
    /// It may change something that stays: worth a line in the log. A piece of an archive is none by itself.
    pub fn changes_something(&self) -> bool {
        match self {
            Command::BundleInstall(install) => !install.is_piece(),
            other => !matches!(
                other,
                Command::Ping(_)
                    | Command::Announce(_)
                    | Command::StateGet(_)
                    | Command::HealthGet(_)
                    | Command::ThresholdGet(_)
                    | Command::ThresholdPreview(_)
                    | Command::MachineList(_)
                    | Command::EvidenceGet(_)
                    | Command::ConfigGet(_)
                    | Command::LogGet(_)
                    | Command::DevicesList(_)
                    | Command::SetupFindBrokers(_)
                    | Command::TrendGet(_)
                    | Command::AlarmList(_)
                    | Command::AlarmGet(_)
                    | Command::AlarmStats(_)
            ),
        }
    }
}

commands! {
    /// Ask whether the agent is there.
    "ping" Ping
    /// Show everything that the agent knows of itself and its machines.
    "state.get" StateGet
    /// Publish the agent's health now.
    "health.get" HealthGet
    /// Publish all retained messages again, for clients that the broker does not send them to.
    "announce" Announce
    /// Override a machine's threshold, until reset or until a time.
    "threshold.set" ThresholdSet
    /// Show a machine's threshold and where it comes from.
    "threshold.get" ThresholdGet
    /// Go back to the configuration's or the bundle's threshold, and to the baseline's false alarm rate.
    "threshold.reset" ThresholdReset
    /// Count what a threshold would have called anomalous in the last 24 hours; change nothing.
    "threshold.preview" ThresholdPreview
    /// Move how often all lanes together may call a normal window anomalous.
    "rate.set" RateSet
    /// Read a bundle again, or another one below the bundle root, and switch to it.
    "bundle.reload" BundleReload
    /// Install a bundle from a URL, or in pieces, and switch to it.
    "bundle.install" BundleInstall
    /// Go back to the previous bundle.
    "bundle.rollback" BundleRollback
    /// Add a machine while the agent runs; it is kept beside those of the configuration's file.
    "machine.add" MachineAdd
    /// Change a machine that machine.add has added.
    "machine.set" MachineSet
    /// Remove a machine that machine.add has added, with all that was set and learned of it.
    "machine.remove" MachineRemove
    /// List the machines, how each is set up and where that comes from.
    "machine.list" MachineList
    /// Begin or end maintenance: a machine's windows are not judged.
    "maintenance.set" MaintenanceSet
    /// Learn on site what is normal for a machine, while it runs.
    "baseline.learn" BaselineLearn
    /// Take the learned baseline into use.
    "baseline.apply" BaselineApply
    /// Drop the baseline that is being learned, is proposed or is in use.
    "baseline.discard" BaselineDiscard
    /// Go back to the previous baseline.
    "baseline.rollback" BaselineRollback
    /// Forget what a machine was found to do daily: all hours are judged as learned.
    "adaptation.reset" AdaptationReset
    /// Say that somebody takes care of a machine's alarm.
    "alarm.acknowledge" AlarmAcknowledge
    /// Hide a machine's alarm until a time; the agent goes on listening.
    "alarm.shelve" AlarmShelve
    /// End the shelving before its time.
    "alarm.unshelve" AlarmUnshelve
    /// List past alarms: what, when, how long, who took care.
    "alarm.list" AlarmList
    /// Show one alarm of the journal.
    "alarm.get" AlarmGet
    /// Show how good the alarms of the last 30 days were.
    "alarm.stats" AlarmStats
    /// Say what an alarm was: a fault, normal, a disturbance.
    "alarm.confirm" AlarmConfirm
    /// Show a machine's past by minutes, hours or days: distance, score, level, how long it ran.
    "trend.get" TrendGet
    /// Get sound and spectrogram of a machine's last window, on its `evidence` topic, or of an alarm.
    "evidence.get" EvidenceGet
    /// Show the effective configuration, without secrets.
    "config.get" ConfigGet
    /// Show the newest lines of the agent's log.
    "log.get" LogGet
    /// Export everything that was set and learned, as one archive without secrets.
    "state.export" StateExport
    /// Replace everything that was set and learned with such an archive, and restart.
    "state.import" StateImport
    /// List the microphones with their levels.
    "devices.list" DevicesList
    /// Find brokers that announce themselves in the agent's network; only from the agent's own page.
    "setup.find_brokers" SetupFindBrokers
    /// Try a broker and use it from then on; only from the agent's own page.
    "setup.broker" SetupBroker
    /// Send a test message to every notification target.
    "notify.test" NotifyTest
}
