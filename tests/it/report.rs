//! `ablate report` on a small sweep: the page has the table's numbers, is a function of the store, and trusts no text.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{MINIATURE, Workplace};

/// A name and a question that would do harm if they were markup, and a cell that fails.
const HOSTILE: &str = "</title><script>alert(1)</script> & \\\"x\\\"";

fn hostile() -> String {
    MINIATURE
        .replace("Does the temperature matter after a few steps?", HOSTILE)
        .replace("sweep: [Axis(\"train.temperature\", [0.1, 0.5])]", SWEEP)
        .replace("rows: \"train.temperature\"", "rows: \"train.learning_rate\"")
}

const SWEEP: &str =
    r#"sweep: [Variants("train.learning_rate", {"small": 0.001, "<b>large</b>": 0.01, "bursts": 1e30})]"#;

fn page(place: &Workplace, name: &str) -> String {
    std::fs::read_to_string(place.path().join(name)).expect("a page")
}

/// The bytes of the page's download that ends so.
fn download(html: &str, ending: &str) -> Vec<u8> {
    let start = html.find(&format!("{ending}\" href=\"data:")).expect("a download");
    let link = html[start..].split("base64,").nth(1).and_then(|rest| rest.split('"').next()).expect("its data");
    STANDARD.decode(link).expect("base64")
}

#[test]
fn a_page_has_the_numbers_of_the_table_and_runs_nothing_of_its_texts() {
    let place = Workplace::new();
    place.write("small.ron", &hostile());
    place.ablate(&["sweep", "small.ron"]).code(3);
    let table = place.ablate(&["table", "small.ron", "--json"]).success().json();
    let said = place.ablate(&["report", "small.ron"]).success();
    assert!(said.out.is_empty() && said.err.contains("wrote results/small.html ("), "{}{}", said.out, said.err);
    let html = page(&place, "results/small.html");
    for cell in table["cells"].as_array().expect("cells") {
        if let Some(mean) = cell["mean"].as_f64() {
            assert!(html.contains(&format!(">{:.1}</td>", 100.0 * mean)), "{mean}");
        }
        for value in cell["values"].as_array().expect("values").iter().filter_map(serde_json::Value::as_f64) {
            assert!(html.contains(&format!("{:.1}", 100.0 * value)), "{value}");
        }
    }
    assert_eq!((html.matches("<script").count(), html.matches("<b>").count()), (1, 0));
    assert!(html.contains("&lt;b&gt;large&lt;/b&gt;") && !html.contains("http:") && !html.contains("https:"));
    for said in
        ["2 of 2 failed", "not finite", "train.learning_rate.base 0.001 → 0.01", "figure-loss", "figure-features"]
    {
        assert!(html.contains(said), "{said}");
    }
    assert_eq!(
        download(&html, ".csv"),
        place.ablate(&["table", "small.ron", "--format", "csv"]).success().out.into_bytes()
    );
    assert_eq!(download(&html, ".parquet"), read(&place, "results/small.parquet"));
    figures_lie_beside_it(&place);
    one_store_makes_one_page(&place, &html);
    wrong_arguments_are_told(&place);
}

fn read(place: &Workplace, name: &str) -> Vec<u8> {
    std::fs::read(place.path().join(name)).expect("a file")
}

fn figures_lie_beside_it(place: &Workplace) {
    for name in ["means", "cost", "loss", "alignment", "uniformity", "contrastive-top1", "learning-rate", "features"] {
        let svg = String::from_utf8(read(place, &format!("results/small.figures/{name}.svg"))).expect("text");
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>") && !svg.contains("<script"), "{name}");
        let png = place.path().join(format!("results/small.figures/{name}.png"));
        // Only where the system has a font.
        if png.exists() {
            assert!(std::fs::read(&png).expect("a picture").starts_with(b"\x89PNG"), "{name}");
        }
    }
}

/// Without the data set, at another time, in another place.
fn one_store_makes_one_page(place: &Workplace, html: &str) {
    let before = entries(&place.store());
    let json = place.ablate(&["report", "small.ron", "-o", "other/place.html", "--json"]).success().json();
    assert_eq!(json["page"].as_str(), Some("other/place.html"));
    assert_eq!(json["bytes"].as_u64(), Some(html.len() as u64));
    assert_eq!(page(place, "other/place.html"), html);
    assert!(place.path().join("other/place.figures/loss.svg").exists());
    assert_eq!(before, entries(&place.store()), "a report writes nothing into the store");
    assert!(html.contains("data:image/png"));
    place.ablate(&["report", "small.ron", "--no-images", "-o", "without.html"]).success();
    let without = page(place, "without.html");
    assert!(!without.contains("data:image/") && without.contains("ablate report small.ron --no-images"));
    let linear = place.ablate(&["report", "small.ron", "--metric", "linear.top1", "-o", "linear.html"]).success();
    assert!(linear.err.contains("wrote linear.html"), "{}", linear.err);
    assert!(page(place, "linear.html").contains("linear.top1 in %, a line a cell"));
}

fn entries(store: &Path) -> Vec<String> {
    crate::harness::entries(store).into_keys().collect()
}

fn wrong_arguments_are_told(place: &Workplace) {
    let said = place.ablate(&["report", "small.ron", "--map", "3"]).code(2);
    assert!(said.err.contains("there is no cell `3`: the file has 3 cells"), "{}", said.err);
    let said = place.ablate(&["report", "small.ron", "-o", "page.figures"]).code(2);
    assert!(said.err.contains("`page.figures` is where the figures go"), "{}", said.err);
    let said = place.ablate(&["report", "small.ron", "--metric", "knn.top9"]).code(2);
    assert!(said.err.contains("no results of metric `knn.top9`"), "{}", said.err);
}

#[test]
fn a_page_of_nothing_says_that_nothing_is_there() {
    let place = Workplace::new();
    place.write("small.ron", MINIATURE);
    place.ablate(&["report", "small.ron"]).success();
    let html = page(&place, "results/small.html");
    assert!(html.contains("Not computed yet.") && html.contains("4 of 4 results are missing"));
    assert!(!place.path().join("results/store").exists(), "looking creates no store");
    assert!(!html.contains("figure-loss") && html.contains("figure-means"));
}
