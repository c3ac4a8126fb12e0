from tunetrail import table


def test_the_cells_of_a_column_are_aligned():
    assert table.columns([["run", "name", "score"], ["1a84", "x", "50.0"]]) == "run   name  score\n1a84  x     50.0"


def test_cut_text_ends_with_an_ellipsis():
    assert [table.cut("abcdef", width) for width in (6, 3, 1, float("inf"))] == ["abcdef", "ab…", "…", "abcdef"]
    assert table.cut("a\n  b", 3) == "a b"
