//! A group: messages that go out together, as one train or one message; and which join it. Pure: no
//! system calls, no sockets.

use super::message::{Given, RINGMSG_MESSAGE_ALONE, RINGMSG_MESSAGE_TIMESTAMP, Shape, Traits};
use super::path::{Path, Peer};
use super::scratch::Zeroed;

/// No position.
pub(super) const NONE: u32 = u32::MAX;

/// Messages that go out as one train, or one message.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Group {
    pub path: *const Path,
    /// A datagram of usual size: all but the last have it.
    pub usual: Shape,
    pub traits: Traits,
    /// How many more datagrams of usual size may join; 0: closed.
    pub room: u32,
    /// Positions of its messages: from here, along the links.
    pub first: u32,
    pub last: u32,
    pub messages: u32,
    pub datagrams: u32,
    pub peer: Peer,
    /// It is a train that cannot go out as one.
    pub cut: bool,
}

/// The message at a position, and the position that follows in its group.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub index: u32,
    pub next: u32,
}

// SAFETY: integers, bools and a raw pointer; the first Peer is 0.
unsafe impl Zeroed for Group {}
// SAFETY: integers.
unsafe impl Zeroed for Link {}

/// What a socket and its paths allow.
pub(super) trait Policy {
    /// SO_DOMAIN
    fn domain(&self) -> i32;
    /// Messages may be joined at all.
    fn joins(&self) -> bool;
    /// The datagrams of this size that a train on this path may have; 1: it takes no trains.
    fn train_max(&self, path: &Path, size: u32) -> u32;
    /// Refuses what a message asks for itself where the socket has no such thing. Only asked where
    /// it asks for something.
    fn check(&self, traits: &Traits) -> std::result::Result<(), i32>;
}

/// The longest UDP payload of a datagram, and so of a train: 65,535 bytes without the headers.
const BYTES_MAX_V4: u32 = 65_507;
const BYTES_MAX_V6: u32 = 65_527;

/// The policy's limit on datagrams, within the limit on a train's bytes.
#[inline(always)]
pub(super) fn train_max(policy: &impl Policy, path: &Path, peer: Peer, size: u32) -> u32 {
    let datagrams = policy.train_max(path, size);
    if u64::from(datagrams) * u64::from(size) <= u64::from(BYTES_MAX_V4) {
        return datagrams;
    }
    let bytes = if peer == Peer::V6 { BYTES_MAX_V6 } else { BYTES_MAX_V4 };
    datagrams.min(bytes / size).max(1)
}

const _: () = assert!(size_of::<Group>() == 64);

impl Group {
    /// Bytes of each datagram but the last.
    #[inline(always)]
    pub(super) fn size(&self) -> u32 {
        self.usual.length()
    }

    /// Positions of the group's messages follow each other.
    #[inline(always)]
    pub(super) fn is_in_a_row(&self) -> bool {
        self.last - self.first + 1 == self.messages
    }

    /// A group of one plain message, which others may join. Fails with the errno that is the message's
    /// result.
    #[inline(always)]
    pub(super) fn plain(
        length: u32,
        path: *const Path,
        position: u32,
        policy: &impl Policy,
    ) -> std::result::Result<Self, i32> {
        // SAFETY: the source's maker promises that its paths are readable.
        let peer = unsafe { (*path).peer_on(policy.domain()) }?;
        let mut group = Self {
            path,
            usual: Shape::new(length, 0),
            traits: Traits::default(),
            room: 0,
            first: position,
            last: position,
            messages: 1,
            datagrams: 1,
            peer,
            cut: false,
        };
        if policy.joins() {
            // SAFETY: as above.
            group.room = unsafe { train_max(policy, &*path, group.peer, group.size()) } - 1;
        }
        Ok(group)
    }

    /// And of a train, an empty message, or one that asks for something.
    pub(super) fn other(
        given: &Given,
        path: *const Path,
        position: u32,
        policy: &impl Policy,
    ) -> std::result::Result<Self, i32> {
        let length = given.shape.length();
        let mut group = Self::plain(length.max(1), path, position, policy)?;
        (group.usual, group.traits) = (Shape::new(length, 0), given.traits);
        if !given.traits.is_plain() {
            policy.check(&given.traits)?;
        }
        let alone = given.traits.flags & (RINGMSG_MESSAGE_ALONE | RINGMSG_MESSAGE_TIMESTAMP) != 0;
        let mut may_grow = policy.joins() && !alone && length != 0;
        if given.shape.is_train() {
            let size = given.shape.segment_size();
            group.usual = Shape::new(size, 0);
            group.datagrams = length.div_ceil(size);
            may_grow &= length % size == 0;
        }
        // SAFETY: as above.
        let max =
            if length == 0 { 1 } else { unsafe { train_max(policy, &*path, group.peer, group.size()) } };
        group.cut = group.datagrams > max;
        group.room = if may_grow && !group.cut { max - group.datagrams } else { 0 };
        Ok(group)
    }

    /// A message like most: one more datagram of usual size.
    #[inline(always)]
    pub(super) fn is_usual(&self, given: &Given) -> bool {
        self.room != 0 && given.shape == self.usual && given.traits == self.traits && given.reserved == 0
    }

    /// How many datagrams a message adds, and how many more may follow it; None: it must not join.
    pub(super) fn takes(&self, given: &Given) -> Option<(u32, u32)> {
        let (shape, length) = (given.shape, given.shape.length());
        // An empty one would be nothing in a train.
        if self.room == 0 || self.traits != given.traits || length == 0 {
            return None;
        }
        if !shape.is_train() {
            let room = if length < self.size() { 0 } else { self.room - 1 };
            return (length <= self.size()).then_some((1, room));
        }
        let datagrams = length.div_ceil(shape.segment_size());
        if shape.segment_size() != self.size() || datagrams > self.room {
            return None;
        }
        Some((datagrams, if length % self.size() == 0 { self.room - datagrams } else { 0 }))
    }
}
