//! `auscult run` and `auscult check` from the outside: real WAV files, real microphones, a real bundle, a real broker.

use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::Value;

use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::recordings::{clips, mono};
use crate::common::sound::Rig;
use crate::common::wait::wait_until;

fn wav_machine(id: &str, model: &str, wav: &Path, rest: &str) -> String {
    format!("[[machine]]\nid = {id:?}\nmodel = {model:?}\nsource = {{ wav = {wav:?}, realtime = false }}\n{rest}\n")
}

fn verdicts(messages: &[Message], machine: &str) -> Vec<Value> {
    messages.iter().filter(|message| message.is_machine(machine, MachinePart::Verdict)).map(Message::json).collect()
}

const NORMAL: &str = "audio/mimii_fan_id_04_normal_00000126.wav";
const ABNORMAL: &str = "audio/mimii_fan_id_02_abnormal_00000055.wav";

#[test]
fn verdicts_of_several_machines_are_those_of_score_without_a_gap() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let bundle = shared.join("escoita-bundle");
    let (normal, abnormal) = (shared.join(NORMAL), shared.join(ABNORMAL));
    let machines = wav_machine("fan-4", "id_04", &normal, "")
        + &wav_machine("fan-2", "id_02", &abnormal, "hop_s = 1.0\n")
        + &wav_machine("fan-0", "id_00", &normal, "threshold = 0.75\n");
    let site = Site::new(&broker.url(), &bundle, &machines);
    let agent = site.agent();

    // 10 s make 2 windows without overlap, and 6 with a hop of 1 s.
    let is_verdict = |message: &Message| {
        ["fan-4", "fan-2", "fan-0"].iter().any(|machine| message.is_machine(machine, MachinePart::Verdict))
    };
    let messages = subscriber.wait_for_count("verdicts", 10, is_verdict);
    for (machine, model, file, step, count) in
        [("fan-4", "id_04", &normal, 1, 2), ("fan-2", "id_02", &abnormal, 5, 6), ("fan-0", "id_00", &normal, 1, 2)]
    {
        let live = verdicts(&messages, machine);
        let seqs: Vec<_> = live.iter().map(|verdict| verdict["seq"].as_u64()).collect();
        assert_eq!(seqs, (0..count).map(Some).collect::<Vec<_>>(), "{machine}");
        let scored = score(&bundle, model, file);
        for (window, verdict) in live.iter().step_by(step).enumerate() {
            let (found, expected) = (verdict["distance"].as_f64(), scored[window]["distance"].as_f64());
            let difference = (found.expect("a distance") - expected.expect("a distance")).abs();
            assert!(difference < 1e-6, "{machine} window {window}: {found:?} instead of {expected:?}");
        }
    }
    assert!(verdicts(&messages, "fan-0").iter().all(|verdict| verdict["threshold"] == 0.75));

    assert_eq!(agent.terminate(), Some(0));
    let status = subscriber
        .wait_for("stopped", |message| message.is_agent(AgentPart::Status) && message.json()["state"] == "stopped");
    let boot = status.json()["boot"].clone();
    let online = |message: &&Message| message.is_agent(AgentPart::Status) && message.json()["state"] == "online";
    let messages = subscriber.messages();
    let birth = messages.iter().find(online).expect("a birth");
    assert_eq!(birth.json()["boot"], boot);
}

/// The rows of `auscult score --json`.
fn score(bundle: &Path, model: &str, file: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_auscult"))
        .args(["score", "--json", "--engine", "tract", "--machine", model, "--bundle"])
        .args([bundle, file])
        .output()
        .expect("auscult starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Sound is played into a sound card's microphone, heard through ALSA and cpal, judged and published: every window of it,
/// each with the distance that `auscult score` gives to the same samples.
#[test]
fn a_microphone_is_recorded_without_a_gap_and_judged_as_score_does() {
    const WINDOW: usize = 80_000;
    const HOP: usize = 16_000;
    const ENOUGH: usize = 6;
    let Some(shared) = crate::common::shared() else { return };
    let rig = Rig::new(&[(16_000, 1)]);
    let microphone = &rig.microphones[0];
    let clips = clips(&shared).into_iter().flat_map(|clip| mono(&clip));
    let played: Vec<i16> = clips.map(|sample| (sample * 32_768.0).round() as i16).collect();
    let file = rig.dir().join("played.wav");
    crate::common::sound::write_wav(&file, 16_000, 1, &played);

    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let bundle = shared.join("escoita-bundle");
    let machine = format!(
        "[[machine]]\nid = \"fan-4\"\nmodel = \"id_04\"\nhop_s = 1.0\nsource = {{ device = {:?}, rate_hz = 16000 }}\n",
        microphone.name
    );
    let site = Site::new(&broker.url(), &bundle, &machine);
    let agent = site.agent();
    let is_verdict = |message: &Message| message.is_machine("fan-4", MachinePart::Verdict);
    let silence = subscriber.wait_for("a first verdict", is_verdict).json();
    assert_eq!((&silence["verdict"], &silence["seq"]), (&"unknown".into(), &0.into()));

    // Which of the played samples a window holds is told by its level, published in full. On a busy machine what is played
    // may have holes, and no window with a hole is found: then once more.
    let levels = Levels::of(&played, WINDOW);
    let found = || -> Vec<(u64, usize, Value)> {
        let received = verdicts(&subscriber.messages(), "fan-4").into_iter();
        let place = |verdict: Value| {
            let start = levels.find(verdict["level_dbfs"].as_f64()?)?;
            Some((verdict["seq"].as_u64()?, start, verdict))
        };
        received.filter_map(place).collect()
    };
    for _ in 0..4 {
        microphone.play(&file).finish();
        let received = verdicts(&subscriber.messages(), "fan-4").len();
        subscriber.wait_for_count("the last windows of what was played", received + 2, is_verdict);
        if found().len() >= ENOUGH {
            break;
        }
    }
    let windows = found();
    assert!(windows.len() >= ENOUGH, "{} windows of what was played were found", windows.len());
    assert_eq!(agent.terminate(), Some(0));

    let all = verdicts(&subscriber.messages(), "fan-4");
    let seqs: Vec<_> = all.iter().map(|verdict| verdict["seq"].as_u64()).collect();
    assert_eq!(seqs, (0..all.len() as u64).map(Some).collect::<Vec<_>>());
    for pair in windows.windows(2).filter(|pair| pair[1].0 == pair[0].0 + 1) {
        assert_eq!(pair[1].1, pair[0].1 + HOP, "from window {} to the next", pair[0].0);
    }
    let same: Vec<i16> = windows.iter().flat_map(|&(_, start, _)| played[start..start + WINDOW].to_vec()).collect();
    crate::common::sound::write_wav(&file, 16_000, 1, &same);
    let scored = score(&bundle, "id_04", &file);
    assert_eq!(scored.len(), windows.len());
    for ((seq, _, live), offline) in windows.iter().zip(&scored) {
        let (found, expected) = (live["distance"].as_f64(), offline["distance"].as_f64());
        let difference = (found.expect("a distance") - expected.expect("a distance")).abs();
        assert!(difference < 1e-6, "window {seq}: {found:?} instead of {expected:?}");
        assert_eq!(live["verdict"], offline["verdict"], "window {seq}");
    }
}

/// The level of every window of a recording, to find a window by it.
struct Levels(Vec<f64>);

impl Levels {
    fn of(samples: &[i16], window: usize) -> Levels {
        let mut sums = vec![0.0];
        for &sample in samples {
            sums.push(sums[sums.len() - 1] + (f64::from(sample) / 32_768.0).powi(2));
        }
        let level = |start: usize| 10.0 * ((sums[start + window] - sums[start]) / window as f64).log10();
        Levels((0..=samples.len() - window).map(level).collect())
    }

    /// Where the only window of that level begins. Neighbours differ by about 1e-5 dB.
    fn find(&self, level_dbfs: f64) -> Option<usize> {
        let mut alike = (0..self.0.len()).filter(|&start| (self.0[start] - level_dbfs).abs() < 1e-9);
        alike.next().filter(|_| alike.next().is_none())
    }
}

/// An agent's site with the real bundle and one healthy fan, its broker, and who listens there.
fn healthy_fan() -> Option<(Broker, Subscriber, Site)> {
    let shared = crate::common::shared()?;
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let machines = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), &machines);
    Some((broker, subscriber, site))
}

fn is_verdict(message: &Message) -> bool {
    message.is_machine("fan-4", MachinePart::Verdict)
}

#[test]
fn seq_goes_on_after_a_restart_and_after_a_kill() {
    let Some((_broker, subscriber, site)) = healthy_fan() else { return };
    for (round, kill) in [(1, false), (2, true), (3, false)] {
        let agent = site.agent();
        subscriber.wait_for_count("verdicts of this run", 2 * round, is_verdict);
        if kill {
            drop(agent);
        } else {
            assert_eq!(agent.terminate(), Some(0));
        }
    }
    let all = verdicts(&subscriber.messages(), "fan-4");
    let mut seqs: Vec<_> = all.iter().filter_map(|verdict| verdict["seq"].as_u64()).collect();
    // What was sent but not yet acknowledged when the agent was killed may come twice.
    seqs.dedup();
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs, (0..6).collect::<Vec<_>>());
}

#[test]
fn a_second_agent_on_the_same_state_directory_is_turned_away() {
    let Some((_broker, subscriber, site)) = healthy_fan() else { return };
    let first = site.agent();
    subscriber.wait_for_count("the first one's verdict", 1, is_verdict);
    let second = site.output("run");
    let printed = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{printed}");
    assert!(printed.contains("another agent runs on"), "{printed}");
    subscriber.wait_for_count("a verdict afterwards", 2, is_verdict);
    assert!(!first.log().contains("damaged"), "{}", first.log());
    assert_eq!(first.terminate(), Some(0));
}

#[test]
fn text_from_the_environment_stays_text() {
    let site = Site::new("mqtt://127.0.0.1:9", Path::new("nowhere"), "");
    let mut check = site.command("check");
    let machine = "[[machine]]\nid = \"fan-4\"\nsource = { synth = \"fan\" }\n";
    let text = std::fs::read_to_string(&site.config).expect("a configuration").replace("id = \"pi-1\"\n", "");
    std::fs::write(&site.config, text + machine).expect("a writable file");
    check.env("AUSCULT__AGENT__ID", "007").env("AUSCULT__AGENT__TAGS", "2, north").env("AUSCULT__OUTBOX__MAX_MB", "50");
    let printed = String::from_utf8_lossy(&check.output().expect("auscult starts").stdout).into_owned();
    assert!(printed.contains("agent 007"), "{printed}");
}

#[test]
fn without_a_bundle_the_agent_runs_and_says_so() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let machines = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    let site = Site::new(&broker.url(), Path::new("nowhere"), &machines);
    let agent = site.agent();
    let verdict = subscriber.wait_for("a verdict", |message| message.is_machine("fan-4", MachinePart::Verdict)).json();
    assert_eq!((&verdict["verdict"], &verdict["reason"]), (&"unknown".into(), &"no_bundle".into()));
    assert!(verdict["distance"].is_null() && verdict["bundle"].is_null());
    assert!(agent.log().contains("nowhere"), "{}", agent.log());
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn what_waiting_does_not_mend_ends_the_agent_with_78_and_one_line() {
    let Some(shared) = crate::common::shared() else { return };
    let (bundle, normal) = (shared.join("escoita-bundle"), shared.join(NORMAL));
    for (machines, words) in [
        (wav_machine("fan-4", "id_99", &normal, ""), "id_99"),
        (wav_machine("fan-4", "id_04", Path::new("nowhere.wav"), ""), "nowhere.wav"),
        (wav_machine("fan-4", "id_04", &normal, "fmax_hz = 9000.0"), "9000"),
        (wav_machine("fan-4", "id_04", &normal, "thresold = 0.2"), "did you mean `threshold`?"),
    ] {
        let site = Site::new("mqtt://127.0.0.1:9", &bundle, &machines);
        let output = site.output("run");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{words}: {printed}");
        let errors: Vec<_> = printed.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(words), "{words}: {printed}");
    }
}

#[test]
fn a_state_directory_that_is_a_file_is_a_mistake_in_the_configuration() {
    let Some(shared) = crate::common::shared() else { return };
    let fan = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    for below in ["state", "state/below"] {
        let site = Site::new("none", &shared.join("escoita-bundle"), &fan);
        let file = site.dir.path().join("state");
        std::fs::write(&file, "a file").expect("a writable directory");
        let expected = format!("expected a directory, {} is a file", file.display());
        let state_dir = site.dir.path().join(below);
        let run = site.command("run").env("AUSCULT__AGENT__STATE_DIR", &state_dir).output().expect("auscult starts");
        let printed = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(78), "{printed}");
        assert!(printed.contains(&format!("error: agent.state_dir: {expected}")), "{printed}");
        let check =
            site.command("check").env("AUSCULT__AGENT__STATE_DIR", &state_dir).output().expect("auscult starts");
        let printed = String::from_utf8_lossy(&check.stdout);
        assert!(check.status.code() == Some(78) && printed.contains(&expected), "{printed}");
    }
}

/// What `auscult check` says of microphones: one that is silent, and ones that a machine of somebody else's judges.
#[test]
fn check_fails_a_silent_microphone_and_warns_of_a_foreign_bank() {
    let Some(shared) = crate::common::shared() else { return };
    let rig = Rig::for_others(&[(48_000, 1)]);
    let device = |rest: &str| format!("[[machine]]\nid = \"fan\"\nsource = {{ device = \"mic0\" }}\n{rest}\n");
    let check = |bundle: &Path, rest: &str| {
        let site = Site::new("none", bundle, &device(rest));
        let mut command = site.command("check");
        let output = command.env("ALSA_CONFIG_PATH", rig.alsa_config()).output().expect("auscult starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let escoita = shared.join("escoita-bundle");
    let (code, printed) = check(&demo, "model = \"fan-a\"");
    assert_eq!(code, Some(1), "{printed}");
    let failed = lines(&printed, "FAIL");
    assert!(failed.len() == 1 && failed[0].contains("-120.0 dBFS: silent; is it muted"), "{printed}");
    let warned = lines(&printed, "WARN");
    assert!(warned.len() == 1 && warned[0].contains("fan-a, a simulated machine, and will alarm"), "{printed}");

    let _sound = rig.microphones[0].play(&shared.join(NORMAL));
    let (code, printed) = check(&escoita, "model = \"id_00\"");
    assert_eq!(code, Some(0), "{printed}");
    assert!(lines(&printed, "WARN")[0].contains("unless that was recorded at this very machine"), "{printed}");
    assert!(lines(&printed, "FAIL").is_empty(), "{printed}");
    let _sound = rig.microphones[0].play(&shared.join(NORMAL));
    let (code, printed) = check(&escoita, "baseline = \"auto\"");
    assert!(code == Some(0) && lines(&printed, "WARN").is_empty(), "{printed}");
}

/// The lines of `auscult check` that begin with `word`.
fn lines<'a>(printed: &'a str, word: &str) -> Vec<&'a str> {
    printed.lines().filter(|line| line.starts_with(word)).collect()
}

#[test]
fn check_tells_each_part_and_changes_nothing() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let (bundle, normal) = (shared.join("escoita-bundle"), shared.join(NORMAL));
    let machines =
        wav_machine("fan-4", "id_04", &normal, "") + "[[machine]]\nid = \"id_00\"\nsource = { synth = \"fan\" }";
    let site = Site::new(&broker.url(), &bundle, &machines);
    let output = site.output("check");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let parts: Vec<_> = lines(&printed, "ok").iter().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(parts, ["configuration", "state", "bundle", "source", "source", "broker", "page"], "{printed}");
    assert!(printed.contains("id_00: simulated fan, -") && printed.contains("engine tract"), "{printed}");
    assert!(!site.dir.path().join("state").exists());
    // It tries what the agent may do, and leaves nothing behind: whoever comes later finds nothing.
    let tried = |message: &Message| {
        message.payload.is_empty() || message.topic == "auscult/pi-1/status" && message.json()["state"] == "stopped"
    };
    assert!(subscriber.messages().iter().all(tried), "{:?}", subscriber.messages());
    assert!(Subscriber::start(&broker).messages().is_empty());

    let output = site.command("check").arg("--json").output().expect("auscult starts");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let all: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(all.len() == 7 && all.iter().all(|line| line["ok"] == true), "{printed}");
}

#[test]
fn check_names_what_is_wrong_and_goes_on() {
    let Some(shared) = crate::common::shared() else { return };
    let (bundle, normal) = (shared.join("escoita-bundle"), shared.join(NORMAL));
    let fan = wav_machine("fan-4", "id_04", &normal, "");
    let device = "[[machine]]\nid = \"id_00\"\nsource = { device = \"usb-path:9-9.9\" }\n";
    let nowhere = Path::new("nowhere");
    for (bundle, machines, code, faults) in [
        (nowhere, fan.clone(), 65, ["nowhere/emb_train.npy: ", "mqtt://127.0.0.1:9: nothing listens there"].as_slice()),
        (&bundle, fan.clone() + device, 1, &["id_00: usb-path:9-9.9: ", "nothing listens there"]),
        (&bundle, wav_machine("fan-4", "id_99", &normal, ""), 78, &["id_99", "nothing listens there"]),
        (&bundle, wav_machine("fan-4", "id_04", nowhere, ""), 78, &["source.wav: nowhere: ", "nothing listens there"]),
        (&bundle, fan + "thresold = 0.2", 78, &["did you mean `threshold`?"]),
    ] {
        let output = Site::new("mqtt://127.0.0.1:9", bundle, &machines).output("check");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{printed}");
        let failed = lines(&printed, "FAIL");
        assert_eq!(failed.len(), faults.len(), "{printed}");
        for (line, words) in failed.iter().zip(faults) {
            assert!(line.contains(words), "{words}: {printed}");
        }
    }
}

#[test]
fn check_says_why_a_password_file_cannot_be_read() {
    let Some(shared) = crate::common::shared() else { return };
    let machines = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    let site = Site::new("mqtt://127.0.0.1:9", &shared.join("escoita-bundle"), &machines);
    let mut check = site.command("check");
    check.env("AUSCULT__MQTT__USERNAME", "pi-1").env("AUSCULT__MQTT__PASSWORD_FILE", "/nowhere/password");
    let output = check.output().expect("auscult starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let failed = lines(&printed, "FAIL");
    assert!(failed.len() == 1 && failed[0].contains("/nowhere/password: No such file"), "{printed}");
}

#[test]
fn check_looks_at_the_page_and_at_what_is_not_used() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let machines = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), &machines);
    let check = |variables: &[(&str, &str)]| {
        let output = site.command("check").envs(variables.iter().copied()).output().expect("auscult starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, printed) = check(&[("AUSCULT__WEB__LISTEN", "127.0.0.1:0"), ("AUSCULT__MQTT__CA_FILE", "ca.pem")]);
    assert!(code == Some(0) && printed.contains("page           can be served at 127.0.0.1:0"), "{printed}");
    assert!(lines(&printed, "WARN").len() == 1 && printed.contains("mqtts:// was meant?"), "{printed}");
    // Somebody listens there: perhaps the agent itself.
    let taken = broker.url().replace("mqtt://", "");
    let (code, printed) = check(&[("AUSCULT__WEB__LISTEN", &taken), ("AUSCULT__MQTT__PASSWORD", "x")]);
    assert!(code == Some(0) && printed.contains(&format!("page           {taken} is taken")), "{printed}");
    assert!(lines(&printed, "WARN").len() == 1 && printed.contains("a password and no username"), "{printed}");
    let (code, printed) =
        check(&[("AUSCULT__WEB__LISTEN", "127.0.0.1:0"), ("AUSCULT__WEB__PASSWORD_FILE", "/nowhere/password")]);
    let failed = lines(&printed, "FAIL");
    assert!(code == Some(1) && failed.len() == 1 && failed[0].contains("/nowhere/password"), "{printed}");
}

#[test]
fn logs_are_json_where_configured_and_never_tell_the_password() {
    let Some(shared) = crate::common::shared() else { return };
    let machines =
        wav_machine("fan-4", "id_04", &shared.join(NORMAL), "") + "[log]\nformat = \"json\"\nlevel = \"trace\"\n";
    let site = Site::new("mqtt://127.0.0.1:9", &shared.join("escoita-bundle"), &machines);
    let mut config = std::fs::OpenOptions::new().append(true).open(&site.config).expect("a writable file");
    writeln!(config, "[gate]\nsilent_below = 0.0005").expect("a writable file");
    let mut run = site.command("run");
    run.env("AUSCULT__MQTT__USERNAME", "pi-1").env("AUSCULT__MQTT__PASSWORD", "correct-horse");
    let agent = site.start(&mut run);
    wait_until("a word about the broker", || agent.log().contains("127.0.0.1:9"));
    let log = agent.log();
    assert_eq!(agent.terminate(), Some(0));
    let state = site.dir.path().join("state").metadata().expect("it was made").permissions();
    assert_eq!(state.mode() & 0o777, 0o750, "the state is nobody else's business");
    assert!(!log.contains("correct-horse"));
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
