use super::*;

/// A control slice as the kernel would write it.
fn slice(messages: &[(i32, i32, &[u8])]) -> Vec<u8> {
    let mut slice = Vec::new();
    for &(level, kind, data) in messages {
        slice.extend((HEADER + data.len()).to_ne_bytes());
        slice.extend(level.to_ne_bytes());
        slice.extend(kind.to_ne_bytes());
        slice.extend(data);
        slice.resize(align(slice.len()), 0xee);
    }
    slice
}

fn decoded(messages: &[(i32, i32, &[u8])]) -> Metadata {
    let mut out = Metadata::default();
    decode(&slice(messages), &mut out).unwrap();
    out
}

#[test]
fn gro_size_is_an_int() {
    let out = decoded(&[(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes())]);
    assert_eq!((out.valid, out.segment_size), (RINGMSG_META_SEGMENT_SIZE, 1200));
    let mut bytes = slice(&[(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes())]);
    assert_eq!(segment_size_and_clear(&mut bytes), 1200);
    assert_eq!(segment_size_and_clear(&mut []), 0);
}

#[test]
fn tos_comes_in_one_byte_or_four() {
    for data in [&[0x02u8][..], &[0x02, 0, 0, 0]] {
        let out = decoded(&[(libc::SOL_IP, libc::IP_TOS, data)]);
        assert_eq!((out.valid, out.traffic_class), (RINGMSG_META_TRAFFIC_CLASS, 2));
    }
    let out = decoded(&[(libc::SOL_IPV6, libc::IPV6_TCLASS, &0xb9i32.to_ne_bytes())]);
    assert_eq!((out.valid, out.traffic_class), (RINGMSG_META_TRAFFIC_CLASS, 0xb9));
}

#[test]
fn error_queues_of_other_families_are_decoded() {
    // ENOMSG, a timestamp, its id 7; a zero-copy note of 2 to 5.
    let entry = |errno: u32, origin: u8, info: u32, data: u32| {
        let words = [errno.to_ne_bytes(), [origin, 0, 0, 0], info.to_ne_bytes(), data.to_ne_bytes()];
        words.concat()
    };
    let out = decoded(&[(libc::SOL_PACKET, libc::PACKET_TX_TIMESTAMP, &entry(42, 4, 0, 7))]);
    assert_eq!((out.valid, out.socket_error), (RINGMSG_META_SOCKET_ERROR, 0));
    assert_eq!((out.error_origin, out.error_data), (4, 7));
    let out = decoded(&[(SOL_VSOCK, VSOCK_RECVERR, &entry(0, 5, 2, 5))]);
    assert_eq!((out.valid, out.socket_error), (RINGMSG_META_SOCKET_ERROR, 0));
    assert_eq!((out.error_origin, out.error_info, out.error_data), (5, 2, 5));
    // The same numbers at levels that are not known, and a short one.
    assert_eq!(decoded(&[(SOL_VSOCK + 1, VSOCK_RECVERR, &entry(0, 5, 2, 5))]), Metadata::default());
    assert_eq!(decoded(&[(SOL_VSOCK, VSOCK_RECVERR, &[0; 12])]), Metadata::default());
}

#[test]
fn padding_is_cleared_and_nothing_else() {
    let mut bytes = slice(&[(libc::SOL_IP, libc::IP_TOS, &[0xee]), (libc::SOL_IP, libc::IP_TTL, &[0xee; 4])]);
    bytes.truncate(bytes.len() - 3); // the kernel leaves padding out where there is no room
    assert_eq!(segment_size_and_clear(&mut bytes), 0);
    assert_eq!(bytes[HEADER..HEADER + 8], [0xee, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[bytes.len() - 5..], [0xee, 0xee, 0xee, 0xee, 0]);
}

#[test]
fn level_and_type_are_matched_together() {
    // SO_RXQ_OVFL's number at another level means something else.
    let out = decoded(&[(libc::SOL_IP, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes())]);
    assert_eq!(out, Metadata::default());
}

#[test]
fn mapped_addresses_stay_in_one_family() {
    let mut info = [0u8; 12];
    info[0] = 3;
    info[4..8].copy_from_slice(&[127, 0, 0, 9]);
    info[8..12].copy_from_slice(&[127, 0, 0, 1]);
    let mut out = Metadata { family: AF_INET6, ..Metadata::default() };
    decode(&slice(&[(libc::SOL_IP, libc::IP_PKTINFO, &info)]), &mut out).unwrap();
    assert_eq!(out.family, AF_INET6);
    assert_eq!(out.destination, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
    assert_eq!(out.local_v4, [127, 0, 0, 9]);

    let alone = decoded(&[(libc::SOL_IP, libc::IP_PKTINFO, &info)]);
    assert_eq!(alone.family, AF_INET);
    assert_eq!(alone.destination[..5], [127, 0, 0, 1, 0]);
}

#[test]
fn timestamps_in_every_form_come_out_in_ns() {
    let pair = |a: i64, b: i64| [a.to_ne_bytes(), b.to_ne_bytes()].concat();
    let software = |kind, data: &[u8]| {
        let out = decoded(&[(libc::SOL_SOCKET, kind, data)]);
        assert_eq!(out.valid, RINGMSG_META_SOFTWARE_TIMESTAMP);
        out.software_timestamp_ns
    };
    assert_eq!(software(libc::SO_TIMESTAMP, &pair(2, 3)), 2_000_003_000);
    assert_eq!(software(SO_TIMESTAMP_NEW, &pair(2, 3)), 2_000_003_000);
    assert_eq!(software(libc::SO_TIMESTAMPNS, &pair(2, 3)), 2_000_000_003);
    assert_eq!(software(SO_TIMESTAMPNS_NEW, &pair(2, 3)), 2_000_000_003);
    let all = [pair(1, 1), pair(0, 0), pair(5, 6)].concat();
    let out = decoded(&[(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &all)]);
    assert_eq!(out.software_timestamp_ns, 1_000_000_001);
    assert_eq!(out.hardware_timestamp_ns, 5_000_000_006);
    let hardware = [pair(0, 0), pair(0, 0), pair(5, 6)].concat();
    let out = decoded(&[(libc::SOL_SOCKET, SO_TIMESTAMPING_NEW, &hardware)]);
    assert_eq!(out.valid, RINGMSG_META_HARDWARE_TIMESTAMP);
}

#[test]
fn the_last_message_needs_no_padding() {
    let mut bytes =
        slice(&[(libc::SOL_IP, libc::IP_TTL, &64i32.to_ne_bytes()), (libc::SOL_IP, libc::IP_TOS, &[3])]);
    bytes.truncate(space(4) + HEADER + 1);
    let mut out = Metadata::default();
    decode(&bytes, &mut out).unwrap();
    assert_eq!((out.hop_limit, out.traffic_class), (64, 3));
}

#[test]
fn cut_messages_tell_nothing_and_unknown_ones_are_stepped_over() {
    let out = decoded(&[
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &[1, 2, 3]),
        (1234, 5678, &[1; 40]),
        (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &9u32.to_ne_bytes()),
    ]);
    assert_eq!((out.valid, out.dropped), (RINGMSG_META_DROPPED, 9));
}

#[test]
fn impossible_lengths_end_the_walk_and_keep_what_came_before() {
    for length in [0usize, 1, HEADER - 1, HEADER + 5, usize::MAX, usize::MAX - 7] {
        let mut bytes = slice(&[(libc::SOL_IP, libc::IP_TTL, &9i32.to_ne_bytes())]);
        bytes.extend(length.to_ne_bytes());
        bytes.extend([0; 12]);
        let mut out = Metadata::default();
        assert_eq!(decode(&bytes, &mut out), Err(Malformed), "length {length}");
        assert_eq!(out.hop_limit, 9);
        assert_eq!(messages(&bytes).filter(Result::is_err).count(), 1);
    }
}

#[test]
fn names_of_both_families_are_read_and_others_left() {
    let mut name = [0u8; 28];
    name[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
    name[2..4].copy_from_slice(&443u16.to_be_bytes());
    name[8..24].copy_from_slice(&[7; 16]);
    name[24..28].copy_from_slice(&5u32.to_ne_bytes());
    let mut out = Metadata::default();
    decode_name(&name, &mut out);
    assert_eq!((out.source_port, out.source, out.source_scope), (443, [7; 16], 5));

    let mut cut = Metadata::default();
    decode_name(&name[..20], &mut cut);
    assert_eq!(cut, Metadata::default());

    name[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    name[4..8].copy_from_slice(&[10, 0, 0, 1]);
    let mut out = Metadata::default();
    decode_name(&name[..16], &mut out);
    assert_eq!((out.family, out.source[..4].to_vec()), (AF_INET, vec![10, 0, 0, 1]));

    let mut unix = Metadata::default();
    decode_name(&[1, 0, b'/', b'x'], &mut unix);
    assert_eq!(unix.valid, 0);
}

/// Control areas of buffers, which messages are written to as the kernel does it: headers and data,
/// and nothing in the padding.
mod rows {
    use super::*;

    /// A message: a name, and its control messages.
    type Sent = (Vec<u8>, Vec<(i32, i32, Vec<u8>)>);

    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % end
        }

        fn bytes(&mut self, count: usize) -> Vec<u8> {
            (0..count).map(|_| self.below(256) as u8).collect()
        }
    }

    fn name(family: u16, random: &mut Random) -> Vec<u8> {
        let length = if family == AF_INET { 16 } else { 28 };
        let mut name = random.bytes(length);
        name[..2].copy_from_slice(&family.to_ne_bytes());
        name
    }

    /// A message of one of the kinds that sockets bring.
    fn message(kind: u64, random: &mut Random) -> Sent {
        let mut fill = |kinds: &[(i32, i32, usize)]| -> Vec<_> {
            kinds.iter().map(|&(level, kind, length)| (level, kind, random.bytes(length))).collect()
        };
        let v4 = [(libc::SOL_IP, libc::IP_PKTINFO, 12), (libc::SOL_IP, libc::IP_TOS, 1)];
        let v6 = [(libc::SOL_IPV6, libc::IPV6_PKTINFO, 20), (libc::SOL_IPV6, libc::IPV6_TCLASS, 4)];
        let timestamp = (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 16);
        let drops = (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 4);
        let gro = (libc::SOL_UDP, libc::UDP_GRO, 4);
        let (family, mut messages) = match kind {
            0 => (AF_INET, fill(&[v4[0], v4[1], drops])),
            1 => (AF_INET, fill(&[v4[0], v4[1], (libc::SOL_IP, libc::IP_TTL, 4)])),
            2 => (AF_INET6, fill(&[v6[0], v6[1], (libc::SOL_IPV6, libc::IPV6_HOPLIMIT, 4), timestamp])),
            3 => (AF_INET6, fill(&[v6[0], v4[0], v4[1]])), // mapped, on a dual-stack socket
            4 => (AF_INET, fill(&[gro, v4[0], drops])),
            5 => (AF_INET, fill(&[gro, gro])),
            6 => (AF_INET, fill(&[v4[1], v4[1]])),
            7 => (AF_INET, fill(&[(libc::SOL_SOCKET, libc::SCM_RIGHTS, 8), v4[0]])),
            8 => (AF_INET, fill(&[(libc::SOL_IP, libc::IP_PKTINFO, 7)])), // cut
            9 => (AF_INET, fill(&[(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 48)])),
            10 => (AF_INET, fill(&[v4[0]; 9])), // too long
            11 => (libc::AF_UNIX as u16, fill(&[drops])),
            _ => (AF_INET, Vec::new()),
        };
        // Real sizes, but also none and a negative one.
        for (level, kind, data) in &mut messages {
            if (*level, *kind) == (libc::SOL_UDP, libc::UDP_GRO) {
                let size = [0, -5, 100, 1200][random.below(4) as usize];
                *data = i32::to_ne_bytes(size).to_vec();
            }
        }
        let name = if random.below(8) == 0 { Vec::new() } else { name(family, random) };
        (name, messages)
    }

    /// Returns how much of the area is used.
    fn write(area: &mut [u8], messages: &[(i32, i32, Vec<u8>)]) -> usize {
        let mut at = 0;
        for (level, kind, data) in messages {
            let header =
                [&(HEADER + data.len()).to_ne_bytes()[..], &level.to_ne_bytes()[..], &kind.to_ne_bytes()[..]];
            let whole = [&header.concat()[..], &data[..]].concat();
            area[at..at + whole.len()].copy_from_slice(&whole);
            at = align(at + whole.len());
        }
        at
    }

    /// What a reap does with a message, whose control messages are the first `used` bytes of an
    /// area. Returns whether the row was used.
    fn read(row: &mut Row, name: &[u8], area: &mut [u8], used: usize) -> (bool, u32, Metadata) {
        let mut metadata = Metadata::NONE;
        let is_of = row.has_lengths(name.len() as u32, used as u32) && row.is_of(&area[..row.looks_at()]);
        let room = area.len();
        let control = &mut area[..used];
        if is_of {
            row.decode(name, control, &mut metadata);
            return (true, row.segment_size(control), metadata);
        }
        decode_name(name, &mut metadata);
        let size = segment_size_and_clear(&mut control.to_vec());
        decode_and_clear(control, &mut metadata);
        row.learn(name, control, room);
        (false, size, metadata)
    }

    fn check(kinds: impl Fn(&mut Random) -> u64, messages: u32, seed: u64) -> u32 {
        let mut random = Random(seed);
        let mut areas = [[0u8; 320]; 3];
        let mut row = Row::NONE;
        let mut by_row = 0;
        for _ in 0..messages {
            let area = &mut areas[random.below(3) as usize];
            let kind = kinds(&mut random);
            let (name, sent) = message(kind, &mut random);
            let used = write(area, &sent);
            let mut expected = Metadata::NONE;
            decode_name(&name, &mut expected);
            decode(&area[..used], &mut expected).unwrap();
            let expected_size = segment_size_and_clear(&mut area[..used].to_vec());
            let (is_by_row, size, metadata) = read(&mut row, &name, area, used);
            assert_eq!((size, metadata), (expected_size, expected), "kind {kind}, by row: {is_by_row}");
            for message in super::super::messages(&area[..used]).map(Result::unwrap) {
                let end = message.offset + message.length;
                assert!(area[end..align(end)].iter().all(|&byte| byte == 0), "padding, kind {kind}");
            }
            by_row += u32::from(is_by_row);
        }
        by_row
    }

    #[test]
    fn a_row_reads_what_the_walk_reads() {
        for seed in 0..300 {
            check(|random| random.below(13), 200, seed);
        }
    }

    #[test]
    fn messages_of_one_kind_are_read_by_their_row() {
        for kind in [0, 1, 2, 3, 4, 6, 8, 9, 11] {
            // Seven of eight have the name's length.
            let by_row = check(|_| kind, 1000, kind);
            assert!(by_row > 700, "kind {kind}: {by_row} of 1000");
        }
    }

    #[test]
    fn rows_that_bring_descriptors_or_are_ambiguous_are_not_remembered() {
        for kind in [5, 7, 10] {
            assert_eq!(check(|_| kind, 100, kind), 0, "kind {kind}");
        }
    }

    /// The last chunk may reach beyond the control messages, but never beyond the buffer.
    #[test]
    fn a_row_that_looks_beyond_the_buffer_is_not_remembered() {
        let mut random = Random(1);
        let mut area = [0; 256];
        let (name, sent) = (name(AF_INET, &mut random), message(11, &mut random).1);
        let used = write(&mut area, &sent);
        assert_eq!(used % 32, 24);
        for (room, is_remembered) in [(used, false), (used + 7, false), (used + 8, true)] {
            let mut row = Row::NONE;
            row.learn(&name, &area[..used], room);
            assert_eq!(row.has_lengths(name.len() as u32, used as u32), is_remembered, "{room}");
        }
    }

    #[test]
    fn a_row_is_learned_again_after_a_change() {
        let mut random = Random(1);
        let mut row = Row::NONE;
        let mut area = [0; 256];
        let mut take = |row: &mut Row, kind| {
            let (name, sent) = (name(AF_INET, &mut random), message(kind, &mut random).1);
            let used = write(&mut area, &sent);
            read(row, &name, &mut area, used).0
        };
        assert!(!take(&mut row, 0) && take(&mut row, 0));
        let misses = (0..100).take_while(|_| !take(&mut row, 1)).count();
        assert!(misses <= 16, "{misses}");
        assert!(take(&mut row, 1) && !take(&mut row, 0));
    }
}
