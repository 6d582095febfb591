//! Messages to trains: which messages go out together. Pure: no system calls, no sockets.
//!
//! Each peer has at most one open group. A message joins its peer's open group or begins a new
//! one, which closes the other: so packets to one peer stay in order whatever else differs, and
//! peers do not hinder each other. A path is looked up by its address first, which is all that
//! is needed when messages share path structs, and by its content where that fails.

use crate::error::Result;

use super::message::{Item, RINGMSG_MESSAGE_ALONE, RINGMSG_MESSAGE_TIMESTAMP, Source, Traits};
use super::path::{Path, Peer, RINGMSG_PATH_REMOTE};
use super::scratch::{Array, Scratch, Zeroed};

/// No position, no group.
pub(super) const NONE: u32 = u32::MAX;

/// Messages that go out as one train, or one message.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub path: *const Path,
    pub traits: Traits,
    /// Bytes of each datagram but the last.
    pub size: u32,
    pub datagrams: u32,
    /// How many more datagrams of `size` may join; 0: closed.
    room: u32,
    /// Positions of its messages: from here, along the links.
    pub first: u32,
    pub last: u32,
    pub messages: u32,
    pub peer: Peer,
    /// It is a train that cannot go out as one: cut it.
    pub cut: bool,
    /// Its messages were given one after the other.
    pub in_a_row: bool,
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

/// A place of the table of peers. It is empty unless the stamp is that of the running batch.
#[derive(Clone, Copy)]
struct Place {
    stamp: u32,
    /// The peer's latest group.
    group: u32,
}

/// A path that was looked up in this batch, by its address.
#[derive(Clone, Copy)]
struct Seen {
    path: *const Path,
    stamp: u32,
    /// Its peer's place.
    place: u32,
}

// SAFETY: integers and a raw pointer.
unsafe impl Zeroed for Place {}
// SAFETY: as above.
unsafe impl Zeroed for Seen {}

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
            self.peers.fill(Place { stamp: 0, group: 0 });
            self.seen.fill(Seen { path: std::ptr::null(), stamp: 0, place: 0 });
            self.stamp = 1;
        }
        self.stamp
    }
}

/// The longest UDP payload of a datagram, and so of a train: 65,535 bytes without the headers.
const BYTES_MAX_V4: u32 = 65_507;
const BYTES_MAX_V6: u32 = 65_527;

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

/// The same, with the limit on a train's bytes.
#[inline(always)]
pub(super) fn train_max(policy: &impl Policy, path: &Path, peer: Peer, size: u32) -> u32 {
    let bytes = if peer == Peer::V6 { BYTES_MAX_V6 } else { BYTES_MAX_V4 };
    let datagrams = policy.train_max(path, size);
    if u64::from(datagrams) * u64::from(size) <= u64::from(bytes) { datagrams } else { (bytes / size).max(1) }
}

impl Group {
    /// A group of one message. Fails with the errno that is the message's result.
    #[inline(always)]
    fn new(item: &Item, position: u32, policy: &impl Policy) -> std::result::Result<Self, i32> {
        // SAFETY: the source's maker promises that its paths are readable.
        let path = unsafe { &*item.path };
        let peer = path.peer_on(policy.domain())?;
        if item.traits != Traits::default() {
            policy.check(&item.traits)?;
        }
        let mut group = Self {
            path: item.path,
            traits: item.traits,
            size: item.length,
            datagrams: 1,
            room: 0,
            first: position,
            last: position,
            messages: 1,
            peer,
            cut: false,
            in_a_row: true,
        };
        let alone = item.traits.flags & (RINGMSG_MESSAGE_ALONE | RINGMSG_MESSAGE_TIMESTAMP) != 0;
        let may_grow = policy.joins() && !alone && item.length != 0;
        if item.is_train() {
            group.begin_with_train(item, path, may_grow, policy);
        } else if may_grow {
            group.room = train_max(policy, path, peer, group.size) - 1;
        }
        Ok(group)
    }

    fn begin_with_train(&mut self, item: &Item, path: &Path, may_grow: bool, policy: &impl Policy) {
        self.size = item.segment_size;
        self.datagrams = item.length.div_ceil(self.size);
        let max = train_max(policy, path, self.peer, self.size);
        self.cut = self.datagrams > max;
        if may_grow && !self.cut && item.length % self.size == 0 {
            self.room = max - self.datagrams;
        }
    }

    /// How many datagrams the message adds, and whether it is the last that may join; None: it
    /// must not.
    #[inline(always)]
    fn takes(&self, item: &Item) -> Option<(u32, bool)> {
        if self.room == 0 || self.traits != item.traits {
            return None;
        }
        if (item.length, item.segment_size) == (self.size, 0) {
            return Some((1, false));
        }
        self.takes_other(item)
    }

    fn takes_other(&self, item: &Item) -> Option<(u32, bool)> {
        if item.length == 0 {
            return None; // in a train it would be nothing
        }
        if !item.is_train() {
            return (item.length <= self.size).then_some((1, item.length < self.size));
        }
        let datagrams = item.length.div_ceil(item.segment_size);
        let joins = item.segment_size == self.size && datagrams <= self.room;
        joins.then_some((datagrams, item.length % item.segment_size != 0))
    }

    #[inline(always)]
    fn join(&mut self, position: u32, (datagrams, closes): (u32, bool), links: &mut [Link]) {
        links[self.last as usize].next = position;
        self.in_a_row &= self.last + 1 == position;
        self.last = position;
        self.messages += 1;
        self.datagrams += datagrams;
        self.room = if closes { 0 } else { self.room - datagrams };
    }
}

/// What `gather` made of the messages it took.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The index to go on from.
    pub next: u32,
    pub groups: usize,
    /// Messages that got an errno as their result: nothing of them is in a group.
    pub errors: u32,
    /// Some group must be cut.
    pub cuts: bool,
}

/// Path, place and group of the latest message: the likeliest for the next.
struct Latest {
    path: *const Path,
    place: usize,
    group: u32,
}

struct Gather<'a, P> {
    policy: &'a P,
    parts: &'a mut [libc::iovec],
    links: &'a mut [Link],
    groups: &'a mut [Group],
    peers: &'a mut [Place],
    seen: &'a mut [Seen],
    keys: [u64; 3],
    stamp: u32,
    taken: usize,
    made: usize,
    latest: Latest,
}

/// Takes messages from `from` on, at most `batch`, and groups them.
/// With `resume` only those whose result is -EAGAIN.
pub(super) fn gather<S: Source, P: Policy>(
    scratch: &mut Scratch,
    source: &mut S,
    policy: &P,
    (from, batch): (u32, usize),
    resume: bool,
) -> Gathered {
    debug_assert!(batch <= scratch.batch);
    let stamp = scratch.tables.next_stamp();
    let mut gather = Gather {
        policy,
        parts: &mut scratch.parts,
        links: &mut scratch.links,
        groups: &mut scratch.groups,
        peers: &mut scratch.tables.peers,
        seen: &mut scratch.tables.seen,
        keys: scratch.tables.keys,
        stamp,
        taken: 0,
        made: 0,
        latest: Latest { path: std::ptr::null(), place: 0, group: 0 },
    };
    let mut gathered = Gathered { next: from, ..Gathered::default() };
    while gathered.next < source.count() && gather.taken < batch {
        let index = gathered.next;
        gathered.next += 1;
        if resume && source.result(index) != -libc::EAGAIN {
            source.skip(index);
            continue;
        }
        if let Err(errno) = source.item(index).and_then(|item| gather.take(index, &item)) {
            source.set_result(index, -errno);
            gathered.errors += 1;
        }
    }
    gathered.groups = gather.made;
    gathered.cuts = gather.groups[..gather.made].iter().any(|group| group.cut);
    gathered
}

impl<P: Policy> Gather<'_, P> {
    #[inline(always)]
    fn take(&mut self, index: u32, item: &Item) -> std::result::Result<(), i32> {
        let position = self.taken;
        if !self.policy.joins() {
            self.begin(position, item)?;
        } else if item.path == self.latest.path {
            self.join_or_begin(position, item, self.latest.place, self.latest.group)?;
        } else {
            let (place, group) = self.find(item.path);
            self.join_or_begin(position, item, place, group)?;
            let place = place as u32;
            let at = self.seen_at(item.path);
            self.seen[at] = Seen { path: item.path, stamp: self.stamp, place };
        }
        let base = item.payload.cast_mut().cast();
        self.parts[position] = libc::iovec { iov_base: base, iov_len: item.length as usize };
        self.links[position] = Link { index, next: NONE };
        self.taken += 1;
        Ok(())
    }

    /// `group` is the latest of the peer at `place`; NONE if that is on another path, or not there.
    #[inline(always)]
    fn join_or_begin(
        &mut self,
        position: usize,
        item: &Item,
        place: usize,
        group: u32,
    ) -> std::result::Result<(), i32> {
        if group != NONE {
            let open = &mut self.groups[group as usize];
            if let Some(how) = open.takes(item) {
                open.join(position as u32, how, self.links);
                self.latest = Latest { path: item.path, place, group };
                return Ok(());
            }
        }
        let group = self.begin(position, item)?;
        self.peers[place] = Place { stamp: self.stamp, group };
        self.latest = Latest { path: item.path, place, group };
        Ok(())
    }

    #[inline(always)]
    fn begin(&mut self, position: usize, item: &Item) -> std::result::Result<u32, i32> {
        self.groups[self.made] = Group::new(item, position as u32, self.policy)?;
        self.made += 1;
        Ok(self.made as u32 - 1)
    }

    /// The place of a path's peer, and the peer's latest group if that is on the same path.
    #[inline(always)]
    fn find(&self, path: *const Path) -> (usize, u32) {
        let seen = &self.seen[self.seen_at(path)];
        if (seen.path, seen.stamp) != (path, self.stamp) {
            return self.find_by_content(path);
        }
        let place = seen.place as usize;
        let group = self.peers[place].group;
        let other = self.groups[group as usize].path;
        // SAFETY: the source's maker promises that its paths are readable.
        let same = other == path || unsafe { (*other).is_equal(&*path) };
        (place, if same { group } else { NONE })
    }

    #[inline(always)]
    fn find_by_content(&self, path: *const Path) -> (usize, u32) {
        // SAFETY: the source's maker promises that its paths are readable.
        let path = unsafe { &*path };
        let mask = self.peers.len() - 1;
        let mut at = self.hash(path) as usize & mask;
        loop {
            let Place { stamp, group } = self.peers[at];
            if stamp != self.stamp {
                return (at, NONE);
            }
            // SAFETY: as above.
            let other = unsafe { &*self.groups[group as usize].path };
            if other.is_equal(path) {
                return (at, group);
            }
            if other.has_same_peer(path) {
                return (at, NONE);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(always)]
    fn seen_at(&self, path: *const Path) -> usize {
        let spread = (path.addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread >> 32) as usize & (self.seen.len() - 1)
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
