#!/bin/sh
# Makes the manual as HTML: collects its pages and runs mdBook. Fails if a link leads nowhere.
#   make.sh MDBOOK OUTPUT
set -eu
mdbook=$1 output=$2
work=build/html-source
rm -rf "$work" "$output"
mkdir -p "$work"
cp docs/html/book.toml "$work"
sh docs/html/pages.sh "$work/pages"
"$mdbook" build "$work" -d "$PWD/$output"
python3 docs/html/links.py "$output"
echo "the manual: $output/index.html"
