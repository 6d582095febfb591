//! Creating an io_uring, and testing what it can do.

use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode};

use super::{ENTER_GETEVENTS, closed};
use crate::config::*;
use crate::diagnosis::{self, Call};
use crate::error::{Error, Result};
use crate::mode::Setup;

/// Creates the io_uring, and tries the other two system calls on it: a filter may block them
/// alone. Also returns whether this kernel has multishot recvmsg.
///
/// No flag says that. But IORING_OP_SEND_ZC came in the same kernel (6.0), and distributions
/// backport io_uring as a whole, so the list of opcodes answers, without a second ring, a socket
/// or a wait. (Were it wrong, arming a multishot would end at once with a FINAL -EINVAL.)
pub(crate) fn build(setup: &Setup) -> Result<(IoUring, bool)> {
    let ring = closed::retry(|| builder(setup).build(setup.sq_entries), lacks_memory)
        .map_err(refused(Call::Setup(setup.flags)))?;
    // SAFETY: nothing is submitted, and no argument passed.
    match unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None) } {
        Err(error) if is_blocked(&error) => return Err(refused(Call::Enter)(error)),
        // A ring that is not enabled answers -EBADFD: the call is allowed.
        _ => {}
    }
    match has_opcode(&ring, opcode::SendZc::CODE) {
        Err(error) if is_blocked(&error) => Err(refused(Call::Register)(error)),
        answer => Ok((ring, answer.unwrap_or(false))),
    }
}

/// struct io_uring_probe, with room for OPCODES opcodes.
#[repr(C)]
struct Probe {
    last_opcode: u8,
    count: u8,
    reserved: [u16; 7],
    opcodes: [ProbedOpcode; OPCODES],
}

/// struct io_uring_probe_op
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProbedOpcode {
    opcode: u8,
    reserved: u8,
    flags: u16,
    reserved2: u32,
}

const OPCODES: usize = 128;
const REGISTER_PROBE: u32 = 8;
const OPCODE_SUPPORTED: u16 = 1 << 0;

/// IORING_REGISTER_PROBE. (The io-uring crate's own probe is allocated, and aborts without memory.)
fn has_opcode(ring: &IoUring, opcode: u8) -> std::io::Result<bool> {
    let mut probe =
        Probe { last_opcode: 0, count: 0, reserved: [0; 7], opcodes: [ProbedOpcode::default(); OPCODES] };
    // SAFETY: the probe is writable, and has room for as many opcodes as is said.
    let registered = unsafe {
        let (fd, place) = (ring.as_raw_fd(), &raw mut probe);
        libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_PROBE, place, OPCODES)
    };
    if registered < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let probed = &probe.opcodes[..usize::from(probe.count).min(OPCODES)];
    Ok(probed.iter().any(|probed| probed.opcode == opcode && probed.flags & OPCODE_SUPPORTED != 0))
}

fn builder(setup: &Setup) -> io_uring::Builder {
    let has = |flag: u32| setup.flags & flag != 0;
    let mut builder = IoUring::builder();
    builder.dontfork().setup_submit_all().setup_cqsize(setup.cq_entries);
    if has(RINGMSG_SETUP_R_DISABLED) {
        builder.setup_r_disabled();
    }
    if has(RINGMSG_SETUP_SINGLE_ISSUER) {
        builder.setup_single_issuer();
    }
    if has(RINGMSG_SETUP_COOP_TASKRUN) {
        builder.setup_coop_taskrun();
    }
    if has(RINGMSG_SETUP_DEFER_TASKRUN) {
        builder.setup_defer_taskrun();
    }
    // DEFER rings always get the flag: it saves empty enters and empty wake-ups.
    if has(RINGMSG_SETUP_TASKRUN_FLAG) || has(RINGMSG_SETUP_DEFER_TASKRUN) {
        builder.setup_taskrun_flag();
    }
    if has(RINGMSG_SETUP_SQPOLL) {
        builder.setup_sqpoll(setup.sq_thread_idle_ms);
        if let Some(cpu) = setup.sq_thread_cpu {
            builder.setup_sqpoll_cpu(cpu);
        }
    }
    builder
}

fn lacks_memory(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

fn is_blocked(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES))
}

fn refused(call: Call) -> impl FnOnce(std::io::Error) -> Error {
    move |error| diagnosis::refusal(call, error.raw_os_error().unwrap_or(libc::EIO))
}
