//! Groups to the kernel: one sendmmsg(2) for as many as it takes, and a result for each message.
//!
//! sendmmsg hides errors: after some messages have gone it returns their number, and the errno of
//! the next is lost. Calling again from there tells it, unless it was the socket's pending error
//! (of an earlier datagram), which the first attempt has consumed.

use std::os::fd::RawFd;

use crate::error::{Error, Result};
use crate::sys::clock;

use super::Channel;
use super::blame::Doubt;
use super::gather::{Bare, Gathered, gather};
use super::group::{BYTES_MAX_V4, NONE, Policy};
use super::headers::{self, Sums};
use super::message::{RINGMSG_MESSAGE_ALONE, Source, Traits};
use super::path::Path;
use super::scratch::Scratch;
use super::tally::Tally;
use super::wait::Ended;
use super::{limits, refused::Refused};

/// Wait for room in the socket's buffer instead of leaving messages with -EAGAIN.
pub const RINGMSG_SEND_WAIT: u32 = 1u32 << 0;
/// Take only messages whose result is -EAGAIN.
pub const RINGMSG_SEND_RESUME: u32 = 1u32 << 1;

/// What sendmmsg(2) takes at once (UIO_MAXIOV).
const HEADERS_MAX: usize = 1024;

/// Why a call ends before all is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The socket is full, and stayed so until SO_SNDTIMEO expired, if the call waited.
    Full,
    /// A signal came while it was waited for room.
    Interrupted,
}

/// What is known of what may be sent, while messages are grouped.
pub(super) struct Known<'a> {
    domain: i32,
    /// The datagrams of a train at most, where the path has no say.
    train_max: u32,
    bare: Bare,
    joins: bool,
    transmit_times: bool,
    is_ip: bool,
    /// None: no path is remembered.
    refused: Option<&'a Refused>,
    now_ns: u64,
}

impl Policy for Known<'_> {
    #[inline(always)]
    fn domain(&self) -> i32 {
        self.domain
    }

    #[inline(always)]
    fn joins(&self) -> bool {
        self.joins
    }

    #[inline(always)]
    fn train_max(&self, path: &Path, size: u32) -> u32 {
        match self.refused {
            Some(refused) if refused.has(path, size, self.now_ns) => 1,
            _ => self.train_max,
        }
    }

    #[inline(always)]
    fn bare(&self) -> Bare {
        self.bare
    }

    #[cold]
    fn check(&self, traits: &Traits) -> std::result::Result<(), i32> {
        if traits.transmit_time_ns != 0 && !self.transmit_times {
            return Err(libc::EINVAL);
        }
        let asks = traits.flags & !RINGMSG_MESSAGE_ALONE != 0;
        if asks && !self.is_ip { Err(libc::EOPNOTSUPP) } else { Ok(()) }
    }
}

impl Channel {
    fn known(&self, now_ns: u64) -> Known<'_> {
        let limits = &self.limits;
        let train_max = if limits.trains { limits::segments_max() } else { 1 };
        let refused = (!self.refused.is_empty()).then_some(&self.refused);
        let longest = if refused.is_none() { BYTES_MAX_V4 / train_max } else { 0 };
        let bare = Bare {
            longest,
            joinable: if limits.joins && !limits.segments_by_itself { longest } else { 0 },
            room: if limits.joins { train_max - 1 } else { 0 },
            overrides: limits.segments_by_itself,
        };
        Known {
            domain: limits.kind.domain,
            train_max,
            bare,
            joins: limits.joins,
            transmit_times: limits.transmit_times,
            is_ip: limits.kind.is_ip(),
            refused,
            now_ns,
        }
    }
}

/// One call of ringmsg_send() and its like.
pub(super) struct Call<'a, S> {
    pub channel: &'a mut Channel,
    pub scratch: &'a mut Scratch,
    pub source: S,
    pub tally: &'a mut Tally,
    flags: u32,
    /// Messages with a result, other than -EAGAIN.
    pub settled: u32,
    pub now_ns: u64,
    /// Something was sent since the last wait for room.
    progress: bool,
    pub doubt: Doubt,
}

impl<'a, S: Source> Call<'a, S> {
    pub(super) fn new(
        channel: &'a mut Channel,
        scratch: &'a mut Scratch,
        source: S,
        flags: u32,
        tally: &'a mut Tally,
    ) -> Self {
        let doubt = Doubt::default();
        Self { channel, scratch, source, tally, flags, settled: 0, now_ns: 0, progress: true, doubt }
    }

    pub(super) fn run(mut self) -> Result<u32> {
        let fd = self.channel.fd();
        self.channel.limits.refresh(fd, self.source.count());
        let mut next = 0;
        while next < self.source.count() {
            self.look_at_clock();
            let gathered = self.gather(next);
            next = gathered.next;
            let sums = self.write_headers(&gathered);
            if let Err(stop) = self.submit(&gathered, &sums) {
                self.leave_from(next);
                return self.stopped(stop);
            }
        }
        Ok(self.settled)
    }

    /// The clock is read only while a path is remembered.
    fn look_at_clock(&mut self) {
        if !self.channel.refused.is_empty() {
            self.now_ns = clock::now_ns();
            self.channel.refused.expire(self.now_ns);
        }
    }

    fn gather(&mut self, from: u32) -> Gathered {
        let known = self.channel.known(self.now_ns);
        let resume = self.flags & RINGMSG_SEND_RESUME != 0;
        let batch = (from, self.channel.batch);
        let gathered = gather(self.scratch, &mut self.source, &known, batch, resume);
        self.settled += gathered.errors;
        self.tally.errors += u64::from(gathered.errors);
        gathered
    }

    /// Completes the headers of the groups.
    fn write_headers(&mut self, gathered: &Gathered) -> Sums {
        if gathered.has_headers {
            return Sums { datagrams: gathered.groups as u64, ..Sums::default() };
        }
        let (limits, fd) = (&self.channel.limits, self.channel.fd());
        headers::write(limits, fd, self.scratch, &self.source, gathered.groups)
    }

    pub(super) fn known(&self) -> Known<'_> {
        self.channel.known(self.now_ns)
    }

    fn submit(&mut self, gathered: &Gathered, sums: &Sums) -> std::result::Result<(), Stop> {
        let Gathered { groups, taken, cuts, .. } = *gathered;
        // Of the groups from `at` up to `end` none is to be cut.
        let (mut at, mut end) = (0, if cuts { 0 } else { groups });
        while at < groups {
            if at >= end {
                end = self.next_cut(at, groups);
            }
            if at == end {
                self.cut(at, groups, None)?;
                at += 1;
                continue;
            }
            let headers = &mut self.scratch.headers[at..end.min(at + HEADERS_MAX)];
            match send_all(self.channel.fd(), headers, self.tally) {
                Ok(sent) => {
                    let stopped_short = sent < headers.len();
                    self.sent(stopped_short);
                    if sent == groups {
                        self.settle_all(taken, sums);
                    } else {
                        self.settle(at, at + sent);
                    }
                    at += sent;
                }
                Err(libc::EAGAIN) => {
                    if let Err(stop) = self.full() {
                        self.leave(at, groups);
                        return Err(stop);
                    }
                }
                Err(errno) if self.is_own(errno, &{ self.scratch.headers[at].msg_hdr }) => {
                    let nearest = self.refuse(at, groups, errno)?;
                    end = nearest.map_or(end, |nearest| end.min(nearest));
                    at += 1;
                }
                Err(_) => {} // it was the socket's: try again
            }
        }
        Ok(())
    }

    /// The next group that is to be cut, or the end of what one system call takes.
    fn next_cut(&self, at: usize, groups: usize) -> usize {
        let end = groups.min(at + HEADERS_MAX);
        let cut = self.scratch.groups[at..end].iter().position(|group| group.cut);
        cut.map_or(end, |ahead| at + ahead)
    }

    /// The kernel refused the group at `at`. Returns the nearest of the groups behind it that are
    /// to be cut now.
    fn refuse(&mut self, at: usize, groups: usize, errno: i32) -> std::result::Result<Option<usize>, Stop> {
        let group = &self.scratch.groups[at];
        // No memory is every member's result: singly they would only find less of it.
        let starved = matches!(errno, libc::ENOBUFS | libc::ENOMEM);
        if group.datagrams > 1 && !starved {
            return self.cut(at, groups, Some(errno));
        }
        let mut position = group.first;
        while position != NONE {
            position = self.fail(position, errno);
        }
        Ok(None)
    }

    /// The socket is full: waits for room, if that was asked for.
    pub(super) fn full(&mut self) -> std::result::Result<(), Stop> {
        self.tally.would_block += 1;
        if self.flags & RINGMSG_SEND_WAIT == 0 {
            return Err(Stop::Full);
        }
        let fruitless = !std::mem::replace(&mut self.progress, false);
        let fd = self.channel.fd();
        self.channel.waiter.wait(fd, fruitless).map_err(|ended| match ended {
            Ended::Signal => Stop::Interrupted,
            Ended::Timeout => Stop::Full,
        })
    }

    /// A system call has sent something; `stopped_short`: not all of it, and it returned no errno.
    pub(super) fn sent(&mut self, stopped_short: bool) {
        self.progress = true;
        self.resolve_doubt();
        if stopped_short {
            self.note_stopped_short();
        }
    }

    /// Results when all groups went, at once.
    #[inline(never)]
    fn settle_all(&mut self, taken: usize, sums: &Sums) {
        let mut bytes = 0;
        for (part, link) in self.scratch.parts[..taken].iter().zip(&self.scratch.links[..taken]) {
            bytes += part.iov_len;
            self.source.set_result(link.index, part.iov_len as i32);
        }
        self.settled += taken as u32;
        self.tally.messages += taken as u64;
        self.tally.payload_bytes += bytes as u64;
        self.tally.add_sums(sums);
    }

    /// Results of some groups.
    fn settle(&mut self, from: usize, to: usize) {
        let mut sums = Sums::default();
        for at in from..to {
            let group = &self.scratch.groups[at];
            sums.add(group);
            self.settled += group.messages;
            self.tally.messages += u64::from(group.messages);
            self.tally.payload_bytes += u64::from(self.scratch.headers[at].msg_len);
            let mut position = group.first;
            while position != NONE {
                let link = self.scratch.links[position as usize];
                self.source.set_result(link.index, self.scratch.parts[position as usize].iov_len as i32);
                position = link.next;
            }
        }
        self.tally.add_sums(&sums);
    }

    /// The message at this position was refused. Returns the position that follows in its group.
    pub(super) fn fail(&mut self, position: u32, errno: i32) -> u32 {
        let link = self.scratch.links[position as usize];
        self.source.set_result(link.index, -errno);
        self.settled += 1;
        self.tally.errors += 1;
        link.next
    }

    /// Leaves messages, from this position on along its group, to be given again.
    pub(super) fn leave_group(&mut self, mut position: u32) {
        while position != NONE {
            let link = self.scratch.links[position as usize];
            self.source.set_result(link.index, -libc::EAGAIN);
            position = link.next;
        }
    }

    /// The same for whole groups.
    pub(super) fn leave(&mut self, from: usize, to: usize) {
        for at in from..to {
            self.leave_group(self.scratch.groups[at].first);
        }
    }

    /// And for messages that were not looked at yet. With RESUME they have that result already.
    fn leave_from(&mut self, next: u32) {
        if self.flags & RINGMSG_SEND_RESUME == 0 {
            for index in next..self.source.count() {
                self.source.set_result(index, -libc::EAGAIN);
            }
        }
    }

    fn stopped(&self, stop: Stop) -> Result<u32> {
        match stop {
            Stop::Interrupted => Err(Error::new(
                libc::EINTR,
                "send: a signal ended the wait for room; send again with RINGMSG_SEND_RESUME",
            )),
            Stop::Full if self.settled == 0 => Err(Error::new(
                libc::EAGAIN,
                "send: the socket's buffer is full; pass the messages again with RINGMSG_SEND_RESUME",
            )),
            Stop::Full => Ok(self.settled),
        }
    }
}

/// sendmmsg(2), not through libc's wrapper, which is a cancellation point. How many were sent, or
/// the errno of the first.
#[inline]
pub(super) fn send_all(
    fd: RawFd,
    headers: &mut [libc::mmsghdr],
    tally: &mut Tally,
) -> std::result::Result<usize, i32> {
    // No SIGPIPE from a seqpacket socket whose peer is gone.
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    tally.calls += 1;
    // SAFETY: what the headers point to lives during the call; what does not, -EFAULT tells.
    let sent = unsafe { libc::syscall(libc::SYS_sendmmsg, fd, headers.as_mut_ptr(), headers.len(), FLAGS) };
    if sent > 0 {
        return Ok(sent as usize);
    }
    // SAFETY: errno is the thread's.
    Err(unsafe { *libc::__errno_location() })
}
