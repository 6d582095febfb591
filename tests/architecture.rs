//! Rules that no compiler checks: which module may use which, and how wide a comment may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layers of `src`, the lowest first. A module uses modules of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["error", "ids"],
    &["sys", "slot_list", "config", "record"],
    &["control", "layout", "stats", "mode", "linger", "diagnosis", "socket"],
    &["scm_rights", "socket_options", "socket_steer", "gate", "wakeup", "sender"],
    &["pool"],
    &["engine"],
    &["request", "probe"],
    &["ring"],
    &["reaper"],
    &["arm", "receive", "release", "teardown"],
    &["capi"],
];

const COLUMNS: usize = 100;

fn files_below(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|given| extensions.iter().any(|one| given == *one)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The module in a file, as a path: `pool::buffers` for src/pool/buffers.rs.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let path = inside.with_extension("").to_str().unwrap().replace('/', "::");
    path.strip_suffix("::mod").unwrap_or(&path).to_owned()
}

/// The paths behind `crate::` that a module imports, without those of its tests.
fn imports(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for line in lines {
        for path in line.split("crate::").skip(1) {
            let end =
                path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(path.len());
            found.push(path[..end].trim_end_matches(':').to_owned());
        }
    }
    found
}

/// The longest prefix of `path` that is a module.
fn resolve<'m>(path: &str, modules: &'m BTreeSet<String>) -> Option<&'m String> {
    let mut path = path;
    loop {
        if let Some(module) = modules.get(path) {
            return Some(module);
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let files = files_below("src", &["rs"]);
    let modules: BTreeSet<String> = files.iter().map(|file| module_of(file)).collect();
    let mut graph = BTreeMap::new();
    for file in &files {
        let module = module_of(file);
        if module == "lib" {
            continue;
        }
        let used = imports(file).into_iter().map(|path| {
            let found = resolve(&path, &modules);
            found.unwrap_or_else(|| panic!("{module} imports crate::{path}, which is no module")).clone()
        });
        let used = used.filter(|used| *used != module).collect();
        graph.insert(module, used);
    }
    graph
}

fn top_module(module: &str) -> &str {
    module.split("::").next().unwrap()
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&top_module(module)));
    found.unwrap_or_else(|| panic!("src/{} is in no layer of tests/architecture.rs", top_module(module)))
}

#[test]
fn no_import_points_upwards() {
    for (module, used) in graph() {
        for other in used {
            assert!(
                top_module(&module) == top_module(&other) || layer(&module) > layer(&other),
                "{module} uses {other}, which is not below it"
            );
        }
    }
}

#[test]
fn no_modules_use_each_other_in_a_cycle() {
    let mut graph = graph();
    // Repeatedly removes the modules that use none of the others. If none can be removed, there is
    // a cycle.
    while !graph.is_empty() {
        let free: Vec<String> =
            graph.iter().filter(|(_, used)| used.is_empty()).map(|(module, _)| module.clone()).collect();
        assert!(!free.is_empty(), "these modules are in a cycle or use one: {:?}", graph.keys());
        for module in &free {
            graph.remove(module);
        }
        for used in graph.values_mut() {
            used.retain(|module| !free.contains(module));
        }
    }
}

/// The folders with code, and the extensions of what people write there.
const WRITTEN: [(&str, &[&str]); 9] = [
    ("src", &["rs"]),
    ("tests", &["rs", "c", "h", "cpp", "hpp", "sh", "mk"]),
    ("include", &["h", "hpp"]),
    ("examples-c", &["c", "h", "cpp", "sh"]),
    ("benches", &["c", "h", "py", "sh", "mk"]),
    ("fuzz/fuzz_targets", &["rs"]),
    ("bindings/go", &["go", "h", "sh"]),
    ("bindings/python/src", &["py"]),
    ("packaging", &["sh", "mk", "py"]),
];

/// Every written file with its text.
fn written() -> impl Iterator<Item = (PathBuf, String)> {
    WRITTEN.iter().flat_map(|(folder, extensions)| files_below(folder, extensions)).map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, text)
    })
}

#[test]
fn comments_are_wrapped() {
    let mut wide = Vec::new();
    for (file, text) in written() {
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            let is_comment = ["//", "/*", "* ", "#"].iter().any(|mark| trimmed.starts_with(mark));
            if is_comment && line.chars().count() > COLUMNS && !trimmed.starts_with("#define") {
                wide.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "comments wider than {COLUMNS} columns:\n{}", wide.join("\n"));
}

/// Metaphors and idioms that a reader of liburing's manual would have to translate, with the words
/// to use instead. They are found across line ends as well.
#[test]
fn comments_use_the_words_of_the_field() {
    const INSTEAD: [(&str, &str); 13] = [
        ("nap", "sleep"),
        ("naps", "sleeps"),
        ("bell", "eventfd, notification"),
        ("hush", "suppress notifications"),
        ("wish", "arguments, request"),
        ("mold", "template"),
        ("inlet", "source"),
        ("want of", "lack of, exhaustion"),
        ("for ever", "without end, permanently"),
        ("anew", "again"),
        ("so many", "this many, at most N"),
        ("as good as", "say what it is"),
        ("by itself", "alone, without a call"),
    ];
    let mut found = Vec::new();
    for (file, text) in written() {
        if file.ends_with("tests/architecture.rs") {
            continue; // the list above
        }
        // One line, without the signs that begin a comment's lines; a space around each word.
        let words: Vec<&str> =
            text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
        let line = format!(" {} ", words.join(" ").to_lowercase());
        for (phrase, instead) in INSTEAD {
            if line.contains(&format!(" {phrase} ")) {
                found.push(format!("{}: \"{phrase}\" (instead: {instead})", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
