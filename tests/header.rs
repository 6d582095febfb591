//! include/ringmsg.h is generated from src/, and every compiler and standard accepts it.

mod toolchain;
use toolchain::{Language, compiler, root, scratch, succeed};

const GENERATED: &str = include_str!(concat!(env!("OUT_DIR"), "/ringmsg.h"));

#[test]
fn the_committed_header_is_generated_from_src() {
    let path = root().join("include/ringmsg.h");
    if std::env::var_os("RINGMSG_UPDATE_HEADER").is_some() {
        std::fs::write(&path, GENERATED).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == GENERATED,
        "include/ringmsg.h differs from what src/ generates; run `make header` and review the difference"
    );
}

#[test]
fn the_header_compiles_alone_in_every_standard() {
    let source = scratch().join("header_alone.c");
    std::fs::write(&source, "#include <ringmsg.h>\n#include <ringmsg.h>\nint unused_;\n").unwrap();
    let c = ["c90", "gnu90", "c99", "c11", "c17", "c2x"].map(Language::C);
    let cpp = ["c++98", "c++11", "c++14", "c++17", "c++20", "c++2b"].map(Language::Cpp);
    for standard in c.into_iter().chain(cpp) {
        let mut command = compiler(standard);
        command.arg("-fsyntax-only").arg(&source);
        succeed(command);
    }
}

/// The loop that the header prints compiles without warnings, with more of them enabled.
#[test]
fn the_printed_loop_compiles_without_a_warning() {
    let mut lines =
        GENERATED.lines().skip_while(|line| !line.starts_with(" *     struct ringmsg_ring *ring;"));
    let body: String = lines
        .by_ref()
        .take_while(|line| !line.starts_with(" * Errors."))
        .map(|line| line.trim_start_matches(" *").to_owned() + "\n")
        .collect();
    assert!(body.contains("ringmsg_next(") && body.contains("EINTR"), "the header prints a loop: {body}");
    let source = scratch().join("printed_loop.c");
    let program = format!(
        "#include <errno.h>\n#include <ringmsg.h>\n#include <stdio.h>\n\
         void use(const uint8_t *bytes, uint32_t length);\nint receive(int fd);\n\
         int receive(int fd)\n{{\n{body}    return n;\n}}\n"
    );
    std::fs::write(&source, program).unwrap();
    let mut command = compiler(Language::C("c11"));
    command.args(WARNINGS).arg("-fsyntax-only").arg(&source);
    succeed(command);
}

const WARNINGS: &[&str] = &["-Wsign-conversion", "-Wconversion", "-Wshadow", "-Werror"];

#[test]
fn both_headers_compile_without_warnings() {
    for (header, standards) in [
        ("ringmsg.h", &[Language::C("c11"), Language::Cpp("c++17"), Language::Cpp("c++20")][..]),
        ("ringmsg.hpp", &[Language::Cpp("c++20")]),
    ] {
        let source = scratch().join(format!("warned_{header}.cpp"));
        std::fs::write(&source, format!("#include <{header}>\nint unused_;\n")).unwrap();
        for &standard in standards {
            let mut command = compiler(standard);
            command.args(WARNINGS).args(["-fsyntax-only", "-x"]);
            command.arg(if matches!(standard, Language::C(_)) { "c" } else { "c++" }).arg(&source);
            succeed(command);
        }
    }
}

/// Below C++20 the header causes one error, which says that C++20 is needed.
#[test]
fn the_cpp_header_refuses_older_standards_with_one_error() {
    let source = scratch().join("old_standard.cpp");
    std::fs::write(&source, "#include <ringmsg.hpp>\nint unused_;\n").unwrap();
    let mut command = compiler(Language::Cpp("c++17"));
    let output = command.arg("-fsyntax-only").arg(&source).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(errors.matches("error: ").count(), 1, "one error and no more:\n{errors}");
    assert!(errors.contains("needs C++20"), "{errors}");
}

#[test]
fn both_headers_end_with_a_newline() {
    for header in ["ringmsg.h", "ringmsg.hpp"] {
        let text = std::fs::read_to_string(root().join("include").join(header)).unwrap();
        assert!(text.ends_with('\n'), "{header}");
    }
}

#[test]
fn every_function_documents_purpose_threads_and_result() {
    for block in GENERATED.split("\n\n").filter(|block| block.contains("\nint ringmsg_")) {
        let name = block.split("\nint ").nth(1).unwrap().split('(').next().unwrap();
        assert!(block.contains(&format!("* {name}: ")), "{name}: no purpose sentence");
        assert!(block.contains("Threads:"), "{name}: no word on threads");
        assert!(block.contains("Returns:"), "{name}: no word on what it returns");
    }
}
