"""A view as one file that opens anywhere: its styles inside, no script; of samples the whole of each that is listed."""

from __future__ import annotations

import html
import re

from steer_core.explorer.asking import Given
from steer_core.explorer.pages import Pages, static
from steer_core.explorer.views import sample as one_sample

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# what a model wrote is escaped, so that every tag here is a template's
_LINK = re.compile(r'<a\b[^>]*\bhref="(?P<to>[^"]*)"[^>]*>(?P<text>.*?)</a>', re.DOTALL)
_DROPPED = re.compile(
    r"<form\b.*?</form>|<nav\b.*?</nav>|<script\b.*?</script>|<header class=\"bar-top\">.*?</header>"
    r"|<footer class=\"keys\">.*?</footer>|<a class=\"skip\".*?</a>",
    re.DOTALL,
)
_AT = re.compile(r"/sample\?(?:.*&amp;)?at=(?P<at>\d+)$")
_BODY = re.compile(r"<main\b[^>]*>(?P<body>.*)</main>", re.DOTALL)


def save(pages: Pages, view: str, given: Given) -> str:
    """A view as a page of its own.

    Args:
        pages: the bench.
        view: as for `Pages.render`.
        given: parameters of the address.

    Raises:
        NoViewError: no such view.
        ConfigError: a parameter that means nothing.
    """
    page = pages.render(view, given)
    inside: list[int] = []

    def link(found: re.Match[str]) -> str:
        to = found["to"]
        if view == "samples" and (at := _AT.search(to)) is not None:
            inside.append(int(at["at"]))
            return f'<a href="#sample-{at["at"]}">{found["text"]}</a>'
        # nothing that only the server has
        return found[0] if to.startswith("#") else f"<span>{found['text']}</span>"

    body = _LINK.sub(link, _DROPPED.sub("", _body(page)))
    parts = [body, *(_whole(pages, given, at) for at in inside)]
    title = page[page.index("<title>") + 7 : page.index("</title>")]
    said = ", ".join(f"{k}={v}" for k, values in given.items() for v in values if v) or "everything"
    foot = html.escape(f"Saved from the explorer of bench {pages.bench.name}: {view}, {said}")
    css = static("style.css").decode()
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n'
        f'<style>\n{css}\n</style></head>\n<body><main class="explore">\n' + "\n".join(parts) + "\n"
        f"<footer><p>{foot}</p></footer>\n</main></body></html>\n"
    )


def _whole(pages: Pages, given: Given, at: int) -> str:
    """A sample of the list, whole, with the way back."""
    values = one_sample.show(pages, {**given, "at": [str(at)]})
    page = pages.fill("sample", values)
    body = _LINK.sub(lambda m: f"<span>{m['text']}</span>", _DROPPED.sub("", _body(page)))
    # one page has one title
    body = body.replace("<h1>", "<h2>").replace("</h1>", "</h2>").replace("<details open>", "<details>")
    return f'<article class="example" id="sample-{at}">{body}<p class="small"><a href="#">to the list</a></p></article>'


def _body(page: str) -> str:
    found = _BODY.search(page)
    assert found is not None  # every view extends the base
    return found["body"]


def file_name(bench: str, view: str) -> str:
    """What a saved view is called."""
    return f"steerworks-{bench}-{view}.html"
