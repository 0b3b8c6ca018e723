"""The documentation as a site (`mkdocs.yml`): pages that are sections of README.md, and links as the site has them.

What README tells is told once. Its sections become pages, and CONTRIBUTING, SECURITY and CHANGELOG are pages, too. A
link to a file that is no page is left as its text: the source has it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

SECTIONS = {
    "": "index.md",
    "Quick start": "quick-start.md",
    "kube-apiserver": "kube-apiserver.md",
    "Backup": "backup.md",
    "As a service": "service.md",
    "Configuration": "configuration.md",
    "FoundationDB": "on-foundationdb.md",
    "Adding an interceptor": "adding-an-interceptor.md",
    "The tree": "tree.md",
}
"""README's sections that are pages, by their headings; the first is what stands above all."""

WHOLE = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_DEFINED = re.compile(r"^(\[[^\]]+\]: )(\S+)$", re.MULTILINE)
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """README's sections by their headings, each as a page."""
    text = (ROOT / "README.md").read_text()
    _, *pairs = _HEADING.split(text)
    found = {"": text.partition("\n## ")[0]}
    for heading, body in zip(pairs[::2], pairs[1::2], strict=True):
        found[heading] = f"# {heading}\n{re.sub(r'^###', '##', body, flags=re.MULTILINE)}"
    # what it is, in one picture
    found[""] += found["The chains"].replace("# The chains", "\n## The chains", 1)
    return found


def on_config(config: Any) -> Any:
    """Names the pages that are one of many: decisions and interceptors, as README and the folder have them."""
    decisions = re.findall(r"^- \[(\d+: .*)\]\(docs/(adrs/.*)\)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    interceptors = sorted(path.name for path in (ROOT / "docs" / "reference").glob("*.md"))
    for entry in config.nav:
        if entry.get("Decisions") == []:
            entry["Decisions"] += [{title: page} for title, page in decisions]
        if "Reference" in entry:
            others = [name for name in interceptors if name not in ("README.md", "settings.md")]
            entry["Reference"].append({"Interceptors": [f"reference/{name}" for name in others]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are not files of the folder. mkdocs calls it."""
    told = sections()
    for heading, page in SECTIONS.items():
        files.append(File.generated(config, page, content=as_page(told[heading], "")))
    for file, page in WHOLE.items():
        files.append(File.generated(config, page, content=as_page((ROOT / file).read_text(), "")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Makes links of a page in the folder the site's. mkdocs calls it."""
    if page.file.generated_by is not None:
        return markdown
    return as_page(markdown, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))


def as_page(text: str, directory: str) -> str:
    """A text whose links are relative to a folder of the tree, with links of the site. Code is left as it is."""
    here = posixpath.relpath(directory or ".", "docs") if directory.startswith("docs") else "."

    def leading(target: str) -> str | None:
        """Where a link leads to on the site; None for what is not on it."""
        file, hash_, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:") or not file:
            return target
        path = posixpath.normpath(posixpath.join(directory, file))
        if path in WHOLE:
            path = WHOLE[path]
        elif path == "README.md":
            path = "index.md"
        elif path.startswith("docs/") and path.endswith((".md", ".svg", ".png")):
            path = path.removeprefix("docs/")
        else:
            return None
        return posixpath.relpath(path, here) + hash_ + anchor

    def linked(found: re.Match[str]) -> str:
        target = leading(found[3])
        return found[2] if target is None else f"{found[1]}[{found[2]}]({target})"

    def defined(found: re.Match[str]) -> str:
        return f"{found[1]}{leading(found[2]) or ''}"

    def all_linked(prose: str) -> str:
        return _DEFINED.sub(defined, _LINK.sub(linked, prose))

    parts, last = [], 0
    for fence in _FENCE.finditer(text):
        parts += [all_linked(text[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, all_linked(text[last:])])
