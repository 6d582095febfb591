//! Arguments, exit statuses, and output that cannot be written.

use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use crate::toolchain::library_directory;
use crate::{Listener, command, program, run};

#[test]
fn wrong_usage_is_explained_and_has_status_2() {
    for arguments in [
        &[][..],
        &["hear"],
        &["listen"],
        &["listen", "70000"],
        &["listen", "-n", "x", "1"],
        &["listen", "-z", "1"],
        &["listen", "-e", "fast", "1"],
        &["listen", "localhost", "0"],
        &["doctor"],
        &["doctor", "0"],
        &["support", "more"],
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [
        &["-h"][..],
        &["--help"],
        &["listen", "-h"],
        &["listen", "--help"],
        &["doctor", "--help"],
        &["support", "--help"],
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(stdout.starts_with("usage: ringmsg "), "{stdout}");
    }
}

/// The sentence names the argument and what is wrong with it.
#[test]
fn an_error_names_the_argument() {
    for (arguments, sentence, expected) in [
        (&["listen", " 9000"][..], "PORT: ' 9000' is not a whole number from 0 to 65535", 2),
        (&["listen", "+9"], "PORT: '+9' is not a whole number", 2),
        (&["listen", "-n", "1e9", "0"], "-n: '1e9' is not a whole number", 2),
        (&["listen", "-n", "99999999999999999999", "0"], "-n: '99999999999999999999' is not", 2),
        (&["listen", "-t", "-1", "0"], "-t: '-1' is not a whole number", 2),
        (&["listen", "::1", "127.0.0.1", "0"], "there are more arguments than ADDRESS and PORT", 2),
        (&["listen", "/run/socket", "0"], "'/run/socket' is not a numeric IPv4 or IPv6 address", 2),
        (&["listen", "", "0"], "'' is not a numeric IPv4 or IPv6 address", 2),
        (&["listen", "fe80::1%none", "0"], "'fe80::1%none' names a device that is not in", 2),
        (&["listen", "192.0.2.77", "0"], "192.0.2.77, port 0: Cannot assign requested address", 1),
        (&["listen", "-w", "", "0"], "-w '': No such file or directory", 1),
        (&["listen", "-x"], "ringmsg: listen: invalid option -- 'x'", 2),
        (&["doctor", "-1"], "usage: ringmsg doctor PORT", 2),
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stdout.as_str()), (expected, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(sentence), "{arguments:?}: {stderr}");
    }
}

/// Output that cannot be written ends the program with status 1 and a sentence. No socket gets the
/// number of a closed standard stream: a table would be sent through it.
#[test]
fn output_that_cannot_be_written_is_an_error() {
    for (arguments, to) in [
        ("--version", ">&-"),
        ("--help", ">/dev/full"),
        ("support", ">/dev/full"),
        ("doctor 9", ">&-"),
        ("listen -n 1 127.0.0.1 0", ">&- <&-"),
        ("listen -n 1 127.0.0.1 0", ">/dev/full"),
        ("listen -q -w /dev/full -t 1 127.0.0.1 0", ""),
        ("listen -w - -t 1 127.0.0.1 0", ">/dev/full"),
    ] {
        let line = format!("exec \"$0\" {arguments} {to}");
        let output = Command::new("sh")
            .args(["-c", &line])
            .arg(program())
            .env("LD_LIBRARY_PATH", library_directory())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(stderr.contains("ringmsg: "), "{line}: {stderr}");
        assert!(
            stderr.contains("Bad file descriptor") || stderr.contains("No space left on device"),
            "{line}: {stderr}"
        );
    }
}

/// A reader that goes away, as `head` does, ends it: by SIGPIPE, or where that is ignored with a
/// sentence.
#[test]
fn a_reader_that_goes_away_ends_listen() {
    for ignored in [false, true] {
        let mut command = command(&["listen", "-j", "127.0.0.1", "0"]);
        let disposition = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: signal() is async-signal-safe, and nothing else runs in the child.
        unsafe {
            command.pre_exec(move || {
                libc::signal(libc::SIGPIPE, disposition);
                Ok(())
            });
        }
        let mut listener = Listener::start(command);
        drop(listener.child.stdout.take());
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", ("127.0.0.1", listener.port)).unwrap();
        let mut stderr = String::new();
        listener.stderr.read_to_string(&mut stderr).unwrap();
        let status = listener.child.wait().unwrap();
        if ignored {
            assert_eq!(status.code(), Some(1), "{stderr}");
            assert!(stderr.contains("the standard output: Broken pipe"), "{stderr}");
        } else {
            assert_eq!(status.signal(), Some(libc::SIGPIPE), "{stderr}");
        }
    }
}

#[test]
fn options_may_follow_the_port() {
    let listener = Listener::new(&["127.0.0.1", "0", "-j", "-n", "1"]);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", ("127.0.0.1", listener.port)).unwrap();
    assert!(listener.end().0.starts_with("{\"time\""));
}
