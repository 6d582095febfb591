//! A game: a socket, a sender's configuration, one batch of messages, and one of the three forms to
//! give it in.

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};

use ringmsg::sender::*;

use super::reference::{self, NONE, Sample};
use super::sockets::{Arrived, Sockets};

type Handle = *mut c_void;

// The symbols that a C program links with.
unsafe extern "C" {
    fn ringmsg_sender_new(fd: i32, config: *const SenderConfig, sender: *mut Handle) -> i32;
    fn ringmsg_sender_free(sender: Handle) -> i32;
    fn ringmsg_sender_stats(sender: Handle, stats: *mut SenderStats) -> i32;
    fn ringmsg_send(sender: Handle, messages: *mut Message, count: u32, flags: u32) -> i32;
    fn ringmsg_send_from(
        sender: Handle,
        base: *const u8,
        base_length: usize,
        paths: *const Path,
        path_count: u32,
        messages: *mut Message,
        count: u32,
        flags: u32,
    ) -> i32;
    fn ringmsg_send_columns(
        sender: Handle,
        base: *const u8,
        base_length: usize,
        offsets: *const u64,
        lengths: *const u32,
        path_index: *const u32,
        paths: *const Path,
        path_count: u32,
        results: *mut i32,
        count: u32,
        flags: u32,
    ) -> i32;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Pointers,
    From,
    Columns,
    /// The same with the payloads back to back.
    BackToBack,
    /// The same, and message i on path i.
    PathForEach,
}

const FORMS: [Form; 5] = [Form::Pointers, Form::From, Form::Columns, Form::BackToBack, Form::PathForEach];

const MESSAGES_MAX: usize = 300;
const PAYLOAD: usize = 1 << 18;
/// What a receiver's buffer holds, as the kernel counts: about 2 KiB for each datagram, whatever
/// its length, and twice its bytes.
const BUDGET: usize = 190_000;
/// Twice, so that the usual is usual.
const LENGTHS: [u32; 32] = [
    100, 100, 100, 100, 100, 100, 64, 64, 99, 101, 0, 1, 2, 10, 50, 200, 300, 511, 512, 513, 1000, 1200,
    1400, 1472, 1473, 9000, 20_000, 65_507, 65_508, 65_527, 65_528, 70_000,
];
const SEGMENTS: [u32; 8] = [100, 10, 50, 64, 1200, 9000, 65_508, 1 << 31];

struct Input<'a>(std::slice::Iter<'a, u8>);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }
}

/// Plays one game.
pub fn play(bytes: &[u8]) {
    thread_local!(static TABLE: (Sockets, Vec<u8>) = (Sockets::new(), make_payload()));
    TABLE.with(|(sockets, payload)| {
        let mut input = Input(bytes.iter());
        let which = input.below(sockets.senders.len());
        let form = FORMS[input.below(FORMS.len())];
        let config = SenderConfig {
            batch: [0, 0, 1, 2, 3, 7, 16, 64][input.below(8)],
            flags: u32::from(input.byte() % 8 == 1) * RINGMSG_SENDER_NO_GROUPING,
            transmit_clock: sockets.senders[which].1.transmit_clock,
            ..SenderConfig::default()
        };
        let samples = samples_of(&mut input, form, sockets.paths.len());
        Game { sockets, payload, which, form, samples }.check(&config);
    });
}

/// Bytes that are nowhere the same for long.
fn make_payload() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..PAYLOAD).map(|_| next()).collect()
}

fn samples_of(input: &mut Input<'_>, form: Form, paths: usize) -> Vec<Sample> {
    let (mut samples, mut left, mut at) = (Vec::new(), BUDGET, 0);
    while input.0.len() > 0 && samples.len() < MESSAGES_MAX {
        let mut sample = sample_of(input, form, paths);
        let repeat = if input.byte() & 7 == 7 { 1 + input.below(80) } else { 1 };
        for _ in 0..repeat {
            if form == Form::PathForEach {
                sample.path = samples.len();
            }
            if matches!(form, Form::BackToBack | Form::PathForEach) {
                (sample.offset, at) = (at, at + sample.length as usize);
            } else if sample.offset < PAYLOAD / 2 {
                sample.offset = (sample.offset + 1009) % (PAYLOAD / 2);
            }
            let pieces = match sample.segment_size {
                0 => 1,
                size => sample.length.div_ceil(size).max(1) as usize,
            };
            let cost = pieces * 2304 + 2 * sample.length as usize;
            if cost > left || samples.len() == MESSAGES_MAX {
                return samples;
            }
            left -= cost;
            samples.push(sample);
        }
    }
    samples
}

fn sample_of(input: &mut Input<'_>, form: Form, paths: usize) -> Sample {
    let path = match usize::from(input.byte()) {
        255 => NONE,
        254 if form != Form::Pointers => paths + 3,
        byte => byte % paths,
    };
    let size = input.byte();
    let mut sample = Sample { path, length: LENGTHS[usize::from(size & 31)], ..Sample::default() };
    let special = input.byte();
    if form == Form::From && special == 13 {
        sample.offset = PAYLOAD - 5;
    }
    if !matches!(form, Form::Pointers | Form::From) {
        return sample;
    }
    if size >> 5 == 7 {
        sample.segment_size = SEGMENTS[input.below(SEGMENTS.len())];
    }
    match special % 16 {
        1 => sample.flags = RINGMSG_MESSAGE_ALONE,
        2 => sample.flags = RINGMSG_MESSAGE_TIMESTAMP,
        3 | 4 => sample.flags = RINGMSG_MESSAGE_TRAFFIC_CLASS,
        5 => sample.flags = 1 << (special >> 4),
        6 => sample.transmit_time_ns = 1 + u64::from(special >> 4),
        7 => sample.reserved = u64::from(special >> 6),
        _ => {}
    }
    if special & 15 < 5 {
        sample.traffic_class = special >> 4; // not looked at without the flag
    }
    sample
}

struct Game<'a> {
    sockets: &'a Sockets,
    payload: &'a [u8],
    which: usize,
    form: Form,
    samples: Vec<Sample>,
}

impl Game<'_> {
    fn check(&self, config: &SenderConfig) {
        let (arrived, results, stats) = self.by_the_library(config);
        let (expected, outcomes) = self.by_the_reference();
        let (mut taken, mut datagrams, mut bytes) = (0, 0, 0);
        for (i, (result, outcome)) in results.iter().zip(&outcomes).enumerate() {
            assert!(
                outcome.results.contains(result),
                "message {i}, {:?}: result {result}, by the reference {:?}",
                self.samples[i],
                outcome.results
            );
            taken += u64::from(*result >= 0);
            bytes += u64::try_from(*result).unwrap_or(0);
            datagrams += outcome.datagrams;
        }
        for (receiver, (arrived, expected)) in arrived.iter().zip(&expected).enumerate() {
            assert_eq!(arrived.len(), expected.len(), "datagrams at receiver {receiver}");
            for (i, (arrived, expected)) in arrived.iter().zip(expected).enumerate() {
                assert!(
                    arrived == expected,
                    "datagram {i} at receiver {receiver}: {arrived:?}, not {expected:?}"
                );
            }
        }
        assert_eq!((stats.messages, stats.payload_bytes, stats.datagrams), (taken, bytes, datagrams));
        assert_eq!(stats.errors, results.len() as u64 - taken);
        assert_eq!(stats.socket_errors, 0);
        self.sockets.drop_errors();
    }

    fn path(&self, sample: &Sample) -> Option<&Path> {
        self.sockets.paths.get(sample.path)
    }

    fn by_the_reference(&self) -> (Vec<Vec<Arrived>>, Vec<reference::Outcome>) {
        let (fd, traits) = &self.sockets.senders[self.which];
        let mut arrived = self.sockets.collect();
        let mut outcomes = Vec::new();
        for sample in &self.samples {
            let bounds = (self.payload, self.sockets.paths.len());
            outcomes.push(reference::send(fd, *traits, sample, self.path(sample), bounds));
            self.collect_into(&mut arrived);
        }
        (arrived, outcomes)
    }

    fn collect_into(&self, arrived: &mut [Vec<Arrived>]) {
        for (all, more) in arrived.iter_mut().zip(self.sockets.collect()) {
            all.extend(more);
        }
    }

    fn by_the_library(&self, config: &SenderConfig) -> (Vec<Vec<Arrived>>, Vec<i32>, SenderStats) {
        let mut sender = null_mut();
        let fd = self.sockets.senders[self.which].0.as_raw_fd();
        // SAFETY: all are valid.
        assert_eq!(unsafe { ringmsg_sender_new(fd, config, &mut sender) }, 0);
        let mut arrived = self.sockets.collect();
        let mut messages: Vec<Message> = self.samples.iter().map(|sample| self.message(sample)).collect();
        let mut columns = Columns::of(&self.samples);
        let mut settled = 0;
        for flags in std::iter::once(0).chain(std::iter::repeat(RINGMSG_SEND_RESUME)) {
            let before = settled;
            let returned = self.send(sender, &mut messages, &mut columns, flags);
            if self.form == Form::Pointers || self.form == Form::From {
                columns.results = messages.iter().map(|message| message.result).collect();
            }
            settled = columns.results.iter().filter(|&&result| result != -libc::EAGAIN).count();
            let expected = match settled - before {
                0 if settled < self.samples.len() => -libc::EAGAIN,
                more => more as i32,
            };
            assert_eq!(returned, expected);
            self.collect_into(&mut arrived);
            if settled == self.samples.len() {
                break;
            }
            assert!(settled > before, "the receivers have room, and nothing went");
        }
        let mut stats = SenderStats { size: size_of::<SenderStats>() as u32, ..SenderStats::default() };
        // SAFETY: the sender is live.
        unsafe {
            assert_eq!(ringmsg_sender_stats(sender, &mut stats), 0);
            assert_eq!(ringmsg_sender_free(sender), 0);
        }
        (arrived, columns.results, stats)
    }

    /// A message as this game's form has it.
    fn message(&self, sample: &Sample) -> Message {
        let is_from = self.form == Form::From;
        let path = match self.path(sample) {
            Some(path) if !is_from => std::ptr::from_ref(path),
            _ if !is_from => null(),
            _ => std::ptr::without_provenance(sample.path),
        };
        let payload = match is_from {
            true => std::ptr::without_provenance(sample.offset),
            false => self.payload[sample.offset..].as_ptr(),
        };
        Message {
            payload: payload.cast(),
            path,
            payload_length: sample.length,
            segment_size: sample.segment_size,
            flags: sample.flags,
            result: 0x5a5a,
            transmit_time_ns: sample.transmit_time_ns,
            user_data: 0,
            timestamp_id: 0,
            traffic_class: sample.traffic_class,
            reserved8: [0; 3],
            reserved: sample.reserved,
        }
    }

    fn send(&self, sender: Handle, messages: &mut [Message], columns: &mut Columns, flags: u32) -> i32 {
        let (base, length, count) = (self.payload.as_ptr(), self.payload.len(), messages.len() as u32);
        let (paths, path_count) = (self.sockets.paths.as_ptr(), self.sockets.paths.len() as u32);
        let is_plain = self.form == Form::Columns;
        let offsets = if is_plain { columns.offsets.as_ptr() } else { null() };
        let index = if self.form == Form::PathForEach { null() } else { columns.paths.as_ptr() };
        // SAFETY: the arrays are as long as they are said to be.
        unsafe {
            match self.form {
                Form::Pointers => ringmsg_send(sender, messages.as_mut_ptr(), count, flags),
                Form::From => ringmsg_send_from(
                    sender,
                    base,
                    length,
                    paths,
                    path_count,
                    messages.as_mut_ptr(),
                    count,
                    flags,
                ),
                _ => ringmsg_send_columns(
                    sender,
                    base,
                    length,
                    offsets,
                    columns.lengths.as_ptr(),
                    index,
                    paths,
                    path_count,
                    columns.results.as_mut_ptr(),
                    count,
                    flags,
                ),
            }
        }
    }
}

struct Columns {
    offsets: Vec<u64>,
    lengths: Vec<u32>,
    paths: Vec<u32>,
    results: Vec<i32>,
}

impl Columns {
    fn of(samples: &[Sample]) -> Self {
        Self {
            offsets: samples.iter().map(|sample| sample.offset as u64).collect(),
            lengths: samples.iter().map(|sample| sample.length).collect(),
            paths: samples.iter().map(|sample| sample.path as u32).collect(),
            results: vec![0x5a5a; samples.len()],
        }
    }
}
