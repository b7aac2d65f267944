//! Paper to draw pictures for people on: texts, lines and bars in the font that comes with auscult, as a PNG in the end.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::Pos;
use plotters::style::{FontStyle, register_font};

const FONT: &str = "DejaVu Sans";
const FONT_BYTES: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");

/// Not expected: the font and the size are ours.
#[derive(Debug, thiserror::Error)]
#[error("the picture cannot be drawn")]
pub struct DrawError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl DrawError {
    fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DrawError {
        DrawError(cause.into())
    }
}

type Draw = Result<(), DrawError>;

pub(crate) struct Canvas<'a>(DrawingArea<BitMapBackend<'a>, Shift>);

impl<'a> Canvas<'a> {
    /// White paper over `pixels`, three bytes each.
    pub fn new(pixels: &'a mut [u8], size: (u32, u32)) -> Result<Self, DrawError> {
        register_font(FONT, FontStyle::Normal, FONT_BYTES).map_err(|_| DrawError::new("the font is broken"))?;
        let area = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
        area.fill(&WHITE).map_err(DrawError::new)?;
        Ok(Canvas(area))
    }

    /// `anchor` says which part of the words stands at `at`.
    pub fn text(&self, words: &str, at: (i32, i32), size: i32, anchor: Pos, colour: RGBColor) -> Draw {
        let style = TextStyle::from((FONT, size).into_font()).color(&colour).pos(anchor);
        self.0.draw(&Text::new(words.to_owned(), at, style)).map_err(DrawError::new)
    }

    pub fn line(&self, path: impl Into<Vec<(i32, i32)>>, colour: RGBColor, wide: u32) -> Draw {
        self.0.draw(&PathElement::new(path, colour.stroke_width(wide))).map_err(DrawError::new)
    }

    pub fn bar(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Draw {
        self.0.draw(&Rectangle::new([from, to], colour.filled())).map_err(DrawError::new)
    }

    pub fn finish(self) -> Draw {
        self.0.present().map_err(DrawError::new)
    }
}

/// The bytes of a PNG file.
pub(crate) fn encode(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, DrawError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Values are blocks of equal pixels: a fifth as long as by the crate's own choice, which is made for photographs.
    encoder.set_compression(png::Compression::Default);
    encoder.set_filter(png::FilterType::NoFilter);
    let mut writer = encoder.write_header().map_err(DrawError::new)?;
    writer.write_image_data(pixels).map_err(DrawError::new)?;
    writer.finish().map_err(DrawError::new)?;
    Ok(bytes)
}
