use super::*;
use crate::audio::capture::RecentSound;
use crate::scoring::alarm::Kind;
use chrono::{DateTime, Utc};
use std::time::Duration;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time")
}

/// Those that are there, with 500 MB for them; none is lost.
fn open(dir: &tempfile::TempDir) -> Clips {
    let (clips, lost) = Clips::open(dir.path(), 500);
    assert_eq!(lost, None);
    clips
}

/// A clip of an alarm at a second, with a second of sound.
fn made(second: i64) -> Made {
    let samples = (0..8000).map(|n| ((n * 7919) % 20_011) as i16).collect();
    let sound = RecentSound { rate_hz: 8000, samples, end: (at(second) + Duration::from_secs(1)).into() };
    let (machine, kind, since, text) = ("fan-1".to_owned(), Kind::Fault, at(second), String::new());
    make(Material {
        machine,
        kind,
        since,
        text,
        sound,
        windows: Vec::new(),
        origin: None,
        like: None,
        normal: Vec::new(),
    })
    .expect("made")
}

fn key(second: i64) -> ClipKey {
    ClipKey::new("fan-1", Kind::Fault, at(second))
}

fn seconds(clips: &Clips) -> Vec<i64> {
    clips.all().iter().map(|(key, _)| (key.since_ms - at(0).timestamp_millis()) / 1000).collect()
}

fn fault() -> FaultExample {
    FaultExample { name: "bearing".into() }
}

#[test]
fn a_clip_is_found_again_and_what_is_half_done_goes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clips = open(&dir);
    assert_eq!((clips.total(), clips.clip(&key(1)).expect("readable")), ((0, 0), None));
    clips.keep(&made(1)).expect("kept");
    clips.keep(&made(1)).expect("the same again");
    clips.keep(&made(2)).expect("kept");
    clips.set_fault(&key(2), Some(fault())).expect("locked");
    let half = dir.path().join("clips/fan-1/.staging-x");
    std::fs::create_dir(&half).expect("a directory");
    std::fs::write(half.join(ABOUT), "{").expect("a file");
    std::fs::create_dir(dir.path().join("clips/fan-1/fault-5")).expect("a directory without a clip");

    let again = open(&dir);
    assert_eq!(again.all(), clips.all());
    assert_eq!(seconds(&again), [1, 2]);
    assert!(!half.exists());
    assert_eq!(again.summary(&key(2)).and_then(|clip| clip.fault), Some(fault()));
    let clip = again.clip(&key(2)).expect("readable").expect("there");
    assert_eq!(clip, Clip { fault: Some(fault()), ..made(2).clip });
    let sound = again.read(&key(1), SOUND).expect("readable").expect("there");
    assert!(sound.starts_with(b"fLaC"));
    assert_eq!(again.windows(&key(1)).expect("readable"), Some(Vec::new()));
    again.remove_machine("fan-1");
    assert_eq!(open(&dir).total(), (0, 0));
}

#[test]
fn the_oldest_go_for_room_and_those_of_faults_stay() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let size = made(1).bytes();
    let clips = Clips::with_free_space(dir.path(), 3 * size + size / 2, |_| Some(u64::MAX)).0;
    for second in 1..=3 {
        clips.keep(&made(second)).expect("kept");
    }
    clips.set_fault(&key(1), Some(fault())).expect("locked");
    clips.keep(&made(4)).expect("kept");
    assert_eq!(seconds(&clips), [1, 3, 4]);
    clips.set_fault(&key(3), Some(fault())).expect("locked");
    clips.set_fault(&key(4), Some(fault())).expect("locked");
    let error = clips.keep(&made(5)).expect_err("nothing may go");
    assert!(error.to_string().contains("do not fit"), "{error}");
    assert_eq!(clips.problem(), Some(error.to_string()));
    assert_eq!(seconds(&clips), [1, 3, 4]);
    clips.set_fault(&key(1), None).expect("unlocked");
    clips.keep(&made(5)).expect("kept");
    assert_eq!((seconds(&clips), clips.problem()), (vec![3, 4, 5], None));
}

#[test]
fn a_full_disk_keeps_what_it_has() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clips = open(&dir);
    clips.keep(&made(1)).expect("kept");
    let full = Clips::with_free_space(dir.path(), u64::MAX / 2, |_| Some(LEAST_FREE / 2)).0;
    let error = full.keep(&made(2)).expect_err("no room");
    assert!(error.to_string().contains("are left to others"), "{error}");
    assert_eq!((seconds(&full), full.problem()), (vec![1], Some(error.to_string())));
    // A file in the place of the directory: the disk refuses.
    let blocked = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(blocked.path().join(DIR), "").expect("a file");
    let clips = Clips::open(blocked.path(), 500).0;
    assert!(clips.keep(&made(1)).is_err());
    assert_eq!(clips.total(), (0, 0));
}

#[test]
fn what_is_not_the_agents_is_not_read_and_not_removed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clips = open(&dir);
    for second in [1, 2, 3] {
        clips.keep(&made(second)).expect("kept");
    }
    let place = |second: i64| dir.path().join(DIR).join(key(second).dir());
    // A clip in the place of another, and one that is larger than any.
    std::fs::copy(place(2).join(ABOUT), place(1).join(ABOUT)).expect("copied");
    std::fs::File::options()
        .write(true)
        .open(place(2).join(ABOUT))
        .and_then(|file| file.set_len(1 << 30))
        .expect("a hole");
    let outside = tempfile::tempdir().expect("a temporary directory");
    let theirs = outside.path().join(format!("{UNFINISHED}theirs"));
    std::fs::create_dir(&theirs).expect("a directory");
    std::os::unix::fs::symlink(outside.path(), dir.path().join(DIR).join("fan-2")).expect("a link");

    for problem in [clips.clip(&key(1)), clips.clip(&key(2))] {
        problem.expect_err("another's, or too large");
    }
    let (again, lost) = Clips::open(dir.path(), 500);
    assert_eq!(seconds(&again), [3]);
    let lost = lost.expect("said by the start, also when it was read before").to_string();
    assert!(lost.contains("another file in its place") && lost.contains("expected at most"), "{lost}");
    assert!(theirs.exists(), "what a link leads to is left alone");
    std::fs::remove_file(place(3).join(SOUND)).expect("removed");
    std::os::unix::fs::symlink("clip.json", place(3).join(SOUND)).expect("a link");
    let error = clips.read(&key(3), SOUND).expect_err("a link");
    assert!(error.to_string().ends_with("expected a file, found a link"), "{error}");
}

#[test]
fn what_is_damaged_exchanged_or_gone_is_said_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clips = open(&dir);
    for second in 1..=6 {
        clips.keep(&made(second)).expect("kept");
    }
    let place = |second: i64| dir.path().join(DIR).join(key(second).dir());
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("written");
    };
    // The sound and the windows when they are read: they are large.
    flip(&place(1).join(SOUND));
    std::fs::copy(place(2).join(PICTURE), place(1).join(PICTURE)).expect("copied");
    std::fs::remove_file(place(1).join(WINDOWS)).expect("removed");
    for (file, what) in [(SOUND, "does not fit"), (PICTURE, "does not fit"), (WINDOWS, "No such file")] {
        let error = clips.read(&key(1), file).expect_err("damaged");
        assert!(error.to_string().contains(what), "{error}");
    }
    flip(&place(2).join(ABOUT));
    std::fs::copy(place(6).join(ABOUT), place(3).join(ABOUT)).expect("copied");
    std::fs::remove_file(place(4).join(ABOUT)).expect("removed");
    std::fs::remove_dir_all(place(5)).expect("removed");
    // Who only looks leaves it as it is.
    for _ in 0..2 {
        assert!(Clips::read_only(dir.path()).1.is_some());
    }
    let (again, lost) = Clips::open(dir.path(), 500);
    let lost = lost.expect("four").to_string();
    assert!(lost.contains("set aside as") && lost.contains("is missing") && lost.ends_with("; and 1 more"), "{lost}");
    assert_eq!(seconds(&again), [1, 6]);
    open(&dir);
    // What was removed for room or with its machine is not missed.
    again.remove_machine("fan-1");
    open(&dir);
}

#[test]
fn links_are_not_followed_and_pictures_are_pictures() {
    let (dir, outside) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let clips = open(&dir);
    clips.keep(&made(1)).expect("kept");
    let place = dir.path().join(DIR).join(key(1).dir());
    // Without a check sum it may say that the sound is a picture.
    let about = std::fs::read_to_string(place.join(ABOUT)).expect("a file");
    std::fs::copy(place.join(SOUND), place.join(PICTURE)).expect("copied");
    let error = clips.read(&key(1), PICTURE).expect_err("no picture");
    assert!(error.to_string().ends_with("expected a picture, found something else"), "{error}");
    std::fs::write(place.join(ABOUT), about.replacen("\"sum\"", "\"som\"", 1)).expect("written");
    let error = clips.clip(&key(1)).expect_err("no check sum");
    assert!(error.to_string().ends_with("it has no check sum"), "{error}");
    std::fs::write(place.join(ABOUT), about).expect("written");
    // The machine's directory is elsewhere.
    let machine = dir.path().join(DIR).join("fan-1");
    std::fs::rename(&machine, outside.path().join("fan-1")).expect("moved");
    std::os::unix::fs::symlink(outside.path().join("fan-1"), &machine).expect("a link");
    let error = clips.keep(&made(2)).expect_err("a link");
    assert!(error.to_string().ends_with("expected a directory, found a link"), "{error}");
    let (again, lost) = Clips::open(dir.path(), 500);
    assert!(again.all().is_empty() && lost.is_some_and(|lost| lost.to_string().contains("behind a link")));
    again.remove_machine("fan-1");
    assert!(outside.path().join("fan-1").join(key(1).dir().file_name().expect("a name")).exists());
}

#[test]
fn what_is_left_of_a_damaged_clip_goes_first_for_room_and_with_its_machine() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let size = made(1).bytes();
    let place = |second: i64| dir.path().join(DIR).join(key(second).dir());
    let limited = || Clips::with_free_space(dir.path(), 2 * size + size / 2, |_| Some(u64::MAX));
    let clips = limited().0;
    for second in 1..=2 {
        clips.keep(&made(second)).expect("kept");
    }
    std::fs::write(place(2).join(ABOUT), "garbage").expect("written");
    let (clips, lost) = limited();
    assert!(lost.is_some() && place(2).join(SOUND).exists());
    clips.keep(&made(3)).expect("kept");
    assert_eq!((seconds(&clips), place(2).exists()), (vec![1, 3], false));
    std::fs::write(place(3).join(ABOUT), "garbage").expect("written");
    let clips = limited().0;
    clips.remove_machine("fan-1");
    assert_eq!(directories(&dir.path().join(DIR)).len(), 0);
    // The power failed while they were removed.
    std::fs::create_dir_all(dir.path().join(format!("{DIR}/{UNFINISHED}fan-1/fault-1"))).expect("a directory");
    open(&dir);
    assert_eq!(directories(&dir.path().join(DIR)).len(), 0);
}
