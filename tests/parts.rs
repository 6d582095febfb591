//! The runner of `make test` and `make proof` (tests/parts): it counts what passed, failed and was
//! skipped in each form of log, prints the log of a part that fails, and its exit status is right.

use std::process::{Command, Output};

mod toolchain;
use toolchain::{root, scratch};

/// Runs a list of parts. Its columns are those of tests/parts/test.list.
fn run(name: &str, list: &str) -> Output {
    let path = scratch().join(format!("{name}.list"));
    std::fs::write(&path, list).expect("the scratch folder is writable");
    Command::new(root().join("tests/parts/run.sh"))
        .arg("a run")
        .arg(&path)
        .env("RINGMSG_LOGS", scratch().join(format!("{name}-logs")))
        .current_dir(root())
        .output()
        .expect("bash runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn assert_lines(said: &str, expected: &[&str]) {
    for line in expected {
        assert!(said.lines().any(|said| said.trim() == *line), "no line {line:?} in:\n{said}");
    }
}

const EVERY_FORM: &str = r#"
cargo  | of cargo | cargo       | echo 'test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured'
c      | in modes | behaviours  | printf 'ok     a plain  0.1 s\nok     a defer  0.1 s\nskip   b plain  0 s\n(skipped b [plain]: no privilege)\n'
python | pytest   | pytest      | printf 'SKIPPED [2] tests/x.py:7: no uvloop\n40 passed, 2 skipped in 8.15s\n'
go     | golang   | golang      | printf -- '--- PASS: TestA (0.0s)\n    --- PASS: TestA/b (0.0s)\n    x_test.go:3: no cgo\n--- SKIP: TestB (0.0s)\n'
lines  | lines    | lines       | printf 'ok: one\nSKIPPED two: no valgrind\n'
"#;

#[test]
fn every_form_of_log_is_counted_and_every_skip_has_its_reason() {
    let output = run("forms", EVERY_FORM);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("a run: 5 parts, 52 passed, 0 failed, 6 skipped"), "{said}");
    assert_lines(
        &said,
        &[
            "skipped: cargo: 1 ignored by cargo test",
            "skipped: c: b [plain]: no privilege",
            "skipped: python: tests/x.py:7: no uvloop (2 times)",
            "skipped: go: TestB: x_test.go:3: no cgo",
            "skipped: lines: two: no valgrind",
        ],
    );
}

#[test]
fn a_part_that_fails_is_counted_and_its_log_printed_and_later_parts_run() {
    let output = run(
        "failure",
        "bad | fails | lines | echo 'the value was 3'; echo 'FAILED one'; exit 1\nlater | runs | lines | echo ok\n",
    );
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("a run: 2 parts, 1 passed, 1 failed, 0 skipped"), "{said}");
    assert!(said.contains("the value was 3"), "{said}");
    assert!(said.lines().any(|line| line.trim().starts_with("FAILED: bad ")), "{said}");
}

/// A failure in the log counts even if the command forgot its exit status, a failing command counts
/// even if its log shows no failure, and a part without a check fails.
#[test]
fn no_failure_is_overlooked() {
    for (name, command) in [
        ("log", "echo 'test result: FAILED. 3 passed; 2 failed; 0 ignored'"),
        ("status", "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; exit 7"),
        ("nothing", "true"),
    ] {
        let output = run(name, &format!("part | {name} | cargo | {command}\n"));
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
    }
}

#[test]
fn a_part_of_which_everything_is_skipped_says_so_and_does_not_fail() {
    let output = run("skipped", "part | needs a tool | lines | echo 'SKIPPED part: no tool'\n");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.lines().any(|line| line.starts_with("part") && line.ends_with("skipped")), "{said}");
    assert!(said.contains("0 passed, 0 failed, 1 skipped"), "{said}");
}

/// Every command of the lists is a target of make, or cargo.
#[test]
fn the_lists_name_targets_that_exist() {
    for list in ["test", "proof"] {
        let path = root().join(format!("tests/parts/{list}.list"));
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            assert_eq!(columns.len(), 4, "{list}: {line}");
            let Some(target) = columns[3].strip_prefix("make -s ") else {
                assert!(columns[3].starts_with("cargo test --locked "), "{list}: {line}");
                continue;
            };
            let target = target.split_whitespace().next().unwrap();
            let dry =
                Command::new("make").args(["-n", target]).current_dir(root()).output().expect("make runs");
            assert!(dry.status.success(), "{list}: {}", String::from_utf8_lossy(&dry.stderr));
        }
    }
}
