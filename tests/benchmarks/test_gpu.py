"""The check of a GPU: its plan, its table, the arithmetic of scaling; slow: all of it on a CPU with a tiny method."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CONF = BENCHMARKS.parent / "conf" / "method"
MACHINE = {
    "kind": "machine",
    "what": "machine",
    "batch": 1,
    "text": "A card",
    "peaks": {"float32": 1e12, "bfloat16": 4e12},
}
STEP = {"kind": "timing", "what": "cyclegan", "batch": 2, "workload": "cyclegan, step", "mib": 7, "flop": 2 * 10**10}


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS / "gpu"))


def test_all_methods_that_learn_a_network_are_checked_and_the_most_valuable_is_timed_first():
    import plan

    checks, timings = plan.plan()
    learned = {path.stem for path in CONF.glob("*.yaml") if "_target_" in path.read_text()} - {"nst"}
    assert {job.what for job in checks} == learned | {"scenimefy"}
    assert timings[0].kind == "machine"
    assert [(job.what, job.batch) for job in timings[1:4]] == [("cyclegan", 1), ("nijigan", 1), ("pix2pix", 1)]
    batches = [job.batch for job in timings[1:]]
    assert batches == sorted(batches), "what a time limit cuts off is batch 8"
    checks, timings = plan.plan(["pix2pix"])
    assert [job.words for job in checks] == [["check", "pix2pix", "1"]]
    assert {job.what for job in timings} == {"machine", "pix2pix", "style"}


def test_the_table_has_ratios_rates_and_shares_of_the_peak_in_each_precision(tmp_path):
    import plan

    results = [
        MACHINE,
        {**STEP, "variant": "float32", "seconds": [0.3, 0.2, 0.2]},
        {**STEP, "variant": "bfloat16, compiled", "seconds": [0.05]},
        {**STEP, "variant": "peer, float32", "seconds": [0.4]},
        {"kind": "check", "what": "cut", "batch": 1, "check": "resumed", "ok": False, "said": "differs by 1"},
        {"kind": "check", "what": "cyclegan", "batch": 1, "error": "the time was over"},
    ]
    file = tmp_path / "results.jsonl"
    file.write_text("\n".join(map(json.dumps, results)) + '\n{"kind": "tim')  # killed while it wrote
    lines = plan.table(plan.read(file)).splitlines()
    assert lines[0] == "A card"
    assert "| cut | resumed | **FAILED** | differs by 1 |" in lines
    assert "| cyclegan, step | 2 | float32 | 200.00 (200.00) | 1.00 | 0.50 | 10.0 | 7 | 10 % |" in lines
    assert "| cyclegan, step | 2 | bfloat16, compiled | 50.00 (50.00) | 0.25 | 0.12 | 40.0 | 7 | 10 % |" in lines
    assert "check cyclegan, batch 1: the time was over" in lines


def test_a_table_of_nothing_is_empty(tmp_path):
    import plan

    assert plan.table(plan.read(tmp_path / "nothing")) == ""


def test_speed_ups_are_those_of_a_ring():
    import scaling

    size = 4_000_000
    assert scaling.seconds_on_wire(size, 2, 1e6) == 4.0  # half is sent to be summed, half to be told
    assert scaling.seconds_on_wire(size, 4, 1e6) == 6.0
    assert scaling.speed_up(4.0, size, 2, 1e6) == 1.0


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path):
    command = ["sh", str(BENCHMARKS / "gpu.sh"), "--device", "cpu", "--tiny", "--methods", "pix2pix", "--out", "here"]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*command, "--limit", "900"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = [json.loads(line) for line in (tmp_path / "here" / "results.jsonl").read_text().splitlines()]
    assert not [each for each in results if "error" in each]
    checks = [each for each in results if each["kind"] == "check"]
    assert len(checks) == 5
    assert all(each["ok"] for each in checks)
    variants = {each["variant"] for each in results if each["kind"] == "timing"}
    assert variants == {"float32", "bfloat16", "bfloat16, compiled", "bfloat16, CUDA graphs"}
    assert (tmp_path / "here" / "table.md").read_text().strip() in ran.stdout
