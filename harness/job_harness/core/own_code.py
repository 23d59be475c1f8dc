"""Where our own code lies: a report names the user's line, never one of ours.

Must not import anything of ours: each module that follows a frame imports it.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_ROOM: Final = Path(__file__).resolve().parent
PACKAGE: Final = f"{_ROOM.parent}{os.sep}"
"""The folder of `job_harness`, wherever it is installed: in a wheel that is `site-packages` too."""
_REFERENCE: Final = find_spec("job_harness_reference")
FOLDERS: Final = (
    PACKAGE,
    *(f"{Path(folder).resolve()}{os.sep}" for folder in (_REFERENCE and _REFERENCE.submodule_search_locations) or ()),
)
"""That folder, and the one of the reference queue."""
CHECKOUT: Final = _ROOM.parents[2]
"""The root of the repository; in an installed wheel, a folder that holds nothing of ours."""
