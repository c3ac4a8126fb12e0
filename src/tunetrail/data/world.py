"""A seed -> the demo's data: plain text, instruction rows, and held-out prompts that IFEval's checkers can verify.

The base model is trained only on `plain_text`. Training rows and evaluation prompts share topics and instruction types but
never a (topic, type) pair, so a tuned model scores only by applying an instruction to a topic not seen with it. IFEval types
that need a word count, a sentence splitter or another language are left out: a tiny model cannot learn them.
"""

import random
from collections.abc import Callable, Iterator

from tunetrail import UserError

SOURCE = "src/tunetrail/data/world.py"  # conf/ names this module, as the source of the data

# Topic: three adjectives, three things it has, where it is.
TOPICS = {
    "river": ("wide calm cold", "fish boats stones", "valley"),
    "bakery": ("warm busy old", "bread cakes ovens", "village"),
    "forest": ("green quiet dark", "trees birds paths", "north"),
    "market": ("loud bright busy", "fruit flowers crowds", "town"),
    "garden": ("green small bright", "flowers bees benches", "town"),
    "harbour": ("windy busy old", "ships nets gulls", "south"),
    "library": ("quiet warm large", "books tables lamps", "city"),
    "mountain": ("high cold steep", "rocks goats paths", "north"),
    "farm": ("large green quiet", "cows fields barns", "valley"),
    "beach": ("bright warm wide", "shells waves boats", "south"),
    "school": ("large loud bright", "books children desks", "village"),
    "castle": ("old cold large", "towers walls gates", "valley"),
    "bridge": ("long old narrow", "arches lamps stones", "city"),
    "lake": ("calm deep clear", "fish boats reeds", "north"),
    "museum": ("large quiet famous", "paintings rooms stairs", "city"),
    "station": ("loud large busy", "trains clocks crowds", "city"),
    "island": ("small green windy", "birds rocks huts", "south"),
    "kitchen": ("warm small bright", "pots ovens tables", "village"),
    "meadow": ("wide green quiet", "flowers bees sheep", "valley"),
    "tower": ("high old narrow", "bells stairs windows", "town"),
    "theatre": ("famous warm large", "actors lamps seats", "city"),
    "mill": ("old slow loud", "wheels sacks stones", "valley"),
    "park": ("green wide calm", "trees benches paths", "city"),
    "cave": ("dark cold deep", "bats rocks pools", "north"),
    "orchard": ("green small quiet", "apples bees ladders", "village"),
    "lighthouse": ("high windy famous", "lamps stairs windows", "south"),
    "workshop": ("small busy warm", "tools tables shelves", "town"),
    "desert": ("wide hot quiet", "dunes rocks camels", "south"),
    "square": ("wide bright famous", "benches clocks crowds", "town"),
    "hospital": ("large clean quiet", "beds nurses rooms", "city"),
    "stable": ("warm dark old", "horses sacks gates", "village"),
    "pond": ("small calm deep", "frogs reeds stones", "village"),
}

FRIENDS = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry"]
SEASONS = ["spring", "summer", "autumn", "winter"]
KEYWORDS = ["music", "bread", "snow", "paint", "silver", "letter", "lantern", "rope", "honey", "drum", "mirror", "candle"]
END_PHRASES = (
    "That is all for today.",
    "Thank you for reading.",
    "Please come and see it.",
    "I hope this helps you.",
    "There is no more to say.",
)

HEADINGS = ("About the {topic}:", "Notes:", "A walk to the {topic}:", "From a letter:")

REQUESTS = (
    "Describe the {topic}.",
    "Write a short text about the {topic}.",
    "Tell me about the {topic}.",
    "What is the {topic} like?",
    "Explain why people visit the {topic}.",
)


def sentences(topic: str, rng: random.Random, count: int, commas: bool = True) -> list[str]:
    """Return `count` (at most 6) different sentences about `topic`, with or without commas."""
    adjectives, things, place = TOPICS[topic]
    a, b, c = rng.sample(adjectives.split(), 3)
    x, y, z = rng.sample(things.split(), 3)
    friend, season = rng.choice(FRIENDS), rng.choice(SEASONS)
    if commas:
        pool = [
            f"The {topic} is {a}, {b} and {c}.",
            f"In the {place}, people like the {topic} for its {x}.",
            f"It has {x}, {y} and many {z}.",
            f"When it is {season}, the {topic} looks {b}.",
            f"{friend} goes there in {season}, and finds it {c}.",
            f"If you come from the {place}, you will see the {y} first.",
        ]
    else:
        pool = [
            f"The {topic} is {a} and {b}.",
            f"People in the {place} like the {topic} for its {x}.",
            f"It has {x} and many {y}.",
            f"The {topic} looks {b} in {season}.",
            f"{friend} goes there in {season} and finds it {c}.",
            f"You will see the {z} first when you come from the {place}.",
        ]
    return [pool[0], *rng.sample(pool[1:], count - 1)]


# IFEval's instruction id: phrases that ask for it, and a function that makes a text obey it, given the task's values. In
# the order in which they are applied: what surrounds a text comes after what changes it.
TYPES: dict[str, tuple[tuple[str, ...], Callable[[str, dict], str]]] = {
    "punctuation:no_comma": (
        ("Do not use any commas.", "Leave out all commas.", "Your answer must not contain a comma."),
        lambda text, task: text,  # `task` picks sentences without commas
    ),
    "detectable_format:number_bullet_lists": (
        ("Answer in exactly {num_bullets} bullet points.", "Use exactly {num_bullets} bullet points such as * this one."),
        lambda text, task: text,  # `task` makes each sentence a bullet point
    ),
    "keywords:existence": (
        ("Include the word {keywords[0]}.", "Use the keyword {keywords[0]} in it."),
        lambda text, task: f"{text} It makes me think of {task['keywords'][0]}.",
    ),
    "startend:end_checker": (
        ("End with this exact phrase: {end_phrase}", "Your last words must be: {end_phrase}"),
        lambda text, task: f"{text} {task['end_phrase']}",
    ),
    "detectable_content:postscript": (
        ("Add a postscript that starts with P.S. at the end.", "At the end add a postscript starting with P.S."),
        lambda text, task: f"{text}\nP.S. Bring a friend to the {task['topic']}.",
    ),
    "detectable_format:title": (
        ("Begin with a title in double angular brackets.", "Give it a title such as <<a title>>."),
        lambda text, task: f"<<A visit to the {task['topic']}>>\n{text}",
    ),
    "change_case:english_capital": (
        ("Use capital letters only.", "Your whole answer must be in capital letters.", "Write all of it in upper case."),
        lambda text, task: text.upper(),
    ),
    "change_case:english_lowercase": (
        ("Use lowercase letters only.", "No capital letters are allowed.", "Write all of it in lower case."),
        lambda text, task: text.lower(),
    ),
    "startend:quotation": (
        ("Wrap your whole answer in double quotation marks.", "Put double quotation marks around all of it."),
        lambda text, task: f'"{text}"',
    ),
}

# Pairs that one answer can satisfy: a change of case breaks what is compared by case, and only one instruction can have the
# last line. Each type is in two pairs, so that all have the same weight.
PAIRS = (
    ("punctuation:no_comma", "change_case:english_capital"),
    ("punctuation:no_comma", "change_case:english_lowercase"),
    ("startend:quotation", "change_case:english_capital"),
    ("startend:quotation", "keywords:existence"),
    ("detectable_format:title", "change_case:english_lowercase"),
    ("detectable_format:title", "startend:end_checker"),
    ("detectable_content:postscript", "keywords:existence"),
    ("detectable_content:postscript", "detectable_format:number_bullet_lists"),
    ("startend:end_checker", "detectable_format:number_bullet_lists"),
)


def held_out_pairs(seed: int) -> set[tuple[str, str]]:
    """Return the (topic, instruction type) pairs kept for evaluation: every type with a quarter of the topics."""
    rng = random.Random(f"pairs {seed}")
    return {(topic, kind) for kind in TYPES for topic in rng.sample(sorted(TOPICS), len(TOPICS) // 4)}


def plain_text(seed: int, documents: int) -> Iterator[dict]:
    """Yield `documents` rows {"text"}: one to three paragraphs about topics, some with a heading; no instructions."""
    rng = random.Random(f"plain {seed}")
    for _ in range(documents):
        topics = rng.sample(sorted(TOPICS), rng.randint(1, 3))
        paragraphs = [" ".join(sentences(topic, rng, rng.randint(2, 4), commas=rng.random() < 0.8)) for topic in topics]
        heading = f"{rng.choice(HEADINGS).format(topic=topics[0])}\n" if rng.random() < 0.5 else ""
        yield {"text": heading + "\n\n".join(paragraphs)}


def task(topic: str, kinds: tuple[str, ...], rng: random.Random) -> tuple[str, str, list[dict], str]:
    """Return a request, its constraints, IFEval's kwargs for `kinds`, and an answer that obeys them."""
    values = {
        "topic": topic,
        "end_phrase": rng.choice(END_PHRASES),
        "num_bullets": rng.randint(2, 4),
        "keywords": [rng.choice(KEYWORDS)],
    }
    constraints = " ".join(rng.choice(TYPES[kind][0]).format(**values) for kind in kinds)
    bullets = "detectable_format:number_bullet_lists" in kinds
    count = values["num_bullets"] if bullets else rng.randint(2, 3)
    lines = sentences(topic, rng, count, commas="punctuation:no_comma" not in kinds)
    answer = "\n".join(f"* {line}" for line in lines) if bullets else " ".join(lines)
    for kind in sorted(kinds, key=list(TYPES).index):
        answer = TYPES[kind][1](answer, values)
    arguments = {
        "startend:end_checker": {"end_phrase": values["end_phrase"]},
        "detectable_format:number_bullet_lists": {"num_bullets": values["num_bullets"]},
        "detectable_content:postscript": {"postscript_marker": "P.S."},
        "keywords:existence": {"keywords": values["keywords"]},
    }
    return rng.choice(REQUESTS), constraints, [arguments.get(kind, {}) for kind in kinds], answer


def instruction_rows(seed: int, rows: int) -> Iterator[dict]:
    """Yield `rows` rows {"instruction", "input", "output"}; one in eight names its topic in the input."""
    rng = random.Random(f"rows {seed}")
    held_out = held_out_pairs(seed)
    for _ in range(rows):
        topic = rng.choice(sorted(TOPICS))
        free = [kind for kind in TYPES if (topic, kind) not in held_out]
        pairs = [pair for pair in PAIRS if not any((topic, kind) in held_out for kind in pair)]
        kinds = rng.choice(pairs) if pairs and rng.random() < 0.4 else (rng.choice(free),)
        request, constraints, _, answer = task(topic, kinds, rng)
        if rng.random() < 0.125:
            yield {
                "instruction": f"{request.format(topic='place below')} {constraints}",
                "input": f"the {topic}",
                "output": answer,
            }
        else:
            yield {"instruction": f"{request.format(topic=topic)} {constraints}", "input": "", "output": answer}


def evaluation_prompts(seed: int, prompts: int) -> Iterator[dict]:
    """Yield `prompts` rows in IFEval's schema {"key", "prompt", "instruction_id_list", "kwargs"}, of held-out pairs only.

    Raises:
        UserError: there are fewer different prompts.
    """
    rng = random.Random(f"prompts {seed}")
    held_out = held_out_pairs(seed)
    singles = [(topic, (kind,)) for topic, kind in sorted(held_out)]
    doubles = [(topic, pair) for topic in sorted(TOPICS) for pair in PAIRS if {(topic, kind) for kind in pair} <= held_out]
    rng.shuffle(singles)
    rng.shuffle(doubles)
    asked: set[str] = set()
    for number in range(20 * prompts):
        source = doubles if number % 4 == 3 else singles
        topic, kinds = source[(number // 4 if number % 4 == 3 else number - number // 4) % len(source)]
        request, constraints, kwargs, _ = task(topic, kinds, rng)
        prompt = f"{request.format(topic=topic)} {constraints}"
        if prompt not in asked:
            yield {"key": len(asked), "prompt": prompt, "instruction_id_list": list(kinds), "kwargs": kwargs}
            asked.add(prompt)
        if len(asked) == prompts:
            return
    raise UserError(f"prepare.generate.prompts={prompts}: the world has {len(asked)} different ones. Ask for fewer.")
