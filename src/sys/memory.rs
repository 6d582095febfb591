//! Memory: anonymous mappings that forked children do not inherit, and allocations that may fail.

use std::alloc::Layout;
use std::ptr::NonNull;

use super::fork;
use crate::error::{Error, Result};

/// One anonymous private mapping, or the caller's memory in place of one.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    size: usize,
    generation: u32,
    is_borrowed: bool,
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
                format_args!(
                    "pool: mapping {size} bytes failed: {}; a smaller pool, or a larger RLIMIT_AS, may help",
                    crate::error::describe(errno)
                ),
            ));
        }
        let base = NonNull::new(base.cast()).expect("mmap does not map the null page");
        let mapping = Self { base, size, generation: fork::generation(), is_borrowed: false };
        // SAFETY: the range is the mapping just made.
        if unsafe { libc::madvise(mapping.base.as_ptr().cast(), size, libc::MADV_DONTFORK) } != 0 {
            return Err(Error::last_os("madvise(MADV_DONTFORK)"));
        }
        Ok(mapping)
    }

    /// The caller's memory, which stays mapped.
    pub(crate) fn borrowed(memory: NonNull<[u8]>) -> Self {
        let (base, size) = (memory.cast(), memory.len());
        Self { base, size, generation: fork::generation(), is_borrowed: true }
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
        // A forked child has nothing of ours at this address, and may have something else there.
        if self.generation == fork::generation() && !self.is_borrowed {
            // SAFETY: the mapping is ours; its owner drops it when nothing refers to it.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
        }
    }
}

/// Allocates `value`, or says that there is no memory. (`Box::new` would abort.)
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>> {
    const { assert!(size_of::<T>() > 0) };
    // SAFETY: the layout is not empty.
    let place = unsafe { std::alloc::alloc(Layout::new::<T>()) }.cast::<T>();
    if place.is_null() {
        return Err(OUT_OF_MEMORY);
    }
    // SAFETY: the place was allocated by the global allocator with T's layout, as Box demands.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place))
    }
}

/// A vector with room for `capacity` elements, or -ENOMEM.
pub(crate) fn try_vec<T>(capacity: usize) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(capacity).map_err(|_| OUT_OF_MEMORY)?;
    Ok(vector)
}

/// A slice of `length` elements, each as `element` makes it, or -ENOMEM.
pub(crate) fn try_slice<T>(length: usize, mut element: impl FnMut() -> T) -> Result<Box<[T]>> {
    let mut vector = try_vec(length)?;
    vector.extend(std::iter::repeat_with(&mut element).take(length));
    Ok(vector.into_boxed_slice())
}

/// `length` integers, all 0, in pages that the kernel supplies when they are first written to.
pub(crate) fn try_zeroed(length: usize) -> Result<Box<[i32]>> {
    let layout = Layout::array::<i32>(length).map_err(|_| OUT_OF_MEMORY)?;
    if length == 0 {
        return Ok(Box::default());
    }
    // SAFETY: the layout is not empty.
    let place = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<i32>();
    if place.is_null() {
        return Err(OUT_OF_MEMORY);
    }
    // SAFETY: the place was allocated by the global allocator with the slice's layout, as Box
    // demands, and 0 is an i32.
    Ok(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(place, length)) })
}

/// Room for one more element in `vector`, or -ENOMEM.
pub(crate) fn try_reserve_one<T>(vector: &mut Vec<T>) -> Result<()> {
    vector.try_reserve(1).map_err(|_| OUT_OF_MEMORY)
}

/// Room for `total` elements in `vector`, or -ENOMEM.
pub(crate) fn try_reserve_total<T>(vector: &mut Vec<T>, total: usize) -> Result<()> {
    let more = total.saturating_sub(vector.len());
    vector.try_reserve(more).map_err(|_| OUT_OF_MEMORY)
}

pub(crate) const OUT_OF_MEMORY: Error = Error::new(libc::ENOMEM, "out of memory");
