from tunetrail import table


def test_cells_of_a_column_begin_below_one_another():
    assert table.columns([["run", "name", "score"], ["1a84", "x", "50.0"]]) == "run   name  score\n1a84  x     50.0"


def test_an_ellipsis_stands_for_what_was_cut():
    assert [table.cut("abcdef", width) for width in (6, 3, 1, float("inf"))] == ["abcdef", "ab…", "…", "abcdef"]
    assert table.cut("a\n  b", 3) == "a b"
