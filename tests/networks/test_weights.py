import hashlib
import pickle

import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.networks.weights import find_weights, pick_weights, read_weights


def pick(path) -> dict[str, torch.Tensor]:
    """One tensor of the weights of "a net"."""
    return pick_weights(read_weights(path, "a net"), {"a": (2, 3)}, path, "a net")


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_wrong_files_are_named(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match="no such file; give a state dict of a net"):
        pick(path)
    for content, message in (
        ({"b": torch.zeros(1)}, "lacks a; give"),
        ({"a": torch.zeros(3, 2)}, r"a should have the shape \(2, 3\) but has \(3, 2\)"),
        ({"a": "text"}, r"a should have the shape \(2, 3\) but has \(\)"),
        ([torch.zeros(1)], "holds a list"),
        (Evil(), "refused, since it holds more than tensors"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=message):
            pick(path)
    path.write_bytes(pickle.dumps(3)[:-1])
    with pytest.raises(UserError, match=r"weights.pth: (damaged|refused)"):
        pick(path)
    torch.save({"a": torch.ones(2, 3), "more": torch.zeros(1)}, path)
    assert list(pick(path)) == ["a"]
    assert "run" not in capsys.readouterr().out


def test_weights_are_fetched_once_and_known_by_their_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    served = tmp_path / f"net-{digits}.pth"
    served.write_bytes(b"weights")
    path = find_weights(served.as_uri(), "stay at home")
    assert path == tmp_path / "hub" / "checkpoints" / served.name
    assert path.read_bytes() == b"weights"
    served.write_bytes(b"others")
    assert find_weights(served.as_uri(), "stay at home") == path, "the file that is there is taken"
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=rf"does not begin with {digits}; delete it, and stay at home"):
        find_weights(served.as_uri(), "stay at home")
    path.unlink()
    with pytest.raises(UserError, match=r"could not be fetched .*invalid hash.*: stay at home"):
        find_weights(served.as_uri(), "stay at home")
