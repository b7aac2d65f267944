use super::super::fleet::tests::{agent, alarm, now, receive, settings, verdict};
use super::*;

pub fn app() -> App {
    let mut app = App::new("ana".into(), now());
    app.connection = Ok("mqtt://broker:1883".into());
    agent(&mut app.fleet, "pi-1", &["fan-1", "fan-2", "pump-1"], "online");
    agent(&mut app.fleet, "pi-2", &["blower-1"], "offline");
    for (machine, distance) in [("fan-1", 0.1), ("fan-2", 0.45), ("pump-1", 0.2)] {
        for seq in 0..60 {
            let wave = 0.02 * f64::from(u32::try_from(seq % 5).expect("small"));
            receive(&mut app.fleet, &format!("pi-1/{machine}/verdict"), &verdict(seq, Some(distance + wave), None));
        }
    }
    receive(&mut app.fleet, "pi-1/fan-2/alarm", &alarm("active", Some("fault")));
    app
}

pub fn press(app: &mut App, keys: &str) -> Action {
    let mut action = Action::None;
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            c => KeyCode::Char(c),
        };
        action = app.key(code.into());
    }
    action
}

#[test]
fn a_threshold_is_asked_for_and_sent_to_the_machine_that_is_selected() {
    let mut app = app();
    press(&mut app, "j");
    let machine = app.current().expect("a machine").1;
    let Action::Send { agent, command } = press(&mut app, "t\x08\x08\x080.42\n") else { panic!("nothing is sent") };
    assert_eq!(
        (agent.as_str(), command["machine"].as_str()),
        (app.current().expect("a machine").0.as_str(), Some(&*machine))
    );
    assert_eq!(
        (&command["command"], &command["threshold"], &command["by"]),
        (&"threshold.set".into(), &0.42.into(), &"ana".into())
    );
    assert!(app.sent.as_ref().is_some_and(|sent| sent.outcome.is_none()));
    let reply = json!({
        "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "agent": agent, "id": command["id"], "command": "threshold.set",
        "status": "error", "error": { "code": "bad_argument", "message": "threshold: too high" }, "data": null, "late": false,
    });
    app.reply(&serde_json::from_value(reply).expect("a reply"));
    assert_eq!(app.sent.expect("it was sent").outcome, Some(Err("threshold: too high".into())));
}

#[test]
fn the_limit_of_all_lanes_is_their_false_alarm_rate() {
    let mut app = app();
    assert_eq!(press(&mut app, "r0.001\n"), Action::None, "the distance decides: there is no rate");
    press(&mut app, "\x1b");
    receive(&mut app.fleet, "pi-1/fan-2/settings", &settings("baseline", "combined"));
    let Action::Send { command, .. } = press(&mut app, "r\x08\x08\x08\x080.001\n") else { panic!("nothing is sent") };
    let sent = (&command["command"], &command["machine"], &command["false_alarm_rate"]);
    assert_eq!(sent, (&"rate.set".into(), &"fan-2".into(), &0.001.into()));
}

#[test]
fn what_is_no_number_is_not_sent() {
    let mut app = app();
    assert_eq!(press(&mut app, "tx\n"), Action::None);
    assert!(app.sent.is_some_and(|sent| sent.outcome.is_some_and(|outcome| outcome.is_err())));
}

#[test]
fn an_alarm_is_acknowledged_with_a_comment() {
    let mut app = app();
    let Action::Send { agent, command } = press(&mut app, "abelt\n") else { panic!("nothing is sent") };
    assert_eq!(agent, "pi-1");
    assert_eq!((&command["machine"], &command["comment"]), (&"fan-2".into(), &"belt".into()));
}

/// Another machine becomes the most urgent one while somebody looks at this one.
#[test]
fn enter_and_the_keys_of_a_command_choose_the_machine_that_was_marked() {
    for keys in ["\n", "a", "t"] {
        let mut app = app();
        assert_eq!(app.current().map(|key| key.1).as_deref(), Some("fan-2"));
        press(&mut app, keys);
        let alarm = json!({ "machine": "fan-1", "since": "2026-03-01T11:00:00.000Z" });
        let mut other = self::alarm("active", Some("fault"));
        other.as_object_mut().expect("an object").extend(alarm.as_object().expect("an object").clone());
        receive(&mut app.fleet, "pi-1/fan-1/alarm", &other);
        assert_eq!(app.rows().0[0].0.1, "fan-1");
        assert_eq!(app.current().map(|key| key.1).as_deref(), Some("fan-2"), "{keys:?}");
        let Action::Send { command, .. } = press(&mut app, if keys == "\n" { "abelt\n" } else { "\n" }) else {
            panic!("{keys:?}: nothing is sent")
        };
        assert_eq!(command["machine"], "fan-2", "{keys:?}");
    }
}

#[test]
fn a_key_means_what_the_last_picture_had_marked() {
    let mut app = app();
    app.marked = Some(("pi-1".into(), "pump-1".into()));
    press(&mut app, "a");
    assert_eq!(app.prompt, Some((Prompt::Comment(("pi-1".into(), "pump-1".into())), String::new())));
}

#[test]
fn the_detail_of_a_machine_that_is_gone_closes() {
    let mut app = app();
    press(&mut app, "\n");
    agent(&mut app.fleet, "pi-1", &["fan-1"], "online");
    assert_eq!(app.current(), None);
    assert_eq!(press(&mut app, "abelt\n"), Action::None);
}

#[test]
fn the_selection_follows_its_machine_and_escape_goes_back_one_step() {
    let mut app = app();
    press(&mut app, "j");
    let machine = app.current();
    press(&mut app, "sss");
    assert_eq!(app.current(), machine);
    press(&mut app, "/pump\n");
    assert_eq!(app.current().map(|key| key.1), Some("pump-1".into()));
    press(&mut app, "\n");
    assert!(app.detail);
    assert_eq!(press(&mut app, "\x1b"), Action::None);
    assert_eq!(press(&mut app, "\x1b"), Action::None);
    assert!(app.filter.is_empty());
    // In the list it does nothing: a key too many must not end the watch.
    assert_eq!(press(&mut app, "\x1b\x1b"), Action::None);
    assert_eq!(press(&mut app, "q"), Action::Quit);
    press(&mut app, "G");
    assert_eq!(app.rows().1, 3);
}
