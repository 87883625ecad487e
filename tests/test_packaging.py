"""The wheel in somebody else's project.

The wheel goes into a new, empty virtual environment. Its dependencies are lent from this one, so that the
test needs no network: what it proves is that the package is whole, not that an index serves the rest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "certctl-io/certctl-notifications"
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
def sdist(wheel: Path) -> Path:
    return next(wheel.parent.glob("*.tar.gz"))


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


# What a host's site gets, and what not


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as packed:
        [name] = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(packed.read(name))


def required(wheel: Path) -> list[Requirement]:
    """Without any extra, on the Python that runs this."""
    requirements = map(Requirement, metadata(wheel).get_all("Requires-Dist", []))
    return [one for one in requirements if not one.marker or one.marker.evaluate({"extra": ""})]


# In nobody's site unless asked for; and the module that each is imported by.
PROJECT_ONLY = {
    "cryptography": "cryptography",
    "dj-database-url": "dj_database_url",
    "django-prometheus": "django_prometheus",
    "djangorestframework": "rest_framework",
    "drf-spectacular": "drf_spectacular",
    "environs": "environs",
    "gunicorn": "gunicorn",
    "psycopg-binary": "psycopg_binary",
    "psycopg-pool": "psycopg_pool",
    "python-json-logger": "pythonjsonlogger",
    "whitenoise": "whitenoise",
}


def test_a_host_s_site_gets_only_what_the_app_imports(wheel: Path) -> None:
    asked = {one.name for one in required(wheel)}
    assert asked == {
        *("aiohappyeyeballs", "django", "httptools", "idna", "orjson", "prometheus-client", "psycopg"),
        *("rich", "standardwebhooks"),
    }
    assert all(not one.extras for one in required(wheel)), "psycopg's binary is a site's own choice"


def test_no_django_with_known_holes_is_accepted(wheel: Path) -> None:
    """The security releases of 2026-11-03: 5.2.19, 6.0.10, 6.1.3."""
    [django] = [one.specifier for one in required(wheel) if one.name == "django"]
    old = [*(f"5.2.{n}" for n in range(1, 19)), *(f"6.0.{n}" for n in range(1, 10)), "6.1.1", "6.1.2"]
    assert list(django.filter(["5.1.15", "5.2", "6.0", "6.1", "6.2", *old])) == []
    fixed = ["5.2.19", "5.2.20", "6.0.10", "6.0.11", "6.1.3", "6.1.4"]
    assert list(django.filter(fixed)) == fixed


@pytest.fixture
def slim(site: Site) -> Iterator[Site]:
    """The site as if only the app had been installed: what is lent of the rest cannot be imported."""
    places = sysconfig.get_paths(vars={"base": str(site.bin.parent), "platbase": str(site.bin.parent)})
    blocked = Path(places["purelib"]) / "blocked.pth"
    modules = dict.fromkeys(PROJECT_ONLY.values())
    blocked.write_text(f"import sys; sys.modules.update({modules!r})\n")
    yield site
    blocked.unlink()


def test_the_app_works_without_the_project_s_packages(slim: Site) -> None:
    checked = slim.run("python", "manage.py", "check")
    assert checked.returncode == 0, checked.stderr
    sweep = "from notifications import delivery; print(delivery.send_pending().claimed >= 0)"
    assert slim.shell(sweep).strip() == "True"
    assert slim.run("python", "manage.py", "notifications", "stats").returncode == 0


def test_certctl_says_in_one_line_that_the_project_is_not_installed(slim: Site) -> None:
    for arguments in (["migrate"], ["--help"], ["init", "--yes"]):
        ran = slim.run("certctl", *arguments, CERTCTL_SECRET_KEY="x" * 50)
        assert ran.returncode == 1
        [line] = ran.stderr.splitlines()
        assert "pip install 'certctl-notifications[project]'" in line


# What an index and the source distribution show


def test_the_long_description_s_links_lead_somewhere_from_an_index(wheel: Path) -> None:
    text = str(metadata(wheel).get_payload())
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert images
    for image in images:
        path = image.removeprefix(f"https://raw.githubusercontent.com/{REPOSITORY}/main/")
        assert (ROOT / path).is_file(), image


def test_the_metadata_says_where_it_is_from_and_where_it_runs(wheel: Path) -> None:
    said = metadata(wheel)
    assert said["Author"]
    assert len(said.get_all("Project-URL", [])) == 4
    assert all(REPOSITORY in url for url in said.get_all("Project-URL", []))
    assert "Programming Language :: Python :: 3.14" in said.get_all("Classifier", [])


def test_the_repository_has_one_address() -> None:
    files = [ROOT / "pyproject.toml", ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {
        owner for file in files for owner in re.findall(r"[\w-]+/certctl-notifications\b", file.read_text())
    }
    assert named == {REPOSITORY}


def test_the_source_distribution_has_docs_and_deploy_and_their_links_lead_to_files(sdist: Path) -> None:
    with tarfile.open(sdist) as packed:
        files = {name.partition("/")[2] for name in packed.getnames()}
    for folder in ("deploy", "docs", "demo", "requirements"):
        ours = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert set(ours.stdout.split()) <= files
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not link.startswith("https:"):
                target = (page.parent / link).resolve().relative_to(ROOT)
                assert str(target) in files, f"{page.name}: {link}"


def test_the_paths_that_pages_name_are_in_the_source_distribution(sdist: Path) -> None:
    with tarfile.open(sdist) as packed:
        files = {name.partition("/")[2] for name in packed.getnames()}
    folders = {str(parent) for file in files for parent in Path(file).parents}
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for path in re.findall(r"`((?:deploy|requirements)/[\w./-]*)`", page.read_text()):
            assert path in files or path.rstrip("/") in folders, f"{page.name}: {path}"


def test_the_console_script_works_in_any_folder(site: Site) -> None:
    key = {"CERTCTL_SECRET_KEY": "x" * 50}
    assert "no database is named" in site.run("certctl", "migrate", **key).stderr
    assert site.run("certctl", "migrate", "--verbosity=0", CERTCTL_DEBUG="1").returncode == 0
    assert (site.folder / "certctl.sqlite3").exists()
    assert "CERTCTL_SECRET_KEY" in site.run("certctl", "migrate").stderr
    module = site.run("python", "-m", "certctl", "help", **key)
    assert module.stdout.startswith("Certificate alerts")
