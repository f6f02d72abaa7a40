//! Draws a run as SVG: a lane for the writes and one for each prober, and the faults below.

use std::fmt::Write as _;
use std::ops::Range;

use crate::report::Report;
use crate::score::{Millis, Span, wrong};

const LEFT: f64 = 280.0;
const WIDTH: f64 = 1200.0;
/// Room for the names of the faults, which are written aslant.
const RIGHT: f64 = 110.0;
const BELOW: f64 = 130.0;
const TOP: f64 = 56.0;
const LANE: f64 = 26.0;
const BAR: f64 = 18.0;

/// The picture has a background of its own, so that it looks the same on light and dark pages.
const STYLE: &str = "text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #d0d7de } \
    .quiet { fill: #8b949e } .fault { fill: #8b949e; opacity: .22 } \
    .serve { fill: #56d364 } .refuse { fill: #ff7b72 } .right { opacity: .4 }";

pub fn draw(report: &Report) -> String {
    let axis = Axis::new(report);
    let lanes = report.lanes.len() + 1;
    let bottom = TOP + LANE * lanes as f64;
    let (width, height) = (LEFT + WIDTH + RIGHT, bottom + BELOW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>What the probers said, and whether writes succeeded</title>\n\
         <style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <text x=\"16\" y=\"24\">A high green bar: serve. A low red bar: refuse. Bright: wrong. No \
         bar: not known.</text>\n"
    );
    for window in &report.windows {
        let (x, wide) = axis.place(&window.fault_time);
        let _ = writeln!(
            svg,
            "<rect class=\"fault\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>\n\
             <text transform=\"translate({x:.1} {:.1}) rotate(40)\">{}</text>",
            TOP - 6.0,
            bottom - TOP + 8.0,
            bottom + 16.0,
            window.fault.name,
        );
    }
    axis.draw_minutes(&mut svg);
    lane(&mut svg, 0, "writes");
    axis.draw(&mut svg, 0, &report.truth, "");
    for (number, prober) in (1..).zip(&report.lanes) {
        lane(&mut svg, number, prober.name);
        axis.draw(&mut svg, number, &prober.verdicts, " right");
        axis.draw(&mut svg, number, &wrong(&report.truth, &prober.verdicts), "");
    }
    svg.push_str("</svg>\n");
    svg
}

fn lane(svg: &mut String, number: usize, name: &str) {
    let y = TOP + LANE * number as f64 + BAR - 4.0;
    let _ = writeln!(svg, "<text x=\"16\" y=\"{y:.1}\">{name}</text>");
}

/// The time from left to right.
struct Axis {
    time: Range<Millis>,
}

impl Axis {
    fn new(report: &Report) -> Self {
        /// Shown before the first fault.
        const BEFORE: Millis = 3000;
        let begun = report.windows.first().map_or(0, |window| window.time.start);
        Self { time: begun.saturating_sub(BEFORE)..report.end }
    }

    /// The left edge and the width of a time.
    fn place(&self, time: &Range<Millis>) -> (f64, f64) {
        let scale = WIDTH / (self.time.end - self.time.start).max(1) as f64;
        let from = time.start.max(self.time.start);
        let until = time.end.max(from);
        (LEFT + (from - self.time.start) as f64 * scale, (until - from) as f64 * scale)
    }

    fn draw(&self, svg: &mut String, lane: usize, spans: &[Span], class: &str) {
        for span in spans {
            let (x, wide) = self.place(&span.time);
            // The state is visible without colours, too.
            let (name, high) = if span.serves { ("serve", BAR) } else { ("refuse", BAR / 2.0) };
            let y = TOP + LANE * lane as f64 + BAR - high;
            let _ = writeln!(
                svg,
                "<rect class=\"{name}{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" \
                 height=\"{high}\"/>"
            );
        }
    }

    fn draw_minutes(&self, svg: &mut String) {
        const MINUTE: Millis = 60_000;
        for minute in self.time.start.div_ceil(MINUTE)..=self.time.end / MINUTE {
            let (x, _) = self.place(&(minute * MINUTE..minute * MINUTE));
            let _ = writeln!(
                svg,
                "<text class=\"quiet\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{minute} \
                 min</text>",
                TOP - 12.0
            );
        }
    }
}
