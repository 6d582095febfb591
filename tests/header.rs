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
    let standards = [
        Language::C("c99"),
        Language::C("c11"),
        Language::C("c17"),
        Language::C("c2x"),
        Language::Cpp("c++17"),
        Language::Cpp("c++20"),
    ];
    for standard in standards {
        let mut command = compiler(standard);
        command.arg("-fsyntax-only").arg(&source);
        succeed(command);
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
