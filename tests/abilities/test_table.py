import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from audit.abilities import ABILITIES, load_ability
from audit.abilities.data.sources import PocketSource, items
from audit.errors import AuditError


def test_the_eight_abilities_in_their_order():
    assert list(ABILITIES) == [
        "reasoning",
        "nli",
        "open_qa",
        "closed_qa",
        "dialogue",
        "summarization",
        "ner",
        "sentiment",
    ]


@pytest.mark.parametrize("name", ABILITIES)
def test_every_ability_has_its_names(name):
    ability = load_ability(name)
    assert ability.name == name
    assert ability.title and ability.data_name and ability.metric
    assert load_ability(name) is not ability  # every object has its own caches


@pytest.mark.parametrize("name", ABILITIES)
def test_items_and_answers_can_be_stored_as_json(name):
    ability = load_ability(name)
    (item,) = items(ability, PocketSource(), 1, 0)
    answer = ability.parse("3" if ability.decoding is None else " person: Ann. True yes positive 42")
    stored = json.loads(json.dumps([asdict(item), asdict(answer), asdict(ability.score(item, answer))]))
    assert stored[0]["gold"] == list(item.gold)
    assert stored[1]["value"] == answer.value


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AuditError, match=r"no ability 'maths'; choose from reasoning, nli"):
        load_ability("maths")


def test_the_table_and_the_verdicts_import_nothing_heavy():
    program = (
        "import sys; import audit.abilities, audit.abilities.contract, audit.verdicts; "
        "heavy = {'numpy', 'scipy', 'torch', 'transformers', 'datasets', 'rouge_score', 'nltk'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
