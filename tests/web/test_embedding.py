"""Inside the application's own base template, whatever that one calls its macros."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, DictLoader

import flask_outmail

from .conftest import Site

TEMPLATES = Path(flask_outmail.__file__).parent / "web/templates/outmail"
#: The macros that our templates import.
OURS = sorted(
    {
        name
        for path in TEMPLATES.glob("*.html")
        for found in re.findall(r"{% from [^%]+ import ([^%]+?)(?: with context)? %}", path.read_text())
        for name in re.findall(r"\w+", found)
    }
)
PAGES = ["/", "/setup", "/auth-objects/", "/auth-objects/new", "/deliveries/", "/alerts", "/history", "/domain"]


@pytest.mark.parametrize("path", PAGES)
def test_a_base_template_with_macros_of_our_names_changes_nothing(make_site: Callable[..., Site], path: str) -> None:
    clutter = "".join(f"{{% macro {name}() %}}CLASH{{% endmacro %}}" for name in OURS)
    site = make_site(OUTMAIL_BASE_TEMPLATE="host.html")
    host = f"{clutter}<title>{{% block title %}}{{% endblock %}}</title>{{% block content %}}{{% endblock %}}"
    loader = site.app.jinja_env.loader
    assert loader is not None
    site.app.jinja_env.loader = ChoiceLoader([DictLoader({"host.html": host}), loader])
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save(site.smtp_fields())
    page = site.get(path)
    assert page.status_code == 200
    assert "CLASH" not in page.text
    assert len(OURS) > 10
