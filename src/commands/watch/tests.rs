//! The screen at several sizes and in several states.

use crate::commands::live::LiveStage;
use crate::commands::watch::draw;
use crate::commands::watch::screen::{Counts, Process, Row, Screen, State, Working};
use crate::commands::watch::text;

fn screen() -> Screen {
    let row = |label: &str, states: &[State]| Row { label: label.to_owned(), states: states.to_vec() };
    let curve = |n: u64| (0..n).map(|step| (step * 5, 5.5 - 2.0 * step as f64 / 40.0)).collect();
    Screen {
        experiment: "temperature".to_owned(),
        question: "Does a lower temperature help after ten epochs?".to_owned(),
        seeds: vec![0, 1, 12],
        rows: vec![
            row("0.1", &[State::Stored, State::Stored, State::Partial]),
            row("0.2", &[State::Working, State::Working, State::ToDo]),
            row("0.5", &[State::ToDo, State::Failed, State::ToDo]),
        ],
        working: vec![
            Working {
                name: "temperature 0.2, seed 0".to_owned(),
                stage: LiveStage::Training { step: 195, length_steps: 1950, loss: 3.5512, images_per_s: 412.3 },
                curve: curve(40),
            },
            Working {
                name: "temperature 0.2, seed 1".to_owned(),
                stage: LiveStage::Evaluating { name: "knn".to_owned() },
                curve: Vec::new(),
            },
        ],
        failures: vec!["temperature 0.5, seed 1: the loss is not finite".to_owned()],
        processes: vec![Process {
            host: "node-17".to_owned(),
            pid: 4711,
            device: "cuda:0".to_owned(),
            images_per_s: 412.3,
            memory_bytes: Some(1_300_000_000),
        }],
        seconds_left: Some(4_000.0),
    }
}

#[test]
fn all_of_it_as_text() {
    insta::assert_snapshot!(text(&screen()));
}

#[test]
fn nobody_at_work() {
    let idle = Screen { working: Vec::new(), processes: Vec::new(), seconds_left: None, ..screen() };
    insta::assert_snapshot!(text(&idle));
}

#[test]
fn runs_are_counted() {
    assert_eq!(screen().counts(), Counts { all: 9, stored: 2, working: 2, failed: 1, to_do: 4 });
}

#[test]
fn every_size_of_a_terminal_is_drawn() {
    let mut many = screen();
    many.rows = (0..300).map(|n| Row { label: format!("{n}").repeat(30), states: vec![State::ToDo; 3] }).collect();
    for screen in [screen(), many] {
        for (width, height) in [(1, 1), (2, 3), (10, 5), (20, 9), (40, 12), (80, 24), (300, 100)] {
            let backend = ratatui::backend::TestBackend::new(width, height);
            let mut terminal = ratatui::Terminal::new(backend).unwrap();
            let room = draw::grid_rows(height, &screen);
            for first_row in [0, screen.rows.len().saturating_sub(room)] {
                terminal.draw(|frame| draw::draw(frame, &screen, first_row)).unwrap();
            }
        }
    }
}

#[test]
fn text_of_others_cannot_steer_the_terminal() {
    let mut screen = screen();
    screen.rows[0].label = "a\u{1b}[2Jb".to_owned();
    screen.question = "\u{1b}]0;title\u{7}".to_owned();
    screen.failures[0] = "\u{9b}31m".to_owned();
    assert!(!text(&screen).chars().any(|c| c.is_control() && c != '\n'));
}
