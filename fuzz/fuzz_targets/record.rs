//! Arbitrary buffer contents become a record, and a train its datagrams. No slice of a record may
//! reach outside its part of the buffer, or include bytes that the kernel has not written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmsg::config::PoolConfig;
use ringmsg::layout::{HEADER, Header, Layout, SEGMENTS_MAX, Split};
use ringmsg::record::{RINGMSG_RECORD_BUFFER, RINGMSG_RECORD_TRUNCATED, Record};

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn word(&mut self) -> u32 {
        let mut word = [0; 4];
        let length = self.0.len().min(4);
        word[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        u32::from_ne_bytes(word)
    }
}

fn inside(layout: &Layout, start: u32, record: &Record) {
    let (name_at, control_at, payload_at) = layout.parts();
    let part = |offset: u32, length: u32, at: u32, capacity: u32| {
        let offset = u64::from(offset);
        offset >= u64::from(start + at)
            && offset + u64::from(length) <= u64::from(start) + u64::from(at) + u64::from(capacity)
    };
    assert!(part(record.name_offset, record.name_length, name_at, layout.name_capacity));
    assert!(part(record.control_offset, record.control_length, control_at, layout.control_capacity));
    assert!(part(record.payload_offset, record.payload_length, payload_at, layout.payload_capacity));
    assert!(record.payload_length <= record.wire_length);
    assert_eq!(record.result, record.payload_length as i32);
    assert!(record.flags & RINGMSG_RECORD_BUFFER != 0);
    assert!(record.payload_length == record.wire_length || record.flags & RINGMSG_RECORD_TRUNCATED != 0);
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let config = PoolConfig {
        buffers: 1 << (input.word() % 17),
        name_capacity: input.word() >> (input.word() % 32),
        control_capacity: input.word() >> (input.word() % 32),
        payload_capacity: input.word() >> (input.word() % 32),
        ..PoolConfig::default()
    };
    let Ok(layout) = Layout::new(&config) else { return };
    assert!(u64::from(layout.stride) * u64::from(layout.buffers) <= u64::from(u32::MAX));
    assert!(layout.length() <= layout.stride);
    let buffer = (input.word() % layout.buffers) as u16;
    let start = layout.start(buffer);

    let mut header = [0; HEADER as usize];
    let length = input.0.len().min(header.len());
    header[..length].copy_from_slice(&input.0[..length]);
    input.0 = &input.0[length..];
    let result = input.word();
    let mut whole = layout.record(start, Header::from_bytes(header), result);
    inside(&layout, start, &whole);
    assert!(whole.payload_length <= result.saturating_sub(layout.parts().2));

    whole.segment_size = input.word() >> (input.word() % 32);
    let Some(split) = Split::of(&whole) else { return };
    assert!(split.records >= 1 && split.records <= split.segments && split.segments <= SEGMENTS_MAX);
    let mut payload = 0;
    for number in 0..split.records {
        let segment = split.segment(&whole, number);
        inside(&layout, start, &segment);
        assert_eq!(u32::from(segment.segment), number);
        assert_eq!(segment.payload_offset, whole.payload_offset + payload.min(number * whole.segment_size));
        let last = number + 1 == split.records;
        assert!(segment.payload_length == whole.segment_size || last);
        payload += segment.payload_length;
    }
    assert_eq!(payload, whole.payload_length, "the segments make up the train");
});
