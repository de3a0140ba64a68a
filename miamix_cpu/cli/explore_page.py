"""The `explore` command: a local web page that shows what each field of a configuration does."""

from __future__ import annotations

import os
import threading
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # otherwise its import checks for updates over the network

import gradio as gr

from miamix_cpu.cli import UserError
from miamix_cpu.cli.explore import Scene, default_pictures, draw, measure_lam, read_uploads
from miamix_cpu.cli.explore_code import code_of
from miamix_cpu.cli.explore_controls import GROUPS, PRESETS, Control, config_of, preset_of, values_of
from miamix_cpu.cli.explore_html import CSS, gallery_html, histogram_html, problem_html
from miamix_cpu.config import MiAMixConfig
from miamix_cpu.warm import warmup

_HOST, _UPLOAD = "127.0.0.1", "64mb"
_OPEN = ("Layers", "Methods")  # the other groups start collapsed
_DAY = 86_400  # seconds that uploads are kept while the page runs; all are deleted when it stops
_SEED = 20  # the first seed whose four rows show all methods of Table 1


def run_explore(port: int | None) -> None:
    """Serve the page on 127.0.0.1 until interrupted.

    Parameters
    ----------
    port : int, or None for the first free port from 7860 on
    """
    warmup(dtype="uint8")
    page = build_page()
    # Gradio's own first request to this server must not go through a proxy.
    os.environ["no_proxy"] = ",".join(
        filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), _HOST])
    )  # fmt: skip
    try:
        _, address, _ = page.launch(
            server_name=_HOST,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            max_file_size=_UPLOAD,
            css=CSS,
            theme=_theme(),
        )
    except OSError as error:
        where = f"port {port} is" if port else "the ports from 7860 on are"
        raise UserError(f"--port: {where} not free") from error
    print(f"{address} (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def _theme() -> Any:
    """Return Gradio's default theme with system fonts, and help texts dark enough to read."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(body_text_color_subdued="*neutral_600")


def build_page() -> Any:
    """Build the page: controls on the left, the resulting images on the right."""
    defaults = values_of(MiAMixConfig())
    with (
        gr.Blocks(title="MiAMix", fill_width=True, delete_cache=(_DAY, _DAY)) as page,
        gr.Row(),
    ):
        with gr.Column(scale=0, min_width=300, elem_id="controls"):
            gr.Markdown("### MiAMix\nEvery field of `MiAMixConfig`, by its name.")
            preset = gr.Dropdown(
                list(PRESETS), label="start from", info="Sets every field below. Empty: a configuration of your own.",
                elem_id="preset",
            )  # fmt: skip
            with gr.Group():
                seed = gr.Number(
                    _SEED, label="seed", info="Another seed draws everything again.", precision=0, elem_id="seed"
                )
                another = gr.Button("Next seed", size="sm", elem_id="another")
            with gr.Accordion("Pictures", open=False):
                rows = _slider(1, 12, 4, 1, label="rows", info="How many samples are shown.", elem_id="rows")
                size = _slider(8, 320, 128, 8, label="size", info="The side of a view, in pixels.", elem_id="size")
                files = gr.File(label="Your own, instead of these", file_count="multiple", height=170, elem_id="files")
            fields: dict[str, Any] = {}
            for group, controls in GROUPS.items():
                with gr.Accordion(group, open=group in _OPEN):
                    fields |= {control.name: _component(control, defaults[control.name]) for control in controls}
        with gr.Column(min_width=380):
            message = gr.HTML(visible=False, elem_id="message", apply_default_css=False)
            gallery = gr.HTML(elem_id="gallery", apply_default_css=False)
            histogram = gr.HTML(elem_id="lam", apply_default_css=False)
            code = gr.Code(
                language="python", interactive=False, label="The same in Python", elem_id="code",
                show_line_numbers=False, wrap_lines=True,
            )  # fmt: skip

        parts = {
            "message": message, "gallery": gallery, "histogram": histogram, "code": code, "preset": preset,
            "seed": seed, "another": another, "rows": rows, "size": size, "files": files,
        }  # fmt: skip
        _connect(page, fields, parts)
    return page


def _connect(page: Any, fields: dict[str, Any], parts: dict[str, Any]) -> None:
    """Redraw the page whenever a control changes.

    Parameters
    ----------
    page : gradio.Blocks, open
    fields : the configuration's controls, by name
    parts : the page's other components, by name
    """
    message, gallery, histogram, code = (parts[name] for name in ("message", "gallery", "histogram", "code"))
    preset, seed, rows, size, files = (parts[name] for name in ("preset", "seed", "rows", "size", "files"))

    def redraw(shown: dict[Any, Any]) -> dict[Any, Any]:
        try:
            config = config_of({name: shown[field] for name, field in fields.items()})
            uploads = read_uploads(shown[files] or [])
            scene = Scene(config, shown[seed], shown[rows], shown[size], tuple(name for name, _ in uploads))
        except (UserError, TypeError, ValueError) as error:
            return {message: gr.HTML(problem_html(str(error)), visible=True)}
        return {
            message: gr.HTML("", visible=False),
            gallery: gallery_html(draw(scene, uploads or default_pictures())),
            histogram: histogram_html(measure_lam(config, scene.seed)),
            code: code_of(scene),
            preset: preset_of(config),
        }

    def start_from(name: str | None) -> list[Any]:
        return list(values_of(PRESETS[name]).values()) if name else [gr.skip()] * len(fields)

    everything: dict[str, Any] = {
        "fn": redraw,
        "inputs": {*fields.values(), seed, rows, size, files},
        "outputs": [message, gallery, histogram, code, preset],
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.load(**everything)
    gr.on([*(control.input for control in (*fields.values(), seed, rows, size)), files.change], **everything)
    named = [fields[name] for name in values_of(MiAMixConfig())]
    preset.input(start_from, preset, named, **quietly).then(**everything)
    parts["another"].click(lambda number: (number or 0) + 1, seed, seed, **quietly).then(**everything)


def _component(control: Control, value: Any) -> Any:
    """Return the widget for a control."""
    named: dict[str, Any] = {"label": control.name, "info": control.words, "elem_id": control.name.replace(".", "-")}
    if control.choices:
        return gr.Radio(list(control.choices), value=value, **named)
    if control.low is None or control.high is None:
        return gr.Checkbox(value, **named)
    return _slider(control.low, control.high, value, control.step, **named)


def _slider(low: float, high: float, value: float, step: float | None, **named: Any) -> Any:
    """Return a slider; an empty field or a number beyond its ends is read as the end that the page then shows."""
    whole = all(float(number).is_integer() for number in (low, step or 0))
    slider: Any = gr.Slider(low, high, value, step=step, precision=0 if whole else None, buttons=[], **named)
    # Not a subclass, because Gradio would write a .pyi file next to its module.
    read = slider.preprocess
    slider.preprocess = lambda number: read(low if number is None else min(max(number, low), high))
    return slider
