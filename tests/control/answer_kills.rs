//! Answers and changes of baselines, of an agent that is killed at any moment of them: each is made whole or not at all, and the
//! same command sent again comes to the same.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::{Agent, Site};
use crate::common::broker::{Broker, Subscriber};
use crate::common::bundles::encoder;
use crate::common::wait::{random_moment, wait_until};
use crate::evidence::{alarm, learning_site, ok, ready};

/// From the command on: before it is read, while files are written, after the reply.
const KILL_AFTER: Range<Duration> = Duration::ZERO..Duration::from_millis(60);
const CYCLES: usize = 5;

/// When the baselines of a machine were learned: in use, before, proposed.
type Baselines = [Option<String>; 3];

struct Rig {
    heard: Subscriber,
    site: Site,
    agent: Option<Agent>,
    /// Of the kills: before the change, after it.
    found: [usize; 2],
}

impl Rig {
    fn begin(&mut self) {
        // The one before is gone before its files are opened again.
        self.agent = None;
        self.heard.clear();
        self.agent = Some(self.site.agent());
        ready(&self.heard);
    }

    fn dir(&self) -> PathBuf {
        self.site.dir.path().join("state/baselines/fan-1")
    }

    fn baselines(&self) -> Baselines {
        let names: Vec<String> = fs::read_dir(self.dir())
            .expect("baselines")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        let odd = |name: &&String| !["in-use-", "previous-", "proposal."].iter().any(|start| name.starts_with(start));
        assert_eq!(names.iter().find(odd), None, "{names:?}");
        ["in-use-", "previous-", "proposal."].map(|start| {
            let name = names.iter().find(|name| name.starts_with(start))?;
            let text = fs::read_to_string(self.dir().join(name)).expect("readable");
            let baseline: Value = serde_json::from_str(&text).expect("JSON");
            Some(baseline["learned"].as_str().expect("a time").to_owned())
        })
    }

    /// What the agent says of the same.
    fn said(&self) -> [Value; 2] {
        let state = ok(&self.heard, json!({ "command": "state.get" }))["machines"][0]["baseline"].clone();
        [state["in_use"]["learned"].clone(), state["proposal"]["learned"].clone()]
    }

    /// The agent is killed while it carries the command out. `look` says what is there afterwards, and after the same command
    /// has come once more: that must be `after` it, and before it is that or what was there `before`.
    fn kill_in<T: PartialEq + std::fmt::Debug>(
        &mut self,
        mut command: Value,
        look: impl Fn(&Rig) -> T,
        after: impl FnOnce(&T) -> T,
    ) {
        let before = look(self);
        let after = after(&before);
        command["id"] = json!(new_id());
        self.heard.publish("auscult/pi-1/control", false, command.to_string());
        random_moment(KILL_AFTER);
        self.begin();
        let found = look(self);
        assert!(found == before || found == after, "{command}: {found:?} is neither {before:?} nor {after:?}");
        self.found[usize::from(found == after)] += 1;
        // As a broker or a person does who has seen no reply.
        self.heard.publish("auscult/pi-1/control", false, command.to_string());
        let reply = self
            .heard
            .wait_for("a reply", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == command["id"]);
        let reply = reply.json();
        assert_eq!(reply["status"], "ok", "{reply}");
        assert_eq!(look(self), after, "{command}");
    }

    fn propose(&self, alarm: i64) {
        self.heard.clear();
        ok(&self.heard, json!({ "command": "alarm.confirm", "alarm": alarm, "outcome": "normal" }));
        self.heard.wait_for("a proposal", |message| {
            message.is_machine("fan-1", MachinePart::Event) && message.json()["event"] == "baseline_learned"
        });
    }

    /// The answer as the journal and the clip have it.
    fn answer(&self, alarm: i64) -> [Value; 2] {
        let entry = ok(&self.heard, json!({ "command": "alarm.get", "alarm": alarm }))["alarms"][0].clone();
        let clip = ok(&self.heard, json!({ "command": "evidence.get", "alarm": alarm }));
        [entry["answer"]["name"].clone(), clip["fault"].clone()]
    }
}

#[test]
#[ignore = "heavy: an agent is killed and started again for each of many answers and changes"]
fn kills_in_the_middle_of_answers_and_changes_of_baselines_leave_each_made_or_not_made() {
    let Some(encoder) = encoder() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let site = learning_site(&broker, &encoder);
    let agent = site.agent();
    heard.wait_for("a baseline", |message| {
        message.is_machine("fan-1", MachinePart::Event) && message.json()["event"] == "baseline_applied"
    });
    let alarm = alarm(&heard);
    // Who stops keeps what there is of the clip.
    assert_eq!(agent.terminate(), Some(0));
    let mut rig = Rig { heard, site, agent: None, found: [0, 0] };
    rig.begin();
    rig.propose(alarm);
    ok(&rig.heard, json!({ "command": "baseline.apply", "machine": "fan-1" }));

    let of = |command: &str| json!({ "command": command, "machine": "fan-1" });
    for cycle in 0..CYCLES {
        let name = format!("bearing {cycle}");
        let fault = json!({ "command": "alarm.confirm", "alarm": alarm, "outcome": "fault", "name": name });
        rig.kill_in(fault, |rig| rig.answer(alarm), |_| [json!(name), json!(name)]);
        rig.propose(alarm);
        assert_eq!(rig.answer(alarm), [Value::Null, Value::Null], "a normal one is no example");
        rig.kill_in(of("baseline.discard"), Rig::baselines, |[in_use, before, _]| {
            [in_use.clone(), before.clone(), None]
        });
        rig.propose(alarm);
        rig.kill_in(of("baseline.apply"), Rig::baselines, |[in_use, _, proposed]| {
            [proposed.clone(), in_use.clone(), None]
        });
        rig.kill_in(of("baseline.rollback"), Rig::baselines, |[in_use, before, _]| {
            [before.clone(), in_use.clone(), None]
        });
        let [in_use, _, proposed] = rig.baselines();
        assert_eq!(rig.said(), [json!(in_use), json!(proposed)], "what it judges with is what is on the disk");
    }
    let agent = rig.agent.take().expect("it runs");
    assert_eq!(agent.terminate(), Some(0));
    wait_until("the switches to be gone", || !rig.dir().join("switch.json").exists());
    println!("{} kills before the change counted, {} after", rig.found[0], rig.found[1]);
}
