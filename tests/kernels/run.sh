#!/usr/bin/env bash
# Boots Debian's kernels under qemu, runs the C tests of tests/c on each as root, and prints a table
# of kernels and test programs. The table replaces the generated section of docs/compatibility.md.
#   tests/kernels/run.sh LIBRARY_DIR [SERIES...]
#   ONLY=program,program     runs only these, and leaves the document unchanged
#   JOBS=2                   runs this many machines at a time (default: one per processor)
# Keeps kernels and console logs in target/kernels.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
library=$(realpath "$1")
shift
work=target/kernels
image=$work/initramfs

need() { # command, package
    command -v "$1" >/dev/null || { echo "test-kernels: missing: $1; install it with: apt-get install $2" >&2; exit 1; }
}
need qemu-system-x86_64 qemu-system-x86
need cpio cpio
need busybox busybox-static
need dpkg-deb dpkg
need apt-get apt

# Builds an initramfs with the programs, the library, their shared libraries, and busybox.
build_image() {
    rm -rf "$image" && mkdir -p "$image"/{bin,lib,lib64,tests}
    local name program
    for source in tests/c/*.c "$here/sysctl.c" "$here/support.c"; do
        name=$(basename "$source" .c)
        # With wider time limits, because the processor may be emulated.
        cc -std=c11 -g -O1 -DTEST_EMULATED -Itests/c -Iinclude "$source" -o "$image/tests/$name" -L"$library" -lringmsg -lpthread
        [ "$name" = support ] || echo "$name"
    done > "$image/tests/list"
    cp "$library/libringmsg.so" "$image/lib/libringmsg.so.0"
    for program in "$image"/tests/support "$library/libringmsg.so"; do
        ldd "$program" | grep -o '/[^ ]*' | grep -v ringmsg
    done | sort -u | xargs -I{} cp -L {} "$image/lib"
    cp "$image"/lib/ld-linux* "$image/lib64"
    cp "$(command -v busybox)" "$image/bin/busybox"
    "$image/bin/busybox" true 2>/dev/null && ! ldd "$image/bin/busybox" >/dev/null 2>&1 ||
        { echo "test-kernels: busybox is linked dynamically; apt-get install busybox-static" >&2; exit 1; }
    cp "$here/init" "$image/init"
    (cd "$image" && find . | cpio --quiet -o -H newc | gzip -1) > "$image.gz"
}

# Runs one virtual machine, whose console goes to a file. Its monitor is a socket beside that file;
# "stop" and "cont" pause and resume the machine.
machine() { # accelerator, kernel, log, minutes, words for the kernel's command line
    # shellcheck disable=SC2086
    timeout "$4m" qemu-system-x86_64 $1 -m 2G -smp 2 -display none -no-reboot -net none -serial "file:$3" -monitor "unix:$3.monitor,server,nowait" \
        -kernel "$2" -initrd "$image.gz" -append "console=ttyS0 quiet panic=-1 $5" </dev/null >/dev/null 2>&1
}

# A writable /dev/kvm is not sufficient: some hypervisors run only kernels made for them.
choose_accelerator() { # a kernel to boot
    accelerator="-accel kvm -cpu host" minutes=20
    [ -w /dev/kvm ] && machine "$accelerator" "$1" "$work/kvm.log" 0.5 test-kernels.only=none && return
    # One thread for all processors: with one for each, the emulation sometimes executes an
    # instruction while the kernel patches it (seen: "Oops: int3" in __netif_receive_skb_core).
    accelerator="-accel tcg,thread=single -cpu max" minutes=100
    echo "test-kernels: /dev/kvm cannot run these kernels; the processor is emulated, ten minutes a kernel and more" >&2
}

# kernel.io_uring_disabled exists since 6.6.
has_setting() { # series
    printf '%s\n' 6.6 "$1" | sort -VC
}

boot() { # series, column, words for the kernel's command line
    local log="$work/$2.log"
    machine "$accelerator" "$work/$1/vmlinuz" "$log" $minutes "${ONLY:+test-kernels.only=$ONLY} ${3:-}" || true
    tr -d '\r' < "$log" > "$log.text" && mv "$log.text" "$log"
    grep -q '^@ done' "$log" || echo "test-kernels: $2 did not run to its end; see $log" >&2
    echo "$2: $(grep -c '^ok ' "$log" || true) ok, $(grep -c '^FAILED ' "$log" || true) failed"
}

build_image
"$here/fetch.sh" "$work" "$@"
[ $# -gt 0 ] || set -- $(cut -d' ' -f1 "$work/apt/available")
choose_accelerator "$work/$1/vmlinuz"
jobs=${JOBS:-$(nproc)}
columns=()
for series in "$@"; do
    [ -s "$work/$series/vmlinuz" ] || continue
    columns+=("$series")
    # Adds a second run with io_uring disabled by the administrator, on the oldest kernel that has
    # the setting.
    case " ${columns[*]} " in *-off*) ;; *) if has_setting "$series"; then columns+=("$series-off"); fi ;; esac
done
for column in "${columns[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    case $column in
        *-off) boot "${column%-off}" "$column" sysctl.kernel.io_uring_disabled=2 & ;;
        *) boot "$column" "$column" & ;;
    esac
done
wait
"$here/table.sh" "$work" "${columns[@]}" > "$work/table.md"
cat "$work/table.md"
[ -n "${ONLY:-}" ] || "$here/table.sh" --into docs/compatibility.md "$work/table.md"
# A failed test makes the command fail.
for column in "${columns[@]}"; do
    grep -q '^@ done' "$work/$column.log" && ! grep -q '^FAILED ' "$work/$column.log" || exit 1
done
