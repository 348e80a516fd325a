"""Every prompt of the paper, character by character."""

from audit.abilities import load_ability
from audit.abilities.contract import Row, items_of


def prompts(name: str, row: Row) -> list[str]:
    ability = load_ability(name, "gu2024")
    return [ability.prompt(item) for item in items_of(ability, row, "k")]


def test_reasoning() -> None:
    answer = "She has 2 + 3 = <<2+3=5>>5 pears.\nThen 5 * 2 = <<5*2=10>>10.\n#### 10"
    assert prompts("reasoning", {"question": "How many pears?", "answer": answer}) == [
        "Q: How many pears? A:Let's think step by step. She has 2 + 3 = <<2+3=5>>5 pears.\n"
        "Then 5 * 2 = <<5*2=10>>10.\n Therefore, the answer (arabic numerals) is:"
    ]


def test_nli() -> None:
    row = {"sentence1": "Mara sleeps at home.", "sentence2": "Mara sleeps.", "label": 0}
    assert prompts("nli", row) == ["Mara sleeps at home. entails the Mara sleeps.. True or False? answer:"]


def test_open_qa() -> None:
    prompt = (
        "Refer to the passage below and answer the following question. Passage: On Velden. Question: who lives there"
    )
    row = {"question": "who lives there", "answer": ["Mara"]}
    assert prompts("open_qa", {**row, "document": "On Velden."}) == [prompt]
    assert prompts("open_qa", {**row, "passage": "On Velden."}) == [prompt]
    assert prompts("open_qa", {**row, "output": ["On Velden.", "On Kelm."]}) == [prompt]


def test_closed_qa() -> None:
    assert prompts("closed_qa", {"passage": "Velden is wet.", "question": "is velden wet", "answer": True}) == [
        "Please answer the given question based on the passage. The answer should be exact 'yes' or 'no'. "
        "passage: Velden is wet. question: is velden wet. answer:"
    ]


def test_dialogue() -> None:
    row = {"article": "m : hi . f : well ?", "options": ["f : a", "f : b", "f : c", "f : d"], "answers": "B"}
    assert prompts("dialogue", row) == [
        "Q: m : hi . f : well ? Which choice is correct? Answer Chioces: (A)f : a(B)f : b(C)f : c(D)f : d "
        "A: Among A through D, the answer is"
    ]


def test_summarization() -> None:
    row = {"dialogue": "Mara: lunch?\r\nJon: yes", "summary": "They have lunch."}
    assert prompts("summarization", row) == ["Mara: lunch?\r\nJon: yes\nTL;DR:"]


def test_ner_has_four_prompts() -> None:
    row = {"tokens": ["Mara", "saw", "Velden", ",", "then", "Kelm", "."], "ner_tags": [1, 0, 5, 0, 0, 5, 0]}
    text = "Mara saw Velden, then Kelm."
    assert prompts("ner", row) == [
        f"Please identify Person Entity from the given text. Text: {text} Entity:",
        f"Please identify Location Entity from the given text. Text: {text} Entity:",
        f"Please identify Organization Entity from the given text. Text: {text} Entity:",
        f"Please identify Miscellaneous Entity from the given text. Text: {text} Entity:",
    ]


def test_sentiment() -> None:
    assert prompts("sentiment", {"sentence": "a charming film . ", "label": 1}) == [
        "For each snippet of text,label the sentiment of the text as positive or negative."
        "The answer should be exact 'positive' or 'negative'. text: a charming film .  answer:"
    ]


def test_token_limits_are_those_of_the_paper_and_only_ner_has_a_stop_string() -> None:
    limits = {"reasoning": 5, "nli": 1, "open_qa": 20, "closed_qa": 1, "dialogue": 1, "summarization": 25, "ner": 10}
    for name, tokens in {**limits, "sentiment": 1}.items():
        decoding = load_ability(name, "gu2024").decoding
        assert decoding is not None
        assert (decoding.max_new_tokens, decoding.stop) == (tokens, ("Entity:",) if name == "ner" else ()), name
