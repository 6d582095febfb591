//! Compiles the programs of examples-c against the shared and the static library,
//! runs each, and checks its output. They run one at a time, because some measure time.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

mod sandboxing;
mod toolchain;
use toolchain::{Language, compile, compile_static, library_directory, root, scratch};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const NAMES: &[&str] = &[
    "dns_responder",
    "modes",
    "single_shot",
    "timestamps",
    "udp_echo",
    "udp_receive",
    "udp_relay",
    "udp_send",
    "udp_sharded",
    "unix_fds",
];

const ENGINES: [&[&str]; 2] = [&["io_uring"], &["recvmmsg"]];

/// The folders of the compiled programs, by the library they are linked with.
struct Programs {
    shared: PathBuf,
    r#static: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// How to run an example.
#[derive(Clone, Copy)]
struct Variant<'a> {
    folder: &'a Path,
    /// Under a filter that allows the system calls that docs/security.md lists for these engines,
    /// and those of the program itself.
    engines: Option<&'a [&'a str]>,
}

impl Programs {
    fn both(&self) -> [&Path; 2] {
        [&self.shared, &self.r#static]
    }

    fn shared(&self) -> Variant<'_> {
        Variant { folder: &self.shared, engines: None }
    }

    /// With each library, and with the shared one under the filter of each engine.
    fn variants(&self) -> impl Iterator<Item = Variant<'_>> {
        let unfiltered = self.both().map(|folder| Variant { folder, engines: None });
        let filtered = ENGINES.map(|engines| Variant { engines: Some(engines), ..self.shared() });
        unfiltered.into_iter().chain(filtered)
    }
}

/// Compiles every example, once.
fn programs() -> Programs {
    static COMPILED: OnceLock<()> = OnceLock::new();
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    COMPILED.get_or_init(|| {
        for folder in ["examples-shared", "examples-static"] {
            std::fs::create_dir_all(scratch().join(folder)).unwrap();
        }
        for name in NAMES {
            let source = root().join("examples-c").join(format!("{name}.c"));
            compile(Language::C("c11"), &[&source], &format!("examples-shared/{name}"));
            compile_static(Language::C("c11"), &[&source], &format!("examples-static/{name}"));
        }
        // The demo prints what `ringmsg support` says.
        let sources = toolchain::sources(&root().join("examples-c/ringmsg"));
        let sources: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
        compile(Language::C("c11"), &sources, "examples-shared/ringmsg");
        compile_static(Language::C("c11"), &sources, "examples-static/ringmsg");
    });
    let [shared, r#static] = ["examples-shared", "examples-static"].map(|folder| scratch().join(folder));
    Programs { shared, r#static, _alone: alone }
}

/// What the examples call themselves: the start and the end of a C program, its output, threads and
/// sockets.
const OF_THE_EXAMPLES: &str = "access arch_prctl bind brk clock_nanosleep clone3 close connect execve exit exit_group \
     fstat futex getpid getrusage getsockname getsockopt gettid kill lseek mmap mprotect munmap newfstatat openat pipe2 \
     pread64 prlimit64 read recvfrom recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity \
     sched_setaffinity sendmmsg sendmsg sendto set_robust_list set_tid_address setsockopt sigaltstack \
     socket socketpair sysinfo uname vfork wait4 write";

fn command(variant: Variant<'_>, name: &str) -> Command {
    let mut command = Command::new(variant.folder.join(name));
    command.env("LD_LIBRARY_PATH", library_directory());
    let end_if_it_hangs = || {
        // SAFETY: no pointers. The alarm outlives execve(2).
        unsafe { libc::alarm(120) };
        Ok(())
    };
    // SAFETY: one system call.
    unsafe { command.pre_exec(end_if_it_hangs) };
    if let Some(engines) = variant.engines {
        let documented = sandboxing::documented();
        let rows = engines.iter().chain(&["each ring", "support", "sockets", "now and then"]);
        let allowed = rows.flat_map(|&row| documented[row].iter().map(String::as_str));
        let allowed = allowed.chain(OF_THE_EXAMPLES.split_whitespace());
        let refused: &[&str] = match engines.contains(&"io_uring") {
            true => &[],
            false => &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        };
        sandboxing::filter(&mut command, &sandboxing::numbers(), allowed, refused);
    }
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs an example, which must succeed, and returns its output.
fn run(variant: Variant<'_>, name: &str, arguments: &[&str]) -> String {
    let output = command(variant, name).args(arguments).output().expect("the program starts");
    let filter = variant.engines;
    assert!(output.status.success(), "{name} {arguments:?} {filter:?}: {}\n{}", output.status, text(&output));
    text(&output)
}

/// A program in the background, which is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command) -> (Running, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    (Running(child), output)
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

#[test]
fn every_example_is_compiled_here() {
    let mut found: Vec<String> = std::fs::read_dir(root().join("examples-c"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}

#[test]
fn single_shot_fills_the_callers_msghdr() {
    let programs = programs();
    for variant in programs.variants() {
        let said = run(variant, "single_shot", &[]);
        for part in [
            "request       7, final",
            "10 bytes: kind 3, length 6, \"hello\"",
            "port of the sender",
            "level 0, type 8, 12 bytes",
            "to 127.0.0.1, hop limit 64",
            "MSG_TRUNC MSG_CTRUNC",
        ] {
            assert!(said.contains(part), "no {part:?} in\n{said}");
        }
    }
}

#[test]
fn unix_fds_takes_one_and_closes_the_other() {
    let programs = programs();
    for variant in programs.variants() {
        let said = run(variant, "unix_fds", &[]);
        for part in [
            "\"two ends of a pipe\"",
            "close-on-exec: yes",
            "closed 1 that was not taken",
            "the pipe      works",
            "end           result 0, final",
        ] {
            assert!(said.contains(part), "no {part:?} in\n{said}");
        }
    }
}

#[test]
fn modes_prints_a_row_for_each_mode() {
    let programs = programs();
    let with_filter = Variant { engines: Some(&["io_uring", "recvmmsg"]), ..programs.shared() };
    run(with_filter, "modes", &["20000", "10", "1"]);
    let said = run(programs.shared(), "modes", &["20000", "50", "1"]);
    for mode in [
        "recvfrom(2)",
        "plain",
        "COOP",
        "COOP, flag",
        "DEFER, linger 0",
        "DEFER, linger AUTO",
        "DEFER, spin",
        "SQPOLL",
    ] {
        let row = said.lines().find_map(|line| line.strip_prefix(&format!("{mode:18}")));
        let row = row.unwrap_or_else(|| panic!("no {mode} in\n{said}"));
        let numbers: Vec<f64> = row.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [per_wake_up, .., cpu_ns, p50_us, p99_us, lost] = numbers[..] else { panic!("{row}") };
        assert!(per_wake_up > 0.0 && cpu_ns > 0.0 && 0.0 < p50_us && p50_us <= p99_us, "{said}");
        assert!((0.0..=100.0).contains(&lost), "{said}");
    }
}

#[test]
fn the_demo_accounts_for_every_datagram() {
    let programs = programs();
    for folder in programs.both() {
        let mut demo = Command::new("sh");
        demo.arg(root().join("examples-c/demo.sh")).arg(folder);
        let output = demo.env("LD_LIBRARY_PATH", library_directory()).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("127.0.0.1 port") && said.contains("DEFER_TASKRUN"), "{said}");
        assert!(said.contains("SEGMENT 1/2") && said.contains("SEGMENT 9/9"), "{said}");
        assert!(said.contains("229959 datagrams in 1000"), "{said}");
        let verdicts = said.matches("is missing").count() + said.matches("skipped: ").count();
        assert!(verdicts >= 3, "{said}");
        assert!(!said.contains('\u{1b}'), "colours in a pipe: {said}");
    }
}

#[test]
fn udp_receive_and_udp_send_run_under_the_filters() {
    let programs = programs();
    for engines in ENGINES {
        let sender = programs.shared.join("udp_send");
        let variant = Variant { engines: Some(engines), ..programs.shared() };
        let arguments = ["-n", "0", "127.0.0.1", "0", sender.to_str().unwrap(), "-t", "200", "-p", "100"];
        run(variant, "udp_receive", &arguments);
    }
}

/// The demo's check can fail: it notices a train, or a datagram of a train, that is missing without
/// being counted as dropped.
#[test]
fn the_demo_notices_a_forged_loss() {
    let programs = programs();
    for forge in ["train", "datagram"] {
        let noticed = || {
            let sender = programs.shared.join("udp_send");
            let output = command(programs.shared(), "udp_receive")
                .args(["-n", "0", "127.0.0.1", "0"])
                .arg(sender)
                .args(["-t", "200", "-p", "100", "-f", forge])
                .output()
                .unwrap();
            output.status.code() == Some(1) && text(&output).contains("WRONG")
        };
        // The kernel may have dropped the very train whose datagram is left out.
        assert!((0..5).any(|_| noticed()), "{forge}");
    }
}

#[test]
fn a_sender_that_fails_fails_the_receiver() {
    let programs = programs();
    let mut receive = command(programs.shared(), "udp_receive");
    let output = receive.args(["127.0.0.1", "0", "/bin/false"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

/// Pins the calling thread to a processor.
fn pin(processor: usize) {
    // SAFETY: a cpu_set_t is plain bits, and it outlives the calls.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    // SAFETY: as above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|&processor| libc::CPU_ISSET(processor, &set)).collect()
    }
}

/// Sends the numbers 0 to `count` from a thread on `processor`, with a few in flight at a time, and
/// counts the answers to each.
fn numbers_come_back_once(processor: usize, address: &str, port: u16, count: u32) {
    pin(processor);
    let client = UdpSocket::bind((address, 0)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.connect((address, port)).unwrap();
    let mut answers = vec![0; count as usize];
    let mut answer = || {
        let mut number = [0; 5];
        assert_eq!(client.recv(&mut number).expect("an answer comes"), 4);
        answers[u32::from_ne_bytes(number[..4].try_into().unwrap()) as usize] += 1;
    };
    const IN_FLIGHT: u32 = 50;
    for number in 0..count {
        client.send(&number.to_ne_bytes()).unwrap();
        if number >= IN_FLIGHT {
            answer();
        }
    }
    (0..IN_FLIGHT).for_each(|_| answer());
    assert!(answers.iter().all(|&times| times == 1), "each number once: {answers:?}");
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(client.recv(&mut [0; 5]).is_err(), "one answer too many");
}

/// Every datagram is received by exactly one shard, that of the processor it was sent from, because
/// on loopback the sender's processor also receives the packet.
#[test]
fn udp_sharded_steers_by_processor() {
    let programs = programs();
    for engines in [None, Some(ENGINES[0]), Some(ENGINES[1])] {
        shards_by_processor(Variant { engines, ..programs.shared() });
    }
}

fn shards_by_processor(variant: Variant<'_>) {
    for address in ["127.0.0.1", "::1"] {
        if UdpSocket::bind((address, 0)).is_err() {
            continue; // no IPv6
        }
        let mut sharded = command(variant, "udp_sharded");
        sharded.args(["-e", address, "0"]);
        let (sharded, mut output) = start(sharded);
        let head = line(&mut output);
        let processors = processors();
        let port = head.strip_prefix("port ").and_then(|rest| rest.split(',').next()).unwrap();
        let port: u16 = port.parse().unwrap();
        assert!(head.trim_end().ends_with(&format!("{} shards", processors.len())), "{head}");

        // Each processor sends another number of datagrams, all at the same time.
        let sent = |processor: usize| 2000 + 100 * processor as u32;
        std::thread::scope(|scope| {
            for &processor in &processors {
                scope.spawn(move || numbers_come_back_once(processor, address, port, sent(processor)));
            }
        });
        // SAFETY: the process is our child and has not been waited for.
        unsafe { libc::kill(sharded.0.id() as i32, libc::SIGINT) };
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        let (_, totals) = said.rsplit_once("after").expect("a last table is printed");
        for (shard, row) in totals.lines().skip(1).enumerate() {
            let words: Vec<&str> = row.split_whitespace().collect();
            let ["shard", number, "processor", processor, datagrams, dropped, ..] = words[..] else {
                panic!("{said}")
            };
            assert_eq!(number, format!("{shard},"));
            let handled: u32 = processors
                .iter()
                .filter(|&&processor| processor % processors.len() == shard)
                .map(|&processor| sent(processor))
                .sum();
            assert_eq!(datagrams, handled.to_string(), "of shard {shard}, processor {processor}: {said}");
            assert_eq!(dropped, "0", "{said}");
        }
        assert_eq!(totals.lines().skip(1).count(), processors.len(), "{said}");
    }
}
