//! `auscult setup`: the first start in the terminal; what the page's guide asks.
//!
//! It asks everything first and does it at the end, so that giving up half-way changes nothing. It talks to the running
//! agent through its page, and where none runs it starts one.

mod companion;
mod http;
mod link;
mod terminal;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::{Value, json};

use self::companion::Companion;
use self::http::{Nobody, Site};
use self::link::{Door, Link, Page};
use super::Failure;
use crate::config::Config;

/// A command that only looks.
const SOON: Duration = Duration::from_secs(10);
/// One that reaches for a broker or opens a microphone.
const LATER: Duration = Duration::from_secs(45);
/// -80 to 0 dBFS as so many places.
const BAR: usize = 20;

/// Set up a microphone, a machine and a broker, by asking
///
/// Talks to the running agent through its page. Where none runs, one is started, and runs as long as this command.
/// Nothing is changed before everything has been asked.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  auscult setup")]
pub struct Args {
    /// Configuration file of the agent [default: /etc/auscult/agent.toml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port of the agent's page [default: the configuration's, else 127.0.0.1:8477]
    #[arg(long, value_name = "ADDR")]
    page: Option<SocketAddr>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load_any(args.config.as_deref()).map_err(Failure::config)?;
    let address = match args.page {
        Some(address) => address,
        None => reachable(config.web.listen.0.ok_or_else(|| {
            Failure::config(anyhow!("web.listen is \"none\": set-up needs the agent's page, on this computer at least"))
        })?),
    };
    let site = Site::new(address, config.web.cert_file.as_deref()).map_err(Failure::config)?;
    let origin = site.origin();
    let (mut page, companion) = match Page::find(site.clone()) {
        Ok(page) => (page, None),
        // Somebody answers, but no agent.
        Err(error) if error.downcast_ref::<Nobody>().is_none() => return Err(error.into()),
        Err(_) if args.page.is_some() => {
            return Err(anyhow!("no agent answers at {origin}: is it running?").into());
        }
        Err(_) => {
            let companion = Companion::start(args.config.as_deref(), &config, site)?;
            (companion.page()?, Some(companion))
        }
    };
    let asked = enter(&mut page).and_then(|()| guide(&page, &origin));
    asked.map_err(|error| match error.downcast_ref() {
        Some(terminal::GivenUp::InputEnded) => {
            anyhow!("{error}. Run `auscult setup` in a terminal, or open {origin} in a browser")
        }
        _ => error,
    })?;
    if let Some(companion) = companion {
        println!("\nThe agent runs here until Ctrl-C. For good: `auscult run`, as a service.");
        companion.wait()?;
    }
    Ok(())
}

/// Where this computer reaches what listens on `listen`.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Logs in, where the page wants that.
fn enter(page: &mut Page) -> anyhow::Result<()> {
    println!("The agent {} answers.", page.agent());
    match page.door {
        Door::Open => {}
        Door::NeedsPassword => again(|| page.log_in(&terminal::ask_secret("Password of its page:")?))?,
        Door::NeedsCode => {
            println!("\nIts page is reachable from other computers and has no password yet. The agent's log shows");
            println!("a set-up code once (as a service: journalctl -u auscult).");
            again(|| {
                let code = terminal::ask("Set-up code:")?;
                let password = terminal::ask_secret("New password, 8 characters or more:")?;
                page.set_password(&code, &password)
            })?;
        }
    }
    Ok(())
}

/// Tries until it works; three times.
fn again(mut attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for _ in 0..2 {
        match attempt() {
            Err(error) if error.downcast_ref::<terminal::GivenUp>().is_none() => println!("{error:#}"),
            done => return done,
        }
    }
    attempt()
}

/// What was chosen.
struct Machine {
    id: String,
    name: String,
    source: Value,
    channel: Option<usize>,
    /// Of the bundle; `None`: it is learned here.
    model: Option<String>,
}

fn guide(page: &Page, origin: &str) -> anyhow::Result<()> {
    let mut link = page.open()?;
    if !link.knows("machine.add") {
        bail!("this agent does not add machines by itself: write a [[machine]] in its configuration and restart it");
    }
    let machine = ask_machine(&mut link, origin)?;
    let broker = ask_broker(&mut link)?;
    println!();
    let mut arguments = json!({ "machine": machine.id, "name": machine.name, "source": machine.source });
    if let Some(channel) = machine.channel {
        arguments["channel"] = json!(channel);
    }
    match &machine.model {
        Some(model) => arguments["model"] = json!(model),
        None => arguments["baseline"] = json!("auto"),
    }
    link.ask("machine.add", arguments, LATER)?;
    println!("{} is being heard, as {}.", machine.name, machine.id);
    if let Some(broker) = broker {
        let reply = link.ask("setup.broker", broker, LATER)?;
        match reply["problem"].as_str() {
            Some(problem) => println!("The broker is not used: {problem}"),
            None if reply["connected"] == true => println!("Everything goes to {}.", text(&reply["url"])),
            None => println!("No broker is used; `auscult setup` or the page can change that."),
        }
    }
    match machine.model {
        Some(_) => println!("Its first verdict comes within seconds."),
        None => println!(
            "It learns what is normal now: it judges provisionally after some minutes, and\nfor good after an hour of normal running."
        ),
    }
    Ok(())
}

fn ask_machine(link: &mut Link, origin: &str) -> anyhow::Result<Machine> {
    println!("\nWhich microphone hears the machine? Tap at it: its level moves.\n");
    let mut options = Vec::new();
    let chosen = terminal::choose_live("Number of the microphone:", || {
        let reply = link.ask("devices.list", Value::Null, SOON)?;
        let (lines, found) = microphones(&reply, origin);
        let count = found.len();
        options = found;
        Ok((lines, count))
    })?;
    let Some(chosen) = chosen else { bail!("no microphone was found; nothing was changed") };
    let Some((source, channel)) = options.get(chosen - 1).cloned() else { bail!("the microphone has gone") };
    let state = link.ask("state.get", Value::Null, SOON)?;
    let taken: Vec<_> = state["machines"].as_array().into_iter().flatten().map(|it| text(&it["machine"])).collect();
    let (id, name) = loop {
        let name = terminal::ask("\nWhat is the machine called? (any name)")?;
        let id = id_of(&name);
        match (id.is_empty(), taken.contains(&id)) {
            (true, _) => println!("A name with a letter or a digit, please."),
            (_, true) => println!("There is a machine {id} already."),
            _ => break (id, name),
        }
    };
    let models: Vec<_> = state["bundle"]["machines"].as_array().into_iter().flatten().map(text).collect();
    let model = if models.is_empty() { None } else { ask_model(&models)? };
    Ok(Machine { id, name, source, channel, model })
}

fn ask_model(models: &[String]) -> anyhow::Result<Option<String>> {
    println!("\nWhat is normal for it?");
    println!("  1  Learn it here, while the machine runs as usual");
    for (number, model) in models.iter().enumerate() {
        println!("  {}  It is {model} of the bundle", number + 2);
    }
    let chosen = terminal::choose("Number [1]:", models.len() + 1, Some(1))?;
    Ok(chosen.checked_sub(2).and_then(|number| models.get(number).cloned()))
}

/// The microphones as lines of less than 80 columns, and what each number means; where there are none, what to do.
fn microphones(reply: &Value, origin: &str) -> (Vec<String>, Vec<(Value, Option<usize>)>) {
    let (mut lines, mut options) = (Vec::new(), Vec::new());
    for device in reply["devices"].as_array().into_iter().flatten() {
        let channels = device["channels"].as_u64().unwrap_or(1) as usize;
        for channel in 0..channels {
            let level = device["levels_dbfs"][channel].as_f64();
            let name = match channels {
                1 => text(&device["name"]),
                _ => format!("{}, channel {}", cut(&text(&device["name"]), 24), channel + 1),
            };
            options.push((device["source"].clone(), (channels > 1).then_some(channel)));
            lines.push(format!("{:>3}  {:<38}  {}", options.len(), cut(&name, 38), bar(level)));
        }
        if let Some(user) = device["in_use_by"].as_str() {
            lines.push(format!("     used by {}", cut(user, 60)));
        }
        if let Some(problem) = device["problem"].as_str() {
            lines.push(format!("     {}", cut(problem, 72)));
        }
    }
    if options.is_empty() {
        lines.extend(
            [
                "  No microphone was found. Plug one in; a terminal shows it at once.",
                "  Without one a recording can stand in: write in the agent's configuration",
                "      [[machine]]",
                "      id = \"blower-1\"",
                "      source = { wav = \"/path/to/a/recording.wav\", loop = true }",
                "  and restart it. The page with the same guide is at",
            ]
            .map(str::to_owned),
        );
        lines.push(format!("      {origin}"));
    }
    (lines, options)
}

fn bar(level: Option<f64>) -> String {
    let Some(level) = level else { return format!("[{}]        -", " ".repeat(BAR)) };
    let filled = ((level + 80.0) / 80.0 * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
    format!("[{}{}] {level:>6.1} dB", "#".repeat(filled), " ".repeat(BAR - filled))
}

/// The arguments of `setup.broker`; `None` where nothing is to be changed.
fn ask_broker(link: &mut Link) -> anyhow::Result<Option<Value>> {
    if !link.knows("setup.broker") {
        return Ok(None);
    }
    println!("\nIs there an MQTT broker? The page works without one.");
    let reply = link.ask("setup.find_brokers", Value::Null, SOON).unwrap_or_default();
    let found: Vec<_> = reply["brokers"].as_array().cloned().unwrap_or_default();
    for (number, broker) in found.iter().enumerate() {
        println!("  {}  {}  {}", number + 1, text(&broker["url"]), cut(&text(&broker["name"]), 40));
    }
    loop {
        let question = if found.is_empty() { "Address, or nothing:" } else { "Number, address, or nothing:" };
        let answer = terminal::ask(question)?;
        if answer.is_empty() {
            return Ok(Some(json!({ "url": "none", "test": false })));
        }
        let picked = answer.parse::<usize>().ok().and_then(|number| found.get(number.checked_sub(1)?));
        let url = match picked {
            Some(broker) => text(&broker["url"]),
            None if answer.contains("://") => answer,
            None => format!("mqtt://{answer}"),
        };
        let username = terminal::ask("User name, or nothing:")?;
        let password = if username.is_empty() { String::new() } else { terminal::ask_secret("Password:")? };
        let mut broker = json!({ "url": url, "test": true });
        for (name, value) in [("username", username), ("password", password)] {
            if !value.is_empty() {
                broker[name] = json!(value);
            }
        }
        println!("Trying {url} ...");
        match link.ask("setup.broker", broker.clone(), LATER) {
            Ok(reply) if reply["connected"] == true => {
                println!("Connected, logged in, and allowed to publish.");
                broker["test"] = json!(false);
                return Ok(Some(broker));
            }
            Ok(reply) => println!("{}", text(&reply["problem"])),
            // It is set in the file: nothing to be asked.
            Err(error) if error.to_string().contains("the configuration names the broker") => {
                println!("{error}");
                return Ok(None);
            }
            Err(error) => println!("{error}"),
        }
        if !terminal::confirm("Try another?", true)? {
            return Ok(None);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// At most `most` characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['~']).collect()
}

/// The id that a name makes, as the page makes it.
fn id_of(name: &str) -> String {
    let mut id = String::new();
    for letter in name.to_lowercase().chars() {
        let plain = match letter {
            'ä' | 'æ' => "ae",
            'ö' | 'ø' => "oe",
            'ü' => "ue",
            'ß' => "ss",
            'à'..='å' => "a",
            'ç' => "c",
            'è'..='ë' => "e",
            'ì'..='ï' => "i",
            'ñ' => "n",
            'ò'..='õ' => "o",
            'ù'..='û' => "u",
            'a'..='z' | '0'..='9' => {
                id.push(letter);
                continue;
            }
            _ if id.is_empty() || id.ends_with('-') => continue,
            _ => "-",
        };
        id.push_str(plain);
    }
    id.truncate(48);
    id.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_an_id() {
        for (name, id) in [
            ("Blower, hall 2", "blower-hall-2"),
            ("  Gebläse Süd ", "geblaese-sued"),
            ("Ventilação №7", "ventilacao-7"),
            ("!!", ""),
            ("泵", ""),
        ] {
            assert_eq!(id_of(name), id, "{name}");
        }
        assert!(id_of(&"long name ".repeat(20)).len() <= 48);
    }

    #[test]
    fn microphones_fit_in_80_columns_and_say_who_uses_them() {
        let reply = json!({ "devices": [
            { "name": "USB Audio Device with a name that is much too long for a terminal", "channels": 2,
              "levels_dbfs": [-20.0, null], "source": { "device": "usb-path:1-1.3" }, "in_use_by": "blower-1" },
            { "name": "Webcam", "channels": 1, "levels_dbfs": [0.0], "source": { "device": "card:C920" },
              "problem": "busy: another program has it open; `fuser -v /dev/snd/*` shows which, and then some more words" },
        ] });
        let (lines, options) = microphones(&reply, "http://127.0.0.1:8477");
        assert!(lines.iter().all(|line| line.chars().count() < 80), "{lines:#?}");
        assert_eq!(options.len(), 3);
        assert_eq!(options[1], (json!({ "device": "usb-path:1-1.3" }), Some(1)));
        assert_eq!(options[2].1, None);
        let (none, _) = microphones(&json!({ "devices": [] }), "http://127.0.0.1:8477");
        assert!(none.iter().all(|line| line.chars().count() < 80), "{none:#?}");
        assert!(lines[0].contains("[###############     ]") && lines[2].contains("used by blower-1"), "{lines:#?}");
    }

    #[test]
    fn an_address_for_everybody_is_reached_on_this_computer() {
        assert_eq!(reachable("0.0.0.0:8477".parse().expect("an address")).to_string(), "127.0.0.1:8477");
        assert_eq!(reachable("[::]:80".parse().expect("an address")).to_string(), "[::1]:80");
        assert_eq!(reachable("10.0.0.7:80".parse().expect("an address")).to_string(), "10.0.0.7:80");
    }
}
