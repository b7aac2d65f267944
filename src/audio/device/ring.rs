//! Between the sound library's thread and ours: a lock-free ring of samples, and one of the blocks that they came in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cpal::{ErrorKind, SizedSample};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::audio::wav::from_16_bits;

/// So much sound fits, s.
const RING_S: usize = 3;
/// So many blocks fit: more than the samples', even where a block has 32 frames.
const BLOCKS: usize = 16_384;

/// One delivery of the sound library.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    pub frames: usize,
    /// When it arrived.
    pub at: Instant,
    /// Frames that had come before it, and found no room in the ring.
    pub dropped: u64,
    /// The sound library has reported an overrun before it.
    pub overrun: bool,
}

/// What the error callback leaves for us.
#[derive(Default)]
pub struct Faults {
    overruns: AtomicU64,
    /// The first error that ends the stream.
    fatal: Mutex<Option<cpal::Error>>,
}

impl Faults {
    /// For the error callback. It may come 700 000 times a second when a device is gone: then it is slowed down.
    pub fn note(&self, error: cpal::Error) {
        match error.kind() {
            ErrorKind::Xrun => {
                self.overruns.fetch_add(1, Ordering::Relaxed);
            }
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ => {
                if let Ok(mut fatal) = self.fatal.lock() {
                    fatal.get_or_insert(error);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// What has ended the stream.
    pub fn fatal(&self) -> Option<cpal::Error> {
        self.fatal.lock().ok()?.clone()
    }
}

/// The callback's end.
pub struct Writer {
    samples: Producer<f32>,
    blocks: Producer<Block>,
    faults: Arc<Faults>,
    channels: usize,
    overruns_seen: u64,
    dropped: u64,
    overrun: bool,
}

/// Our end.
pub struct Reader {
    pub samples: Consumer<f32>,
    pub blocks: Consumer<Block>,
}

/// A ring for a stream of so many channels.
pub fn ring(rate_hz: u32, channels: usize, faults: Arc<Faults>) -> (Writer, Reader) {
    let (samples_in, samples) = RingBuffer::new(rate_hz as usize * channels * RING_S);
    let (blocks_in, blocks) = RingBuffer::new(BLOCKS);
    let writer = Writer {
        samples: samples_in,
        blocks: blocks_in,
        faults,
        channels,
        overruns_seen: 0,
        dropped: 0,
        overrun: false,
    };
    (writer, Reader { samples, blocks })
}

impl Writer {
    /// For the data callback: never waits, never allocates. What finds no room is dropped and counted.
    pub fn write<T: ToF32>(&mut self, data: &[T]) {
        let at = Instant::now();
        let frames = data.len() / self.channels;
        let overruns = self.faults.overruns.load(Ordering::Relaxed);
        self.overrun |= overruns != self.overruns_seen;
        self.overruns_seen = overruns;
        if self.blocks.is_full() || frames == 0 {
            self.dropped += frames as u64;
            return;
        }
        let Ok(chunk) = self.samples.write_chunk_uninit(frames * self.channels) else {
            self.dropped += frames as u64;
            return;
        };
        chunk.fill_from_iter(data.iter().map(|&sample| sample.to_f32()));
        let block = Block { frames, at, dropped: self.dropped, overrun: self.overrun };
        // There is room: only this thread writes.
        if self.blocks.push(block).is_ok() {
            (self.dropped, self.overrun) = (0, false);
        }
    }
}

/// A sample as full scale 1.
pub trait ToF32: SizedSample + Send + 'static {
    fn to_f32(self) -> f32;
}

impl ToF32 for u8 {
    fn to_f32(self) -> f32 {
        (f32::from(self) - 128.0) / 128.0
    }
}

impl ToF32 for i16 {
    fn to_f32(self) -> f32 {
        from_16_bits(self)
    }
}

impl ToF32 for cpal::I24 {
    /// ALSA leaves the upper byte of the four as it is: cpal's own conversion takes it for a part of the sample.
    fn to_f32(self) -> f32 {
        (self.inner() << 8).to_f32()
    }
}

impl ToF32 for i32 {
    fn to_f32(self) -> f32 {
        self as f32 / 2_147_483_648.0
    }
}

impl ToF32 for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}
