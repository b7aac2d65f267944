//! The way into PostgreSQL, as deploy/postgres/README.md has it.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::broker::{Broker, Subscriber};
use crate::common::cluster::deployed;
use crate::common::program::{ProgramGroup, done};
use crate::common::wait::{TIMEOUT, wait_or_explain, wait_until};
use crate::rig::{connected, drained, options, start, state_dir, window};

/// As the user `postgres` where the tests run as root, since the server refuses root.
fn as_postgres(program: &str) -> Command {
    let path = newest(Path::new("/usr/lib/postgresql")).join("bin").join(program);
    let root = done(Command::new("id").arg("-u")).trim() == "0";
    if !root {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(path);
    command
}

fn newest(folder: &Path) -> std::path::PathBuf {
    let versions = std::fs::read_dir(folder).expect("PostgreSQL: run tests/setup.sh").flatten();
    versions.map(|version| version.path()).max().expect("a version")
}

#[test]
#[ignore = "heavy: PostgreSQL"]
fn every_verdict_is_in_postgresql_once() {
    let dir = state_dir();
    let server = dir.path().join("server");
    std::fs::create_dir(&server).expect("a directory");
    if done(Command::new("id").arg("-u")).trim() == "0" {
        done(Command::new("chmod").arg("711").arg(dir.path()));
        done(Command::new("chown").arg("postgres:postgres").arg(&server));
    }
    let data = server.join("data");
    done(as_postgres("initdb").args(["-A", "trust", "-U", "auscult", "-D"]).arg(&data).current_dir(&server));
    let mut postgres = as_postgres("postgres");
    postgres.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-k"]).arg(&server).current_dir(&server);
    let _postgres = ProgramGroup::start(postgres, &dir.path().join("postgres.log"), dir.path());
    let database = |mut command: Command| {
        command.env("PGHOST", &server).env("PGUSER", "auscult").env("PGDATABASE", "postgres");
        command
    };
    let psql = |sql: &str| {
        let mut command = database(Command::new("psql"));
        command.args(["-X", "-t", "-A", "-c", sql]).output().expect("psql")
    };
    wait_until("PostgreSQL answers", || psql("select 1").status.success());

    let readme = std::fs::read_to_string(deployed("postgres/README.md")).expect("the README");
    let commands = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its commands");
    let (table, take) = commands.split_once('\n').expect("two lines");
    let typed = |line: &str| {
        let mut command = database(Command::new("bash"));
        command.args(["-ec", line]).current_dir(deployed("postgres"));
        command
    };
    done(&mut typed(table));

    let mut broker = Broker::start();
    let login = "-h broker.plant.example -p 8884 --cafile /etc/auscult/ca.pem -u viewer -P the-viewers-password";
    assert!(take.contains(login), "{take}");
    let take = take.replace(login, &format!("-h 127.0.0.1 -p {}", broker.port()));
    let _taking = ProgramGroup::start(typed(&take), &dir.path().join("take.log"), dir.path());

    let subscriber = Subscriber::start(&broker);
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    let published = Arc::new(Mutex::new(Vec::new()));
    let noted = published.clone();
    mqtt.set_tap(Box::new(move |topic, payload| {
        noted.lock().expect("no panic").push((topic.to_owned(), payload.to_vec()))
    }));
    connected(&mqtt);
    let count = || String::from_utf8_lossy(&psql("select count(*) from auscult.verdict").stdout).trim().to_owned();
    // A broker without persistence forgets the session with each kill: what is published until it is there again does not come.
    let listens = || {
        let before = count();
        wait_until("verdicts come", || {
            window(&mqtt, "first");
            count() != before
        });
    };
    listens();
    for _ in 0..5 {
        let before = subscriber.subscribed();
        broker.kill();
        for _ in 0..40 {
            window(&mqtt, "fan-1");
        }
        broker.restart();
        wait_until("somebody listens again", || subscriber.subscribed() > before);
        drained(&mqtt);
        listens();
        for _ in 0..20 {
            window(&mqtt, "fan-1");
        }
        drained(&mqtt);
    }
    // All of it once more: what has come twice is there once, and what was missed is added.
    let published = std::mem::take(&mut *published.lock().expect("no panic"));
    for (topic, payload) in published.into_iter().filter(|(topic, _)| topic.ends_with("/verdict")) {
        subscriber.publish(&topic, false, payload);
    }
    let table = "select count(*), count(distinct seq), max(seq) from auscult.verdict where machine = 'fan-1'";
    let found = Cell::new(String::new());
    let log = || std::fs::read_to_string(dir.path().join("take.log")).unwrap_or_default();
    wait_or_explain(
        TIMEOUT,
        || format!("every verdict is in the table: {}; {}", found.take(), log()),
        || {
            let all = String::from_utf8_lossy(&psql(table).stdout).trim().to_owned();
            found.set(all.clone());
            all == "300|300|299"
        },
    );
    let keyed = "select count(*) from auscult.verdict where payload->>'machine' = machine and distance > 0 and ts > '2020-01-01'";
    assert_eq!(String::from_utf8_lossy(&psql(keyed).stdout).trim(), count());
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}
