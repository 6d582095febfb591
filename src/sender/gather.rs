//! Messages to groups. Pure: no system calls, no sockets.
//!
//! Each peer has at most one open group. A message joins its peer's open group or begins a new
//! one, which closes the other: so packets to one peer stay in order whatever else differs, and
//! peers do not hinder each other.

use super::group::{Group, Link, NONE, Policy};
use super::message::{Shape, Source, Traits};
use super::path::{NO_PATH, Path};
use super::scratch::Scratch;
use super::table::{Found, Tables};

pub(super) use usual::Bare;

mod usual;

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
    bare: Bare,
    /// The socket is an IPv6 one.
    on_v6: bool,
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
        on_v6: policy.domain() == libc::AF_INET6,
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

    #[inline(always)]
    fn take<S: Source>(&mut self, source: &mut S, index: u32) {
        if !self.take_usual(source, index) {
            self.take_other(source, index);
        }
    }

    /// Any other message: a train, an empty one, one that asks for something or that ends its
    /// peer's group, a bad one.
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
        let found = self.policy.joins().then(|| self.find(path));
        let number = match found.as_ref().and_then(|found| found.group) {
            Some(number) if self.is_same(number, path) && self.join(number, shape, traits) => number,
            _ => {
                let group = Group::other(path, shape, traits, self.taken, self.policy)?;
                self.begin(group, found.as_ref())
            }
        };
        self.tables.note_key(key, number, false);
        self.put(index, payload, shape.length());
        (self.latest, self.latest_key) = (number, key);
        Ok(())
    }

    fn find(&self, path: *const Path) -> Found {
        // SAFETY: the source's maker promises that its paths are readable; groups that are noted
        // are made.
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
    fn begin(&mut self, group: Group, found: Option<&Found>) -> u32 {
        let number = self.made;
        if let Some(before) = found.and_then(|found| found.group) {
            // SAFETY: the group is made, and no reference to it is used.
            let before = unsafe { &mut *self.groups.add(before as usize) };
            (before.room, before.next_of_peer) = (0, number);
        }
        if let Some(found) = found {
            self.tables.note_group(found, number);
        }
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
