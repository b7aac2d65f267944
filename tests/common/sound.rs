//! Real microphones without hardware: for each a private PulseAudio whose null sink's monitor is the microphone, reached
//! through ALSA's pulse plugin. Speak into one with [`Microphone::play`]; unplug it by ending its server.
//!
//! Rigs for our own process take turns: they share the environment variable that names ALSA's configuration. Those for
//! other processes, which get it with `Rig::alsa_config`, need not.

#![allow(dead_code, reason = "each test binary uses its own part of the rig")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::wait::wait_within;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Some microphones, `mic0` and on as ALSA names; everything ends when it is dropped.
pub struct Rig {
    pub microphones: Vec<Microphone>,
    dir: tempfile::TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// One microphone with its own sound server.
pub struct Microphone {
    /// ALSA's name of it.
    pub name: String,
    pub rate_hz: u32,
    pub channels: usize,
    dir: PathBuf,
    server: Option<Child>,
}

impl Rig {
    /// One microphone for each (rate in Hz, channels), heard by this process; channels 1, 2 or 4.
    #[allow(unsafe_code, reason = "ALSA takes its configuration from the environment alone")]
    pub fn new(microphones: &[(u32, usize)]) -> Rig {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rig = Rig::for_others(microphones);
        rig._turn = Some(turn);
        // SAFETY: rigs take turns, and no other thread of a test reads the environment before it has one.
        unsafe { std::env::set_var("ALSA_CONFIG_PATH", rig.alsa_config()) };
        rig
    }

    /// The same, heard by other processes only.
    pub fn for_others(microphones: &[(u32, usize)]) -> Rig {
        let dir = tempfile::Builder::new().prefix("auscult-rig-").tempdir().expect("a directory for the rig");
        let mut config = "</usr/share/alsa/alsa.conf>\n".to_owned();
        let mut rig = Rig { microphones: Vec::new(), dir, _turn: None };
        for (number, &(rate_hz, channels)) in microphones.iter().enumerate() {
            let name = format!("mic{number}");
            let dir = rig.dir().join(&name);
            std::fs::create_dir_all(&dir).expect("a directory for a microphone");
            writeln!(
                config,
                "pcm.{name} {{ type pulse server \"unix:{}/native\" device \"speaker.monitor\" \
                 hint {{ show on description \"Test microphone {number}\" }} }}",
                dir.display()
            )
            .expect("a string takes everything");
            rig.microphones.push(Microphone { name, rate_hz, channels, dir, server: None });
        }
        std::fs::write(rig.alsa_config(), config).expect("a writable file");
        for microphone in &mut rig.microphones {
            microphone.plug_in();
        }
        rig
    }

    /// What `ALSA_CONFIG_PATH` must be for other processes to hear these microphones.
    pub fn alsa_config(&self) -> PathBuf {
        self.dir.path().join("asound.conf")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Microphone {
    fn server_address(&self) -> String {
        format!("unix:{}/native", self.dir.display())
    }

    /// Starts its sound server and waits until it answers.
    pub fn plug_in(&mut self) {
        assert!(self.server.is_none(), "{} is plugged in", self.name);
        let map = match self.channels {
            1 => "mono",
            2 => "front-left,front-right",
            4 => "front-left,front-right,rear-left,rear-right",
            other => panic!("no channel map for {other} channels"),
        };
        let sink = format!(
            "module-null-sink sink_name=speaker rate={} channels={} channel_map={map} format=s16le norewinds=1",
            self.rate_hz, self.channels
        );
        let protocol = format!("module-native-protocol-unix auth-anonymous=1 socket={}/native", self.dir.display());
        std::fs::remove_file(self.dir.join("native")).ok();
        let log = std::fs::File::create(self.dir.join("server.log")).expect("a writable file");
        let server = Command::new("pulseaudio")
            .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disallow-exit"])
            // With shared memory, libpulse can lock itself up when the server dies while a block is being read.
            .args(["--realtime=no", "--high-priority=no", "--disable-shm=yes", "-L", &sink, "-L", &protocol])
            .env("HOME", &self.dir)
            .env("XDG_RUNTIME_DIR", &self.dir)
            .env("PULSE_RUNTIME_PATH", &self.dir)
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("pulseaudio: run tests/setup.sh");
        self.server = Some(server);
        wait_for("the sound server", Duration::from_secs(20), || self.pactl(&["info"]));
    }

    /// Ends its sound server at once, as when the cable comes loose.
    pub fn unplug(&mut self) {
        let mut server = self.server.take().expect("it is plugged in");
        // A stopped process dies of SIGKILL too.
        server.kill().expect("our own child");
        server.wait().expect("our own child");
    }

    /// A silent stall: the stream stays open, no frame comes any more.
    pub fn suspend(&self, suspended: bool) {
        assert!(self.pactl(&["suspend-sink", "speaker", if suspended { "1" } else { "0" }]));
    }

    /// Stops (or continues) the whole sound server.
    pub fn freeze(&self, frozen: bool) {
        let server = self.server.as_ref().expect("it is plugged in");
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &server.id().to_string()]).status().expect("kill").success());
    }

    /// Plays a file into the microphone; ends when it is heard, or when dropped.
    pub fn play(&self, file: &Path) -> Player {
        let player = Command::new("paplay")
            .args(["-s", &self.server_address(), "-d", "speaker", "--no-remix", "--no-remap"])
            .arg(file)
            .env("HOME", &self.dir)
            .stdin(Stdio::null())
            .spawn()
            .expect("paplay: run tests/setup.sh");
        Player(player)
    }

    /// How many programs listen to it.
    pub fn listeners(&self) -> usize {
        let pactl = Command::new("pactl")
            .args(["-s", &self.server_address(), "list", "short", "source-outputs"])
            .env("HOME", &self.dir)
            .output();
        String::from_utf8_lossy(&pactl.expect("pactl: run tests/setup.sh").stdout).lines().count()
    }

    fn pactl(&self, command: &[&str]) -> bool {
        let pactl = Command::new("pactl")
            .args(["-s", &self.server_address()])
            .args(command)
            .env("HOME", &self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        pactl.expect("pactl: run tests/setup.sh").success()
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.unplug();
        }
    }
}

/// A file being played.
pub struct Player(Child);

impl Player {
    /// Waits for its end.
    pub fn finish(mut self) {
        assert!(self.0.wait().expect("our own child").success(), "paplay failed");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits until `condition` holds, for `limit` at most.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    wait_within(limit, what, condition);
}

/// Writes a WAV file of 16-bit samples, interleaved.
pub fn write_wav(file: &Path, rate_hz: u32, channels: usize, samples: &[i16]) {
    let channels = u16::try_from(channels).expect("few channels");
    let spec =
        hound::WavSpec { channels, sample_rate: rate_hz, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(file, spec).expect("a writable file");
    for &sample in samples {
        writer.write_sample(sample).expect("a writable file");
    }
    writer.finalize().expect("a writable file");
}
