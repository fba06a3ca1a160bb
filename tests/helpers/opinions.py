"""Answers to an opinion study as its page would save them, from raters who are told what to think."""

import json
from collections.abc import Callable
from pathlib import Path

ASPECTS = ["style", "overall"]


def made_key(mode: str, methods: list[str], sets: int) -> dict:
    """A key whose ids can be read: picture ``p0-nijigan`` of set ``s0``."""
    made = [
        {
            "id": f"s{number}",
            "input": f"{number}.jpg",
            "photograph": f"photo{number}",
            "pictures": {f"p{number}-{method}": method for method in methods},
        }
        for number in range(sets)
    ]
    checks = {"instructed": 2, "repeated": 1} if mode == "ratings" else {"instructed": 2, "photograph": 0}
    study = {"id": "study1", "mode": mode, "aspects": ASPECTS, "scale": 5, "methods": methods, "sets": made}
    return {**study, "checks": checks}


def answers(key: dict, rater: str, opinion: Callable, *, seconds: float = 5.0, wrong: int = 0, again: int = 0) -> dict:
    """A rater's file.

    Args:
        key: Of the study.
        rater: Its id.
        opinion: In ratings, of (aspect, set number, method) the rating; in best-of, of (aspect, set number) the method.
        seconds: For each screen.
        wrong: How many of two instructed screens to fail.
        again: How far a second rating of the first picture is from the first one, on every aspect.
    """
    screens = []
    for number, image_set in enumerate(key["sets"]):
        pictures = list(image_set["pictures"])
        if key["mode"] == "ratings":
            for picture, method in image_set["pictures"].items():
                given = {aspect: opinion(aspect, number, method) for aspect in key["aspects"]}
                screens.append({"kind": "judged", "set": image_set["id"], "candidates": [picture], "answers": given})
        else:
            order = pictures[number % len(pictures) :] + pictures[: number % len(pictures)]
            given = {aspect: f"p{number}-{opinion(aspect, number)}" for aspect in key["aspects"]}
            screens.append({"kind": "judged", "set": image_set["id"], "candidates": order, "answers": given})
    expected = 2 if key["mode"] == "ratings" else screens[0]["candidates"][0]
    other = 4 if key["mode"] == "ratings" else screens[0]["candidates"][1]
    for number in range(2):
        said = other if number < wrong else expected
        screens.append({**screens[0], "kind": "instructed", "expected": expected, "answers": {"check": said}})
    if key["mode"] == "ratings":
        moved = {aspect: value + again for aspect, value in screens[0]["answers"].items()}
        screens.append({**screens[0], "kind": "repeated", "answers": moved})
    screens = [{**screen, "seconds": seconds} for screen in screens]
    times = {"started": "2024-05-01T10:00:00Z", "finished": "2024-05-01T10:20:00Z"}
    return {"study": key["id"], "mode": key["mode"], "rater": rater, "device": "phone", **times, "screens": screens}


def write(folder: Path, name: str, content: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder / name
