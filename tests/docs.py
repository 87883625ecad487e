"""The documents, as tests read them."""

from __future__ import annotations

import re

from tests.processes import ROOT


def blocks(page: str, language: str = "") -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
