//! Arbitrary bytes as control messages and names. Every way of reading a slice gives the same
//! result.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmsg::capi::control::{Cmsg, ringmsg_control_decode, ringmsg_control_next};
use ringmsg::control;
use ringmsg::record::Metadata;

/// Iterates like a C program. Returns the messages and the final return value.
fn walk(slice: &[u8]) -> (Vec<Cmsg>, i32) {
    let mut cursor = Cmsg::default();
    let mut messages = Vec::new();
    loop {
        // SAFETY: the slice is readable, the cursor writable.
        let found = unsafe { ringmsg_control_next(slice.as_ptr().cast(), slice.len(), Some(&mut cursor)) };
        if found != 1 {
            assert_eq!(
                messages.last().copied().unwrap_or_default(),
                cursor,
                "the end does not change the cursor"
            );
            return (messages, found);
        }
        assert!(cursor.offset as usize + cursor.length as usize <= slice.len());
        messages.push(cursor);
        assert!(messages.len() <= slice.len() / control::HEADER, "every step advances the cursor");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&name_length, bytes)) = bytes.split_first() else { return };
    let (name, slice) = bytes.split_at(usize::from(name_length).min(bytes.len()));

    let (messages, end) = walk(slice);
    let rust_messages: Vec<_> = control::messages(slice).collect();
    assert_eq!(messages.len() + usize::from(end < 0), rust_messages.len());
    for (c, rust) in messages.iter().zip(rust_messages.iter().flatten()) {
        let rust_fields = (rust.level, rust.kind, rust.offset, rust.length);
        assert_eq!((c.level, c.r#type, c.offset as usize, c.length as usize), rust_fields);
    }

    let mut decoded = Metadata::default();
    // SAFETY: the slice is readable, the metadata writable.
    let code = unsafe { ringmsg_control_decode(slice.as_ptr().cast(), slice.len(), &mut decoded) };
    assert_eq!(code < 0, end < 0);
    if code == 0 {
        let mut decoded_in_rust = Metadata::NONE;
        assert_eq!(control::decode(slice, &mut decoded_in_rust), Ok(()));
        assert_eq!(decoded, decoded_in_rust);
    } else {
        assert_eq!(decoded, Metadata::default(), "a failure writes no output");
    }

    // A reap decodes the name first, and zeroes the padding but no other byte.
    let mut metadata = Metadata::NONE;
    control::decode_name(name, &mut metadata);
    let mut cleared = slice.to_vec();
    control::decode_and_clear(&mut cleared, &mut metadata);
    let mut kept = vec![false; slice.len()];
    for message in rust_messages.iter().flatten() {
        kept[message.offset - control::HEADER..message.offset + message.length].fill(true);
    }
    let walked_end = rust_messages.iter().flatten().map(|m| m.end().min(slice.len())).max().unwrap_or(0);
    for at in 0..slice.len() {
        let expected = if kept[at] || at >= walked_end { slice[at] } else { 0 };
        assert_eq!(cleared[at], expected, "byte {at}");
    }
    let mut cleared_again = slice.to_vec();
    control::segment_size_and_clear(&mut cleared_again);
    assert_eq!(cleared, cleared_again);

    // A row of control messages that was learned from a message reads the next ones like the walk,
    // whatever the data are, or says that they are not of this row.
    let mut row = control::Row::NONE;
    row.learn(name, &cleared, cleared.len() + 31);
    for change in 0..=cleared.len() {
        let mut area = [&cleared[..], &[0xa5; 31]].concat();
        if let Some(byte) = change.checked_sub(1) {
            area[byte] ^= 1 << (byte % 8);
        }
        if !row.has_lengths(name.len() as u32, cleared.len() as u32) || !row.is_of(&area[..row.looks_at()]) {
            continue;
        }
        let mut by_row = Metadata::NONE;
        row.decode(name, &area, &mut by_row);
        let size = row.segment_size(&area);
        let control = &mut area[..cleared.len()];
        let as_received = control.to_vec();
        let mut by_walk = Metadata::NONE;
        control::decode_name(name, &mut by_walk);
        control::decode_and_clear(control, &mut by_walk);
        assert_eq!(control, as_received, "the row's padding is zero");
        assert_eq!(by_row, by_walk);
        assert_eq!(size, control::segment_size_and_clear(control));
    }
});
