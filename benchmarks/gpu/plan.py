"""What is checked and timed, in which order, and the table of it: nothing here needs torch."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

# Words of `lit-ghibli train` by method: networks as published, weights of feature networks drawn, no phase that waits,
# and nothing drawn that DDP draws otherwise.
SEMI = ["data=semi_scenes", "data.pairs=4", "method.schedule.name=constant", "method.vgg.weights=random"]
VGG = ["method.vgg.weights=random", "method.feature_scale.photographs=2", "method.initialization_epochs=0"]
METHODS = {
    "cyclegan": [],
    "nijigan": SEMI,
    "pix2pix": ["data=scene_pairs"],
    "scenimefy": SEMI,
    "cut": [],
    "cartoongan": [*VGG, "method.initialization_decay_epochs=0"],
    "animegan": VGG,
    "vqi2i": ["method.lpips.weights=random", "method.generator.dropout=0", "method.generator.restart_after=0"],
    "arbitrary": ["method.features.weights=random", "method.color_jitter=[0,0,0]"],
    "distill": ["data=scene_pairs"],
}
STYLE = "meadow"  # all shipped styles have the same network
KEYS = {"nijigan": ("pair_a", "pair_b", "photo", "anime"), "scenimefy": ("pair_a", "pair_b", "photo", "anime")}
KEYS |= {"pix2pix": ("input", "target")}  # of the peers' steps, in their order
PEERS = {"cyclegan": "cut", "pix2pix": "cut", "nijigan": "scenimefy", "scenimefy": "scenimefy"}
BATCHES = (1, 8)
SIZE = 256  # pixels


class Job(NamedTuple):
    """What one process does.

    Attributes:
        kind: ``machine``, ``check`` or ``timing``.
        what: A method, or ``style``.
        batch: Pictures in a step.
    """

    kind: str
    what: str
    batch: int = 1

    @property
    def words(self) -> list[str]:
        """Of the command line of its process."""
        return [self.kind, self.what, str(self.batch)]


def plan(methods: Iterable[str] = ()) -> tuple[list[Job], list[Job]]:
    """Checks, which run beside each other, and what is timed after them, one by one: the most valuable first.

    Args:
        methods: To do; all where none is named.
    """
    chosen = [name for name in METHODS if name in (methods or METHODS)]
    timed = [name for name in chosen if name in [*PEERS, "cut", "cartoongan", "animegan"]]
    first, later = BATCHES
    timings = [Job("timing", name, first) for name in timed]
    style = [Job("timing", "style", batch) for batch in BATCHES]
    after_cut = timed.index("cut") + 1 if "cut" in timed else len(timed)
    timings[after_cut:after_cut] = style[:1]
    timings += [*(Job("timing", name, later) for name in timed), *style[1:]]
    return [Job("check", name) for name in chosen], [Job("machine", "machine"), *timings]


def read(path: Path) -> list[dict[str, Any]]:
    """The results so far; a line that a killed process has left unfinished is passed over."""
    results = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            results.append(json.loads(line))
        except ValueError:
            continue
    return results


def share_of_peak(result: Mapping[str, Any], peaks: Mapping[str, float]) -> float | None:
    """Operations a second as a share of what a large product of matrices reaches in the same precision."""
    peak = peaks.get("bfloat16" if "bfloat16" in result["variant"] else "float32")
    return result["flop"] / median(result["seconds"]) / peak if peak and result.get("flop") else None


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """Results as Markdown: the machine, the checks, the timings beside plain float32 and beside the peer, what failed.

    Memory is the peak of a step, with weights and states of optimisers.
    """
    results = list(results)
    machine = next((each for each in results if each["kind"] == "machine" and "peaks" in each), {"peaks": {}})
    lines = [f"{machine['text']}\n"] if "text" in machine else []
    if checks := [each for each in results if "check" in each]:
        lines += ["| method | check | result | |", "|---|---|---|---|"]
        lines += [
            f"| {each['what']} | {each['check']} | {'ok' if each['ok'] else '**FAILED**'} | {each['said']} |"
            for each in checks
        ]
        lines.append("")
    timings = [each for each in results if each["kind"] == "timing" and "seconds" in each]
    if timings:
        lines += [
            "| workload | batch | variant | ms: median (least) | of float32 | of the peer | images/s | MiB | of peak |",
            "|---|--:|---|--:|--:|--:|--:|--:|--:|",
        ]
    middle = {(*_key(each), each["variant"]): median(each["seconds"]) for each in timings}
    for each in timings:
        seconds, key = each["seconds"], _key(each)
        ratios = [
            f"{median(seconds) / middle[(*key, other)]:.2f}" if (*key, other) in middle else ""
            for other in ("float32", "peer, float32")
        ]
        share = share_of_peak(each, machine["peaks"])
        cells = [
            each["workload"], each["batch"], each["variant"],
            f"{1000 * median(seconds):.2f} ({1000 * min(seconds):.2f})", *ratios,
            f"{each['batch'] / median(seconds):.1f}", each["mib"], "" if share is None else f"{100 * share:.0f} %",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    failed = [each for each in results if "error" in each]
    lines += [f"\n{each['kind']} {each['what']}, batch {each['batch']}: {each['error']}" for each in failed]
    return "\n".join(lines)


def _key(result: Mapping[str, Any]) -> tuple[str, int]:
    return result["workload"], result["batch"]
