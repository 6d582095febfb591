//! Anonymous mappings: zeroed, page-aligned, not inherited by forked children.

use std::ptr::NonNull;

use crate::error::{Error, Result};
use crate::fork;

/// One anonymous private mapping.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    size: usize,
    generation: u32,
}

// SAFETY: a mapping is memory, not thread state; who may touch which bytes when is decided by
// the pool that owns it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(size: usize) -> Result<Self> {
        // SAFETY: a fresh anonymous mapping overlaps nothing.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            let errno = error.raw_os_error().unwrap_or(libc::ENOMEM);
            return Err(Error::with(
                errno,
                format!(
                    "pool: mapping {size} bytes failed: {}; a smaller pool, or a larger RLIMIT_AS, may help",
                    crate::error::describe(errno)
                ),
            ));
        }
        let base = NonNull::new(base.cast()).expect("mmap does not map the null page");
        let mapping = Self { base, size, generation: fork::generation() };
        // SAFETY: the range is the mapping just made.
        if unsafe { libc::madvise(mapping.base.as_ptr().cast(), size, libc::MADV_DONTFORK) } != 0 {
            return Err(Error::last_os("madvise(MADV_DONTFORK)"));
        }
        Ok(mapping)
    }

    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child nothing of ours is mapped there, and something else may be.
        if self.generation == fork::generation() {
            // SAFETY: the mapping is ours; its owner drops it when nothing refers to it.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
        }
    }
}
