import pytest

from tunetrail.sweep import axis


def one(*values):
    (found,) = axis.varied([{"a": value} for value in values])
    return found


def test_only_what_varies_has_an_axis_in_the_order_of_the_parameters():
    jobs = [{"b": "1", "same": "x", "a": "u"}, {"b": "2", "same": "x", "a": "v"}]
    assert [found.name for found in axis.varied(jobs)] == ["b", "a"]
    assert axis.varied(jobs[:1]) == []


def test_numbers_are_the_same_however_they_are_typed():
    assert axis.varied([{"a": "1e-3"}, {"a": "0.001"}]) == []
    assert one("1e-3", "0.002").places == [0.001, 0.002]
    assert one("1e-3", "0.002").label(0.001, 9) == "0.001"
    assert one("42", "20261122").label(20261122.0, 9) == "20261122"


def test_an_axis_is_logarithmic_over_more_than_a_decade_and_not_where_a_zero_stands():
    assert not one("1", "10").log
    assert one("1", "11").log
    assert one("0.0005611", "0.007969", "0.002910").log
    assert not one("0", "0.1", "100").log
    assert not one("-1", "100").log


def test_an_axis_that_was_declared_logarithmic_is():
    jobs = [{"a": "1", "b": "1"}, {"a": "2", "b": "2"}]
    assert [found.log for found in axis.varied(jobs, {"b"})] == [False, True]
    assert [found.log for found in axis.varied([{"a": "0"}, {"a": "2"}], {"a"})] == [False]
    assert [found.log for found in axis.varied([{"a": "x"}, {"a": "y"}], {"a"})] == [False]


def test_a_place_has_its_share_of_the_axis():
    assert one("1", "3", "5").share(3) == pytest.approx(0.5)
    assert one("0.001", "0.1").share(0.01) == pytest.approx(0.5)
    assert axis.beside(1).share(0.0) == 0.5


def test_words_stand_in_order_and_a_job_without_the_parameter_is_told():
    mixed = one("lora", "full", "lora", None)
    assert mixed.places == [0, 1, 0, 2]
    assert [mixed.label(place, 20) for place in mixed.ticks(20)] == ["lora", "full", "not set"]
    assert one("8", None).labels == ["8", "not set"]


def test_an_infinite_value_is_a_word():
    assert not one("inf", "1").numeric
    assert not one("nan", "1").numeric


def test_few_values_are_the_ticks_and_many_give_round_ones():
    assert one("0.0003", "0.001", "0.01").ticks(8) == [0.0003, 0.001, 0.01]
    ticks = one(*[str(0.0137 * n) for n in range(1, 60)]).ticks(8)
    assert 2 <= len(ticks) <= 8
    assert all(len(f"{tick:g}") <= 4 for tick in ticks)
    wide = one(*[str(1.7 * 10.0**-n) for n in range(1, 30)]).ticks(6)
    assert len(wide) <= 6
    assert len(one("1", "1.0001", "1.0002", "50").ticks(8)) <= 8


def test_long_names_lose_what_they_have_in_common_and_then_their_middle():
    paths = one(*[f"/data/some/folder/alpaca-{name}-cleaned.jsonl" for name in ("one", "two")])
    assert paths.labels == ["…one-cleaned.jsonl", "…two-cleaned.jsonl"]
    assert one("full", "fully").labels == ["full", "fully"]
    assert axis.short("abcdefghij", 5) == "ab…ij"
    assert axis.short("abcde", 5) == "abcde"


def test_a_dollar_begins_no_formula():
    assert axis.short("${a}$b", 20) == r"\${a}\$b"
