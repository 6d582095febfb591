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
    let mut seen = Vec::new();
    loop {
        // SAFETY: the slice is readable, the cursor writable.
        let found = unsafe { ringmsg_control_next(slice.as_ptr().cast(), slice.len(), Some(&mut cursor)) };
        if found != 1 {
            assert_eq!(seen.last().copied().unwrap_or_default(), cursor, "the end leaves the cursor");
            return (seen, found);
        }
        assert!(cursor.offset as usize + cursor.length as usize <= slice.len());
        seen.push(cursor);
        assert!(seen.len() <= slice.len() / control::HEADER, "the walk goes forward");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let (name, slice) = bytes.split_at(usize::from(cut).min(bytes.len()));

    let (messages, end) = walk(slice);
    let in_rust: Vec<_> = control::messages(slice).collect();
    assert_eq!(messages.len() + usize::from(end < 0), in_rust.len());
    for (c, rust) in messages.iter().zip(in_rust.iter().flatten()) {
        let of_rust = (rust.level, rust.kind, rust.offset, rust.length);
        assert_eq!((c.level, c.r#type, c.offset as usize, c.length as usize), of_rust);
    }

    let mut decoded = Metadata::default();
    // SAFETY: the slice is readable, the metadata writable.
    let code = unsafe { ringmsg_control_decode(slice.as_ptr().cast(), slice.len(), &mut decoded) };
    assert_eq!(code < 0, end < 0);
    if code == 0 {
        let mut again = Metadata::NONE;
        assert_eq!(control::decode(slice, &mut again), Ok(()));
        assert_eq!(decoded, again);
    } else {
        assert_eq!(decoded, Metadata::default(), "on failure no output");
    }

    // A reap decodes the name first, and zeroes the padding but no other byte.
    let mut both = Metadata::NONE;
    control::decode_name(name, &mut both);
    let mut cleared = slice.to_vec();
    control::decode_and_clear(&mut cleared, &mut both);
    let mut kept = vec![false; slice.len()];
    for message in in_rust.iter().flatten() {
        kept[message.offset - control::HEADER..message.offset + message.length].fill(true);
    }
    let walked = in_rust.iter().flatten().map(|m| m.end().min(slice.len())).max().unwrap_or(0);
    for at in 0..slice.len() {
        let expected = if kept[at] || at >= walked { slice[at] } else { 0 };
        assert_eq!(cleared[at], expected, "byte {at}");
    }
    let mut once_more = slice.to_vec();
    control::segment_size_and_clear(&mut once_more);
    assert_eq!(cleared, once_more);
});
