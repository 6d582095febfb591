use super::*;
use crate::record::{RINGMSG_META_HOP_LIMIT, RINGMSG_META_TRAFFIC_CLASS};

const ALL: u32 =
    RINGMSG_META_SOURCE | RINGMSG_META_DESTINATION | RINGMSG_META_INTERFACE | RINGMSG_META_LOCAL_V4;

fn wide(text: &str) -> [u8; 16] {
    match text.parse().unwrap() {
        std::net::IpAddr::V6(address) => address.octets(),
        std::net::IpAddr::V4(address) => {
            let mut wide = [0; 16];
            wide[..4].copy_from_slice(&address.octets());
            wide
        }
    }
}

fn received(source: &str, destination: &str, local_v4: [u8; 4]) -> Metadata {
    let v6 = source.contains(':');
    let is_v4 = !v6 || source.starts_with("::ffff:");
    Metadata {
        valid: if is_v4 { ALL } else { ALL & !RINGMSG_META_LOCAL_V4 },
        family: if v6 { AF_INET6 } else { AF_INET },
        source: wide(source),
        source_port: 4711,
        destination: wide(destination),
        interface_index: 3,
        local_v4,
        traffic_class: 2,
        ..Metadata::NONE
    }
}

/// Where an answer leaves from, "" if the kernel chooses; whether the interface is set.
fn from(metadata: &Metadata) -> (Option<[u8; 16]>, bool) {
    let path = reply(metadata).unwrap();
    assert_eq!((path.family, path.remote, path.remote_port), (metadata.family, metadata.source, 4711));
    assert_eq!(path.valid & !(RINGMSG_PATH_REMOTE | RINGMSG_PATH_LOCAL | RINGMSG_PATH_INTERFACE), 0);
    let interface = path.has(RINGMSG_PATH_INTERFACE);
    assert_eq!(path.interface_index, if interface { 3 } else { 0 });
    assert!(path.has(RINGMSG_PATH_LOCAL) || path.local == [0; 16]);
    (path.has(RINGMSG_PATH_LOCAL).then_some(path.local), interface)
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let ten = [10, 0, 0, 1];
    let unicast = received("10.0.0.2", "10.0.0.1", ten);
    assert_eq!(from(&unicast), (Some(wide("10.0.0.1")), false));
    let broadcast = received("10.0.0.2", "10.0.0.255", ten);
    assert_eq!(from(&broadcast), (Some(wide("10.0.0.1")), false));
    let multicast = received("10.0.0.2", "224.0.0.251", ten);
    assert_eq!(from(&multicast), (Some(wide("10.0.0.1")), true));
    let link_local = received("169.254.1.2", "10.0.0.1", ten);
    assert_eq!(from(&link_local), (Some(wide("10.0.0.1")), true));
    let link_local = received("10.0.0.2", "169.254.1.1", [169, 254, 1, 1]);
    assert_eq!(from(&link_local), (Some(wide("169.254.1.1")), true));
}

#[test]
fn mapped_addresses_stay_mapped() {
    let broadcast = received("::ffff:10.0.0.2", "::ffff:10.0.0.255", [10, 0, 0, 1]);
    assert_eq!(from(&broadcast), (Some(wide("::ffff:10.0.0.1")), false));
    let multicast = received("::ffff:10.0.0.2", "::ffff:224.0.0.251", [10, 0, 0, 1]);
    assert_eq!(from(&multicast), (Some(wide("::ffff:10.0.0.1")), true));
    let link_local = received("::ffff:169.254.0.2", "::ffff:10.0.0.1", [10, 0, 0, 1]);
    assert_eq!(from(&link_local), (Some(wide("::ffff:10.0.0.1")), true));
}

#[test]
fn without_ipi_spec_dst_no_ipv4_source_is_set() {
    for (source, destination) in [("::ffff:10.0.0.2", "::ffff:10.0.0.1"), ("10.0.0.2", "10.0.0.255")] {
        let mut metadata = received(source, destination, [0; 4]);
        metadata.valid &= !RINGMSG_META_LOCAL_V4;
        assert_eq!(from(&metadata), (None, false));
    }
}

#[test]
fn over_ipv6_it_is_the_destination_unless_that_is_multicast() {
    assert_eq!(from(&received("fd00::2", "fd00::1", [0; 4])), (Some(wide("fd00::1")), false));
    assert_eq!(from(&received("fd00::2", "ff02::fb", [0; 4])), (None, true));
    assert_eq!(from(&received("fd00::2", "ff0e::1", [0; 4])), (None, true));
    assert_eq!(from(&received("fe80::2", "fe80::1", [0; 4])), (Some(wide("fe80::1")), true));
    assert_eq!(from(&received("febf::2", "fd00::1", [0; 4])), (Some(wide("fd00::1")), true));
    assert_eq!(from(&received("fec0::2", "fd00::1", [0; 4])), (Some(wide("fd00::1")), false));
}

#[test]
fn what_is_not_known_is_not_set() {
    let mut metadata = received("fe80::2", "fe80::1", [0; 4]);
    metadata.source_scope = 5;
    metadata.valid = RINGMSG_META_SOURCE | RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_HOP_LIMIT;
    let path = reply(&metadata).unwrap();
    let expected = Path {
        valid: RINGMSG_PATH_REMOTE,
        family: AF_INET6,
        remote_port: 4711,
        remote: wide("fe80::2"),
        remote_scope: 5,
        ..Path::default()
    };
    assert_eq!(path, expected);
    metadata.valid = ALL & !RINGMSG_META_SOURCE;
    assert_eq!(reply(&metadata), None);
}

fn path(valid: u32, remote: &str, local: &str) -> Path {
    let family = if remote.contains(':') { AF_INET6 } else { AF_INET };
    Path { valid, family, remote: wide(remote), local: wide(local), ..Path::default() }
}

#[test]
fn a_path_fits_its_socket() {
    const REMOTE: u32 = RINGMSG_PATH_REMOTE;
    const BOTH: u32 = REMOTE | RINGMSG_PATH_LOCAL;
    let on = |path: &Path, domain| path.peer_on(domain);
    let four = path(BOTH, "10.0.0.1", "10.0.0.2");
    assert_eq!(on(&four, libc::AF_INET), Ok(Peer::V4));
    assert_eq!(on(&four, libc::AF_INET6), Ok(Peer::V4));
    assert_eq!(on(&four, libc::AF_UNIX), Err(libc::EAFNOSUPPORT));
    let six = path(BOTH, "fd00::1", "fd00::2");
    assert_eq!(on(&six, libc::AF_INET6), Ok(Peer::V6));
    assert_eq!(on(&six, libc::AF_INET), Err(libc::EAFNOSUPPORT));
    let mapped = path(BOTH, "::ffff:10.0.0.1", "::ffff:10.0.0.2");
    assert_eq!(on(&mapped, libc::AF_INET6), Ok(Peer::V4));
    // One mapped and the other not; but :: says that there is no source.
    assert_eq!(on(&path(BOTH, "::ffff:10.0.0.1", "fd00::2"), libc::AF_INET6), Err(libc::EINVAL));
    assert_eq!(on(&path(BOTH, "fd00::1", "::ffff:10.0.0.2"), libc::AF_INET6), Err(libc::EINVAL));
    assert_eq!(on(&path(BOTH, "::ffff:10.0.0.1", "::"), libc::AF_INET6), Ok(Peer::V4));
    // The connected peer.
    assert_eq!(on(&NO_PATH, libc::AF_INET), Ok(Peer::V4));
    assert_eq!(on(&NO_PATH, libc::AF_INET6), Ok(Peer::Connected));
    assert_eq!(on(&NO_PATH, libc::AF_UNIX), Ok(Peer::Other));
    let source = path(RINGMSG_PATH_LOCAL, "::", "fd00::2");
    assert_eq!(on(&source, libc::AF_INET6), Ok(Peer::Connected));
    assert_eq!(on(&source, libc::AF_INET), Err(libc::EAFNOSUPPORT));
    let class = Path { valid: RINGMSG_PATH_TRAFFIC_CLASS, ..NO_PATH };
    assert_eq!(on(&class, libc::AF_INET), Ok(Peer::V4));
    assert_eq!(on(&class, libc::AF_UNIX), Err(libc::EOPNOTSUPP));
}

#[test]
fn what_a_path_cannot_say_is_refused() {
    let good = path(RINGMSG_PATH_REMOTE, "fd00::1", "::");
    let bad = [
        Path { valid: good.valid | 1 << 6, ..good },
        Path { reserved16: 1, ..good },
        Path { reserved: [0, 1], ..good },
        Path { valid: good.valid | RINGMSG_PATH_FLOW_LABEL, flow_label: 1 << 20, ..good },
    ];
    assert_eq!(good.peer_on(libc::AF_INET6), Ok(Peer::V6));
    for path in bad {
        assert_eq!(path.peer_on(libc::AF_INET6), Err(libc::EINVAL));
    }
    for family in [0, 1, 99] {
        assert_eq!(Path { family, ..good }.peer_on(libc::AF_INET6), Err(libc::EAFNOSUPPORT));
    }
}

#[test]
fn peers_are_equal_where_order_is_kept() {
    let a = path(RINGMSG_PATH_REMOTE, "fd00::1", "::");
    let b = Path { valid: a.valid | RINGMSG_PATH_TRAFFIC_CLASS, traffic_class: 1, ..a };
    assert!(a.has_same_peer(&b));
    assert!(!a.has_same_peer(&Path { remote_port: 1, ..a }));
    assert!(!a.has_same_peer(&Path { remote_scope: 1, ..a }));
    assert!(!a.has_same_peer(&Path { family: AF_INET, ..a }));
    assert!(!a.has_same_peer(&Path { valid: 0, ..a }));
    // Two without a remote address: the connected peer, whatever is in the other fields.
    assert!(NO_PATH.has_same_peer(&Path { remote_port: 7, ..NO_PATH }));
}
