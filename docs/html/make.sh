#!/bin/sh
# Makes the manual as HTML: copies the documents into one folder, with links that stay in it, and
# runs mdBook. Fails if a document of docs/ is on no page, or if a link leads nowhere.
#   make.sh MDBOOK OUTPUT
set -eu
mdbook=$1 output=$2
here=docs/html
work=build/html-source
rm -rf "$work"
mkdir -p "$work/pages/examples"
cp "$here/book.toml" "$work"

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
    stay "$document" >"$work/pages/$name"
done
cp "$here/SUMMARY.md" docs/*.svg docs/*.png "$work/pages"
stay README.md >"$work/pages/index.md"
stay CHANGELOG.md >"$work/pages/changelog.md"
stay CONTRIBUTING.md >"$work/pages/contributing.md"
stay SECURITY.md >"$work/pages/security-policy.md"
stay bindings/python/README.md >"$work/pages/python.md"
stay bindings/go/README.md >"$work/pages/go.md"
awk -f "$here/reference.awk" include/ringmsg.h >"$work/pages/reference.md"
{
    printf '# Example programs\n\n`make examples` builds them into `build/examples`.\n\n'
    for source in examples-c/*.c examples-c/*.cpp; do
        name=$(basename "$source")
        cp "$source" "$work/pages/examples/"
        # The first sentence of the opening comment.
        said=$(sed -nE '1,/\.( |$)/{s#^(/\*| \*|//) ?##;s# ?\*/$##;p}' "$source" | tr '\n' ' ' | sed -E 's/\. .*/./')
        printf '* [%s](examples/%s): %s\n' "$name" "$name" "$said"
    done
} >"$work/pages/examples.md"

rm -rf "$output"
"$mdbook" build "$work" -d "$PWD/$output"
python3 "$here/links.py" "$output"
echo "the manual: $output/index.html"
