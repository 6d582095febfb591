#!/bin/sh
# Copies the documents into one folder, with links that stay in it: the source of the manual. Fails
# if a document of docs/ is on no page.
#   pages.sh FOLDER
set -eu
pages=$1
here=docs/html
mkdir -p "$pages/examples" "$pages/performance"

# Links between documents, from README.md and from docs/.
stay() {
    sed -E \
        -e 's#\]\((\.\./)?(\.\./)?docs/#](#g' \
        -e 's#\]\((\.\./)*bindings/python/README\.md#](python.md#g' \
        -e 's#\]\((\.\./)*bindings/go/README\.md#](go.md#g' \
        -e 's#\]\((\.\./)*bindings/python/?\)#](python.md)#g; s#\]\((\.\./)*bindings/go/?\)#](go.md)#g' \
        -e 's#\]\((\.\./)*include/ringmsg\.h\)#](reference.md)#g' \
        -e 's#\]\((\.\./)*include/ringmsg\.hpp\)#](cpp.md)#g' \
        -e 's#\]\((\.\./)*examples-c/?\)#](examples.md)#g' \
        -e 's#\]\((\.\./)*examples-c/([a-z_]+\.(c|cpp|h))\)#](examples/\2)#g' \
        -e 's#\]\((\.\./)*CHANGELOG\.md#](changelog.md#g; s#\]\((\.\./)*CONTRIBUTING\.md#](contributing.md#g' \
        -e 's#\]\((\.\./)*SECURITY\.md#](security-policy.md#g; s#\]\((\.\./)*README\.md#](index.md#g' "$@"
}

for document in docs/*.md; do
    name=$(basename "$document")
    grep -qF "($name)" "$here/SUMMARY.md" || { echo "docs/html/SUMMARY.md does not list $name" >&2; exit 1; }
    stay "$document" >"$pages/$name"
done
cp docs/*.svg "$pages"
cp docs/performance/*.md docs/performance/*.svg "$pages/performance"

# The list of pages; below "Performance" the page of each machine.
machines=$(
    for page in docs/performance/*.md; do
        title=$(sed -n 's/^# //p;T;q' "$page")
        printf '  - [%s](performance/%s)\n' "$title" "$(basename "$page")"
    done
)
while IFS= read -r line; do
    printf '%s\n' "$line"
    case $line in *'(performance.md)') printf '%s\n' "$machines" ;; esac
done <"$here/SUMMARY.md" >"$pages/SUMMARY.md"

stay README.md >"$pages/index.md"
stay CHANGELOG.md >"$pages/changelog.md"
stay CONTRIBUTING.md >"$pages/contributing.md"
stay SECURITY.md >"$pages/security-policy.md"
stay bindings/python/README.md >"$pages/python.md"
stay bindings/go/README.md >"$pages/go.md"
awk -f "$here/reference.awk" include/ringmsg.h >"$pages/reference.md"
{
    printf '# Example programs\n\n`make examples` builds them into `build/examples`.\n\n'
    for source in examples-c/*.c examples-c/*.cpp; do
        name=$(basename "$source")
        cp "$source" "$pages/examples/"
        # The first sentence of the opening comment.
        said=$(sed -nE '1,/\.( |$)/{s#^(/\*| \*|//) ?##;s# ?\*/$##;p}' "$source" | tr '\n' ' ' | sed -E 's/\. .*/./')
        printf '* [%s](examples/%s): %s\n' "$name" "$name" "$said"
    done
} >"$pages/examples.md"
