//! Numbers that occur in one call, as types of their own so that they cannot be confused.

/// A request's place in its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub u32);

/// A pool's place in its ring: `pool` in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolId(pub u16);

/// A buffer's place in its pool: `buffer` in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferId(pub u16);

/// A socket's place in its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketId(pub u32);

/// Numbers the uses of buffers, ring-wide, so that a stale release is refused: `generation` in a
/// record. It wraps, and is never 0 in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generation(pub u32);

macro_rules! index {
    ($($id:ident)*) => { $(
        impl $id {
            /// The number, as an index.
            #[inline(always)]
            pub(crate) const fn index(self) -> usize {
                self.0 as usize
            }
        }
    )* };
}

index!(Slot PoolId BufferId SocketId);

impl Generation {
    /// The generation after this one.
    #[inline(always)]
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1).max(1))
    }
}
