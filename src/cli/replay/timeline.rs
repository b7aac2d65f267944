//! The timeline of a replay as a picture: distance and score over their limits, verdicts and alarms below.

use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::features::canvas::{Canvas, DrawError, encode};
use crate::numbers::counted;
use crate::scoring::alarm::{AlarmState, Kind};
use crate::scoring::{Assessment, MachineModel, Verdict};

const SIZE: (u32, u32) = (1200, 620);
/// Where the panels begin and end, from the left; below them the bars begin, from the top.
const LEFT: i32 = 80;
const RIGHT: i32 = SIZE.0 as i32 - 24;
const FOOT: i32 = SIZE.1 as i32 - 100;
const INK: RGBColor = RGBColor(45, 45, 55);
const GRID: RGBColor = RGBColor(225, 225, 230);
const LINE: RGBColor = RGBColor(70, 105, 160);
const LIMIT: RGBColor = RGBColor(200, 60, 50);
const QUIET: RGBColor = RGBColor(185, 190, 200);
const LEARNING: RGBColor = RGBColor(236, 240, 248);

/// One window.
pub struct Point {
    pub end_s: f64,
    pub verdict: Verdict,
    distance: Option<f64>,
    threshold: Option<f64>,
    /// `-log10` of the probability, and its limit.
    score: Option<(f64, f64)>,
    alarm: AlarmState,
}

impl Point {
    pub fn new(end_s: f64, model: &MachineModel, assessment: &Assessment, alarm: AlarmState) -> Point {
        let limit = model.baseline.as_ref().map(|baseline| -baseline.false_alarm_rate.log10());
        Point {
            end_s,
            verdict: assessment.verdict,
            distance: assessment.distance,
            threshold: assessment.threshold.filter(|limit| limit.is_finite()),
            score: assessment.score.zip(limit),
            alarm,
        }
    }
}

/// An alarm was raised.
pub struct Mark {
    pub at_s: f64,
    pub kind: Kind,
}

/// All windows of a replay.
pub struct Timeline {
    machine: String,
    fault_at_s: Option<f64>,
    /// Up to here the normal was learned.
    pub learned_s: Option<f64>,
    points: Vec<Point>,
    marks: Vec<Mark>,
}

/// One panel of the picture: which pixels, which values.
struct Panel {
    top: i32,
    bottom: i32,
    most: f64,
}

impl Panel {
    fn y(&self, value: f64) -> i32 {
        let share = (value / self.most).clamp(0.0, 1.0);
        self.bottom - (share * f64::from(self.bottom - self.top)) as i32
    }
}

impl Timeline {
    pub fn new(machine: &str, fault_at_s: Option<f64>) -> Timeline {
        let machine = machine.to_owned();
        Timeline { machine, fault_at_s, learned_s: None, points: Vec::new(), marks: Vec::new() }
    }

    pub fn add(&mut self, point: Point) {
        self.points.push(point);
    }

    pub fn mark(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// Not expected.
    pub fn to_png(&self) -> Result<Vec<u8>, DrawError> {
        let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
        let end_s = self.points.last().map_or(1.0, |point| point.end_s).max(1.0);
        {
            let drawing = Drawing { canvas: Canvas::new(&mut pixels, SIZE)?, end_s };
            self.draw_panels(&drawing)?;
            self.draw_windows(&drawing)?;
            drawing.time_axis()?;
            drawing.canvas.finish()?;
        }
        encode(&pixels, SIZE)
    }

    /// The title; distance and score over their limits.
    fn draw_panels(&self, drawing: &Drawing) -> Result<(), DrawError> {
        let (windows, alarms) = (counted(self.points.len(), "window"), counted(self.marks.len(), "alarm"));
        let title = format!("{}: {windows}, {alarms}", self.machine);
        drawing.text(&title, (LEFT, 24), 20, HPos::Left, INK)?;
        let scored = self.points.iter().any(|point| point.score.is_some());
        let middle = if scored { 56 + (FOOT - 56) / 2 } else { FOOT };
        let highest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let thresholds = highest(&mut self.points.iter().filter_map(|point| point.threshold));
        let distances = highest(&mut self.points.iter().filter_map(|point| point.distance));
        // What is far beyond the limit touches the ceiling; the limit itself stays readable.
        let most =
            if thresholds > 0.0 { (1.05 * distances).clamp(1.4 * thresholds, 8.0 * thresholds) } else { distances };
        let distance = Panel { top: 56, bottom: if scored { middle - 44 } else { FOOT - 16 }, most: most.max(1e-9) };
        let score = Panel { top: middle, bottom: FOOT - 16, most: 8.0 };

        if let Some(learned_s) = self.learned_s {
            drawing.canvas.bar((LEFT, 56), (drawing.x(learned_s), FOOT - 16), LEARNING)?;
            drawing.text("learning", (LEFT + 6, 66), 13, HPos::Left, INK)?;
        }
        drawing.grid(&distance, "distance", nice_step(distance.most))?;
        if scored {
            drawing.grid(&score, "score", 2.0)?;
        }
        let curve = |panel: &Panel, of: &dyn Fn(&Point) -> Option<f64>, colour: RGBColor, wide: u32| {
            self.points.split(|point| of(point).is_none()).try_for_each(|run| {
                let place = |point: &Point| Some((drawing.x(point.end_s), panel.y(of(point)?)));
                drawing.canvas.line(run.iter().filter_map(place).collect::<Vec<_>>(), colour, wide)
            })
        };
        curve(&distance, &|point| point.distance, LINE, 1)?;
        curve(&distance, &|point| point.threshold, LIMIT, 2)?;
        if scored {
            curve(&score, &|point| point.score.map(|(score, _)| score), LINE, 1)?;
            curve(&score, &|point| point.score.map(|(_, limit)| limit), LIMIT, 2)?;
        }
        Ok(())
    }

    /// A bar of verdicts, a bar of alarms; what happened in between.
    fn draw_windows(&self, drawing: &Drawing) -> Result<(), DrawError> {
        let (canvas, x) = (&drawing.canvas, |seconds| drawing.x(seconds));
        for (name, y) in [("verdict", FOOT), ("alarm", FOOT + 24)] {
            drawing.text(name, (LEFT - 10, y + 8), 13, HPos::Right, INK)?;
        }
        let mut from_s = 0.0;
        for point in &self.points {
            let colour = match point.verdict {
                Verdict::Normal => RGBColor(150, 195, 150),
                Verdict::Anomalous => LIMIT,
                Verdict::Unknown => QUIET,
            };
            let to = x(point.end_s).max(x(from_s) + 1);
            canvas.bar((x(from_s), FOOT), (to, FOOT + 16), colour)?;
            if point.alarm == AlarmState::Active {
                canvas.bar((x(from_s), FOOT + 24), (to, FOOT + 40), LIMIT)?;
            }
            from_s = point.end_s;
        }
        if let Some(fault_at_s) = self.fault_at_s {
            canvas.line([(x(fault_at_s), 48), (x(fault_at_s), FOOT + 40)], INK, 1)?;
            drawing.text("fault begins", (x(fault_at_s) + 6, 48), 13, HPos::Left, INK)?;
        }
        for mark in &self.marks {
            let name = serde_json::json!(mark.kind);
            let words = name.as_str().unwrap_or_default();
            drawing.text(words, (x(mark.at_s), FOOT + 50), 13, HPos::Left, LIMIT)?;
        }
        Ok(())
    }
}

/// The picture while it is drawn: its paper and the scale of time.
struct Drawing<'a> {
    canvas: Canvas<'a>,
    end_s: f64,
}

impl Drawing<'_> {
    fn x(&self, seconds: f64) -> i32 {
        LEFT + (f64::from(RIGHT - LEFT) * (seconds / self.end_s).clamp(0.0, 1.0)) as i32
    }

    fn text(&self, words: &str, at: (i32, i32), size: i32, across: HPos, colour: RGBColor) -> Result<(), DrawError> {
        self.canvas.text(words, at, size, Pos::new(across, VPos::Center), colour)
    }

    /// The name of a panel, and a line for each step of its values.
    fn grid(&self, panel: &Panel, name: &str, step: f64) -> Result<(), DrawError> {
        self.text(name, (LEFT - 10, panel.top - 12), 15, HPos::Right, INK)?;
        for tick in 0..=(panel.most / step + 1e-9) as u32 {
            let value = f64::from(tick) * step;
            self.canvas.line([(LEFT, panel.y(value)), (RIGHT, panel.y(value))], GRID, 1)?;
            let digits = usize::from(step < 1.0) + usize::from(step < 0.1) + usize::from(step < 0.01);
            self.text(&format!("{value:.digits$}"), (LEFT - 10, panel.y(value)), 13, HPos::Right, INK)?;
        }
        Ok(())
    }

    fn time_axis(&self) -> Result<(), DrawError> {
        let step_s = nice_time_step(self.end_s);
        for tick in 0..=(self.end_s / step_s) as u32 {
            let x = self.x(f64::from(tick) * step_s);
            self.canvas.line([(x, FOOT + 60), (x, FOOT + 66)], INK, 1)?;
            self.text(&clock(f64::from(tick) * step_s), (x, FOOT + 78), 13, HPos::Center, INK)?;
        }
        self.canvas.line([(LEFT, FOOT + 60), (RIGHT, FOOT + 60)], INK, 1)
    }
}

fn nice_step(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(rough)
}

fn nice_time_step(end_s: f64) -> f64 {
    const STEPS_S: [f64; 13] =
        [5.0, 15.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 604_800.0];
    STEPS_S.into_iter().find(|step_s| end_s / step_s <= 12.0).unwrap_or(end_s / 10.0)
}

/// Hours, minutes and seconds; days where there are any.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}d {time}") } else { time }
}
