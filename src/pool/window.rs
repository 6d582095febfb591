//! The hot window: how many buffers of a pool are published at a time.
//!
//! The kernel fills buffers in the order in which they were published, so a wide window walks
//! through memory that the caches no longer hold. A narrow one runs out of buffers, which ends the
//! request: nothing is lost, but re-arming takes two kernel entries. So the window doubles when it
//! proves too narrow, halves after a second without a miss, and never spans more memory than a
//! cache holds: with GRO trains every buffer of it is 38 KB. (Measured, drained trains, ns a
//! datagram: 16 buffers 115, 8 buffers 104, 4 buffers 102.)
//!
//! Where memory bounds the window, the buffers of a batch are the only hot ones. So the window is
//! refilled once the batch is released, and not with other buffers while it is held.

const START: u32 = 64;
/// Memory never limits the window to fewer for each request that draws from it. Where many sockets
/// have data, the first few take what is published, and all the others end and are armed again.
const LEAST: u32 = 8;
/// Where the machine does not say how large its second-level cache is, bytes.
const CACHE_BYTES: u32 = 1 << 20;
const REST_NS: u64 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct Window {
    most: u32,
    /// A quarter of the second-level cache, bytes: what a batch has filled and what the next one
    /// will fill share it with the memory of the caller and of the sockets.
    hot_bytes: u32,
    size: u32,
    /// The largest batch since the window last changed.
    batch: u32,
    changed_ns: u64,
    /// Running mean of the bytes in a filled buffer.
    mean_bytes: u32,
    /// The buffers that a cache holds.
    bound: u32,
}

impl Window {
    /// A window that is never wider than `most`.
    pub(crate) fn new(most: u32) -> Self {
        Self::in_cache(most, cache_bytes())
    }

    fn in_cache(most: u32, cache_bytes: u32) -> Self {
        let hot_bytes = cache_bytes / 4;
        let size = START.min(most);
        Self { most, hot_bytes, size, batch: 0, changed_ns: 0, mean_bytes: 0, bound: most }
    }

    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// How wide memory lets the window be for this many `requests`.
    #[inline]
    fn bound(&self, requests: u32) -> u32 {
        self.bound.max(LEAST.saturating_mul(requests)).min(self.most)
    }

    /// Whether the buffers are so full that memory bounds the window.
    #[inline]
    pub(crate) fn is_bound_by_memory(&self, requests: u32) -> bool {
        self.bound(requests) < START.min(self.most)
    }

    /// It was too narrow for `requests`.
    pub(crate) fn missed(&mut self, requests: u32, now_ns: u64) {
        self.size = (self.size * 2).min(self.bound(requests));
        self.changed_ns = now_ns;
    }

    /// A reap took `batch` buffers with `bytes` in them, from `requests`.
    #[inline]
    pub(crate) fn note(&mut self, batch: u32, bytes: u64, requests: u32, now_ns: u64) {
        if batch == 0 {
            return;
        }
        // Divisions only where they tell something new.
        let mean = if batch == 1 { bytes as u32 } else { (bytes / u64::from(batch)) as u32 };
        if mean != self.mean_bytes {
            self.mean_is(mean);
        }
        self.batch = self.batch.max(batch);
        // A reap waits for half of the window at most. If that much came, more may be there.
        if 2 * batch >= self.size {
            self.size = (4 * batch).max(self.size).min(self.most);
            self.changed_ns = now_ns;
        }
        if now_ns.saturating_sub(self.changed_ns) > REST_NS {
            self.size = (self.size / 2).max(START).max(2 * self.batch);
            self.changed_ns = now_ns;
            self.batch = batch;
        }
        self.size = self.size.min(self.bound(requests));
    }

    /// The buffers of a reap held `mean` bytes each.
    fn mean_is(&mut self, mean: u32) {
        self.mean_bytes =
            if self.mean_bytes == 0 { mean } else { self.mean_bytes - self.mean_bytes / 4 + mean / 4 };
        self.bound = self.hot_bytes / self.mean_bytes.max(1);
    }
}

/// The size of the second-level cache. (musl's sysconf(3) does not know it.)
fn cache_bytes() -> u32 {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_LEVEL2_CACHE_SIZE) };
    #[cfg(not(target_env = "gnu"))]
    let bytes = 0;
    u32::try_from(bytes).ok().filter(|&bytes| bytes > 0).unwrap_or(CACHE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_double_it_up_to_the_pool() {
        let mut window = Window::new(256);
        assert_eq!(window.size(), 64);
        (1..4).for_each(|now_ns| window.missed(1, now_ns));
        assert_eq!(window.size(), 256);
    }

    #[test]
    fn a_quiet_second_halves_it_but_not_below_twice_the_batch() {
        let mut window = Window::new(1024);
        (0..4).for_each(|now_ns| window.missed(1, now_ns));
        assert_eq!(window.size(), 1024);
        window.note(100, 100 * 200, 1, 2 * REST_NS);
        assert_eq!(window.size(), 512);
        window.note(100, 100 * 200, 1, 4 * REST_NS);
        window.note(100, 100 * 200, 1, 6 * REST_NS);
        assert_eq!(window.size(), 200);
    }

    #[test]
    fn long_trains_confine_it_to_what_a_cache_holds() {
        let mut window = Window::in_cache(256, 1 << 20);
        assert!(!window.is_bound_by_memory(1));
        window.note(10, 10 * 38_400, 1, 1);
        assert_eq!(window.size(), LEAST);
        window.missed(1, 2);
        assert_eq!(window.size(), LEAST);
        assert!(window.is_bound_by_memory(1));
        let mut large = Window::in_cache(256, 4 << 20);
        large.note(10, 10 * 38_400, 1, 1);
        assert_eq!(large.size(), 27);
        (0..40).for_each(|now_ns| window.note(10, 10 * 9_000, 1, now_ns));
        window.missed(1, 3);
        assert!((16..=32).contains(&window.size()));
    }

    #[test]
    fn many_requests_are_not_confined_by_memory() {
        let mut window = Window::in_cache(2048, 1 << 20);
        (0..5).for_each(|now_ns| window.missed(200, now_ns));
        window.note(200, 200 * 1_200, 200, 6);
        assert_eq!(window.size(), 1600);
        assert!(!window.is_bound_by_memory(200));
        window.note(200, 200 * 1_200, 1, 7);
        assert_eq!(window.size(), (1 << 18) / 1_200);
    }

    #[test]
    fn small_pools_are_published_whole() {
        assert_eq!(Window::new(4).size(), 4);
    }
}
