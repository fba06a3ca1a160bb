"""The forms in which weights are published, and what is said of files that are none."""

import os
import pickle
import re

import numpy as np
import pytest
import torch
from helpers.published import write_tensorflow
from safetensors.torch import save_file

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.published.reading import read_published, sha256_of_weights

ARRAYS = {
    "generator/Conv/weights": np.arange(6.0, dtype=np.float32).reshape(1, 2, 1, 3),
    "generator/Conv/biases": np.ones(300, np.float32),  # whose extent takes two bytes
    "generator/Conv_1/weights": np.full((2, 2), 0.5, np.float32),
    **{f"generator/block_{n}/bias": np.array([n], np.float32) for n in range(9)},
    "generator/scalar": np.array(7.0, np.float32),
}


class Evil:
    def __reduce__(self):
        return print, ("run",)


def written(form, folder):
    """The arrays in a form; return what a person would give."""
    folder.mkdir()
    tensors = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
    if form == "npz":
        np.savez(folder / "x.npz", **ARRAYS)
    elif form == "safetensors":
        save_file(tensors, folder / "x.safetensors")
    elif form == "pth":
        torch.save(tensors, folder / "x.pth")
    elif form == "npy":
        for name, array in ARRAYS.items():
            (folder / "x" / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / "x" / f"{name}.npy", array)
    else:
        write_tensorflow(folder / "model-3", ARRAYS)
        return folder / {"folder": "", "beginning": "model-3"}.get(form, f"model-3.{form}")
    return folder / ("x" if form == "npy" else f"x.{form}")


@pytest.mark.parametrize(
    "form",
    ["npz", "safetensors", "pth", "npy", "index", "data-00000-of-00001", "beginning", "folder"],
)
def test_every_form_holds_the_same(form, tmp_path):
    state = read_published(written(form, tmp_path / "x"))
    assert state.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert state[name].shape == array.shape
        assert np.array_equal(state[name].numpy(), array)


def test_a_checksum_is_of_all_that_holds_the_weights(tmp_path):
    file = written("pth", tmp_path / "pth")
    assert sha256_of_weights(file) == sha256_of(file)
    for form in ("npy", "index"):
        path = written(form, tmp_path / form)
        before = sha256_of_weights(path)
        assert before == sha256_of_weights(written(form, tmp_path / f"{form}2"))
        changed = next((tmp_path / form).rglob("biases.npy"), tmp_path / form / "model-3.data-00000-of-00001")
        changed.write_bytes(changed.read_bytes()[:-1] + b"\7")
        assert sha256_of_weights(path) != before


def test_names_that_a_converter_has_doubled_are_single(tmp_path):
    np.savez(tmp_path / "x.npz", **{f"generator/{name}": array for name, array in ARRAYS.items()})
    assert read_published(tmp_path / "x.npz").keys() == ARRAYS.keys()


def broken(kind, folder):
    index, file = folder / "m.index", folder / "x.pth"
    if kind == "TorchScript":
        torch.jit.script(torch.nn.Linear(1, 1)).save(str(file))
        return file
    if kind == "objects.npz":
        np.savez(folder / kind, a=np.array([Evil()], dtype=object))
    elif kind.startswith("zeros"):
        (folder / kind).touch()
        os.truncate(folder / kind, 20_000_000_000)  # without taking room
    elif kind.endswith((".onnx", ".ONNX", ".pb", ".t7", ".tflite", ".npz", ".safetensors")):
        (folder / kind).write_bytes(b"\x08\x07")
    elif kind == "empty":
        (folder / kind).mkdir()
    elif kind.startswith("index"):
        write_tensorflow(folder / "m", ARRAYS)
        data = folder / "m.data-00000-of-00001"
        content = index.read_bytes()
        if kind == "index without data":
            data.unlink()
        elif kind == "index with short data":
            data.write_bytes(data.read_bytes()[:40])
        elif kind == "index compressed":
            index.write_bytes(content.replace(b"\0abcd", b"\1abcd"))
        else:
            index.write_bytes({"index cut": content[:-9], "index of zeros": bytes(200)}[kind])
        return index
    elif kind == "two":
        for name in "ab":
            write_tensorflow(folder / "two" / name, ARRAYS)
    else:
        contents = {"a list": [1], "evil": Evil(), "evil, old": Evil(), "a module": torch.nn.Linear(1, 1)}
        contents |= {"numbers": {"epoch": 3}, "nothing": {"state_dict": {}}, "cut": {"a": torch.ones(9)}}
        contents |= {
            "flipped": {"a": torch.ones(9)},
            "itself": (loop := {}),
            "sparse": {"a": torch.ones(9).to_sparse()},
        }
        contents |= {"no values": {"a": torch.ones(9, device="meta")}}
        loop["state_dict"] = loop
        torch.save(contents[kind], file, _use_new_zipfile_serialization=kind != "evil, old")
        if kind == "cut":
            file.write_bytes(file.read_bytes()[:-30])
        if kind == "flipped":
            ones = torch.ones(9).numpy().tobytes()
            assert file.read_bytes().count(ones) == 1
            file.write_bytes(file.read_bytes().replace(ones, ones[:-1] + b"\0"))
        return file
    return folder / kind


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("TorchScript", "a TorchScript file, which holds a program: write its weights with torch.save"),
        ("x.onnx", "an ONNX graph, .* give the .pth file .* compare NAME:FOLDER"),
        ("x.ONNX", "an ONNX graph, .* give the .pth file"),
        ("flipped", "damaged, or no weights at all .the checksum of 'x/data/0' is another"),
        ("itself", "'state_dict' is a dict, no tensor"),
        ("sparse", "a is sparse, quantised or without values: give plain tensors"),
        ("no values", "a is sparse, quantised or without values: give plain tensors"),
        ("x.pb", "a frozen graph of TensorFlow: give the checkpoint"),
        ("x.tflite", "give the checkpoint"),
        ("x.t7", "a file of Lua Torch: give its conversion"),
        ("x.npz", "damaged, or no arrays of numbers"),
        ("objects.npz", "damaged, or no arrays of numbers .objects in place of numbers"),
        ("zeros.pth", "no file that torch.save has written"),
        ("zeros.npz", "objects in place of numbers, or none at all"),
        ("zeros.index", "zeros.index: damaged: no index has 20,000,000,000 bytes"),
        ("x.safetensors", "damaged, or no weights at all"),
        ("empty", "holds no weights; give a .pth"),
        ("index cut", "m.index: damaged: cut short, or no index"),
        ("index of zeros", "m.index: damaged: cut short, or no index"),
        ("index compressed", "m.index: damaged: it is compressed, or cut short"),
        ("index without data", "m.data-00000-of-00001 is not beside it"),
        ("index with short data", "m.data-00000-of-00001 is cut short: generator/"),
        ("two", "holds 2 checkpoints of TensorFlow; give one, such as .*b.index"),
        ("a list", "holds a list"),
        ("evil", "refused, since it holds more than tensors and plain values: print; give"),
        ("evil, old", "refused, since it holds more than tensors and plain values: print; give"),
        ("a module", "refused, since .*: torch.nn.modules.linear.Linear; give a state dict"),
        ("numbers", "'epoch' is a int, no tensor; a state dict is looked for in it, and below state_dict, model_state"),
        ("nothing", "holds no weights"),
        ("cut", "damaged, or no weights at all"),
        ("nowhere.pth", "no such file"),
        ("nowhere.npz", "no such file"),
        ("nowhere.index", "no such file"),
    ],
)
def test_what_holds_no_weights_is_told_in_a_line(kind, message, tmp_path, capsys):
    path = tmp_path / kind if kind.startswith("nowhere") else broken(kind, tmp_path)
    with pytest.raises(UserError, match=message) as error:
        read_published(path)
    assert "\n" not in str(error.value)
    assert not re.search("weights_only|allow_pickle", str(error.value)), "what is advised may run code"
    assert str(tmp_path) in str(error.value)
    assert "run" not in capsys.readouterr().out


def test_arrays_beyond_all_sense_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("lit_ghibli.published.reading._MOST", 10_000)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(5000))
    assert path.stat().st_size < 1000
    with pytest.raises(UserError, match="more than 10,000 bytes"):
        read_published(path)


def test_a_table_that_is_cut_anywhere_is_told(tmp_path):
    index = write_tensorflow(tmp_path / "m", ARRAYS)
    content = index.read_bytes()
    for byte in range(0, len(content), 7):  # of which each becomes another one, or the last
        for damaged in (content[:byte], content[:byte] + b"\xff" + content[byte + 1 :]):
            index.write_bytes(damaged)
            assert "\n" not in said_of(index)


def said_of(path):
    try:
        read_published(path)
    except UserError as error:
        return str(error)
    return ""


def test_plain_pickles_run_nothing(tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(UserError, match=r"refused|damaged"):
        read_published(tmp_path / "x.pth")
    assert "run" not in capsys.readouterr().out
