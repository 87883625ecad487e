"""What ships for the machines around it works as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

from notifications.notifiers.shipped import SHIPPED
from tests.reporting.promtool import promtool, systemd_analyze
from tests.reporting.scraped import NAMES

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
METRIC = re.compile(r"\bcertctl_\w+")


def test_promtool_accepts_the_alert_rules() -> None:
    checked = promtool("check", "rules", str(ALERTS))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    tested = promtool("test", "rules", "alerts.test.yml", cwd=ALERTS.parent)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_tested_firing() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    tests = (ALERTS.parent / "alerts.test.yml").read_text()
    fired = re.findall(r"alertname: (\w+)\s+eval_time: \w+\s+exp_alerts:", tests)
    assert alerts == set(fired)


def known(text: str) -> bool:
    families = set(NAMES) | {"certctl_notification_attempt_duration_seconds_bucket"}
    return set(METRIC.findall(text)) <= families


def test_the_alerts_ask_for_metrics_that_exist() -> None:
    text = re.sub(r"description:.*?(?=\n\n|\Z)", "", ALERTS.read_text(), flags=re.DOTALL)
    assert METRIC.search(text)
    assert known(text)


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    assert expressions()
    assert all(known(expr) for expr in expressions())


def test_the_dashboard_s_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_promtool_understands_the_dashboard_s_queries(tmp_path: Path) -> None:
    queries = [expr.replace("$__rate_interval", "5m") for expr in expressions()]
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(queries)]
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


# systemd, cron, the environment file


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text().replace("\\\n", " "))
    return parser


def accepts(command: str) -> dict[str, Any]:
    """The options of a `certctl COMMAND …` line, as the command itself reads them."""
    program, name, *arguments = shlex.split(command)
    assert Path(program).name == "certctl"
    parser = load_command_class(get_commands()[name], name).create_parser("certctl", name)
    return vars(parser.parse_args(arguments))


def test_the_worker_is_watched_by_systemd() -> None:
    service = unit(DEPLOY / "systemd" / "certctl-worker.service")["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["WatchdogSec"]) >= 30
    assert service["Restart"] == "always"
    accepts(service["ExecStart"])


def test_the_web_server_is_gunicorn_with_threads() -> None:
    command = shlex.split(unit(DEPLOY / "systemd" / "certctl-web.service")["Service"]["ExecStart"])
    from gunicorn.config import Config

    options = Config().parser().parse_args(command[1:])
    assert (options.worker_class, options.workers, options.args) == ("gthread", 1, ["certctl.wsgi"])
    assert options.threads > 1


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_understands_the_units(path: Path, tmp_path: Path) -> None:
    # Its programs are installed elsewhere, so systemd would not find them here.
    installed = tmp_path / path.name
    installed.write_text(re.sub(r"/opt/certctl/.venv/bin/\w+", shutil.which("true") or "", path.read_text()))
    checked = systemd_analyze("verify", "--man=no", str(installed))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_line_of_the_crontab_is_a_command_that_exists() -> None:
    lines = [line for line in (DEPLOY / "crontab").read_text().splitlines() if re.match(r"[\d*]", line)]
    commands = [re.split(r"certctl --env-file \S+", line)[1].removesuffix("> /dev/null") for line in lines]
    taken = [accepts(f"certctl {command}") for command in commands]
    assert [options.get("verb") for options in taken] == [None, None, "check", "prune"]
    assert [options.get("fail_on_dead") for options in taken] == [True, True, None, None]


def test_the_environment_file_means_the_same_to_a_shell_and_sets_only_what_is_read() -> None:
    text = (DEPLOY / "certctl.env.example").read_text()
    given = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    script = f"set -a; . {DEPLOY / 'certctl.env.example'}; env"
    sourced = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    assert given.items() <= dict(line.split("=", 1) for line in sourced.splitlines()).items()
    settings = (DEPLOY.parent / "certctl" / "settings.py").read_text()
    declared = [o for one in SHIPPED for o in (*(one.declared_options or ()), *one.django_options)]
    options = {option.env for option in declared}
    assert [name for name in given if f'"{name}"' not in settings and name not in options] == []


def test_the_hooks_can_be_executed() -> None:
    hooks = list((DEPLOY / "certbot").glob("*.sh"))
    assert len(hooks) == 2
    assert all(os.access(hook, os.X_OK) for hook in hooks)
