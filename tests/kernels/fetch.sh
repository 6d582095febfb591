#!/usr/bin/env bash
# Downloads Debian's kernels, one of each series (5.10, 6.1, ...), from the mirror that apt is
# configured with. Uses package lists of its own, so that it also finds suites that apt does not
# list here. Installs nothing.
#   tests/kernels/fetch.sh DIR [SERIES...]     writes DIR/SERIES/vmlinuz and DIR/SERIES/package
set -euo pipefail
directory=$1
shift
state=$(mkdir -p "$directory/apt" && realpath "$directory/apt")
suites="bullseye bookworm bookworm-backports trixie trixie-backports sid experimental"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Options that make apt use the lists in this folder instead of the system's.
ours=(-o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache" -o Dir::State::status=/dev/null
    -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)

# The configured address of the repository whose release name matches.
address_of() { # regular expression
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Origin: Debian' | awk -v is="$1" '$2 ~ is { print $1; exit }'
}

write_sources() {
    local release security
    release=$(address_of '^[a-z]+$')
    security=$(address_of '-security$')
    [ -n "$release" ] || { echo "test-kernels: apt knows no Debian repository" >&2; exit 1; }
    for suite in $suites; do
        echo "deb [signed-by=$keyring] $release $suite main"
        case $suite in bullseye | bookworm | trixie)
            [ -z "$security" ] || echo "deb [signed-by=$keyring] $security $suite-security main" ;;
        esac
    done > "$state/sources.list"
}

# The newest package of each series, oldest series first: "SERIES PACKAGE".
available() {
    apt-cache "${ours[@]}" --names-only search '^linux-image-[0-9].*-cloud-amd64$' | awk '
        match($1, /[0-9]+\.[0-9]+\.[0-9]+/) {
            version = substr($1, RSTART, RLENGTH); series = version; sub(/\.[0-9]+$/, "", series)
            print series, $1
        }' | sort -k2,2V | awk '{ newest[$1] = $2 } END { for (s in newest) print s, newest[s] }' | sort -V
}

mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
if [ -z "$(find "$state/sources.list" -mtime -7 2>/dev/null)" ]; then
    write_sources
    # If the mirror lacks a suite, the others are still used.
    apt-get "${ours[@]}" -qq update 2>&1 | sed 's/^/test-kernels: /' >&2 || true
fi
available > "$state/available"
[ $# -gt 0 ] || set -- $(cut -d' ' -f1 "$state/available")

for series in "$@"; do
    package=$(awk -v s="$series" '$1 == s { print $2 }' "$state/available")
    [ -n "$package" ] || { echo "test-kernels: there is no package with Linux $series" >&2; continue; }
    to=$(mkdir -p "$directory/$series" && realpath "$directory/$series")
    [ "$(cat "$to/package" 2>/dev/null)" = "$package" ] && [ -s "$to/vmlinuz" ] && continue
    (
        cd "$to" && rm -f -- *.deb
        # Since 6.19 the image is in a package of its own, and since 7.2 in a folder of its own.
        for candidate in "${package/image/binary}" "$package"; do
            apt-get "${ours[@]}" -qq download "$candidate" 2>/dev/null || continue
            path=$(dpkg-deb --contents "$candidate"_*.deb | awk '$1 ~ /^-/ && $6 ~ /\/vmlinuz[^\/]*$/ { print $6 }')
            [ -n "$path" ] && dpkg-deb --fsys-tarfile "$candidate"_*.deb | tar -xOf - "$path" > vmlinuz && break
        done
        rm -f -- *.deb
        [ -s vmlinuz ] && echo "$package" > package
    )
done
