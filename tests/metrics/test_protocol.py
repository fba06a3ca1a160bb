import pytest

from lit_ghibli.errors import UserError
from lit_ghibli.metrics.protocol import COMPARED, VERSION, check_one_protocol, digest, measured_apart

STAMP = {"protocol_version": VERSION, "split": "test", "n_real": 10, "n_fake": 12, "extractor": "inception"}


@pytest.mark.parametrize("field", COMPARED)
def test_every_compared_field_changes_the_digest(field):
    assert digest(STAMP) != digest({**STAMP, field: "other"})
    assert len(digest(STAMP)) == 8


def test_checkpoints_and_numbers_do_not():
    dressed = {"checkpoint_sha256": "ab", "suite_version": "9", "fid": 3.0, **dict(reversed(STAMP.items()))}
    assert digest(dressed) == digest(STAMP)


def test_rows_of_one_protocol_stand_together():
    check_one_protocol([])
    check_one_protocol([STAMP])
    check_one_protocol([{**STAMP, "fid": 1.0}, {**STAMP, "fid": 2.0, "checkpoint": "b"}])


def test_what_differs_is_named():
    rows = [{"name": "a", **STAMP}, {"name": "b", **STAMP, "n_fake": 500, "extractor": "random"}]
    with pytest.raises(UserError) as caught:
        check_one_protocol(rows)
    message = str(caught.value)
    assert "they differ in n_fake, extractor:" in message
    assert "a: n_fake=12, extractor=inception\n" in message
    assert "b: n_fake=500, extractor=random\n" in message
    assert "split" not in message


def test_a_row_without_a_stamp_is_named():
    with pytest.raises(UserError, match=r"row 2 \(old\) does not say how it was measured: evaluate it again"):
        check_one_protocol([STAMP, {"name": "old", "fid": 3.0}])


def test_rows_of_another_protocol_than_most_are_apart_and_so_are_those_without_a_stamp():
    other = {**STAMP, "n_fake": 500}
    assert measured_apart([]) == {}
    assert measured_apart([STAMP, {**STAMP, "fid": 3.0}]) == {}
    assert measured_apart([other, STAMP, {"fid": 3.0}, STAMP]) == {
        0: "n_fake=500, elsewhere 12",
        2: "does not say how it was measured",
    }
    assert measured_apart([STAMP, other]) == {1: "n_fake=500, elsewhere 12"}  # of equally many, the first ones stay
