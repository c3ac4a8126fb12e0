from tunetrail.sweep import axis


def axis_of(*values, log=()):
    (varied,) = axis.varied([{"a": value} for value in values], log)
    return varied


def test_only_parameters_that_vary_have_an_axis_in_their_order():
    jobs = [{"b": "1", "same": "x", "a": "u"}, {"b": "2", "same": "x", "a": "v"}]
    assert [varied.name for varied in axis.varied(jobs)] == ["b", "a"]
    assert axis.varied(jobs[:1]) == []


def test_numbers_are_equal_whatever_their_notation():
    assert axis.varied([{"a": "1e-3"}, {"a": "0.001"}]) == []
    assert axis_of("1e-3", "0.002").positions == [0.001, 0.002]
    assert [axis.text(value) for value in ("1e-3", "20261122", "0.1234567", "a\nb")] == [
        "0.001",
        "20261122",
        "0.12346",
        "a b",
    ]


def test_an_axis_is_logarithmic_over_more_than_a_decade_of_numbers_above_zero():
    assert not axis_of("1", "10").log
    assert axis_of("1", "11").log
    assert axis_of("0.0005611", "0.007969", "0.002910").log
    assert not axis_of("0", "0.1", "100").log
    assert not axis_of("-1", "100").log


def test_an_axis_is_logarithmic_if_it_is_declared_so():
    jobs = [{"a": "1", "b": "1"}, {"a": "2", "b": "2"}]
    assert [varied.log for varied in axis.varied(jobs, {"b"})] == [False, True]
    assert not axis_of("0", "2", log={"a"}).log
    assert not axis_of("x", "y", log={"a"}).log


def test_labels_are_in_the_order_of_the_jobs_and_a_job_without_the_parameter_has_one():
    mixed = axis_of("lora", "full", "lora", None)
    assert mixed.positions == [0, 1, 0, 2]
    assert mixed.labels == ["lora", "full", "not set"]
    assert axis_of("8", None).labels == ["8", "not set"]


def test_an_infinite_value_is_a_label():
    assert axis_of("inf", "1").labels == ["inf", "1"]
    assert axis_of("nan", "1").labels == ["nan", "1"]


def test_long_labels_lose_their_common_start_and_then_their_middle():
    paths = axis_of(*[f"/data/some/folder/alpaca-{name}-cleaned.jsonl" for name in ("one", "two")])
    assert paths.labels == ["…one-cleaned.jsonl", "…two-cleaned.jsonl"]
    assert axis_of("full", "fully").labels == ["full", "fully"]
    assert axis.short("abcdefghij", 5) == "ab…ij"
    assert axis.short("abcde", 5) == "abcde"


def test_a_dollar_does_not_start_a_formula():
    assert axis.short("${a}$b", 20) == r"\${a}\$b"
