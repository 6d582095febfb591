"""Checks that every relative link and image of the HTML files in a folder leads to a file of that
folder, and to an anchor that it has."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag


class Page(HTMLParser):
    """The links and anchors of one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name in ("id", "name") and value:
                self.anchors.add(value)


def dead_links(folder: Path) -> list[str]:
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if ":" in target.split("/")[0] or target.startswith("//"):
                continue
            file = (path.parent / unquote(target)).resolve() if target else path
            if not file.exists():
                dead.append(f"{path.name}: {link}: no such file")
            elif anchor and file in pages and unquote(anchor) not in pages[file].anchors:
                dead.append(f"{path.name}: {link}: no such anchor")
    return dead


if __name__ == "__main__":
    found = dead_links(Path(sys.argv[1]))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(f"{len(found)} links lead nowhere" if found else 0)
