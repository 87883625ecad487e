"""What image builders, compose, Kubernetes and the forge read is right in their own words."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from django.core.management import get_commands, load_command_class

from tests.processes import ROOT

DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES: list[dict[str, Any]] = list(
    yaml.safe_load_all((DEPLOY / "kubernetes" / "certctl.yaml").read_text())
)
RELEASE: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
PROGRAMS = Path(sys.executable).parent


def program(*command: str) -> str:
    """What a development tool has against a file; "" for nothing."""
    ran = subprocess.run(
        [str(PROGRAMS / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def test_hadolint_has_nothing_against_the_containerfile() -> None:
    assert program("hadolint", "deploy/Containerfile") == ""


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.compose-spec", "deploy/compose.yaml"),
        ("vendor.github-workflows", ".github/workflows/release.yml"),
        ("custom.github-workflows-require-timeout", ".github/workflows/release.yml"),
    ],
)
def test_the_file_is_what_its_schema_says(schema: str, path: str) -> None:
    assert program("check-jsonschema", "--builtin-schema", schema, path) == ""


@pytest.mark.parametrize("resource", KUBERNETES, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_would_take_it(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, "1.33", strict=True)


def container(name: str) -> dict[str, Any]:
    """That of the workload `name`."""
    [found] = [one for one in KUBERNETES if one["metadata"]["name"] == name and "replicas" in one["spec"]]
    [only] = found["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_every_certctl_command_in_them_is_one() -> None:
    commands = [service.get("command") for service in COMPOSE["services"].values()]
    commands += [COMPOSE["services"]["worker"]["healthcheck"]["test"][1:]]
    commands += [
        container("certctl-worker")["args"],
        container("certctl-worker")["livenessProbe"]["exec"]["command"],
    ]
    said = [words for words in commands if words and words[0] == "certctl"]
    assert len(said) == 5
    for _, name, *arguments in said:
        load_command_class(get_commands()[name], name).create_parser("certctl", name).parse_args(arguments)


def test_a_silent_worker_does_not_take_the_console_out_of_service() -> None:
    web = container("certctl-web")
    paths = {web[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"/healthz"}


def test_the_publisher_alone_gets_an_identity_and_only_for_what_was_tried() -> None:
    jobs = RELEASE["jobs"]
    assert RELEASE["permissions"] == {}
    assert {name for name, job in jobs.items() if "id-token" in job["permissions"]} == {"publish"}
    assert (jobs["publish"]["needs"], jobs["publish"]["environment"]) == (["build", "try"], "pypi")
    assert RELEASE[True] == {"release": {"types": ["published"]}}  # YAML reads `on` as true


# The image without an engine: its steps in an empty folder, with the interpreter at hand


def steps() -> list[tuple[str, str]]:
    """Each instruction of the Containerfile: its name and the rest."""
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE)).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image has in /opt/certctl. Packages are lent from this environment instead of downloaded."""
    root = tmp_path_factory.mktemp("image")
    source = root / "src"
    source.mkdir()
    for name, rest in steps():
        rest = rest.replace("/opt/certctl", f"{root}/opt/certctl")
        if name == "FROM" and " AS " not in rest:
            break
        if name == "COPY":
            copy(shlex.split(rest), source)
        elif name == "RUN":
            built = run_step(rest, source, root)
            assert built.returncode == 0, built.stdout + built.stderr
    return root / "opt" / "certctl"


def copy(words: list[str], source: Path) -> None:
    *names, target = words
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place = source / target / Path(name).name if target.endswith("/") else source / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place)


def run_step(text: str, source: Path, root: Path) -> subprocess.CompletedProcess[str]:
    base = {"base": f"{root}/opt/certctl/.venv", "platbase": f"{root}/opt/certctl/.venv"}
    lent = f"{sysconfig.get_path('purelib', vars=base)}/lent.pth"
    here = sysconfig.get_path("purelib")
    text = text.replace("python -m venv", f"{sys.executable} -m venv", 1)
    text = re.sub(
        r"\S+python -m pip install \S+ --require-hashes -r (\S+)",
        rf"test -s \1 && echo {here} > {lent}",
        text,
    )
    text = text.replace("--no-deps .", "--no-deps --no-index --no-build-isolation .")
    ours = ("CERTCTL_", "DJANGO_", "DATABASE_URL", "PYTHON")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        ["sh", "-ec", text], cwd=source, env=clean, capture_output=True, text=True, check=False
    )


def test_the_image_s_steps_make_an_environment_that_serves_and_works(image: Path, tmp_path: Path) -> None:
    assert (image / "static" / "staticfiles.json").is_file()
    given = {"PATH": f"{image}/.venv/bin:{os.environ['PATH']}", "CERTCTL_SECRET_KEY": "x" * 50}
    given |= {"DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite3", "CERTCTL_STATIC_ROOT": f"{image}/static"}
    for command in (
        "certctl migrate -v0",
        "certctl send_notifications",
        "python -m gunicorn --check-config certctl.wsgi",
    ):
        ran = subprocess.run(
            shlex.split(command), cwd=tmp_path, env=given, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    found = subprocess.run(
        [f"{image}/.venv/bin/python", "-c", "import certctl; print(certctl.__file__)"],
        cwd=tmp_path, env=given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith(str(image))


def test_the_image_s_command_is_the_unit_s() -> None:
    from gunicorn.config import Config

    [command] = [json.loads(rest) for name, rest in steps() if name == "CMD"]
    options = Config().parser().parse_args(command[1:])
    assert (options.worker_class, options.workers, options.args) == ("gthread", 1, ["certctl.wsgi"])
