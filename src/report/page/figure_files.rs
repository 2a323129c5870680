//! The figures of a page as files of their own: SVG, and PNG where the system has a font to write with.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use crate::report::page::figure::Figure;

/// Pixels of the PNG for one of the SVG: enough for print in a column.
const SCALE: f32 = 3.0;
/// Beyond this a picture is not drawn.
const PIXELS_MAX: f32 = 30_000.0;

/// Draws SVG with the system's fonts.
pub struct Painter {
    options: Options<'static>,
}

impl Painter {
    /// None where the system has no font: a figure without words is none.
    pub fn new() -> Option<Painter> {
        let mut fonts = fontdb::Database::new();
        fonts.load_system_fonts();
        let family = |wanted: &str| {
            let of = |face: &fontdb::FaceInfo| face.families.iter().any(|(name, _)| name == wanted);
            fonts.faces().any(of).then(|| wanted.to_owned())
        };
        let any = fonts.faces().next().and_then(|face| face.families.first()).map(|(name, _)| name.clone());
        let chosen = ["Arial", "Liberation Sans", "DejaVu Sans"].into_iter().find_map(family).or(any)?;
        fonts.set_sans_serif_family(&chosen);
        let options = Options { font_family: chosen, fontdb: Arc::new(fonts), ..Options::default() };
        Some(Painter { options })
    }

    /// The figure as PNG on white; `None` for one that is too large to draw.
    pub fn png(&self, figure: &Figure) -> Option<Vec<u8>> {
        let tree = Tree::from_str(&figure.standalone(), &self.options).ok()?;
        let (width, height) = ((tree.size().width() * SCALE).ceil(), (tree.size().height() * SCALE).ceil());
        if width > PIXELS_MAX || height > PIXELS_MAX {
            return None;
        }
        let mut picture = Pixmap::new(width as u32, height as u32)?;
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut picture.as_mut());
        picture.encode_png().ok()
    }
}
