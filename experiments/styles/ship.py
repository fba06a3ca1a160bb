"""Write trained runs as the styles that ship with the suite, with their cards.

python experiments/styles/ship.py RUNS   # a folder with the runs meadow, evening and ink
"""

import sys
from pathlib import Path

from lit_ghibli import checkpoints
from lit_ghibli.inference.load import load_translator
from lit_ghibli.inference.painting import PIXELS
from lit_ghibli.inference.styles import SHIPPED, Card, write_style
from lit_ghibli.recipes import build
from lit_ghibli.reports.tables import last_values

DESCRIPTIONS = {
    "meadow": "a fresh summer day: green meadows, blue skies, light shadows, fine outlines",
    "evening": "a warm evening: golden light, violet shadows",
    "ink": "more drawing than painting: strong outlines, flat and paler fills",
}

for name, description in DESCRIPTIONS.items():
    run = Path(sys.argv[1]) / name
    translator, config = load_translator(checkpoints.find(run), "cpu", 0)
    metrics = last_values(run / "metrics.csv")
    card = Card(
        description=description,
        pixels=PIXELS,
        outlines=build(config["data"]["painter"]["outlines"]),
        data="26 photographs with free licences (experiments/styles/README.md), painted; 12 others held out",
        licence="Apache-2.0",
        recipe=f"lit-ghibli train experiment=style name={name} painter@data.painter={name} data.root=PHOTOGRAPHS",
        figures={key: round(value, 4) for key, value in metrics.items() if key.startswith("val/")},
        limits="Faces of 40 pixels and less lose eyes and mouth; text blurs; leaves and gravel are soft.",
    )
    write_style(SHIPPED / f"{name}.safetensors", translator.network, card)
    print(name, card.figures)
