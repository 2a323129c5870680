//! `ablate watch FILE`: an experiment filling up, from what is stored and what the sweeps at work tell.

mod draw;
mod screen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::commands::code::now_unix_s;
use crate::commands::error::CommandError;
use crate::commands::look::LookArguments;
use crate::commands::progress::names;
use crate::commands::survey::{self, Line};
use crate::commands::watch::screen::Screen;
use crate::commands::{Ending, live, open, print};
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::explain::CodeCensus;
use crate::runner::Place;

/// Between two looks at the news, and at the keys.
const NEWS: Duration = Duration::from_secs(1);
const KEYS: Duration = Duration::from_millis(100);

/// Between two looks at the store; never more than a tenth of the time goes into looking.
const STORE: Duration = Duration::from_secs(2);
const STORE_SHARE: u32 = 10;

/// Of the text that stands in for the screen where there is no terminal.
const TEXT_WIDTH: u16 = 80;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub look: LookArguments,
    /// Print what there is to see once, as text, and leave; so it does where stdout is no terminal
    #[arg(long)]
    pub once: bool,
}

/// What is looked at.
struct Scene {
    arguments: Arguments,
    experiments: Vec<(Backend, Experiment)>,
    names: BTreeMap<Place, String>,
    host: String,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let experiments = arguments.look.experiments()?;
    let names = names(&experiments[0].1);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let scene = Scene { arguments: arguments.clone(), experiments, names, host };
    if arguments.once || !std::io::stdout().is_terminal() {
        print(&text(&scene.screen(&scene.survey()?)))?;
        return Ok(Ending::Complete);
    }
    let signal = caught_signals();
    let mut terminal = Terminal(ratatui::try_init()?);
    show(&scene, &mut terminal.0, &signal)
}

impl Scene {
    fn survey(&self) -> Result<Vec<Line<'_>>, CommandError> {
        let store = self.arguments.look.store()?;
        let mut best: Option<Vec<Line>> = None;
        for (_, experiment) in &self.experiments {
            let lines = survey::survey(store.as_ref(), experiment, &mut CodeCensus::default(), &mut BTreeSet::new())?;
            best = Some(match best.take() {
                None => lines,
                Some(before) => before.into_iter().zip(lines).map(|(a, b)| further(a, b)).collect(),
            });
        }
        Ok(best.unwrap_or_default())
    }

    fn screen(&self, lines: &[Line]) -> Screen {
        let experiment = &self.experiments[0].1;
        let arguments = &self.arguments.look.experiment;
        let results = open::results_folder(&arguments.places, arguments.smoke);
        let mut live = live::read(&results, &experiment.name);
        live.retain(|of| of.is_alive(&self.host, now_unix_s()));
        Screen::new(experiment, lines, &self.names, &live)
    }
}

/// Of one run on two backends what got further.
fn further<'a>(a: Line<'a>, b: Line<'a>) -> Line<'a> {
    if !a.is_complete() && (b.is_complete() || a.is_untouched()) { b } else { a }
}

/// Puts the terminal back, however it is left; `ratatui::try_init` does so for a panic.
struct Terminal(DefaultTerminal);

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The last signal that asked to leave, 0 for none.
fn caught_signals() -> Arc<AtomicUsize> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        // One that cannot be caught ends the process without a word.
        let _ = signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize);
    }
    signal
}

/// What a key asks for.
enum Wish {
    Leave(Ending),
    Rows(isize),
    Nothing,
}

fn show(scene: &Scene, terminal: &mut DefaultTerminal, signal: &AtomicUsize) -> Result<Ending, CommandError> {
    let began = Instant::now();
    let mut lines = scene.survey()?;
    let mut pause = STORE.max(began.elapsed() * STORE_SHARE);
    let (mut looked, mut first_row) = (Instant::now(), 0usize);
    loop {
        if looked.elapsed() >= pause {
            let began = Instant::now();
            lines = scene.survey()?;
            pause = STORE.max(began.elapsed() * STORE_SHARE);
            looked = Instant::now();
        }
        let screen = scene.screen(&lines);
        let until = Instant::now() + NEWS;
        loop {
            let room = draw::grid_rows(terminal.size()?.height, &screen);
            first_row = first_row.min(screen.rows.len().saturating_sub(room));
            terminal.draw(|frame| draw::draw(frame, &screen, first_row))?;
            match signal.load(Ordering::Relaxed) as i32 {
                0 => {}
                SIGINT => return Ok(Ending::Interrupted),
                _ => return Ok(Ending::Preempted),
            }
            match wish(room)? {
                Wish::Leave(ending) => return Ok(ending),
                Wish::Rows(rows) => first_row = first_row.saturating_add_signed(rows),
                Wish::Nothing if Instant::now() >= until => break,
                Wish::Nothing => {}
            }
        }
    }
}

/// Waits a moment for a key. `page`: rows of the grid on the screen.
fn wish(page: usize) -> Result<Wish, CommandError> {
    match event::poll(KEYS) {
        Ok(true) => {}
        Ok(false) => return Ok(Wish::Nothing),
        // A signal cut the wait short.
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(Wish::Nothing),
        Err(error) => return Err(error.into()),
    }
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event::read()? else {
        return Ok(Wish::Nothing);
    };
    let page = page.max(1) as isize;
    Ok(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Wish::Leave(Ending::Interrupted),
        KeyCode::Char('q') | KeyCode::Esc => Wish::Leave(Ending::Complete),
        KeyCode::Down | KeyCode::Char('j') => Wish::Rows(1),
        KeyCode::Up | KeyCode::Char('k') => Wish::Rows(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Wish::Rows(page),
        KeyCode::PageUp => Wish::Rows(-page),
        KeyCode::Home => Wish::Rows(isize::MIN),
        KeyCode::End => Wish::Rows(isize::MAX),
        _ => Wish::Nothing,
    })
}

/// The screen as plain text, as high as it needs to be.
fn text(screen: &Screen) -> String {
    let height = screen.rows.len() + screen.working.len() + screen.failures.len() + 32;
    let backend = TestBackend::new(TEXT_WIDTH, u16::try_from(height).unwrap_or(u16::MAX / TEXT_WIDTH));
    let mut terminal = ratatui::Terminal::new(backend).expect("memory takes every size");
    terminal.draw(|frame| draw::draw(frame, screen, 0)).expect("memory can be drawn on");
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..TEXT_WIDTH).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    let lines: Vec<String> = (0..buffer.area.height).map(row).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        // The screen's free room is no text.
        if line.is_empty() && lines.get(index + 1).is_none_or(String::is_empty) {
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}
