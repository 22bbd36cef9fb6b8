"""Messages from templates: `mail.send(template="welcome", context={…}, recipients=[…])`.

A mail named `welcome` is `mail/welcome.txt`, `mail/welcome.html` (one of the two is enough) and, for its subject,
`mail/welcome.subject.txt`, all rendered by the application's own Jinja environment, so layouts, macros and context
processors work as on its pages. With a locale, `welcome.de_AT.html` and `welcome.de.html` are looked for first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import current_app, has_request_context, render_template, url_for
from jinja2 import TemplateNotFound
from markupsafe import Markup
from werkzeug.security import safe_join

from .compat import Message
from .errors import ConfigurationError
from .html_text import text_from_html

if TYPE_CHECKING:
    from .settings import Settings

# A name goes into a file name; a value from outside must not choose another file.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*")


def message_from_template(
    template: str, context: Mapping[str, Any] | None = None, *, locale: str = "", **fields: Any
) -> Message:
    """The message that the templates named `template` make; `fields` are those of `Message` and win over them.

    A missing text part is made from the HTML. With the extra `[html]` the styles of `<style>` are written into the
    elements, as many mail programs need. In the HTML, `{{ image('logo.png') }}` stands for an inline image from the
    application's static folder, and `url_for` gives absolute addresses. `locale` chooses the translation, and is
    the locale in force while rendering where Flask-Babel is installed. Touches no network.

    Raises:
        ConfigurationError: there is no such template, no subject, or no such image; or an absolute address is
            needed outside a request and `OUTMAIL_BASE_URL` is not set.
    """
    settings: Settings = current_app.extensions["outmail"].settings
    if not _NAME.fullmatch(template):
        raise ConfigurationError(f"{template!r} is no name of a mail template", code="template_missing")
    images = _Images(Path(current_app.static_folder or current_app.root_path))
    render = _Renderer(f"{settings.template_folder}/{template}", locale, dict(context or {}), settings, images)
    with _locale_in_force(locale):
        subject = fields.pop("subject", None) or render("subject.txt")
        html = fields.pop("html", None) or render("html")
        text = fields.pop("body", None) or render("txt")
    if html is None and text is None:
        raise ConfigurationError(
            f"there is neither {render.path}.txt nor {render.path}.html among the templates", code="template_missing"
        )
    if subject is None:
        raise ConfigurationError(
            f"{template!r} has no subject: give one, or add {render.path}.subject.txt", code="template_subject"
        )
    if html is not None:
        text = text_from_html(html) if text is None else text
        html = _inline_styles(html)
    message = Message(subject=" ".join(str(subject).split()), body=text, html=html, **fields)
    for filename, content_id, data in images:
        message.attach(filename, None, data, "inline", {"Content-ID": f"<{content_id}>"})
    return message


class _Renderer:
    """Renders one form of a mail, or tells that it has no such form."""

    def __init__(self, path: str, locale: str, context: dict[str, Any], settings: Settings, images: _Images) -> None:
        self.path = path
        self._stems = [f"{path}{suffix}" for suffix in _suffixes(locale)]
        self._context = {
            **context,
            "image": images.address,
            "url_for": _absolute_url_for(settings.base_url),
            "locale": locale,
        }

    def __call__(self, form: str) -> str | None:
        names: list[Any] = [f"{stem}.{form}" for stem in self._stems]
        try:
            return render_template(names, **self._context)
        except TemplateNotFound as exc:
            # A missing layout or include is the author's mistake, and is told as Jinja tells it.
            if exc.name in names or set(getattr(exc, "templates", ())) >= set(names):
                return None
            raise


def _suffixes(locale: str) -> Iterator[str]:
    if locale:
        if not _LOCALE.fullmatch(locale):
            raise ConfigurationError(f"{locale!r} is no locale", code="template_missing")
        parts = locale.replace("-", "_").split("_")
        for length in range(len(parts), 0, -1):
            yield "." + "_".join(parts[:length])
    yield ""


@contextmanager
def _locale_in_force(locale: str) -> Iterator[None]:
    """Flask-Babel's locale while a mail is rendered: the reader's, not that of whoever caused the mail."""
    if locale and "babel" in current_app.extensions:
        from flask_babel import force_locale

        with force_locale(locale.replace("-", "_")):
            yield
    else:
        yield


# -- addresses ---------------------------------------------------------------------------------------------------------


def _absolute_url_for(base_url: str) -> Callable[..., str]:
    """`url_for` for readers outside the site.

    `OUTMAIL_BASE_URL` is preferred even inside a request: the host a request names is whatever its sender wrote,
    and a link to somebody else's host in a mail about a password is a gift to him.
    """

    def absolute(endpoint: str, **values: Any) -> str:
        values["_external"] = True
        if base_url:
            with current_app.test_request_context(base_url=base_url):
                return url_for(endpoint, **values)
        if not has_request_context() and not current_app.config.get("SERVER_NAME"):
            raise ConfigurationError(
                f"url_for({endpoint!r}) in a mail needs OUTMAIL_BASE_URL outside a request", code="base_url_missing"
            )
        return url_for(endpoint, **values)

    return absolute


# -- images ------------------------------------------------------------------------------------------------------------


class _Images:
    """The pictures a template asked for: (file name, Content-ID, bytes), each once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, tuple[str, bytes]] = {}

    def __iter__(self) -> Iterator[tuple[str, str, bytes]]:
        for name, (content_id, data) in self._found.items():
            yield Path(name).name, content_id, data

    def address(self, name: str) -> Markup:
        """`cid:…` for a picture of the static folder, which then travels with the message."""
        if name not in self._found:
            path = safe_join(str(self._folder), name)
            try:
                data = Path(path or "").read_bytes()
            except OSError:
                data = b""
            if path is None or not data:
                raise ConfigurationError(f"image({name!r}): there is no such file", code="template_image")
            # The same picture has the same name in every message, so that building one twice gives equal bytes.
            digest = hashlib.sha256(name.encode() + b"\0" + data).hexdigest()[:20]
            self._found[name] = (f"{digest}@image.outmail", data)
        return Markup("cid:{}").format(self._found[name][0])


# -- styles ------------------------------------------------------------------------------------------------------------


def _inline_styles(html: str) -> str:
    """Styles written into the elements; unchanged without the extra `[html]`, or where there is no style sheet."""
    if "<style" not in html.lower():
        return html
    try:
        import css_inline
    except ImportError:
        return html
    # Nothing is fetched: a template must not make this machine ask other hosts.
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True)
    return str(inliner.inline(html))
