//! Messages to groups. Pure: no system calls, no sockets.
//!
//! Each peer has at most one open group. A message joins its peer's open group or begins a new
//! one, which closes the other: so packets to one peer stay in order whatever else differs, and
//! peers do not hinder each other.

use super::group::{Group, Link, NONE, Policy};
use super::message::{Given, Source};
use super::path::Path;
use super::scratch::Scratch;
use super::table::{Found, Tables};

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
}

/// A batch in the making. The pointers are to arrays of at least `batch` elements: positions and
/// groups stay below that, since each group has a message and each message a position.
struct Gather<'a, P> {
    policy: &'a P,
    tables: &'a mut Tables,
    parts: *mut libc::iovec,
    links: *mut Link,
    groups: *mut Group,
    /// How many positions may be taken, and are; how many groups are made.
    batch: u32,
    taken: u32,
    made: u32,
    /// The group of the latest message, and the key of its path.
    latest: u32,
    latest_key: usize,
    cuts: bool,
}

/// Takes messages from `from` on, at most `batch`, and groups them. With `resume` only those whose
/// result is -EAGAIN.
#[inline(never)]
pub(super) fn gather<S: Source, P: Policy>(
    scratch: &mut Scratch,
    source: &mut S,
    policy: &P,
    (from, batch): (u32, usize),
    resume: bool,
) -> Gathered {
    assert!(batch <= scratch.batch);
    scratch.tables.begin();
    let mut gather = Gather {
        policy,
        tables: &mut scratch.tables,
        parts: scratch.parts.as_mut_ptr(),
        links: scratch.links.as_mut_ptr(),
        groups: scratch.groups.as_mut_ptr(),
        batch: batch as u32,
        taken: 0,
        made: 0,
        latest: 0,
        latest_key: 0,
        cuts: false,
    };
    let (mut next, mut errors) = (from, 0);
    while next < source.count() && gather.taken < gather.batch {
        let index = next;
        next += 1;
        if resume && source.result(index) != -libc::EAGAIN {
            source.skip(index);
        } else if gather.take_known(source, index) {
            // That was quick.
        } else if let Err(errno) = gather.take(source, index) {
            source.set_result(index, -errno);
            errors += 1;
            continue;
        }
        if !resume && next < source.count() {
            next += gather.take_run(source, next);
        }
    }
    let Gather { taken, made, cuts, .. } = gather;
    Gathered { next, taken: taken as usize, groups: made as usize, errors, cuts }
}

impl<P: Policy> Gather<'_, P> {
    /// Takes a message that joins a group of its path, which its key finds, as one more datagram of
    /// usual size.
    #[inline(always)]
    fn take_known<S: Source>(&mut self, source: &mut S, index: u32) -> bool {
        let given = source.given(index);
        let Some(number) = self.tables.known(given.path_key) else { return false };
        // SAFETY: the group is made, and no other reference to it is used.
        let group = unsafe { &mut *self.groups.add(number as usize) };
        if !group.is_usual(&given) {
            return false;
        }
        let Some(payload) = source.payload(index, given.shape.length()) else { return false };
        self.append(group, 1, group.room - 1);
        self.put(index, payload, &given, number);
        true
    }

    /// Takes the messages from `index` on that are of the latest one's path and join its group, as one
    /// more datagram of usual size each. Returns how many.
    #[inline(always)]
    fn take_run<S: Source>(&mut self, source: &mut S, index: u32) -> u32 {
        if source.given(index).path_key == self.latest_key { self.take_all(source, index) } else { 0 }
    }

    #[inline(never)]
    fn take_all<S: Source>(&mut self, source: &mut S, index: u32) -> u32 {
        if self.taken == 0 {
            return 0;
        }
        // SAFETY: the group is made, and no other reference to it is used.
        let group = unsafe { &mut *self.groups.add(self.latest as usize) };
        let most = group.room.min(self.batch - self.taken).min(source.count() - index);
        let like = Given { path_key: self.latest_key, shape: group.usual, traits: group.traits, reserved: 0 };
        let size = group.size();
        let first = self.taken;
        let mut run = 0;
        while run < most && source.given(index + run) == like {
            let Some(payload) = source.payload(index + run, size) else { break };
            let link = Link { index: index + run, next: first + run + 1 };
            // SAFETY: at most as many positions are taken as there are left.
            unsafe { self.write(first + run, payload, size, link) };
            run += 1;
        }
        if run > 0 {
            self.append(group, run, group.room - run);
            self.taken += run;
            (group.last, group.messages) = (self.taken - 1, group.messages + run - 1);
            // SAFETY: the link of the latest position.
            unsafe { (*self.links.add(group.last as usize)).next = NONE };
        }
        run
    }

    /// Takes any message. Most are plain, which is looked at before all else.
    #[inline(never)]
    fn take<S: Source>(&mut self, source: &mut S, index: u32) -> Refusal<()> {
        let given = source.given(index);
        let Some(path) = source.path(given.path_key) else { return self.take_other(source, index) };
        if !given.is_plain() {
            return self.take_other(source, index);
        }
        let length = given.shape.length();
        let Some(payload) = source.payload(index, length) else { return self.take_other(source, index) };
        let found = self.find(path);
        let number = match found.group() {
            Some(number) if self.is_same(number, path) && self.join(number, &source.given(index), path) => {
                number
            }
            _ => {
                let group = Group::plain(length, path, self.taken, self.policy)?;
                self.begin(group, &found, given.path_key)
            }
        };
        self.put(index, payload, &given, number);
        Ok(())
    }

    /// A train, an empty message, one that asks for something, a bad one; or any on a socket where none
    /// are joined.
    #[cold]
    #[inline(never)]
    fn take_other<S: Source>(&mut self, source: &mut S, index: u32) -> Refusal<()> {
        let given = source.given(index);
        let payload = source.payload(index, given.shape.length());
        if payload.is_none() {
            source.skip(index);
        }
        let given = given.check()?;
        let (Some(payload), Some(path)) = (payload, source.path(given.path_key)) else {
            return Err(libc::EFAULT);
        };
        let found = self.find(path);
        let number = match found.group() {
            Some(number) if self.is_same(number, path) && self.join(number, &given, path) => number,
            _ => {
                let group = Group::other(&given, path, self.taken, self.policy)?;
                self.begin(group, &found, given.path_key)
            }
        };
        self.put(index, payload, &given, number);
        Ok(())
    }

    #[inline(always)]
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
    #[inline(always)]
    fn join(&mut self, number: u32, given: &Given, path: *const Path) -> bool {
        // SAFETY: the group is made, and no other reference to it is used.
        let group = unsafe { &mut *self.groups.add(number as usize) };
        if group.is_usual(given) {
            self.append(group, 1, group.room - 1);
        } else if let Some((datagrams, room)) = group.takes(given) {
            self.append(group, datagrams, room);
        } else {
            return false;
        }
        self.tables.note_key(given.path_key, number, group.path == path);
        true
    }

    /// Begins a group. The one that was its peer's latest is closed.
    #[inline(always)]
    fn begin(&mut self, group: Group, found: &Found, key: usize) -> u32 {
        let number = self.made;
        if let Some(before) = found.group() {
            // SAFETY: the group is made, and no reference to it is used.
            unsafe { (*self.groups.add(before as usize)).room = 0 };
        }
        self.tables.note_group(found, number);
        self.tables.note_key(key, number, false);
        // SAFETY: there are no more groups than messages.
        let place = unsafe { &mut *self.groups.add(number as usize) };
        *place = group;
        self.made = number + 1;
        self.cuts |= place.cut;
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

    /// Puts a message of this group at the next position.
    #[inline(always)]
    fn put(&mut self, index: u32, payload: *const u8, given: &Given, group: u32) {
        // SAFETY: a message is only taken while there are positions left.
        unsafe { self.write(self.taken, payload, given.shape.length(), Link { index, next: NONE }) };
        self.taken += 1;
        (self.latest, self.latest_key) = (group, given.path_key);
    }

    /// # Safety
    /// The position is below `batch`.
    #[inline(always)]
    unsafe fn write(&mut self, position: u32, payload: *const u8, length: u32, link: Link) {
        let part = libc::iovec { iov_base: payload.cast_mut().cast(), iov_len: length as usize };
        // SAFETY: the caller's promise.
        unsafe {
            self.parts.add(position as usize).write(part);
            self.links.add(position as usize).write(link);
        }
    }
}

#[cfg(test)]
mod tests;
