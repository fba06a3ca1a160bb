"""Runs the plan within a time limit, each job in a process of its own, and prints the table of what was reached."""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plan import METHODS, Job, plan, read, table

HERE = Path(__file__).resolve().parent
NEEDED = {"torch": "", "torchvision": "", "lightning": "", "torchmetrics": "", "torchdiffeq": ""}
NEEDED |= {"hydra": "hydra-core", "omegaconf": "", "antlr4": "antlr4-python3-runtime", "rich": "", "safetensors": ""}
NEEDED |= {"scipy": "", "PIL": "pillow"}
CHECKS_SHARE = 0.5  # of the time: what is not checked by then is left
SIDE_BY_SIDE = 4  # checks at once: compiling keeps cores busy, tiny steps leave a GPU idle


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, prog="gpu.sh")
    parser.add_argument("job", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("gpu_results"), help="folder for results and logs")
    parser.add_argument("--wheels", type=Path, help="folder of packages that are missing on the machine")
    parser.add_argument("--cut", type=Path, help="folder of contrastive-unpaired-translation, a peer")
    parser.add_argument("--scenimefy", type=Path, help="folder of Scenimefy's Semi_translation, a peer")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=[], help="default: all")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the program itself")
    parser.add_argument("--side-by-side", type=int, default=SIDE_BY_SIDE, help="checks at once")
    return parser.parse_args(arguments)


class Runner:
    """Starts jobs, waits for them until their time is over, and notes those that fail.

    Args:
        args: Of the command line.
        words: The same, unread.
    """

    def __init__(self, args: argparse.Namespace, words: list[str]) -> None:
        self.args, self.words = args, words
        self.results = args.out / "results.jsonl"
        self.end = time.monotonic() + args.limit

    def run(self, jobs: list[Job], at_once: int, end: float) -> None:
        """Run jobs, some at once, until a time of the monotonic clock, at which the running ones are ended."""
        waiting, running = list(jobs), {}
        while waiting or running:
            if time.monotonic() > end:
                for job, process in running.items():
                    process.kill()
                    process.wait()
                    self._note(job, "the time was over")
                for job in waiting:
                    self._note(job, "not begun: the time was over")
                return
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[job] = self._start(job)
            for job, process in list(running.items()):
                if process.poll() is not None:
                    del running[job]
                    if process.returncode:
                        self._note(job, self._last_words(job))
            time.sleep(0.05)

    def _start(self, job: Job) -> subprocess.Popen:
        print(f"{self.args.limit - (self.end - time.monotonic()):5.0f} s  {' '.join(job.words)}", flush=True)
        command = [sys.executable, str(HERE / "run.py"), *job.words, *self.words]
        with open(self._log(job), "w") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def _log(self, job: Job) -> Path:
        return self.args.out / f"{'_'.join(job.words)}.log"

    def _last_words(self, job: Job) -> str:
        lines = [line for line in self._log(job).read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "no word"

    def _note(self, job: Job, error: str) -> None:
        note(self.results, {**job._asdict(), "error": error})


def note(path: Path, result: dict) -> None:
    """Add a line, at once: what comes after may fail."""
    with open(path, "a") as file:
        file.write(json.dumps(result) + "\n")


@contextmanager
def _noting(job: Job, results: Path) -> Iterator[None]:
    """Say of one job what it raises, in its last line, for the results."""
    try:
        yield
    except Exception as error:
        import traceback

        traceback.print_exc()
        note(results, {**job._asdict(), "error": f"{type(error).__name__}: {str(error)[:300]}"})


def main(words: list[str]) -> int:
    """Run all, or, in a process that this one starts, one job."""
    args = parse(words)
    results = args.out / "results.jsonl"
    if args.job:
        kind, what, batch = args.job
        job = Job(kind, what, int(batch))
        with _noting(job, results):
            if kind == "check":
                from checks import check

                check(job, args, lambda result: note(results, result))
            else:
                from timings import measure

                measure(job, args, lambda result: note(results, result))
        return 0
    missing = [package or name for name, package in NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; put their wheels into a folder and give --wheels FOLDER")
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    results.unlink(missing_ok=True)
    runner = Runner(args, words)
    checks, timings = plan(args.methods)
    begin = time.monotonic()
    try:
        runner.run(timings[:1], 1, runner.end)  # the machine
        runner.run(checks, args.side_by_side, begin + CHECKS_SHARE * args.limit)
        runner.run(timings[1:], 1, runner.end)
    finally:
        text = table(read(results))
        (args.out / "table.md").write_text(text + "\n")
        print(text)
    found = read(results)
    bad = [each for each in found if each["kind"] == "check" and not each.get("ok") and "not begun" not in str(each)]
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
