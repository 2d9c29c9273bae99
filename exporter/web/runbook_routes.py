"""The runbooks of the alerts as pages: /runbooks/ALERT, where `runbook_url` leads. Knows HTTP and Markdown."""

from __future__ import annotations

import re
from functools import cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from exporter.assets import assets, runbook
from exporter.web.pages import runbook_page

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)\s]+)\)")
"""A link to a document that the daemon does not serve."""
_INSIDE = re.compile(r"\]\((\w+)\.md((?:#[^)]*)?)\)")


def runbook_routes(version: str) -> list[Route]:
    """GET /runbooks/ALERT, and /runbooks/ with the list of them."""

    async def show(request: Request) -> Response:
        name = request.path_params.get("name", "").removesuffix(".md")
        html = _rendered(name)
        if html is None:
            return PlainTextResponse("there is no such runbook; /runbooks/ lists them\n", 404)
        return HTMLResponse(runbook_page(name or "Runbooks", html, version=version))

    async def to_list(_request: Request) -> Response:
        return RedirectResponse("runbooks/", 308)

    return [Route("/runbooks", to_list), Route("/runbooks/", show), Route("/runbooks/{name}", show)]


@cache
def _made(name: str) -> str:
    """A runbook, or with "" the list, as HTML. Kept: there are some thirty, and they change with a release."""
    from markdown_it import MarkdownIt  # here: its import delayed the start, and runbooks are seldom read

    text = runbook(name) if name else _list()
    if text is None:
        return ""
    text = _OUTSIDE.sub(r"\1 (docs/\2)", text)
    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(_INSIDE.sub(r"](\1\2)", text))
    return html


def _rendered(name: str) -> str | None:
    """None where there is no such runbook: what is asked for is looked up before anything is kept of it."""
    is_known = not name or f"runbooks/{name}.md" in assets()
    return _made(name) if is_known else None


def _list() -> str:
    names = sorted(path.removeprefix("runbooks/").removesuffix(".md") for path in assets() if path[:9] == "runbooks/")
    return "# Runbooks\n\n" + "\n".join(f"* [{name}]({name})" for name in names if name != "index")
