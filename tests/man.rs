//! The manual pages docs/man/*.3 are generated from include/ringmsg.h, and ringmsg.7 names nothing
//! that the header does not declare.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;

mod toolchain;
use toolchain::root;

const HEADER: &str = include_str!("../include/ringmsg.h");

/// One page per group of functions: its name, the group's first function, and the prefixes of its
/// constants.
const PAGES: &[(&str, &str, &[&str])] = &[
    ("ringmsg_support", "ringmsg_version", &["ENGINE", "FEATURE", "ABI"]),
    ("ringmsg_ring", "ringmsg_ring_config_init", &["SETUP"]),
    ("ringmsg_pool", "ringmsg_socket_enable", &["META", "STEER"]),
    ("ringmsg_recvmsg", "ringmsg_recvmsg", &["RECV"]),
    ("ringmsg_reap", "ringmsg_reap", &["RECORD", "LINGER", "POOL"]),
    ("ringmsg_control", "ringmsg_control_next", &[]),
    ("ringmsg_send", "ringmsg_path_reply", &["PATH", "MESSAGE", "SENDER", "SEND"]),
];

/// A comment of the header, and the code that follows it.
struct Item {
    text: Vec<String>,
    code: String,
}

impl Item {
    /// The function that the code declares.
    fn function(&self) -> Option<&str> {
        let before = self.code.strip_suffix(';')?.split('(').next()?;
        let name = before.rsplit([' ', '*']).next()?;
        (!self.code.starts_with('#') && self.code.contains('(') && name.starts_with("ringmsg_"))
            .then_some(name)
    }

    fn structure(&self) -> Option<&str> {
        self.code.strip_prefix("struct ")?.strip_suffix("\n};")?.split(' ').next()
    }

    fn constant(&self) -> Option<&str> {
        self.code.strip_prefix("#define RINGMSG_")?.split(' ').next()
    }
}

/// The lines of a comment, without its asterisks.
fn comment(block: &str) -> Vec<String> {
    let inner = block.trim().trim_start_matches("/*").trim_end_matches("*/");
    let lines: Vec<&str> = inner.lines().map(|line| line.trim().trim_start_matches('*').trim()).collect();
    let text = lines.join("\n");
    text.trim().lines().map(str::to_string).collect()
}

fn items() -> Vec<Item> {
    let mut items = Vec::new();
    for block in HEADER.split("\n\n").filter(|block| block.starts_with("/*\n")) {
        if let Some((text, code)) = block.split_once("\n */\n") {
            items.push(Item { text: comment(text), code: code.trim().to_string() });
        }
    }
    items
}

/// Assigns the functions to pages. The groups are in the same order as in the header.
fn grouped(items: &[Item]) -> Vec<Vec<&Item>> {
    let mut pages: Vec<Vec<&Item>> = Vec::new();
    for item in items {
        let Some(function) = item.function() else { continue };
        if PAGES.iter().any(|(_, first, _)| *first == function) {
            pages.push(Vec::new());
        }
        pages.last_mut().expect("the first function begins a group").push(item);
    }
    pages
}

/// Escapes text for roff: no line is taken for a request, minus signs stay, `code` is bold.
fn roff(line: &str) -> String {
    let mut out = String::new();
    let mut bold = false;
    for character in line.chars() {
        match character {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '`' => {
                bold = !bold;
                out.push_str(if bold { "\\fB" } else { "\\fR" });
            }
            other => out.push(other),
        }
    }
    if bold { format!("{out}\\fR") } else { out }
}

fn text_line(page: &mut String, line: &str) {
    let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
    writeln!(page, "{guard}{}", roff(line)).unwrap();
}

fn paragraphs(page: &mut String, text: &[String]) {
    const LABELS: [&str; 4] = ["Ownership:", "Threads:", "Returns:", "Ownership, Threads:"];
    let mut pause = false;
    for line in text {
        if let Some(label) = LABELS.into_iter().find(|label| line.starts_with(label)) {
            writeln!(page, ".TP\n.B {label}").unwrap();
            text_line(page, line[label.len()..].trim());
        } else if !line.is_empty() {
            page.push_str(if pause { ".PP\n" } else { "" });
            text_line(page, line);
        }
        pause = line.is_empty();
    }
}

fn code(page: &mut String, code: &str) {
    page.push_str(".PP\n.EX\n");
    for line in code.lines() {
        text_line(page, line);
    }
    page.push_str(".EE\n");
}

/// A structure, with the comment of each field behind it.
fn structure(item: &Item) -> String {
    let mut out = String::new();
    let mut note: Vec<String> = Vec::new();
    for line in item.code.lines() {
        let line = line.trim_end();
        match line.trim() {
            "/*" => note.clear(),
            "*/" => {}
            starred if starred.starts_with("* ") => note.push(starred[2..].to_string()),
            field if field.ends_with(';') && field != "};" => {
                writeln!(
                    out,
                    "    {field:<36} /* {} */",
                    note.join("\n                                            ")
                )
                .unwrap();
            }
            other => writeln!(out, "{other}").unwrap(),
        }
    }
    out
}

fn page(name: &str, functions: &[&Item], constants: &[&str], items: &[Item]) -> String {
    let names: Vec<&str> = functions.iter().filter_map(|item| item.function()).collect();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".\\\" Made from include/ringmsg.h: edit src/ there, then `make header man`.\n\
         .\\\" names: {}\n.TH {name} 3 \"\" \"ringmsg {version}\" \"ringmsg\"\n.SH NAME\n{} \\- {}\n\
         .SH SYNOPSIS\n.EX\n#include <ringmsg.h>\n",
        names.join(" "),
        names.join(", "),
        title(names[0]),
    );
    for item in functions {
        page.push('\n');
        item.code.lines().for_each(|line| text_line(&mut page, line));
    }
    page.push_str(".EE\n.PP\nLink with\n.BR \\-lringmsg .\n.SH DESCRIPTION\n");
    for item in functions {
        let name = item.function().unwrap();
        writeln!(page, ".SS {name}()").unwrap();
        let mut text = item.text.clone();
        text[0] = text[0].replacen(&format!("{name}: "), "", 1);
        text[0] = text[0][..1].to_uppercase() + &text[0][1..];
        paragraphs(&mut page, &text);
    }
    let signatures: String = functions.iter().map(|item| item.code.as_str()).collect();
    let used = |item: &&Item| {
        item.structure().is_some_and(|name| {
            signatures.contains(&format!("struct {name} ")) || signatures.contains(&format!("struct {name}*"))
        })
    };
    let structures: Vec<&Item> = items.iter().filter(used).collect();
    if !structures.is_empty() {
        page.push_str(".SH STRUCTURES\n");
        for item in structures {
            writeln!(page, ".SS struct {}", item.structure().unwrap()).unwrap();
            paragraphs(&mut page, &item.text);
            code(&mut page, &structure(item));
        }
    }
    let mine = |item: &&Item| {
        item.constant()
            .is_some_and(|name| constants.iter().any(|prefix| name.starts_with(&format!("{prefix}_"))))
    };
    let constants: Vec<&Item> = items.iter().filter(mine).collect();
    if !constants.is_empty() {
        page.push_str(".SH CONSTANTS\n");
        for item in constants {
            writeln!(page, ".TP\n.B RINGMSG_{}", item.constant().unwrap()).unwrap();
            item.text.iter().filter(|line| !line.is_empty()).for_each(|line| text_line(&mut page, line));
        }
    }
    page.push_str(".SH SEE ALSO\n");
    let others = PAGES.iter().filter(|(other, _, _)| *other != name);
    for (other, _, _) in others {
        writeln!(page, ".BR {other} (3),").unwrap();
    }
    page.push_str(".BR ringmsg (7)\n");
    page
}

/// The header's banner above a group.
fn title(first: &str) -> String {
    let at = HEADER.find(&format!(" * {first}: ")).expect("the function has a comment");
    let banner = HEADER[..at].rfind("/* ---").and_then(|end| HEADER[..end].trim_end().rfind("/* ")).unwrap();
    let line = HEADER[banner..].lines().next().unwrap();
    line.trim_start_matches("/*").trim_end_matches("*/").trim().to_lowercase()
}

#[test]
fn the_committed_pages_match_the_header() {
    let items = items();
    let groups = grouped(&items);
    assert_eq!(groups.len(), PAGES.len());
    let update = std::env::var_os("RINGMSG_UPDATE_MAN").is_some();
    for ((name, _, constants), functions) in PAGES.iter().zip(&groups) {
        let path = root().join(format!("docs/man/{name}.3"));
        let expected = page(name, functions, constants, &items);
        if update {
            std::fs::write(&path, &expected).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == expected, "docs/man/{name}.3 differs from include/ringmsg.h; run `make man`");
    }
}

#[test]
fn every_function_structure_and_constant_is_on_a_page() {
    let pages: String = PAGES
        .iter()
        .map(|(name, _, _)| std::fs::read_to_string(root().join(format!("docs/man/{name}.3"))).unwrap())
        .collect();
    for item in items() {
        let heading = match (item.function(), item.structure(), item.constant()) {
            (Some(function), ..) => format!("\n.SS {function}()\n"),
            (_, Some(structure), _) => format!("\n.SS struct {structure}\n"),
            (.., Some(constant)) => format!("\n.B RINGMSG_{constant}\n"),
            _ => continue,
        };
        assert!(pages.contains(&heading), "no page has{heading}");
    }
    let declared = HEADER.matches("\nint ringmsg_").count();
    assert!(pages.matches("\n.SS ringmsg_").count() > declared, "functions are missing");
}

#[test]
fn the_overview_names_only_existing_functions_and_constants() {
    let overview = std::fs::read_to_string(root().join("docs/man/ringmsg.7")).unwrap();
    let version = format!("\"ringmsg {}\"", env!("CARGO_PKG_VERSION"));
    assert!(
        overview.starts_with(&format!(".TH ringmsg 7 \"\" {version}")),
        "ringmsg.7 is of another version"
    );
    let word = |character: char| !(character.is_alphanumeric() || character == '_');
    let names: BTreeSet<&str> = overview
        .split(word)
        .filter(|name| name.starts_with("ringmsg_") || name.starts_with("RINGMSG_"))
        .collect();
    let known: BTreeSet<&str> = HEADER.split(word).chain(PAGES.iter().map(|page| page.0)).collect();
    for name in &names {
        assert!(known.contains(name), "ringmsg.7 names {name}, which include/ringmsg.h does not declare");
    }
    for (page, _, _) in PAGES {
        assert!(overview.contains(&format!(".BR {page} (3)")), "ringmsg.7 does not refer to {page}(3)");
    }
    for mode in ["DEFER_TASKRUN", "COOP_TASKRUN", "SINGLE_ISSUER", "R_DISABLED", "AUTO"] {
        assert!(
            names.contains(format!("RINGMSG_SETUP_{mode}").as_str()),
            "ringmsg.7 does not mention {mode}"
        );
    }
}

#[test]
fn the_pages_are_valid_roff() {
    for entry in std::fs::read_dir(root().join("docs/man")).unwrap() {
        let path = entry.unwrap().path();
        match Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path).output() {
            Ok(output) => assert!(
                output.status.success() && output.stderr.is_empty(),
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(_) => println!("NOT CHECKED: groff is not installed (`apt-get install groff`)"),
        }
        if let Ok(output) = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path).output() {
            let said = String::from_utf8_lossy(&output.stdout);
            // The pages carry no date, so that they are reproducible.
            let is_wrong = |line: &&str| !line.contains("missing date");
            let wrong: Vec<&str> = said.lines().filter(is_wrong).collect();
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
    }
}
