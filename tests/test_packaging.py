"""The wheel in somebody else's project.

The wheel goes into a new, empty virtual environment. Its dependencies are lent from this one, so that the
test needs no network: what it proves is that the package is whole, not that an index serves the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RAISE_AN_ALERT = """
from notifications.models import NotificationEvent

alert = dict(type="ExpirationWarning", channel="Slack", recipient="#pki", message="7 days", dedup_key="k")
first, created = NotificationEvent.objects.notify(**alert)
again, created_again = NotificationEvent.objects.notify(**alert)
print(created, created_again, first.pk == again.pk, NotificationEvent.objects.pending().count())
"""
FIND_TEMPLATES = """
import sys
from django.template.loader import get_template

for name in sys.stdin.read().split():
    print(get_template(name).origin.name)
"""


@dataclass(frozen=True)
class Site:
    """Somebody else's project: its folder, and the folder of its virtual environment's programs."""

    folder: Path
    bin: Path

    def run(self, *command: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, run as the site runs it: nothing of this project in its way."""
        ours = ("CERTCTL_", "DJANGO_", "DATABASE_URL", "PYTHON", "PYTEST")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=clean | variables,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def shell(self, code: str, given: str = "") -> str:
        """What `code` prints with the site's Django set up."""
        setup = "import django; django.setup()\n"
        result = self.run("python", "-c", setup + code, given=given, DJANGO_SETTINGS_MODULE="theirs.settings")
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, so that both are known to be complete."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A new environment with the wheel installed, and a migrated project that uses the app."""
    folder = tmp_path_factory.mktemp("site")
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    site = Site(folder, environment / "bin")
    python = str(site.bin / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    places = sysconfig.get_paths(vars={"base": str(environment), "platbase": str(environment)})
    # A path file adds the folder without its own path files, so this checkout's editable install stays out.
    (Path(places["purelib"]) / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    assert site.run("python", "-m", "django", "startproject", "theirs", ".").returncode == 0
    with (folder / "theirs" / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS = ["notifications", *INSTALLED_APPS]\n')
    migrated = site.run("python", "manage.py", "migrate", "--verbosity=0")
    assert migrated.returncode == 0, migrated.stderr
    return site


def test_carries_every_file_of_the_app(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    written = {
        str(path.relative_to(ROOT))
        for package in ("notifications", "certctl")
        for path in (ROOT / package).rglob("*.*")
        if "__pycache__" not in path.parts
    }
    assert written - packed == set()
    assert "notifications/py.typed" in packed


def test_the_app_comes_from_the_wheel(site: Site) -> None:
    found = Path(site.shell("import notifications; print(notifications.__file__)").strip())
    assert found.is_relative_to(site.folder)


def test_an_alert_can_be_raised(site: Site) -> None:
    assert site.shell(RAISE_AN_ALERT).split() == ["True", "False", "True", "1"]


def test_templates_are_found_in_the_wheel(site: Site) -> None:
    source = ROOT / "notifications" / "templates"
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*.*"))
    found = site.shell(FIND_TEMPLATES, given="\n".join(names)).splitlines()
    assert len(found) == len(names) > 0
    assert all(Path(path).is_relative_to(site.folder) for path in found)


def test_the_projects_own_pages_are_in_the_wheel(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    own = {f"certctl/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*.*")}
    assert own <= packed
    assert own


def test_the_model_and_the_migrations_agree(site: Site) -> None:
    result = site.run("python", "manage.py", "makemigrations", "--check", "--dry-run")
    assert result.returncode == 0, result.stdout


def test_the_console_script_works_in_any_folder(site: Site) -> None:
    key = {"CERTCTL_SECRET_KEY": "x" * 50}
    assert "no database is named" in site.run("certctl", "migrate", **key).stderr
    assert site.run("certctl", "migrate", "--verbosity=0", CERTCTL_DEBUG="1").returncode == 0
    assert (site.folder / "certctl.sqlite3").exists()
    assert "CERTCTL_SECRET_KEY" in site.run("certctl", "migrate").stderr
    module = site.run("python", "-m", "certctl", "help", **key)
    assert module.stdout.startswith("\nType 'certctl help <subcommand>'")
