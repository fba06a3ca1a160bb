"""`lit-ghibli push`: write a model and its card to the Hugging Face Hub."""

import tempfile
from pathlib import Path

from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands.card import card_of, weights_of
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import named
from lit_ghibli.reports.model_card import render_card


@command("push")
def push(config: DictConfig) -> None:
    """Write ``model.safetensors`` and ``README.md`` to a repository, in one commit."""
    from lit_ghibli.inference import hub  # here, so that --help answers at once
    from lit_ghibli.inference.publishing import write_published
    from lit_ghibli.inference.styles import holds_style

    words = [config.words] if isinstance(config.words, str) else list(config.words)
    if len(words) != 2 or not hub.is_address(words[1]):
        raise UserError(
            f"give a run or a style, and where to: lit-ghibli push RUN hf://OWNER/NAME; got {' '.join(words)}"
        )
    address = hub.parse(words[1])
    path = weights_of(words[0])
    with tempfile.TemporaryDirectory() as folder:
        file = path
        if not holds_style(path):
            file = Path(folder, hub.FILE)
            write_published(path, file)
        if config.card is None:
            text = render_card(card_of(words[0], config, str(address)))
        else:
            with named(Path(config.card)):
                text = Path(config.card).expanduser().read_text(encoding="utf-8")
        pushed = hub.push(file, text, address, public=config.public, message=config.message)
        size = file.stat().st_size
    say(f"{address}: {size / 1e6:.1f} MB and its card, {pushed.url}")
    print(
        f'{"everybody" if pushed.public else "you alone, and whom you let in,"} can see it; load("{address}") takes it'
    )


if __name__ == "__main__":
    push()
