//! Faults at system calls, without a hook in the library: it enters the kernel through syscall(3)
//! and recvmmsg(2), and the definitions in this program take precedence over libc's.

use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering::Relaxed};

/// How many of the next entries fail, and with which errno.
static LEFT: AtomicI32 = AtomicI32::new(0);
static ERRNO: AtomicI32 = AtomicI32::new(0);

/// What the kernel answers without memory, without room, and to a signal.
const ERRNOS: [i32; 5] = [libc::EAGAIN, libc::EBUSY, libc::ENOMEM, libc::EINTR, libc::EPERM];

/// The next entries fail.
pub fn inject(count: u8, errno: u8) {
    ERRNO.store(ERRNOS[usize::from(errno) % ERRNOS.len()], Relaxed);
    LEFT.store(i32::from(count % 8), Relaxed);
}

pub fn clear() {
    LEFT.store(0, Relaxed);
    ERRNO.store(0, Relaxed);
}

/// Since the last `clear` a fault was injected that a call may pass on as `code`.
pub fn may_cause(code: i32) -> bool {
    let errno = ERRNO.load(Relaxed);
    errno != 0 && [-errno, -libc::EAGAIN, -libc::EBUSY].contains(&code)
}

fn fails() -> bool {
    let fails = LEFT.load(Relaxed) > 0;
    if fails {
        LEFT.fetch_sub(1, Relaxed);
        // SAFETY: this thread's errno.
        unsafe { *libc::__errno_location() = ERRNO.load(Relaxed) };
    }
    fails
}

type Syscall = unsafe extern "C" fn(i64, ...) -> i64;

fn libcs() -> Syscall {
    static FOUND: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
    let mut found = FOUND.load(Relaxed);
    if found.is_null() {
        // SAFETY: a name that ends with NUL.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
        FOUND.store(found, Relaxed);
    }
    // SAFETY: libc's function has this type.
    unsafe { std::mem::transmute::<*mut libc::c_void, Syscall>(found) }
}

/// Not every caller passes six arguments; the kernel ignores what is read beyond them. (The ABI
/// passes the fixed arguments of this function as it does variadic ones, on x86-64 and on aarch64.)
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(number: i64, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64 {
    if number == libc::SYS_io_uring_enter && fails() {
        return -1;
    }
    // SAFETY: what the caller of this function has promised.
    unsafe { libcs()(number, a, b, c, d, e, f) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvmmsg(fd: i32, headers: i64, count: u32, flags: i32, timeout: i64) -> i32 {
    if fails() {
        return -1;
    }
    // SAFETY: what the caller of this function has promised.
    unsafe {
        libcs()(libc::SYS_recvmmsg, i64::from(fd), headers, i64::from(count), i64::from(flags), timeout)
            as i32
    }
}
