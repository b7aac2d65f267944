use super::*;

fn seqs(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(machine, seq)| ((*machine).to_owned(), *seq)).collect()
}

fn stored(pairs: &[(&str, u64)]) -> StoredSeqs {
    StoredSeqs { checked: seqs(pairs), has_sums: true, commits: 600, ..StoredSeqs::default() }
}

/// A directory in which `m1` has reached 606.
fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut reservation = SeqReservation::open(dir.path());
    let next = seqs(&[("m1", 606)]);
    reservation.reserve([(&"m1".to_owned(), 6)], true).expect("written");
    reservation.reserve([(&"m1".to_owned(), 606)], true).expect("written");
    reservation.committed(&next, 600).expect("written");
    dir
}

fn next(dir: &Path, stored: Option<&StoredSeqs>) -> (Option<u64>, Option<String>) {
    let Recovered { next_seqs, skipped } = SeqReservation::open(dir).recover(stored);
    (next_seqs.get("m1").copied(), skipped)
}

#[test]
fn whole_files_that_agree_lose_no_number() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let new = SeqReservation::open(dir.path()).recover(Some(&StoredSeqs::default()));
    assert_eq!(new, Recovered::default(), "the first start");
    let dir = used();
    assert_eq!(next(dir.path(), Some(&stored(&[("m1", 606)]))), (Some(606), None));
    assert_eq!(next(dir.path(), Some(&stored(&[("m1", 609)]))), (Some(609), None), "a power cut lost the newest");
    let new = stored(&[("m1", 606), ("m2", 4)]);
    assert_eq!(SeqReservation::open(dir.path()).recover(Some(&new)).next_seqs, new.checked);
}

#[test]
fn numbers_that_were_reserved_but_never_stored_are_used() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut reservation = SeqReservation::open(dir.path());
    reservation.reserve([(&"m1".to_owned(), 1)], true).expect("written");
    assert_eq!(next(dir.path(), Some(&StoredSeqs::default())), (Some(0), None));
}

/// However far the first start came before it was killed, nothing had been sent.
#[test]
fn a_first_start_that_was_killed_skips_no_number() {
    let whole = tempfile::tempdir().expect("a temporary directory");
    let mut first = SeqReservation::open(whole.path());
    first.recover(Some(&StoredSeqs::default()));
    first.reserve([], true).expect("written");
    let new = [CEILINGS, REACHED].map(|name| std::fs::read(whole.path().join(name)).expect("made before any number"));
    first.reserve([(&"m1".to_owned(), 1)], true).expect("written");
    let reserved = std::fs::read(whole.path().join(CEILINGS)).expect("the file");
    assert_ne!(new[0], reserved);
    for files in [vec![&new[0]], vec![&new[0], &new[1]], vec![&reserved, &new[1]]] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, bytes) in [CEILINGS, REACHED].iter().zip(files) {
            std::fs::write(dir.path().join(name), bytes).expect("a writable file");
        }
        let (seq, skipped) = next(dir.path(), Some(&StoredSeqs::default()));
        assert_eq!((seq.unwrap_or(0), skipped), (0, None));
    }
    // The first one reserves and the second one is not there: it was lost, and with it what was reached.
    std::fs::remove_file(whole.path().join(REACHED)).expect("removed");
    assert!(next(whole.path(), Some(&StoredSeqs::default())).1.is_some());
}

#[test]
fn a_lost_or_old_or_damaged_store_is_stepped_over() {
    let dir = used();
    let unchecked = StoredSeqs { unchecked: seqs(&[("m1", 600)]), has_sums: true, ..StoredSeqs::default() };
    for (store, what) in [
        (None, "cannot be opened"),
        (Some(StoredSeqs::default()), "was lost"),
        (Some(stored(&[("m1", 605)])), "is an old one"),
        (Some(StoredSeqs { commits: 599, ..stored(&[("m1", 606)]) }), "599 of 600 commits"),
        (Some(unchecked), "counter of m1 is damaged"),
    ] {
        let (seq, skipped) = next(dir.path(), store.as_ref());
        assert!(seq >= Some(1606), "{what}: {seq:?}");
        let skipped = skipped.expect(what);
        assert!(skipped.contains(what) && skipped.contains("m1 at "), "{skipped}");
    }
}

#[test]
fn a_store_that_could_not_be_written_is_stepped_over() {
    let dir = used();
    let mut reservation = SeqReservation::open(dir.path());
    reservation.reserve([(&"m1".to_owned(), 1500)], false).expect("written");
    assert_eq!(next(dir.path(), Some(&stored(&[("m1", 606)]))).0, Some(2500));
}

#[test]
fn any_damage_to_a_file_is_reported_and_repaired_and_repeats_no_number() {
    type Damage = fn(&Path, &Path) -> io::Result<()>;
    let damages: [(&str, Damage); 8] = [
        ("zeroed", |file, _| std::fs::write(file, vec![0; FILE_BYTES])),
        ("truncated", |file, _| File::options().write(true).open(file)?.set_len(20)),
        ("empty", |file, _| std::fs::write(file, "")),
        ("a bit of a number", |file, _| {
            let text = std::fs::read_to_string(file)?;
            std::fs::write(file, text.replace("1006", "1004"))
        }),
        ("garbage", |file, _| std::fs::write(file, [0xa5; 5000])),
        ("deleted", |file, _| std::fs::remove_file(file)),
        ("a directory in its place", |file, _| std::fs::remove_file(file).and_then(|()| std::fs::create_dir(file))),
        ("swapped", |file, other| {
            let aside = file.with_extension("aside");
            std::fs::rename(file, &aside)?;
            std::fs::rename(other, file)?;
            std::fs::rename(aside, other)
        }),
    ];
    for (what, damage) in damages {
        for (name, other) in [(CEILINGS, REACHED), (REACHED, CEILINGS)] {
            let dir = used();
            damage(&dir.path().join(name), &dir.path().join(other)).expect(what);
            let mut reservation = SeqReservation::open(dir.path());
            let Recovered { next_seqs, skipped } = reservation.recover(Some(&stored(&[("m1", 606)])));
            let next_seq = next_seqs["m1"];
            assert!(next_seq >= 1606, "{what}, {name}: {next_seq}");
            assert!(skipped.expect(what).contains(name), "{what}, {name}");

            reservation.reserve([(&"m1".to_owned(), next_seq)], true).expect(what);
            reservation.committed(&next_seqs, 600).expect(what);
            let (seq, skipped) = next(dir.path(), Some(&stored(&[("m1", next_seq)])));
            assert_eq!((seq, skipped), (Some(next_seq), None), "{what}, {name}: the next start");
        }
    }
}

#[test]
fn every_single_bit_may_flip() {
    let dir = used();
    for name in [CEILINGS, REACHED] {
        let file = dir.path().join(name);
        let text = std::fs::read(&file).expect("the file");
        for bit in 0..8 * 200 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, &flipped).expect("written");
            let mut reservation = SeqReservation::open(dir.path());
            let seq = reservation.recover(Some(&stored(&[("m1", 606)]))).next_seqs["m1"];
            assert!(seq == 606 || seq >= 1606, "bit {bit} of {name}: {seq}");
        }
        std::fs::write(&file, text).expect("written");
    }
}

#[test]
fn a_file_of_version_0_1_is_believed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut old = br#"{"store_is_sure":true,"ceilings":{"m1":1606}}"#.to_vec();
    old.resize(FILE_BYTES, b' ');
    std::fs::write(dir.path().join(CEILINGS), old).expect("written");
    let store = StoredSeqs { unchecked: seqs(&[("m1", 606)]), ..StoredSeqs::default() };
    let mut reservation = SeqReservation::open(dir.path());
    assert_eq!(reservation.recover(Some(&store)), Recovered { next_seqs: seqs(&[("m1", 606)]), skipped: None });
    // A crash between this version's first write here and its first commit.
    reservation.reserve([(&"m1".to_owned(), 606)], true).expect("written");
    assert_eq!(next(dir.path(), Some(&store)), (Some(606), None));
}

#[test]
fn the_files_are_overwritten_in_place_and_only_when_needed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let machine = "m1".to_owned();
    let mut reservation = SeqReservation::open(dir.path());
    reservation.reserve([(&machine, 1)], true).expect("written");
    let path = dir.path().join(CEILINGS);
    let before = std::fs::read(&path).expect("the file");
    std::fs::write(&path, vec![b'-'; before.len()]).expect("written over");
    for next in 2..1001 {
        reservation.reserve([(&machine, next)], true).expect("nothing to write");
    }
    assert!(std::fs::read(&path).expect("the file").starts_with(b"--"), "written although nothing changed");
    reservation.reserve([(&machine, 1001)], true).expect("written");
    let after = std::fs::read(&path).expect("the file");
    assert_eq!(after.len(), before.len());
    assert_eq!(next(dir.path(), None).0, Some(2001));
}
