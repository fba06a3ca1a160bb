"""What a style costs on a CPU: network time, the painter's, large photographs, and a command from start to picture.

    python benchmarks/styles/benchmark.py [--peers FILE.py]

FILE.py may define ``generators()``, which returns other translators by name as (module, size multiple), of RGB in
[-1, 1]; they are timed at 512 x 512 in turn with the style.
"""

import argparse
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from lit_ghibli.inference.load import load
from lit_ghibli.inference.styles import DEFAULT, load_style

PHOTO = Path(__file__).parents[2] / "lit_ghibli" / "photographs" / "mountains.jpg"


def timed(function, repeats=5):
    """Median CPU and wall seconds of a call, after one that is not counted."""
    function()
    laps = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        function()
        laps.append((time.process_time() - cpu, time.perf_counter() - wall))
    return [statistics.median(lap) for lap in zip(*laps, strict=True)]


def command(photo, folder):
    """CPU seconds, wall seconds and peak MiB of `lit-ghibli stylize`, in a process of its own."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = ["lit_ghibli", "stylize", str(photo), str(Path(folder) / f"painted_{photo.name}")]
    subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - wall, after.ru_maxrss / 1024


def main():
    """Print a row for everything that is timed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    row = "{:<44} {:>10.2f} {:>10.2f} {:>10}"
    print("{:<44} {:>10} {:>10} {:>10}".format("", "CPU s", "wall s", "peak MiB"))

    # First, since a forked process counts the memory of this one.
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((1152, 864), (4000, 3000)):
            large = Path(folder) / f"{width}.jpg"
            Image.open(PHOTO).convert("RGB").resize((width, height)).save(large, quality=92)
            cpu, wall, peak = command(large, folder)
            print(row.format(f"lit-ghibli stylize, {width}x{height}", cpu, wall, f"{peak:.0f}"), flush=True)

    photo = torch.rand(1, 3, 512, 512) * 2 - 1
    networks = {f"style {DEFAULT}, network, 512x512": load_style(DEFAULT).network.paint}
    if arguments.peers:
        peers = runpy.run_path(str(arguments.peers))["generators"]()
        networks |= {f"{name}, network, 512x512": module for name, (module, _) in peers.items()}
    for name, network in networks.items():
        picture = photo.contiguous(memory_format=torch.channels_last) if name.startswith("style") else photo
        print(row.format(name, *timed(lambda network=network, picture=picture: network(picture), 3), ""), flush=True)

    picture = Image.open(PHOTO).convert("RGB").resize((640, 480))
    painter = load("painter")
    print(row.format("painter, 640x480", *timed(lambda: painter(picture)), ""), flush=True)


if __name__ == "__main__":
    main()
