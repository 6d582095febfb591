//! Descriptors that arrive in control messages (SCM_RIGHTS, SCM_PIDFD).
//!
//! The kernel installs them into the process before anyone has read the message. The reaper moves
//! them into this table while it makes the record, and leaves -1 in their place: whatever a caller
//! does to the control slice, nothing leaks and nothing foreign is closed.

use crate::control::{self, SCM_PIDFD};
use crate::error::Result;
use crate::ids::BufferId;
use crate::sys::memory::try_zeroed;

/// A row for each buffer of a pool: how many descriptors it holds, and room for as many as a
/// control slice can carry. The table is allocated zeroed and is not written before a descriptor
/// arrives: pages that none reaches use no memory.
pub(crate) struct ReceivedFds {
    /// Words in a row: the count, then the descriptors.
    row: usize,
    table: Box<[i32]>,
}

impl ReceivedFds {
    pub(crate) fn new(buffers: u32, control_capacity: u32) -> Result<Self> {
        let row = 1 + most_in(control_capacity as usize);
        Ok(Self { row, table: try_zeroed(row * buffers as usize)? })
    }

    fn row(&mut self, buffer: BufferId) -> &mut [i32] {
        &mut self.table[buffer.index() * self.row..][..self.row]
    }

    /// Moves the descriptors of a control slice into the row of `buffer`.
    pub(crate) fn collect(&mut self, buffer: BufferId, slice: &mut [u8]) {
        let row = self.row(buffer);
        each_descriptor(slice, |fd| {
            let count = row[0] as usize + 1;
            row[count] = fd;
            row[0] = count as i32;
        });
    }

    /// Hands out up to `to.len()` descriptors of `buffer`, in the order in which they came.
    pub(crate) fn take(&mut self, buffer: BufferId, to: &mut [i32]) -> usize {
        let row = self.row(buffer);
        let count = row[0] as usize;
        let taken = count.min(to.len());
        to[..taken].copy_from_slice(&row[1..][..taken]);
        row.copy_within(1 + taken..=count, 1);
        row[0] = (count - taken) as i32;
        taken
    }

    /// Closes the descriptors that were not taken.
    pub(crate) fn close(&mut self, buffer: BufferId) {
        let row = self.row(buffer);
        let count = row[0] as usize;
        if count > 0 {
            row[1..=count].iter().copied().for_each(close);
            row[0] = 0;
        }
    }
}

impl Drop for ReceivedFds {
    fn drop(&mut self) {
        let buffers = self.table.len() / self.row;
        (0..buffers).for_each(|buffer| self.close(BufferId(buffer as u16)));
    }
}

/// Closes the descriptors of a control slice that becomes no record.
pub(crate) fn close_in(slice: &mut [u8]) {
    each_descriptor(slice, close);
}

/// How many descriptors fit into a control slice.
fn most_in(control_capacity: usize) -> usize {
    control_capacity.saturating_sub(control::HEADER) / size_of::<i32>()
}

/// Shows `body` every descriptor of a control slice, and puts -1 in its place.
fn each_descriptor(slice: &mut [u8], mut body: impl FnMut(i32)) {
    let mut at = 0;
    while let Ok(Some(message)) = control::message_at(slice, at) {
        let passes = matches!(message.kind, libc::SCM_RIGHTS | SCM_PIDFD);
        if message.level == libc::SOL_SOCKET && passes {
            let data = &mut slice[message.offset..message.offset + message.length];
            for place in data.chunks_exact_mut(size_of::<i32>()) {
                let fd = i32::from_ne_bytes(place.try_into().expect("a chunk of four bytes"));
                place.copy_from_slice(&(-1i32).to_ne_bytes());
                // The kernel writes a negative number for the pidfd of a peer that is gone.
                if fd >= 0 {
                    body(fd);
                }
            }
        }
        at = message.end();
    }
}

fn close(fd: i32) {
    // SAFETY: the kernel installed the descriptor for this library, and no other code knows it.
    unsafe { libc::close(fd) };
}
