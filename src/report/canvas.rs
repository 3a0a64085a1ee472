//! Pictures, drawn once for SVG and PNG alike.

use std::fmt::Display;
use std::io;

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{register_font, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::escape::escape;

/// In SVG the font of whoever looks; the PNG has the one that is registered under the whole name.
const FONT: &str = "Noto Sans, sans-serif";
/// Backends know whole pixels only: SVG is drawn larger and shown smaller.
const SVG_SCALE: u32 = 10;
/// Pixels of a PNG in one unit of the picture.
const PNG_SCALE: u32 = 3;
/// Each of them is the mean of so many in either direction.
const SUPERSAMPLING: u32 = 2;

pub(super) type Result<T, E = io::Error> = std::result::Result<T, E>;

/// Something that can be drawn.
pub(super) trait Picture {
    /// What it shows, in a few words.
    fn title(&self) -> String;
    /// Width and height.
    fn size(&self) -> (u32, u32);
    fn draw<B: DrawingBackend>(&self, canvas: &mut Canvas<B>) -> Result<()>;
}

/// The colours of a picture. The page exchanges them on a dark screen (`style.css`).
pub(super) mod ink {
    use plotters::style::RGBColor;

    pub const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
    pub const TEXT: RGBColor = RGBColor(0x1c, 0x24, 0x30);
    pub const QUIET: RGBColor = RGBColor(0x5b, 0x65, 0x74);
    pub const AXIS: RGBColor = RGBColor(0xa9, 0xb1, 0xbd);
    pub const GRID: RGBColor = RGBColor(0xe6, 0xe9, 0xee);
    pub const BLUE: RGBColor = RGBColor(0x2b, 0x6c, 0xb8);
    pub const FAINT_BLUE: RGBColor = RGBColor(0xc3, 0xd8, 0xf0);
    /// Of sets, one after the other.
    pub const SETS: [RGBColor; 5] = [
        RGBColor(0xd9, 0x65, 0x0b),
        RGBColor(0x0f, 0x8a, 0x6a),
        RGBColor(0x8a, 0x4f, 0xc4),
        RGBColor(0xc2, 0x35, 0x6b),
        RGBColor(0x8a, 0x6a, 0x0d),
    ];
}

/// Where the given point is of a text.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Left,
    Middle,
    Right,
}

/// A drawing surface whose units are those of the picture, whatever the backend's are.
pub(super) struct Canvas<'a, B: DrawingBackend> {
    backend: &'a mut B,
    scale: f64,
}

impl<B: DrawingBackend> Canvas<'_, B> {
    pub fn line(&mut self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Result<()> {
        let mut points: Vec<(i32, i32)> = points.iter().map(|&point| self.at(point)).collect();
        // The rasteriser has no direction for a piece without length.
        points.dedup();
        if points.len() < 2 {
            return Ok(());
        }
        let style = self.style(colour, width);
        failed(self.backend.draw_path(points, &style))
    }

    pub fn dashes(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        colour: RGBColor,
        width: f64,
    ) -> Result<()> {
        const PERIOD: f64 = 6.0;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let count = (length / PERIOD).ceil().max(1.0) as u32;
        for dash in 0..count {
            let at = |share: f64| {
                let share = share.min(1.0);
                (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share)
            };
            let start = f64::from(dash) * PERIOD / length;
            self.line(&[at(start), at(start + 0.55 * PERIOD / length)], colour, width)?;
        }
        Ok(())
    }

    pub fn polygon(&mut self, points: &[(f64, f64)], colour: RGBColor) -> Result<()> {
        let points: Vec<(i32, i32)> = points.iter().map(|&point| self.at(point)).collect();
        let style = self.style(colour, 0.0).filled();
        failed(self.backend.fill_polygon(points, &style))
    }

    pub fn rectangle(&mut self, from: (f64, f64), to: (f64, f64), colour: RGBColor) -> Result<()> {
        let style = self.style(colour, 0.0).filled();
        failed(self.backend.draw_rect(self.at(from), self.at(to), &style, true))
    }

    pub fn circle(&mut self, centre: (f64, f64), radius: f64, colour: RGBColor) -> Result<()> {
        let style = self.style(colour, 0.0).filled();
        let radius = (radius * self.scale).round() as u32;
        failed(self.backend.draw_circle(self.at(centre), radius, &style, true))
    }

    pub fn text(
        &mut self,
        text: &str,
        at: (f64, f64),
        anchor: Anchor,
        size: f64,
        colour: RGBColor,
    ) -> Result<()> {
        let across = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let style = TextStyle::from((FONT, size * self.scale).into_font())
            .color(&colour)
            .pos(Pos::new(across, VPos::Center));
        failed(self.backend.draw_text(text, &style, self.at(at)))
    }

    /// How wide a text is.
    pub fn width(&self, text: &str, size: f64) -> Result<f64> {
        let ((left, _), (right, _)) =
            (FONT, size * self.scale).into_font().layout_box(text).map_err(io::Error::other)?;
        Ok(f64::from(right - left) / self.scale)
    }

    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn style(&self, colour: RGBColor, width: f64) -> ShapeStyle {
        ShapeStyle::from(&colour).stroke_width((width * self.scale).round() as u32)
    }
}

/// A picture as a document of its own, whose `svg` element can also be part of a page.
pub(super) fn svg(picture: &impl Picture) -> Result<String> {
    let (width, height) = picture.size();
    let large = (width * SVG_SCALE, height * SVG_SCALE);
    let mut drawn = String::new();
    draw(picture, &mut SVGBackend::with_string(&mut drawn, large), SVG_SCALE)?;
    // The backend's own element knows one size only, and has no name for those who do not see it.
    let shapes = drawn.split_once('>').map_or("", |(_, shapes)| shapes);
    let title = escape(&picture.title());
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{title}\" stroke-linejoin=\"round\" \
         stroke-linecap=\"round\">{shapes}",
        large.0, large.1
    ))
}

/// A picture as a PNG.
pub(super) fn png(picture: &impl Picture) -> Result<Vec<u8>> {
    let (width, height) = picture.size();
    let scale = PNG_SCALE * SUPERSAMPLING;
    let large = (width * scale, height * scale);
    let mut pixels = vec![0xff; 3 * large.0 as usize * large.1 as usize];
    draw(picture, &mut BitMapBackend::with_buffer(&mut pixels, large), scale)?;
    let pixels = halve(&pixels, large.0 as usize);

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width * PNG_SCALE, height * PNG_SCALE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(&pixels).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)?;
    Ok(file)
}

fn draw<B: DrawingBackend>(picture: &impl Picture, backend: &mut B, scale: u32) -> Result<()> {
    register_font(FONT, FontStyle::Normal, notosans::REGULAR_TTF)
        .map_err(|_| io::Error::other("the font cannot be read"))?;
    let (width, height) = picture.size();
    let mut canvas = Canvas { backend, scale: f64::from(scale) };
    canvas.rectangle((0.0, 0.0), (f64::from(width), f64::from(height)), ink::PAPER)?;
    picture.draw(&mut canvas)?;
    failed(backend.present())
}

/// The mean of each square of pixels.
fn halve(pixels: &[u8], width: usize) -> Vec<u8> {
    let side = SUPERSAMPLING as usize;
    let rows = pixels.chunks_exact(3 * width * side);
    let mut halved = Vec::with_capacity(pixels.len() / (side * side));
    for row in rows {
        for column in 0..width / side {
            for channel in 0..3 {
                let sum: usize = (0..side * side)
                    .map(|i| {
                        let (x, y) = (column * side + i % side, i / side);
                        usize::from(row[3 * (y * width + x) + channel])
                    })
                    .sum();
                halved.push(((sum + side * side / 2) / (side * side)) as u8);
            }
        }
    }
    halved
}

fn failed<T>(result: Result<T, impl Display>) -> Result<T> {
    result.map_err(|error| io::Error::other(error.to_string()))
}
