"""What reading many photographs costs: decoding once, opening again, one batch, and memory, by their number."""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageOps

SIZE = (1152, 864)  # pixels: one megapixel
BATCHES = 1000
MIB = 2**20


def make(sources: list[Path], folder: Path, count: int) -> None:
    """Write photographs of one megapixel: the same over and over, but with a comment of its own in each file."""
    folder.mkdir()
    contents = []
    for path in sources[:count]:
        with Image.open(path) as photograph:
            photograph.draft("RGB", SIZE)
            ImageOps.fit(photograph.convert("RGB"), SIZE).save(stream := io.BytesIO(), "JPEG", quality=92)
        contents.append(stream.getvalue())
    for number in range(count):
        content, comment = contents[number % len(contents)], f"{folder.name} {number:06d}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / f"{number:06d}.jpg").write_bytes(content[:2] + segment + content[2:])


def measure(root: Path) -> dict[str, float]:
    """Open the data as a training does, and take batches of one picture in this process."""
    from lit_ghibli.recipes import build, compose

    data = build(compose("train", ["data=unpaired", f"data.root={root}", f"data.cache_dir={root / 'cache'}"]).data)
    begun, used = time.perf_counter(), processor_seconds()
    data.setup("fit")
    opened, used = time.perf_counter() - begun, processor_seconds() - used
    loader, waits, memory = iter(data.train_dataloader()), [], []
    for _ in range(min(BATCHES, len(data.train_dataloader()))):
        begun = time.perf_counter()
        next(loader)
        waits.append(time.perf_counter() - begun)
        memory.append(own_memory())
    waits.sort()
    return {"seconds": opened, "processor": used, "batch": waits[len(waits) // 2], "memory": max(memory)}


def processor_seconds() -> float:
    """Of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def own_memory() -> float:
    """Bytes of this process that are not pages of a file, which the system drops when it needs them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def main() -> None:
    """Print a table, a row for each number of photographs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path, help="folder of JPEG files that others are made of")
    parser.add_argument("--counts", nargs="+", type=int, default=[500, 5000])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.photographs)))
        return
    print("| photographs | decoded once, s | processor, s | packed, MiB | opened again, s | ms of a batch | MiB |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    sources = sorted(args.photographs.glob("*.jpg"))
    for count in args.counts:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            for name, number in (("trainA", count), ("trainB", 10), ("testA", 4), ("testB", 4)):
                make(sources, root / name, number)
            command = [sys.executable, __file__, str(root), "--measure"]
            first, again = (json.loads(subprocess.check_output(command).splitlines()[-1]) for _ in range(2))
            packed = max(path.stat().st_size for path in (root / "cache").glob("*.pack"))
            cells = f"{first['seconds']:.1f}", f"{first['processor']:.1f}", f"{packed / MIB:.0f}"
            more = f"{again['seconds']:.2f}", f"{1000 * again['batch']:.2f}", f"{again['memory'] / MIB:.0f}"
            print(f"| {count} | {' | '.join((*cells, *more))} |", flush=True)


if __name__ == "__main__":
    main()
