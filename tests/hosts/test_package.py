"""Two packages named `notifications` in one environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifications.checks import check_package


def test_another_distribution_with_a_package_of_our_name_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_package() == []
    metadata = tmp_path / "django_notifications_hq-1.8.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: django-notifications-hq\n")
    (metadata / "top_level.txt").write_text("notifications\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    [error] = check_package()
    assert error.id == "notifications.E005"
    assert "django-notifications-hq" in error.msg
    assert "Uninstall both" in str(error.hint)
