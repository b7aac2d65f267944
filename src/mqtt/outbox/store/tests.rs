use super::*;

const ROOMY: Bounds = Bounds { max_bytes: 200 << 20, max_age_s: 30 * 86_400 };

fn row(id: i64, class: Class, bytes: usize) -> Row {
    Row { id, class, retain: true, topic: "a/b/verdict".into(), payload: vec![b'x'; bytes], created_s: Some(1000) }
}

fn ids(reader: &StoreReader) -> Vec<i64> {
    reader.read(i64::MIN, i64::MAX, usize::MAX).expect("rows").rows.iter().map(|row| row.id).collect()
}

#[test]
fn what_is_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = OutboxStore::open(dir.path(), ROOMY).expect("a new store");
    let rows = [row(1, Class::Verdict, 10), row(2, Class::Last, 10), row(3, Class::Verdict, 10)];
    let next_seqs = vec![("m1".to_owned(), 3), ("m-2".to_owned(), 9)];
    store.commit(&Changes { rows: rows.iter().collect(), next_seqs, ..Changes::default() }).expect("a commit");
    let reader = StoreReader::open(dir.path()).expect("a reader");
    assert_eq!(reader.read(1, 3, 10).expect("rows").rows, rows[..2]);
    assert_eq!(reader.read(2, i64::MAX, 1).expect("rows").rows, rows[1..2]);
    store.commit(&Changes { acked: vec![1, 77], ..Changes::default() }).expect("a commit");
    assert_eq!(store.totals(), Totals { depth: 2, dropped: 0, commits: 1 });
    drop((store, reader));
    let store = OutboxStore::open(dir.path(), ROOMY).expect("the store again");
    assert_eq!(store.totals(), Totals { depth: 2, dropped: 0, commits: 1 });
    assert_eq!(store.last_id().expect("an id"), 3);
    assert_eq!(store.next_seqs().expect("seqs").checked, [("m-2".into(), 9), ("m1".into(), 3)].into());
    assert_eq!(ids(&StoreReader::open(dir.path()).expect("a reader")), [2, 3]);
}

#[test]
fn ids_can_make_room() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = OutboxStore::open(dir.path(), ROOMY).expect("a new store");
    let rows = [row(1, Class::Verdict, 10), row(2, Class::Last, 20), row(5, Class::Verdict, 30)];
    store.commit(&Changes { rows: rows.iter().collect(), ..Changes::default() }).expect("a commit");
    store.make_room_for_new_ids().expect("moved");
    let reader = StoreReader::open(dir.path()).expect("a reader");
    let moved = reader.read(i64::MIN, 1, 10).expect("rows").rows;
    assert_eq!(moved.iter().map(|row| (row.id, row.payload.len())).collect::<Vec<_>>(), [(-4, 10), (-3, 20), (0, 30)]);
}

#[test]
fn when_full_the_oldest_verdicts_go_first_and_alarms_last() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bounds = Bounds { max_bytes: 1 << 20, ..ROOMY };
    let mut store = OutboxStore::open(dir.path(), bounds).expect("a new store");
    let class_of = |id: i64| match id {
        1..=100 => Class::Last,
        101..=200 => Class::Event,
        _ => Class::Verdict,
    };
    let rows: Vec<Row> = (1..=2000).map(|id| row(id, class_of(id), 1000)).collect();
    for batch in rows.chunks(50) {
        store.commit(&Changes { rows: batch.iter().collect(), ..Changes::default() }).expect("a commit");
        assert!(store.used_bytes().expect("a size") <= bounds.max_bytes);
    }
    let kept = ids(&StoreReader::open(dir.path()).expect("a reader"));
    assert_eq!(kept[..200], (1..=200).collect::<Vec<_>>());
    let verdicts = &kept[200..];
    assert_eq!(verdicts.last(), Some(&2000));
    assert!(verdicts.windows(2).all(|pair| pair[1] == pair[0] + 1), "the newest are kept, without holes");
    assert_eq!(store.totals(), Totals { depth: kept.len() as u64, dropped: 2000 - kept.len() as u64, commits: 40 });

    let alarms: Vec<Row> = (3001..=4000).map(|id| row(id, Class::Last, 1000)).collect();
    store.commit(&Changes { rows: alarms.iter().collect(), ..Changes::default() }).expect("a commit");
    let kept = ids(&StoreReader::open(dir.path()).expect("a reader"));
    assert!(!kept.contains(&150) && !kept.contains(&2000), "events and verdicts went before alarms");
    assert_eq!(kept.last(), Some(&4000));
}

#[test]
fn what_is_too_old_goes_and_what_has_no_age_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = OutboxStore::open(dir.path(), Bounds { max_age_s: 100, ..ROOMY }).expect("a new store");
    let created = [Some(10), None, Some(20), Some(950), Some(30)];
    let rows: Vec<Row> =
        (1..).zip(created).map(|(id, created_s)| Row { created_s, ..row(id, Class::Last, 1) }).collect();
    store.commit(&Changes { rows: rows.iter().collect(), ..Changes::default() }).expect("a commit");
    store.drop_old(1000).expect("a commit");
    // The last one's clock was wrong: it is no older than what stands before it.
    assert_eq!(ids(&StoreReader::open(dir.path()).expect("a reader")), [2, 4, 5]);
    assert_eq!(store.totals(), Totals { depth: 3, dropped: 2, commits: 1 });
}

#[test]
fn damage_is_distinguished_from_a_full_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(file(dir.path()), vec![7; 10_000]).expect("a file of garbage");
    assert!(matches!(OutboxStore::open(dir.path(), ROOMY), Err(SqliteError::Damaged(_))));
    let aside = sqlite::set_aside(&file(dir.path()), chrono::Utc::now()).expect("renamed");
    assert!(aside.is_file() && !file(dir.path()).exists());
    OutboxStore::open(dir.path(), ROOMY).expect("a new store");
    std::fs::write(dir.path().join("file"), "").expect("a file");
    assert!(matches!(OutboxStore::open(&dir.path().join("file/dir"), ROOMY), Err(SqliteError::Unavailable(_))));
}
