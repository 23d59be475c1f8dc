"""Write what each command of the pages prints below it: `python -m tests.docs.write_screens [PAGE]...`.

Only blocks that show something already are written, and only those that need no PostgreSQL; a test compares the rest.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.docs import pages
from tests.docs.test_docs_commands import needs_postgres, tried


def write(page: Path) -> bool:
    """Run the commands of a page and put in what they print. True: something changed."""
    text = was = page.read_text(encoding="utf-8")
    for block in pages.blocks(page):
        if block.words[:1] != ("console",) or not block.shown or needs_postgres(block):
            continue
        with tempfile.TemporaryDirectory() as folder:
            printed = tried(block, Path(folder)).stdout.strip()
        typed = "\n".join(f"$ {command}" for command in block.commands)
        text = text.replace(block.text, f"{typed}\n{printed}\n")
    page.write_text(text, encoding="utf-8")
    return text != was


if __name__ == "__main__":
    for page in [Path(name).resolve() for name in sys.argv[1:]] or pages.PAGES:
        if write(page):
            print(f"written: {page.relative_to(pages.ROOT)}")
