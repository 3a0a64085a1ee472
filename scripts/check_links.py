#!/usr/bin/env python3
"""Checks the documents: `python3 scripts/check_links.py`.

Every relative link in a Markdown file must lead to a file or folder that git has, and every #anchor
to a heading, by GitHub's rule. README.md may have 200 lines. Links to other sites are not followed.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
README_LINES = 200

FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$")
LINKS = [
    re.compile(r"\]\(\s*<?([^\s<>()]+(?:\([^\s()]*\)[^\s<>()]*)*)>?(?:\s+[\"'(][^)]*)?\)"),  # [text](target)
    re.compile(r"^\s{0,3}\[[^\]^]+\]:\s*<?(\S+?)>?(?:\s|$)"),  # [name]: target
    re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=[\"']([^\"']+)[\"']"),
]
ANCHOR = re.compile(r"<a\b[^>]*?\b(?:id|name)=[\"']([^\"']+)[\"']")


def listed():
    """The files that git has or would add, and their folders, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    files = {Path(name) for name in names.decode().split("\0") if name and (ROOT / name).exists()}
    return files, files.union(*(file.parents for file in files))


def prose(path):
    """The lines of a document that are not code, with their numbers."""
    fence = None
    for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
        mark = FENCE.match(line)
        if fence is None and mark:
            fence = mark[1]
        elif fence is None:
            yield number, line
        elif mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = None


def anchors(path):
    """What may stand behind a # in a link to this document."""
    found, seen = set(), {}
    for _, line in prose(path):
        found.update(ANCHOR.findall(line))
        if heading := HEADING.match(line):
            text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            seen[slug] = seen.get(slug, -1) + 1
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
    return found


def problem(document, target, places):
    """What is wrong with a link, if anything is."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
        return None
    name, _, anchor = target.partition("#")
    path = (ROOT / document.parent / unquote(name)).resolve() if name else ROOT / document
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT) not in places:
        return "there is no such file"
    if not anchor or (path.suffix != ".md" and re.fullmatch(r"L\d+(-L\d+)?", anchor)):
        return None
    if path.suffix != ".md" or unquote(anchor) not in anchors(path.relative_to(ROOT)):
        return "there is no such heading"
    return None


def main():
    files, places = listed()
    problems, links = [], 0
    documents = sorted(file for file in files if file.suffix == ".md")
    for document in documents:
        for number, line in prose(document):
            line = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
            for target in (target for pattern in LINKS for target in pattern.findall(line)):
                links += 1
                if what := problem(document, target, places):
                    problems.append(f"{document}:{number}: {target}: {what}")
    if not documents:
        problems.append("git lists no document: this is no checkout")
    lines = (ROOT / "README.md").read_text(encoding="utf-8").count("\n")
    if lines > README_LINES:
        problems.append(f"README.md:{README_LINES + 1}: has {lines} lines; details belong to docs/")
    print("\n".join(problems or [f"{links} links in {len(documents)} documents are good"]))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
