//! The manual pages docs/man/*.3 are generated from include/ringmsg.h, and ringmsg.7 names nothing
//! that the header does not declare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;

mod toolchain;
use toolchain::root;

const HEADER: &str = include_str!("../include/ringmsg.h");

/// The date of the pages: that of the interface, and not of the build, so that they are
/// reproducible.
const DATE: &str = "2026-11-27";

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
    // A short comment has both labels on one line.
    let text = lines.join("\n").replace(". Returns: ", ".\nReturns: ");
    text.trim().lines().map(str::to_string).collect()
}

fn items() -> Vec<Item> {
    let mut items = Vec::new();
    for block in HEADER.split("\n\n").map(str::trim).filter(|block| block.starts_with("/*\n")) {
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

const LABELS: [&str; 4] = ["Ownership:", "Threads:", "Returns:", "Ownership, Threads:"];

/// Splits what follows `Returns:` off a function's text. It is a section of its own.
fn split_returns(text: &[String]) -> (Vec<String>, Vec<String>) {
    let Some(start) = text.iter().position(|line| line.starts_with("Returns:")) else {
        return (text.to_vec(), Vec::new());
    };
    let is_label = |line: &&String| LABELS.iter().any(|label| line.starts_with(label));
    let length = text[start + 1..].iter().take_while(|line| !is_label(line)).count();
    let end = start + 1 + length;
    let mut returns = text[start..end].to_vec();
    returns[0] = returns[0]["Returns:".len()..].trim().to_owned();
    ([&text[..start], &text[end..]].concat(), returns)
}

/// Reasons of errors that the header names without one, because they are the same everywhere.
const REASONS: &[(&str, &str)] = &[
    ("EBADF", "The descriptor is not open."),
    ("EBADFD", "The ring was created with RINGMSG_SETUP_R_DISABLED, and is not enabled yet."),
    ("EBUSY", "Another thread is inside a call that one thread at a time may make."),
    ("ECANCELED", "The ring is being freed."),
    ("EINTR", "A signal arrived."),
    ("EMFILE", "The process may open no more descriptors."),
    ("ENFILE", "The system may open no more files."),
    ("ENOSYS", "The kernel, or a sandbox, has no io_uring."),
    ("EINVAL", "An argument is NULL or invalid, or a reserved field or an unknown flag is set."),
    ("ENOMEM", "There is no memory."),
    ("ENOTRECOVERABLE", "A bug inside the library poisoned the ring."),
    ("ENOTSOCK", "The descriptor is no socket."),
    ("EOWNERDEAD", "The thread that owns the ring has exited."),
    ("EPERM", "The ring belongs to another thread, or to the parent of this forked process."),
];

/// The errors in a text, such as `-EBUSY (another thread is in reap)`, each with the reason that
/// follows it in brackets, or else none. In `-EAGAIN, -EBUSY (reason)` both have the reason.
fn errors_in(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("-E") {
        let name: String = text[at + 1..].chars().take_while(char::is_ascii_uppercase).collect();
        if name.len() < 3 {
            continue;
        }
        let rest = text[at + 1 + name.len()..].trim_start();
        let mut depth = 0;
        let end = rest.char_indices().find(|&(_, character)| {
            depth += i32::from(character == '(') - i32::from(character == ')');
            depth == 0
        });
        let reason = rest.strip_prefix('(').zip(end).map(|(inner, (end, _))| inner[..end - 1].to_owned());
        found.push((name, reason, rest.starts_with(", -E")));
    }
    for i in (1..found.len()).rev() {
        if found[i - 1].2 && found[i - 1].1.is_none() {
            found[i - 1].1 = found[i].1.clone();
        }
    }
    found.into_iter().map(|(name, reason, _)| (name, reason)).collect()
}

/// The section ERRORS: every errno of the page's functions, with the reasons.
fn errors(page: &mut String, returns: &[(&str, Vec<String>)]) {
    let mut reasons: BTreeMap<String, Vec<(&str, Option<String>)>> = BTreeMap::new();
    for (function, text) in returns {
        for (name, reason) in errors_in(&text.join(" ")) {
            reasons.entry(name).or_default().push((function, reason));
        }
    }
    if reasons.is_empty() {
        return;
    }
    page.push_str(".SH ERRORS\n");
    for (name, found) in reasons {
        writeln!(page, ".TP\n.B {name}").unwrap();
        let known = REASONS.iter().find(|(other, _)| *other == name).map(|(_, reason)| *reason);
        let mut texts: Vec<String> = Vec::new();
        for (function, reason) in found {
            let text = match (&reason, known) {
                (Some(reason), _) => format!("`{function}`(): {reason}."),
                (None, Some(known)) => known.to_owned(),
                (None, None) => format!("`{function}`(): see RETURN VALUE."),
            };
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        // A function that does as another one, or to which the general reason applies.
        let unexplained = |text: &String| text.ends_with("see RETURN VALUE.");
        if !texts.iter().all(unexplained) {
            texts.retain(|text| !unexplained(text));
        }
        // The general reason first.
        texts.sort_by_key(|text| text.starts_with('`'));
        for (i, text) in texts.iter().enumerate() {
            page.push_str(if i > 0 { ".br\n" } else { "" });
            text_line(page, text);
        }
    }
}

/// The section EXAMPLES: docs/man/examples has the code, which tests/snippets.rs compiles and runs.
fn example(page: &mut String, name: &str) {
    let path = root().join(format!("docs/man/examples/{name}.c"));
    let text = std::fs::read_to_string(path).expect("every page has an example");
    page.push_str(".SH EXAMPLES\n");
    page.push_str("The code uses a bound UDP socket fd, a ring, a pool, a sender, and arrays of BATCH\n");
    page.push_str("records, metadata, paths and messages.\n");
    page.push_str("check() ends the program on an error.\n");
    code(page, &text);
}

fn paragraphs(page: &mut String, text: &[String]) {
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

/// A structure, with the comment of each field behind it, or above it where a terminal of 80
/// columns has no room for both.
fn structure(item: &Item) -> String {
    let mut out = String::new();
    let mut note: Vec<String> = Vec::new();
    for line in item.code.lines() {
        let line = line.trim_end();
        match line.trim() {
            "/*" => note.clear(),
            "*/" => {}
            starred if starred.starts_with("* ") => note.push(starred[2..].to_string()),
            field if field.ends_with(';') && field != "};" => out += &documented(field, &note.join(" ")),
            other => writeln!(out, "{other}").unwrap(),
        }
    }
    out
}

fn documented(field: &str, note: &str) -> String {
    let beside = format!("    {field:<30} /* {note} */\n");
    if beside.len() <= 74 {
        return beside;
    }
    let mut above = String::from("    /*");
    let mut column = above.len();
    for word in note.split(' ') {
        if column + 1 + word.len() > 68 {
            above.push_str("\n      ");
            column = 6;
        }
        above.push(' ');
        above.push_str(word);
        column += 1 + word.len();
    }
    format!("{above} */\n    {field}\n")
}

fn page(name: &str, functions: &[&Item], constants: &[&str], items: &[Item]) -> String {
    let names: Vec<&str> = functions.iter().filter_map(|item| item.function()).collect();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".\\\" Made from include/ringmsg.h: edit src/ there, then `make header man`.\n\
         .\\\" names: {}\n.TH {name} 3 \"{DATE}\" \"ringmsg {version}\" \"ringmsg\"\n.SH NAME\n{} \\- {}\n\
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
    let mut returns: Vec<(&str, Vec<String>)> = Vec::new();
    for item in functions {
        let name = item.function().unwrap();
        writeln!(page, ".SS {name}()").unwrap();
        let mut text = item.text.clone();
        text[0] = text[0].replacen(&format!("{name}: "), "", 1);
        text[0] = text[0][..1].to_uppercase() + &text[0][1..];
        let (text, returned) = split_returns(&text);
        paragraphs(&mut page, &text);
        returns.push((name, returned));
    }
    page.push_str(".SH RETURN VALUE\n");
    for (name, text) in returns.iter().filter(|(_, text)| !text.is_empty()) {
        writeln!(page, ".TP\n.BR {name} ()").unwrap();
        paragraphs(&mut page, text);
    }
    errors(&mut page, &returns);
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
    example(&mut page, name);
    page.push_str(".SH SEE ALSO\n");
    let others = PAGES.iter().filter(|(other, _, _)| *other != name);
    for (other, _, _) in others {
        writeln!(page, ".BR {other} (3),").unwrap();
    }
    page.push_str(".BR recvmsg (2),\n.BR udp (7),\n.BR ringmsg (7)\n");
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
    // Counted in the header's text: an item that `items` does not see is on no page.
    let defined = HEADER.matches("\n#define RINGMSG_").count();
    let no_items = ["H", "VERSION", "ASSERT_(what) static_assert", "ASSERT_(what) _Static_assert"];
    let listed = items().iter().filter(|item| item.constant().is_some()).count();
    assert_eq!(listed + no_items.len(), defined, "constants are missing");
}

#[test]
fn the_overview_names_only_existing_functions_and_constants() {
    let overview = std::fs::read_to_string(root().join("docs/man/ringmsg.7")).unwrap();
    let version = format!("\"ringmsg {}\"", env!("CARGO_PKG_VERSION"));
    assert!(
        overview.starts_with(&format!(".TH ringmsg 7 \"{DATE}\" {version}")),
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
        if path.is_dir() {
            continue; // the examples
        }
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
            assert!(said.is_empty(), "{said}");
        }
    }
}
