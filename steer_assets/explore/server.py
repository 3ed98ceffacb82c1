"""The explorer as a web application: reads the storage root, answers this machine, keeps what people try and say.

* Every page keeps to its own origin: no script but ours, nothing from elsewhere (Content-Security-Policy).
* Hosts that are not this machine are refused, so that no page of the web can reach it by a name of its own.
* GET and HEAD are all that it knows, but for playground, review and submissions: there it takes JSON from
  its own pages.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from schemas.contract import Contract
from steer_assets.explore.asked import Takers, is_ours, taken
from steer_assets.explore.files import is_plain, listed, read
from steer_assets.explore.kept import FILES, kept
from steer_assets.explore.ruling import Review
from steer_assets.explore.submitted import Submissions
from steer_assets.explore.trying import Playground
from steer_assets.settings import registry, storage_root, webserver_url
from steer_core.explorer.bench import Bench
from steer_core.explorer.pages import SAVE, VIEWS, NoViewError, Pages, static, templates
from steer_core.explorer.saved import file_name, save
from steer_core.explorer.shown import shown_rows
from steer_core.explorer.tables import as_csv, entries
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import filesystem, join, read_bytes

#: Names by which this machine calls itself.
HOSTS = ("localhost", "127.0.0.1", "[::1]")
#: Files below the root that pages link to, by their ends.
TYPES = {".html": "text/html; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png"}
#: What a page may load. Styles stand in reports, and in the marks of small tracks.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: The only addresses that take something.
_ASKED = re.compile(r"/[^/]+/(play|review|submit)/[^/]+")
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Explorer:
    """All benches of a storage root.

    Args:
        root: any fsspec URL.
        benches: name -> bench.
        dagster: address of Dagster's web interface; empty: none is known.
        takers: bench -> who takes texts and rulings; those without one are only looked at.
    """

    def __init__(
        self,
        root: str,
        benches: Mapping[str, Bench],
        dagster: str = "",
        takers: Mapping[str, Takers] | None = None,
    ) -> None:
        self.root, self.dagster, self.takers = root, dagster, dict(takers or {})
        self.pages = {name: Pages(bench, tuple(benches), dagster) for name, bench in benches.items()}
        for name, taker in self.takers.items():
            pages = self.pages[name]
            pages.asking, pages.reviewing, pages.submitting = taker.play, taker.review, taker.submit

    def app(self, hosts: tuple[str, ...] = HOSTS) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/", self._home),
                Route("/static/{name}", self._static),
                Route("/files/{path:path}", self._file),
                Route("/{bench}/shown/samples.csv", self._shown),
                Route("/{bench}/download/{name}.{kind}", self._download),
                Route("/{bench}/save/{view}", self._save),
                Route("/{bench}/{view:str}/{what}", self._asked, methods=["POST"]),
                Route("/{bench}/tried/{file}", self._tried),
                Route("/{bench}", self._bench),
                Route("/{bench}/{view}", self._view),
            ],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
                Middleware(BaseHTTPMiddleware, dispatch=_guarded),
            ],
            exception_handlers={404: self._missing, 405: self._refused},
        )

    async def _home(self, request: Request) -> Response:
        wanted = request.query_params.get("bench")
        names = list(self.pages)
        if wanted in self.pages or len(names) == 1:
            return RedirectResponse(f"/{wanted if wanted in self.pages else names[0]}/board")

        def found() -> list[tuple[str, str, int]]:
            own = [(n, p.bench.spec.description, len(p.bench.cells())) for n, p in self.pages.items()]
            return sorted(own, key=lambda row: -row[2])

        return self._html("home.explore.jinja", found=await run_in_threadpool(found), root=self.root)

    async def _static(self, request: Request) -> Response:
        try:
            body = static(request.path_params["name"])
        except KeyError:
            return self._said(404, "There is no such file", request.url.path)
        kind = "text/css" if request.path_params["name"].endswith(".css") else "text/javascript"
        return Response(body, media_type=f"{kind}; charset=utf-8")

    async def _bench(self, request: Request) -> Response:
        name = request.path_params["bench"]
        if name not in self.pages:
            return await self._missing(request, None)
        return RedirectResponse(f"/{name}/board")

    async def _view(self, request: Request) -> Response:
        name, view = request.path_params["bench"], request.path_params["view"]
        if name not in self.pages:
            return await self._missing(request, None)
        given = {key: request.query_params.getlist(key) for key in request.query_params}
        try:
            page = await run_in_threadpool(self.pages[name].render, view, given)
            link = f"/{name}/save/{view}" + (f"?{request.url.query}" if request.url.query else "")
            return HTMLResponse(page.replace(f'href="{SAVE}"', f'href="{escape(link)}"'))
        except NoViewError:
            return await self._missing(request, None)
        except SteerworksError as error:
            return self._said(400, "This view cannot be shown", str(error), name)

    async def _asked(self, request: Request) -> Response:
        name = request.path_params["bench"]
        if name not in self.takers:
            return await self._missing(request, None)
        return await taken(request, self.pages[name], self.takers[name])

    async def _tried(self, request: Request) -> Response:
        name, file = request.path_params["bench"], request.path_params["file"]
        if name not in self.takers or file not in FILES:
            return await self._missing(request, None)
        taker, ids = self.takers[name], request.query_params.getlist("tried")
        try:
            called, text = await run_in_threadpool(kept, file, ids, self.pages[name], taker.play, taker.methods)
        except SteerworksError as error:
            return self._said(400, "Nothing can be made of these", str(error), name)
        attached = {"Content-Disposition": f'attachment; filename="{called}"'}
        return Response(text, media_type=FILES[file], headers=attached)

    async def _save(self, request: Request) -> Response:
        name, view = request.path_params["bench"], request.path_params["view"]
        if name not in self.pages:
            return await self._missing(request, None)
        given = {key: request.query_params.getlist(key) for key in request.query_params}
        try:
            page = await run_in_threadpool(save, self.pages[name], view, given)
        except NoViewError:
            return await self._missing(request, None)
        except SteerworksError as error:
            return self._said(400, "This view cannot be saved", str(error), name)
        attached = {"Content-Disposition": f'attachment; filename="{file_name(name, view)}"'}
        return HTMLResponse(page, headers={**attached, "Content-Security-Policy": _STILL})

    async def _shown(self, request: Request) -> Response:
        name = request.path_params["bench"]
        if name not in self.pages:
            return await self._missing(request, None)
        given = {key: request.query_params.getlist(key) for key in request.query_params}
        try:
            body = await run_in_threadpool(lambda: shown_rows(self.pages[name], given).write_csv())
        except SteerworksError as error:
            return self._said(400, "These samples cannot be taken along", str(error), name)
        attached = {"Content-Disposition": f'attachment; filename="steerworks-{name}-samples.csv"'}
        return Response(body, media_type="text/csv; charset=utf-8", headers=attached)

    async def _download(self, request: Request) -> Response:
        name, table, kind = (request.path_params[k] for k in ("bench", "name", "kind"))
        if name not in self.pages or kind not in ("parquet", "csv"):
            return await self._missing(request, None)
        bench, cell = self.pages[name].bench, request.query_params.get("cell", "")

        def found() -> bytes | str | None:
            entry = next((e for e in entries(bench) if e.name == table), None)
            path = next((p for p, (c, _) in entry.files.items() if c == cell), None) if entry else None
            if entry is None or path is None:
                return None
            if kind == "parquet":
                fs, whole = filesystem(join(self.root, path))
                return read_bytes(fs, whole)
            contract: type[Contract] = entry.contract
            return as_csv(bench.rows_at(table, contract, cell))

        try:
            body = await run_in_threadpool(found)
        except SteerworksError as error:
            return self._said(400, "This table cannot be read", str(error), name)
        if body is None:
            return await self._missing(request, None)
        called = "-".join([name, table, *cell.split("|")[::-1]] if cell else [name, table])
        return Response(
            body,
            media_type="text/csv; charset=utf-8" if kind == "csv" else "application/vnd.apache.parquet",
            headers={"Content-Disposition": f'attachment; filename="{called}.{kind}"'},
        )

    async def _file(self, request: Request) -> Response:
        """A page or a picture below the storage root, or a table beside a page; nothing else, and nothing elsewhere."""
        path = request.path_params["path"]
        if not is_plain(path) or path.split("/")[0] not in self.pages:
            return await self._missing(request, None)
        end = "." + path.rsplit(".", 1)[-1]
        folder = path.endswith("/tables/")
        if not folder and end not in TYPES and not (end == ".parquet" and path.split("/")[-2] == "tables"):
            return await self._missing(request, None)
        body = await run_in_threadpool(listed if folder else read, self.root, path)
        if body is None:
            return await self._missing(request, None)
        kind = TYPES[".html"] if folder else TYPES.get(end, "application/vnd.apache.parquet")
        # a page of its own: with no script at all
        return Response(body, headers={"Content-Security-Policy": _STILL, "Content-Type": kind})

    async def _missing(self, request: Request, error: Exception | None) -> Response:
        views = ", ".join(VIEWS)
        said = f"{request.url.path} is no page here. Benches: {', '.join(self.pages)}; views: {views}."
        return self._said(404, "There is no such page", said)

    async def _refused(self, request: Request, error: Exception | None) -> Response:
        return self._said(405, "This server only reads", f"{request.method} is not known here.")

    def _said(self, status: int, title: str, said: str, bench: str = "") -> Response:
        return self._html("error.explore.jinja", status=status, title=title, said=said, bench=bench)

    def _html(self, template: str, status: int = 200, bench: str = "", **values: Any) -> Response:
        bench = bench or next(iter(self.pages), "")
        page = templates().get_template(template)
        views = self.pages[bench].views if bench in self.pages else VIEWS
        shared = {"bench": bench, "others": tuple(self.pages), "views": views, "view": "", "save": "", "dagster": ""}
        return HTMLResponse(page.render(**shared, **values), status_code=status)


_STILL = POLICY.replace("script-src 'self'; ", "")


async def _guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    asked = _ASKED.fullmatch(request.url.path) is not None
    if request.method not in (("POST",) if asked else ("GET", "HEAD")):
        allow = "POST" if asked else "GET, HEAD"
        said = f"only {allow} is known at this address\n"
        response: Response = Response(said, status_code=405, headers={"Allow": allow})
    elif asked and not is_ours(request):
        response = Response("only pages of this explorer may ask\n", status_code=403)
    else:
        try:
            response = await call_next(request)
        except Exception:
            logging.getLogger(__name__).exception("%s failed", request.url.path)
            response = Response("this view failed; the terminal says why\n", status_code=500)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def explorer(benches: list[str] | None = None) -> Explorer:
    """The explorer of the configuration and the storage root.

    Args:
        benches: names; None: all.
    """
    known = registry()
    names = benches or sorted(known.benches)
    root = storage_root()
    made = {}
    for name in names:
        spec = known.bench(name)
        controls = tuple(m for m in spec.methods if known.method(m).control)
        made[name] = Bench(root, spec, known.goals_of(spec), controls)
    takers = {}
    for name in names:
        spec = known.bench(name)
        submit = Submissions(spec) if spec.watch.submissions is not None else None
        methods = {m: known.method(m) for m in spec.methods}
        takers[name] = Takers(Playground(spec, root), Review(spec), submit, methods)
    return Explorer(root, made, webserver_url(), takers)
