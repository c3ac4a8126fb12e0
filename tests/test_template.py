import jinja2

from tunetrail import template

TEMPLATE = {"with_input": "Do {instruction} with {input}:\n", "without_input": 'Do 😀 {{x}} "{instruction}"\n\n:\n'}


def test_a_row_without_input_has_the_shorter_form():
    assert template.prompt(TEMPLATE, "it", "that") == "Do it with that:\n"
    assert template.prompt(TEMPLATE, "it") == 'Do 😀 {x} "it"\n\n:\n'


def test_what_lm_eval_asks_is_the_prompt_that_training_shows():
    """Quotes, line ends, and braces of a question come through lm-eval's Jinja as they stand."""
    text = template.doc_to_text(TEMPLATE)
    for question in ("plain", 'with "quotes" and {{ braces }} and {one}', "two\nlines", "ünïcode €"):
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        assert environment.from_string(text).render(prompt=question) == template.prompt(TEMPLATE, question)


def test_the_alpaca_prompt_is_the_one_that_axolotl_trains_its_own_alpaca_format_on(composed):
    from axolotl.prompters import AlpacaPrompter

    alpaca, axolotl = composed()["template"], AlpacaPrompter()
    for question, extra in (("Name a colour.", ""), ("Add them.", "1 and 2")):
        assert template.prompt(alpaca, question, extra) == next(axolotl.build_prompt(question, extra))


def test_the_digest_tells_templates_apart():
    assert template.digest(TEMPLATE) == template.digest(dict(reversed(TEMPLATE.items())))
    assert template.digest(TEMPLATE) != template.digest(TEMPLATE | {"without_input": "{instruction}"})
