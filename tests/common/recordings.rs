//! Recordings and golden values for the tests: what `../shared` holds, and WAV files made from it.

use std::path::{Path, PathBuf};

use auscult_signal::{Complex, Real};
use ndarray::{Array1, Array2, Array3};

/// What the reference computed for one clip and one machine.
pub struct Golden {
    pub name: String,
    pub clip: PathBuf,
    pub machine: String,
    /// Upper edge that the machine was trained with, Hz.
    pub fmax_hz: f64,
    /// `[windows, 128, 128]`.
    pub spectrogram: Array3<f32>,
    /// `[windows, 32]`.
    pub embedding: Array2<f32>,
    /// `[windows]`.
    pub distance: Array1<f32>,
}

pub fn clips(shared: &Path) -> Vec<PathBuf> {
    let mut clips: Vec<_> = shared.join("audio").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    clips.sort();
    assert_eq!(clips.len(), 2);
    clips
}

pub fn golden(shared: &Path) -> Vec<Golden> {
    let golden: Vec<_> =
        shared.join("golden").read_dir().unwrap().map(|entry| read_golden(shared, &entry.unwrap().path())).collect();
    assert_eq!(golden.len(), 6);
    golden
}

/// `normal_id_04.scored_as_id_08.npz`
fn read_golden(shared: &Path, file: &Path) -> Golden {
    let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
    let (recorded, machine) = name.split_once(".scored_as_").unwrap();
    let (kind, fan) = recorded.split_once('_').unwrap();
    let clip =
        clips(shared).into_iter().find(|clip| clip.to_str().unwrap().contains(&format!("{fan}_{kind}"))).unwrap();
    let mut arrays = ndarray_npy::NpzReader::new(std::fs::File::open(file).unwrap()).unwrap();
    Golden {
        clip,
        machine: machine.to_owned(),
        fmax_hz: if machine == "id_08" { 2000.0 } else { 8000.0 },
        spectrogram: arrays.by_name("spectrogram").unwrap(),
        embedding: arrays.by_name("embedding").unwrap(),
        distance: arrays.by_name("distance").unwrap(),
        name,
    }
}

/// Mean of the channels of a 16-bit file, read by another library than the one under test.
pub fn mono(file: &Path) -> Vec<f32> {
    let mut reader = hound::WavReader::open(file).unwrap();
    let channels = usize::from(reader.spec().channels);
    let samples: Vec<f32> = reader.samples::<i16>().map(|sample| f32::from(sample.unwrap()) / 32768.0).collect();
    samples.chunks(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect()
}

/// Takes `samples` to another rate without any filter of ours: the spectrum is cut or filled up with zeros.
pub fn to_rate(samples: &[f32], from_hz: usize, to_hz: usize) -> Vec<f32> {
    let (before, after) = (samples.len(), samples.len() * to_hz / from_hz);
    assert_eq!(before * to_hz, after * from_hz, "a whole number of samples");
    let (forward, inverse) = (f64::forward(before), f64::inverse(after));
    let mut input: Vec<f64> = samples.iter().map(|&sample| f64::from(sample)).collect();
    let mut spectrum = forward.make_output_vec();
    forward.process(&mut input, &mut spectrum).unwrap();
    let kept = before.min(after) / 2;
    spectrum.truncate(kept);
    spectrum.resize(after / 2 + 1, Complex::new(0.0, 0.0));
    let mut output = inverse.make_output_vec();
    inverse.process(&mut spectrum, &mut output).unwrap();
    output.iter().map(|sample| (sample / before as f64) as f32).collect()
}

/// Writes interleaved samples, as float or rounded to integers of `bits`.
pub fn write_wav(file: &Path, rate_hz: u32, channels: u16, bits: u16, float: bool, samples: &[f32]) {
    let sample_format = if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int };
    let spec = hound::WavSpec { channels, sample_rate: rate_hz, bits_per_sample: bits, sample_format };
    let mut writer = hound::WavWriter::create(file, spec).unwrap();
    let full_scale = f64::from(bits - 1).exp2();
    for &sample in samples {
        if float {
            writer.write_sample(sample).unwrap();
        } else {
            writer.write_sample((f64::from(sample) * full_scale).round().min(full_scale - 1.0) as i32).unwrap();
        }
    }
    writer.finalize().unwrap();
}
