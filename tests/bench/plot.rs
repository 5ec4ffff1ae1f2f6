//! The picture: latency by offered rate, both logarithmic, as SVG on a white ground that any page can carry.

use std::io;
use std::ops::Range;

use plotters::coord::combinators::BindKeyPoints as _;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::numbers::shown;
use crate::report::{Rung, Sync};

/// The picture's own units. It is drawn larger than it is shown, because coordinates are whole numbers.
const SIZE: (u32, u32) = (1640, 1080);
const TITLE: u32 = 50;
const TEXT: u32 = 36;
const SMALL: u32 = 32;
const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
const FAINT: RGBColor = RGBColor(0x59, 0x63, 0x6E);
const GRID: RGBColor = RGBColor(0xDD, 0xE2, 0xE8);
const SYNC: RGBColor = RGBColor(0x1A, 0x7F, 0x37);
/// Each server with its colour, and the side of its lines on which there is room for its name.
const SERVERS: [(&str, RGBColor, HPos); 2] =
    [("livehook", RGBColor(0x09, 0x69, 0xDA), HPos::Right), ("bare route", RGBColor(0xBC, 0x4C, 0x00), HPos::Left)];
/// Each line of a server: what of its latency, how wide, and how long its dashes are, where it has any.
const LINES: [Line; 3] = [
    Line { name: "p50", of: |rung| rung.p50, width: 7, dash: None },
    Line { name: "p99", of: |rung| rung.p99, width: 3, dash: None },
    Line { name: "p99.9", of: |rung| rung.p999, width: 3, dash: Some(10) },
];
/// No latency is drawn higher: where a server does not follow it is that of the queue, which grows for ever.
const MICROS_MAX: f64 = 1e6;

/// The names of servers and syncs need room on the right: the axis goes on to so many times the highest rate.
const ROOM: f64 = 2.0;
/// The names of servers stand so far below the top, beside the lines that rise to it,
const NAMED_AT: i32 = 24;
/// in lines that are so far apart.
const LEADING: i32 = 42;

struct Line {
    name: &'static str,
    of: fn(&Rung) -> u64,
    width: u32,
    dash: Option<i32>,
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// The picture of these figures, with p50 and p99 of a sync for comparison and a line that says where they were taken.
/// None where there are none.
pub(crate) fn draw(rungs: &[Rung], sync: Option<Sync>, caption: &str) -> Option<io::Result<String>> {
    if rungs.is_empty() {
        return None;
    }
    let mut svg = String::new();
    let drawn = picture(&mut svg, rungs, sync, caption);
    Some(drawn.map(|()| svg).map_err(|error| io::Error::other(error.to_string())))
}

fn picture(svg: &mut String, rungs: &[Rung], sync: Option<Sync>, caption: &str) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw_text("How long an answer takes, by the rate at which callbacks come in", &text(TITLE, INK), (40, 24))?;
    let how = "from the moment a callback was due to its answer; 64 connections; 742 bytes, signed, each different";
    root.draw_text(how, &text(SMALL, FAINT), (40, 80))?;
    root.draw_text(caption, &text(SMALL, FAINT), (40, 1034))?;

    let offered = around(rungs.iter().map(|rung| f64::from(rung.offered)), 1.1);
    let rates = offered.start..offered.end * ROOM;
    let drawn = LINES.iter().flat_map(|line| rungs.iter().map(line.of)).chain(sync.map(|sync| sync.p50));
    let times = around(drawn.map(micros_shown), 1.3);
    let mut chart = ChartBuilder::on(&root)
        .margin(30)
        .margin_right(70)
        .margin_top(130)
        .margin_bottom(60)
        .x_label_area_size(100)
        .y_label_area_size(120)
        .build_cartesian_2d(
            rates.clone().log_scale().with_key_points(ticks(&rates, &[1, 2, 5])),
            times.clone().log_scale().with_key_points(ticks(&times, &[1])),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.stroke_width(2))
        .axis_style(FAINT.stroke_width(2))
        .label_style(text(TEXT, INK))
        .x_desc("callbacks offered per second")
        .x_label_formatter(&|rate| shown(*rate, ""))
        .y_label_formatter(&|micros| shown(*micros, " µs"))
        .draw()?;
    if let Some(Sync { p50, p99 }) = sync {
        level(&mut chart, &rates, p50, "disk sync p50", VPos::Top)?;
        level(&mut chart, &rates, p99, "disk sync p99", VPos::Bottom)?;
    }
    for (name, colour, side) in SERVERS {
        let mut rungs: Vec<_> = rungs.iter().filter(|rung| rung.server == name).collect();
        rungs.sort_by_key(|rung| rung.offered);
        server(&mut chart, &rungs, times.end, (name, colour, side))?;
    }
    legend(&root)?;
    root.present()
}

/// The lines of one server, and its name beside the rate that it bears.
fn server<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    rungs: &[&Rung],
    top: f64,
    (name, colour, side): (&str, RGBColor, HPos),
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for line in LINES {
        let points = rungs.iter().map(|rung| (f64::from(rung.offered), micros_shown((line.of)(rung))));
        let points: Vec<_> = points.collect();
        let style = colour.stroke_width(line.width);
        match line.dash {
            None => chart.draw_series(LineSeries::new(points, style))?,
            Some(dash) => chart.draw_series(DashedLineSeries::new(points, dash, dash, style))?,
        };
    }
    let Some(borne) = rungs.iter().rev().find(|rung| rung.kept_up) else {
        return Ok(());
    };
    let beyond = rungs.last().unwrap_or(borne);
    let (rate, away) = match side {
        HPos::Left => (beyond.offered, 24),
        HPos::Right | HPos::Center => (borne.offered, -24),
    };
    let at = (f64::from(rate), top);
    let lines = [name.to_owned(), "keeps up to".to_owned(), shown(borne.offered.into(), "/s")];
    for (row, line) in (0..).zip(lines) {
        let style = text(TEXT, colour).pos(Pos::new(side, VPos::Top));
        let place = (away, NAMED_AT + row * LEADING);
        chart.draw_series([at].map(|at| EmptyElement::at(at) + Text::new(line.clone(), place, style.clone())))?;
    }
    Ok(())
}

/// A line at a time that no rate changes, with its name at its end.
fn level<X, Y>(chart: &mut Chart<'_, '_, X, Y>, rates: &Range<f64>, micros: u64, name: &str, side: VPos) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let micros = micros_shown(micros);
    let ends = [(rates.start, micros), (rates.end, micros)];
    chart.draw_series(DashedLineSeries::new(ends, 3, 8, SYNC.stroke_width(3)))?;
    let gap = if matches!(side, VPos::Top) { 8 } else { 0 };
    let style = text(SMALL, SYNC).pos(Pos::new(HPos::Right, side));
    chart
        .draw_series([ends[1]].map(|at| EmptyElement::at(at) + Text::new(name.to_owned(), (0, gap), style.clone())))?;
    Ok(())
}

/// Which line is which, where no line comes: at low rates latencies are low.
fn legend(root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn {
    const CORNER: (i32, i32) = (200, 160);
    for (number, line) in (0..).zip(LINES) {
        let (x, y) = (CORNER.0, CORNER.1 + 46 * number);
        for (column, (_, colour, _)) in (0..).zip(SERVERS) {
            let (from, to) = (x + 110 * column, x + 110 * column + 90);
            let dash = line.dash.unwrap_or(to - from);
            let starts = (from..to).step_by(usize::try_from(2 * dash).unwrap_or(1));
            for start in starts {
                let path = vec![(start, y + 14), ((start + dash).min(to), y + 14)];
                root.draw(&PathElement::new(path, colour.stroke_width(line.width)))?;
            }
        }
        root.draw_text(line.name, &text(TEXT, INK), (x + 230, y))?;
    }
    Ok(())
}

fn text(size: u32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn micros_shown(micros: u64) -> f64 {
    u32::try_from(micros).map_or(MICROS_MAX, |micros| f64::from(micros).min(MICROS_MAX))
}

/// From the least to the greatest, and a little beyond.
fn around(values: impl Iterator<Item = f64>, factor: f64) -> Range<f64> {
    let (least, greatest) =
        values.fold((f64::MAX, f64::MIN), |(least, greatest), value| (value.min(least), value.max(greatest)));
    least / factor..greatest * factor
}

/// The numbers with one of these digits and zeros behind that lie in a range.
fn ticks(range: &Range<f64>, digits: &[u32]) -> Vec<f64> {
    let decades = (0..9).map(|decade| 10_u32.pow(decade));
    let ticks = decades.flat_map(|decade| digits.iter().map(move |digit| f64::from(decade) * f64::from(*digit)));
    ticks.filter(|tick| range.contains(tick)).collect()
}
