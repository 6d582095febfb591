//! The examples that answer: compiled, run, and asked. Each serves in a process of its own, until a
//! signal ends it; without a filter of system calls, and under one of what docs/security.md lists
//! for each engine.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

mod sandboxing;
mod toolchain;
use toolchain::{Language, compile, library_directory, note_skip, root};

/// A compiled example. Each is compiled once, although several tests may run it.
fn example(file: &str) -> PathBuf {
    static COMPILED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.entry(file.to_owned()).or_insert_with(|| compile_example(file)).clone()
}

fn compile_example(file: &str) -> PathBuf {
    let language = if file.ends_with(".cpp") { Language::Cpp("c++20") } else { Language::C("c11") };
    let name = format!("answering_{}", file.replace('.', "_"));
    compile(language, &[&root().join("examples-c").join(file)], &name)
}

/// The engines whose system calls are allowed. None: no filter.
type Filter = Option<&'static [&'static str]>;

const FILTERS: [Filter; 3] = [None, Some(sandboxing::ENGINES[0]), Some(sandboxing::ENGINES[1])];

/// Runs `test` with each filter, at the same time.
fn with_each_filter(test: impl Fn(Filter) + Sync) {
    let test = &test;
    std::thread::scope(|scope| FILTERS.map(|filter| drop(scope.spawn(move || test(filter)))));
}

/// A server; ends with the test.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start(file: &str, filter: Filter, arguments: &[&str]) -> Self {
        let mut command = Command::new(example(file));
        command.args(arguments).env("LD_LIBRARY_PATH", library_directory()).stdout(Stdio::piped());
        if let Some(engines) = filter {
            sandboxing::filter_example(&mut command, engines);
        }
        let mut child = command.spawn().expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").unwrap_or_else(|| panic!("{file} {filter:?}: {line}"));
        let port = port.parse().unwrap();
        Self { child, output, port }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// What it says in the end.
    fn end(mut self) -> String {
        self.signal(libc::SIGTERM);
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client_of(address: &str, port: u16) -> UdpSocket {
    let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let client = UdpSocket::bind(any).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.connect((address.parse::<IpAddr>().unwrap(), port)).unwrap();
    client
}

fn next(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let length = client.recv(&mut buffer).expect("an answer comes");
    buffer.truncate(length);
    buffer
}

/// Sends a train: the kernel cuts it into pieces of this size.
fn send_train(client: &UdpSocket, train: &[u8], size: i32) {
    for size in [size, 0] {
        // SAFETY: the option's value is an int that lives for the call.
        let set = unsafe {
            let value = (&raw const size).cast();
            libc::setsockopt(client.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, 4)
        };
        assert_eq!(set, 0);
        if size != 0 {
            client.send(train).unwrap();
        }
    }
}

/// Whether this machine has IPv6.
fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Both echoes: every datagram comes back from the address it was sent to (the client is connected
/// there), in order, trains included; stopped and continued in between.
#[test]
fn the_echoes_answer_from_the_address_that_was_asked() {
    with_each_filter(echoes_answer);
}

fn echoes_answer(filter: Filter) {
    for file in ["udp_echo.c", "udp_echo.cpp"] {
        let mut addresses = vec!["127.0.0.1", "127.0.0.9"];
        addresses.extend(has_ipv6().then_some("::1"));
        let server = Server::start(file, filter, &[if has_ipv6() { "::" } else { "0.0.0.0" }, "0"]);
        let clients: Vec<UdpSocket> =
            addresses.iter().flat_map(|address| (0..8).map(|_| client_of(address, server.port))).collect();
        let train: Vec<u8> = (0..1000).map(|i| (i / 10) as u8).collect();
        for round in 0..20u8 {
            if round == 10 {
                server.signal(libc::SIGSTOP);
                server.signal(libc::SIGCONT);
            }
            for (i, client) in clients.iter().enumerate() {
                client.send(&[round, i as u8]).unwrap();
                send_train(client, &train, 300);
                client.send(&[]).unwrap();
            }
            for (i, client) in clients.iter().enumerate() {
                assert_eq!(next(client), [round, i as u8], "{file}");
                train.chunks(300).for_each(|piece| assert_eq!(next(client), piece, "{file}"));
                assert_eq!(next(client), [], "{file}");
            }
        }
        let said = server.end();
        let total = clients.len() * 20 * 6;
        assert!(said.starts_with(&format!("{total} datagrams")) && said.contains(" 0 records not"), "{said}");
    }
}

/// The relay: the server sees each client as one peer of its own, and answers reach the client that
/// they are for, from the address that it asked, in order. Idle flows go.
#[test]
fn the_relay_keeps_clients_apart() {
    with_each_filter(relay_keeps_clients_apart);
}

fn relay_keeps_clients_apart(filter: Filter) {
    const CLIENTS: usize = 40;
    let origin = UdpSocket::bind("127.0.0.1:0").unwrap();
    origin.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = origin.local_addr().unwrap().port().to_string();
    let server = Server::start("udp_relay.c", filter, &["0.0.0.0", "0", "127.0.0.1", &port, "1"]);
    let addresses = ["127.0.0.1", "127.0.0.2"];
    let clients: Vec<UdpSocket> =
        (0..CLIENTS).map(|i| client_of(addresses[i % addresses.len()], server.port)).collect();
    let mut clients_by_peer: HashMap<SocketAddr, u8> = HashMap::new();
    for round in 0..5u8 {
        for (i, client) in clients.iter().enumerate() {
            client.send(&[i as u8, round]).unwrap();
            send_train(client, &[i as u8; 1000], 400);
        }
        let mut buffer = [0; 2000];
        for _ in 0..CLIENTS * 4 {
            let (length, peer) = origin.recv_from(&mut buffer).expect("a datagram comes");
            assert_eq!(*clients_by_peer.entry(peer).or_insert(buffer[0]), buffer[0]);
            origin.send_to(&buffer[..length], peer).unwrap();
        }
        assert_eq!(clients_by_peer.len(), CLIENTS);
        for (i, client) in clients.iter().enumerate() {
            assert_eq!(next(client), [i as u8, round]);
            [400, 400, 200].iter().for_each(|&length| assert_eq!(next(client), vec![i as u8; length]));
        }
    }
    // Their places are used again after a second without traffic.
    let mut peers = clients_by_peer;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        clients[0].send(b"still here?").unwrap();
        let (_, peer) = origin.recv_from(&mut [0; 100]).unwrap();
        peers.insert(peer, 0);
        if peers.len() > CLIENTS {
            break;
        }
        std::thread::sleep(Duration::from_millis(2500));
    }
    assert_eq!(peers.len(), CLIENTS + 1, "the flow was not closed");
    let said = server.end();
    assert!(said.contains("in 1 flows at last; 0 messages not sent"), "{said}");
}

/// A query with one question; with EDNS if there is a size.
fn query(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut query = [id, 0x0100, 1, 0, 0, edns.is_some().into()].map(u16::to_be_bytes).concat();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend([kind, 1].map(u16::to_be_bytes).concat());
    if let Some(size) = edns {
        query.push(0);
        query.extend([41, size, 0, 0, 0].map(u16::to_be_bytes).concat());
    }
    query
}

/// The counts of questions, answers, authorities and additional records.
fn counts(response: &[u8]) -> [u16; 4] {
    std::array::from_fn(|i| u16::from_be_bytes([response[4 + 2 * i], response[5 + 2 * i]]))
}

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const TC: u8 = 0x02;

#[test]
fn the_dns_responder_answers_queries_and_nothing_else() {
    with_each_filter(dns_responder_answers);
}

fn dns_responder_answers(filter: Filter) {
    let server = Server::start("dns_responder.c", filter, &[if has_ipv6() { "::" } else { "0.0.0.0" }, "0"]);
    let client = client_of("127.0.0.7", server.port);
    let ask = |query: &[u8]| {
        client.send(query).unwrap();
        let response = next(&client);
        assert_eq!(response[..2], query[..2], "the id");
        assert_eq!(response[2] & 0x81, 0x81, "a response, with the query's RD");
        response
    };
    let plain = query(1, "www.EXAMPLE.test", A, None);
    let response = ask(&plain);
    assert_eq!((counts(&response), response[3]), ([1, 2, 0, 0], 0));
    assert_eq!(&response[12..plain.len()], &plain[12..], "the question as it was asked");
    assert_eq!(&response[plain.len()..][..16], [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 2]);
    let response = ask(&query(2, "example.test", AAAA, Some(4096)));
    assert_eq!(counts(&response), [1, 1, 0, 1]);
    assert!(response.windows(16).any(|w| w == [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    assert!(ask(&query(3, "example.test", TXT, None)).windows(7).any(|w| w == b"ringmsg"));

    // 644 bytes of answers: not without EDNS, and not into less.
    for (edns, fits) in [(None, false), (Some(600), false), (Some(100), false), (Some(1232), true)] {
        let response = ask(&query(4, "long.example.test", TXT, edns));
        assert_eq!(response[2] & TC == 0, fits);
        assert_eq!(counts(&response), [1, if fits { 3 } else { 0 }, 0, edns.is_some().into()]);
        assert!(response.len() <= usize::from(edns.unwrap_or(512).max(512)));
    }
    for (name, kind, code) in
        [("nothing.example.test", A, 3), ("www.example.test", 15, 0), ("elsewhere.test", A, 5), ("", A, 5)]
    {
        let response = ask(&query(5, name, kind, Some(1232)));
        assert_eq!((response[3] & 15, counts(&response)[1]), (code, 0), "{name}");
    }

    // Not answered: responses, two questions, cut ones, a pointer, a label that is too long.
    let mut bad: Vec<Vec<u8>> = (0..plain.len()).map(|length| plain[..length].to_vec()).collect();
    bad.push([&plain[..2], &[0x81], &plain[3..]].concat());
    bad.push([&plain[..5], &[2], &plain[6..]].concat());
    bad.push([&plain[..12], &[0xc0, 12], &plain[12..]].concat());
    bad.push([&plain[..12], &[64], &[7; 64], &plain[12..]].concat());
    bad.extend((0..200u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes().repeat(1 + i as usize % 90)));
    // Not too many at once, so that none is lost.
    for (id, packets) in (100..).zip(bad.chunks(20)) {
        packets.iter().for_each(|packet| assert_eq!(client.send(packet).unwrap(), packet.len()));
        let response = ask(&query(id, "www.example.test", A, None));
        assert_eq!(counts(&response), [1, 2, 0, 0], "the next answer is to the next query");
    }
    let said = server.end();
    assert!(said.contains(&format!("{} of them no queries; 0 answers not sent", bad.len())), "{said}");
}

/// The same by a resolver's tool, over both families.
#[test]
fn the_dns_responder_answers_dig() {
    if Command::new("dig").arg("-v").output().is_err() {
        note_skip("answering_dig", "no dig(1); `apt-get install bind9-dnsutils` provides it");
        return;
    }
    let server = Server::start("dns_responder.c", None, &[if has_ipv6() { "::" } else { "0.0.0.0" }, "0"]);
    let dig = |address: &str, more: &[&str]| {
        let mut dig = Command::new("dig");
        dig.args([&format!("@{address}"), "-p", &server.port.to_string(), "+time=5", "+tries=2"]).args(more);
        let output = dig.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut addresses = vec!["127.0.0.1"];
    addresses.extend(has_ipv6().then_some("::1"));
    for address in addresses {
        assert_eq!(dig(address, &["+short", "www.example.test", "A"]), "192.0.2.2\n192.0.2.3\n");
        assert_eq!(dig(address, &["+short", "WWW.example.test", "AAAA"]), "2001:db8::2\n");
        assert_eq!(dig(address, &["+short", "example.test", "TXT"]), "\"answered by ringmsg\"\n");
        assert!(dig(address, &["nothing.example.test"]).contains("status: NXDOMAIN"));
        assert!(dig(address, &["+edns=1", "+noednsneg", "example.test"]).contains("status: BADVERS"));
        let cut = dig(address, &["+noedns", "+ignore", "long.example.test", "TXT"]);
        assert!(cut.contains("flags: qr aa tc rd; QUERY: 1, ANSWER: 0"), "{cut}");
        assert!(dig(address, &["long.example.test", "TXT"]).contains("flags: qr aa rd; QUERY: 1, ANSWER: 3"));
    }
}

/// Transmit and receive timestamps of each of a number of rounds.
#[test]
fn timestamps_come_back_for_every_round() {
    with_each_filter(timestamps_come_back);
}

fn timestamps_come_back(filter: Filter) {
    let mut command = Command::new(example("timestamps.c"));
    command.arg("50").env("LD_LIBRARY_PATH", library_directory());
    if let Some(engines) = filter {
        sandboxing::filter_example(&mut command, engines);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), 50, "{said}");
    for (round, line) in said.lines().enumerate() {
        let rest = line.strip_prefix(&format!("round {round}: round trip ")).expect("a line for each round");
        let trip: i64 = rest.split(' ').next().unwrap().parse().unwrap();
        assert!(trip > 0, "{said}");
    }
}
