"""`lit-ghibli app`: paint photographs on a page in the browser."""

import errno
import logging
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path

from omegaconf import DictConfig
from PIL import Image

from lit_ghibli.commands._hydra import command
from lit_ghibli.errors import UserError, did_you_mean
from lit_ghibli.extras import packages
from lit_ghibli.files import explain
from lit_ghibli.signals import stop_signals

# Read by gradio when it is imported: nothing is reported to anybody, and uploads go to a folder of ours.
_SETTINGS = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_SHARE": "False"}


@command("app")
def app(config: DictConfig) -> None:
    """Serve the page until the process is asked to stop."""
    check_address(config.host, config.port)
    if not (isinstance(config.quality, int) and 1 <= config.quality <= 100):
        raise UserError(f"quality must be a whole number in 1 ... 100; got {config.quality}")
    for key in ("max_megabytes", "max_megapixels"):
        if not config[key] > 0:
            raise UserError(f"{key} must be above 0; got {config[key]}")
    Image.MAX_IMAGE_PIXELS = round(config.max_megapixels * 1e6)
    for number in stop_signals():  # all end it as Ctrl-C does: what is open is closed, and the folder deleted
        signal.signal(number, _stop)
    try:
        with tempfile.TemporaryDirectory(prefix="lit_ghibli_app_") as folder:
            _serve(config, Path(folder))
    except KeyboardInterrupt:
        print("\nstopped")


def _stop(number: int, frame: object) -> None:
    """End the page; signals that come while it ends, as when Ctrl-C is pressed twice, do not break that off."""
    for each in stop_signals():
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _serve(config: DictConfig, folder: Path) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # with which gradio asks itself whether it has started
    os.environ.update(_SETTINGS, GRADIO_TEMP_DIR=str(folder))
    packages("the page", "app", "gradio")
    # Here, so that --help answers at once, and after gradio's settings.
    from lit_ghibli.checkpoints import newest_run, runs_below
    from lit_ghibli.commands._page import Page
    from lit_ghibli.inference.load import choose_device
    from lit_ghibli.inference.serving import RUN, Choice, Service, choices
    from lit_ghibli.inference.styles import DEFAULT

    device, runs, styles = str(choose_device(config.device)), list(map(str, runs_below(config.outputs))), choices()
    style = str(config.style or DEFAULT)
    if style not in styles:
        raise UserError(f"style={style}: the page has {', '.join(styles)}{did_you_mean(style, styles)}")
    if config.checkpoint and config.style:
        raise UserError("checkpoint= and style= are two ways to say what is chosen first: give one of them")
    first = Choice(style)
    if config.checkpoint:
        first = Choice(RUN, str(newest_run(config.outputs) if config.checkpoint == "newest" else config.checkpoint))
        runs = list(dict.fromkeys([first.run, *runs]))
    service = Service(folder, device, config.tile, config.quality, config.trust)
    page = Page(service, styles, runs, first)
    with page.served(config.host, config.port, config.max_megabytes):
        print(f"http://{config.host}:{config.port}  stop with Ctrl-C", flush=True)
        if config.host not in ("127.0.0.1", "localhost", "::1"):
            print("all who can reach this machine can use the page: it asks for no password", flush=True)
        threading.Event().wait()


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        UserError: The port is taken or none, or the host is not of this machine.
    """
    if not (isinstance(port, int) and 0 < port < 65536):
        raise UserError(f"port={port}: choose a whole number in 1 ... 65535")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port={port} is taken, perhaps by another such page: choose another one") from error
        where = f"host={host} port={port}"
        raise UserError(f"{where}: {explain(error)}; host=127.0.0.1 is this machine alone") from error


if __name__ == "__main__":
    app()
