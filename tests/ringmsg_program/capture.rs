//! Capture files: whole packets that tcpdump finds nothing wrong in, and their drop counts.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Listener;
use crate::toolchain::{note_skip, scratch};

/// Splits a capture file into its blocks: the type, and the content.
fn blocks(bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut blocks, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let length = word(at + 4) as usize;
        assert_eq!(word(at + length - 4) as usize, length, "a block repeats its length");
        assert_eq!(length % 4, 0);
        blocks.push((word(at), &bytes[at + 8..at + length - 4]));
        at += length;
    }
    blocks
}

/// The ones' complement sum of 16-bit words: 0xffff for a header with a right checksum.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    (sum & 0xffff) + (sum >> 16)
}

#[test]
fn a_capture_file_has_whole_packets_with_right_checksums_and_metadata() {
    for (address, family) in [("127.0.0.1", 4), ("::1", 6)] {
        let path = scratch().join(format!("capture-{family}.pcapng"));
        let Ok(sender) = UdpSocket::bind((address, 0)) else {
            note_skip("ringmsg_program_capture", "no IPv6 here");
            continue;
        };
        let listener = Listener::new(&["-q", "-w", path.to_str().unwrap(), "-n", "2", "0"]);
        sender.send_to(b"odd", (address, listener.port)).unwrap();
        sender.send_to(b"even", (address, listener.port)).unwrap();
        let port = listener.port;
        let (stdout, _) = listener.end();
        assert_eq!(stdout, "");
        let bytes = std::fs::read(&path).unwrap();
        let blocks = blocks(&bytes);
        let types: Vec<u32> = blocks.iter().map(|block| block.0).collect();
        assert_eq!(types, [0x0a0d0d0a, 1, 6, 6], "section, interface, two packets");
        assert_eq!(blocks[1].1[..2], [101, 0], "LINKTYPE_RAW");

        let packet = &blocks[2].1[20..];
        let (header, addresses) = if family == 4 { (20, 12..20) } else { (40, 8..40) };
        assert_eq!(packet[0] >> 4, family);
        let udp = &packet[header..header + 11];
        assert_eq!(udp[..2], sender.local_addr().unwrap().port().to_be_bytes());
        assert_eq!(udp[2..4], port.to_be_bytes());
        assert_eq!((udp[5], &udp[8..]), (11, &b"odd"[..]));
        let pseudo = [&packet[addresses], &[0, 17, 0, 11], udp].concat();
        assert_eq!(sum(&pseudo), 0xffff, "the UDP checksum");
        if family == 4 {
            assert_eq!(sum(&packet[..20]), 0xffff, "the IP checksum");
        }
        let comment = String::from_utf8_lossy(blocks[2].1).into_owned();
        assert!(comment.contains("interface index "), "{comment}");
        compare_with_tcpdump(&path, port);
    }
}

/// tcpdump reads the file and finds nothing wrong in it.
fn compare_with_tcpdump(path: &Path, port: u16) {
    let Ok(output) = Command::new("tcpdump").args(["-nn", "-vv", "-r"]).arg(path).output() else {
        return note_skip("ringmsg_program_tcpdump", "no tcpdump; `apt-get install tcpdump` provides it");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches(&format!(".{port}: ")).count(), 2, "{said}");
    assert_eq!(said.matches("[udp sum ok]").count(), 2, "{said}");
}

/// A program that was stopped continues, and each packet has the drops since the one before it: the
/// sum is the socket's counter at the last packet, which the comment has.
#[test]
fn a_capture_file_has_the_drops_between_its_packets() {
    let path = scratch().join("drops.pcapng");
    let mut listener =
        Listener::new(&["-q", "-b", "1", "-w", path.to_str().unwrap(), "-n", "4", "127.0.0.1", "0"]);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = ("127.0.0.1", listener.port);
    let process = listener.child.id() as libc::pid_t;
    // SAFETY: the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(process, libc::SIGSTOP) }, 0);
    wait_until(|| state_of(process) == 'T');
    for _ in 0..100 {
        sender.send_to(&[0; 500], at).unwrap();
    }
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(process, libc::SIGCONT) }, 0);
    wait_until(|| {
        let _ = sender.send_to(b"later", at); // the first ones are lost while the queue is full
        listener.child.try_wait().unwrap().is_some()
    });
    listener.end();
    let bytes = std::fs::read(&path).unwrap();
    let drops = packet_drops(&bytes);
    let last = String::from_utf8_lossy(blocks(&bytes).last().unwrap().1).into_owned();
    let counter = last.split("the socket has dropped ").nth(1).and_then(|rest| rest.split(' ').next());
    let counter: u64 = counter.and_then(|number| number.parse().ok()).expect(&last);
    assert!(counter > 0, "a hundred datagrams fit into the smallest buffer");
    assert_eq!((drops.len(), drops.iter().sum()), (4, counter), "{drops:?}");
}

/// The drop counts of the packets of a capture file.
fn packet_drops(bytes: &[u8]) -> Vec<u64> {
    let packets = blocks(bytes).into_iter().filter(|block| block.0 == 6);
    packets
        .map(|(_, packet)| {
            let half = |at: usize| usize::from(u16::from_le_bytes([packet[at], packet[at + 1]]));
            let captured = u32::from_le_bytes(packet[12..16].try_into().unwrap()) as usize;
            let mut at = 20 + captured.next_multiple_of(4);
            while half(at) != 4 {
                at += 4 + half(at + 2).next_multiple_of(4);
            }
            u64::from_le_bytes(packet[at + 4..at + 12].try_into().unwrap())
        })
        .collect()
}

/// The state of a process in /proc, as R, S or T.
fn state_of(process: libc::pid_t) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not happen within a minute");
}
