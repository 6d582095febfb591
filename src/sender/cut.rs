//! Trains that cannot go out as one: because the kernel or the path refused it, has no trains at
//! all, or takes none as long. Their datagrams go out in pieces, singly or as shorter trains.

use std::ops::ControlFlow;

use crate::sys::clock;

use super::encode;
use super::group::{self, Group, NONE};
use super::headers;
use super::limits;
use super::message::Source;
use super::refused::Cause;
use super::scratch::{CONTROL_WORDS, PIECES};
use super::submit::{Call, Stop, send_all};

/// Groups that are looked at once a path is known to take no trains. The ones behind them are
/// refused by the kernel, and so found out, when it is their turn. A batch in which every peer
/// refuses trains would otherwise take time by the square of its length.
const LOOK_AHEAD: usize = 64;

/// How far a train has gone.
struct Cutter {
    group: Group,
    /// Its place among the groups.
    at: usize,
    /// Position of the message whose turn it is, and how many of its bytes have gone.
    position: u32,
    offset: u32,
    /// Datagrams in a piece; 1 once a piece was refused.
    per_piece: u32,
    /// The errno with which a train was refused, and how many datagrams that had: until a datagram
    /// alone has gone, or not.
    refused: Option<(i32, u32)>,
    /// The next datagram is the first that goes alone.
    is_test: bool,
    /// Nothing of it has gone: the first piece asks for the timestamp.
    is_fresh: bool,
}

/// Errnos that say something about one message, not about where it goes.
fn concerns_message(errno: i32) -> bool {
    matches!(errno, libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EFAULT)
}

impl<S: Source> Call<'_, S> {
    /// Sends the group at `at` in pieces. `refused`: the errno with which it was refused as one.
    /// Returns the nearest of the groups behind it that are to be cut now as well.
    pub(super) fn cut(
        &mut self,
        at: usize,
        groups: usize,
        refused: Option<i32>,
    ) -> Result<Option<usize>, Stop> {
        let group = self.scratch.groups[at];
        let mut cutter = Cutter {
            group,
            at,
            position: group.first,
            offset: 0,
            per_piece: if refused.is_some() { 1 } else { self.longest_piece(&group) },
            refused: refused.map(|errno| (errno, group.datagrams)),
            is_test: refused.is_some(),
            is_fresh: true,
        };
        self.tally.fallbacks += u64::from(refused.is_some());
        let mut nearest = None;
        while cutter.position != NONE {
            let pieces = self.lay_out(&cutter);
            let headers = &mut self.scratch.piece_headers[..pieces];
            match send_all(self.channel.fd(), headers, self.tally) {
                Ok(sent) => {
                    self.sent(sent < pieces);
                    nearest = nearest.or(self.learn(&mut cutter, groups));
                    self.advance(&mut cutter, sent);
                }
                Err(libc::EAGAIN) => {
                    if let Err(stop) = self.full() {
                        self.leave_cut(&mut cutter);
                        self.leave(at + 1, groups);
                        return Err(stop);
                    }
                }
                Err(errno) if self.is_own(errno, &{ self.scratch.piece_headers[0].msg_hdr }) => {
                    if self.piece_refused(&mut cutter, errno).is_break() {
                        break;
                    }
                }
                Err(_) => {} // it was the socket's: try again
            }
        }
        Ok(nearest)
    }

    /// How many datagrams a piece of a train may have that is too long, or that the path refuses.
    fn longest_piece(&self, group: &Group) -> u32 {
        // SAFETY: a path is readable for as long as the source is used.
        let path = unsafe { &*group.path };
        group::train_max(&self.known(), path, group.peer, group.size())
    }

    /// Writes the headers of the next pieces; returns how many.
    fn lay_out(&mut self, cutter: &Cutter) -> usize {
        let group = &cutter.group;
        // SAFETY: as above.
        let path = unsafe { &*group.path };
        let limits = &self.channel.limits;
        let index = self.scratch.links[group.first as usize].index;
        let what = headers::circumstances(limits, self.channel.fd(), group);
        let mut more = headers::more(limits, &self.source, group, index);
        more.segment_size = more.segment_size.filter(|_| cutter.per_piece > 1);
        let mut header = self.scratch.headers[cutter.at].msg_hdr;
        let control = self.scratch.piece_control.as_mut_ptr();
        header.msg_iovlen = 1;
        let bytes = (cutter.per_piece * group.size()) as usize;
        let most = if cutter.is_test { 1 } else { PIECES };
        let (mut position, mut offset, mut pieces) = (cutter.position, cutter.offset as usize, 0);
        while position != NONE && pieces < most {
            if pieces < 2 {
                // One timestamp is asked for, as of a train that goes out as one.
                if !cutter.is_fresh || pieces > 0 {
                    (more.timestamping, more.timestamp_id) = (0, None);
                }
                header.msg_control = control.wrapping_add(pieces * CONTROL_WORDS).cast();
                // SAFETY: there is room for the control messages of two groups.
                let length = unsafe {
                    let length = encode::encode_control(group, path, what, header.msg_control.cast());
                    encode::add_control(more, header.msg_control.cast(), length)
                };
                header.msg_controllen = length as _;
            }
            let part = self.scratch.parts[position as usize];
            let length = bytes.min(part.iov_len - offset);
            self.scratch.piece_parts[pieces] =
                libc::iovec { iov_base: part.iov_base.wrapping_byte_add(offset), iov_len: length };
            header.msg_iov = &raw mut self.scratch.piece_parts[pieces];
            self.scratch.piece_headers[pieces].msg_hdr = header;
            pieces += 1;
            offset += length;
            if offset == part.iov_len {
                (position, offset) = (self.scratch.links[position as usize].next, 0);
            }
        }
        pieces
    }

    /// Pieces were sent. A datagram alone went where a train did not: that is remembered.
    fn advance(&mut self, cutter: &mut Cutter, sent: usize) {
        for piece in 0..sent {
            let length = self.scratch.piece_parts[piece].iov_len as u32;
            let datagrams = length.div_ceil(cutter.group.size());
            self.tally.datagrams += u64::from(datagrams);
            self.tally.payload_bytes += u64::from(length);
            self.tally.trains += u64::from(datagrams > 1);
            cutter.offset += length;
            if cutter.offset as usize == self.scratch.parts[cutter.position as usize].iov_len {
                self.end_message(cutter);
            }
        }
        cutter.is_fresh = false;
        cutter.is_test = false;
    }

    /// The message whose turn it is is dealt with: what of it has gone is its result.
    fn end_message(&mut self, cutter: &mut Cutter) {
        let link = self.scratch.links[cutter.position as usize];
        self.source.set_result(link.index, cutter.offset as i32);
        self.settled += 1;
        self.tally.messages += 1;
        (cutter.position, cutter.offset) = (link.next, 0);
    }

    /// The message whose turn it is was refused.
    fn fail_message(&mut self, cutter: &mut Cutter, errno: i32) {
        if cutter.offset > 0 {
            self.end_message(cutter);
        } else {
            cutter.position = self.fail(cutter.position, errno);
        }
    }

    /// The first of the pieces was refused. Breaks when the rest would be refused as well.
    fn piece_refused(&mut self, cutter: &mut Cutter, errno: i32) -> ControlFlow<()> {
        let starved = matches!(errno, libc::ENOBUFS | libc::ENOMEM);
        if cutter.per_piece > 1 && !starved {
            let datagrams = self.scratch.piece_parts[0].iov_len.div_ceil(cutter.group.size() as usize);
            cutter.refused = Some((errno, datagrams as u32));
            (cutter.per_piece, cutter.is_test) = (1, true);
            self.tally.fallbacks += 1;
            return ControlFlow::Continue(());
        }
        self.fail_message(cutter, errno);
        let is_test = std::mem::replace(&mut cutter.is_test, false);
        if !is_test || cutter.refused.is_none_or(|(before, _)| before != errno) || concerns_message(errno) {
            return ControlFlow::Continue(());
        }
        while cutter.position != NONE {
            self.fail_message(cutter, errno);
        }
        ControlFlow::Break(())
    }

    /// Of a train that stops here, leaves what has not begun to be given again.
    fn leave_cut(&mut self, cutter: &mut Cutter) {
        if cutter.offset > 0 {
            self.end_message(cutter);
        }
        self.leave_group(cutter.position);
    }

    /// A datagram has gone alone. If a train was refused before, the path is remembered, and groups
    /// behind it that would meet the same are cut: returns the nearest.
    fn learn(&mut self, cutter: &mut Cutter, groups: usize) -> Option<usize> {
        let group = &cutter.group;
        let mut is_kernels = false;
        let cause = match cutter.refused.take() {
            None | Some((libc::EFAULT, _)) => return None, // a payload's own
            Some((libc::EINVAL, datagrams)) if limits::note_too_many_segments(datagrams) => {
                is_kernels = true;
                None
            }
            Some((libc::EINVAL | libc::EMSGSIZE, _)) => Some(Cause::Size(group.size())),
            Some(_) => Some(Cause::Trains),
        };
        // SAFETY: a path is readable for as long as the source is used.
        let path = unsafe { &*group.path };
        if let Some(cause) = cause {
            self.now_ns = clock::now_ns();
            self.channel.refused.note(path, cause, self.now_ns);
        }
        self.cut_alike(cutter.at, groups, is_kernels)
    }

    /// Cuts groups behind the one at `at` that would be refused like it: any of them if the limit
    /// is the kernel's, which is found out once, else those to the same peer. Returns the nearest.
    fn cut_alike(&mut self, at: usize, groups: usize, is_kernels: bool) -> Option<usize> {
        // A peer's groups are linked where messages are joined.
        let is_linked = self.channel.limits.joins && !is_kernels;
        let most = if is_kernels { groups } else { LOOK_AHEAD };
        let (mut nearest, mut behind) = (None, at);
        for _ in 0..most {
            behind = if is_linked { self.scratch.groups[behind].next_of_peer as usize } else { behind + 1 };
            if behind >= groups {
                break;
            }
            let other = self.scratch.groups[behind];
            // SAFETY: a path is readable for as long as the source is used.
            let max = group::train_max(&self.known(), unsafe { &*other.path }, other.peer, other.size());
            if other.datagrams > max {
                self.scratch.groups[behind].cut = true;
                nearest = nearest.or(Some(behind));
            }
        }
        nearest
    }
}
