"""What mkdocs does not know of these pages: they are read in the repository, too, and link to files of it.

A hook of `mkdocs.yml`. The README is the first page of the site; what a page links to outside of this folder becomes
a page of its own; a block says what a reader saves it as; a page that the navigation does not name stands at its end.
"""

from __future__ import annotations

import importlib.util
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
MADE = ROOT / "build"
"""Where `docs/generate.py --site` has put the pages that are made for the site alone, below `docs`."""
LINK = re.compile(r"(?P<text>\[[^\]]*\])\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^(?:<!-- file: (?P<file>\S+) -->\n)?(?P<ticks>```+)(?P<info>[^\n`]*)\n", re.MULTILINE)
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".sql": "sql", ".json": "json", ".ts": "typescript"}
ORIGINS: dict[str, str] = {}
"""Where in the repository a page of the site comes from, by its name on the site."""


def on_config(config: Any) -> Any:
    """Name anchors as they are named where the repository is read, and let no page be missing from the navigation."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    named = set(_named(config.nav))
    rest = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in named]
    findings = sorted((ROOT / "docs/findings").glob("*.md"))
    config.nav += [{"More": [page.name for page in rest]}] if rest else []
    config.nav += [{"Findings": [f"findings/{page.name}" for page in findings]}]
    config.nav += [{"Rules of check": [uri_of(origin) for origin in _made()]}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the README, and what pages link to."""
    for origin in _made():
        files.append(File.generated(config, uri_of(origin), content=_content(origin)))
    ORIGINS.update({file.src_uri: f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md")})
    waiting = ["README.md", *ORIGINS.values()]
    seen = set(waiting)
    while waiting:
        origin = waiting.pop()
        if not origin.startswith("docs/"):
            ORIGINS[uri_of(origin)] = origin
            files.append(File.generated(config, uri_of(origin), content=_content(origin)))
        if origin.endswith(".md"):
            new = [path for path in dict.fromkeys(_linked(origin)) if path not in seen]
            seen.update(new)
            waiting += new
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links lead to pages of the site, and fences name a language alone."""
    uri = page.file.src_uri
    origin = ORIGINS[uri]

    def linked(match: re.Match[str]) -> str:
        path, _, fragment = match["target"].partition("#")
        if not path or "://" in path:
            return match[0]
        to = posixpath.relpath(uri_of(_resolved(origin, path)), posixpath.dirname(uri) or ".")
        return f"{match['text']}({to}{'#' if fragment else ''}{fragment})"

    def fenced(match: re.Match[str]) -> str:
        language = (match["info"].split() or [""])[0]
        title = f' title="{match["file"]}"' if match["file"] else ""
        return f"{match['ticks']}{language}{title}\n"

    outside = "".join(
        part if number % 2 else LINK.sub(linked, part) for number, part in enumerate(_split(CODE, markdown))
    )
    return FENCE.sub(fenced, outside)


def on_post_build(config: Any) -> None:
    """Put the pages as one text beside `llms.txt`, which names it."""
    spec = importlib.util.spec_from_file_location("documentation", ROOT / "harness/job_harness/doors/documentation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.whole(ROOT) + "\n" + module.joined({origin: _content(origin) for origin in _made()})
    Path(config.site_dir, "llms-full.txt").write_text(text, encoding="utf-8")


def anchor(heading: str, separator: str = "-") -> str:
    """Return the anchor of a heading, as it is made where the repository is read."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def uri_of(origin: str) -> str:
    """Return what a file of the repository is called on the site."""
    if origin == "README.md":
        return "index.md"
    if origin.startswith("docs/"):
        return origin.removeprefix("docs/")
    return f"repository/{origin}" + ("" if origin.endswith(".md") else ".md")


def _made() -> list[str]:
    """List the pages that are made for the site, as if they were kept."""
    pages = sorted((MADE / "docs").rglob("*.md"))
    if not pages:
        raise FileNotFoundError("no pages of rules: run `make site`, which makes them first")
    return [page.relative_to(MADE).as_posix() for page in pages]


def _place(origin: str) -> Path:
    return path if (path := ROOT / origin).exists() else MADE / origin


def _content(origin: str) -> str:
    path = _place(origin)
    if origin.endswith(".md"):
        return path.read_text(encoding="utf-8")
    if path.is_file():
        return f"# {origin}\n\n{_code(path)}"
    inside = sorted(file for file in path.rglob("*") if file.suffix in LANGUAGES)
    return f"# {origin}\n\n" + "\n".join(f"## {file.relative_to(path)}\n\n{_code(file)}" for file in inside)


def _code(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`{3,}", text)), default=0))
    return f"{ticks}{LANGUAGES.get(path.suffix, 'text')}\n{text}{ticks}\n"


def _linked(origin: str) -> Iterator[str]:
    text = CODE.sub("", _place(origin).read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        path = match["target"].partition("#")[0]
        if path and "://" not in path:
            yield _resolved(origin, path)


def _resolved(origin: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))


def _split(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """Return what lies between matches and the matches, in turn."""
    end = 0
    for match in pattern.finditer(text):
        yield text[end : match.start()]
        yield match[0]
        end = match.end()
    yield text[end:]


def _named(nav: Any) -> Iterator[str]:
    for item in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else [nav]:
        if isinstance(item, str):
            yield item
        else:
            yield from _named(item)
