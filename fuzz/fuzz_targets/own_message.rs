//! A msghdr of the caller's, and all it points to.

pub struct OwnMessage {
    header: libc::msghdr,
    parts: [libc::iovec; 3],
    payload: [u8; 3000],
    name: [u64; 16],
    control: [u64; 16],
}

impl OwnMessage {
    /// One of the shapes that a caller may choose: no part, one or three, with or without room for
    /// a name and for control messages.
    pub fn new(shape: u8) -> Box<Self> {
        // SAFETY: all zero is a valid value of every field.
        let mut own: Box<Self> = Box::new(unsafe { std::mem::zeroed() });
        let base = own.payload.as_mut_ptr();
        for (at, length) in [(0, 7), (1000, 0), (2000, 1000)].into_iter().enumerate() {
            // SAFETY: the offsets and lengths lie inside the payload.
            own.parts[at] = libc::iovec { iov_base: unsafe { base.add(length.0) }.cast(), iov_len: length.1 };
        }
        own.header.msg_iov = own.parts.as_mut_ptr();
        own.header.msg_iovlen = [1, 3, 3, 0][usize::from(shape % 4)];
        if shape & 4 != 0 {
            (own.header.msg_name, own.header.msg_namelen) = (own.name.as_mut_ptr().cast(), 128);
        }
        if shape & 8 != 0 {
            (own.header.msg_control, own.header.msg_controllen) = (own.control.as_mut_ptr().cast(), 128);
        }
        own
    }

    pub fn header(&mut self) -> &mut libc::msghdr {
        &mut self.header
    }
}

impl Drop for OwnMessage {
    fn drop(&mut self) {
        let header = &raw const self.header;
        // SAFETY: the kernel wrote the control messages, or the space is zero, which ends the walk.
        // Descriptors among them are this program's to close.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while !message.is_null() && (*message).cmsg_len >= size_of::<libc::cmsghdr>() {
                if ((*message).cmsg_level, (*message).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                    let count = ((*message).cmsg_len - size_of::<libc::cmsghdr>()) / 4;
                    for at in 0..count {
                        libc::close(libc::CMSG_DATA(message).cast::<i32>().add(at).read_unaligned());
                    }
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
    }
}
