//! Gives the shared library its soname, and generates the C header into OUT_DIR. A test compares
//! the committed include/ringmsg.h with it, and `make header` replaces it.

use std::path::{Path, PathBuf};

/// The sources of the header's parts, in their order in the header.
const SOURCES: &[&str] = &[
    "src/config.rs",
    "src/record.rs",
    "src/request.rs",
    "src/stats.rs",
    "src/socket_steer.rs",
    "src/ring.rs",
    "src/pool.rs",
    "src/sender/path.rs",
    "src/sender/message.rs",
    "src/sender/config.rs",
    "src/sender/submit.rs",
    "src/sender/handle.rs",
    "src/capi/support.rs",
    "src/capi/ring.rs",
    "src/capi/socket.rs",
    "src/capi/pool.rs",
    "src/capi/submit.rs",
    "src/capi/reap.rs",
    "src/capi/control.rs",
    "src/capi/send.rs",
];

/// The functions above which the header has a banner, and its title.
const GROUPS: &[(&str, &str)] = &[
    ("ringmsg_version", "Versions, errors, and what this machine offers"),
    ("ringmsg_ring_config_init", "Rings"),
    ("ringmsg_socket_enable", "Sockets and pools"),
    ("ringmsg_recvmsg", "Submitting"),
    ("ringmsg_reap", "Reaping"),
    ("ringmsg_control_next", "Control messages"),
    ("ringmsg_path_reply", "Sending"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-changed=src");
    // A thread that has owned a ring calls a destructor in the library when it ends (sys::life),
    // also after dlclose(3), which therefore leaves the library loaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // cargo-c sets a soname of its own.
    if std::env::var_os("CARGO_FEATURE_CAPI").is_none() {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libringmsg.so.0");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("ringmsg.h"), header()).expect("OUT_DIR is writable");
}

fn header() -> String {
    let mut config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml is valid");
    let version = std::env::var("CARGO_PKG_VERSION").expect("cargo sets the version");
    config.after_includes = config.after_includes.map(|text| text.replace("@VERSION@", &version));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(Path::new(source));
    }
    let mut bytes = Vec::new();
    builder.generate().expect("src/ makes a header").write(&mut bytes);
    polish(String::from_utf8(bytes).expect("a header is text"))
}

/// Adds the banners, and removes sections that are for Rust readers only.
fn polish(text: String) -> String {
    let mut blocks: Vec<String> = text
        .split("\n\n")
        .map(|block| {
            let plain = |line: &str| match line.trim_start().starts_with('*') {
                true => line.replace("**", ""),
                // The kind of comment that ISO C90 has not got.
                false if line.starts_with(['#', '}']) => {
                    line.split(" // ").next().unwrap_or(line).trim_end().to_owned()
                }
                false => line.replace("/**", "/*"),
            };
            let block = block.lines().map(plain).collect::<Vec<_>>().join("\n");
            match block.split_once("\n *\n * # Safety") {
                Some((contract, rest)) => {
                    let code = rest.split_once("*/").map_or("", |(_, code)| code);
                    format!("{contract}\n */{code}")
                }
                None => block,
            }
        })
        .collect();
    for (function, title) in GROUPS {
        let call = format!("{function}(");
        let place = blocks.iter_mut().find(|block| {
            block.lines().any(|line| !line.starts_with([' ', '/', '#']) && line.contains(&call))
        });
        let block = place.unwrap_or_else(|| panic!("build.rs: no function {function} in the header"));
        *block = format!("/* {:-<88} */\n/* {title:88} */\n/* {:-<88} */\n\n{block}", "", "");
    }
    blocks.join("\n\n").trim_end().to_owned() + "\n"
}
