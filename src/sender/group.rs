//! A group: messages that go out together, as one train or one message; and which join it. Pure: no
//! system calls, no sockets.

use super::gather::Bare;
use super::message::{RINGMSG_MESSAGE_ALONE, RINGMSG_MESSAGE_TIMESTAMP, Shape, Source, Traits};
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
    /// The group that its peer began next; NONE: it is the latest.
    pub next_of_peer: u32,
    pub peer: Peer,
    /// It is a train that cannot go out as one.
    pub cut: bool,
    /// Its header was written when it began.
    pub has_header: bool,
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
    /// What is known beforehand of plain messages.
    fn bare(&self) -> Bare;
    /// Refuses what a message asks for itself where the socket has no such thing. Only asked where
    /// it asks for something.
    fn check(&self, traits: &Traits) -> std::result::Result<(), i32>;
}

/// The longest UDP payload of a datagram, and so of a train: 65,535 bytes without the headers.
pub(super) const BYTES_MAX_V4: u32 = 65_507;
const BYTES_MAX_V6: u32 = 65_527;

/// The policy's limit on datagrams, within the limit on a train's bytes.
pub(super) fn train_max(policy: &impl Policy, path: &Path, peer: Peer, size: u32) -> u32 {
    let datagrams = policy.train_max(path, size);
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

    /// A group of one plain message, on a bare path.
    #[inline(always)]
    pub(super) fn bare(path: *const Path, peer: Peer, length: u32, room: u32, position: u32) -> Self {
        Self {
            path,
            usual: Shape::new(length, 0),
            traits: Traits { transmit_time_ns: 0, flags: 0, traffic_class: 0 },
            room,
            first: position,
            last: position,
            messages: 1,
            datagrams: 1,
            next_of_peer: NONE,
            peer,
            cut: false,
            has_header: true,
        }
    }

    /// The same on any path. Fails with the errno that is the message's result.
    pub(super) fn plain(
        path: *const Path,
        length: u32,
        position: u32,
        policy: &impl Policy,
    ) -> std::result::Result<Self, i32> {
        // SAFETY: the source's maker promises that its paths are readable.
        let where_to = unsafe { &*path };
        let peer = where_to.peer_on(policy.domain())?;
        let room = if policy.joins() { train_max(policy, where_to, peer, length) - 1 } else { 0 };
        Ok(Self { has_header: false, ..Self::bare(path, peer, length, room, position) })
    }

    /// A group of one message, of whatever kind.
    pub(super) fn other(
        path: *const Path,
        shape: Shape,
        traits: Traits,
        position: u32,
        policy: &impl Policy,
    ) -> std::result::Result<Self, i32> {
        let length = shape.length();
        let mut group = Self::plain(path, length.max(1), position, policy)?;
        (group.usual, group.traits, group.room) = (Shape::new(length, 0), traits, 0);
        if !traits.is_plain() {
            policy.check(&traits)?;
        }
        let alone = traits.flags & (RINGMSG_MESSAGE_ALONE | RINGMSG_MESSAGE_TIMESTAMP) != 0;
        let mut may_grow = policy.joins() && !alone && length != 0;
        if shape.is_train() {
            let size = shape.segment_size();
            group.usual = Shape::new(size, 0);
            group.datagrams = length.div_ceil(size);
            may_grow &= length % size == 0;
        }
        if length != 0 {
            // SAFETY: as above.
            let max = train_max(policy, unsafe { &*path }, group.peer, group.size());
            group.cut = group.datagrams > max;
            group.room = if may_grow && !group.cut { max - group.datagrams } else { 0 };
        }
        Ok(group)
    }

    /// A plain message of this shape is one more datagram of usual size.
    #[inline(always)]
    pub(super) fn is_usual_plain<S: Source>(&self, shape: Shape) -> bool {
        self.room != 0 && self.usual == shape && (S::ALL_PLAIN || self.traits.is_plain())
    }

    /// The message is like most: one more datagram of usual size.
    #[inline(always)]
    pub(super) fn is_usual<S: Source>(&self, source: &S, index: u32) -> bool {
        self.room != 0
            && self.usual == source.shape(index)
            && (S::ALL_PLAIN || self.traits == source.traits(index))
            && source.reserved(index) == 0
    }

    /// How many datagrams a message adds, and how many more may follow it; None: it must not join.
    pub(super) fn takes(&self, shape: Shape, traits: Traits) -> Option<(u32, u32)> {
        let length = shape.length();
        // An empty one would be nothing in a train.
        if self.room == 0 || self.traits != traits || length == 0 {
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
