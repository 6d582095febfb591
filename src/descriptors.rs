//! Descriptors that arrive in control messages (SCM_RIGHTS, SCM_PIDFD).
//!
//! The kernel installs them into the process before anyone has read the message. They are moved
//! into this table while the record is made, and -1 is left in their place: whatever a caller
//! does to the control slice, nothing leaks and nothing foreign is closed.

use crate::control;

/// linux/socket.h; libc has not got it.
const SCM_PIDFD: i32 = 4;

/// A row for each buffer: room for as many descriptors as its control slice can carry.
pub(crate) struct Descriptors {
    row: usize,
    counts: Box<[u16]>,
    table: Box<[i32]>,
}

impl Descriptors {
    pub(crate) fn new(buffers: u32, control_capacity: u32) -> Self {
        let row = (control_capacity as usize).saturating_sub(control::HEADER) / size_of::<i32>();
        Self { row, counts: vec![0; buffers as usize].into(), table: vec![-1; row * buffers as usize].into() }
    }

    /// Moves the descriptors of a control slice into the row of `buffer`.
    pub(crate) fn collect(&mut self, buffer: u16, slice: &mut [u8]) {
        let row = &mut self.table[usize::from(buffer) * self.row..][..self.row];
        let count = &mut self.counts[usize::from(buffer)];
        let mut at = 0;
        while let Ok(Some(message)) = control::message_at(slice, at) {
            let passes = matches!(message.kind, libc::SCM_RIGHTS | SCM_PIDFD);
            if message.level == libc::SOL_SOCKET && passes {
                let data = &mut slice[message.offset..message.offset + message.length];
                for place in data.chunks_exact_mut(size_of::<i32>()) {
                    let fd = i32::from_ne_bytes(place.try_into().expect("a chunk of four bytes"));
                    place.copy_from_slice(&(-1i32).to_ne_bytes());
                    // A pidfd slot holds a negative number when the peer is gone.
                    if fd >= 0 {
                        row[usize::from(*count)] = fd;
                        *count += 1;
                    }
                }
            }
            at = message.end();
        }
    }

    pub(crate) fn count(&self, buffer: u16) -> usize {
        usize::from(self.counts[usize::from(buffer)])
    }

    /// Hands out up to `to.len()` descriptors of `buffer`, in the order in which they came.
    pub(crate) fn take(&mut self, buffer: u16, to: &mut [i32]) -> usize {
        let count = self.count(buffer);
        let taken = count.min(to.len());
        let row = &mut self.table[usize::from(buffer) * self.row..][..count];
        to[..taken].copy_from_slice(&row[..taken]);
        row.copy_within(taken.., 0);
        self.counts[usize::from(buffer)] = (count - taken) as u16;
        taken
    }

    /// Closes what nobody took.
    pub(crate) fn close(&mut self, buffer: u16) {
        let row = &self.table[usize::from(buffer) * self.row..];
        for &fd in &row[..self.count(buffer)] {
            // SAFETY: the kernel installed the descriptor for us, and nobody else was told.
            unsafe { libc::close(fd) };
        }
        self.counts[usize::from(buffer)] = 0;
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        for buffer in 0..self.counts.len() {
            self.close(buffer as u16);
        }
    }
}

/// Closes the descriptors of a control slice that becomes no record.
pub(crate) fn close_all(slice: &mut [u8]) {
    let mut once = Descriptors::new(1, slice.len() as u32);
    once.collect(0, slice);
}
