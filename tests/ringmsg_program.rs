//! The program `ringmsg` (examples-c/ringmsg): what it prints as a table, as JSON and as a capture
//! file, what it finds wrong with a socket, and how it behaves on a terminal.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

#[path = "ringmsg_program/arguments.rs"]
mod arguments;
#[path = "ringmsg_program/capture.rs"]
mod capture;
mod toolchain;
use toolchain::{Language, compile, library_directory, note_skip, root, scratch};

/// The compiled program.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let sources = toolchain::sources(&root().join("examples-c/ringmsg"));
        let sources: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
        compile(Language::C("c11"), &sources, "ringmsg-program")
    })
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env("LD_LIBRARY_PATH", library_directory());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(arguments).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    (status.code().expect("it exits"), text(stdout), text(stderr))
}

/// `ringmsg listen` on a free port.
struct Listener {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    port: u16,
}

impl Listener {
    fn new(arguments: &[&str]) -> Listener {
        let mut all = vec!["listen"];
        all.extend(arguments);
        Listener::start(command(&all))
    }

    fn start(mut command: Command) -> Listener {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let port = line.split("at port ").nth(1).and_then(|rest| rest.split(' ').next());
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
        Listener { child, stderr, port }
    }

    /// Waits for its end. Returns what it printed, and the summary.
    fn end(mut self) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {stdout}{stderr}");
        (stdout, stderr)
    }
}

fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value outlives the call, and its size is given.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A socket that sends with this traffic class and hop limit.
fn sender(class: i32, hops: i32) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    set(&socket, libc::IPPROTO_IP, libc::IP_TOS, class);
    set(&socket, libc::IPPROTO_IP, libc::IP_TTL, hops);
    socket
}

#[test]
fn support_says_which_engine_and_why() {
    let (status, stdout, _) = run(&["support"]);
    assert_eq!(status, 0);
    let has_io_uring = stdout.contains("engine: AUTO takes io_uring");
    let reason = if has_io_uring { "mode: AUTO takes " } else { "why not io_uring: " };
    for line in ["engine: AUTO takes ", reason, "setup flags: "] {
        assert!(stdout.lines().any(|said| said.starts_with(line)), "{line} in {stdout}");
    }
}

/// A multicast address: the socket joins the group, on the device that follows. Receivers of one
/// group share the port.
#[test]
fn listen_joins_a_multicast_group() {
    let first = Listener::new(&["-j", "-n", "1", "239.255.7.9%lo", "0"]);
    let second = Listener::new(&["-j", "-n", "1", "239.255.7.9%lo", &first.port.to_string()]);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    set(&sender, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, i32::from_ne_bytes([127, 0, 0, 1]));
    sender.send_to(b"to all", ("239.255.7.9", first.port)).unwrap();
    for listener in [first, second] {
        let (stdout, stderr) = listener.end();
        assert!(stdout.contains(r#""destination":"239.255.7.9""#), "{stdout}{stderr}");
        assert!(stderr.contains("1 datagram, 6 bytes;"), "{stderr}");
    }
}

#[test]
fn listen_prints_a_table() {
    let listener = Listener::new(&["-n", "2", "0"]);
    let sender = sender(0x2a, 9); // DSCP 10, ECN 2
    for payload in ["hello", "a\x1b[31mb"] {
        sender.send_to(payload.as_bytes(), ("127.0.0.1", listener.port)).unwrap();
    }
    let (stdout, stderr) = listener.end();
    let row: Vec<&str> = stdout.lines().nth(1).expect("a row").split_whitespace().collect();
    let source = sender.local_addr().unwrap().to_string();
    assert_eq!(row[1..], [&source, "127.0.0.1", "lo", "10", "2", "9", "5", "-", "hello"], "{stdout}");
    // Neither colours, where the output is no terminal, nor what a sender might send as such.
    assert!(!stdout.contains('\x1b'), "{stdout:?}");
    assert!(stderr.contains("2 datagrams, 12 bytes; the kernel dropped 0; truncated 0"), "{stderr}");
}

#[test]
fn listen_prints_json_lines_on_either_engine() {
    for engine in ["auto", "recvmmsg"] {
        let listener = Listener::new(&["-j", "-e", engine, "-n", "3", "127.0.0.1", "0"]);
        let sender = sender(1, 7);
        set(&sender, 17, 103, 4); // UDP_SEGMENT
        sender.send_to(b"aaaabbbbcc", ("127.0.0.1", listener.port)).unwrap();
        let port = listener.port;
        let (stdout, _) = listener.end();
        let rows: Vec<serde_json::Value> =
            stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let payloads: Vec<&str> = rows.iter().map(|row| row["payload"].as_str().unwrap()).collect();
        assert_eq!(payloads, ["61616161", "62626262", "6363"], "{engine}");
        assert_eq!(rows[0]["source"], "127.0.0.1");
        assert_eq!(rows[0]["source_port"], sender.local_addr().unwrap().port());
        assert_eq!(
            (&rows[0]["destination"], &rows[0]["destination_port"]),
            (&"127.0.0.1".into(), &port.into())
        );
        assert_eq!((&rows[0]["ecn"], &rows[0]["hop_limit"]), (&1.into(), &7.into()));
        assert_eq!((&rows[0]["device"], &rows[0]["length"]), (&"lo".into(), &4.into()));
        let manual = std::fs::read_to_string(root().join("docs/man/ringmsg.1")).unwrap();
        for member in rows[0].as_object().unwrap().keys() {
            let described = manual.lines().any(|line| {
                line.strip_prefix(".I") == Some(&format!(" {member}"))
                    || line.strip_prefix(".IR") == Some(&format!(" {member} ,"))
            });
            assert!(described, "ringmsg(1) does not describe {member}");
        }
        if rows[0]["segments"] == 3 {
            assert_eq!((&rows[2]["segment"], &rows[2]["segment_size"]), (&2.into(), &4.into()));
        } else {
            note_skip("ringmsg_program_trains", "this kernel's loopback cuts trains");
        }
    }
}

#[test]
fn doctor_finds_no_socket() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (status, stdout, _) = run(&["doctor", &free.to_string()]);
    assert_eq!(status, 1, "{stdout}");
    assert!(stdout.contains("no UDP socket of this network namespace is bound to this port"), "{stdout}");
}

/// The row of `stdout` that begins with this word and name.
fn finding<'a>(stdout: &'a str, name: &str) -> &'a str {
    let row = stdout.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
    row.unwrap_or_else(|| panic!("nothing about {name} in:\n{stdout}")).trim()
}

#[test]
fn doctor_finds_drops_a_full_queue_a_small_buffer_and_who_else_is_bound() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let port = at.port().to_string();
    let (status, healthy, _) = run(&["doctor", &port]);
    assert_eq!(status, 0, "{healthy}");
    assert!(finding(&healthy, "drops").starts_with("ok"), "{healthy}");
    assert!(healthy.contains(&format!("process {} ", std::process::id())), "{healthy}");

    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 4096);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..200 {
        let _ = other.send_to(&[0; 500], at);
    }
    let (status, ill, _) = run(&["doctor", &port]);
    assert_eq!(status, 1, "{ill}");
    assert!(finding(&ill, "drops").starts_with("BAD"), "{ill}");
    if ill.contains("cannot be read") {
        return note_skip("ringmsg_program_doctor", "pidfd_getfd(2) is not permitted");
    }
    assert!(finding(&ill, "queue").starts_with("BAD"), "{ill}");
    assert!(finding(&ill, "buffer").starts_with("note"), "{ill}");
    assert!(finding(&ill, "UDP_GRO").ends_with("one datagram at a time"), "{ill}");
    assert!(finding(&ill, "sharing").starts_with("ok"), "{ill}");

    set(&socket, libc::IPPROTO_UDP, 104, 1); // UDP_GRO
    let (_, grouped, _) = run(&["doctor", &port]);
    assert!(finding(&grouped, "UDP_GRO").starts_with("ok"), "{grouped}");
}

/// The owner of a process chooses its name. doctor, which root runs, prints no escape sequences.
#[test]
fn doctor_does_not_print_what_a_terminal_would_obey() {
    let sleeper = scratch().join("\x1b[31mred");
    let _ = std::fs::remove_file(&sleeper);
    std::os::unix::fs::symlink(program(), &sleeper).unwrap();
    let mut command = Command::new(&sleeper);
    command.args(["listen", "127.0.0.1", "0"]).env("LD_LIBRARY_PATH", library_directory());
    let mut listener = Listener::start(command);
    let (_, stdout, _) = run(&["doctor", &listener.port.to_string()]);
    listener.child.kill().unwrap();
    listener.child.wait().unwrap();
    assert!(stdout.contains("(?[31mred)"), "{stdout:?}");
    assert!(!stdout.contains('\x1b'), "{stdout:?}");
}

/// A terminal: its own end, and the one that a program gets.
fn terminal() -> (std::fs::File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both places are valid, and null asks for defaults.
    let result = unsafe {
        libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: openpty made both descriptors, and nothing else owns them.
    unsafe { (std::fs::File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// On a terminal the heading is bold, NO_COLOR is respected unless it is empty, and Ctrl-C ends it
/// with the summary.
#[test]
fn on_a_terminal_it_has_colours_and_ends_with_control_c() {
    for (no_color, coloured) in [(None, true), (Some("1"), false), (Some(""), true)] {
        let (mut ours, theirs) = terminal();
        let mut command = command(&["listen", "127.0.0.1", "0"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let copy = || Stdio::from(theirs.try_clone().unwrap());
        command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: both calls are async-signal-safe. The terminal becomes that of the new session.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        drop(command);
        drop(theirs);
        let said = read_until(&mut ours, "payload");
        assert_eq!(said.contains("\x1b[1m"), coloured, "NO_COLOR {no_color:?}: {said:?}");
        std::io::Write::write_all(&mut ours, b"\x03").unwrap();
        let said = read_until(&mut ours, "truncated 0");
        assert!(said.contains("0 datagrams, 0 bytes"), "{said:?}");
        assert!(child.wait().unwrap().success());
    }
}

/// Reads from a terminal until `wanted` has arrived.
fn read_until(terminal: &mut std::fs::File, wanted: &str) -> String {
    let mut said = String::new();
    let mut bytes = [0; 512];
    while !said.contains(wanted) {
        let mut ready = libc::pollfd { fd: terminal.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        let polled = unsafe { libc::poll(&mut ready, 1, Duration::from_secs(60).as_millis() as i32) };
        assert_eq!(polled, 1, "it does not print {wanted:?}: {said:?}");
        let read = terminal.read(&mut bytes).expect("the terminal is open");
        said += &String::from_utf8_lossy(&bytes[..read]);
    }
    said
}
