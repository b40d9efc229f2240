"""The server of the app: on this machine alone unless told otherwise, and with no other server."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditflow.bank import MotionBank
from trainers.app.place import LOCAL, Place
from trainers.app.studio import Studio
from trainers.app.visits import Visits

if TYPE_CHECKING:
    import gradio as gr

WAITING = 20  # pieces of work that wait at a time
FORM = 1 << 16  # bytes that a form has beside its file
PIXELS = 1 << 24  # of a picture that is sent; twice as many are refused before it is decoded


def serve(studio: Studio, bank: MotionBank | None, place: Place) -> None:
    """Serve the app until the process is interrupted or told to end. What visitors brought is then
    removed.

    Raises OSError where the port is taken.
    """
    ended = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ditflow-app-") as folder:
        _settle(Path(folder))
        visits = Visits(Path(folder) / "visits", bank)
        page = _page(studio, visits)
        page.queue(max_size=WAITING, default_concurrency_limit=4)
        _, url, _ = page.launch(**_launch(studio, Path(folder) / "files", place))
        before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
        try:
            print(f"Open {url} in a browser. Ctrl-C ends the app.", flush=True)
            ended.wait()
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)
            visits.end()
            studio.busy.acquire()  # what is at work ends at its next step, and nothing begins
            page.close(verbose=False)


def _settle(folder: Path) -> None:
    """What Gradio reads when it is imported, and when a page is made."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = PIXELS
    files = folder / "files"
    files.mkdir()
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(files),
        "GRADIO_EXAMPLES_CACHE": str(files / "examples"),
        "GRADIO_ALLOWED_PATHS": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _page(studio: Studio, visits: Visits) -> gr.Blocks:
    import gradio as gr

    from trainers.app.events import Events
    from trainers.app.layout import laid_out

    with gr.Blocks(title="ditflow", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        Events(studio, visits, laid_out(studio)).connect(page)
    return page


def _launch(studio: Studio, files: Path, place: Place) -> dict[str, Any]:
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from trainers.app.doors import Doors

    most = int(studio.limits.megabytes * 1e6)
    local = place.host in LOCAL
    guards = [Middleware(Doors, files=files, most=most + FORM, local=local)]
    if local:  # else another site could speak to it by a name of its own
        guards.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "[::1]"]))
    return {
        "server_name": place.host,
        "server_port": place.port,
        "theme": _theme(),
        "css_paths": Path(__file__).with_name("page.css"),
        "max_file_size": most,
        "app_kwargs": {"middleware": guards, "docs_url": None, "redoc_url": None},
        "allowed_paths": [],
        "footer_links": [],
        "prevent_thread_lock": True,
        **dict.fromkeys(
            ("share", "show_error", "run_history", "enable_monitoring", "ssr_mode", "pwa"), False
        ),
        "mcp_server": False,
        "quiet": True,
    }


def _theme() -> gr.themes.Base:
    """Quiet colours that are easy to read, and fonts that every system has."""
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.themes.Default(primary_hue="teal", neutral_hue="stone", **fonts).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
    )
