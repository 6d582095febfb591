use super::*;
use crate::sender::message::{
    RINGMSG_MESSAGE_ALONE, RINGMSG_MESSAGE_TIMESTAMP, RINGMSG_MESSAGE_TRAFFIC_CLASS, Shape, Traits,
};
use crate::sender::path::RINGMSG_PATH_REMOTE;
use crate::sender::scratch;

const V4: u16 = libc::AF_INET as u16;
const V6: u16 = libc::AF_INET6 as u16;

/// A socket that takes trains of eight, except to port 9, which takes none.
struct Eight;

impl Policy for Eight {
    fn domain(&self) -> i32 {
        libc::AF_INET6
    }
    fn joins(&self) -> bool {
        true
    }
    fn train_max(&self, path: &Path, _: u32) -> u32 {
        if path.remote_port == 9 { 1 } else { 8 }
    }
    fn bare(&self) -> Bare {
        Bare::default()
    }
    fn check(&self, traits: &Traits) -> std::result::Result<(), i32> {
        if traits.transmit_time_ns == 13 { Err(libc::EINVAL) } else { Ok(()) }
    }
}

fn path(port: u16) -> Path {
    let remote = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    Path { valid: RINGMSG_PATH_REMOTE, family: V4, remote_port: port, remote, ..Path::default() }
}

#[derive(Clone, Copy, Default)]
struct Sample {
    path: Option<&'static Path>,
    length: u32,
    segment_size: u32,
    traits: Traits,
    result: i32,
}

impl Source for Vec<Sample> {
    fn count(&self) -> u32 {
        self.len() as u32
    }
    fn path(&self, key: usize) -> Option<*const Path> {
        (key != 0).then(|| std::ptr::with_exposed_provenance(key))
    }
    fn is_none(&self, key: usize) -> bool {
        key == 0
    }
    fn empty_payload(&mut self, index: u32) -> Option<*const u8> {
        self.payload(index, 0)
    }
    fn skip(&mut self, _: u32) {}
    fn path_key(&self, index: u32) -> usize {
        self[index as usize].path.map_or(0, |path| std::ptr::from_ref(path).expose_provenance())
    }
    fn shape(&self, index: u32) -> Shape {
        Shape::new(self[index as usize].length, self[index as usize].segment_size)
    }
    fn traits(&self, index: u32) -> Traits {
        self[index as usize].traits
    }
    fn reserved(&self, _: u32) -> u64 {
        0
    }
    fn payload(&mut self, index: u32, _: u32) -> Option<*const u8> {
        Some(index as usize as *const u8)
    }
    fn result(&self, index: u32) -> i32 {
        self[index as usize].result
    }
    fn set_result(&mut self, index: u32, result: i32) {
        self[index as usize].result = result;
    }
    fn timestamp_id(&self, _: u32) -> u32 {
        0
    }
}

/// The path lives as long as the process, and stays reachable, so that a leak checker finds only
/// what the library loses.
fn keep(path: Path) -> &'static Path {
    static KEPT: std::sync::Mutex<Vec<&'static Path>> = std::sync::Mutex::new(Vec::new());
    let path: &'static Path = Box::leak(Box::new(path));
    KEPT.lock().unwrap().push(path);
    path
}

fn to(path: &Path, lengths: &[u32]) -> Vec<Sample> {
    let path = keep(*path);
    lengths.iter().map(|&length| Sample { path: Some(path), length, ..Sample::default() }).collect()
}

/// The messages of each group.
fn groups_of(messages: &mut Vec<Sample>, batch: usize, resume: bool) -> (Gathered, Vec<Vec<u32>>) {
    scratch::with(batch, |scratch| {
        let gathered = gather(scratch, messages, &Eight, (0, batch), resume);
        let groups = scratch.groups[..gathered.groups].iter().map(|group| {
            let (mut members, mut positions) = (Vec::new(), Vec::new());
            let mut position = group.first;
            while position != NONE {
                members.push(scratch.links[position as usize].index);
                positions.push(position);
                position = scratch.links[position as usize].next;
            }
            assert_eq!(members.len(), group.messages as usize);
            assert_eq!(group.is_in_a_row(), positions.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            members
        });
        let groups = groups.collect();
        Ok((gathered, groups))
    })
    .unwrap()
}

#[track_caller]
fn expect(mut messages: Vec<Sample>, groups: &[&[u32]]) {
    let (gathered, found) = groups_of(&mut messages, 64, false);
    assert_eq!(found, groups);
    assert_eq!(gathered.next as usize, messages.len());
}

#[test]
fn equal_lengths_join_and_a_shorter_one_ends_the_group() {
    expect(to(&path(1), &[100, 100, 100]), &[&[0, 1, 2]]);
    expect(to(&path(1), &[100, 100, 40, 100, 40, 40]), &[&[0, 1, 2], &[3, 4], &[5]]);
    expect(to(&path(1), &[40, 100]), &[&[0], &[1]]);
}

#[test]
fn peers_do_not_hinder_each_other() {
    let (a, b) = (to(&path(1), &[100; 3]), to(&path(2), &[70; 3]));
    let mixed = vec![a[0], b[0], a[1], b[1], b[2], a[2]];
    expect(mixed, &[&[0, 2, 5], &[1, 3, 4]]);
}

#[test]
fn empty_messages_join_nothing_and_keep_their_place() {
    expect(to(&path(1), &[0, 0, 0]), &[&[0], &[1], &[2]]);
    expect(to(&path(1), &[100, 0, 100]), &[&[0], &[1], &[2]]);
}

#[test]
fn trains_join_where_that_changes_no_datagram() {
    let with = |sizes: &[(u32, u32)]| {
        let mut messages = to(&path(1), &sizes.iter().map(|size| size.0).collect::<Vec<_>>());
        for (message, size) in messages.iter_mut().zip(sizes) {
            message.segment_size = size.1;
        }
        messages
    };
    expect(with(&[(200, 100), (300, 100), (100, 0)]), &[&[0, 1, 2]]);
    expect(with(&[(250, 100), (250, 100)]), &[&[0], &[1]]);
    expect(with(&[(200, 100), (250, 100), (100, 0)]), &[&[0, 1], &[2]]);
    expect(with(&[(200, 100), (50, 100), (100, 0)]), &[&[0, 1], &[2]]);
    expect(with(&[(200, 100), (200, 50)]), &[&[0], &[1]]);
    expect(with(&[(100, 0), (100, 500), (200, 100)]), &[&[0, 1, 2]]);
    // Eight datagrams at most: 5 and 3 fit, 5 and 4 do not.
    expect(with(&[(500, 100), (300, 100)]), &[&[0, 1]]);
    expect(with(&[(500, 100), (400, 100)]), &[&[0], &[1]]);
}

#[test]
fn a_group_holds_what_the_kernel_takes() {
    let messages = to(&path(1), &[10; 20]);
    let first: Vec<u32> = (0..8).collect();
    let second: Vec<u32> = (8..16).collect();
    expect(messages, &[&first, &second, &[16, 17, 18, 19]]);
    // 65,507 bytes over IPv4, 65,527 over IPv6.
    expect(to(&path(1), &[32_753, 32_753, 1]), &[&[0, 1], &[2]]);
    expect(to(&path(1), &[32_754, 32_754]), &[&[0], &[1]]);
    let six = Path { family: V6, remote: [1; 16], ..path(1) };
    expect(to(&six, &[32_763, 32_763]), &[&[0, 1]]);
    expect(to(&six, &[32_764, 32_764]), &[&[0], &[1]]);
    let mapped =
        Path { family: V6, remote: std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), ..path(1) };
    expect(to(&mapped, &[32_763, 32_763]), &[&[0], &[1]]);
}

#[test]
fn what_differs_to_one_peer_ends_its_group() {
    let base = to(&path(1), &[100; 3]);
    let change = |change: fn(&mut Sample)| {
        let mut messages = base.clone();
        change(&mut messages[1]);
        messages
    };
    expect(change(|m| m.traits.transmit_time_ns = 1), &[&[0], &[1], &[2]]);
    expect(
        change(|m| {
            m.traits = Traits { flags: RINGMSG_MESSAGE_TRAFFIC_CLASS, traffic_class: 2, ..Traits::default() }
        }),
        &[&[0], &[1], &[2]],
    );
    expect(change(|m| m.length = 99), &[&[0, 1], &[2]]);
    static OTHER: std::sync::OnceLock<Path> = std::sync::OnceLock::new();
    OTHER.set(Path { hop_limit: 7, valid: RINGMSG_PATH_REMOTE | 1 << 4, ..path(1) }).unwrap();
    expect(change(|m| m.path = OTHER.get()), &[&[0], &[1], &[2]]);
}

#[test]
fn alone_is_alone() {
    for flag in [RINGMSG_MESSAGE_ALONE, RINGMSG_MESSAGE_TIMESTAMP] {
        let mut messages = to(&path(1), &[100; 4]);
        messages[1].traits = Traits { flags: flag, ..Traits::default() };
        messages[2].traits = Traits { flags: flag, ..Traits::default() };
        expect(messages, &[&[0], &[1], &[2], &[3]]);
    }
}

#[test]
fn paths_are_told_apart_by_content() {
    // Every message has a path struct of its own; two peers.
    let messages = (0..6).flat_map(|i| to(&path(1 + i % 2), &[100])).collect();
    expect(messages, &[&[0, 2, 4], &[1, 3, 5]]);
    // No path, and one that says nothing, are both the connected peer.
    let mut messages = to(&Path::default(), &[100, 100]);
    messages[0].path = None;
    expect(messages, &[&[0, 1]]);
}

#[test]
fn a_path_that_takes_no_trains_gets_none_and_a_train_for_it_is_cut() {
    expect(to(&path(9), &[100; 3]), &[&[0], &[1], &[2]]);
    let mut messages = to(&path(9), &[300]);
    messages[0].segment_size = 100;
    let (gathered, _) = groups_of(&mut messages, 64, false);
    assert!(gathered.cuts);
    let mut messages = to(&path(1), &[901]);
    messages[0].segment_size = 100;
    assert!(groups_of(&mut messages, 64, false).0.cuts, "ten datagrams where eight are taken");
}

#[test]
fn bad_messages_get_their_errno_and_leave_the_others_alone() {
    let bad = Path { valid: 1 << 31, ..path(1) };
    let mut messages = to(&path(1), &[100; 3]);
    messages.splice(1..1, to(&bad, &[100]));
    messages[2].traits.transmit_time_ns = 13;
    let (gathered, groups) = groups_of(&mut messages, 64, false);
    assert_eq!(groups, [[0, 3]]);
    assert_eq!((gathered.errors, messages[1].result, messages[2].result), (2, -libc::EINVAL, -libc::EINVAL));
}

#[test]
fn resume_takes_what_is_to_be_given_again() {
    let mut messages = to(&path(1), &[100; 5]);
    messages[1].result = -libc::EAGAIN;
    messages[2].result = 100;
    messages[4].result = -libc::EAGAIN;
    assert_eq!(groups_of(&mut messages, 64, true).1, [[1, 4]]);
}

#[test]
fn a_batch_is_no_longer_than_was_asked_for() {
    let (gathered, groups) = groups_of(&mut to(&path(1), &[100; 5]), 3, false);
    assert_eq!((gathered.next, groups), (3, vec![vec![0, 1, 2]]));
}

/// Among random messages to a few peers: every one is in one group, and each peer's are in order.
#[test]
fn order_is_kept_within_a_peer() {
    let paths: [&'static Path; 4] = std::array::from_fn(|i| {
        let class = i as u8 / 2;
        keep(Path { traffic_class: class, valid: RINGMSG_PATH_REMOTE | 8, ..path(1 + i as u16 % 2) })
    });
    let mut seed = 1u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..300 {
        let mut messages: Vec<Sample> = (0..64)
            .map(|_| Sample {
                path: Some(paths[random(4) as usize]),
                length: [0, 50, 100, 100, 300][random(5) as usize],
                segment_size: [0, 0, 100][random(3) as usize],
                ..Sample::default()
            })
            .collect();
        let (_, groups) = groups_of(&mut messages, 64, false);
        let sent: Vec<u32> = groups.concat();
        for port in 1..=2 {
            let of_peer = sent
                .iter()
                .filter(|&&i| messages[i as usize].path.is_some_and(|path| path.remote_port == port));
            assert!(of_peer.is_sorted());
        }
        let mut all = sent;
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<_>>());
    }
}

#[test]
fn more_peers_than_places_at_the_front_of_the_table_are_all_found_again() {
    let mut messages: Vec<Sample> = (0..500).flat_map(|i| to(&path(1000 + i), &[100])).collect();
    messages.extend((0..500).flat_map(|i| to(&path(1000 + i), &[100])));
    let (_, groups) = groups_of(&mut messages, 1000, false);
    assert_eq!(groups, (0..500).map(|i| vec![i, 500 + i]).collect::<Vec<_>>());
}
