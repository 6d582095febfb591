//! Messages to trains: which messages go out together. Pure: no system calls, no sockets.
//!
//! Each peer has at most one open group. A message joins its peer's open group or begins a new
//! one, which closes the other: so packets to one peer stay in order whatever else differs, and
//! peers do not hinder each other. A path is looked up by its address first, which is all that
//! is needed when messages share path structs, and by its content where that fails.

use crate::error::Result;

use super::message::{Given, RINGMSG_MESSAGE_ALONE, RINGMSG_MESSAGE_TIMESTAMP, Shape, Source, Traits};
use super::path::{Path, Peer, RINGMSG_PATH_REMOTE};
use super::scratch::{Array, Scratch, Zeroed};

/// No position.
pub(super) const NONE: u32 = u32::MAX;

/// Messages that go out as one train, or one message.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Group {
    pub path: *const Path,
    /// A datagram of usual size: all but the last have it.
    usual: Shape,
    pub traits: Traits,
    /// How many more datagrams of usual size may join; 0: closed.
    room: u32,
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

    /// A group of one message. Fails with the errno that is the message's result.
    #[inline(always)]
    fn new(
        given: &Given,
        path: *const Path,
        position: u32,
        policy: &impl Policy,
    ) -> std::result::Result<Self, i32> {
        // SAFETY: the source's maker promises that its paths are readable.
        let peer = unsafe { (*path).peer_on(policy.domain()) }?;
        let usual = Shape::new(given.shape.length(), 0);
        Ok(Self {
            path,
            usual,
            traits: given.traits,
            room: 0,
            first: position,
            last: position,
            messages: 1,
            datagrams: 1,
            peer,
            cut: false,
        })
    }

    /// The same of a plain message, which others may join.
    #[inline(always)]
    fn plain(
        given: &Given,
        path: *const Path,
        position: u32,
        policy: &impl Policy,
    ) -> std::result::Result<Self, i32> {
        let mut group = Self::new(given, path, position, policy)?;
        if policy.joins() {
            // SAFETY: as above.
            group.room = unsafe { train_max(policy, &*path, group.peer, group.size()) } - 1;
        }
        Ok(group)
    }

    /// And of a train, an empty message, or one that asks for something.
    fn other(
        given: &Given,
        path: *const Path,
        position: u32,
        policy: &impl Policy,
    ) -> std::result::Result<Self, i32> {
        let mut group = Self::new(given, path, position, policy)?;
        if !given.traits.is_plain() {
            policy.check(&given.traits)?;
        }
        let length = given.shape.length();
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
    fn is_usual(&self, given: &Given) -> bool {
        self.room != 0 && given.shape == self.usual && given.traits == self.traits && given.reserved == 0
    }

    /// How many datagrams a message adds, and how many more may follow it; None: it must not join.
    fn takes(&self, given: &Given) -> Option<(u32, u32)> {
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

/// A place of the table of peers: the stamp of the batch that it is of, some bits of the hash, and
/// the peer's latest group.
#[derive(Clone, Copy)]
struct Place(u64);

/// A path that was looked up in a batch by its key, and a group on it.
#[derive(Clone, Copy)]
struct Seen {
    key: usize,
    stamp: u32,
    group: u32,
}

// SAFETY: integers.
unsafe impl Zeroed for Place {}
// SAFETY: as above.
unsafe impl Zeroed for Seen {}

impl Place {
    /// A group's number fits: a batch has at most 32,768.
    const GROUP_BITS: u32 = 16;

    #[inline(always)]
    fn new(stamp: u32, hash: u64, group: u32) -> Self {
        Self(u64::from(stamp) << 32 | hash >> 48 << Self::GROUP_BITS | u64::from(group))
    }

    #[inline(always)]
    fn is_of(self, stamp: u32) -> bool {
        (self.0 >> 32) as u32 == stamp
    }

    /// It is of the same batch and may be of the same peer.
    #[inline(always)]
    fn resembles(self, other: Self) -> bool {
        (self.0 ^ other.0) >> Self::GROUP_BITS == 0
    }

    #[inline(always)]
    fn group(self) -> usize {
        self.0 as usize & ((1 << Self::GROUP_BITS) - 1)
    }
}

/// Hash tables for a batch. Nothing is cleared between batches: a new stamp empties them.
pub(super) struct Tables {
    peers: Array<Place>,
    seen: Array<Seen>,
    stamp: u32,
    /// Secret, so that nobody can choose addresses that collide.
    keys: [u64; 3],
}

impl Tables {
    pub(super) fn new(batch: usize) -> Result<Self> {
        let places = batch.next_power_of_two();
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Ok(Self {
            peers: Array::new(2 * places)?,
            seen: Array::new(places)?,
            stamp: 0,
            keys: [random(), random(), random()],
        })
    }

    fn next_stamp(&mut self) -> u32 {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.peers.fill(Place(0));
            self.seen.fill(Seen { key: 0, stamp: 0, group: 0 });
            self.stamp = 1;
        }
        self.stamp
    }
}

/// What `gather` made of the messages it took.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The index to go on from.
    pub next: u32,
    /// Positions that are taken.
    pub taken: usize,
    pub groups: usize,
    /// Messages that got an errno as their result: nothing of them is in a group.
    pub errors: u32,
    /// Some group must be cut.
    pub cuts: bool,
}

/// A batch in the making. The pointers are to arrays of at least `batch` elements, and tables of
/// their mask and one: positions and groups stay below `batch`, of which each has one message.
struct Gather<'a, P> {
    policy: &'a P,
    parts: *mut libc::iovec,
    links: *mut Link,
    groups: *mut Group,
    peers: *mut Place,
    peers_mask: usize,
    seen: *mut Seen,
    seen_mask: usize,
    keys: [u64; 3],
    stamp: u32,
    /// How many positions may be taken, and are; how many groups are made.
    batch: u32,
    taken: u32,
    made: u32,
    /// The group of the latest message, and the key of its path.
    latest: *mut Group,
    latest_key: usize,
    /// A group without room.
    none: *mut Group,
    cuts: bool,
}

/// A peer's place in the table, and its latest group.
struct Found {
    at: usize,
    hash: u64,
    /// None: there is none yet.
    group: Option<u32>,
    /// It is on the path that was looked up.
    is_same: bool,
}

/// Takes messages from `from` on, at most `batch`, and groups them. With `resume` only those whose
/// result is -EAGAIN.
pub(super) fn gather<S: Source, P: Policy>(
    scratch: &mut Scratch,
    source: &mut S,
    policy: &P,
    (from, batch): (u32, usize),
    resume: bool,
) -> Gathered {
    assert!(batch <= scratch.batch);
    let stamp = scratch.tables.next_stamp();
    // SAFETY: all zero is a group, which has no room.
    let mut none: Group = unsafe { std::mem::zeroed() };
    let mut gather = Gather {
        policy,
        parts: scratch.parts.as_mut_ptr(),
        links: scratch.links.as_mut_ptr(),
        groups: scratch.groups.as_mut_ptr(),
        peers: scratch.tables.peers.as_mut_ptr(),
        peers_mask: scratch.tables.peers.len() - 1,
        seen: scratch.tables.seen.as_mut_ptr(),
        seen_mask: scratch.tables.seen.len() - 1,
        keys: scratch.tables.keys,
        stamp,
        batch: batch as u32,
        taken: 0,
        made: 0,
        latest: &raw mut none,
        latest_key: 0,
        none: &raw mut none,
        cuts: false,
    };
    let mut gathered = Gathered { next: from, ..Gathered::default() };
    while gathered.next < source.count() && gather.taken < gather.batch {
        let index = gathered.next;
        gathered.next += 1;
        if resume && source.result(index) != -libc::EAGAIN {
            source.skip(index);
        } else if let Err(errno) = gather.take(source, index) {
            source.set_result(index, -errno);
            gathered.errors += 1;
        } else if !resume && gathered.next < source.count() {
            gathered.next += gather.take_run(source, gathered.next);
        }
    }
    Gathered { taken: gather.taken as usize, groups: gather.made as usize, cuts: gather.cuts, ..gathered }
}

impl<P: Policy> Gather<'_, P> {
    /// Takes one message.
    #[inline(always)]
    fn take<S: Source>(&mut self, source: &mut S, index: u32) -> std::result::Result<(), i32> {
        let given = source.given(index);
        let known = self.seen_group(given.path_key);
        // SAFETY: the group is made, or it is the one without room; no other reference to it is used.
        let group = unsafe { &mut *known };
        if group.is_usual(&given) {
            if let Some(payload) = source.payload(index, given.shape.length()) {
                self.append(group, 1, group.room - 1);
                self.put(index, payload, &given, known);
                return Ok(());
            }
        }
        self.take_new(source, index)
    }

    /// Takes the messages from `index` on that are of the latest one's path and join its group, as one
    /// more datagram of usual size each. Returns how many.
    #[inline(always)]
    fn take_run<S: Source>(&mut self, source: &mut S, index: u32) -> u32 {
        if source.given(index).path_key == self.latest_key { self.take_all(source, index) } else { 0 }
    }

    #[inline(never)]
    fn take_all<S: Source>(&mut self, source: &mut S, index: u32) -> u32 {
        // SAFETY: the group is made, and no other reference to it is used.
        let group = unsafe { &mut *self.latest };
        let most = group.room.min(self.batch - self.taken).min(source.count() - index);
        let like = Given { path_key: self.latest_key, shape: group.usual, traits: group.traits, reserved: 0 };
        let size = group.size();
        // SAFETY: at most as many positions are taken as there are left.
        let mut part = unsafe { self.parts.add(self.taken as usize) };
        // SAFETY: as above.
        let mut link = unsafe { self.links.add(self.taken as usize) };
        let mut run = 0;
        while run < most && source.given(index + run) == like {
            let Some(payload) = source.payload(index + run, size) else { break };
            let next = self.taken + run + 1;
            // SAFETY: as above.
            unsafe {
                part.write(libc::iovec { iov_base: payload.cast_mut().cast(), iov_len: size as usize });
                link.write(Link { index: index + run, next });
                (part, link) = (part.add(1), link.add(1));
            }
            run += 1;
        }
        if run > 0 {
            self.append(group, run, group.room - run);
            self.taken += run;
            (group.last, group.messages) = (self.taken - 1, group.messages + run - 1);
            // SAFETY: the link of the latest position.
            unsafe { (*link.sub(1)).next = NONE };
        }
        run
    }

    /// Takes a message whose path is not known by its key, or that does not join the group there.
    #[inline(never)]
    fn take_new<S: Source>(&mut self, source: &mut S, index: u32) -> std::result::Result<(), i32> {
        let given = source.given(index);
        let path = source.path(&given);
        if let (true, true, Some(path)) = (given.is_plain(), self.policy.joins(), path) {
            if let Some(payload) = source.payload(index, given.shape.length()) {
                let group = self.take_plain(&given, path)?;
                self.put(index, payload, &given, group);
                return Ok(());
            }
        }
        self.take_other(source, index)
    }

    /// A plain message: one more datagram of a group that its path's content finds, or a new group.
    #[inline(always)]
    fn take_plain(&mut self, given: &Given, path: *const Path) -> std::result::Result<*mut Group, i32> {
        let found = self.find(path);
        if let (Some(number), true) = (found.group, found.is_same) {
            // SAFETY: the group is made, and no other reference to it is used.
            let group = unsafe { &mut *self.groups.add(number as usize) };
            if group.is_usual(given) {
                self.append(group, 1, group.room - 1);
                self.remember(given.path_key, number);
                return Ok(group);
            }
            if let Some((datagrams, room)) = group.takes(given) {
                self.append(group, datagrams, room);
                self.remember(given.path_key, number);
                return Ok(group);
            }
        }
        let group = Group::plain(given, path, self.taken, self.policy)?;
        Ok(self.begin(group, &found, given.path_key))
    }

    /// Any other message: a train, an empty one, one that asks for something, a bad one; or any on a
    /// socket where none are joined.
    #[inline(never)]
    fn take_other<S: Source>(&mut self, source: &mut S, index: u32) -> std::result::Result<(), i32> {
        let given = source.given(index);
        let payload = source.payload(index, given.shape.length());
        if payload.is_none() {
            source.skip(index);
        }
        let given = given.check()?;
        let (payload, path) = (payload.ok_or(libc::EFAULT)?, source.path(&given).ok_or(libc::EFAULT)?);
        if !self.policy.joins() {
            let group = Group::other(&given, path, self.taken, self.policy)?;
            let group = self.write(group);
            self.put(index, payload, &given, group);
            return Ok(());
        }
        let found = self.find(path);
        if let (Some(number), true) = (found.group, found.is_same) {
            // SAFETY: the group is made, and no other reference to it is used.
            let group = unsafe { &mut *self.groups.add(number as usize) };
            if let Some((datagrams, room)) = group.takes(&given) {
                self.append(group, datagrams, room);
                self.put(index, payload, &given, group);
                return Ok(());
            }
        }
        let group = Group::other(&given, path, self.taken, self.policy)?;
        let group = self.begin(group, &found, given.path_key);
        self.put(index, payload, &given, group);
        Ok(())
    }

    /// Adds the message at the next position to a group, behind its last.
    #[inline(always)]
    fn append(&mut self, group: &mut Group, datagrams: u32, room: u32) {
        // SAFETY: the link of a position that is taken.
        unsafe { (*self.links.add(group.last as usize)).next = self.taken };
        group.last = self.taken;
        group.messages += 1;
        group.datagrams += datagrams;
        group.room = room;
    }

    /// Puts a message of this group at the next position.
    #[inline(always)]
    fn put(&mut self, index: u32, payload: *const u8, given: &Given, group: *mut Group) {
        let iov_len = given.shape.length() as usize;
        // SAFETY: the position is below `batch`.
        unsafe {
            let part = libc::iovec { iov_base: payload.cast_mut().cast(), iov_len };
            self.parts.add(self.taken as usize).write(part);
            self.links.add(self.taken as usize).write(Link { index, next: NONE });
        }
        self.taken += 1;
        (self.latest, self.latest_key) = (group, given.path_key);
    }

    /// Begins a group. The one that was its peer's latest is closed.
    #[inline(always)]
    fn begin(&mut self, group: Group, found: &Found, key: usize) -> *mut Group {
        let number = self.made;
        if let Some(before) = found.group {
            // SAFETY: the group is made, and no reference to it is used.
            unsafe { (*self.groups.add(before as usize)).room = 0 };
        }
        self.remember(key, number);
        // SAFETY: within the table.
        unsafe { self.peers.add(found.at).write(Place::new(self.stamp, found.hash, number)) };
        self.write(group)
    }

    #[inline(always)]
    fn write(&mut self, group: Group) -> *mut Group {
        self.cuts |= group.cut;
        // SAFETY: there are no more groups than messages.
        let place = unsafe { self.groups.add(self.made as usize) };
        // SAFETY: as above.
        unsafe { place.write(group) };
        self.made += 1;
        place
    }

    /// A group on the path that was looked up by this key. It is closed if it is not its peer's latest
    /// any more.
    #[inline(always)]
    fn seen_group(&self, key: usize) -> *mut Group {
        // SAFETY: within the table.
        let seen = unsafe { &*self.seen.add(self.seen_at(key)) };
        let known = seen.key == key && seen.stamp == self.stamp;
        // SAFETY: within the groups.
        if known { unsafe { self.groups.add(seen.group as usize) } } else { self.none }
    }

    #[inline(always)]
    fn remember(&mut self, key: usize, group: u32) {
        // SAFETY: within the table.
        unsafe { self.seen.add(self.seen_at(key)).write(Seen { key, stamp: self.stamp, group }) };
    }

    #[inline(always)]
    fn seen_at(&self, key: usize) -> usize {
        ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & self.seen_mask
    }

    /// Looks a path up by its content.
    #[inline(always)]
    fn find(&self, path: *const Path) -> Found {
        // SAFETY: the source's maker promises that its paths are readable.
        let path = unsafe { &*path };
        let hash = self.hash(path);
        let ours = Place::new(self.stamp, hash, 0);
        let mut at = hash as usize & self.peers_mask;
        loop {
            // SAFETY: within the table.
            let place = unsafe { *self.peers.add(at) };
            if place.resembles(ours) {
                let group = Some(place.group() as u32);
                // SAFETY: the group is made; paths are readable.
                let other = unsafe { &*(*self.groups.add(place.group())).path };
                if other.is_equal(path) {
                    return Found { at, hash, group, is_same: true };
                }
                if other.has_same_peer(path) {
                    return Found { at, hash, group, is_same: false };
                }
            } else if !place.is_of(self.stamp) {
                return Found { at, hash, group: None, is_same: false };
            }
            at = (at + 1) & self.peers_mask;
        }
    }

    /// Of the peer only.
    #[inline(always)]
    fn hash(&self, path: &Path) -> u64 {
        if !path.has(RINGMSG_PATH_REMOTE) {
            return 0;
        }
        let [high, low] = path.remote_words();
        let rest = u64::from(path.remote_port) | u64::from(path.remote_scope) << 32;
        let address = fold(high ^ self.keys[0], low ^ self.keys[1]);
        fold(address ^ rest, self.keys[2])
    }
}

/// Both halves of a product, mixed.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests;
