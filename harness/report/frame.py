"""The frame of every page: one environment, one style, scripts inlined, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report import words

SCRIPTS = ("plot.js", "zoom.js", "page.js")
"""What makes a page's figures answer, in this order. A page is complete without them."""


def environment() -> Environment:
    """Where the templates of all pages come from; all text is escaped, and nobody's control characters pass."""
    return Environment(
        loader=PackageLoader("harness.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: words.visible(value) if type(value) is str else value,  # markup is safe already
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, context: Mapping[str, Any], *, scripts: Sequence[str] = SCRIPTS, live: bool = False) -> str:
    """A whole page: `template` extends frame.html.j2 and fills its blocks `title`, `head` and `content`.

    `scripts` are files of this package, inlined at the end of the body. Only a `live` page may fetch, and only
    from where it came: it follows its run. The same arguments give the same bytes.
    """
    # First: it keeps the page as it came, before another script has touched it.
    names = ["live.js", *scripts] if live else scripts
    sources = [resources.files("harness.report").joinpath(name).read_text(encoding="utf-8") for name in names]
    framed = {"scripts": [Markup(source) for source in sources], "policy": Markup(policy(sources, live=live))}
    return environment().get_template(template).render({**context, **framed}) + "\n"


def policy(sources: Sequence[str], *, live: bool) -> str:
    """The content security policy: these scripts by their digest, styles and images of the page itself, no network."""
    digests = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources]
    rules = ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"]
    rules += ["script-src " + " ".join(f"'sha256-{digest}'" for digest in digests)] if digests else []
    rules += ["connect-src 'self'"] if live else []
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])
