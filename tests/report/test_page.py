"""Answers of a model as parts of a page, read by a Markdown parser as GitHub's would."""

import re

import pytest
from markdown_it import MarkdownIt

from tunetrail.report import page

ANSWERS = [
    "[a link](https://example.org)",
    "![an image](https://example.org/one.png)",
    "<https://example.org> and <b>bold</b>",
    "https://example.org and www.example.org or a@example.org",
    "# a *heading* with __emphasis__, ~~none~~ and `code`",
    "| a cell | another |",
    "[ref]: https://example.org",
    "a \\backslash \\| and \\[x\\](y)",
    "$x^2$ and $$y$$",
    "&lt;b&gt; stays as it is typed",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_markdown_in_an_answer_is_shown_as_it_was_written(answer):
    samples = [{"prompt": answer, "answers": {"tuned": {"text": answer, "missed": []}}}]
    text = page.render("samples.md.jinja", samples=samples)
    shown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    (heading,) = re.findall(r"<h2>1\. (.*)</h2>", shown)
    (cell,) = re.findall(r"<td>(.*)</td>", shown)
    wanted = answer.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert (heading, cell) == (wanted, wanted)
    assert not re.search(r"(?<!&#58;)\bhttps?://|www\.|\w@", text)  # of which GitHub makes links


def test_many_line_ends_are_counted_and_nothing_is_said_so():
    assert page.shortened("one\n\n\ntwo") == "one\n\n\ntwo"
    assert page.shortened("one" + 256 * "\n" + "two") == "one\n[256 line ends]\ntwo"
    assert page.shortened(60 * "\n") == "[60 line ends]"
    assert page.shortened("one\r\ntwo\rthree" + 5 * "\r\n") == "one\ntwo\nthree\n[5 line ends]"
    assert page.shortened("") == page.shortened("\n") == "(empty)"
