"""The page of `lit-ghibli app`: what stands on it, and what its buttons do; gradio draws and serves it."""

import contextlib
import html
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from lit_ghibli.errors import UserError
from lit_ghibli.inference.serving import EXAMPLE, PICTURE, RUN, Choice, Painted, Service, zip_of

_TITLE = "Photographs into anime pictures"
_CREDIT = "An example: *Picos de Europa* by Aitzol Berasategi, CC BY 4.0"
_KEPT = 3600  # seconds for which photographs and pictures stay
_CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#title { margin: .5rem 0 .25rem; }
#title h1 { font-weight: 650; letter-spacing: -.02em; margin-bottom: .25rem; }
#title p, #credit p { color: var(--body-text-color-subdued); }
#title p { font-size: var(--text-lg); }
#credit p { font-size: var(--text-sm); text-align: right; margin: 0; }
footer .divider { display: none !important; }
#slider [data-testid="status-tracker"] {
    background: color-mix(in srgb, var(--background-fill-primary) 70%, transparent);
}
#gallery, #gallery .gallery-container, #gallery .grid-wrap { min-height: 0; max-height: 14rem; }
#gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); padding: .25rem; }
#notice { padding: .2rem .9rem; border-left: 3px solid var(--error-border-color); overflow-wrap: anywhere; }
"""


class Page:
    """The page of a service.

    Args:
        service: That paints.
        styles: To choose from.
        runs: To choose from, too.
        first: What is chosen at first, in which the example is painted.

    Raises:
        UserError: What is chosen at first cannot be used.
    """

    def __init__(self, service: Service, styles: list[str], runs: list[str], first: Choice) -> None:
        self.service = service
        self._stopped: set[str] = set()  # visitors who want no more of their photographs painted
        (self.example,) = service.paint([EXAMPLE], first)
        if isinstance(self.example, str):
            raise UserError(self.example)
        self.blocks = self._build([*styles, *([RUN] if runs else [])], runs, first)

    @contextlib.contextmanager
    def served(self, host: str, port: int, max_megabytes: float) -> Iterator[None]:
        """Serve the page while the block runs."""
        self.blocks.queue(max_size=64, default_concurrency_limit=1)
        self.blocks.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            max_file_size=int(max_megabytes * 2**20),
            footer_links=["api"],
            theme=_theme(),
            css=_CSS,
        )
        try:
            yield
        finally:
            self.blocks.close(verbose=False)

    def _build(self, styles: list[str], runs: list[str], first: Choice) -> gr.Blocks:
        with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(600, _KEPT)) as blocks:
            gr.Markdown(
                f"# {_TITLE}\nDrop your photographs, choose a style and paint. They stay on the computer that runs "
                "this page, for an hour.",
                elem_id="title",
            )
            done = gr.State([])
            with gr.Row():
                with gr.Column(scale=7, min_width=320):
                    slider = gr.ImageSlider(
                        self.example[1:], type="filepath", show_label=False, interactive=False, max_height=640,
                        buttons=["fullscreen"], elem_id="slider",
                    )  # fmt: skip
                    credit = gr.Markdown(_CREDIT, elem_id="credit")
                    notice = gr.HTML(visible=False, elem_id="notice")
                    gallery = gr.Gallery(
                        visible=False, show_label=False, columns=5, object_fit="cover", allow_preview=False, buttons=[],
                        elem_id="gallery",
                    )  # fmt: skip
                    with gr.Row():
                        download = gr.DownloadButton("Download", self.example.picture, elem_id="download")
                        download_all = gr.DownloadButton("Download all", visible=False, elem_id="download-all")
                with gr.Column(scale=4, min_width=300):
                    photos = gr.File(label="Photographs", file_count="multiple", height=150, elem_id="photos")
                    style = gr.Radio(styles, value=first.style, label="Style", elem_id="style")
                    run = gr.Dropdown(runs, value=first.run or (runs or [None])[0], label="Run", elem_id="run")
                    picture = gr.File(label="In the style of", height=120, elem_id="picture")
                    strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", elem_id="strength")
                    with gr.Accordion("More", open=False) as more:
                        stroke = gr.Slider(0.5, 2, 1, step=0.05, label="Breadth of strokes")
                        scale = gr.Slider(0.25, 4, 1, step=0.25, label="Fineness of strokes")
                        keep_colors = gr.Checkbox(label="Keep the photograph's colors")
                    with gr.Row():
                        paint = gr.Button("Paint", variant="primary", size="lg", elem_id="paint")
                        stop = gr.Button("Stop", size="lg", visible=False, elem_id="stop")
            pictures = gr.File(visible=False, file_count="multiple", label="pictures")

            given = [photos, style, run, picture, strength, stroke, keep_colors, scale]
            of_style = [run, picture, strength, more, stroke, scale]
            private: Any = {"api_visibility": "private", "show_progress": "hidden"}
            for fits in (blocks.load, style.change):
                fits(_controls, style, of_style, queue=False, **private)
            together: Any = {"concurrency_id": "painting", "concurrency_limit": 1}
            painting = paint.click(
                lambda: (gr.Button(visible=False), gr.Button(visible=True)), None, [paint, stop], queue=False, **private
            ).then(
                self._paint,
                given,
                [slider, credit, notice, gallery, download, download_all, done],
                api_visibility="private",
                show_progress_on=[slider],
                scroll_to_output=True,
                **together,
            )
            painting.then(
                lambda: (gr.Button(visible=True), gr.Button(visible=False)), None, [paint, stop], queue=False, **private
            )
            stop.click(self._stop, None, None, queue=False, **private)
            gallery.select(_show, done, [slider, download], queue=False, **private)
            gr.Button(visible=False).click(self.stylize, given, pictures, api_name="stylize", **together)
        return blocks

    def stylize(
        self,
        photos: list[str],
        style: str,
        run: str | None,
        picture: str | None,
        strength: float,
        stroke: float,
        keep_colors: bool,
        scale: float,
    ) -> list[str]:
        """Paint photographs; the pictures have their sizes, formats and metadata."""
        choice = _choice(style, run, picture, strength, stroke, keep_colors, scale)
        try:
            painted = list(self.service.paint(list(map(Path, photos or [])), choice))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        if bad := [each for each in painted if isinstance(each, str)]:
            raise gr.Error("\n".join(bad), print_exception=False)
        return [str(each.picture) for each in painted]

    def _stop(self, request: gr.Request) -> None:
        self._stopped.add(request.session_hash)

    def _paint(
        self,
        request: gr.Request,
        photos: list[str] | None,
        *given: Any,
        progress: Any = gr.Progress(),  # noqa: B008, by which gradio knows it
    ) -> Iterator[tuple]:
        """Show each picture as soon as it is there, and at the end all of them as one file."""
        paths = list(map(Path, photos or [EXAMPLE]))
        done: list[Painted] = []
        bad: list[str] = []
        self._stopped.discard(request.session_hash)
        progress((0, len(paths)), unit="photographs")
        try:
            for number, each in enumerate(self.service.paint(paths, _choice(*given)), 1):
                (bad if isinstance(each, str) else done).append(each)
                progress((number, len(paths)), unit="photographs")
                yield _results(done, bad, _CREDIT if not photos else "", None)
                if request.session_hash in self._stopped:
                    break
        except UserError as error:
            bad.append(str(error))
        archive = None
        if len(done) > 1:
            archive = zip_of(
                [each.picture for each in done], Path(tempfile.mkdtemp(dir=self.service.folder), "pictures.zip")
            )
        yield _results(done, bad, _CREDIT if not photos else "", archive)


def _theme() -> Any:
    """Quiet colors, with as much contrast as reading needs, and fonts of the visitor's own."""
    theme = gr.themes.Base(
        primary_hue="emerald", neutral_hue="stone", radius_size="lg", font=("system-ui", "sans-serif"),
        font_mono=("monospace",),
    )  # fmt: skip
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        body_text_color_subdued="*neutral_500",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_600",
        slider_color="*primary_600",
        checkbox_background_color_selected="*primary_600",
        checkbox_border_color_selected="*primary_600",
    )


def _choice(
    style: str, run: str | None, picture: str | None, strength: float, stroke: float, keep_colors: bool, scale: float
) -> Choice:
    """What the controls say, without those that do not belong to the style."""
    if style == PICTURE:
        return Choice(style, None, Path(picture) if picture else None, strength, 1.0, keep_colors, scale)
    return Choice(style, run if style == RUN else None, None, strength, stroke, keep_colors)


def _controls(style: str) -> list[Any]:
    """Run, picture, strength, the folded ones, and among these stroke and scale: those that a style has."""
    shown = (style == RUN, style == PICTURE, style != RUN, style != RUN, style != PICTURE, style == PICTURE)
    return [gr.update(visible=each) for each in shown]


def _results(done: list[Painted], bad: list[str], credit: str, archive: Path | None) -> tuple[Any, ...]:
    """Slider, credit, notice, gallery, one picture's file, all pictures' file, and the pictures for later."""
    several = len(done) > 1
    return (
        gr.update(value=done[-1][1:]) if done else gr.skip(),
        gr.update(value=credit),
        gr.update(value="<br>".join(map(html.escape, bad)), visible=bool(bad)),
        gr.update(value=[str(each.shown) for each in done] if several else None, visible=several),
        gr.update(value=str(done[-1].picture)) if done else gr.skip(),
        gr.update(value=str(archive) if archive else None, visible=bool(archive)),
        done,
    )


def _show(done: list[Painted], chosen: gr.SelectData) -> tuple[Any, Any]:
    """Show the picture that was chosen among several."""
    painted = done[chosen.index]
    return painted[1:], str(painted.picture)
