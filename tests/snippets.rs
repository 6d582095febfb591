//! Every piece of C, C++, Python and Go in README.md, CONTRIBUTING.md, docs/ and the manual pages
//! is compiled and run; those in the README of the Go package are compiled. A piece of C or C++
//! without a main() runs in tests/snippets/prelude.h. The three programs of README.md answer a
//! client, also after Ctrl-Z and fg.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

mod toolchain;
use toolchain::{Language, compile, compiler, library_directory, note_skip, root, scratch, succeed};

/// A fenced block, or an example of a manual page.
struct Snippet {
    place: String,
    language: String,
    code: String,
}

impl Snippet {
    fn name(&self) -> String {
        let kept = self.place.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        kept.collect()
    }
}

fn documents() -> Vec<PathBuf> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.sort();
    paths
}

/// The blocks that begin with three backticks and a language.
fn fenced(path: &Path) -> Vec<Snippet> {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    let (mut found, mut open): (Vec<Snippet>, Option<Snippet>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, open.take()) {
            (Some(_), Some(snippet)) => found.push(snippet),
            (Some(language), None) => {
                open = Some(Snippet {
                    place: format!("{name}:{}", number + 1),
                    language: language.to_owned(),
                    code: String::new(),
                });
            }
            (None, Some(mut snippet)) => {
                snippet.code += line;
                snippet.code.push('\n');
                open = Some(snippet);
            }
            (None, None) => {}
        }
    }
    found
}

/// The sources of the examples in the manual pages: tests/man.rs puts them there.
fn examples_of_pages() -> Vec<Snippet> {
    let folder = root().join("docs/man/examples");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| Snippet {
        place: path.strip_prefix(root()).unwrap().display().to_string(),
        language: "c".to_owned(),
        code: std::fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(read).collect()
}

fn snippets(language: &str) -> Vec<Snippet> {
    let fenced = documents().into_iter().flat_map(|path| fenced(&path));
    fenced.chain(examples_of_pages()).filter(|snippet| snippet.language == language).collect()
}

/// Runs a program that should end; a signal ends it if it does not.
fn run(place: &str, program: &Path) {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", library_directory());
    let Output { status, stdout, stderr } = limited(command).output().expect("the program starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{place}: {status}\n{stdout}{stderr}");
}

/// The command, ended by a signal after two minutes.
fn limited(mut command: Command) -> Command {
    let limit = || {
        // SAFETY: no pointers. The alarm outlives execve(2).
        unsafe { libc::alarm(120) };
        Ok(())
    };
    // SAFETY: one system call.
    unsafe { command.pre_exec(limit) };
    command
}

/// C and C++ alike: those with a main() are compiled and linked, the others run in the prelude.
fn compile_and_run(language: &str, extension: &str, standard: Language) -> usize {
    let prelude = root().join("tests/snippets/prelude.h");
    let found = snippets(language);
    for snippet in &found {
        let alone = snippet.code.contains("int main(");
        let text = match alone {
            true => format!("#line 1 \"{}\"\n{}", snippet.place, snippet.code),
            false => format!(
                "#include \"{}\"\nstatic int snippet(void)\n{{\n#line 1 \"{}\"\n{}\n    return 0;\n}}\n",
                prelude.display(),
                snippet.place,
                snippet.code
            ),
        };
        let name = snippet.name();
        let source = scratch().join(format!("{name}.{extension}"));
        std::fs::write(&source, text).unwrap();
        let program = if alone {
            compile(standard, &[&source], &name)
        } else {
            let program = scratch().join(&name);
            let mut command = compiler(standard);
            command.args(["-Wno-pedantic", "-Wno-unused"]).arg(&source).arg("-o").arg(&program);
            command.arg("-L").arg(library_directory()).args(["-lringmsg", "-lpthread"]);
            succeed(command);
            program
        };
        if !alone {
            run(&snippet.place, &program);
        }
    }
    found.len()
}

#[test]
fn every_piece_of_c_compiles_and_runs() {
    let count = compile_and_run("c", "c", Language::C("gnu11"));
    assert!(count >= 10, "only {count} pieces of C were found");
}

/// Code that is only indented would not be compiled.
#[test]
fn no_code_in_c_hides_outside_of_the_fenced_pieces() {
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut is_fenced = false;
        for (number, line) in text.lines().enumerate() {
            is_fenced ^= line.trim_start().starts_with("```");
            let is_code = line.starts_with("    ") && line.ends_with(';') && line.contains('(');
            assert!(is_fenced || !is_code, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

/// Pieces that use another library are compiled with its header, as an object.
#[test]
fn every_piece_for_an_event_loop_compiles() {
    const LOOPS: [(&str, Language, &str, &str); 3] = [
        ("c libuv", Language::C("gnu11"), "uv.h", "libuv1-dev"),
        ("c libevent", Language::C("gnu11"), "event2/event.h", "libevent-dev"),
        ("cpp asio", Language::Cpp("c++20"), "asio.hpp", "libasio-dev"),
    ];
    for (language, standard, header, package) in LOOPS {
        let found = snippets(language);
        assert!(!found.is_empty(), "no piece for {language}");
        let mut probe = compiler(standard);
        probe.args(["-fsyntax-only", "-include", header, "/dev/null"]);
        if !probe.output().expect("the compiler runs").status.success() {
            note_skip(
                &format!("snippets_{}", language.replace(' ', "_")),
                &format!("no {header}; `apt-get install {package}` provides it"),
            );
            continue;
        }
        for snippet in found {
            let source = scratch().join(format!("{}.source", snippet.name()));
            std::fs::write(&source, format!("#line 1 \"{}\"\n{}", snippet.place, snippet.code)).unwrap();
            let mut command = compiler(standard);
            command.args(["-Wno-pedantic", "-c"]).arg(&source);
            command.arg("-o").arg(scratch().join(format!("{}.o", snippet.name())));
            succeed(command);
        }
    }
}

#[test]
fn every_piece_of_cpp_compiles() {
    for snippet in snippets("cpp") {
        let source = scratch().join(format!("{}.cpp", snippet.name()));
        let text = match snippet.code.contains("int main(") {
            true => snippet.code.clone(),
            false => format!("#include <ringmsg.hpp>\nint main()\n{{\n{}\n}}\n", snippet.code),
        };
        std::fs::write(&source, text).unwrap();
        compile(Language::Cpp("c++20"), &[&source], &snippet.name());
    }
}

/// A program that serves until it is ended.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The whole group: `go run` starts the program as a child.
        // SAFETY: no pointers; the child leads a group of its own.
        unsafe { libc::kill(-(self.0.id() as libc::pid_t), libc::SIGKILL) };
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(command: Command) -> Server {
        let mut command = limited(command);
        command.process_group(0).stdout(Stdio::null());
        Server(command.spawn().expect("the program starts"))
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: no pointers; the group lives until the server is dropped.
        assert_eq!(unsafe { libc::kill(-(self.0.id() as libc::pid_t), signal) }, 0);
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The program answers, and it still does after it was stopped and continued.
fn answers(server: &mut Server, port: u16, seconds: u64) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    for round in 0..2 {
        let mut buffer = [0; 64];
        // A datagram that comes before the program has bound its socket is lost, so it is repeated.
        let answered = (0..seconds * 10).any(|turn| {
            if let Some(status) = server.0.try_wait().unwrap() {
                panic!("the program ended: {status}");
            }
            let question = format!("question {turn}");
            let _ = client.send(question.as_bytes());
            match client.recv(&mut buffer) {
                Ok(length) => buffer[..length].starts_with(b"question "),
                Err(error) => {
                    // Nobody is bound there yet, and the error comes at once.
                    if error.kind() == std::io::ErrorKind::ConnectionRefused {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    false
                }
            }
        });
        assert!(answered, "round {round}: no answer in {seconds} s");
        for signal in [libc::SIGSTOP, libc::SIGCONT] {
            server.signal(signal);
            std::thread::sleep(Duration::from_millis(50));
        }
        while client.recv(&mut buffer).is_ok() {}
    }
}

fn of_the_readme(language: &str) -> Snippet {
    let found = fenced(&root().join("README.md")).into_iter().filter(|snippet| snippet.language == language);
    let found: Vec<Snippet> = found.collect();
    assert_eq!(found.len(), 1, "README.md has one program in {language}");
    found.into_iter().next().unwrap()
}

#[test]
fn the_readmes_program_in_c_answers() {
    let snippet = of_the_readme("c");
    assert!(snippet.code.lines().count() <= 60, "a quickstart is short");
    let source = scratch().join("readme.c");
    std::fs::write(&source, &snippet.code).unwrap();
    let port = free_port();
    let mut command = Command::new(compile(Language::C("c11"), &[&source], "readme"));
    command.arg(port.to_string()).env("LD_LIBRARY_PATH", library_directory());
    answers(&mut Server::start(command), port, 30);
}

#[test]
fn the_readmes_program_in_python_answers() {
    let port = free_port();
    let source = scratch().join("readme.py");
    std::fs::write(&source, of_the_readme("python").code.replace("9000", &port.to_string())).unwrap();
    if Command::new("python3").arg("--version").output().is_err() {
        return note_skip("readme_python", "no python3; `apt-get install python3` provides it");
    }
    let mut command = Command::new("python3");
    command.arg(source).env("PYTHONPATH", root().join("bindings/python/src"));
    command.env("RINGMSG_LIBRARY", library_directory().join("libringmsg.so"));
    answers(&mut Server::start(command), port, 30);
}

/// A Go module that takes the package from this checkout, as a user's does, and the command that
/// builds it.
fn go_module(folder: &Path) -> Command {
    std::fs::create_dir_all(folder).unwrap();
    let package = root().join("bindings/go");
    let go_mod = std::fs::read_to_string(package.join("go.mod")).unwrap();
    let requires = go_mod.split_once("\nrequire").map_or("", |(_, rest)| rest);
    let name = "github.com/ringmsg/ringmsg/bindings/go";
    let text = format!(
        "module echo\n\ngo 1.24.0\n\nrequire {name} v0.0.0\n\nreplace {name} => {}\n\nrequire{requires}",
        package.display()
    );
    std::fs::write(folder.join("go.mod"), text).unwrap();
    std::fs::copy(package.join("go.sum"), folder.join("go.sum")).unwrap();
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o", "echo"]).current_dir(folder);
    build.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod");
    build.env("CGO_CFLAGS", format!("-I{}", root().join("include").display()));
    build.env("CGO_LDFLAGS", format!("-L{}", library_directory().display()));
    build.env("PKG_CONFIG_PATH", pkg_config());
    build
}

#[test]
fn the_readmes_program_in_go_answers() {
    let port = free_port();
    let folder = scratch().join("readme-go");
    let mut build = go_module(&folder);
    let program = of_the_readme("go").code.replace("9000", &port.to_string());
    std::fs::write(folder.join("main.go"), program).unwrap();
    let Ok(output) = build.output() else {
        return note_skip("readme_go", "no go in the path; https://go.dev/dl provides it");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut command = Command::new(folder.join("echo"));
    command.env("LD_LIBRARY_PATH", library_directory());
    answers(&mut Server::start(command), port, 30);
}

/// What the pieces in the package's README assume.
const GO_PRELUDE: &str = "package main

import (
	\"context\"
	\"log\"
	\"net/netip\"

	ringmsg \"github.com/ringmsg/ringmsg/bindings/go\"
)

var (
	ctx     = context.Background()
	conn    *ringmsg.Conn
	batch   *ringmsg.Batch
	answers [][]byte
	p       []byte
	client  netip.AddrPort
)

func answer(question []byte) []byte { return question }
func handle(values ...any)          {}
func main()                         {}
";

/// Each piece becomes a function. What it only assigns in its last line counts as used.
#[test]
fn every_piece_of_the_go_packages_readme_compiles() {
    let pieces = fenced(&root().join("bindings/go/README.md"));
    let pieces: Vec<Snippet> = pieces.into_iter().filter(|snippet| snippet.language == "go").collect();
    assert!(pieces.len() >= 4, "{} pieces", pieces.len());
    let mut program = GO_PRELUDE.to_owned();
    for (number, piece) in pieces.iter().enumerate() {
        let assigned = piece.code.lines().last().and_then(|line| line.split_once(" := "));
        let names = assigned.map_or("", |(names, _)| names.trim()).split(", ");
        let used = names.filter(|name| !["", "_"].contains(name)).map(|name| format!("\t_ = {name}\n"));
        let used: String = used.collect();
        program += &format!("\nfunc piece{number}() error {{\n{}{used}\treturn nil\n}}\n", piece.code);
    }
    let folder = scratch().join("readme-of-the-go-package");
    let mut build = go_module(&folder);
    std::fs::write(folder.join("main.go"), program).unwrap();
    let Ok(output) = build.output() else {
        return note_skip("readme_go", "no go in the path; https://go.dev/dl provides it");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with a ringmsg.pc for the library that cargo built.
fn pkg_config() -> PathBuf {
    let folder = scratch().join("pkgconfig");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "Name: ringmsg\nDescription: receive messages\nVersion: {}\nLibs: -L{} -lringmsg\nCflags: -I{}\n",
        env!("CARGO_PKG_VERSION"),
        library_directory().display(),
        root().join("include").display()
    );
    std::fs::write(folder.join("ringmsg.pc"), text).unwrap();
    folder
}
