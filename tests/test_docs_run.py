"""Every shell block of every page is run: `sh` is for what can be, `console` for what cannot.

`console` needs root, another host, or never ends.

docs/cli.md and docs/api.md have tests of their own, which look at what came of it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from certctl import environment_file
from tests.processes import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    "cli.md": "management/test_docs.py",
    "api.md": "api/test_docs.py",
    "README.md": "management/test_docs.py",
}
BLOCK = re.compile(r"^```(\S*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
GIT = re.compile(r"'certctl-notifications(\[\w+\])? @ git\+https://[^']+'")


def shell_blocks(page: Path) -> list[str]:
    return [block for language, block in BLOCK.findall(page.read_text()) if language == "sh"]


RUN = [page for page in PAGES if shell_blocks(page) and page.name not in ELSEWHERE]


def test_no_shell_block_hides_behind_another_name() -> None:
    """`console` shows a prompt, so that nobody takes it for something that a test has run."""
    for page in PAGES:
        for language, block in BLOCK.findall(page.read_text()):
            assert language not in ("bash", "shell"), page.name
            if language == "console":
                assert all(line[:2] in ("$ ", "# ") or line.startswith(" ") for line in block.splitlines()), (
                    page.name
                )


def test_the_other_pages_are_run_elsewhere() -> None:
    for name, test in ELSEWHERE.items():
        text = (ROOT / "tests" / test).read_text()
        assert f'"{name}"' in text
        assert '["bash", "-c",' in text
    assert {page.name for page in RUN} >= {"install.md", "upgrade.md", "backup.md", "troubleshoot.md"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with programs: a python3 whose new environments are lent this one's packages, and certctl."""
    programs, folder = tmp_path / "bin", tmp_path / "home"
    programs.mkdir()
    folder.mkdir()
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    lent = f"$3/lib/{version}/site-packages/lent.pth"
    venv = f'if [ "$2" = venv ]; then echo {sysconfig.get_path("purelib")} > "{lent}"; fi'
    program(programs / "python3", f'{sys.executable} "$@" || exit\n{venv}')
    program(programs / "certctl", f'exec {shlex.join([sys.executable, str(ROOT / "manage.py")])} "$@"')
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_page_s_blocks_run_one_after_the_other(page: Path, home: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not environment_file.TAKEN.fullmatch(name)
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    environment |= {"PATH": f"{home.parent}/bin:{os.environ['PATH']}"}
    before = ""
    if page.stem != "install":
        (home / "certctl.env").write_text(FILE)
        environment |= environment_file.read(home / "certctl.env")
        before = PREPARED
    # From this checkout and without a network; what is proved is that the lines are right.
    text = GIT.sub(f"--quiet --no-index --no-deps --no-build-isolation {ROOT}", "\n".join(shell_blocks(page)))
    ran = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{before}\n{text}"],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


# Where the other pages begin: somebody has followed the first lines of docs/install.md.
PREPARED = """
certctl migrate --verbosity=0
"""
FILE = """CERTCTL_SECRET_KEY=for-the-examples-of-the-pages-0123456789-abcdefghijkl
DATABASE_URL=sqlite:///certctl.sqlite3
CERTCTL_INSECURE_HTTP=1
"""
