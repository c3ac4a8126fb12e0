"""One template, filled in by all that fill it in."""

import pytest

from tunetrail import UserError
from tunetrail.config import inputs, rendering

GOOD = {"with_input": "{instruction} {input}", "without_input": "{instruction}"}


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("without_input", "Do {instruction!r}:", r"formats \{instruction\}.* Write \{instruction\} alone"),
        ("without_input", "Do {instruction:>10}:", r"formats \{instruction\}"),
        ("with_input", "{instruction} {input!s}", r"formats \{input\}"),
        ("without_input", "Do {instruction.x}:", "holds"),
        ("without_input", "Do {instruction[0]}:", "holds"),
        ("without_input", "{{instruction}} is text", "holds no field"),
        ("without_input", "{ {instruction}", "written twice"),
        ("without_input", "} {instruction}", "written twice"),
        ("without_input", "{{ {% if x %} {instruction}", "written twice"),
        ("without_input", "{# {instruction} #}", "written twice"),
    ],
)
def test_a_template_that_one_of_its_uses_cannot_fill_in_is_refused_before(form, text, says):
    with pytest.raises(UserError, match=rf"^template\.{form}.*{says}"):
        rendering.check(GOOD | {form: text}, "template")


@pytest.mark.parametrize(
    "text",
    [
        "{{x}} {{{{ y }}}} {{% if z %}} {{# w #}} | {instruction}\n",
        "'\"\\ \\n {instruction}\r\n\t",
        "ü 😀 \u2028 {instruction}",
        "{instruction}",
        "  {instruction}\n\n",
    ],
)
def test_signs_of_python_and_jinja_in_a_template_are_text_where_they_are_doubled(text):
    rendering.check(GOOD | {"without_input": text}, "template")


def test_a_template_of_the_evaluation_alone_is_looked_at_too(composed):
    values = composed()
    values["evaluate"]["template"] = values["template"] | {"without_input": "{instruction!r}"}
    with pytest.raises(UserError, match=r"^evaluate\.template\.without_input formats"):
        inputs.check_consistency(values)


def test_three_texts_that_differ_are_refused_with_the_key(monkeypatch):
    monkeypatch.setattr(rendering.template, "doc_to_text", lambda form: "{{ prompt|upper }}")
    with pytest.raises(UserError, match=r"^template\.without_input: lm-eval would ask 'SAY .* training shows 'Say "):
        rendering.check(GOOD, "template")
