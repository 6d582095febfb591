#!/usr/bin/env python3
"""Runs a program under a Docker or OCI seccomp profile, with libseccomp and without a container.

    packaging/seccomp/run.py PROFILE PROGRAM [ARGUMENT ...]

For testing a profile. Refuses rules with conditions ("args", "includes"), which it does not
support.
"""
import ctypes
import json
import os
import sys

ALLOW, PR_SET_NO_NEW_PRIVS = 0x7FFF0000, 38


def action(name, errno):
    return ALLOW if name == "SCMP_ACT_ALLOW" else 0x00050000 | errno


def load(path):
    with open(path, encoding="utf-8") as file:
        profile = json.load(file)
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    filters = ctypes.c_void_p(seccomp.seccomp_init(action(profile["defaultAction"], profile.get("defaultErrnoRet", 1))))
    for rule in profile["syscalls"]:
        if rule.get("args") or rule.get("includes") or rule.get("excludes"):
            sys.exit(f"{path}: a rule with conditions: {rule['names'][:3]}")
        for name in rule["names"]:
            number = seccomp.seccomp_syscall_resolve_name(name.encode())
            # -1: this libseccomp does not know the call, so it cannot allow it.
            if number != -1:
                seccomp.seccomp_rule_add(filters, action(rule["action"], rule.get("errnoRet", 1)), number, 0)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if seccomp.seccomp_load(filters) != 0:
        sys.exit(f"{path}: the kernel refused the filter")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    load(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
