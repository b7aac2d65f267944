//! A spectrogram as a picture for people: PNG with axes and colour bar, or blocks for the terminal.

use auscult_signal::{FrontEnd, hz_to_mel};
use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{Canvas, DrawError, encode};

/// The picture could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("expected an image of {expected} values as the front-end makes, found {found}")]
    Shape { expected: usize, found: usize },
    #[error(transparent)]
    Draw(#[from] DrawError),
}

/// What is to be drawn.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Above the picture: file, window, band.
    pub title: &'a str,
    pub front_end: &'a FrontEnd,
    /// `[n_mels, frames]`, 0..1, as [`MelExtractor::compute`](super::MelExtractor::compute) gives it.
    pub image: &'a [f32],
    /// How many dB 0 lies below 1.
    pub range_db: f32,
}

const INK: RGBColor = RGBColor(45, 45, 55);
const LINE: RGBColor = RGBColor(120, 120, 130);

/// Size that the image itself is brought to by whole pixels for each value, at least.
const LEAST_SIZE: (usize, usize) = (760, 500);
/// Room around the image: left, right, top, bottom.
const MARGINS: (usize, usize, usize, usize) = (70, 110, 64, 58);
const TEXT: i32 = 15;

/// Where ticks of frequency may stand, the more welcome first.
const TICKS_HZ: [f64; 27] = [
    1000.0, 2000.0, 4000.0, 8000.0, 16_000.0, 32_000.0, 64_000.0, 500.0, 250.0, 100.0, 3000.0, 6000.0, 12_000.0,
    24_000.0, 48_000.0, 96_000.0, 1500.0, 750.0, 50.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1250.0, 1750.0, 2500.0,
];

impl Picture<'_> {
    /// The picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// `Shape` where image and front-end do not fit; `Draw` is not expected.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        self.check()?;
        let layout = Layout::new(self.front_end);
        let mut pixels = vec![0; layout.width * layout.height * 3];
        let size = (layout.width as u32, layout.height as u32);
        self.draw_frame(&layout, Canvas::new(&mut pixels, size)?)?;
        self.fill_image(&layout, &mut pixels);
        Ok(encode(&pixels, size)?)
    }

    /// The picture in characters, `columns` wide and `rows` high at most, with title and axis; in 24-bit colour, else in
    /// shades of text.
    ///
    /// # Errors
    /// `Shape` where image and front-end do not fit.
    pub fn to_text(&self, columns: usize, rows: usize, colour: bool) -> Result<String, PictureError> {
        self.check()?;
        const LABEL: usize = 7;
        const SHADES: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
        let (bands, frames) = (self.front_end.n_mels, self.front_end.frames);
        let width = columns.saturating_sub(LABEL).clamp(16, frames.max(16)).min(frames);
        // A coloured character shows two pixels, one above the other.
        let lines = rows.saturating_sub(2).clamp(4, 24).min(bands);
        let height = if colour { (2 * lines).min(bands) } else { lines };
        let value = |x: usize, y: usize| {
            let columns = x * frames / width..((x + 1) * frames / width).max(x * frames / width + 1);
            let rows = y * bands / height..((y + 1) * bands / height).max(y * bands / height + 1);
            let count = (columns.len() * rows.len()) as f32;
            rows.map(|row| self.image[row * frames..][columns.clone()].iter().sum::<f32>()).sum::<f32>() / count
        };
        let edges_hz = self.front_end.mel_edges_hz();
        let lines = height.div_ceil(if colour { 2 } else { 1 });
        let title: String = match self.title.chars().count() > columns {
            true => std::iter::once('…')
                .chain(self.title.chars().skip(self.title.chars().count() + 1 - columns.max(1)))
                .collect(),
            false => self.title.to_owned(),
        };
        let mut text = format!("{title}\n");
        for line in 0..lines {
            let from_below = |part: usize| height.saturating_sub(1 + part);
            let rows = if colour { [2 * line, 2 * line + 1] } else { [line, line] };
            let label = match line % 4 == 0 || line + 1 == lines {
                true => format!("{:.0} |", edges_hz[1 + (from_below(rows[0]) * bands + bands / 2) / height]),
                false => "|".into(),
            };
            text.push_str(&format!("{label:>LABEL$}"));
            for x in 0..width {
                let (upper, lower) = (value(x, from_below(rows[0])), value(x, from_below(rows[1])));
                if colour {
                    let (RGBColor(r, g, b), RGBColor(s, h, c)) = (magma(upper), magma(lower));
                    text.push_str(&format!("\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m\u{2580}"));
                } else {
                    let shade = (upper * SHADES.len() as f32) as usize;
                    text.push(SHADES[shade.min(SHADES.len() - 1)]);
                }
            }
            text.push_str(if colour { "\x1b[0m\n" } else { "\n" });
        }
        let end = format!("{:.1} s", frames as f64 * frame_s(self.front_end));
        let start = "0 s";
        let gap = width.saturating_sub(start.len() + end.len());
        text.push_str(&format!("{:>LABEL$}{start}{:gap$}{end}\n", "Hz ", ""));
        Ok(text)
    }

    fn check(&self) -> Result<(), PictureError> {
        let (expected, found) = (self.front_end.n_mels * self.front_end.frames, self.image.len());
        if expected == 0 || expected != found {
            return Err(PictureError::Shape { expected, found });
        }
        Ok(())
    }

    /// Everything but the image: title, axes, colour bar.
    fn draw_frame(&self, layout: &Layout, canvas: Canvas) -> Result<(), DrawError> {
        let text = |words: &str, x: i32, y: i32, size: i32, across: HPos, down: VPos| {
            canvas.text(words, (x, y), size, Pos::new(across, down), INK)
        };
        let line = |from: (i32, i32), to: (i32, i32)| canvas.line([from, to], LINE, 1);
        let (left, right, top, bottom) = layout.edges();
        text(&self.fitting_title(layout), left, 16, 19, HPos::Left, VPos::Top)?;

        text("Hz", left - 10, top - 8, TEXT, HPos::Right, VPos::Bottom)?;
        for (hz, y) in layout.ticks_hz(self.front_end) {
            line((left - 6, y), (left - 1, y))?;
            text(&format!("{hz}"), left - 10, y, TEXT, HPos::Right, VPos::Center)?;
        }
        text("s", right, bottom + 30, TEXT, HPos::Right, VPos::Top)?;
        for (label, x) in layout.ticks_s(self.front_end) {
            line((x, bottom + 1), (x, bottom + 6))?;
            text(&label, x, bottom + 10, TEXT, HPos::Center, VPos::Top)?;
        }
        let bar = (right + 24, right + 42);
        for y in top..bottom {
            let share = (bottom - 1 - y) as f32 / (bottom - 1 - top).max(1) as f32;
            canvas.bar((bar.0, y), (bar.1, y + 1), magma(share))?;
        }
        text("dB", bar.1 + 10, top - 8, TEXT, HPos::Left, VPos::Bottom)?;
        let range_db = f64::from(self.range_db);
        let step = step_of(range_db, 9.0);
        for tick in 0..=(range_db / step).floor().max(0.0) as i32 {
            let below = f64::from(tick) * step;
            let y = top + (below / range_db.max(1e-9) * f64::from(bottom - 1 - top)).round() as i32;
            line((bar.1 + 1, y), (bar.1 + 6, y))?;
            let label = if tick == 0 { "0".into() } else { format!("\u{2212}{below}") };
            text(&label, bar.1 + 10, y, TEXT, HPos::Left, VPos::Center)?;
        }
        canvas.finish()
    }

    /// The title; where it is too long its end, which names the file.
    fn fitting_title(&self, layout: &Layout) -> String {
        let most = layout.width / 10;
        let length = self.title.chars().count();
        if length <= most {
            return self.title.to_owned();
        }
        format!("\u{2026}{}", self.title.chars().skip(length + 1 - most).collect::<String>())
    }

    fn fill_image(&self, layout: &Layout, pixels: &mut [u8]) {
        let (bands, frames) = (self.front_end.n_mels, self.front_end.frames);
        let (left, top) = (MARGINS.0, MARGINS.2);
        for y in 0..bands * layout.band {
            let values = &self.image[(bands - 1 - y / layout.band) * frames..][..frames];
            let start = ((top + y) * layout.width + left) * 3;
            let row = &mut pixels[start..start + frames * layout.frame * 3];
            for (cell, &value) in row.chunks_exact_mut(layout.frame * 3).zip(values) {
                let RGBColor(r, g, b) = magma(value);
                cell.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[r, g, b]));
            }
        }
    }
}

/// Where things stand, in pixels.
struct Layout {
    /// Pixels for each frame and each band.
    frame: usize,
    band: usize,
    image: (usize, usize),
    width: usize,
    height: usize,
}

impl Layout {
    fn new(front_end: &FrontEnd) -> Layout {
        let (frame, band) =
            (LEAST_SIZE.0.div_ceil(front_end.frames).max(1), LEAST_SIZE.1.div_ceil(front_end.n_mels).max(1));
        let image = (frame * front_end.frames, band * front_end.n_mels);
        let (left, right, top, bottom) = MARGINS;
        Layout { frame, band, image, width: left + image.0 + right, height: top + image.1 + bottom }
    }

    /// Of the image: left, right, top, bottom; right and bottom are the first pixels beyond.
    fn edges(&self) -> (i32, i32, i32, i32) {
        let (left, _, top, _) = MARGINS;
        (left as i32, (left + self.image.0) as i32, top as i32, (top + self.image.1) as i32)
    }

    /// Ticks of frequency and where they stand: as many as there is room for.
    fn ticks_hz(&self, front_end: &FrontEnd) -> Vec<(f64, i32)> {
        let (_, _, top, bottom) = self.edges();
        let (low, high) = (hz_to_mel(front_end.fmin_hz), hz_to_mel(front_end.fmax_hz));
        let bands_per_mel = (front_end.n_mels + 1) as f64 / (high - low);
        let mut ticks: Vec<(f64, i32)> = Vec::new();
        for hz in TICKS_HZ {
            // Band 0 peaks one step above the lowest edge and is drawn half a band above the bottom.
            let band = (hz_to_mel(hz) - low) * bands_per_mel - 1.0;
            let y = bottom - ((band + 0.5) * self.band as f64).round() as i32;
            // The edges of the whole band lie half a step beyond the image.
            let beyond = y - y.clamp(top, bottom);
            let y = y - beyond;
            let free = ticks.iter().all(|&(_, other)| (other - y).abs() >= 2 * TEXT);
            if beyond.abs() <= self.band as i32 && free {
                ticks.push((hz, y));
            }
        }
        ticks
    }

    /// Ticks of time and where they stand. A frame's time is that of its middle.
    fn ticks_s(&self, front_end: &FrontEnd) -> Vec<(String, i32)> {
        let (left, right, ..) = self.edges();
        let frame_s = frame_s(front_end);
        let step = step_of(front_end.frames as f64 * frame_s, 10.0);
        let decimals = if step < 0.1 {
            2
        } else if step < 1.0 {
            1
        } else {
            0
        };
        (0..)
            .map(|tick| f64::from(tick) * step)
            .map(|s| (format!("{s:.decimals$}"), left + ((s / frame_s + 0.5) * self.frame as f64).round() as i32))
            .take_while(|&(_, x)| x < right)
            .collect()
    }
}

/// Seconds from frame to frame.
fn frame_s(front_end: &FrontEnd) -> f64 {
    front_end.hop as f64 / f64::from(front_end.rate_hz)
}

/// The least of 1, 2, 5 times a power of ten that divides `range` into at most `most` parts.
fn step_of(range: f64, most: f64) -> f64 {
    let steps = (-3..6).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    steps.into_iter().find(|step| range / step <= most).unwrap_or(1e6)
}

/// The colour map "magma" (van der Walt and Smith, CC0): even steps look even, in grey too. Between nine of its colours.
fn magma(value: f32) -> RGBColor {
    const COLOURS: [[u8; 3]; 9] = [
        [0, 0, 4],
        [28, 16, 68],
        [79, 18, 123],
        [129, 37, 129],
        [181, 54, 122],
        [229, 89, 100],
        [251, 135, 97],
        [254, 194, 135],
        [252, 253, 191],
    ];
    let at = value.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f32;
    let lower = (at as usize).min(COLOURS.len() - 2);
    let share = at - lower as f32;
    let mix = |part: usize| {
        let (from, to) = (f32::from(COLOURS[lower][part]), f32::from(COLOURS[lower + 1][part]));
        (from + (to - from) * share).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn decode(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(bytes).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width as usize, info.height as usize, pixels)
    }

    /// The shipped mosquitto takes messages up to 1 MiB.
    #[test]
    fn a_picture_of_noise_is_no_large_message() {
        let front_end = FrontEnd::default();
        let mut rng = StdRng::seed_from_u64(1);
        let image: Vec<f32> = (0..128 * 128).map(|_| rng.random_range(0.0..1.0)).collect();
        let picture = Picture { title: "noise", front_end: &front_end, image: &image, range_db: 60.0 };
        let bytes = picture.to_png().unwrap().len();
        assert!(bytes < 500_000, "{bytes} bytes");
    }

    #[test]
    fn low_bands_lie_below_and_early_frames_left() {
        let front_end = FrontEnd::default();
        let mut image = vec![0.0; 128 * 128];
        image[0] = 1.0;
        let picture = Picture { title: "a.wav", front_end: &front_end, image: &image, range_db: 80.0 };
        let (width, height, pixels) = decode(&picture.to_png().unwrap());
        let pixel = |x: usize, y: usize| &pixels[(y * width + x) * 3..][..3];
        assert_eq!(pixel(MARGINS.0, height - MARGINS.3 - 1), [252, 253, 191]);
        assert_eq!(pixel(MARGINS.0, MARGINS.2), [0, 0, 4]);
        assert_eq!(pixel(width - MARGINS.1 - 1, height - MARGINS.3 - 1), [0, 0, 4]);
        // The title is there: something dark in its line.
        assert!((MARGINS.0..300).any(|x| (16..36).any(|y| pixel(x, y)[0] < 100)));
    }

    #[test]
    fn ticks_stand_where_their_band_is() {
        let front_end = FrontEnd::default();
        let layout = Layout::new(&front_end);
        let edges = front_end.mel_edges_hz();
        for (hz, y) in layout.ticks_hz(&front_end) {
            let band = ((layout.edges().3 - 1 - y) as usize / layout.band).min(127);
            // The highest edge comes from logarithms: it is 8000 Hz but for rounding.
            assert!(edges[band] < hz && hz < edges[band + 2] + 1e-6, "{hz} Hz at band {band}");
        }
        let ticks = layout.ticks_s(&front_end);
        assert_eq!((ticks[1].0.as_str(), ticks.len()), ("0.5", 9));
    }

    #[test]
    fn odd_shapes_are_drawn_and_wrong_ones_refused() {
        for (n_mels, frames) in [(1, 1), (7, 3), (600, 157)] {
            let front_end = FrontEnd { n_mels, frames, ..FrontEnd::default() };
            let image = vec![0.5; n_mels * frames];
            let title = "x".repeat(500);
            let picture = Picture { title: &title, front_end: &front_end, image: &image, range_db: 0.0 };
            decode(&picture.to_png().unwrap());
            assert!(picture.to_text(80, 26, true).unwrap().lines().count() >= 3);
            assert!(Picture { image: &image[1..], ..picture }.to_png().is_err());
        }
    }

    #[test]
    fn text_shows_the_loud_band() {
        let front_end = FrontEnd::default();
        let mut image = vec![0.0; 128 * 128];
        // The upper of 24 lines.
        image[122 * 128..].fill(1.0);
        let picture = Picture { title: "a.wav", front_end: &front_end, image: &image, range_db: 80.0 };
        let text = picture.to_text(80, 26, false).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 26);
        assert!(lines[1..].iter().all(|line| line.chars().count() <= 80));
        assert!(lines[1].contains("@@@") && !lines[2].contains('@'), "{text}");
        for colour in [true, false] {
            let title = "recordings/".repeat(20) + "a.wav";
            let text = Picture { title: &title, ..picture }.to_text(80, 20, colour).unwrap();
            assert_eq!(text.lines().count(), 20);
            let title = text.lines().next().expect("a title");
            assert!(title.chars().count() == 80 && title.ends_with("a.wav"), "{title}");
        }
    }
}
