//! The screen drawn: a head, the grid of runs, what is in work, its losses, what failed, and how to leave.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Paragraph};

use crate::commands::live::LiveStage;
use crate::commands::watch::screen::{Row, Screen, State, Working};
use crate::explain::units;
use crate::report::render::text::printable;

/// Told apart without colours too: by order, and by the names that stand in the same order.
const CURVE_COLORS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::Blue, Color::LightRed];

const LABEL_WIDTH_MAX: usize = 40;
const CHART_HEIGHT_MIN: u16 = 8;
const FAILURES_MAX: usize = 4;

/// Draws `screen` with the rows from `first_row` on.
pub fn draw(frame: &mut Frame, screen: &Screen, first_row: usize) {
    let head = head(screen);
    let failures = failures(screen);
    let working: Vec<Line> = screen.working.iter().enumerate().map(working_line).collect();
    let heights = heights(frame.area().height, screen, working.len() as u16, failures.len() as u16);
    let parts = Layout::vertical(heights.map(Constraint::Length)).split(frame.area());
    frame.render_widget(Paragraph::new(head), parts[0]);
    draw_grid(frame, parts[1], screen, first_row);
    frame.render_widget(Paragraph::new(working), parts[2]);
    draw_losses(frame, parts[3], &screen.working);
    frame.render_widget(Paragraph::new(failures), parts[4]);
    frame.render_widget(Paragraph::new(legend()), parts[5]);
}

/// Rows of the grid that a screen of this height has room for.
pub fn grid_rows(height: u16, screen: &Screen) -> usize {
    let (working, failures) = (screen.working.len() as u16, failures(screen).len() as u16);
    usize::from(heights(height, screen, working, failures)[1].saturating_sub(2))
}

/// Head, grid, work, chart, failures, legend. What is left over goes to the chart, where there is something in work.
fn heights(height: u16, screen: &Screen, working: u16, failures: u16) -> [u16; 6] {
    let (head, legend) = (4, 1);
    let mut left = height.saturating_sub(head + legend);
    let failures = failures.min(left / 4);
    left -= failures;
    let working = working.min(left / 4);
    left -= working;
    let wanted = screen.rows.len() as u16 + 2;
    let has_curves = screen.working.iter().any(|run| run.curve.len() > 1);
    let chart_wanted = if has_curves { CHART_HEIGHT_MIN } else { 0 };
    let grid = wanted.min(left.saturating_sub(chart_wanted).max(left.min(4)));
    left -= grid;
    let chart = if has_curves && left >= CHART_HEIGHT_MIN { left.min(16) } else { 0 };
    [head, grid, working, chart, failures, legend]
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn head(screen: &Screen) -> Vec<Line<'static>> {
    let counts = screen.counts();
    let mut line = vec![Span::raw(format!("{} runs", counts.all))];
    let mut part = |n: usize, word: &str, color: Color| {
        if n > 0 {
            line.push(Span::raw("   "));
            line.push(Span::styled(format!("{n} {word}"), Style::new().fg(color)));
        }
    };
    part(counts.stored, "stored", Color::Green);
    part(counts.working, "in work", Color::Cyan);
    part(counts.to_do, "to do", Color::Reset);
    part(counts.failed, "failed", Color::Red);
    if let Some(seconds) = screen.seconds_left {
        line.push(Span::raw(format!("   about {} left", units::duration(seconds))));
    }
    let processes = if screen.processes.is_empty() {
        "nobody computes it now".to_owned()
    } else {
        let each = screen.processes.iter().map(|process| {
            let memory = process.memory_bytes.map(|bytes| format!(", {}", units::bytes(bytes))).unwrap_or_default();
            let speed = process.images_per_s;
            format!("{} {}, pid {}: {speed:.0} images/s{memory}", process.host, process.device, process.pid)
        });
        each.collect::<Vec<_>>().join("; ")
    };
    vec![
        Line::from(vec![
            Span::styled(printable(&screen.experiment), Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!("  {}", printable(&screen.question))),
        ]),
        Line::from(line),
        Line::styled(printable(&processes), dim()),
        Line::default(),
    ]
}

fn symbol(state: State) -> Span<'static> {
    let (text, color) = match state {
        State::Stored => ("■", Color::Green),
        State::Partial => ("◧", Color::Green),
        State::Working => ("▶", Color::Cyan),
        State::Failed => ("✗", Color::Red),
        State::ToDo => ("·", Color::Reset),
    };
    Span::styled(text, Style::new().fg(color))
}

fn legend() -> Line<'static> {
    let mut spans = Vec::new();
    let states = [
        (State::Stored, "stored"),
        (State::Partial, "in part"),
        (State::Working, "in work"),
        (State::Failed, "failed"),
        (State::ToDo, "to do"),
    ];
    for (state, word) in states {
        spans.extend([symbol(state), Span::styled(format!(" {word}   "), dim())]);
    }
    spans.push(Span::styled("↑ ↓ rows   q leaves", dim()));
    Line::from(spans)
}

/// At most `width` characters, the last of them `…` where some are missing.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn draw_grid(frame: &mut Frame, area: Rect, screen: &Screen, first_row: usize) {
    let longest = screen.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let label_width = longest.clamp(4, LABEL_WIDTH_MAX);
    let column = screen.seeds.iter().map(|seed| seed.to_string().len()).max().unwrap_or(1) + 1;
    let n_columns = (usize::from(area.width).saturating_sub(label_width + 2) / column).min(screen.seeds.len());
    let mut head = format!("{:label_width$}  ", "seed");
    screen.seeds[..n_columns].iter().for_each(|seed| head.push_str(&format!("{seed:<column$}")));
    if n_columns < screen.seeds.len() {
        head.truncate(head.trim_end().len());
        head.push('…');
    }
    let mut lines = vec![Line::styled(head, dim())];
    let line = |row: &Row| {
        let mut spans = vec![Span::raw(format!("{:label_width$}  ", cut(&printable(&row.label), label_width)))];
        for state in &row.states[..n_columns] {
            spans.extend([symbol(*state), Span::raw(" ".repeat(column - 1))]);
        }
        Line::from(spans)
    };
    let room = usize::from(area.height.saturating_sub(2));
    lines.extend(screen.rows.iter().skip(first_row).take(room).map(line));
    let hidden = screen.rows.len().saturating_sub(first_row + room);
    if hidden > 0 {
        lines.push(Line::styled(format!("{hidden} more below"), dim()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn working_line((index, working): (usize, &Working)) -> Line<'static> {
    let what = match &working.stage {
        LiveStage::Starting => "starts".to_owned(),
        LiveStage::Training { step, length_steps, loss, images_per_s } => {
            let percent = 100.0 * *step as f64 / (*length_steps).max(1) as f64;
            format!("{percent:3.0} %  step {step}/{length_steps}  loss {loss:.3}  {images_per_s:.0} images/s")
        }
        LiveStage::Evaluating { name } => format!("evaluates {}", printable(name)),
    };
    let color = CURVE_COLORS[index % CURVE_COLORS.len()];
    Line::from(vec![
        Span::styled("▶ ", Style::new().fg(color)),
        Span::raw(format!("{}  ", printable(&working.name))),
        Span::styled(what, dim()),
    ])
}

fn failures(screen: &Screen) -> Vec<Line<'static>> {
    let mut lines: Vec<Line> = screen.failures.iter().take(FAILURES_MAX).map(|text| failed_line(text)).collect();
    if screen.failures.len() > FAILURES_MAX {
        lines.push(Line::styled(format!("and {} more failed", screen.failures.len() - FAILURES_MAX), dim()));
    }
    lines
}

fn failed_line(text: &str) -> Line<'static> {
    Line::from(vec![Span::styled("✗ ", Style::new().fg(Color::Red)), Span::raw(printable(text))])
}

/// Losses over steps of everything in work.
fn draw_losses(frame: &mut Frame, area: Rect, working: &[Working]) {
    if area.height == 0 {
        return;
    }
    let curves: Vec<Vec<(f64, f64)>> =
        working.iter().map(|run| run.curve.iter().map(|&(step, loss)| (step as f64, loss)).collect()).collect();
    let points = || curves.iter().flatten();
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let low = points().map(of).fold(f64::INFINITY, f64::min);
        let high = points().map(of).fold(f64::NEG_INFINITY, f64::max);
        if high > low { [low, high] } else { [low - 0.5, low + 0.5] }
    };
    let (steps, losses) = (bounds(|point| point.0), bounds(|point| point.1));
    let datasets = curves.iter().enumerate().map(|(index, curve)| {
        let style = Style::new().fg(CURVE_COLORS[index % CURVE_COLORS.len()]);
        Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(curve)
    });
    let chart = Chart::new(datasets.collect())
        .x_axis(Axis::default().title("step").bounds(steps).labels(steps.map(|step| format!("{step:.0}"))).style(dim()))
        .y_axis(
            Axis::default().title("loss").bounds(losses).labels(losses.map(|loss| format!("{loss:.2}"))).style(dim()),
        );
    frame.render_widget(chart, area);
}
