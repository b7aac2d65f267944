use super::writer::SPILL_ROWS;
use super::*;
use crate::clock::Clock;
use crate::mqtt::payload::health::OutboxState;

fn options(dir: &std::path::Path) -> OutboxOptions {
    OutboxOptions {
        dir: dir.to_owned(),
        bounds: Bounds { max_bytes: 200 << 20, max_age_s: 30 * 86_400 },
        clock: Clock::new(true),
        least_seqs: BTreeMap::new(),
    }
}

#[test]
fn seq_goes_on_above_what_is_imported_also_when_the_next_start_no_longer_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let least_seqs = BTreeMap::from([("fan-1".to_owned(), 5_000)]);
    let outbox = Outbox::open(OutboxOptions { least_seqs: least_seqs.clone(), ..options(dir.path()) }, drop);
    let outbox = outbox.expect("a thread");
    assert_eq!((window(&outbox, "fan-1"), window(&outbox, "fan-2")), (5_000, 0));
    outbox.close(Duration::from_secs(5));
    assert!(reserved_seqs(dir.path())["fan-1"] > 5_000);
    let outbox = Outbox::open(OutboxOptions { least_seqs, ..options(dir.path()) }, drop).expect("a thread");
    assert_eq!(window(&outbox, "fan-1"), 5_001, "and never goes back");
    outbox.close(Duration::from_secs(5));
    let (outbox, changes) = open(dir.path());
    assert_eq!(window(&outbox, "fan-1"), 5_002);
    assert!(changes.try_recv().is_err(), "nothing was skipped");
}

fn open(dir: &std::path::Path) -> (Outbox, std::sync::mpsc::Receiver<OutboxChange>) {
    let (sender, changes) = std::sync::mpsc::channel();
    let outbox = Outbox::open(options(dir), move |change| drop(sender.send(change))).expect("a thread");
    (outbox, changes)
}

fn draft(text: &str) -> Draft {
    Draft { class: Class::Verdict, retain: true, topic: "t".into(), payload: text.into() }
}

fn window(outbox: &Outbox, machine: &str) -> u64 {
    let mut given = 0;
    outbox.push_window(machine, |seq| {
        given = seq;
        vec![draft(&format!("{machine} {seq}"))]
    });
    given
}

fn texts(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| String::from_utf8_lossy(&row.payload).into_owned()).collect()
}

/// Everything that can be read, once `count` messages can.
fn wait_for(reader: &mut OutboxReader, count: usize) -> Vec<Row> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut from = i64::MIN;
        let mut all = Vec::new();
        loop {
            let (rows, next) = reader.read(from, i64::MAX, 100);
            if rows.is_empty() {
                break;
            }
            all.extend(rows);
            from = next;
        }
        if all.len() >= count {
            return all;
        }
        assert!(Instant::now() < deadline, "{} of {count} messages can be read", all.len());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A store of a stopped agent that holds so many windows of the machine `m1`.
fn closed_store(windows: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (outbox, _changes) = open(dir.path());
    for _ in 0..windows {
        window(&outbox, "m1");
    }
    wait_for(&mut outbox.reader(), windows);
    outbox.close(Duration::from_secs(20));
    dir
}

#[test]
fn messages_come_out_in_order_and_go_when_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (outbox, _changes) = open(dir.path());
    let mut reader = outbox.reader();
    for _ in 0..250 {
        window(&outbox, "m1");
        window(&outbox, "m2");
    }
    let rows = wait_for(&mut reader, 500);
    assert!(rows.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(texts(&rows[498..]), ["m1 249", "m2 249"]);
    for row in &rows[..400] {
        outbox.acknowledged(row.id);
    }
    assert_eq!(outbox.stats().depth, 100);
    assert_eq!(wait_for(&mut reader, 100).len(), 100);
    outbox.close(Duration::from_secs(20));

    let (outbox, _changes) = open(dir.path());
    assert_eq!(outbox.stats().depth, 100);
    assert_eq!(window(&outbox, "m1"), 250, "seq goes on");
    let rows = wait_for(&mut outbox.reader(), 101);
    assert_eq!(texts(&rows[100..]), ["m1 250"]);
    assert!(rows[99].id < rows[100].id);
}

#[test]
fn what_comes_together_is_written_together() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (outbox, _changes) = open(dir.path());
    for _ in 0..3000 {
        window(&outbox, "m1");
    }
    wait_for(&mut outbox.reader(), 3000);
    let commits = outbox.stats().commits;
    assert!((1..=1500).contains(&commits), "{commits} commits for 3000 messages at once");
}

#[test]
fn a_broken_store_is_set_aside_and_no_seq_comes_twice() {
    let dir = closed_store(40);
    for suffix in ["", "-wal"] {
        let file = format!("{}{suffix}", store::file(dir.path()).display());
        if std::fs::exists(&file).expect("a directory") {
            std::fs::write(file, vec![0x5a; 20_000]).expect("written over");
        }
    }
    let (outbox, changes) = open(dir.path());
    assert!(matches!(changes.recv(), Ok(OutboxChange::Corrupt(_))));
    let next = window(&outbox, "m1");
    assert!(next >= 40, "seq {next} was used before");
    assert_eq!(texts(&wait_for(&mut outbox.reader(), 1)), [format!("m1 {next}")]);
    let aside = std::fs::read_dir(dir.path()).expect("a directory").flatten();
    assert!(aside.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("corrupt")));
}

#[test]
fn damage_found_while_reading_does_not_stop_it() {
    let dir = closed_store(2000);
    // The pages of the messages, not the first ones with the tables' layout and the counters.
    let file = store::file(dir.path());
    let mut bytes = std::fs::read(&file).expect("the store");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    std::fs::write(&file, bytes).expect("written over");

    let (outbox, changes) = open(dir.path());
    let mut reader = outbox.reader();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut from = i64::MIN;
    while changes.try_recv().is_err() {
        (_, from) = reader.read(from, i64::MAX, 100);
        assert!(Instant::now() < deadline, "the damage was not found");
    }
    let seq = window(&outbox, "m1");
    assert!(seq >= 2000, "seq {seq} was used before");
    let rows = wait_for(&mut reader, 1);
    assert_eq!(texts(&rows[rows.len() - 1..]), [format!("m1 {seq}")]);
    assert_eq!(outbox.stats().state, OutboxState::Disk);
}

#[test]
fn without_a_disk_it_goes_on_in_memory_and_returns() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = dir.path().join("state");
    std::fs::write(&place, "in the way").expect("a file");
    let (outbox, changes) = open(&place);
    assert!(matches!(changes.recv(), Ok(OutboxChange::Failed(_))));
    let mut reader = outbox.reader();
    for _ in 0..3 {
        window(&outbox, "m1");
    }
    let rows = wait_for(&mut reader, 3);
    assert_eq!(texts(&rows), ["m1 0", "m1 1", "m1 2"]);
    assert_eq!(outbox.stats().state, OutboxState::Memory);
    outbox.acknowledged(rows[0].id);
    std::fs::remove_file(&place).expect("out of the way");
    assert!(matches!(changes.recv_timeout(Duration::from_secs(30)), Ok(OutboxChange::Back)));
    window(&outbox, "m1");
    assert_eq!(texts(&wait_for(&mut reader, 3)), ["m1 1", "m1 2", "m1 3"]);
    outbox.close(Duration::from_secs(20));
    let (outbox, _changes) = open(&place);
    assert_eq!(outbox.stats().depth, 3);
    assert_eq!(window(&outbox, "m1"), 4);
}

#[test]
fn memory_is_bounded_and_keeps_what_weighs_most() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = dir.path().join("state");
    std::fs::write(&place, "in the way").expect("a file");
    let (outbox, _changes) = open(&place);
    outbox.push(Draft { class: Class::Last, ..draft("alarm") });
    for _ in 0..SPILL_ROWS + 500 {
        window(&outbox, "m1");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while outbox.stats().dropped < 501 {
        assert!(Instant::now() < deadline, "{:?}", outbox.stats());
        std::thread::sleep(Duration::from_millis(2));
    }
    let rows = wait_for(&mut outbox.reader(), SPILL_ROWS);
    assert_eq!(texts(&rows[..2]), ["alarm", "m1 501"]);
    assert_eq!(rows.len(), SPILL_ROWS);
}

/// A state directory in which `m1` has used 0 to 39, left as by `kill -9`: with the store's log beside it.
fn killed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (outbox, _changes) = open(dir.path());
    for _ in 0..40 {
        window(&outbox, "m1");
    }
    wait_for(&mut outbox.reader(), 40);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !outbox.is_settled() {
        assert!(Instant::now() < deadline, "the messages are not on disk");
        std::thread::sleep(Duration::from_millis(2));
    }
    let copy = tempfile::tempdir().expect("a temporary directory");
    for entry in std::fs::read_dir(dir.path()).expect("a directory").flatten() {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
    }
    outbox.close(Duration::from_secs(20));
    copy
}

#[test]
fn after_a_kill_the_numbers_go_on_without_a_gap() {
    let dir = killed();
    let (outbox, changes) = open(dir.path());
    assert_eq!(window(&outbox, "m1"), 40);
    assert_eq!(texts(&wait_for(&mut outbox.reader(), 41)[40..]), ["m1 40"]);
    outbox.close(Duration::from_secs(20));
    assert_eq!(changes.try_recv().ok(), None);
}

#[test]
fn whatever_becomes_of_one_file_no_seq_comes_twice_and_the_loss_is_reported() {
    type Damage = fn(&std::path::Path, &std::path::Path);
    let damages: [(&str, Damage); 8] = [
        ("zeroed", |file, _| {
            let bytes = std::fs::metadata(file).expect("a file").len();
            std::fs::write(file, vec![0; bytes as usize]).expect("written");
        }),
        ("truncated", |file, _| {
            let file = std::fs::File::options().write(true).open(file).expect("a file");
            let bytes = file.metadata().expect("a file").len();
            file.set_len(bytes / 3).expect("truncated");
        }),
        ("empty", |file, _| std::fs::write(file, "").expect("written")),
        ("garbage", |file, _| std::fs::write(file, vec![0x5a; 20_000]).expect("written")),
        ("deleted", |file, _| std::fs::remove_file(file).expect("removed")),
        ("a directory", |file, _| {
            std::fs::remove_file(file).expect("removed");
            std::fs::create_dir(file).expect("a directory");
        }),
        ("swapped", |file, other| {
            let aside = file.with_extension("aside");
            std::fs::rename(file, &aside).expect("renamed");
            std::fs::rename(other, file).expect("renamed");
            std::fs::rename(&aside, other).expect("renamed");
        }),
        ("a bit flipped", |file, _| {
            let mut bytes = std::fs::read(file).expect("a file");
            let middle = bytes.iter().position(|byte| *byte == b'0').unwrap_or(bytes.len() / 2);
            bytes[middle] ^= 1;
            std::fs::write(file, bytes).expect("written");
        }),
    ];
    let files = ["seq.json", "seq-reached.json", "outbox.sqlite", "outbox.sqlite-wal"];
    for (what, damage) in damages {
        for (number, name) in files.into_iter().enumerate() {
            let dir = killed();
            let other = dir.path().join(files[(number + 1) % files.len()]);
            damage(&dir.path().join(name), &other);
            let (outbox, changes) = open(dir.path());
            let seq = window(&outbox, "m1");
            let rows = wait_for(&mut outbox.reader(), 1);
            outbox.close(Duration::from_secs(20));
            let reports: Vec<OutboxChange> = changes.try_iter().collect();
            assert!(seq >= 40, "{what}, {name}: seq {seq} was used before: {reports:?}");
            for row in &rows[..rows.len() - 1] {
                let text = String::from_utf8_lossy(&row.payload);
                let old = (0..40).any(|seq| text == format!("m1 {seq}"));
                assert!(old, "{what}, {name}: {text:?} was never enqueued");
            }
            assert!(seq == 40 || !reports.is_empty(), "{what}, {name}: seq {seq} and nothing is reported");

            let (outbox, changes) = open(dir.path());
            assert_eq!(window(&outbox, "m1"), seq + 1, "{what}, {name}: the start after");
            outbox.close(Duration::from_secs(20));
            assert_eq!(changes.try_recv().ok(), None, "{what}, {name}: the start after");
        }
    }
}

#[test]
fn a_message_with_a_flipped_bit_is_not_sent() {
    let dir = closed_store(40);
    let file = store::file(dir.path());
    let mut bytes = std::fs::read(&file).expect("the store");
    let at = bytes.windows(5).position(|text| text == b"m1 17").expect("the message");
    bytes[at + 4] ^= 1;
    std::fs::write(&file, bytes).expect("written over");

    let (outbox, changes) = open(dir.path());
    let rows = wait_for(&mut outbox.reader(), 39);
    assert_eq!(rows.len(), 39);
    assert_eq!(texts(&rows).iter().filter(|text| *text == "m1 16").count(), 1, "17 became another 16");
    let report = changes.recv_timeout(Duration::from_secs(20)).expect("a report");
    assert!(
        matches!(&report, OutboxChange::Corrupt(what) if what.contains("damaged and not sent: 1 message")),
        "{report:?}"
    );
    assert_eq!(window(&outbox, "m1"), 40);
    outbox.close(Duration::from_secs(20));
    assert_eq!(outbox.stats().depth, 40);
}

#[test]
fn a_state_directory_of_version_0_1_is_continued() {
    let dir = closed_store(40);
    let old = rusqlite::Connection::open(store::file(dir.path())).expect("the store");
    old.execute_batch("ALTER TABLE message DROP COLUMN sum; DELETE FROM counter WHERE name GLOB 'seqsum/*';")
        .expect("as version 0.1 wrote it");
    drop(old);
    std::fs::remove_file(dir.path().join("seq-reached.json")).expect("removed");
    let mut ceilings = br#"{"store_is_sure":true,"ceilings":{"m1":1000}}"#.to_vec();
    ceilings.resize(32 * 1024, b' ');
    std::fs::write(dir.path().join("seq.json"), ceilings).expect("written");

    for seq in 40..42 {
        let (outbox, changes) = open(dir.path());
        assert_eq!(window(&outbox, "m1"), seq);
        wait_for(&mut outbox.reader(), seq as usize + 1);
        outbox.close(Duration::from_secs(20));
        assert_eq!(changes.try_recv().ok(), None);
    }
}
