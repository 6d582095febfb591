//! What the documents name exists: links and their anchors, files, make targets, functions and
//! constants. There are no placeholders, the tables of docs/scaling.md follow from its figures, and
//! the pages of the HTML manual can be collected, with links that stay among them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

mod toolchain;
use toolchain::root;

struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// The folder that relative paths in the document start from.
    fn folder(&self) -> &Path {
        self.path.parent().expect("a file is in a folder")
    }

    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    /// Splits the document into code (fenced and indented blocks, and text in backticks) and prose.
    fn code_and_prose(&self) -> (Vec<String>, Vec<String>) {
        let (mut code, mut prose) = (Vec::new(), Vec::new());
        let mut paragraph = String::new();
        let mut fenced = false;
        for line in self.text.lines().chain([""]) {
            let fence = line.trim_start().starts_with("```");
            if !fenced && !fence && !line.starts_with("    ") && !line.is_empty() {
                paragraph += line;
                paragraph.push('\n');
                continue;
            }
            for (i, part) in std::mem::take(&mut paragraph).split('`').enumerate() {
                if i % 2 == 0 { &mut prose } else { &mut code }.push(part.to_owned());
            }
            if fence {
                fenced = !fenced;
            } else {
                code.push(line.to_owned());
            }
        }
        assert!(!fenced, "{}: a code block has no end", self.name());
        (code, prose)
    }

    /// The anchors that a renderer makes from the headings.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| -> String {
            let letters = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = letters.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }
}

fn documents() -> Vec<Document> {
    let front = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut paths: Vec<PathBuf> = front.iter().map(|name| root().join(name)).collect();
    paths.extend(["python", "go"].map(|language| root().join("bindings").join(language).join("README.md")));
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.sort();
    let read = |path: PathBuf| Document { text: std::fs::read_to_string(&path).unwrap(), path };
    paths.into_iter().map(read).collect()
}

/// The words of `text`: letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Fails with everything that was found, not only the first.
#[track_caller]
fn fail_if_any(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The relative links of a document that lead nowhere.
fn dead_links(document: &Document) -> Vec<String> {
    let mut dead = Vec::new();
    for prose in document.code_and_prose().1 {
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.path.clone() } else { document.folder().join(file) };
            let found = target.exists()
                && (anchor.is_empty()
                    || Document { text: std::fs::read_to_string(&target).unwrap(), path: target }
                        .anchors()
                        .contains(anchor));
            if !found {
                dead.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    dead
}

#[test]
fn relative_links_lead_somewhere() {
    fail_if_any(documents().iter().flat_map(dead_links).collect());
}

/// The first half of `make html`, which needs no mdBook: docs/html/pages.sh finds every document,
/// and no link of a page leaves the manual.
#[test]
fn the_pages_of_the_manual_can_be_collected() {
    let pages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("manual");
    let _ = std::fs::remove_dir_all(&pages);
    let output =
        Command::new("sh").arg("docs/html/pages.sh").arg(&pages).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let markdown = |folder: &Path| -> Vec<PathBuf> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    let mut files = markdown(&pages);
    files.extend(markdown(&pages.join("performance")));
    let listed = std::fs::read_to_string(pages.join("SUMMARY.md")).unwrap();
    let mut dead = Vec::new();
    for path in files {
        let name = path.strip_prefix(&pages).unwrap().display().to_string();
        if name != "SUMMARY.md" && !listed.contains(&format!("({name})")) {
            dead.push(format!("SUMMARY.md does not list {name}"));
        }
        dead.extend(dead_links(&Document { text: std::fs::read_to_string(&path).unwrap(), path }));
    }
    fail_if_any(dead);
}

/// A long line is a paragraph that nobody re-wrapped. Tables, code, links and what a command
/// generates may be longer.
#[test]
fn prose_is_wrapped() {
    let mut long = Vec::new();
    for document in documents() {
        let (mut fenced, mut generated) = (false, false);
        for (number, line) in document.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if line.starts_with("<!--") {
                generated = !line.contains("end");
            }
            let is_prose =
                !fenced && !generated && !line.starts_with(['|', '!']) && !line.starts_with("    ");
            if is_prose && line.chars().count() > 120 {
                long.push(format!("{}:{}: {} columns", document.name(), number + 1, line.chars().count()));
            }
        }
    }
    fail_if_any(long);
}

#[test]
fn there_are_no_placeholders() {
    let mut placeholders = Vec::new();
    for document in documents() {
        for word in words(&document.text) {
            if ["TODO", "FIXME", "XXX", "TBD"].contains(&word) || word.eq_ignore_ascii_case("lorem") {
                placeholders.push(format!("{}: {word}", document.name()));
            }
        }
    }
    fail_if_any(placeholders);
}

/// The targets of the Makefile and of the files it includes.
fn make_targets() -> BTreeSet<String> {
    let mut targets = BTreeSet::new();
    let included = ["packaging/install.mk", "tests/proof.mk", "bindings/bindings.mk", "benches/bench.mk"];
    for file in ["Makefile"].iter().chain(&included) {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for rule in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())) {
            let (names, rest) = rule.split_once(':').unwrap_or(("", ""));
            if !rest.starts_with('=') {
                targets.extend(names.split_whitespace().map(str::to_owned));
            }
        }
    }
    targets
}

#[test]
fn make_targets_exist() {
    let targets = make_targets();
    assert!(targets.contains("test") && targets.contains("check-deb"), "{targets:?}");
    let mut missing = Vec::new();
    for document in documents() {
        for code in document.code_and_prose().0 {
            let mut tokens = code.split_whitespace();
            while tokens.any(|token| token == "make") {
                let target = tokens.clone().find(|token| !token.contains('=')).unwrap_or("");
                let target = target.trim_end_matches([';', ',']);
                if target.starts_with(|c: char| c.is_ascii_lowercase()) && !targets.contains(target) {
                    missing.push(format!("{}: make {target}", document.name()));
                }
            }
        }
    }
    fail_if_any(missing);
}

#[test]
fn files_in_backticks_exist() {
    const FOLDERS: [&str; 9] = [
        "docs/",
        "tests/",
        "examples-c/",
        "src/",
        "include/",
        "packaging/",
        "bindings/",
        "benches/",
        "fuzz/",
    ];
    let mut missing = Vec::new();
    for document in documents() {
        for code in document.code_and_prose().0 {
            for path in code.split_whitespace().map(|word| word.trim_start_matches("./")) {
                let path = path.trim_end_matches([',', ';', ')', '.']);
                if !FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                    continue;
                }
                let path = path.split(['*', '{']).next().unwrap(); // the part before a wildcard
                if !root().join(path).exists() && !document.folder().join(path).exists() {
                    missing.push(format!("{}: {path}", document.name()));
                }
            }
        }
    }
    fail_if_any(missing);
}

/// A document that the text names, also outside of links and backticks, is in the repository.
#[test]
fn documents_that_are_named_exist() {
    let name_of = |path: &Path| path.file_name().unwrap().display().to_string();
    let mut names: BTreeSet<String> = documents().iter().map(|document| name_of(&document.path)).collect();
    let machines = std::fs::read_dir(root().join("docs/performance")).unwrap();
    names.extend(machines.map(|entry| name_of(&entry.unwrap().path())));
    let mut missing = Vec::new();
    for document in documents() {
        for prose in document.code_and_prose().1 {
            let part = |c: char| c.is_whitespace() || "()[],;:\"*/#".contains(c);
            for word in prose.split(part).map(|word| word.trim_end_matches('.')) {
                if word.ends_with(".md") && !names.contains(word) {
                    missing.push(format!("{}: {word}", document.name()));
                }
            }
        }
    }
    fail_if_any(missing);
}

#[test]
fn names_of_the_interface_exist() {
    // Names of the build and of the bindings, which the C interface does not have.
    const OTHERS: [&str; 6] = [
        "RINGMSG_TEST_ALLOW_SKIP",
        "RINGMSG_LIBRARY",
        "RINGMSG_UPDATE_HEADER",
        "RINGMSG_0",
        "ringmsg_static",
        "ringmsg_dep",
    ];
    let header = std::fs::read_to_string(root().join("include/ringmsg.h")).unwrap();
    let known: BTreeSet<&str> = words(&header).collect();
    let mut missing = Vec::new();
    for document in documents() {
        for word in words(&document.text) {
            let is_of_the_interface = word.starts_with("ringmsg_") || word.starts_with("RINGMSG_");
            // A word that ends in an underscore, such as `RINGMSG_META_*`, must begin a name.
            let found = known.contains(word)
                || word.ends_with('_') && known.iter().any(|name| name.starts_with(word));
            if is_of_the_interface && !found && !OTHERS.contains(&word) {
                missing.push(format!("{}: {word}", document.name()));
            }
        }
    }
    fail_if_any(missing);
}

/// A drawing that takes its colours from the system's scheme has a background in that scheme, so it
/// is legible on a page whose scheme differs. All drawings and plots say what they show.
#[test]
fn drawings_are_legible_on_any_page() {
    let mut found = Vec::new();
    for folder in ["docs", "docs/performance"] {
        for path in std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            if path.extension().is_none_or(|extension| extension != "svg") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(root()).unwrap().display();
            if text.contains("prefers-color-scheme") {
                let page = r#"<rect class="page" width="100%" height="100%"/>"#;
                if !text.contains(page) || text.matches(".page { fill: ").count() != 2 {
                    found.push(format!("{name}: no background in both schemes"));
                }
                if !text.contains("<title>") {
                    found.push(format!("{name}: no title"));
                }
            } else if !text.contains("fill: #ffffff") || !text.contains("? (") {
                found.push(format!("{name}: no white background, or no question in its title"));
            }
        }
    }
    fail_if_any(found);
}

/// docs/scaling.awk recomputes the tables: `make scaling`.
#[test]
fn scaling_is_computed_from_its_figures() {
    let document = root().join("docs/scaling.md");
    let output = Command::new("awk")
        .arg("-f")
        .arg(root().join("docs/scaling.awk"))
        .arg(&document)
        .output()
        .expect("awk runs; `apt-get install mawk` provides it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let computed = String::from_utf8(output.stdout).unwrap();
    assert!(computed.contains("| 100 | 96.15 M |"), "64 bytes at 100 Gbit/s are computed");
    assert!(computed == std::fs::read_to_string(document).unwrap(), "`make scaling` changes docs/scaling.md");
}

/// docs/figures.awk takes the figures in README.md from the page that README.md names: `make
/// figures`.
#[test]
fn the_figures_in_the_readme_are_measured_cells() {
    let readme = root().join("README.md");
    let output = Command::new("awk")
        .arg("-f")
        .arg(root().join("docs/figures.awk"))
        .args([&root().join("docs/performance/amd-epyc-2.md"), &readme])
        .output()
        .expect("awk runs; `apt-get install mawk` provides it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let computed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(computed.matches("\n| ringmsg, AUTO | ").count(), 2, "each table has its rows");
    assert!(!computed.contains("|  |"), "a cell is empty");
    let text = std::fs::read_to_string(readme).unwrap();
    assert!(computed == text, "`make figures` changes README.md");

    // The ratios in the text below the table are in the documents that measured them.
    let measured = ["performance.md", "sending.md", "scaling.md"]
        .map(|name| std::fs::read_to_string(root().join("docs").join(name)).unwrap())
        .concat();
    let costs = text.split("## What it costs").nth(1).and_then(|rest| rest.split("## Two").next()).unwrap();
    let costs = costs.rsplit("<!-- end figures -->").next().unwrap();
    for figure in costs.split_whitespace().map(|word| word.trim_end_matches([',', ';', '.'])) {
        if figure.starts_with(|c: char| c.is_ascii_digit()) {
            assert!(measured.contains(figure), "README.md: {figure} is in no document of measurements");
        }
    }
}
