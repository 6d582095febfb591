//! Fast paths for the usual messages: plain, on a path of addresses and perhaps an interface.
//! `take_other` handles all others.

use super::super::encode;
use super::super::group::{Group, Link, NONE, Policy};
use super::super::message::Source;
use super::super::path::{Path, Peer};
use super::super::scratch::{BARE_WORDS, NAME_WORDS};
use super::super::table::Found;
use super::{Gather, NOWHERE};

/// To what a quick way applies.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Bare {
    /// The longest message; 0: none.
    pub longest: u32,
    /// The same where messages are joined and nothing is overridden: on UDP sockets only.
    pub joinable: u32,
    /// How many may follow one in a train.
    pub room: u32,
    /// UDP_SEGMENT is 0 for one alone: the socket's own must be overridden.
    pub overrides: bool,
}

/// A path that says no more than addresses and an interface.
#[derive(Clone, Copy)]
enum Kind {
    V4,
    /// Mapped or not: its peer.
    V6(Peer),
    /// No path at all.
    Connected(Peer),
}

impl Kind {
    /// None: the path says more, or is bad.
    #[inline(always)]
    fn of(path: &Path, domain: i32) -> Option<Self> {
        if path.valid == 0 {
            return path.peer_on(domain).ok().map(Self::Connected);
        }
        match domain {
            libc::AF_INET6 if path.family == libc::AF_INET6 as u16 => path.bare_v6().map(Self::V6),
            libc::AF_INET | libc::AF_INET6 => path.is_bare_v4().then_some(Self::V4),
            _ => None,
        }
    }

    #[inline(always)]
    fn peer(self) -> Peer {
        match self {
            Self::V4 => Peer::V4,
            Self::V6(peer) | Self::Connected(peer) => peer,
        }
    }

    /// Writes address and control messages; returns their lengths.
    ///
    /// # Safety
    /// `name` is writable for NAME_WORDS, `control` for BARE_WORDS.
    #[inline(always)]
    unsafe fn encode(self, path: &Path, name: *mut u64, control: *mut u64) -> (u32, usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::V4 => (encode::bare_name_v4(path, name), encode::bare_control_v4(path, control)),
                Self::V6(peer) => {
                    (encode::bare_name_v6(path, name), encode::bare_control_v6(path, peer, control))
                }
                Self::Connected(_) => (0, 0),
            }
        }
    }
}

impl<P: Policy> Gather<'_, P> {
    /// Takes the messages from `index` on that are of the latest one's path and join its group, as
    /// one more datagram of usual size each. Returns how many.
    #[inline(never)]
    pub(super) fn take_run<S: Source>(&mut self, source: &mut S, index: u32, end: u32) -> u32 {
        // SAFETY: the group is made, or it is the one behind the last, which never has room.
        let group = unsafe { &mut *self.groups.add(self.latest as usize) };
        let most = group.room.min(end - index);
        let (key, shape, traits, length) = (self.latest_key, group.usual, group.traits, group.size());
        // SAFETY: no more messages are taken than there are positions.
        let (mut part, mut link) =
            unsafe { (self.parts.add(self.taken as usize), self.links.add(self.taken as usize)) };
        let (first, mut run) = (self.taken, 0);
        while run < most {
            let at = index + run;
            let is_like = source.path_key(at) == key
                && source.shape(at) == shape
                && (S::ALL_PLAIN || source.traits(at) == traits)
                && source.reserved(at) == 0;
            if !is_like {
                break;
            }
            let Some(payload) = source.payload(at, length) else { break };
            run += 1;
            // SAFETY: as above.
            unsafe {
                part.write(libc::iovec { iov_base: payload.cast_mut().cast(), iov_len: length as usize });
                link.write(Link { index: at, next: first + run });
                (part, link) = (part.add(1), link.add(1));
            }
        }
        if run > 0 {
            // SAFETY: links of positions that are taken.
            unsafe {
                (*self.links.add(group.last as usize)).next = first;
                (*link.sub(1)).next = NONE;
            }
            self.taken += run;
            group.last = self.taken - 1;
            group.messages += run;
            group.datagrams += run;
            group.room -= run;
        }
        run
    }

    /// Takes a message of the kind that nearly all are; false: it is another.
    #[inline(always)]
    pub(super) fn take_usual<S: Source>(&mut self, source: &mut S, index: u32) -> bool {
        let key = source.path_key(index);
        if let Some(number) = self.tables.known(key) {
            if self.join_usual(source, index, number) {
                (self.latest, self.latest_key) = (number, key);
                return true;
            }
        }
        self.take_by_content(source, index, key)
    }

    /// The same where the key finds no group that the message may join.
    #[inline(always)]
    fn take_by_content<S: Source>(&mut self, source: &mut S, index: u32, key: usize) -> bool {
        if !source.is_plain(index) {
            return false;
        }
        // SAFETY: the source's maker promises that its paths are readable.
        let path = source.path(key).filter(|&path| unsafe { (*path).is_to_v4() });
        let (Some(path), true) = (path, self.is_joinable(source, index)) else {
            return self.take_v6(source, index);
        };
        // SAFETY: as above.
        let found = self.tables.look(self.tables.hash_v4(unsafe { &*path }));
        if let Some(number) = found.group {
            return self.join_by_content(source, index, path, number);
        }
        // SAFETY: as above.
        if !unsafe { (*path).is_bare() } {
            return self.take_other_plain(source, index);
        }
        let Some(payload) = source.payload(index, source.shape(index).length()) else { return false };
        self.begin_bare(source, index, (Kind::V4, path, payload), Some(&found), false);
        true
    }

    /// The same on a path of IPv6 addresses.
    #[inline(never)]
    fn take_v6<S: Source>(&mut self, source: &mut S, index: u32) -> bool {
        let key = source.path_key(index);
        // SAFETY: as above.
        let bare = source.path(key).and_then(|path| unsafe { (*path).bare_v6() }.map(|peer| (path, peer)));
        let fits = self.on_v6 && self.is_joinable(source, index);
        let (Some((path, peer)), true) = (bare, fits) else {
            return self.take_other_plain(source, index);
        };
        // SAFETY: as above.
        let found = self.tables.look(self.tables.hash_v6(unsafe { &*path }));
        if let Some(number) = found.group {
            return self.join_by_content(source, index, path, number);
        }
        let Some(payload) = source.payload(index, source.shape(index).length()) else { return false };
        self.begin_bare(source, index, (Kind::V6(peer), path, payload), Some(&found), false);
        true
    }

    /// A plain message that is neither empty nor too long, on a socket where that is all it takes.
    #[inline(always)]
    fn is_joinable<S: Source>(&self, source: &S, index: u32) -> bool {
        source.shape(index).length().wrapping_sub(1) < self.bare.joinable
    }

    /// A plain message on any path. False: it ends its peer's group, or is bad.
    #[inline(never)]
    fn take_other_plain<S: Source>(&mut self, source: &mut S, index: u32) -> bool {
        let (key, length) = (source.path_key(index), source.shape(index).length());
        let path = if source.is_none(key) { Some(&raw const NOWHERE) } else { source.path(key) };
        let Some(path) = path.filter(|_| length.wrapping_sub(1) < i32::MAX as u32) else { return false };
        // SAFETY: the source's maker promises that its paths are readable.
        let where_to = unsafe { &*path };
        let found = self.policy.joins().then(|| self.tables.look(self.tables.hash(where_to)));
        if let Some(number) = found.as_ref().and_then(|found| found.group) {
            return self.join_by_content(source, index, path, number);
        }
        let kind = Kind::of(where_to, self.policy.domain()).filter(|_| length <= self.bare.longest);
        if let Some(kind) = kind {
            let Some(payload) = source.payload(index, length) else { return false };
            self.begin_bare(source, index, (kind, path, payload), found.as_ref(), self.bare.overrides);
            return true;
        }
        self.begin_plain(source, index, path, found.as_ref())
    }

    #[inline(never)]
    fn begin_plain<S: Source>(
        &mut self,
        source: &mut S,
        index: u32,
        path: *const Path,
        found: Option<&Found>,
    ) -> bool {
        let (key, length) = (source.path_key(index), source.shape(index).length());
        let Ok(group) = Group::plain(path, length, self.taken, self.policy) else { return false };
        let Some(payload) = source.payload(index, length) else { return false };
        let number = self.begin(group, found);
        self.tables.note_key(key, number, false);
        self.put(index, payload, length);
        true
    }

    /// A plain message joins this group, if the path is the same.
    #[inline(always)]
    fn join_by_content<S: Source>(
        &mut self,
        source: &mut S,
        index: u32,
        path: *const Path,
        number: u32,
    ) -> bool {
        if !self.is_same(number, path) || !self.join_plain(source, index, number) {
            return false;
        }
        let key = source.path_key(index);
        // SAFETY: the group is made.
        let shares = unsafe { (*self.groups.add(number as usize)).path } == path;
        if shares {
            (self.latest, self.latest_key) = (number, key);
        }
        self.tables.note_key(key, number, shares);
        true
    }

    /// Takes a message that joins this group, as one more datagram of usual size.
    #[inline(always)]
    fn join_usual<S: Source>(&mut self, source: &mut S, index: u32, number: u32) -> bool {
        // SAFETY: the group is made.
        let group = unsafe { &mut *self.groups.add(number as usize) };
        if !group.is_usual(source, index) {
            return false;
        }
        let length = group.size();
        let Some(payload) = source.payload(index, length) else { return false };
        self.append(group, 1, group.room - 1);
        self.put(index, payload, length);
        true
    }

    /// The same of a plain message.
    #[inline(always)]
    fn join_plain<S: Source>(&mut self, source: &mut S, index: u32, number: u32) -> bool {
        // SAFETY: the group is made.
        let (group, shape) = (unsafe { &mut *self.groups.add(number as usize) }, source.shape(index));
        if !group.is_usual_plain::<S>(shape) {
            return false;
        }
        let Some(payload) = source.payload(index, shape.length()) else { return false };
        self.append(group, 1, group.room - 1);
        self.put(index, payload, shape.length());
        true
    }

    /// Begins the first group of a peer, with a plain message on a bare path. Its header is written
    /// at once, since all its fields are known.
    #[inline(always)]
    fn begin_bare<S: Source>(
        &mut self,
        source: &S,
        index: u32,
        (kind, path, payload): (Kind, *const Path, *const u8),
        found: Option<&Found>,
        overrides: bool,
    ) {
        let (number, length) = (self.made, source.shape(index).length());
        // SAFETY: there are no more groups than messages; a header, an address and control messages
        // for each; and the path is readable.
        unsafe {
            let name = self.names.add(number as usize * NAME_WORDS);
            let control = self.bare_control.add(number as usize * BARE_WORDS);
            let header = &raw mut (*self.headers.add(number as usize)).msg_hdr;
            let (name_length, mut control_length) = kind.encode(&*path, name, control);
            if overrides {
                control_length = encode::add_override(control, control_length);
            }
            (*header).msg_namelen = name_length;
            (*header).msg_iov = self.parts.add(self.taken as usize);
            (*header).msg_iovlen = 1;
            (*header).msg_control = control.cast();
            (*header).msg_controllen = control_length as _;
            let group = Group::bare(path, kind.peer(), length, self.bare.room, self.taken);
            self.groups.add(number as usize).write(group);
        }
        self.made = number + 1;
        if let Some(found) = found {
            self.tables.note_group(found, number);
        }
        self.tables.note_key(source.path_key(index), number, false);
        self.put(index, payload, length);
    }
}
