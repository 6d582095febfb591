//! The sentences, from facts that one machine cannot all have.

use super::*;

const NEW: u32 = since(6, 12);

fn says(call: Call, errno: i32, facts: &Facts, wanted: &[&str]) {
    let text = sentence(call, errno, facts);
    for words in wanted {
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
}

fn never_says(call: Call, errno: i32, facts: &Facts, unwanted: &str) {
    let text = sentence(call, errno, facts);
    assert!(!text.contains(unwanted), "{unwanted:?} is in {text:?}");
}

#[test]
fn the_sysctl_is_named_with_its_value() {
    let facts =
        |disabled| Facts { disabled: Some(disabled), seccomp: Some(0), version: NEW, ..Facts::default() };
    says(Call::Setup(0), libc::EPERM, &facts(2), &["io_uring_setup", "kernel.io_uring_disabled = 2"]);
    says(
        Call::Setup(0),
        libc::EPERM,
        &facts(1),
        &["io_uring_disabled = 1", "io_uring_group, which is not set"],
    );
    let with_group = Facts { group: Some(990), ..facts(1) };
    says(Call::Setup(0), libc::EPERM, &with_group, &["io_uring_group = 990"]);
    never_says(Call::Setup(0), libc::EPERM, &with_group, "seccomp");
}

#[test]
fn a_filter_is_blamed_when_the_sysctl_cannot_be_the_cause() {
    let filtered = Facts { disabled: Some(0), seccomp: Some(2), version: NEW, ..Facts::default() };
    says(
        Call::Setup(0),
        libc::EPERM,
        &filtered,
        &["io_uring_disabled = 0", "seccomp filter", "io_uring_register"],
    );
    let administrator = Facts { disabled: Some(1), administrator: true, ..filtered.clone() };
    says(Call::Setup(0), libc::EPERM, &administrator, &["seccomp filter"]);
    let user = Facts { administrator: false, ..administrator };
    never_says(Call::Setup(0), libc::EPERM, &user, "seccomp");
    let none = Facts { seccomp: Some(0), ..filtered.clone() };
    says(Call::Setup(0), libc::EPERM, &none, &["no seccomp filter is on", "security module"]);
    says(Call::Setup(0), libc::ENOSYS, &filtered, &["has io_uring", "seccomp filter"]);
}

#[test]
fn one_call_alone_is_blocked_by_a_filter_only() {
    let facts = Facts { disabled: Some(0), seccomp: Some(2), version: NEW, ..Facts::default() };
    for errno in [libc::EPERM, libc::ENOSYS] {
        says(Call::Enter, errno, &facts, &["io_uring_enter: ", "rings can be made", "seccomp filter"]);
        says(Call::Register, errno, &facts, &["io_uring_register: ", "rings can be made", "seccomp filter"]);
    }
}

#[test]
fn old_kernels_are_told_from_crippled_ones() {
    let facts = |version| Facts { version, seccomp: Some(0), ..Facts::default() };
    says(Call::Setup(0), libc::ENOSYS, &facts(since(4, 4)), &["4.4.0", "5.1"]);
    says(Call::Setup(0), libc::ENOSYS, &facts(since(6, 1)), &["CONFIG_IO_URING"]);
    says(Call::Setup(0), libc::EINVAL, &facts(since(5, 10)), &["5.10.0", "SUBMIT_ALL", "5.18"]);
    let defer = Call::Setup(RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER);
    says(defer, libc::EINVAL, &facts(since(6, 0)), &["DEFER_TASKRUN came with 6.1"]);
    never_says(defer, libc::EINVAL, &facts(since(6, 0)), "SINGLE_ISSUER");
    never_says(defer, libc::EINVAL, &facts(since(6, 0)), "SUBMIT_ALL");
}

#[test]
fn memory_limits_are_named_where_they_count() {
    let limited = Facts { memlock: Some(8 << 20), version: NEW, ..Facts::default() };
    says(Call::Setup(0), libc::ENOMEM, &limited, &["RLIMIT_MEMLOCK", "8192 KiB"]);
    let free = Facts { may_lock: true, ..limited };
    says(Call::Setup(0), libc::ENOMEM, &free, &["control group", "RLIMIT_MEMLOCK is not the cause"]);
}

#[test]
fn the_facts_of_this_process_can_be_had() {
    let facts = Facts::gather();
    assert!(facts.version >= since(5, 1) && facts.seccomp.is_some(), "{facts:?}");
}
