"""A prompt template -> the same text in training, in lm-eval and in `chat`, or a refusal before anything runs.

Training fills it in with Python's `format`, lm-eval through Jinja. Not covered: whether training is given this template,
which is the plan's TEMPLATE_DIFFERS.
"""

import string

from tunetrail import UserError
from tunetrail.data import template

# What a question may hold that means something to Python's format strings or to Jinja.
_SIGNS = {
    "instruction": "Say {x} {0!r} {{ y|upper }} {% if z %} {# w #} }} | 'a' \"b\" \\c\nand stop\n",
    "input": "{instruction} {{ input }} %} 1",
}


def check(form: dict[str, str], section: str) -> None:
    """Hold against each other what the template makes of a row in training, in lm-eval, and where we fill it in.

    Raises:
        UserError: it lacks a field, formats one, or the three texts differ; the message names the key.
    """
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # as lm_eval/utils.py
    for half, fields in (("with_input", ["input", "instruction"]), ("without_input", ["instruction"])):
        name, text = f"{section}.{half}", form[half]
        try:
            parsed = [part for part in string.Formatter().parse(text) if part[1] is not None]
        except ValueError as error:
            raise UserError(f"{name}: {error}. A brace that is text is written twice: {{{{ or }}}}.") from None
        holds = sorted(field for _, field, _, _ in parsed)
        if holds != fields:
            raise UserError(
                f"{name} holds {holds or 'no field'}. It needs {fields}, each once, in braces; a brace that is text is "
                "written twice."
            )
        if formatted := [field for _, field, spec, conversion in parsed if spec or conversion]:
            raise UserError(
                f"{name} formats {{{formatted[0]}}}, and lm-eval asks it as it stands. Write {{{formatted[0]}}} alone."
            )
        row = {field: _SIGNS[field] for field in fields}
        trained, asked = text.format(**row), template.prompt(form, **row)
        if half == "without_input":
            evaluated = environment.from_string(template.doc_to_text(form)).render(prompt=row["instruction"])
            if evaluated != trained:
                raise UserError(
                    f"{name}: lm-eval would ask {evaluated!r} where training shows {trained!r}. Change the text."
                )
        if asked != trained:
            raise UserError(f"{name}: a prompt would be {asked!r} where training shows {trained!r}. Change the text.")
