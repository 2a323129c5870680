use super::*;
use crate::content::Key;
use crate::history::{Detail, History, StepMetrics};
use crate::report::principal_components::Projection;
use crate::report::row::Row;
use crate::report::sample::{complete, experiment, failed, missing};

const HOSTILE: &str = "<script>alert(1)</script> & \"x\" 'y' </style> \u{202e}\u{0}";

fn hostile_experiment() -> Experiment {
    let axes: [(&str, &[&str]); 2] = [("train.batch", &[HOSTILE, "128"]), ("train.temperature", &["0.1", "0.5"])];
    let mut experiment = experiment(&axes, &["train.temperature"], &[0, 1, 2]);
    experiment.name = HOSTILE.to_owned();
    experiment.question = format!("Is {HOSTILE} better?");
    experiment
}

fn rows(experiment: &Experiment) -> Vec<Row> {
    let mut rows = complete(experiment);
    rows[4] = failed(experiment, 1, 1, HOSTILE);
    rows[9] = missing(experiment, 3, 0);
    rows
}

fn histories(experiment: &Experiment) -> Vec<RunHistory> {
    let detail = |step: f64| Detail {
        gradient_norm: 1.0,
        parameter_norm: 1.0,
        update_norm: 1.0,
        alignment: 1.0 - 0.1 * step,
        uniformity: -step,
        contrastive_top1: 0.1 * step,
        train_top1: None,
    };
    let step = |step: u64| StepMetrics {
        step,
        epoch: 0,
        loss: 4.0 - 0.1 * step as f64,
        learning_rate: 0.1,
        detail: step.is_multiple_of(2).then(|| detail(step as f64)),
    };
    let run = |cell: u32, seed: u64| RunHistory {
        cell,
        seed,
        pretrain_key: Key::of_bytes(b"k"),
        history: History { steps: (0..6).map(step).collect() },
    };
    (0..experiment.cells.len() as u32).flat_map(|cell| (0..3).map(move |seed| run(cell, seed))).collect()
}

fn details() -> CellDetails {
    let failure = FailureDetails {
        kind: "not finite".to_owned(),
        message: HOSTILE.to_owned(),
        log: vec!["1.0 s epoch 1".to_owned(), HOSTILE.to_owned()],
    };
    let stage = StageDetails {
        name: "training".to_owned(),
        key: Key::of_bytes(b"k").to_string(),
        state: "failed".to_owned(),
        device: HOSTILE.to_owned(),
        details: vec![("command".to_owned(), HOSTILE.to_owned())],
        failure: Some(failure),
        ..StageDetails::default()
    };
    CellDetails {
        settings: vec![("train.batch".to_owned(), HOSTILE.to_owned())],
        differences: vec![HOSTILE.to_owned()],
        metrics: Metrics { names: vec![HOSTILE.to_owned()], of_seeds: vec![(0, vec![Some("1.0".to_owned())])] },
        stages: vec![stage],
    }
}

/// The page of an experiment in which every text is hostile.
fn with_page(check: impl FnOnce(&Page)) {
    let experiment = hostile_experiment();
    let table = AblationTable::new(&experiment, &rows(&experiment), "knn.top1").unwrap();
    let map = FeatureMap {
        title: HOSTILE.to_owned(),
        projection: Projection { points: vec![[0.0, 0.0], [1.0, 1.0]], explained: [0.5, 0.25] },
        labels: vec![0, 1],
        class_names: vec![HOSTILE.to_owned()],
    };
    let sheet = Sheet { title: HOSTILE.to_owned(), png: b"png".to_vec(), width: 8, height: 8 };
    let download = Download {
        file: HOSTILE.to_owned(),
        media_type: "text/csv",
        title: HOSTILE.to_owned(),
        bytes: table.render(crate::report::render::Format::Csv).into_bytes(),
    };
    let cells = vec![details(); experiment.cells.len()];
    let histories = histories(&experiment);
    check(&Page {
        experiment: &experiment,
        table: &table,
        facts: vec![("hosts".to_owned(), HOSTILE.to_owned())],
        warnings: vec![HOSTILE.to_owned()],
        histories: &histories,
        evaluated: &[],
        spent: &[Spent { cell: 0, train_s: 3.0, value: 0.5 }],
        maps: &[map],
        sheets: &[sheet],
        cells: &cells,
        downloads: &[download],
        commands: vec![format!("ablate sweep {HOSTILE}")],
    });
}

/// Names of the tags in their order, each closed where it must be.
#[track_caller]
fn tags(html: &str) -> Vec<String> {
    const VOID: [&str; 4] = ["!DOCTYPE", "meta", "input", "img"];
    let (mut open, mut seen): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        let end = tag.find('>').expect("a tag ends");
        let name: String =
            tag.trim_start_matches('/').chars().take_while(|c| !c.is_whitespace() && *c != '>').collect();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_ref(), Some(&name), "closed in the wrong order at {}", &tag[..tag.len().min(80)]);
        } else if !VOID.contains(&name.as_str()) {
            open.push(name.clone());
        }
        seen.push(name.clone());
        rest = &tag[end + 1..];
        // The contents of these two are no markup.
        if !tag.starts_with('/') && ["style", "script"].contains(&name.as_str()) {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).expect("a closing tag")..];
        }
    }
    assert!(open.is_empty(), "{open:?} are left open");
    seen
}

#[test]
fn no_text_becomes_markup() {
    with_page(|page| {
        let html = page.render(&page.figures());
        let tags = tags(&html);
        let count = |name: &str| tags.iter().filter(|tag| *tag == name).count();
        assert_eq!((count("script"), count("style")), (2, 2), "each opened and closed once");
        assert_eq!(html.matches("<script>alert").count(), 0);
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(!html.contains(['\u{202e}', '\u{0}']));
        for figure in page.figures() {
            assert!(!figure.standalone().contains("<script"), "{}", figure.name);
            resvg::usvg::Tree::from_str(&figure.standalone(), &resvg::usvg::Options::default()).unwrap();
        }
    });
}

#[test]
fn nothing_is_asked_of_any_other_place() {
    with_page(|page| {
        let html = page.render(&page.figures());
        for reference in ["http:", "https:", "src=\"//", "url(", "@import", "<link", "<iframe", "<base", "style=\""] {
            assert!(!html.contains(reference), "{reference}");
        }
        // Handlers in attributes, ` onclick="` for one.
        let is_handler = |rest: &&str| {
            let name: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            !name.is_empty() && rest[name.len()..].starts_with("=\"")
        };
        assert_eq!(html.split(" on").skip(1).filter(is_handler).count(), 0);
        let digest = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
        let between =
            |open: &str, close: &str| html.split(open).nth(1).and_then(|rest| rest.split(close).next()).unwrap();
        let policy = between("content=\"default-src", "\"");
        for (text, directive) in
            [(between("<style>", "</style>"), "style-src"), (between("<script>", "</script>"), "script-src")]
        {
            let expected = format!("{directive} 'sha256-{}'", digest(text));
            assert!(policy.replace("&#39;", "'").contains(&expected), "{expected} is not in {policy}");
        }
        assert!(policy.starts_with(" 'none';"), "{policy}");
    });
}

#[test]
fn the_page_has_the_numbers_of_the_table_and_says_what_is_missing() {
    with_page(|page| {
        let html = page.render(&page.figures());
        for cell in page.table.cells() {
            let mean = cell.summary.map(|summary| format!("{:.1}", 100.0 * summary.mean)).unwrap();
            assert!(html.contains(&format!(">{mean}</td>")), "{mean}");
        }
        for said in ["1 of 3 failed", "1 of 3 missing", "10 of 12", "not finite", "baseline", "95 % interval"] {
            assert!(html.contains(said), "{said}");
        }
        let names: Vec<String> = page.figures().into_iter().map(|figure| figure.name).collect();
        let expected = [
            "heat-map",
            "means",
            "cost",
            "loss",
            "alignment",
            "uniformity",
            "contrastive-top1",
            "learning-rate",
            "features",
        ];
        assert_eq!(names, expected);
        assert!(names.iter().all(|name| html.contains(&format!("id=\"figure-{name}\""))));
        assert_eq!(html.matches("<details").count(), 4);
        let csv = STANDARD.encode(page.table.render(crate::report::render::Format::Csv));
        assert!(html.contains(&format!("href=\"data:text/csv;base64,{csv}\"")));
    });
}

#[test]
fn links_lead_to_what_is_there() {
    with_page(|page| {
        let html = page.render(&page.figures());
        let ids: std::collections::BTreeSet<&str> =
            html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let links = html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next());
        assert!(links.clone().count() > 8);
        links.for_each(|link| assert!(ids.contains(link), "#{link}"));
        assert_eq!(ids.len(), html.matches(" id=\"").count(), "an id stands once");
    });
}

#[test]
fn an_experiment_without_axes_and_without_results_has_a_page() {
    let experiment = experiment(&[], &[], &[7]);
    let table = AblationTable::new(&experiment, &[], "knn.top1").unwrap();
    let page = Page {
        experiment: &experiment,
        table: &table,
        facts: Vec::new(),
        warnings: Vec::new(),
        histories: &[],
        evaluated: &[],
        spent: &[],
        maps: &[],
        sheets: &[],
        cells: &[CellDetails::default()],
        downloads: &[],
        commands: Vec::new(),
    };
    let html = page.render(&page.figures());
    tags(&html);
    assert!(html.contains("the only cell") && html.contains("1 of 1 missing"), "{html}");
}

#[test]
fn a_smoke_run_says_so_once_and_mixed_results_are_warned_of() {
    let mut experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1]);
    experiment.smoke = true;
    let mut rows = complete(&experiment);
    rows[1].device = Some("Processor B".to_owned());
    let table = AblationTable::new(&experiment, &rows, "knn.top1").unwrap();
    let page = Page {
        experiment: &experiment,
        table: &table,
        facts: Vec::new(),
        warnings: vec!["results of 2 builds of the program lie side by side".to_owned()],
        histories: &[],
        evaluated: &[],
        spent: &[],
        maps: &[],
        sheets: &[],
        cells: &[],
        downloads: &[],
        commands: Vec::new(),
    };
    let html = page.render(&page.figures());
    assert_eq!((html.matches("Smoke run.").count(), html.matches("a smoke run").count()), (1, 0));
    assert!(html.contains("The table mixes results of different devices: Processor A and Processor B."));
    assert!(html.contains("results of 2 builds of the program lie side by side."));
}
