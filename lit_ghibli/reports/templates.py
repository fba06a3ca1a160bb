"""Pages, drawings and cards from jinja2 templates; in all but Markdown every text is escaped."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: Path, filters: Mapping[str, Callable] | None = None, **values: Any) -> "Markup":
    """Fill a template, which may include others of its folder.

    Args:
        template: The file.
        filters: Further filters by name.
        **values: What the template knows; a name that is not among them is an error.
    """
    from markupsafe import Markup

    environment = _environment(template.parent).overlay()
    environment.filters = environment.filters | dict(filters or {})
    return Markup(environment.get_template(template.name).render(values))


@functools.cache
def _environment(folder: Path) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # here, so that --help answers at once

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=lambda name: not name.endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Of JSON inside a page: questions are asked in the order in which they were written.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False}
    return environment
