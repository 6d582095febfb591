//! Messages to groups. Pure: no system calls, no sockets.
//!
//! Each peer has at most one open group. A message joins its peer's open group or begins a new
//! one, which closes the other: so packets to one peer stay in order whatever else differs, and
//! peers do not hinder each other.

use super::encode;
use super::group::{Group, Link, NONE, Policy};
use super::message::{Shape, Source, Traits};
use super::path::{NO_PATH, Path, Peer};
use super::scratch::{BARE_WORDS, NAME_WORDS, Scratch};
use super::table::{Found, Tables};

/// The path of messages that have none.
static NOWHERE: Path = NO_PATH;

/// The errno that is a message's result.
type Refusal<T> = std::result::Result<T, i32>;

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
    /// The headers of all groups are complete.
    pub has_headers: bool,
}

/// A batch in the making. The pointers are to arrays of at least `batch` elements: positions and
/// groups stay below that, since each group has a message and each message a position.
struct Gather<'a, P> {
    policy: &'a P,
    bare: (u32, u32),
    tables: &'a mut Tables,
    parts: *mut libc::iovec,
    links: *mut Link,
    groups: *mut Group,
    headers: *mut libc::mmsghdr,
    names: *mut u64,
    bare_control: *mut u64,
    /// How many positions are taken and groups made.
    taken: u32,
    made: u32,
    /// Messages that got an errno.
    errors: u32,
    /// The group of the latest message, and the key of its path.
    latest: u32,
    latest_key: usize,
    cuts: bool,
    lacks_headers: bool,
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
    let end = source.count().min(from.saturating_add(batch as u32));
    assert!(batch <= scratch.batch);
    scratch.tables.begin();
    let mut gather = Gather {
        policy,
        bare: policy.bare(),
        tables: &mut scratch.tables,
        parts: scratch.parts.as_mut_ptr(),
        links: scratch.links.as_mut_ptr(),
        groups: scratch.groups.as_mut_ptr(),
        headers: scratch.headers.as_mut_ptr(),
        names: scratch.names.as_mut_ptr(),
        bare_control: scratch.bare_control.as_mut_ptr(),
        taken: 0,
        made: 0,
        errors: 0,
        latest: scratch.batch as u32, // which never has room
        latest_key: 0,
        cuts: false,
        lacks_headers: false,
    };
    match resume {
        true => gather.take_all::<S, true>(source, from, end),
        false => gather.take_all::<S, false>(source, from, end),
    }
    let Gather { taken, made, errors, cuts, lacks_headers, .. } = gather;
    let has_headers = !lacks_headers && taken == made;
    Gathered { next: end, taken: taken as usize, groups: made as usize, errors, cuts, has_headers }
}

impl<P: Policy> Gather<'_, P> {
    #[inline(never)]
    fn take_all<S: Source, const RESUME: bool>(&mut self, source: &mut S, from: u32, end: u32) {
        let mut index = from;
        while index < end {
            if RESUME && source.result(index) != -libc::EAGAIN {
                source.skip(index);
            } else if !RESUME && source.path_key(index) == self.latest_key {
                let run = self.take_run(source, index, end);
                index += run;
                if run > 0 {
                    continue;
                }
                self.take(source, index);
            } else {
                self.take(source, index);
            }
            index += 1;
        }
    }

    /// Takes the messages from `index` on that are of the latest one's path and join its group, as one
    /// more datagram of usual size each. Returns how many.
    #[inline(never)]
    fn take_run<S: Source>(&mut self, source: &mut S, index: u32, end: u32) -> u32 {
        // SAFETY: the group is made, or it is the one that never has room.
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
                && source.traits(at) == traits
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

    #[inline(always)]
    fn take<S: Source>(&mut self, source: &mut S, index: u32) {
        if !self.take_usual(source, index) {
            self.take_other(source, index);
        }
    }

    /// Takes a message of the kind that nearly all are; false: it is another.
    #[inline(always)]
    fn take_usual<S: Source>(&mut self, source: &mut S, index: u32) -> bool {
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
        let Some(path) = source.path(key) else { return false };
        // Neither empty nor too long. SAFETY: the source's maker promises that its paths are readable.
        let fits = source.shape(index).length().wrapping_sub(1) < self.bare.0;
        if !fits || !unsafe { (*path).is_bare_v4() } {
            return self.take_other_plain(source, index, path);
        }
        // SAFETY: as above.
        let found = self.tables.look(self.tables.hash_v4(unsafe { &*path }));
        if let Some(number) = found.group {
            return self.join_by_content(source, index, path, number);
        }
        let length = source.shape(index).length();
        let Some(payload) = source.payload(index, length) else { return false };
        let group = Group::bare(path, Peer::V4, length, self.bare.1, self.taken);
        let number = self.begin_bare(group, &found, |path, name, control| {
            // SAFETY: there is room for both.
            unsafe { (encode::bare_name_v4(path, name), encode::bare_control_v4(path, control)) }
        });
        self.tables.note_key(key, number, false);
        self.put(index, payload, length);
        true
    }

    /// The same with any other path. False: it ends its peer's group, or is bad.
    #[inline(never)]
    fn take_other_plain<S: Source>(&mut self, source: &mut S, index: u32, path: *const Path) -> bool {
        // SAFETY: the source's maker promises that its paths are readable.
        let (where_to, length) = (unsafe { &*path }, source.shape(index).length());
        let found = self.tables.look(self.tables.hash(where_to));
        if let Some(number) = found.group {
            return self.join_by_content(source, index, path, number);
        }
        if length.wrapping_sub(1) >= i32::MAX as u32 {
            return false;
        }
        let (longest, room) = self.bare;
        let peer = where_to.bare_v6().filter(|_| length <= longest && self.policy.domain() == libc::AF_INET6);
        let group = match peer {
            Some(peer) => Group::bare(path, peer, length, room, self.taken),
            None => match Group::plain(path, length, self.taken, self.policy) {
                Ok(group) => group,
                Err(_) => return false,
            },
        };
        let Some(payload) = source.payload(index, length) else { return false };
        let number = match peer {
            Some(peer) => self.begin_bare(group, &found, |path, name, control| {
                // SAFETY: there is room for both.
                unsafe { (encode::bare_name_v6(path, name), encode::bare_control_v6(path, peer, control)) }
            }),
            None => self.begin(group, &found),
        };
        self.tables.note_key(source.path_key(index), number, false);
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
        // SAFETY: the group is made, or it is the one that never has room.
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
        if !group.is_usual_plain(shape) {
            return false;
        }
        let Some(payload) = source.payload(index, shape.length()) else { return false };
        self.append(group, 1, group.room - 1);
        self.put(index, payload, shape.length());
        true
    }

    /// Begins the first group of a peer, on a bare path. Its header is written at once, since all that
    /// it needs is at hand.
    #[inline(always)]
    fn begin_bare(
        &mut self,
        group: Group,
        found: &Found,
        encode: impl FnOnce(&Path, *mut u64, *mut u64) -> (u32, usize),
    ) -> u32 {
        let number = self.made;
        // SAFETY: there are no more groups than messages; a header, an address and control messages for
        // each; and the path is readable.
        unsafe {
            let name = self.names.add(number as usize * NAME_WORDS);
            let control = self.bare_control.add(number as usize * BARE_WORDS);
            let header = &raw mut (*self.headers.add(number as usize)).msg_hdr;
            let (name_length, control_length) = encode(&*group.path, name, control);
            (*header).msg_namelen = name_length;
            (*header).msg_iov = self.parts.add(self.taken as usize);
            (*header).msg_iovlen = 1;
            (*header).msg_control = control.cast();
            (*header).msg_controllen = control_length as _;
            self.groups.add(number as usize).write(group);
        }
        self.tables.note_group(found, number);
        self.made = number + 1;
        number
    }

    /// Any other message: a train, an empty one, one that asks for something or that ends its peer's
    /// group, a bad one.
    #[cold]
    #[inline(never)]
    fn take_other<S: Source>(&mut self, source: &mut S, index: u32) {
        if let Err(errno) = self.try_to_take(source, index) {
            source.set_result(index, -errno);
            self.errors += 1;
        }
    }

    fn try_to_take<S: Source>(&mut self, source: &mut S, index: u32) -> Refusal<()> {
        let (key, shape) = (source.path_key(index), source.shape(index));
        let payload = match shape.length() {
            0 => source.empty_payload(index),
            length => source.payload(index, length),
        };
        if payload.is_none() {
            source.skip(index);
        }
        let traits = source.check(index)?;
        let path = if source.is_none(key) { Some(&raw const NOWHERE) } else { source.path(key) };
        let (Some(payload), Some(path)) = (payload, path) else { return Err(libc::EFAULT) };
        let found = self.find(path);
        let number = match found.group {
            Some(number) if self.is_same(number, path) && self.join(number, shape, traits) => number,
            _ => {
                let group = Group::other(path, shape, traits, self.taken, self.policy)?;
                self.begin(group, &found)
            }
        };
        self.tables.note_key(key, number, false);
        self.put(index, payload, shape.length());
        (self.latest, self.latest_key) = (number, key);
        Ok(())
    }

    fn find(&self, path: *const Path) -> Found {
        // SAFETY: the source's maker promises that its paths are readable; groups that are noted are
        // made.
        let (path, groups) = unsafe { (&*path, self.groups) };
        // SAFETY: as above.
        self.tables.find(path, |group| unsafe { (*(*groups.add(group as usize)).path).has_same_peer(path) })
    }

    /// A group is on this path.
    #[inline(always)]
    fn is_same(&self, number: u32, path: *const Path) -> bool {
        // SAFETY: as above.
        unsafe { (*(*self.groups.add(number as usize)).path).is_equal(&*path) }
    }

    /// Adds a message to a group on its path, if it may join.
    fn join(&mut self, number: u32, shape: Shape, traits: Traits) -> bool {
        // SAFETY: the group is made, and no other reference to it is used.
        let group = unsafe { &mut *self.groups.add(number as usize) };
        let Some((datagrams, room)) = group.takes(shape, traits) else { return false };
        self.append(group, datagrams, room);
        true
    }

    /// Begins a group. The one that was its peer's latest is closed.
    fn begin(&mut self, group: Group, found: &Found) -> u32 {
        let number = self.made;
        if let Some(before) = found.group {
            // SAFETY: the group is made, and no reference to it is used.
            unsafe { (*self.groups.add(before as usize)).room = 0 };
        }
        self.tables.note_group(found, number);
        self.cuts |= group.cut;
        self.lacks_headers |= !group.has_header;
        // SAFETY: there are no more groups than messages.
        unsafe { self.groups.add(number as usize).write(group) };
        self.made = number + 1;
        number
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

    /// Puts a message at the next position.
    #[inline(always)]
    fn put(&mut self, index: u32, payload: *const u8, length: u32) {
        let part = libc::iovec { iov_base: payload.cast_mut().cast(), iov_len: length as usize };
        // SAFETY: no more messages are taken than there are positions.
        unsafe {
            self.parts.add(self.taken as usize).write(part);
            self.links.add(self.taken as usize).write(Link { index, next: NONE });
        }
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests;
