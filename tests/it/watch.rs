//! `watch` in a terminal of its own: what it draws, and that the terminal is as it was, however it is left.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{MINIATURE, Workplace, signal, wait_until};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";

/// A terminal of 80 columns, of which this end is the one that types and sees.
struct Screen {
    typing: File,
    /// The end a program talks to; kept, since a terminal that nobody has open forgets itself.
    terminal: File,
    seen: Arc<Mutex<String>>,
}

impl Screen {
    fn new() -> Screen {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal of this user");
        let name = ptsname(&master, Vec::new()).expect("a terminal with a name").into_string().expect("a name");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a terminal that takes a size");
        let terminal = File::options().read(true).write(true).open(name).expect("the other end");
        let typing = File::from(master);
        let (mut reading, seen) = (typing.try_clone().expect("a second handle"), Arc::new(Mutex::new(String::new())));
        let to = Arc::clone(&seen);
        std::thread::spawn(move || {
            let (mut bytes, mut all) = ([0; 4096], Vec::new());
            loop {
                match reading.read(&mut bytes) {
                    Ok(0) => return,
                    Ok(n) => all.extend_from_slice(&bytes[..n]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
                *to.lock().expect("nobody panics with it") = String::from_utf8_lossy(&all).into_owned();
            }
        });
        Screen { typing, terminal, seen }
    }

    fn shows(&self, text: &str) -> bool {
        self.seen.lock().expect("nobody panics with it").contains(text)
    }

    fn start(&self, place: &Workplace) -> Child {
        let end = || Stdio::from(self.terminal.try_clone().expect("a third handle"));
        let mut command = place.command(&["watch", "miniature.ron", "--device", "cpu"]);
        command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .env("TERM", "xterm-256color")
            .spawn()
            .expect("the binary starts")
    }
}

/// Leaves by `leave` and compares the terminal with what it was.
fn check(leave: impl FnOnce(&mut Screen, &Child), expected: i32) {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    let mut screen = Screen::new();
    let before = format!("{:?}", tcgetattr(&screen.terminal).expect("a terminal"));
    let mut child = screen.start(&place);
    wait_until("the screen", || screen.shows(ENTER) && screen.shows("miniature"));
    let during = format!("{:?}", tcgetattr(&screen.terminal).expect("a terminal"));
    assert_ne!(before, during, "keys come one by one while it runs");
    leave(&mut screen, &child);
    assert_eq!(child.wait().expect("the child ends").code(), Some(expected));
    wait_until("the terminal as it was", || screen.shows(LEAVE) && screen.shows(SHOW_CURSOR));
    assert_eq!(before, format!("{:?}", tcgetattr(&screen.terminal).expect("a terminal")));
}

fn typed(text: &str) -> impl FnOnce(&mut Screen, &Child) {
    move |screen: &mut Screen, _: &Child| screen.typing.write_all(text.as_bytes()).expect("a terminal that listens")
}

#[test]
fn the_terminal_is_as_it_was() {
    check(typed("q"), 0);
    check(typed("jk\u{3}"), 130);
    check(|_, child| signal(child, Signal::TERM), 143);
    check(|_, child| signal(child, Signal::HUP), 143);
}

#[test]
fn without_a_terminal_it_prints_once() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    let before = place.ablate(&["watch", "miniature.ron"]).success().out;
    assert!(before.contains("4 runs   4 to do") && before.contains("nobody computes it now"), "{before}");
    place.ablate(&["sweep", "miniature.ron"]).success();
    let after = place.ablate(&["watch", "miniature.ron"]).success().out;
    assert!(after.contains("4 runs   4 stored"), "{after}");
    assert!(after.lines().all(|line| line.chars().count() <= 80), "{after}");
    assert!(!place.path().join("results/live").exists(), "the news goes with the sweep");
}
