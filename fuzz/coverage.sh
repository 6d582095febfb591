#!/usr/bin/env bash
# Measures which lines of src the inputs in fuzz/corpus reach, and rewrites the table in
# docs/reliability.md: lines by module, reached by any of the fuzzers.
#   fuzz/coverage.sh
# Needs llvm-profdata and llvm-cov of rustc's LLVM (22 for Rust 1.95): apt-get install llvm-22, or
# rustup component add llvm-tools.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tool() { # name
    local of_rustup
    of_rustup=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/$1
    for candidate in "$of_rustup" "$1-$version"; do
        command -v "$candidate" && return
    done
    echo "fuzz-coverage: missing: $1 of LLVM $version; apt-get install llvm-$version" >&2
    return 1
}
profdata=$(tool llvm-profdata) cov=$(tool llvm-cov)
work=$(realpath -m target/coverage)
fuzzers="record control calls send"

# Without the sanitizer: it costs time and adds nothing to the coverage.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C instrument-coverage --cfg fuzzing" LLVM_PROFILE_FILE="$work/build.profraw" \
    cargo build --locked --manifest-path fuzz/Cargo.toml --target-dir "$work"
rm -f "$work"/run-*.profraw
objects=()
for fuzzer in $fuzzers; do
    objects+=(-object "$work/debug/$fuzzer")
    find "fuzz/corpus/$fuzzer" -type f -print0 |
        LLVM_PROFILE_FILE="$work/run-$fuzzer-%p.profraw" xargs -0 "$work/debug/$fuzzer" >"$work/$fuzzer.log" 2>&1
done
"$profdata" merge -sparse "$work"/run-*.profraw -o "$work/merged.profdata"
"$cov" export -format=text -summary-only -instr-profile "$work/merged.profdata" "${objects[@]}" >"$work/summary.json"

# A module is a file of src with the folder of its name, or a folder.
python3 - "$work/summary.json" docs/reliability.md <<'PYTHON'
import collections, json, os, re, sys

summary, document = sys.argv[1:]
modules = collections.defaultdict(lambda: [0, 0])
for file in json.load(open(summary))["data"][0]["files"]:
    path = os.path.relpath(file["filename"])
    if path.startswith("src/") and not path.endswith("tests.rs"):
        lines = file["summary"]["lines"]
        for name in (re.split(r"[/.]", path)[1], "all"):
            modules[name][0] += lines["covered"]
            modules[name][1] += lines["count"]
rows = sorted((name for name in modules if name != "all")) + ["all"]
table = "| module | lines | reached | |\n|---|---|---|---|\n" + "".join(
    f"| `{name}` | {count} | {covered} | {100 * covered / count:.0f} % |\n"
    for name in rows for covered, count in [modules[name]] if count
)
text = open(document).read()
changed = re.sub(r"(<!-- fuzz-coverage: begin[^\n]*\n).*?(<!-- fuzz-coverage: end)", lambda m: m[1] + table + m[2], text, flags=re.S)
if changed == text and table not in text:
    sys.exit(f"fuzz-coverage: {document} has no markers")
open(document, "w").write(changed)
print(table)
PYTHON
